//! Makes some components of the list, or all, without signing and shipping: for work on recipes.
//!
//! `cargo run --release -p hz-bundle --example parts -- OUTPUT.tar [COMPONENT]...`

use std::path::{Path, PathBuf};

use hz_bundle::build::{Cache, Event, From, Options, Registries};
use hz_bundle::component::ComponentList;
use hz_bundle::{SigningKey, build};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let output = PathBuf::from(args.next().ok_or("say where the archive goes")?);
    let names: Vec<String> = args.collect();
    let repo = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?;
    let path = repo.join("bundle/components.yaml");
    let mut list = ComponentList::load(&path)?;
    let mut wanted = names.clone();
    while let Some(name) = wanted.pop() {
        let component = list.get(&name).ok_or_else(|| format!("no component {name}"))?;
        wanted.extend(component.parts().iter().map(|part| (*part).to_owned()));
    }
    if !names.is_empty() {
        let mut keep = names;
        let mut at = 0;
        while at < keep.len() {
            let parts: Vec<String> =
                list.get(&keep[at]).map(|c| c.parts().iter().map(|p| (*p).to_owned()).collect()).unwrap_or_default();
            keep.extend(parts);
            at += 1;
        }
        list.components.retain(|c| keep.contains(&c.name));
    }
    let some = tempfile::NamedTempFile::new()?;
    serde_yaml::to_writer(std::io::BufWriter::new(some.as_file()), &list)?;
    let key = SigningKey::ephemeral()?;
    let options = Options {
        list: some.path().into(),
        repo,
        cache: Cache::default_root(),
        output,
        version: "0.1.0".into(),
        from: From::Registries,
        key: &key,
        recipes: &Registries,
    };
    let built = build(&options, &|event| match event {
        Event::Log { component, line } => println!("{component}: {line}"),
        Event::Finish { component, cached, took, size } => {
            println!(
                "{component}: done in {:.1} s, {:.1} MB{}",
                took.as_secs_f64(),
                size as f64 / 1e6,
                if cached { ", cached" } else { "" }
            );
        }
        Event::Evicted { component, reason } => println!("{component}: made anew, since {reason}"),
        _ => {}
    })?;
    println!("{built:#?}");
    Ok(())
}
