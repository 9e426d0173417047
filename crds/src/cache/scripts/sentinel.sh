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

umask 077
[[ -e "$anew" ]] && rm -f "$conf" "$anew"
if grep -q '^sentinel monitor hz ' "$conf" 2>/dev/null; then
  say "taking up what $conf remembers"
  # The password may be another since.
  sed -i -e "s|^sentinel auth-pass hz .*|sentinel auth-pass hz $REDISCLI_AUTH|" \
    -e "s|^requirepass .*|requirepass \"$REDISCLI_AUTH\"|" \
    -e "s|^sentinel sentinel-pass .*|sentinel sentinel-pass $REDISCLI_AUTH|" \
    -e "s|^sentinel monitor hz \([^ ]*\) 6379 .*|sentinel monitor hz \1 6379 $quorum|" "$conf"
else
  master=$(first_master)
  say "first start; the master is $master"
  {
    cat /etc/hz/sentinel.conf
    echo "requirepass $REDISCLI_AUTH"
    echo "sentinel sentinel-pass $REDISCLI_AUTH"
    echo "sentinel announce-ip $me"
    echo "sentinel monitor hz $master 6379 $quorum"
    echo "sentinel auth-pass hz $REDISCLI_AUTH"
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
  [[ "$most" == "$me" ]] || timeout 5 valkey-cli replicaof "$most" 6379
  touch "$anew"
  kill -TERM $$ # the sentinel, by now
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

keep_right &
exec valkey-sentinel "$conf"
