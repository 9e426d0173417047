//! The service as a process, against a real PostgreSQL and a real Valkey (or Redis) server.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod servers;

use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde_json::{Value, json};
use servers::{Authority, Postgres, Service, Valkey};

fn booking(patient: &str) -> Value {
    json!({ "patient": patient, "clinic": "Kardiologie", "at": "2027-03-01T09:30:00+01:00" })
}

async fn book(service: &Service, patient: &str) -> Value {
    let response = service.post("/appointments", &booking(patient)).await;
    assert_eq!(response.status(), StatusCode::CREATED);
    response.json().await.unwrap()
}

/// Status and `X-Cache` of a read.
async fn read(service: &Service, id: &str) -> (StatusCode, String) {
    let response = service.get(&format!("/appointments/{id}")).await;
    let cache = response.headers().get("x-cache").map_or("", |value| value.to_str().unwrap()).to_owned();
    (response.status(), cache)
}

/// Waits until something holds, for at most ten seconds.
async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < Duration::from_secs(60), "after a minute still not: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn an_appointment_is_booked_read_through_the_cache_found_and_cancelled() {
    let (Some(postgres), Some(valkey)) = (Postgres::start(), Valkey::start()) else {
        return;
    };
    let service = Service::start(&postgres, Some(&valkey), &[]).await;

    let booked = book(&service, "P-1001").await;
    assert_eq!(booked["at"], "2027-03-01T08:30:00Z");
    let id = booked["id"].as_str().unwrap();
    let first = service.get(&format!("/appointments/{id}")).await;
    assert_eq!(first.headers()["x-cache"], "miss");
    let second = service.get(&format!("/appointments/{id}")).await;
    assert_eq!(second.headers()["x-cache"], "hit");
    assert_eq!(first.json::<Value>().await.unwrap(), booked);
    assert_eq!(second.json::<Value>().await.unwrap(), booked);

    book(&service, "P-2002").await;
    let found: Value = service.get("/appointments?patient=P-1001").await.json().await.unwrap();
    assert_eq!(found, json!([booked]));

    assert_eq!(service.delete(&format!("/appointments/{id}")).await.status(), StatusCode::NO_CONTENT);
    assert_eq!(read(&service, id).await.0, StatusCode::NOT_FOUND, "the cache forgot it too");
    assert_eq!(service.delete(&format!("/appointments/{id}")).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn wrong_input_is_answered_with_the_fields_that_are_wrong() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let service = Service::start(&postgres, None, &[]).await;

    let response = service.post("/appointments", &json!({ "patient": "", "at": "soon", "room": 1 })).await;
    assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let problem: Value = response.json().await.unwrap();
    let fields: Vec<_> = problem["errors"].as_array().unwrap().iter().map(|e| e["field"].as_str().unwrap()).collect();
    assert_eq!(fields, ["room", "patient", "clinic", "at"]);

    let response = service.get("/appointments").await;
    assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(response.json::<Value>().await.unwrap()["errors"][0]["field"], "patient");

    let long = json!({ "patient": "x".repeat(20_000), "clinic": "c", "at": "2027-03-01T09:30:00Z" });
    assert_eq!(service.post("/appointments", &long).await.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(read(&service, "1%27%20OR%201=1").await.0, StatusCode::NOT_FOUND);
    assert_eq!(service.get("/patients").await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn without_its_cache_it_reads_from_the_database_and_finds_the_cache_again() {
    let (Some(postgres), Some(mut valkey)) = (Postgres::start(), Valkey::start()) else {
        return;
    };
    let service = Service::start(&postgres, Some(&valkey), &[]).await;
    let booked = book(&service, "P-1").await;
    let id = booked["id"].as_str().unwrap();
    read(&service, id).await;
    assert_eq!(read(&service, id).await, (StatusCode::OK, "hit".into()));

    valkey.kill();
    for _ in 0..5 {
        let begun = Instant::now();
        assert_eq!(read(&service, id).await, (StatusCode::OK, "miss".into()));
        assert!(begun.elapsed() < Duration::from_secs(1), "a dead cache must not make reads slow");
    }
    assert_eq!(service.get("/readyz").await.status(), StatusCode::OK, "ready without its cache");

    valkey.start_again();
    until("a hit", async || read(&service, id).await == (StatusCode::OK, "hit".into())).await;
}

#[tokio::test]
async fn a_booking_waits_for_a_database_that_restarts() {
    let Some(mut postgres) = Postgres::start() else {
        return;
    };
    let service = Service::start(&postgres, None, &[]).await;
    let before = book(&service, "P-1").await;

    postgres.kill();
    assert_eq!(service.get("/readyz").await.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        service.get("/livez").await.status(),
        StatusCode::OK,
        "a database that is away is no reason to restart us"
    );
    let (during, ()) = tokio::join!(book(&service, "P-2"), async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        postgres.start_again();
    });
    for kept in [before, during] {
        let (status, _) = read(&service, kept["id"].as_str().unwrap()).await;
        assert_eq!(status, StatusCode::OK);
    }
}

#[tokio::test]
async fn a_booking_leaves_a_primary_that_was_demoted() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let service = Service::start(&postgres, None, &[]).await;
    book(&service, "P-1").await;

    let admin = postgres.admin().await;
    let turn = async |to: &str| {
        admin.batch_execute(&format!("ALTER SYSTEM SET default_transaction_read_only = {to}")).await.unwrap();
        admin.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    };
    turn("on").await;
    let (_, ()) = tokio::join!(book(&service, "P-2"), async {
        tokio::time::sleep(Duration::from_millis(800)).await;
        admin.batch_execute("SET default_transaction_read_only = off").await.unwrap();
        turn("off").await;
    });
}

#[tokio::test]
async fn a_database_that_stays_away_is_told_with_503() {
    let Some(mut postgres) = Postgres::start() else {
        return;
    };
    let service = Service::start(&postgres, None, &[]).await;
    postgres.kill();
    let response = service.post("/appointments", &booking("P-1")).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()["retry-after"], "2");
}

