#!/bin/bash
# Starts the server as what the sentinels take it for. A server never decides for itself that it is the master.
set -uo pipefail
. /etc/hz/common.sh

wait_for_a_master() {
  local master
  until master=$(agreed_master) && [[ -n "$master" ]]; do
    say "no sentinel knows a master yet"
    sleep 0.5
  done
  echo "$master"
}

# A master that was started again is empty or behind, and its copies would copy that. If one of them is there, it
# becomes the master first.
hand_over() {
  local host
  for host in $(hosts); do
    [[ "$host" != "$me" && "$(role_of "$host")" == slave ]] || continue
    say "was the master and $host has the data: asking for a failover"
    if timeout 2 valkey-cli -h "$host" -p 26379 sentinel failover hz 2>&1 | grep -q '^OK'; then
      for ((i = 0; i < 40; i++)); do
        [[ "$(agreed_master)" != "$me" ]] && return
        sleep 0.5
      done
      # Never a second failover on top of the first: two would be promoted.
      break
    fi
  done
  say "nobody can take over: starting as the master"
}

master=$(wait_for_a_master)
if [[ "$master" == "$me" ]]; then
  hand_over
  master=$(wait_for_a_master)
fi

umask 077
{
  cat /etc/hz/server.conf
  echo "requirepass $REDISCLI_AUTH"
  echo "primaryauth $REDISCLI_AUTH"
  echo "replica-announce-ip $me"
  [[ "$master" == "$me" ]] || echo "replicaof $master 6379"
} >/run/hz/server.conf
say "starting; the master is $master"
exec valkey-server /run/hz/server.conf
