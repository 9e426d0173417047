#!/usr/bin/env bash
# Measures hzctl against the serial script on fresh labs, in turn, and prints the table of docs/benchmarks.md.
# RUNS sets how often each (3 takes about an hour on two cores). Let nothing else run on the machine meanwhile.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$HOME/.cargo/bin:$PATH"
exec cargo run --quiet -p hz-e2e -- bench bootstrap --runs "${RUNS:-3}"