#[tokio::test]
async fn forty_at_once_share_eight_connections() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let service = Service::start(&postgres, None, &[]).await;
    let bookings = (0..40).map(|i| {
        let service = &service;
        async move { book(service, &format!("P-{i}")).await }
    });
    let all = futures_join(bookings).await;
    assert_eq!(all.len(), 40);
    let count: i64 = postgres
        .admin()
        .await
        .query_one("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'appointments'", &[])
        .await
        .unwrap()
        .get(0);
    assert!((1..=8).contains(&count), "{count} connections");
}

/// Runs futures at once on this task.
async fn futures_join<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut pending: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|context| {
        let mut all = true;
        for (future, output) in &mut pending {
            if output.is_none() {
                match future.as_mut().poll(context) {
                    std::task::Poll::Ready(value) => *output = Some(value),
                    std::task::Poll::Pending => all = false,
                }
            }
        }
        if all { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    pending.into_iter().filter_map(|(_, output)| output).collect()
}

#[tokio::test]
async fn at_sigterm_it_is_not_ready_finishes_and_leaves_with_zero() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let mut service = Service::start(&postgres, None, &[("DRAIN_SECONDS", "2")]).await;
    service.terminate();
    until("not ready", async || service.get("/readyz").await.status() == StatusCode::SERVICE_UNAVAILABLE).await;
    book(&service, "P-1").await;
    let status = service.wait(Duration::from_secs(6));
    assert_eq!(status.code(), Some(0));
    let log = service.log();
    assert!(log.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "logs are JSON lines: {log}");
    assert!(!log.contains("P-1"), "no patient in the logs: {log}");
}

#[tokio::test]
async fn database_and_cache_are_spoken_to_encrypted_and_believed_by_their_authority_only() {
    let (Some(mut postgres), Some(mut valkey)) = (Postgres::start(), Valkey::start()) else {
        return;
    };
    let (authority, stranger) = (Authority::new(), Authority::new());
    postgres.encrypt(&authority);
    valkey.encrypt(&authority);
    let (known, unknown) = (authority.path("ca.crt"), stranger.path("ca.crt"));
    // The certificate bears a name, and so has who asks for it.
    let by = |database: &'static str| {
        let names = [("DATABASE_HOST", "localhost"), ("CACHE_HOST", "localhost"), ("CACHE_URI", "rediss://localhost")];
        names.into_iter().chain([("DATABASE_SSLMODE", "verify-full"), ("DATABASE_HOST", database)])
    };
    let trusting = |database: &'static str, ca: &str| -> Vec<(&'static str, String)> {
        let all = by(database).map(|(name, value)| (name, value.to_owned()));
        all.chain([("DATABASE_CA_FILE", ca.to_owned()), ("CACHE_CA_FILE", known.clone())]).collect()
    };
    let env = trusting("localhost", &known);
    let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let service = Service::start(&postgres, Some(&valkey), &env).await;
    let booked = book(&service, "P-1").await;
    let id = booked["id"].as_str().unwrap();
    assert_eq!(read(&service, id).await, (StatusCode::OK, "miss".into()));
    assert_eq!(read(&service, id).await, (StatusCode::OK, "hit".into()), "{}", service.log());

    // Another authority, the right one under a name that is not in the certificate, and clear text.
    for (env, why) in [
        (trusting("localhost", &unknown), "invalid peer certificate"),
        (trusting("127.0.0.1", &known), "not valid for name"),
        (vec![("DATABASE_HOST", "localhost".to_owned())], "no encryption"),
    ] {
        let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let deceived = Service::launch(&postgres, None, &env);
        until("it says why", async || deceived.log().contains(why)).await;
        assert_eq!(deceived.get("/readyz").await.status(), StatusCode::SERVICE_UNAVAILABLE);
    }
}

#[test]
fn without_its_settings_it_says_which_one_is_missing() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_hz-appointments")).env_clear().output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("DATABASE_HOST is not set"));
}
