//! A patient books an appointment and reads it back, the second time out of the cache.

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::Scene;

const HOST: &str = "appointments.st-anna.hospital.internal";

pub fn run(scene: &Scene) -> Result<()> {
    let cluster = scene.cluster();
    let wish = json!({ "patient": "e2e-4711", "clinic": "Kardiologie", "at": "2031-05-02T09:30:00Z" });
    let booked = cluster.post(HOST, "/appointments", "application/json", wish.to_string().as_bytes())?;
    ensure!(booked.status == 201, "booking answered {}: {}", booked.status, booked.excerpt());
    let booked = booked.json()?;
    let id = booked["id"].as_str().with_context(|| format!("no id in {booked}"))?;
    let path = format!("/appointments/{id}");
    // Two copies answer, with one cache: whichever is asked first fills it for both.
    let mut seen = Vec::new();
    for _ in 0..2 {
        let answer = cluster.get(HOST, &path, "application/json")?;
        ensure!(answer.status == 200, "reading answered {}: {}", answer.status, answer.excerpt());
        let read = answer.json()?;
        for (field, value) in wish.as_object().into_iter().flatten() {
            ensure!(&read[field] == value, "`{field}` came back as {} instead of {value}", read[field]);
        }
        seen.push(answer.cache.to_lowercase());
    }
    ensure!(seen[1] == "hit", "the second read came with X-Cache: `{}` instead of `hit`", seen[1]);
    let stored = cluster.sql("appointments", "select count(*) from appointments where patient = 'e2e-4711';")?;
    ensure!(stored.trim() != "0", "the appointment is not in the hospital's database");
    eprintln!("    booked as {path}, read back: {}", seen.join(", then "));
    Ok(())
}
