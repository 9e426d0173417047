//! `hzctl schema`: the JSON schema of cluster.yaml, for editors.

use crate::cluster::schema::schema;
use crate::exit::{ExitStatus, Failure};
use crate::printer::{Output, Printer};

/// Arguments of `hzctl schema`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Store it beside your cluster.yaml and start that file with\n  \
    # yaml-language-server: $schema=cluster-schema.json\nso that editors explain each field and underline mistakes.")]
pub struct Args {}

/// Run it.
pub async fn run(_args: Args, printer: &mut Printer) -> Result<ExitStatus, Failure> {
    let form = printer.output();
    let text = match form {
        Output::Yaml => crate::cluster::yaml::write(&schema())?,
        Output::Table | Output::Json => text(),
    };
    printer.data(&text)?;
    Ok(ExitStatus::Success)
}

/// The schema as it is published.
pub fn text() -> String {
    format!("{:#}\n", schema())
}
