//! wip
#[derive(clap::Args)]
pub struct Args {}
pub async fn run(_a: Args) -> Result<(), String> { Ok(()) }
