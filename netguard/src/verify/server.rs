//! What a verify pod answers.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::StatusCode,
    routing::{get, post},
};
use tokio::{net::TcpListener, sync::watch};

use super::report::Report;

/// How much goes each way in a visit: many packets of full size, so that a wrong MTU on the way is found.
pub const PADDING: usize = 24 * 1024;

type Latest = watch::Receiver<Arc<Report>>;

/// Serve `/visit`, `/report` and `/ready`.
pub async fn serve(listen: SocketAddr, node: String, latest: Latest) -> std::io::Result<()> {
    serve_on(TcpListener::bind(listen).await?, node, latest).await
}

/// The same on a socket that is open.
pub async fn serve_on(listener: TcpListener, node: String, latest: Latest) -> std::io::Result<()> {
    let answer = Bytes::from(format!("{node}\n{}", ".".repeat(PADDING)));
    let app = Router::new()
        // Taking the body makes the visitor's large packets count.
        .route("/visit", post(move |_: Bytes| async move { answer }))
        .route("/report", get(|State(latest): State<Latest>| async move { Json(Report::clone(&latest.borrow())) }))
        .route(
            "/ready",
            get(|State(latest): State<Latest>| async move {
                if latest.borrow().ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
            }),
        )
        .with_state(latest);
    axum::serve(listener, app).await
}
