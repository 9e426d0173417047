//! Whom a service is to trust: a Secret of a binding that holds the certificate of an authority hands it on as a file.
//!
//! Databases and caches renew their certificates by themselves, and nothing of that is in here: only a new authority
//! changes the Secret, and so starts the copies again.

use serde_json::{Value, json};

use super::{Binding, Inputs, MedicalService};
use crate::certificates::CA_CRT;
use crate::pod;

/// Where the files are: one folder a binding.
const FOLDER: &str = "/etc/hz/bindings";

/// Bindings whose Secret holds the certificate of an authority, by their places.
fn trusting<'a>(service: &'a MedicalService, inputs: &'a Inputs) -> impl Iterator<Item = (usize, &'a Binding, String)> {
    let bindings = service.spec.bindings.iter().enumerate();
    let with_secrets = bindings.filter_map(|(number, binding)| Some((number, binding, binding.secret()?)));
    with_secrets.filter(|(_, _, secret)| inputs.authorities.contains(secret))
}

fn folder(binding: &Binding) -> String {
    format!("{FOLDER}/{}", binding.prefix_or_default().to_lowercase())
}

fn volume(number: usize) -> String {
    format!("authority-{number}")
}

/// The certificates, which are no secret: every user of an image may read them.
pub fn volumes(service: &MedicalService, inputs: &Inputs) -> Vec<Value> {
    let volume = |(number, _, secret): (usize, &Binding, String)| {
        let items = json!([{ "key": CA_CRT, "path": CA_CRT }]);
        json!({ "name": volume(number), "secret": { "secretName": secret, "defaultMode": 0o444, "items": items } })
    };
    trusting(service, inputs).map(volume).collect()
}

/// Where they are in the pod.
pub fn mounts(service: &MedicalService, inputs: &Inputs) -> Vec<Value> {
    let mount = |(number, binding, _): (usize, &Binding, String)| json!({ "name": volume(number), "mountPath": folder(binding), "readOnly": true });
    trusting(service, inputs).map(mount).collect()
}

/// Variables of one binding, by the ends of their names: the file and, for a database, how to look at the server.
pub fn variables(binding: &Binding, inputs: &Inputs) -> Vec<(&'static str, Value)> {
    let Some(secret) = binding.secret().filter(|secret| inputs.authorities.contains(secret)) else { return Vec::new() };
    let name = |end: &str| format!("{}_{end}", binding.prefix_or_default());
    let mut variables = vec![("CA_FILE", pod::variable(&name("CA_FILE"), format!("{}/{CA_CRT}", folder(binding))))];
    if binding.database.is_some() {
        variables.push(("SSLMODE", pod::from_secret(&name("SSLMODE"), &secret, "sslmode")));
    }
    variables
}
