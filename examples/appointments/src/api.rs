//! The HTTP interface.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::json;

use crate::appointment::{Appointment, is_id, words};
use crate::cache::Cache;
use crate::config::Config;
use crate::problem::{FieldError, Problem};
use crate::store::{Store, Unavailable};

const X_CACHE: HeaderName = HeaderName::from_static("x-cache");

/// The service. Cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Parts>);

struct Parts {
    store: Store,
    cache: Cache,
    prepared: AtomicBool,
    leaving: AtomicBool,
}

#[derive(Deserialize)]
struct Search {
    patient: Option<String>,
}

impl App {
    /// A service with these settings. It connects when it is asked something.
    pub fn new(config: Config) -> Self {
        App(Arc::new(Parts {
            store: Store::new(config.database, config.database_tls, config.database_connections),
            cache: Cache::new(config.cache),
            prepared: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
        }))
    }

    /// Makes the table as soon as the database is there. Not ready before.
    pub fn prepare_in_background(&self) {
        let app = self.clone();
        tokio::spawn(async move {
            while app.0.store.prepare().await.is_err() {
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
            app.0.prepared.store(true, Ordering::Relaxed);
            tracing::info!("the table is there");
        });
    }

    /// From now on it is not ready.
    pub fn leave(&self) {
        self.0.leaving.store(true, Ordering::Relaxed);
    }

    /// All routes.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/appointments", get(find).post(book))
            .route("/appointments/{id}", get(read).delete(cancel))
            .layer(middleware::from_fn(log))
            .route("/livez", get(async || "ok"))
            .route("/readyz", get(readyz))
            .fallback(async || Problem::new(StatusCode::NOT_FOUND, "there is nothing here; try /appointments"))
            .method_not_allowed_fallback(async || {
                Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this method does not fit here")
            })
            .layer(DefaultBodyLimit::max(16 * 1024))
            .with_state(self.clone())
    }
}

impl From<Unavailable> for Problem {
    fn from(_: Unavailable) -> Self {
        Problem::unavailable()
    }
}

async fn book(
    State(app): State<App>,
    body: Result<Bytes, axum::extract::rejection::BytesRejection>,
) -> Result<Response, Problem> {
    let body = body.map_err(|rejection| Problem::new(rejection.status(), rejection.body_text()))?;
    let booked = Appointment::from_request(&body).map_err(Problem::fields)?;
    app.0.store.add(&booked).await?;
    let location = format!("/appointments/{}", booked.id);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(booked)).into_response())
}

async fn read(State(app): State<App>, Path(id): Path<String>) -> Result<Response, Problem> {
    if !is_id(&id) {
        return Err(Problem::not_found());
    }
    if let Some(appointment) = app.0.cache.get(&id).await {
        return Ok(([(X_CACHE, "hit")], Json(appointment)).into_response());
    }
    let appointment = app.0.store.get(&id).await?.ok_or_else(Problem::not_found)?;
    app.0.cache.put(&appointment).await;
    Ok(([(X_CACHE, "miss")], Json(appointment)).into_response())
}

async fn find(State(app): State<App>, Query(search): Query<Search>) -> Result<Json<Vec<Appointment>>, Problem> {
    let wrong = |detail: String| Problem::fields(vec![FieldError::new("patient", detail)]);
    let patient = search.patient.ok_or_else(|| wrong("is required: /appointments?patient=P-1001".into()))?;
    let patient = words(&patient, 64).map_err(wrong)?;
    Ok(Json(app.0.store.of_patient(&patient).await?))
}

async fn cancel(State(app): State<App>, Path(id): Path<String>) -> Result<StatusCode, Problem> {
    if !is_id(&id) || !app.0.store.remove(&id).await? {
        return Err(Problem::not_found());
    }
    if !app.0.cache.forget(&id).await {
        tracing::warn!("a removed appointment may be read from the cache until its entry ends");
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Ready when the database answers. The cache is told of, but not waited for: without it we only get slower.
async fn readyz(State(app): State<App>) -> Response {
    let parts = &app.0;
    let (database, cache) = tokio::join!(parts.store.ready(), parts.cache.ready());
    let (prepared, leaving) = (parts.prepared.load(Ordering::Relaxed), parts.leaving.load(Ordering::Relaxed));
    let code = if database && prepared && !leaving { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(json!({ "database": database, "table": prepared, "cache": cache, "leaving": leaving }))).into_response()
}

/// One line a request, without ids and query: who is whose patient does not belong into logs.
async fn log(request: Request, next: Next) -> Response {
    let (method, begun) = (request.method().clone(), Instant::now());
    let route = if request.uri().path() == "/appointments" { "/appointments" } else { "/appointments/{id}" };
    let response = next.run(request).await;
    let (status, cache) = (response.status().as_u16(), response.headers().get(X_CACHE).and_then(|v| v.to_str().ok()));
    tracing::info!(%method, route, status, cache, ms = begun.elapsed().as_millis() as u64, "request");
    response
}
