//! The one way to the API server: a client that counts what it is asked to do.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Method, Request, Response};
use kube::Client;
use kube::client::{Body, ClientBuilder};
use tower::{Layer, Service};

use super::metrics::Metrics;

/// A client whose every call shows up in `metrics`.
pub fn counted(mut config: kube::Config, metrics: &Arc<Metrics>) -> Result<Client, kube::Error> {
    // A call that hangs longer than this is lost; watches end by themselves well before.
    config.read_timeout = Some(std::time::Duration::from_secs(150));
    config.connect_timeout = Some(std::time::Duration::from_secs(5));
    let builder = ClientBuilder::try_from(config)?;
    Ok(builder.with_layer(&Counting::new(metrics)).build())
}

/// Counts calls by verb and status code.
#[derive(Clone, Debug)]
pub struct Counting {
    metrics: Arc<Metrics>,
}

impl Counting {
    /// Counts into `metrics`.
    pub fn new(metrics: &Arc<Metrics>) -> Self {
        Self { metrics: Arc::clone(metrics) }
    }
}

/// The counting half of the stack.
#[derive(Clone, Debug)]
pub struct Counted<S> {
    inner: S,
    metrics: Arc<Metrics>,
}

impl<S> Layer<S> for Counting {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Counted { inner, metrics: Arc::clone(&self.metrics) }
    }
}

impl<S, B> Service<Request<Body>> for Counted<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let verb = verb(&request);
        let metrics = Arc::clone(&self.metrics);
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            metrics.called(verb, answer.as_ref().map_or(0, |response| response.status().as_u16()));
            answer
        })
    }
}

/// The API's word for what a request does.
pub fn verb<B>(request: &Request<B>) -> &'static str {
    let watches = request.uri().query().is_some_and(|query| query.split('&').any(|part| part.starts_with("watch=")));
    match *request.method() {
        Method::GET if watches => "watch",
        Method::GET => "get",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(method: Method, uri: &str) -> &'static str {
        verb(&Request::builder().method(method).uri(uri).body(()).unwrap())
    }

    #[test]
    fn a_watch_is_told_from_a_read() {
        assert_eq!(asked(Method::GET, "/api/v1/pods?limit=500"), "get");
        assert_eq!(asked(Method::GET, "/api/v1/pods?&watch=true&timeoutSeconds=120"), "watch");
        assert_eq!(asked(Method::PATCH, "/api/v1/pods/x"), "patch");
    }
}
