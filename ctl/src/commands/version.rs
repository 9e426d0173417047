//! `hzctl version`: of hzctl, and of what it installs.

use serde::Serialize;

use crate::exit::{ExitStatus, Failure};
use crate::printer::Printer;

/// Arguments of `hzctl version`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// The Kubernetes minor that this hzctl brings up.
pub const KUBERNETES: &str = "1.36";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    version: &'static str,
    /// Known only where the build was told.
    commit: Option<&'static str>,
    bundle_format: u32,
    kubernetes: &'static str,
    cluster_api: &'static str,
    platform: String,
}

/// Run it.
pub async fn run(_args: Args, printer: &mut Printer) -> Result<ExitStatus, Failure> {
    let version = Version {
        version: env!("CARGO_PKG_VERSION"),
        commit: option_env!("HZCTL_COMMIT").filter(|commit| !commit.is_empty()),
        bundle_format: hz_bundle::manifest::SCHEMA_VERSION,
        kubernetes: KUBERNETES,
        cluster_api: "hz.hospital/v1alpha1",
        platform: format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
    };
    printer.value(&version, table)?;
    Ok(ExitStatus::Success)
}

fn table(version: &Version) -> String {
    format!(
        "hzctl          {}\ncommit         {}\nplatform       {}\nkubernetes     {}\nbundle format  {}\ncluster.yaml   {}",
        version.version,
        version.commit.unwrap_or("unknown"),
        version.platform,
        version.kubernetes,
        version.bundle_format,
        version.cluster_api,
    )
}
