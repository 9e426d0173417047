#!/usr/bin/env bash
# Every figure is a ratio against a baseline of the same run. Prints tables for docs/benchmarks.md.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$HOME/.cargo/bin:$PATH"
echo "## Bundle"
cargo bench --quiet -p hz-bundle
echo "## Operator"
HZ_BENCH=500 cargo test --quiet --release -p hz-operator --test cluster -- --nocapture --test-threads 1 bench_ two_replicas
echo "## Bootstrap against the serial script"
dist/hz-e2e bench bootstrap "$@"
