//! The cluster as its users meet it: kubectl on a control plane, HTTP through the gateway.

use std::{process::Command, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::{
    lab::Lab,
    run::{feed, text, until},
};

/// The example hospital's namespace.
pub const HOSPITAL: &str = "hospital-st-anna";
/// A worker, where the gateway listens.
const GATEWAY: &str = "10.77.0.21";

/// A way into the cluster that runs on the lab.
pub struct Cluster<'a> {
    lab: &'a Lab,
    via: String,
}

/// An answer that came through the gateway.
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// `Content-Type`, empty if there was none.
    pub content_type: String,
    /// `X-Cache`, empty if there was none.
    pub cache: String,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON, or an error that shows it.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("the answer is no JSON: {}", self.excerpt()))
    }

    /// The beginning of the body, for messages.
    pub fn excerpt(&self) -> String {
        String::from_utf8_lossy(&self.body).chars().take(300).collect()
    }
}

impl<'a> Cluster<'a> {
    /// Through the first control plane.
    pub fn of(lab: &'a Lab) -> Self {
        Self { lab, via: "cp-1".into() }
    }

    /// An `ssh` command that runs kubectl on the control plane. The arguments pass a shell there.
    pub fn ssh_kubectl(&self, args: &str) -> Result<Command> {
        let mut command = self.lab.ssh(&self.via)?;
        command.arg(format!("KUBECONFIG=/etc/kubernetes/admin.conf /usr/local/bin/kubectl {args}"));
        Ok(command)
    }

    /// Run kubectl and give what it printed.
    pub fn kubectl(&self, args: &str) -> Result<String> {
        text(self.ssh_kubectl(args)?.stdin(std::process::Stdio::null()))
    }

    /// Run kubectl with a manifest on its standard input.
    pub fn kubectl_with(&self, args: &str, input: &str) -> Result<String> {
        feed(&mut self.ssh_kubectl(args)?, input.as_bytes())
    }

    /// Run kubectl with `-o json`.
    pub fn json(&self, args: &str) -> Result<Value> {
        let out = self.kubectl(&format!("{args} -o json"))?;
        serde_json::from_str(&out).with_context(|| format!("kubectl {args} printed no JSON"))
    }

    /// Items of a list.
    pub fn items(&self, args: &str) -> Result<Vec<Value>> {
        match self.json(args)?.get_mut("items").map(Value::take) {
            Some(Value::Array(items)) => Ok(items),
            _ => bail!("kubectl {args} printed no list"),
        }
    }

    /// Wait until every object that `args` selects has the condition Ready.
    pub fn ready(&self, args: &str, limit: Duration) -> Result<()> {
        until(&format!("Ready: {args}"), limit, || {
            let items = self.items(args)?;
            ensure!(!items.is_empty(), "there are none");
            match items.iter().find(|item| !is_ready(item)) {
                None => Ok(()),
                Some(item) => bail!("{} is not Ready: {}", name(item), item["status"]["conditions"]),
            }
        })
    }

    /// Pod of a database or cache with that role.
    pub fn pod_with_role(&self, instance: &str, role: &str) -> Result<String> {
        let labels = format!("app.kubernetes.io/instance={instance},hz.hospital/role={role}");
        let pods = self.items(&format!("get pods -n {HOSPITAL} -l {labels}"))?;
        let live: Vec<&Value> = pods.iter().filter(|p| p["metadata"]["deletionTimestamp"].is_null()).collect();
        ensure!(live.len() == 1, "{} pods of {instance} say that they are {role}", live.len());
        Ok(name(live[0]))
    }

    /// Ask a database of the example hospital, as the service that owns it would: with its secret, through its Service.
    pub fn sql(&self, database: &str, statement: &str) -> Result<String> {
        self.sql_of("records", database, statement)
    }

