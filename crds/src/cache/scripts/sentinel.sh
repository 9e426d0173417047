#!/bin/bash
# Starts the sentinel, and keeps the label of this pod and its view of the master right.
set -uo pipefail
. /etc/hz/common.sh

quorum=$((REPLICAS / 2 + 1))
conf=/data/sentinel.conf
# Stands when the last sentinel of this pod was astray: what it remembered is wrong.
anew=/run/hz/anew

# Others know the master, or, when all start for the first time, it is the first of us.
first_master() {
  local master tries=0
  while :; do
    master=$(agreed_master)
    [[ -n "$master" ]] && break
    tries=$((tries + 1))
    if [[ "$POD_NAME" == "$INSTANCE-0" && $tries -ge 3 ]]; then
      master="$me"
      break
    fi
    sleep 0.5
  done
  echo "$master"
}

# What is not the sentinel's own memory, and may be another since it last ran. Written anew each time.
settings() {
  cat /etc/hz/sentinel.conf
  ports_of 26379
  echo "requirepass $REDISCLI_AUTH"
  echo "sentinel sentinel-pass $REDISCLI_AUTH"
  echo "sentinel announce-ip $me"
}

credentials() {
  echo "sentinel auth-user hz $system"
  echo "sentinel auth-pass hz $REDISCLI_AUTH"
}

umask 077
[[ -e "$anew" ]] && rm -f "$conf" "$anew"
if grep -q '^sentinel monitor hz ' "$conf" 2>/dev/null; then
  say "taking up what $conf remembers"
  remembered=$(grep -vE '^(port|bind|dir|tls-[a-z-]+|requirepass|user default|sentinel (sentinel-pass|announce-ip|announce-port|auth-user|auth-pass|resolve-hostnames|announce-hostnames)) ' "$conf" |
    sed -e "s|^sentinel monitor hz \([^ ]*\) 6379 .*|sentinel monitor hz \1 6379 $quorum|")
  {
    settings
    echo "$remembered"
    credentials
  } >"$conf"
else
  master=$(first_master)
  say "first start; the master is $master"
  {
    settings
    echo "sentinel monitor hz $master 6379 $quorum"
    credentials
    echo "sentinel down-after-milliseconds hz $DOWN_AFTER_MS"
    echo "sentinel failover-timeout hz 15000"
    echo "sentinel parallel-syncs hz 1"
    echo "sentinel client-reconfig-script hz /etc/hz/reconfigured.sh"
  } >"$conf"
fi

# Most others have followed another master than our sentinel for longer than any failover takes: this pod was cut off,
# or started alone. Follow them, and start the sentinel anew; nothing else makes it forget.
follow_the_others() {
  local mine most
  mine=$(ask_sentinel "$me")
  most=$(agreed_master)
  if [[ -z "$mine" || -z "$most" || "$mine" == "$most" ]]; then
    astray_since=""
    return
  fi
  astray_since=${astray_since:-$SECONDS}
  ((SECONDS - astray_since >= 20)) || return
  say "following $most like the others, and no longer $mine"
  [[ "$most" == "$me" ]] || PATIENCE=5 at_server 127.0.0.1 replicaof "$most" 6379
  touch "$anew"
  kill -TERM $$
}

keep_right() {
  local said="" role pause
  astray_since=""
  while :; do
    case "$(role_of 127.0.0.1)" in
    master) role=master ;;
    slave) role=replica ;;
    *) role="" ;;
    esac
    # A master by its own account alone is none: the sentinel has to say so too.
    if [[ "$role" == master && "$(ask_sentinel 127.0.0.1)" != "$me" ]]; then role=""; fi
    if [[ -n "$role" && "$role" != "$said" ]]; then
      label "$POD_NAME" "$role" && said="$role"
    fi
    follow_the_others
    pause=5
    [[ -n "$said" ]] || pause=0.5
    sleep "$pause"
  done
}

# A sentinel reads its certificate only as it starts, so it is started again for a renewed one: alone, while the server
# beside it goes on. Others do not take it for lost within that moment.
renewed=/run/hz/renewed
renew() {
  local last="$1" now
  while sleep 10; do
    now=$(seal)
    [[ "$now" != "$last" ]] || continue
    last="$now"
    # Not all sentinels at once.
    sleep $((${POD_NAME##*-} * 15))
    touch "$renewed"
    kill -TERM "$(<"$running")"
  done
}

running=/run/hz/sentinel.pid
rm -f "$renewed"
leave() {
  rm -f "$renewed"
  kill -TERM "$sentinel" 2>/dev/null
}
sentinel=""
trap leave TERM INT

keep_right &
[[ "$TLS" != Required ]] || renew "$(seal)" &
while :; do
  valkey-sentinel "$conf" &
  sentinel=$!
  echo "$sentinel" >"$running"
  # A signal ends the wait, and not the sentinel.
  while kill -0 "$sentinel" 2>/dev/null; do
    wait "$sentinel"
    code=$?
  done
  [[ -e "$renewed" ]] || exit "$code"
  rm -f "$renewed"
  say "starting again with the renewed certificate"
done
