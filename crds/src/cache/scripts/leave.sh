#!/bin/bash
# Before the server stops: if it is the master, another becomes it first, so that clients wait for a moment only.
set -uo pipefail
. /etc/hz/common.sh

[[ "$(role_of 127.0.0.1)" == master ]] || exit 0
for host in $(hosts); do
  [[ "$host" != "$me" && "$(role_of "$host")" == slave ]] || continue
  # What is written from here on would be lost: writers wait, and find the new master when this server stops.
  at_server 127.0.0.1 client pause 10000 write >/dev/null
  # Our own sentinel is stopping too: ask another.
  at_sentinel "$host" sentinel failover hz 2>&1 | grep -q '^OK' || continue
  # Until the sentinels agree; they tell this server itself only later. Never a second failover on top of the first.
  for ((i = 0; i < 40; i++)); do
    [[ "$(agreed_master)" != "$me" ]] && break
    sleep 0.25
  done
  exit 0
done
at_server 127.0.0.1 client unpause >/dev/null
exit 0
