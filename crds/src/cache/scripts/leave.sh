#!/bin/bash
# Before the server stops: if it is the master, another becomes it first, so that clients wait for a moment only.
set -uo pipefail
. /etc/hz/common.sh

[[ "$(role_of 127.0.0.1)" == master ]] || exit 0
for host in $(hosts); do
  [[ "$host" != "$me" && "$(role_of "$host")" == slave ]] || continue
  # What is written from here on would be lost: writers wait, and find the new master when this server stops.
  timeout 2 valkey-cli client pause 10000 write >/dev/null
  # Our own sentinel is stopping too: ask another.
  timeout 2 valkey-cli -h "$host" -p 26379 sentinel failover hz 2>&1 | grep -q '^OK' || continue
  # Until the sentinels agree; they tell this server itself only later. Never a second failover on top of the first.
  for ((i = 0; i < 40; i++)); do
    [[ "$(agreed_master)" != "$me" ]] && break
    sleep 0.25
  done
  exit 0
done
timeout 2 valkey-cli client unpause >/dev/null
exit 0
