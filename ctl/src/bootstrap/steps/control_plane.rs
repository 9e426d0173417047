//! Further control planes, in three parts: certificates on all of them at once, etcd one after the other, the rest
//! at once again. Only etcd has to go in turn: it takes one learner at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::future::BoxFuture;

use super::join::{self, Member};
use crate::bootstrap::connect;
use crate::bootstrap::decide::Join;
use crate::bootstrap::fault::Fault;
use crate::bootstrap::graph::{Plan, Work};
use crate::bootstrap::server::Server;
use crate::bootstrap::site::Site;
use crate::node::types::Member as EtcdMember;

/// A control plane while it joins. Its parts share what they know of each other.
pub struct Joining {
    member: Member,
    /// A try failed after certificates were made, so that the next one begins with undoing it.
    torn: AtomicBool,
    /// It is a member of etcd since this run.
    voted: AtomicBool,
}

impl Joining {
    /// Nothing done yet.
    pub fn new(server: Arc<Server>) -> Arc<Self> {
        Arc::new(Joining { member: Member(server), torn: AtomicBool::new(false), voted: AtomicBool::new(false) })
    }

    fn server(&self) -> &Arc<Server> {
        &self.member.0
    }

    /// What is to be undone first, if it is to join at all.
    fn wanted(&self, site: &Site) -> Option<Option<String>> {
        if self.voted.load(Ordering::Relaxed) {
            return None;
        }
        match self.member.decide(site) {
            Some(Join::Redo(why)) => Some(Some(why)),
            Some(Join::Fresh) | None => Some(None),
            Some(Join::Done | Join::Wake | Join::Finish) => None,
        }
    }

    async fn certificates(&self, site: &Site) -> Result<(), Fault> {
        join::token(site).await?;
        if matches!(self.member.decide(site), Some(Join::Redo(_))) {
            self.member.undo(site).await?;
        }
        self.member.files(site, true).await?;
        let wanted = ["control-plane-prepare/certs", "control-plane-prepare/kubeconfig"];
        self.member.phases(site, "failed to make the certificates of the control plane", &wanted).await
    }

    async fn etcd(&self, site: &Site) -> Result<(), Fault> {
        if self.torn.load(Ordering::Relaxed) {
            connect::refresh(site, self.server()).await?;
            join::relook(site).await?;
            self.certificates(site).await?;
        }
        // Without an API server yet: started beside a member that still learns, it would fail, and be held back by
        // the kubelet for longer and longer before it is tried again.
        let wanted = ["kubelet-start", "etcd-join"];
        let result = self.member.phases(site, "failed to join etcd", &wanted).await;
        self.torn.store(result.is_err(), Ordering::Relaxed);
        result
    }
}

impl Joining {
    async fn rest(&self, site: &Site) -> Result<(), Fault> {
        let act = "failed to finish the control plane";
        self.member.phases(site, act, &["control-plane-prepare/control-plane"]).await?;
        // The kubelet asked for its certificate before there was anybody to give it, and waits longer after each
        // refusal. Started anew, it asks at once.
        let () = self.server().node("failed to wait for the API server", &["apiserver-ready", "180"], &()).await?;
        self.member.wake().await?;
        self.member.phases(site, act, &["kubelet-wait-bootstrap", "control-plane-join", "wait-control-plane"]).await
    }
}

/// Certificates and kubeconfigs of a control plane.
pub struct Certificates(pub Arc<Joining>);

impl Work for Certificates {
    fn probe<'a>(&'a self, site: &'a Site) -> BoxFuture<'a, Result<Plan, Fault>> {
        Box::pin(async move {
            Ok(match self.0.wanted(site) {
                None => Plan::Nothing,
                Some(None) => Plan::Do(vec!["make the certificates of a control plane".into()]),
                Some(Some(why)) => Plan::Do(vec![
                    format!("undo a join that was cut off: {why}"),
                    "make the certificates of a control plane".into(),
                ]),
            })
        })
    }

    fn act<'a>(&'a self, site: &'a Site) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            let result = self.0.certificates(site).await;
            if result.is_err() {
                // What the failed try left decides how the next one begins.
                let _ = connect::refresh(site, self.0.server()).await;
                let _ = join::relook(site).await;
            }
            result
        })
    }
}

/// Membership in etcd, in turn.
pub struct Etcd(pub Arc<Joining>);

impl Work for Etcd {
    fn probe<'a>(&'a self, site: &'a Site) -> BoxFuture<'a, Result<Plan, Fault>> {
        Box::pin(async move {
            Ok(match self.0.wanted(site) {
                None => Plan::Nothing,
                Some(_) => Plan::Do(vec!["join etcd (kubeadm join)".into()]),
            })
        })
    }

    fn act<'a>(&'a self, site: &'a Site) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(self.0.etcd(site))
    }

    fn verify<'a>(&'a self, site: &'a Site) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            let act = "the control plane joined etcd and does not vote there";
            let (api, _) = site.api().ok_or_else(|| Fault::transient(act, "the API is not known"))?;
            let through = site.server(&api.through);
            let members: Vec<EtcdMember> = through.node(act, &["etcd-members"], &()).await?;
            let member = crate::bootstrap::decide::member_of(&members, &self.0.server().spec);
            if member.is_some_and(|member| !member.learner && !member.name.is_empty()) {
                self.0.voted.store(true, Ordering::Relaxed);
                return Ok(());
            }
            self.0.torn.store(true, Ordering::Relaxed);
            Err(Fault::transient(act, "it is still learning").on(self.0.server().name()))
        })
    }
}

/// What remains once it votes: its kubelet's identity, its labels, its components up.
pub struct Rest(pub Arc<Joining>);

impl Work for Rest {
    fn probe<'a>(&'a self, site: &'a Site) -> BoxFuture<'a, Result<Plan, Fault>> {
        Box::pin(async move {
            if self.0.voted.load(Ordering::Relaxed) {
                return Ok(Plan::Do(vec!["finish the control plane".into()]));
            }
            match self.0.wanted(site) {
                // Told by the steps before.
                Some(_) => Ok(Plan::Do(vec!["join as control plane".into()])),
                None => self.0.member.probe(site).await,
            }
        })
    }

    fn act<'a>(&'a self, site: &'a Site) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            if !self.0.voted.load(Ordering::Relaxed) {
                return self.0.member.act(site).await;
            }
            let result = self.0.rest(site).await;
            if result.is_err() {
                // The next try goes by what is there.
                connect::refresh(site, self.0.server()).await?;
                join::relook(site).await?;
                self.0.voted.store(false, Ordering::Relaxed);
            }
            result
        })
    }

    fn verify<'a>(&'a self, site: &'a Site) -> BoxFuture<'a, Result<(), Fault>> {
        self.0.member.verify(site)
    }
}