    /// The same of another instance.
    pub fn sql_of(&self, instance: &str, database: &str, statement: &str) -> Result<String> {
        let uri = format!("get secret -n {HOSPITAL} {instance}-{database} -o 'jsonpath={{.data.uri}}' | base64 -d");
        let uri = self.kubectl(&uri)?;
        let pod = self.pod_with_role(instance, "primary")?;
        let psql = format!("psql '{uri}' -X -q -A -t -v ON_ERROR_STOP=1 -f -");
        self.kubectl_with(&format!("exec -i -n {HOSPITAL} {pod} -- {psql}"), statement)
    }

    /// Ask a pod's own PostgreSQL as its superuser, over its socket.
    pub fn psql_in(&self, pod: &str, statement: &str) -> Result<String> {
        let psql = "psql -X -q -A -t -v ON_ERROR_STOP=1 -U postgres -f -";
        self.kubectl_with(&format!("exec -i -n {HOSPITAL} {pod} -c postgres -- {psql}"), statement)
    }

    /// Wait until an object has a condition with this status for its present generation.
    pub fn condition(&self, object: &str, type_: &str, status: &str, limit: Duration) -> Result<()> {
        until(&format!("{type_} {status}: {object}"), limit, || {
            let found = self.json(&format!("get {object}"))?;
            let told = condition(&found, type_);
            ensure!(
                told["status"] == status && told["observedGeneration"] == found["metadata"]["generation"],
                "{type_} is {}: {} ({})",
                told["status"],
                told["message"],
                told["reason"]
            );
            Ok(())
        })
    }

    /// GET through the gateway.
    pub fn get(&self, host: &str, path: &str, accept: &str) -> Result<Answer> {
        let request = agent().get(format!("http://{GATEWAY}{path}")).header("Host", host).header("Accept", accept);
        answer(request.call().with_context(|| format!("GET http://{host}{path} through the gateway failed"))?)
    }

    /// POST through the gateway.
    pub fn post(&self, host: &str, path: &str, content_type: &str, body: &[u8]) -> Result<Answer> {
        let request = agent()
            .post(format!("http://{GATEWAY}{path}"))
            .header("Host", host)
            .header("Accept", "application/dicom+json, application/json")
            .header("Content-Type", content_type);
        answer(request.send(body).with_context(|| format!("POST http://{host}{path} through the gateway failed"))?)
    }
}

/// Statuses are the journeys' to judge.
fn agent() -> ureq::Agent {
    let limit = Some(Duration::from_secs(60));
    ureq::Agent::config_builder().http_status_as_error(false).timeout_global(limit).proxy(None).build().into()
}

fn answer(mut response: ureq::http::Response<ureq::Body>) -> Result<Answer> {
    let header = |name: &str| response.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let (content_type, cache) = (header("content-type"), header("x-cache"));
    let status = response.status().as_u16();
    let body = response.body_mut().with_config().limit(64 << 20).read_to_vec().context("the answer broke off")?;
    Ok(Answer { status, content_type, cache, body })
}

/// `namespace/name` without the namespace.
pub fn name(item: &Value) -> String {
    item["metadata"]["name"].as_str().unwrap_or("?").to_owned()
}

/// A condition of an object; null if it has none of that type.
pub fn condition(object: &Value, type_: &str) -> Value {
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.into_iter().find(|condition| condition["type"] == type_).unwrap_or_default()
}

/// Has the object the condition Ready, for its present generation?
pub fn is_ready(item: &Value) -> bool {
    let status = &item["status"];
    let observed = status["observedGeneration"].as_i64();
    let current = observed.is_none_or(|seen| Some(seen) == item["metadata"]["generation"].as_i64());
    let conditions = status["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    current && conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn ready_counts_only_for_the_present_generation() {
        let ready = json!([{ "type": "Ready", "status": "True" }]);
        let at = |seen: i64| json!({"metadata": {"generation": 2}, "status": {"observedGeneration": seen, "conditions": ready.clone()}});
        assert!(super::is_ready(&at(2)));
        assert!(!super::is_ready(&at(1)));
        assert!(!super::is_ready(&json!({"metadata": {}, "status": {}})));
    }
}
