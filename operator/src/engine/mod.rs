//! Everything between a pure decision and the API server. Knows our kinds only by the labels and references they stamp.

pub mod apply;
pub mod backoff;
pub mod certificates;
pub mod client;
pub mod differ;
pub mod error;
pub mod health;
pub mod kinds;
pub mod lease;
pub mod listed;
pub mod metrics;
pub mod owner;
pub mod report;
pub mod run;
pub mod secrets;
pub mod standing;
pub mod watches;
pub mod world;

use std::sync::Arc;

use hz_crds::plan::Plan;
use kube::Client;

pub use apply::Changes;
pub use error::Error;
pub use metrics::Metrics;
pub use report::Ours;
pub use world::World;

/// The operator's hands.
pub struct Engine {
    /// The way to the API server.
    pub client: Client,
    /// What the cluster looks like.
    pub world: Arc<World>,
    /// Numbers about ourselves.
    pub metrics: Arc<Metrics>,
    /// Status and events.
    pub reporter: report::Reporter,
    /// Secrets, read when their version changed.
    pub secrets: secrets::Secrets,
    /// Which of our kinds have been seen as a whole.
    pub listed: listed::Listed,
}

impl Engine {
    /// Hands that know nothing yet.
    pub fn new(client: Client, world: Arc<World>, metrics: Arc<Metrics>, instance: Option<String>) -> Self {
        Self {
            reporter: report::Reporter::new(client.clone(), Arc::clone(&metrics), instance),
            secrets: secrets::Secrets::new(client.clone(), Arc::clone(&world)),
            listed: listed::Listed::default(),
            client,
            world,
            metrics,
        }
    }

    /// Makes the cluster hold what the plan says.
    pub async fn apply(&self, plan: Plan) -> Result<Changes, Error> {
        apply::apply(&self.client, &self.world, plan).await
    }
}
