# Sourced by the other scripts. From the pod: POD_NAME, POD_NAMESPACE, INSTANCE, DOMAIN (of the pods' names),
# REPLICAS, TLS (Required or Disabled).
me="$POD_NAME.$DOMAIN"
account=/var/run/secrets/kubernetes.io/serviceaccount
certificate=/etc/hz-tls
system=hz-system
# Of the platform's user, and of the sentinels. A file, so that it is in no list of processes.
REDISCLI_AUTH="$(</etc/hz-system/password)"
export REDISCLI_AUTH
client=(valkey-cli --no-auth-warning)
[[ "$TLS" == Required ]] && client+=(--tls --cacert "$certificate/ca.crt")

say() { echo "$(date -u +%FT%TZ) $*" >&2; }

hosts() { for ((i = 0; i < REPLICAS; i++)); do echo "$INSTANCE-$i.$DOMAIN"; done; }

# at_server HOST WORD...: a command to the server there, as the platform's user.
at_server() { timeout "${PATIENCE:-2}" "${client[@]}" --user "$system" -h "$1" "${@:2}"; }

# at_sentinel HOST WORD...: a command to the sentinel there.
at_sentinel() { timeout "${PATIENCE:-2}" "${client[@]}" -h "$1" -p 26379 "${@:2}"; }

# Changes when the certificate is renewed; the files are replaced all at once.
seal() { [[ "$TLS" != Required ]] || cat "$certificate"/{ca.crt,tls.crt,tls.key} | sha256sum; }

# Lines with which servers and sentinels speak in the clear, or not at all: ports_of PORT
ports_of() {
  if [[ "$TLS" == Required ]]; then
    echo "port 0"
    echo "tls-port $1"
    echo "tls-replication yes"
    # Who connects is known by a password.
    echo "tls-auth-clients no"
    echo "tls-cert-file $certificate/tls.crt"
    echo "tls-key-file $certificate/tls.key"
    echo "tls-ca-cert-file $certificate/ca.crt"
    echo 'tls-protocols "TLSv1.2 TLSv1.3"'
  else
    echo "port $1"
  fi
}

# Who is master, in the words of the sentinel on a host; nothing if it does not answer.
ask_sentinel() {
  at_sentinel "$1" --raw sentinel get-master-addr-by-name hz 2>/dev/null | head -n 1 | grep -F ".$DOMAIN" || true
}

# Who is master, in the words of most sentinels that answer.
agreed_master() {
  for host in $(hosts); do ask_sentinel "$host" & done | sort | uniq -c | sort -rn | awk 'NR == 1 { print $2 }'
}

# What the server on a host takes itself for: master or slave.
role_of() { at_server "$1" --raw role 2>/dev/null | head -n 1; }

# Labels a pod, so that the Services find it: label POD master|replica
label() {
  local host="$KUBERNETES_SERVICE_HOST"
  [[ "$host" == *:* ]] && host="[$host]"
  curl --silent --show-error --fail --max-time 5 --output /dev/null --cacert "$account/ca.crt" \
    --header "Authorization: Bearer $(<"$account/token")" --header 'Content-Type: application/merge-patch+json' \
    --request PATCH --data "{\"metadata\":{\"labels\":{\"hz.hospital/role\":\"$2\"}}}" \
    "https://$host:$KUBERNETES_SERVICE_PORT/api/v1/namespaces/$POD_NAMESPACE/pods/$1"
}
