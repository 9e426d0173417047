//! What a plan must know of the cluster it is for.

use serde::{Deserialize, Serialize};

/// The cluster as the operator found or was told it. Everything has a default that fits a cluster made by
/// `hzctl bootstrap`, so a settings file names only what differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Platform {
    /// Images of what the operator runs for its kinds.
    pub images: Images,
    /// Class of volumes for kinds that name none.
    pub storage_class: String,
    /// Domain under which hospitals publish: `imaging.st-anna.<domain>`.
    pub domain: String,
    /// Domain of Services inside the cluster.
    pub cluster_domain: String,
    /// Label of nodes over which copies are spread: one copy a value.
    pub spread_over: String,
    /// Servers that take workloads, counted by the operator; nothing until it has looked.
    pub workers: Option<i32>,
    /// Entry for people and machines outside the cluster.
    pub gateway: Gateway,
    /// The operator itself.
    pub operator: Operator,
    /// Where cluster DNS runs.
    pub dns: Dns,
    /// Addresses of the API servers, for pods that must reach them; nothing means any address.
    pub api_servers: Vec<String>,
    /// Port on which API servers listen.
    pub api_port: u16,
}

/// Images of what the operator runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Images {
    /// PostgreSQL with Patroni.
    pub postgres: String,
    /// Valkey with its sentinel.
    pub valkey: String,
    /// SeaweedFS, which serves S3.
    pub seaweedfs: String,
    /// PgBouncer, which pools connections to PostgreSQL.
    pub pgbouncer: String,
    /// The operator, whose program also holds connections for PgBouncer.
    pub operator: String,
    /// The exporter beside every server of a cache.
    pub redis_exporter: String,
}

/// The Gateway to which routes attach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Gateway {
    /// Name of the Gateway.
    pub name: String,
    /// Its namespace; pods there may reach services that have routes.
    pub namespace: String,
    /// Port on which it listens outside.
    pub http_port: u16,
}

/// The operator, as others must know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Operator {
    /// Its namespace; pods there may reach databases and caches to see that they answer.
    pub namespace: String,
    /// Its ServiceAccount.
    pub service_account: String,
    /// ClusterRole with what it may do inside a hospital's namespace.
    pub tenant_role: String,
}

/// Where cluster DNS runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Dns {
    /// Its namespace.
    pub namespace: String,
    /// Value of its `k8s-app` label.
    pub app: String,
}

impl Default for Platform {
    fn default() -> Self {
        Self {
            images: Images::default(),
            storage_class: "hz-local".into(),
            domain: "hospital.internal".into(),
            cluster_domain: "cluster.local".into(),
            spread_over: "kubernetes.io/hostname".into(),
            workers: None,
            gateway: Gateway::default(),
            operator: Operator::default(),
            dns: Dns::default(),
            api_servers: Vec::new(),
            api_port: 6443,
        }
    }
}

impl Default for Images {
    fn default() -> Self {
        Self {
            postgres: "hz.hospital/postgres:17.12".into(),
            valkey: "hz.hospital/valkey:8.1.1".into(),
            seaweedfs: "hz.hospital/seaweedfs:4.48".into(),
            pgbouncer: "hz.hospital/pgbouncer:1.24.1".into(),
            operator: concat!("hz.hospital/hz-operator:", env!("CARGO_PKG_VERSION")).into(),
            redis_exporter: "hz.hospital/redis-exporter:1.69.0".into(),
        }
    }
}

impl Default for Gateway {
    fn default() -> Self {
        Self { name: "hospital".into(), namespace: "hz-gateway".into(), http_port: 80 }
    }
}

impl Default for Operator {
    fn default() -> Self {
        Self {
            namespace: "hz-system".into(),
            service_account: "hz-operator".into(),
            tenant_role: "hz-operator-tenant".into(),
        }
    }
}

impl Default for Dns {
    fn default() -> Self {
        Self { namespace: "kube-system".into(), app: "kube-dns".into() }
    }
}

impl Platform {
    /// The reference cluster: three control planes, five workers.
    pub fn eight_nodes() -> Self {
        Self {
            workers: Some(5),
            api_servers: ["10.77.0.11", "10.77.0.12", "10.77.0.13"].map(String::from).into(),
            ..Self::default()
        }
    }

    /// Name of a Service inside the cluster, complete.
    pub fn host(&self, service: &str, namespace: &str) -> String {
        format!("{service}.{namespace}.svc.{}", self.cluster_domain)
    }
}
