//! Two replicas, one leader.

use std::sync::Arc;
use std::time::Duration;

use hz_operator::engine::health::Health;
use hz_operator::engine::lease::{Candidate, Timing};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::time::{Instant, timeout};

use crate::lab::{Lab, server};
use crate::server::{ADMIN, OPERATOR};

const QUICK: Timing = Timing {
    duration: Duration::from_secs(2),
    renew_deadline: Duration::from_millis(1300),
    renew_every: Duration::from_millis(300),
    retry_every: Duration::from_millis(200),
};

fn candidate(identity: &str) -> Candidate {
    let client = Client::try_from(server().config(OPERATOR)).unwrap();
    Candidate::new(client, "hz-system", "hz-operator", identity, QUICK, Arc::new(Health::default()))
}

async fn fresh(lab: &Lab) -> Api<Lease> {
    let leases: Api<Lease> = Api::namespaced(Client::try_from(server().config(ADMIN)).unwrap(), "hz-system");
    let _ = lab; // the turn on the server is the lab's
    let _ = leases.delete("hz-operator", &Default::default()).await;
    leases
}

async fn holder(leases: &Api<Lease>) -> String {
    leases.get("hz-operator").await.unwrap().spec.unwrap().holder_identity.unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_leads_and_the_other_waits_until_the_first_is_gone() {
    let lab = Lab::new().await;
    let leases = fresh(&lab).await;
    let (one, two) = (candidate("one"), candidate("two"));
    let lease = timeout(Duration::from_secs(3), one.acquire()).await.expect("the first leads at once");
    let keeping = tokio::spawn({
        let one = one.clone();
        async move { one.keep(lease).await }
    });
    assert!(
        timeout(Duration::from_secs(4), two.acquire()).await.is_err(),
        "twice the duration, and the first still leads"
    );
    assert_eq!(holder(&leases).await, "one");

    keeping.abort(); // killed: it cannot even say goodbye
    let since = Instant::now();
    timeout(Duration::from_secs(6), two.acquire()).await.expect("the second takes over");
    assert!(since.elapsed() >= Duration::from_millis(1500), "not before the lease has run out: {:?}", since.elapsed());
    let lease = leases.get("hz-operator").await.unwrap().spec.unwrap();
    assert_eq!((lease.holder_identity.as_deref(), lease.lease_transitions), (Some("two"), Some(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_leaves_in_peace_is_followed_at_once() {
    let lab = Lab::new().await;
    let leases = fresh(&lab).await;
    let (one, two) = (candidate("one"), candidate("two"));
    one.acquire().await;
    let waiting = tokio::spawn(async move { two.acquire().await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    let since = Instant::now();
    one.release().await;
    waiting.await.unwrap();
    assert!(since.elapsed() < Duration::from_secs(1), "{:?}", since.elapsed());
    assert_eq!(holder(&leases).await, "two");
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_that_disagree_neither_rob_nor_block() {
    let lab = Lab::new().await;
    let leases = fresh(&lab).await;
    let one = candidate("one");
    let lease = one.acquire().await;
    let keeping = tokio::spawn({
        let one = one.clone();
        async move { one.keep(lease).await }
    });
    // The leader's clock is years behind: its stamps look long run out, and still it leads.
    let stale = json!({"spec": {"renewTime": "2001-01-01T00:00:00.000000Z"}});
    leases.patch("hz-operator", &PatchParams::default(), &Patch::Merge(&stale)).await.unwrap();
    let two = candidate("two");
    assert!(timeout(Duration::from_millis(1500), two.acquire()).await.is_err());
    keeping.abort();
    // A dead leader whose clock ran years ahead is followed all the same.
    let ahead = json!({"spec": {"renewTime": "2099-01-01T00:00:00.000000Z"}});
    leases.patch("hz-operator", &PatchParams::default(), &Patch::Merge(&ahead)).await.unwrap();
    timeout(Duration::from_secs(6), two.acquire()).await.expect("the second takes over");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_robbed_stops_at_its_next_renewal() {
    let lab = Lab::new().await;
    let leases = fresh(&lab).await;
    let one = candidate("one");
    let lease = one.acquire().await;
    let rob = json!({"spec": {"holderIdentity": "somebody"}});
    leases.patch("hz-operator", &PatchParams::default(), &Patch::Merge(&rob)).await.unwrap();
    timeout(Duration::from_secs(2), one.keep(lease)).await.expect("it stops");
    assert_eq!(holder(&leases).await, "somebody");
}
