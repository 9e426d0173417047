#!/bin/bash
# Starts the sentinel, and keeps the label of this pod and its view of the master right.
set -uo pipefail
. /etc/hz/common.sh

quorum=$((REPLICAS / 2 + 1))
conf=/data/sentinel.conf

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

watch_over() {
  cat <<CONF
sentinel monitor hz $1 6379 $quorum
sentinel auth-pass hz $REDISCLI_AUTH
sentinel down-after-milliseconds hz $DOWN_AFTER_MS
sentinel failover-timeout hz 15000
sentinel parallel-syncs hz 1
sentinel client-reconfig-script hz /etc/hz/reconfigured.sh
CONF
}

umask 077
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
    watch_over "$master"
  } >"$conf"
fi

# Most others follow another master than our sentinel, for good and not for the moment of a failover: this pod was
# cut off, or started alone. Follow them.
follow_the_others() {
  local mine most
  mine=$(ask_sentinel "$me")
  most=$(agreed_master)
  if [[ -z "$mine" || -z "$most" || "$mine" == "$most" ]]; then
    astray=0
    return
  fi
  astray=$((astray + 1))
  [[ $astray -ge 4 ]] || return
  astray=0
  say "following $most like the others, and no longer $mine"
  timeout 5 valkey-cli -p 26379 sentinel remove hz
  watch_over "$most" | while read -r _ what rest; do
    # client-reconfig-script can only stand in the file; sentinels deny setting it.
    case "$what" in
    monitor)
      # shellcheck disable=SC2086
      timeout 5 valkey-cli -p 26379 sentinel monitor $rest
      ;;
    client-reconfig-script) ;;
    *) timeout 5 valkey-cli -p 26379 sentinel set hz "$what" "${rest#hz }" ;;
    esac </dev/null
  done
  [[ "$most" == "$me" ]] || timeout 5 valkey-cli replicaof "$most" 6379
}

keep_right() {
  local said="" role pause
  astray=0
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
