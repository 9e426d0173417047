# Sourced by the other scripts. From the pod: POD_NAME, POD_NAMESPACE, INSTANCE, DOMAIN (of the pods' names),
# REPLICAS, REDISCLI_AUTH (the password).
me="$POD_NAME.$DOMAIN"
account=/var/run/secrets/kubernetes.io/serviceaccount

say() { echo "$(date -u +%FT%TZ) $*" >&2; }

hosts() { for ((i = 0; i < REPLICAS; i++)); do echo "$INSTANCE-$i.$DOMAIN"; done; }

# Who is master, in the words of the sentinel on a host; nothing if it does not answer.
ask_sentinel() {
  timeout 2 valkey-cli -h "$1" -p 26379 --raw sentinel get-master-addr-by-name hz 2>/dev/null |
    head -n 1 | grep -F ".$DOMAIN" || true
}

# Who is master, in the words of most sentinels that answer.
agreed_master() {
  for host in $(hosts); do ask_sentinel "$host" & done | sort | uniq -c | sort -rn | awk 'NR == 1 { print $2 }'
}

# What the server on a host takes itself for: master or slave.
role_of() { timeout 2 valkey-cli -h "$1" --raw role 2>/dev/null | head -n 1; }

# Labels a pod, so that the Services find it: label POD master|replica
label() {
  local host="$KUBERNETES_SERVICE_HOST"
  [[ "$host" == *:* ]] && host="[$host]"
  curl --silent --show-error --fail --max-time 5 --output /dev/null --cacert "$account/ca.crt" \
    --header "Authorization: Bearer $(<"$account/token")" --header 'Content-Type: application/merge-patch+json' \
    --request PATCH --data "{\"metadata\":{\"labels\":{\"hz.hospital/role\":\"$2\"}}}" \
    "https://$host:$KUBERNETES_SERVICE_PORT/api/v1/namespaces/$POD_NAMESPACE/pods/$1"
}
