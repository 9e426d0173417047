//! The loop: whenever nodes or the kernel change, compare the plan with what is there and mend the difference.
//!
//! Nothing is remembered between passes but the listing of our nftables table. A netguard that ends leaves everything in
//! place, so that traffic flows on while it is replaced.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tracing::{info, warn};

use crate::{
    diff::{Change, diff},
    health::{Health, Pass},
    kernel::{self, CniFile, Kernel, NatTable, Sysctls, Watch},
    node::{Family, Node},
    plan::{Desired, Settings, plan},
    source::Nodes,
};

/// News come in swarms; wait for the rest.
const SETTLE: Duration = Duration::from_millis(100);
/// First and longest wait after a pass that failed.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// Rounds in one pass: a link that is made anew shows its true state only afterwards.
const ROUNDS: usize = 3;

/// The agent of one node.
pub struct Agent {
    /// Name of this node.
    pub node: String,
    /// What the site chose.
    pub settings: Settings,
    /// Routes and links.
    pub kernel: Kernel,
    /// Translation of packets that leave.
    pub table: NatTable,
    /// The file for the container runtime; none where somebody else writes it.
    pub cni: Option<CniFile>,
    /// Kernel switches.
    pub switches: Sysctls,
    /// Where outcomes are told.
    pub health: Arc<Health>,
    /// How often to look although nothing was heard of: others may flush nftables, which tells no one on our socket.
    pub look: Duration,
}

impl Agent {
    /// Work until the source of nodes ends.
    pub async fn run(mut self, mut nodes: watch::Receiver<Nodes>) -> Result<(), kernel::Error> {
        let mut news = kernel::watch()?;
        let mut told = vec![];
        let mut wait = RETRY.0;
        loop {
            let known = nodes.borrow_and_update().clone();
            let pause = match known {
                None => self.look,
                Some(known) => {
                    news.forget();
                    let pass = self.pass(&known).await;
                    tell(&pass, &mut told);
                    let ready = pass.problems.is_empty();
                    self.health.record(pass);
                    wait = if ready { RETRY.0 } else { (wait * 2).min(RETRY.1) };
                    if ready { self.look } else { wait }
                }
            };
            if !self.wait(&mut nodes, &mut news, pause).await {
                return Ok(());
            }
        }
    }

    /// Wait for a reason to look again. False when there will be no more nodes.
    async fn wait(&self, nodes: &mut watch::Receiver<Nodes>, news: &mut Watch, pause: Duration) -> bool {
        tokio::select! {
            changed = nodes.changed() => return changed.is_ok(),
            heard = news.news() => {
                if heard.is_none() {
                    sleep(self.look).await; // deaf: only looking is left
                }
                sleep(SETTLE).await;
            }
            () = sleep(pause) => {}
        }
        true
    }

    /// Compare and mend once.
    pub async fn pass(&mut self, nodes: &[Node]) -> Pass {
        let begun = Instant::now();
        let mut pass = Pass::default();
        match self.want(nodes).await {
            Ok(desired) => self.mend(&desired, &mut pass).await,
            Err(why) => pass.problems.push(why),
        }
        pass.took = begun.elapsed();
        pass
    }

    /// What must be there.
    pub async fn want(&self, nodes: &[Node]) -> Result<Desired, String> {
        let around = self.kernel.surroundings(nodes, &self.node).await.map_err(|error| chain(&error))?;
        plan(nodes, &self.node, &around, &self.settings).map_err(|unplannable| unplannable.to_string())
    }

    async fn mend(&mut self, desired: &Desired, pass: &mut Pass) {
        pass.peers = desired.peers;
        pass.problems.extend(desired.problems.iter().map(ToString::to_string));
        let families = desired.cni.ranges.iter().map(Family::of_range);
        match self.switches.ensure(families) {
            Ok(changed) => changed.iter().for_each(|switch| info!(%switch, "kernel switch set")),
            Err(error) => pass.problems.push(chain(&error)),
        }
        self.mend_kernel(desired, pass).await;
        match self.table.reconcile(desired.masquerade.as_ref()).await {
            Ok(written) => pass.table_written = written,
            Err(error) => pass.problems.push(chain(&error)),
        }
        // Last: with this file the node becomes Ready and pods start.
        if let Some(cni) = &self.cni {
            match cni.reconcile(&desired.cni) {
                Ok(written) => pass.cni_written = written,
                Err(error) => pass.problems.push(chain(&error)),
            }
            pass.problems.extend(cni.shadowed_by().map(|file| {
                format!("the container runtime takes {file} before our CNI configuration; remove it from this host")
            }));
        }
    }

    async fn mend_kernel(&self, desired: &Desired, pass: &mut Pass) {
        let mut failed = vec![];
        for _ in 0..ROUNDS {
            let actual = match self.kernel.actual().await {
                Ok(actual) => actual,
                Err(error) => return pass.problems.push(chain(&error)),
            };
            let diff = diff(&actual, &desired.items);
            if diff.changes.is_empty() {
                pass.problems.extend(diff.blocked.iter().map(|(wanted, other)| {
                    format!(
                        "the place of our {} is taken by a {} that is not ours; remove it from this host",
                        crate::state::Item::Route(wanted.clone()),
                        crate::state::Item::Route(other.clone()),
                    )
                }));
                return;
            }
            failed.clear();
            for change in &diff.changes {
                match self.kernel.make(change).await {
                    Ok(()) => {
                        pass.changes += 1;
                        log(change);
                    }
                    Err(error) => failed.push(chain(&error)),
                }
            }
        }
        if failed.is_empty() {
            failed.push("the kernel does not keep what netguard puts there; does another program remove it?".into());
        }
        pass.problems.append(&mut failed);
    }
}

/// Take away all that netguard ever made on this host.
pub async fn cleanup(kernel: &Kernel, table: &mut NatTable, cni: Option<&CniFile>) -> Result<usize, kernel::Error> {
    let mut count = 0;
    for change in diff(&kernel.actual().await?, &Default::default()).changes {
        kernel.make(&change).await?;
        log(&change);
        count += 1;
    }
    count += usize::from(table.reconcile(None).await?);
    if let Some(cni) = cni {
        count += usize::from(cni.remove()?);
    }
    Ok(count)
}

/// Wait until the nodes are known, at most so long.
pub async fn first_nodes(nodes: &mut watch::Receiver<Nodes>, patience: Duration) -> Option<Arc<Vec<Node>>> {
    timeout(patience, nodes.wait_for(Option::is_some)).await.ok()?.ok()?.clone()
}

fn log(change: &Change) {
    match change {
        Change::Add(item) => info!("made {item}"),
        Change::Set { to, .. } => info!("changed to {to}"),
        Change::Recreate { to, .. } => info!("made anew {to}"),
        Change::Remove(item) => info!("removed {item}"),
    }
}

/// Say what is new, once.
fn tell(pass: &Pass, told: &mut Vec<String>) {
    for problem in pass.problems.iter().filter(|problem| !told.contains(problem)) {
        warn!("{problem}");
    }
    if pass.problems.is_empty() && (!told.is_empty() || pass.changes > 0 || pass.cni_written) {
        info!(direct = pass.peers.direct, tunnel = pass.peers.tunnel, "the ways to all nodes are in place");
    }
    told.clone_from(&pass.problems);
}

/// An error with all that caused it.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
