#!/usr/bin/env bash
# hzctl runs on the administrator's machine and, for a moment, on every host: one static binary for both. All programs of
# the tree are built with it, since the bundle wants them the same way and they share most of what takes the time.
set -euo pipefail
cd "$(dirname "$0")/.."
# `hzctl version` tells it; a tree with changes of its own is no commit.
if git diff --quiet HEAD 2>/dev/null; then
  HZCTL_COMMIT=$(git rev-parse --short=12 HEAD)
  export HZCTL_COMMIT
fi
target=x86_64-unknown-linux-gnu
RUSTFLAGS="-C target-feature=+crt-static" cargo build --quiet --release --locked --target "$target" --workspace --bins
mkdir -p dist
for program in hzctl hz-e2e; do
  install -m 0755 "target/$target/release/$program" "dist/$program.new"
  mv -f "dist/$program.new" "dist/$program"
done
