#!/usr/bin/env bash
# Every figure is a ratio against a baseline of the same run. Prints tables for docs/benchmarks.md.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$HOME/.cargo/bin:$PATH"
echo "## Bundle"
cargo bench --quiet -p hz-bundle
echo "## Operator"
cargo bench --quiet -p hz-operator
echo "## Bootstrap against the serial script"
cargo run --quiet -p hz-e2e -- bench bootstrap "$@"
