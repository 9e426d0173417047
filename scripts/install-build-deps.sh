#!/usr/bin/env bash
# Installs what building and testing need on Debian 12 and later. Does nothing when all of it is there.
set -euo pipefail

# package:file that proves it
wanted=(
  mmdebstrap:/usr/bin/mmdebstrap
  zstd:/usr/bin/zstd
  gcc:/usr/bin/gcc
  libc6-dev:/usr/include/stdio.h
  pkg-config:/usr/bin/pkg-config
  libseccomp-dev:/usr/include/seccomp.h
  docker.io:/usr/sbin/dockerd
  iproute2:/usr/sbin/ip
  nftables:/usr/sbin/nft
  iptables:/usr/sbin/iptables
  openssh-client:/usr/bin/ssh
  procps:/usr/bin/pgrep
  python3:/usr/bin/python3
  python3-pip:/usr/bin/pip3
  curl:/usr/bin/curl
  redis-server:/usr/bin/redis-server
  postgresql-15:/usr/lib/postgresql/15/bin/postgres
  minisign:/usr/bin/minisign
)

missing=()
for entry in "${wanted[@]}"; do
  [ -e "${entry#*:}" ] || missing+=("${entry%%:*}")
done

if [ "${#missing[@]}" -gt 0 ]; then
  if [ "$(id -u)" -ne 0 ]; then
    echo "error: these packages are missing: ${missing[*]}" >&2
    echo "  fix: run as root, or: sudo apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 1
  fi
  echo "installing: ${missing[*]}" >&2
  # Services of the installed packages stay off: the tests start their own on free ports.
  policy=/usr/sbin/policy-rc.d
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT
  fi
  export DEBIAN_FRONTEND=noninteractive
  # One list that cannot be refreshed must not stop the others.
  apt-get update -qq || true
  apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
fi

need() { # command, oldest version that works, how it is had
  command -v "$1" >/dev/null || {
    echo "error: $1 is not installed; $2 or newer is needed" >&2
    echo "  fix: $3" >&2
    exit 1
  }
}
[ -e "$HOME/.cargo/env" ] && . "$HOME/.cargo/env"
need cargo 1.95 "install Rust with rustup; rust-toolchain.toml picks the version"
need go 1.26 "install Go from its official site, or from Debian backports"
