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
    if at_sentinel "$host" sentinel failover hz 2>&1 | grep -q '^OK'; then
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

# A renewed certificate is taken up while the server runs.
renew() {
  local last="$1" now files
  files=(tls-cert-file "$certificate/tls.crt" tls-key-file "$certificate/tls.key" tls-ca-cert-file "$certificate/ca.crt")
  while sleep 10; do
    now=$(seal)
    [[ "$now" != "$last" ]] || continue
    if [[ "$(at_server 127.0.0.1 config set "${files[@]}" 2>&1)" == OK ]]; then
      last="$now"
      say "took up the renewed certificate"
    else
      say "the renewed certificate was not taken; trying again"
    fi
  done
}

umask 077
{
  cat /etc/hz/server.conf /etc/hz/live.conf
  ports_of 6379
  # Users as they are now; what changes later is given to the running server.
  echo "aclfile /etc/hz-system/users.acl"
  echo "primaryuser $system"
  echo "primaryauth $REDISCLI_AUTH"
  echo "replica-announce-ip $me"
  [[ "$master" == "$me" ]] || echo "replicaof $master 6379"
} >/run/hz/server.conf
[[ "$TLS" != Required ]] || renew "$(seal)" &
say "starting; the master is $master"
exec valkey-server /run/hz/server.conf
