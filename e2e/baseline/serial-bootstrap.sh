#!/usr/bin/env bash
# What a careful administrator would write without hzctl: eight bare Debian 12 hosts to a working hospital with kubeadm
# over SSH, one host after the other. It does the same work from the same bundle (unpacked by unpack.py beforehand, which
# is not counted) and is not slowed down on purpose: one SSH connection a host, kept open; streams, no temporary copies;
# programs and images sent once; waits look four times a second.
#
# usage: serial-bootstrap.sh PARTS LAB    (LAB holds id_ed25519 and known_hosts)
set -euo pipefail
parts=$1 lab=$2
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
example=$here/../../examples/eight-node-cluster

control_planes=(cp-1 cp-2 cp-3)
workers=(worker-1 worker-2 worker-3 worker-4 worker-5)
declare -A address=(
    [cp-1]=10.77.0.11 [cp-2]=10.77.0.12 [cp-3]=10.77.0.13
    [worker-1]=10.77.0.21 [worker-2]=10.77.0.22 [worker-3]=10.77.0.23 [worker-4]=10.77.0.24 [worker-5]=10.77.0.25
)
kubernetes=$("$parts/root-control-plane/usr/local/bin/kubeadm" version -o short)
pause=$("$parts/root-control-plane/usr/local/bin/kubeadm" config images list --kubernetes-version "$kubernetes" \
    --image-repository hz.hospital | grep /pause:)

sockets=$(mktemp -d)
trap 'for s in "$sockets"/*; do [ -S "$s" ] && ssh -o ControlPath="$s" -O exit x 2>/dev/null || true; done; rm -rf "$sockets"' EXIT
on() { # host, command: run it there
    local host=$1
    shift
    ssh -i "$lab/id_ed25519" -o UserKnownHostsFile="$lab/known_hosts" -o StrictHostKeyChecking=yes -o LogLevel=ERROR \
        -o ControlMaster=auto -o ControlPath="$sockets/%h" -o ControlPersist=60 "root@${address[$host]}" "$@"
}
step() { printf '%(%T)T %s\n' -1 "$*"; }

