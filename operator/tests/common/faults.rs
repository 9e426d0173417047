//! A client that dies at its k-th write, as a process that is killed would.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use hz_operator::engine::client::{Counting, verb};
use hz_operator::engine::metrics::Metrics;
use kube::client::{Body, ClientBuilder};
use tokio::sync::Notify;
use tower::{Layer, Service};

/// When to die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// Before the k-th write leaves.
    Before(usize),
    /// After the server has it, before its answer is heard.
    After(usize),
}

/// Counts writes and pulls the plug.
#[derive(Clone)]
pub struct Plug {
    writes: Arc<AtomicUsize>,
    pulled: Arc<Notify>,
    death: Option<Death>,
}

impl Plug {
    /// A plug that is pulled at `death`, or never.
    pub fn new(death: Option<Death>) -> Self {
        Self { writes: Arc::default(), pulled: Arc::default(), death }
    }

    /// Resolves when the plug is pulled.
    pub async fn pulled(&self) {
        self.pulled.notified().await;
    }

    /// A client on this plug.
    pub fn client(&self, config: kube::Config, metrics: &Arc<Metrics>) -> kube::Client {
        let builder = ClientBuilder::try_from(config).expect("a client");
        builder.with_layer(&Counting::new(metrics)).with_layer(self).build()
    }
}

impl<S> Layer<S> for Plug {
    type Service = Plugged<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Plugged { inner, plug: self.clone() }
    }
}

/// A stack on a plug.
#[derive(Clone)]
pub struct Plugged<S> {
    inner: S,
    plug: Plug,
}

impl<S> Service<http::Request<Body>> for Plugged<S>
where
    S: Service<http::Request<Body>>,
    S::Future: Send + 'static,
    S::Response: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let plug = self.plug.clone();
        let is_write = matches!(verb(&request), "create" | "update" | "patch" | "delete");
        let number = if is_write { plug.writes.fetch_add(1, Ordering::SeqCst) + 1 } else { 0 };
        let dead = is_write
            && match plug.death {
                Some(Death::Before(k)) => number >= k,
                Some(Death::After(k)) => number > k, // a dead process writes nothing more
                None => false,
            };
        if dead {
            plug.pulled.notify_one();
            return Box::pin(std::future::pending());
        }
        let last = is_write && plug.death == Some(Death::After(number));
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            if last {
                plug.pulled.notify_one();
                std::future::pending::<()>().await;
            }
            answer
        })
    }
}
