#!/usr/bin/env bash
# Every figure is a ratio against a baseline of the same run, or stands beside a bar. Prints tables for docs/benchmarks.md.
# Without arguments: all of them. With arguments (`make bench BENCH="failover --runs 20"`): that one, with its own options.
#
#   bundle, operator                            need no lab
#   bootstrap, resume                           make fresh labs of their own
#   failover, start, copy, pooler               on one hospital; --here uses the one that is up, --keep leaves it
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$HOME/.cargo/bin:$PATH"

bundle() {
  echo "## Bundle"
  cargo bench --quiet -p hz-bundle
}

operator() { # [number of services]
  echo "## Operator"
  HZ_BENCH=${1:-5000} cargo test --quiet --release -p hz-operator --test cluster -- --nocapture --test-threads 1 bench_ two_replicas
}

case "${1:-all}" in
  all)
    bundle
    operator
    echo "## Bootstrap against the serial script"
    dist/hz-e2e bench bootstrap
    # One hospital for all four; the last takes it down.
    echo "## Start"
    dist/hz-e2e bench start --keep
    echo "## Copy"
    dist/hz-e2e bench copy --here --keep
    echo "## Pooler"
    dist/hz-e2e bench pooler --here --keep
    echo "## Failover"
    dist/hz-e2e bench failover --here
    ;;
  bundle) bundle ;;
  operator) shift; operator "$@" ;;
  *) exec dist/hz-e2e bench "$@" ;;
esac
