//! `hzctl kubeconfig`: Print or store the kubeconfig of a cluster.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;

use crate::bootstrap::api::Api;
use crate::bootstrap::server::Server;
use crate::bootstrap::{self as work, connect};
use crate::cluster::{Cluster, Role};
use crate::exit::{ExitStatus, Failure};
use crate::printer::Printer;

/// Arguments of `hzctl kubeconfig`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The cluster.yaml
    #[arg(short, long, value_name = "PATH")]
    file: PathBuf,
    /// Store it in this file, beside what is there; without this it is printed
    #[arg(long, value_name = "PATH")]
    output_file: Option<PathBuf>,
    /// Take the place of an entry of the same name in the file
    #[arg(long, requires = "output_file")]
    replace: bool,
}

/// Run it.
pub async fn run(args: Args, printer: &mut Printer) -> Result<ExitStatus, Failure> {
    let cluster = Cluster::load(&args.file)?;
    let api = open(&cluster).await?;
    let Some(path) = args.output_file else {
        printer.data(&api.kubeconfig)?;
        return Ok(ExitStatus::Success);
    };
    let old = match std::fs::read_to_string(&path) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(Failure::input(format!("failed to read {}", path.display())).because(error)),
    };
    let merged = merge(old.as_deref(), &api.kubeconfig, args.replace).map_err(|problem| {
        Failure::input(format!("{}: {problem}", path.display()))
            .hint("nothing was written; use another file, or --replace to take the place of the entry")
    })?;
    if old.as_deref() == Some(&merged) {
        printer.say(format!("{} has it already", path.display()));
        return Ok(ExitStatus::Success);
    }
    store(&path, &merged)
        .map_err(|error| Failure::input(format!("failed to write {}", path.display())).because(error))?;
    printer.say(format!(
        "{} now knows cluster {}; it holds an administrator's key, keep it to yourself",
        path.display(),
        cluster.metadata.name
    ));
    Ok(ExitStatus::Success)
}

/// The API through the first control plane that answers.
pub async fn open(cluster: &Cluster) -> Result<Api, Failure> {
    let (api, _) = open_with_server(cluster).await?;
    Ok(api)
}

/// The API, and the control plane it goes through.
pub async fn open_with_server(cluster: &Cluster) -> Result<(Api, Arc<Server>), Failure> {
    let servers = work::servers(cluster)?;
    let program = work::own_program()?;
    let mut last = None;
    for host in cluster.with_role(Role::ControlPlane) {
        let server = servers[&host.name].clone();
        let tried = async {
            connect::ensure_program(&program, &server).await?;
            Api::through(cluster, &server).await
        };
        match tried.await {
            Ok(api) if api.ready().await => return Ok((api, server)),
            Ok(_) => last = Some(format!("{}: the API server is not ready", host.name)),
            Err(fault) => last = Some(fault.to_string()),
        }
    }
    Err(Failure::new(ExitStatus::HostFailed, "no control plane answers")
        .because(last.unwrap_or_else(|| "there is none".into()))
        .hint("`hzctl check -f …` looks at the hosts; `hzctl bootstrap -f …` makes or mends the cluster"))
}

/// The old file with the new entries beside the others. An entry of the same name and another content is only
/// replaced when that was asked for.
fn merge(old: Option<&str>, new: &str, replace: bool) -> Result<String, String> {
    let parse =
        |text: &str| serde_yaml::from_str::<Value>(text).map_err(|error| format!("it is no kubeconfig: {error}"));
    let new_value = parse(new)?;
    let Some(old) = old.filter(|text| !text.trim().is_empty()) else { return Ok(new.to_owned()) };
    let mut merged = parse(old)?;
    if !merged.is_object() {
        return Err("it is no kubeconfig".into());
    }
    for list in ["clusters", "users", "contexts"] {
        let entries = new_value[list].as_array().cloned().unwrap_or_default();
        let mut all = merged[list].as_array().cloned().unwrap_or_default();
        for entry in entries {
            match all.iter_mut().find(|other| other["name"] == entry["name"]) {
                Some(other) if *other == entry => {}
                Some(other) if replace => *other = entry,
                Some(_) => return Err(format!("it has another entry {} under {list}", entry["name"])),
                None => all.push(entry),
            }
        }
        merged[list] = Value::Array(all);
    }
    if merged["current-context"].as_str().unwrap_or_default().is_empty() {
        merged["current-context"] = new_value["current-context"].clone();
    }
    serde_yaml::to_string(&merged).map_err(|error| error.to_string())
}

fn store(path: &PathBuf, text: &str) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let temporary = path.with_extension(format!("part{}", std::process::id()));
    let mut file = std::fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(name: &str, server: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Config\nclusters: [{{name: {name}, cluster: {{server: '{server}'}}}}]\nusers: [{{name: {name}-admin, user: {{}}}}]\ncontexts: [{{name: {name}, context: {{cluster: {name}, user: {name}-admin}}}}]\ncurrent-context: {name}\n"
        )
    }

    #[test]
    fn another_cluster_is_put_beside_and_the_current_one_stays() {
        let merged = merge(Some(&config("old", "a")), &config("new", "b"), false).unwrap();
        assert!(merged.contains("name: old") && merged.contains("name: new"), "{merged}");
        assert!(merged.contains("current-context: old"), "{merged}");
    }

    #[test]
    fn an_entry_of_the_same_name_is_never_overwritten_silently() {
        let old = config("one", "a");
        assert!(merge(Some(&old), &config("one", "b"), false).is_err());
        assert!(merge(Some(&old), &config("one", "b"), true).unwrap().contains("server: b"));
        assert!(merge(Some(&old), &old, false).is_ok());
    }

    #[test]
    fn a_file_that_is_no_kubeconfig_is_left_alone() {
        assert!(merge(Some("just text"), &config("one", "a"), true).is_err());
    }
}
