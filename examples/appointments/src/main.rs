//! The example patient-facing service: appointments in PostgreSQL, read through Valkey.

use std::time::Duration;

use anyhow::Context as _;
use hz_appointments::{App, Config};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .json()
        .with_env_filter(tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into()))
        .init();
    let config = Config::from_env().map_err(anyhow::Error::msg)?;
    let listener = tokio::net::TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("failed to listen on {}", config.listen))?;
    tracing::info!(address = %config.listen, "listening");
    let drain = config.drain;
    let app = App::new(config);
    app.prepare_in_background();

    let mut terminate = signal(SignalKind::terminate()).context("failed to listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("failed to listen for SIGINT")?;
    let (stop, mut stopping) = tokio::sync::watch::channel(false);
    let leaving = app.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        // Not ready first: proxies need a moment to see it and send patients to the other copies.
        leaving.leave();
        tracing::info!(drain_seconds = drain.as_secs(), "leaving");
        tokio::time::sleep(drain).await;
        let _ = stop.send(true); // the server is gone already
        tokio::time::sleep(Duration::from_secs(20)).await;
        tracing::warn!("requests are still open after 20 s; leaving without them");
        std::process::exit(0);
    });
    axum::serve(listener, app.router())
        .with_graceful_shutdown(async move {
            let _ = stopping.wait_for(|stop| *stop).await; // the sender going away is a stop too
        })
        .await
        .context("failed to serve")?;
    tracing::info!("left");
    Ok(())
}