prepare() { # host, role
    local host=$1 role=$2
    step "$host: programs and packages"
    tar -C "$parts/root-$role" -cf - . | on "$host" 'tar -C / -xf - --no-same-owner --no-overwrite-dir'
    tar -C "$parts/debs" -cf - . | on "$host" '
        set -e
        dir=$(mktemp -d); tar -C "$dir" -xf -
        # No service starts before its configuration is there.
        printf "#!/bin/sh\nexit 101\n" > /usr/sbin/policy-rc.d; chmod +x /usr/sbin/policy-rc.d
        DEBIAN_FRONTEND=noninteractive dpkg --install --force-confold "$dir"/*.deb >/var/log/hz-debs.log 2>&1
        rm -rf "$dir" /usr/sbin/policy-rc.d'
    step "$host: container runtime, local balancer"
    on "$host" "PAUSE=$pause bash -s" <<'REMOTE'
set -euo pipefail
mkdir -p /etc/containerd /etc/kubernetes /etc/cni/net.d
restricted=false
grep -qE '^CapEff:.*[13579bdf]......$' /proc/self/status || restricted=true   # bit 24: CAP_SYS_RESOURCE
cat > /etc/containerd/config.toml <<EOT
version = 3
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = "$PAUSE"
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = $restricted
  enable_unprivileged_ports = true
  enable_unprivileged_icmp = true
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
    SystemdCgroup = true
    BinaryName = "/usr/local/sbin/runc"
EOT
cat > /etc/systemd/system/containerd.service <<'EOT'
[Unit]
Description=containerd
After=network.target dbus.service
[Service]
ExecStart=/usr/local/bin/containerd
Type=notify
Delegate=yes
KillMode=process
Restart=always
LimitNOFILE=1048576
TasksMax=infinity
[Install]
WantedBy=multi-user.target
EOT
cat > /etc/systemd/system/kubelet.service <<'EOT'
[Unit]
Description=kubelet
After=containerd.service
Wants=containerd.service
[Service]
EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env
ExecStart=/usr/local/bin/kubelet --bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf --kubeconfig=/etc/kubernetes/kubelet.conf --config=/var/lib/kubelet/config.yaml $KUBELET_KUBEADM_ARGS
Restart=always
RestartSec=1
[Install]
WantedBy=multi-user.target
EOT
cat > /etc/haproxy/haproxy.cfg <<'EOT'
global
  maxconn 4096
defaults
  mode tcp
  timeout connect 2s
  timeout client 24h
  timeout server 24h
frontend api
  bind 127.0.0.1:16443
  default_backend api
backend api
  balance first
  option httpchk GET /readyz
  default-server check check-ssl verify none inter 1s fall 2 rise 1
  server cp-1 10.77.0.11:6443
  server cp-2 10.77.0.12:6443
  server cp-3 10.77.0.13:6443
EOT
cat > /etc/sysctl.d/90-kubernetes.conf <<'EOT'
net.ipv4.ip_forward = 1
net.bridge.bridge-nf-call-iptables = 1
EOT
sysctl -q -p /etc/sysctl.d/90-kubernetes.conf
systemctl daemon-reload
systemctl --quiet enable kubelet
systemctl --quiet enable --now containerd
systemctl --quiet enable haproxy
systemctl restart haproxy
REMOTE
    step "$host: images"
    on "$host" '/usr/local/bin/ctr -n k8s.io images import --local --digests=false - >/dev/null' <"$parts/images-$role.tar"
}

registration() { # host: the part of kubeadm's configuration that each host has
    cat <<EOT
nodeRegistration:
  name: $1
  criSocket: unix:///run/containerd/containerd.sock
  imagePullPolicy: Never
  ignorePreflightErrors: [SystemVerification]
  kubeletExtraArgs:
  - { name: node-ip, value: ${address[$1]} }
EOT
}

init() {
    step "cp-1: init"
    {
        cat <<EOT
apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
localAPIEndpoint: { advertiseAddress: ${address[cp-1]}, bindPort: 6443 }
bootstrapTokens:
- { token: $token, ttl: 1h0m0s }
EOT
        registration cp-1
        cat <<EOT
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
clusterName: st-anna
kubernetesVersion: $kubernetes
imageRepository: hz.hospital
controlPlaneEndpoint: 127.0.0.1:16443
networking: { podSubnet: 10.244.0.0/16, serviceSubnet: 10.96.0.0/16, dnsDomain: cluster.local }
apiServer:
  certSANs: [127.0.0.1, ${address[cp-1]}, ${address[cp-2]}, ${address[cp-3]}, cp-1, cp-2, cp-3]
---
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cgroupDriver: systemd
failSwapOn: false
failCgroupV1: false
featureGates: { KubeletInUserNamespace: true }
localStorageCapacityIsolation: false
---
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
conntrack: { maxPerCore: 0, min: 0 }
EOT
    } | on cp-1 'cat > /etc/kubernetes/init.yaml && kubeadm init --config /etc/kubernetes/init.yaml --skip-token-print >/var/log/kubeadm.log 2>&1 ||
        { tail -n 30 /var/log/kubeadm.log; exit 1; }'
    ca_hash=$(on cp-1 "openssl x509 -pubkey -noout -in /etc/kubernetes/pki/ca.crt" | openssl pkey -pubin -outform der | sha256sum | cut -d' ' -f1)
}

join() { # host, role
    step "$1: join"
    if [ "$2" = control-plane ]; then
        on cp-1 'tar -C /etc/kubernetes -cf - pki/ca.crt pki/ca.key pki/sa.key pki/sa.pub pki/front-proxy-ca.crt pki/front-proxy-ca.key pki/etcd/ca.crt pki/etcd/ca.key' |
            on "$1" 'tar -C /etc/kubernetes -xf -'
    fi
    {
        cat <<EOT
apiVersion: kubeadm.k8s.io/v1beta4
kind: JoinConfiguration
discovery:
  bootstrapToken: { apiServerEndpoint: "127.0.0.1:16443", token: $token, caCertHashes: ["sha256:$ca_hash"] }
EOT
        registration "$1"
        if [ "$2" = control-plane ]; then
            printf 'controlPlane:\n  localAPIEndpoint: { advertiseAddress: %s, bindPort: 6443 }\n' "${address[$1]}"
        fi
    } | on "$1" 'cat > /etc/kubernetes/join.yaml && kubeadm join --config /etc/kubernetes/join.yaml >/var/log/kubeadm.log 2>&1 ||
        { tail -n 30 /var/log/kubeadm.log; exit 1; }'
}

kubectl() { on cp-1 "KUBECONFIG=/etc/kubernetes/admin.conf kubectl $*"; }
chart() { # release, namespace, options of helm...
    local name=$1 namespace=$2
    shift 2
    step "chart $name"
    on cp-1 "KUBECONFIG=/etc/kubernetes/admin.conf helm upgrade --install $name /root/charts/$name-*.tgz \
        --namespace $namespace --create-namespace --timeout 10m $* >/dev/null"
}

token=$(od -An -N3 -tx1 /dev/urandom | tr -d ' \n').$(od -An -N8 -tx1 /dev/urandom | tr -d ' \n')
for host in "${control_planes[@]}"; do prepare "$host" control-plane; done
for host in "${workers[@]}"; do prepare "$host" worker; done
init
for host in "${control_planes[@]:1}"; do join "$host" control-plane; done
for host in "${workers[@]}"; do join "$host" worker; done

tar -C "$parts/charts" -cf - . | on cp-1 'mkdir -p /root/charts && tar -C /root/charts -xf -'
chart hz-netguard hz-system --set podCIDR=10.244.0.0/16,serviceCIDR=10.96.0.0/16
chart hz-crds hz-system
chart hz-storage hz-storage --set path=/var/lib/hzctl/volumes
chart hz-gateway hz-gateway --set httpPort=80
chart hz-metrics kube-system
chart hz-operator hz-system --wait
step "nodes and add-ons"
kubectl 'wait --for=condition=Ready nodes --all --timeout=10m >/dev/null'
for namespace in kube-system hz-system hz-storage hz-gateway; do
    for workload in $(kubectl "get deployments,daemonsets --namespace $namespace --output name"); do
        kubectl "rollout status --namespace $namespace $workload --timeout=10m >/dev/null"
    done
done
step "hospital"
kubectl 'apply -f - >/dev/null' <"$example/hospital.yaml"
for kind in hospitals postgresinstances cacheinstances medicalservices; do
    kubectl "wait --for=condition=Ready $kind.hz.hospital --all --all-namespaces --timeout=15m >/dev/null"
done
step "the imaging service answers through the gateway"
deadline=$((SECONDS + 600))
until curl -fsS --max-time 5 -o /dev/null -H 'Host: imaging.st-anna.hospital.internal' \
    "http://${address[worker-1]}/dicom-web/studies" 2>/dev/null; do
    [ $SECONDS -lt $deadline ] || { echo "the imaging service does not answer" >&2; exit 1; }
    sleep 0.25
done
step "done"
