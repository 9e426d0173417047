#!/bin/bash
# Before the server stops: if it is the master, another becomes it first, so that clients wait for a moment only.
set -uo pipefail
. /etc/hz/common.sh

[[ "$(role_of 127.0.0.1)" == master ]] || exit 0
for host in $(hosts); do
  [[ "$host" != "$me" && "$(role_of "$host")" == slave ]] || continue
  # Our own sentinel is stopping too: ask another.
  timeout 2 valkey-cli -h "$host" -p 26379 sentinel failover hz | grep -q '^OK' || continue
  for ((i = 0; i < 20; i++)); do
    [[ "$(role_of 127.0.0.1)" == slave ]] && exit 0
    sleep 0.25
  done
done
exit 0
