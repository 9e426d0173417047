#!/usr/bin/env bash
# hzctl runs on the administrator's machine and, for a moment, on every host: one static binary for both.
set -euo pipefail
cd "$(dirname "$0")/.."
target=x86_64-unknown-linux-gnu
RUSTFLAGS="-C target-feature=+crt-static" cargo build --quiet --release --target "$target" -p hzctl
mkdir -p dist
install -m 0755 "target/$target/release/hzctl" dist/hzctl.new
mv -f dist/hzctl.new dist/hzctl
