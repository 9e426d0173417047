//! `hzctl db cancel`: Stop a backup or a restore that is under way.

use std::fmt::Debug;

use hz_crds::backup::{Backup, Restore};
use hz_crds::operation::Phase;
use kube::api::{Api, Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::commands::data::FIELD_MANAGER;
use crate::commands::reach::{Place, Reach, find, list, refused};
use crate::exit::{ExitStatus, Failure};
use crate::printer::Printer;

/// Arguments of `hzctl db cancel`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "`hzctl db backups NAME` and `kubectl get backups,restores -A` list what there is. What was complete \
    stays complete; a database server that a restore had made stays, and is named."
)]
pub struct Args {
    /// Name of the Backup or Restore; `backup/NAME` or `restore/NAME` where both have it
    name: String,
    #[command(flatten)]
    reach: Reach,
}

/// What is told of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    kind: &'static str,
    namespace: String,
    name: String,
    phase: Phase,
    message: Option<String>,
}

/// Run it.
pub async fn run(args: Args, printer: &mut Printer) -> Result<ExitStatus, Failure> {
    let client = args.reach.client().await?;
    let namespace = args.reach.namespace.as_deref();
    let told = match args.name.split_once('/') {
        Some(("backup", name)) => backup(&client, namespace, name).await?,
        Some(("restore", name)) => restore(&client, namespace, name).await?,
        Some((other, _)) => {
            return Err(
                Failure::input(format!("there is no `{other}` to cancel")).hint("write backup/NAME or restore/NAME")
            );
        }
        None => either(&client, namespace, &args.name).await?,
    };
    printer.value(&told, sentence)?;
    Ok(ExitStatus::Success)
}

/// Of whichever kind has the name.
async fn either(client: &Client, namespace: Option<&str>, name: &str) -> Result<Asked, Failure> {
    let backups: Vec<Backup> = list(client, namespace, "backups").await?;
    let restores: Vec<Restore> = list(client, namespace, "restores").await?;
    let is = |other: String| other == name;
    match (backups.iter().any(|it| is(it.name_any())), restores.iter().any(|it| is(it.name_any()))) {
        (true, true) => Err(Failure::input(format!("there is a backup `{name}` and a restore `{name}`"))
            .hint(format!("write backup/{name} or restore/{name}"))),
        (false, true) => restore(client, namespace, name).await,
        (true, false) => backup(client, namespace, name).await,
        (false, false) if backups.is_empty() && !restores.is_empty() => restore(client, namespace, name).await,
        // Which says what there is instead.
        (false, false) => backup(client, namespace, name).await,
    }
}

async fn backup(client: &Client, namespace: Option<&str>, name: &str) -> Result<Asked, Failure> {
    let found: Backup = find(client, namespace, name, ("backup", "backups")).await?;
    let how = |it: &Backup| {
        let status = it.status.clone().unwrap_or_default();
        (status.phase.unwrap_or_default(), status.message)
    };
    ask(client, &found, "backup", how).await
}

async fn restore(client: &Client, namespace: Option<&str>, name: &str) -> Result<Asked, Failure> {
    let found: Restore = find(client, namespace, name, ("restore", "restores")).await?;
    let how = |it: &Restore| {
        let status = it.status.clone().unwrap_or_default();
        (status.phase.unwrap_or_default(), status.message)
    };
    ask(client, &found, "restore", how).await
}

/// Asks for it, unless it has ended already.
async fn ask<K>(
    client: &Client,
    found: &K,
    kind: &'static str,
    how: impl Fn(&K) -> (Phase, Option<String>),
) -> Result<Asked, Failure>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    let Place { namespace, name } = Place::of(found);
    let (phase, message) = how(found);
    if !phase.is_final() {
        let api: Api<K> = Api::namespaced(client.clone(), &namespace);
        let who = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
        let patched = api.patch(&name, &who, &Patch::Merge(json!({ "spec": { "cancel": true } }))).await;
        patched.map_err(|error| refused(format!("failed to cancel the {kind} {name}"), &error))?;
    }
    Ok(Asked { kind, namespace, name, phase, message })
}

fn sentence(asked: &Asked) -> String {
    let Asked { kind, namespace, name, phase, message } = asked;
    if phase.is_final() {
        let said = message.as_deref().map(|message| format!(": {message}")).unwrap_or_default();
        return format!("the {kind} {name} has ended already ({}){said}", phase.word());
    }
    format!("the {kind} {name} is stopped; to see what is left of it: kubectl describe {kind} {name} -n {namespace}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_ended_says_how_and_what_is_stopped_where_to_look() {
        let asked = |phase, message: Option<&str>| Asked {
            kind: "backup",
            namespace: "hospital-anna".into(),
            name: "nightly-1".into(),
            phase,
            message: message.map(str::to_owned),
        };
        assert_eq!(
            sentence(&asked(Phase::Succeeded, Some("complete"))),
            "the backup nightly-1 has ended already (Succeeded): complete"
        );
        assert_eq!(
            sentence(&asked(Phase::Running, None)),
            "the backup nightly-1 is stopped; to see what is left of it: kubectl describe backup nightly-1 -n hospital-anna"
        );
    }
}
