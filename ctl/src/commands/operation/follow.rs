//! Following an operation to its end.

use hz_crds::operation::DataOperation;
use kube::Client;

use super::NOUNS;
use super::row::{deed, phase};
use crate::commands::follow::{self, Told, Work};
use crate::commands::reach::{Place, Reach};
use crate::exit::Failure;
use crate::printer::Printer;

/// Follow it until it has ended.
pub async fn to_end(
    client: &Client,
    place: &Place,
    reach: &Reach,
    printer: &mut Printer,
) -> Result<DataOperation, Failure> {
    let command = |verb: &str| format!("hzctl operation {verb} {} -n {}{}", place.name, place.namespace, reach.spelt());
    let hint = format!("to follow it on: {}\nto stop it: {}", command("wait"), command("cancel"));
    let work = Work { noun: NOUNS.0, place: place.clone(), hint };
    follow::to_end(client, &work, told, printer).await
}

fn told(operation: &DataOperation) -> Told {
    let status = operation.status.clone().unwrap_or_default();
    Told {
        deed: deed(operation),
        phase: phase(operation),
        progress: status.progress,
        message: status.message,
        cancel: operation.spec.cancel,
    }
}
