//! Prints what the objects of a manifest turn into, with made-up passwords, without a cluster:
//! `cargo run -p hz-crds --example plan < examples/eight-node-cluster/hospital.yaml`

use std::error::Error;
use std::io::Read;

use hz_crds::{Certificates, KeyPair, Passwords, Plan, Platform, Slot, cache, hospital, postgres, service};
use serde::Deserialize;
use serde_json::Value;

fn main() -> Result<(), Box<dyn Error>> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    for document in serde_yaml::Deserializer::from_str(&text) {
        for object in plan(Value::deserialize(document)?)?.objects() {
            println!("---\n{}", serde_yaml::to_string(object)?);
        }
    }
    Ok(())
}

fn plan(document: Value) -> Result<Plan, Box<dyn Error>> {
    let platform = Platform::default();
    let kind = document["kind"].as_str().unwrap_or_default().to_owned();
    Ok(match kind.as_str() {
        "Hospital" => hospital::desired(&serde_json::from_value(document)?, &hospital::Inputs::default(), &platform)?,
        "PostgresInstance" => {
            let instance = serde_json::from_value(document)?;
            let slot = postgres::tls::certificate(&instance, &platform);
            let pem = || "example".to_owned();
            let pair = KeyPair { ca_crt: pem(), ca_key: pem(), tls_crt: pem(), tls_key: pem() };
            let certificates = Certificates::default().with(&slot, pair);
            let passwords = made_up(postgres::slots(&instance));
            let inputs = postgres::Inputs { passwords, certificates, ..Default::default() };
            postgres::desired(&instance, &inputs, &platform)?
        }
        "CacheInstance" => {
            let instance = serde_json::from_value(document)?;
            let inputs = cache::Inputs::made_up(&instance, &platform);
            cache::desired(&instance, &inputs, &platform)?
        }
        "MedicalService" => {
            let service = serde_json::from_value(document)?;
            let secrets = service::secrets(&service).into_iter().map(|secret| (secret, "0".repeat(16))).collect();
            service::desired(&service, &service::Inputs { secrets, ..Default::default() }, &platform)?
        }
        other => return Err(format!("{other:?} is no kind of ours").into()),
    })
}

fn made_up(slots: Vec<Slot>) -> Passwords {
    slots.into_iter().map(|slot| (slot, "example".to_owned())).collect()
}
