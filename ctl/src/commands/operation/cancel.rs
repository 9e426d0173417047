//! `hzctl operation cancel`: Have an operation begin no further step.

use hz_crds::operation::{DataOperation, Phase};
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use super::row::{Row, deed, phase};
use super::{end, follow};
use crate::commands::data::FIELD_MANAGER;
use crate::commands::reach::{Place, Reach, find, refused};
use crate::exit::{ExitStatus, Failure};
use crate::printer::Printer;

/// Arguments of `hzctl operation cancel`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the operation
    name: String,
    /// Wait until it has stopped
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    reach: Reach,
}

/// Run it.
pub async fn run(args: Args, printer: &mut Printer) -> Result<ExitStatus, Failure> {
    let client = args.reach.client().await?;
    let namespace = args.reach.namespace.as_deref();
    let found: DataOperation = find(&client, namespace, &args.name, super::NOUNS).await?;
    let place = Place::of(&found);
    if phase(&found).is_final() {
        printer.value(&Row::of(&found), |_| already(&found))?;
        return Ok(ExitStatus::Success);
    }
    let api: Api<DataOperation> = Api::namespaced(client.clone(), &place.namespace);
    let who = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
    let patched = api.patch(&place.name, &who, &Patch::Merge(json!({ "spec": { "cancel": true } }))).await;
    let patched = patched.map_err(|error| refused(format!("failed to cancel {}", place.name), &error))?;
    if !args.wait {
        printer.value(&Row::of(&patched), |_| asked(&patched))?;
        return Ok(ExitStatus::Success);
    }
    let ended = follow::to_end(&client, &place, &args.reach, printer).await?;
    // Cancelled is what was asked for here; that it was done before is as good.
    match phase(&ended) {
        Phase::Cancelled => {
            printer.value(&Row::of(&ended), |_| end::sentence(&ended))?;
            Ok(ExitStatus::Success)
        }
        _ => end::tell(&ended, printer),
    }
}

fn already(operation: &DataOperation) -> String {
    format!("{} has ended already: {}", operation.name_any(), end::sentence(operation))
}

fn asked(operation: &DataOperation) -> String {
    format!("{} begins no further step; what is under way is finished first", deed(operation))
}

#[cfg(test)]
mod tests {
    use super::super::row::tests::operation;
    use super::*;

    #[test]
    fn an_operation_that_ended_already_says_how() {
        let status = json!({ "phase": "Succeeded", "message": "all copies started anew" });
        let ended = operation("records-restart-x7k2p", "2026-03-01T08:00:00Z", status);
        assert_eq!(
            already(&ended),
            "records-restart-x7k2p has ended already: the restart of records succeeded: all copies started anew"
        );
    }
}
