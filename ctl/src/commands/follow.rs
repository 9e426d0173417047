//! Following a piece of work that the operator does to its end, by a watch.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use futures::StreamExt;
use kube::core::NamespaceResourceScope;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, watch_object};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use crate::commands::reach::{Place, chain, refused};
use crate::exit::{ExitStatus, Failure};
use crate::printer::Printer;

pub mod ended;
mod teller;

use teller::Teller;
pub use teller::Told;

/// Redrawn often enough for elapsed seconds and the spinner to look alive.
const FRAME: Duration = Duration::from_millis(120);
/// An API server that restarts, or whose machine is lost, is back or replaced by then.
const SILENCE: Duration = Duration::from_secs(120);
/// A machine that lost its power closes no connection, so a watch that tells nothing for this long is begun anew.
const FRESH: Duration = Duration::from_secs(60);

/// What is followed.
#[derive(Clone, Debug)]
pub struct Work {
    /// What people call it: `operation`.
    pub noun: &'static str,
    /// Where it is.
    pub place: Place,
    /// How to go on without this command.
    pub hint: String,
}

/// Follow it until it has ended. The watch begins anew when it breaks off.
pub async fn to_end<K>(
    client: &Client,
    work: &Work,
    told: impl Fn(&K) -> Told,
    printer: &mut Printer,
) -> Result<K, Failure>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let Work { noun, place, hint } = work;
    printer.farewell().other(format!("{noun} {} goes on without being watched", place.name), hint);
    let api: Api<K> = Api::namespaced(client.clone(), &place.namespace);
    let begin = || Box::pin(watch_object(api.clone(), &place.name).default_backoff());
    let (mut watch, mut heard) = (begin(), Instant::now());
    let mut frame = tokio::time::interval(FRAME);
    let mut teller = Teller::new(noun, place, printer);
    let mut silent: Option<Instant> = None;
    loop {
        tokio::select! {
            seen = watch.next() => match seen {
                Some(Ok(Some(object))) => {
                    (silent, heard) = (None, Instant::now());
                    let told = told(&object);
                    let over = told.phase.is_final();
                    teller.see(told);
                    if over {
                        return Ok(object);
                    }
                }
                Some(Ok(None)) => {
                    return Err(Failure::input(format!("{noun} {} is gone", place.name))
                        .because("somebody deleted it, or what it worked on"));
                }
                Some(Err(error)) => {
                    heard = Instant::now();
                    if let Some(failure) = hopeless(noun, &error) {
                        return Err(failure);
                    }
                    if matches!(error, watcher::Error::WatchError(_)) {
                        // An answer, if only that what we had seen is too old to go on from.
                        continue;
                    }
                    let since = *silent.get_or_insert_with(Instant::now);
                    teller.note("the API server does not answer; trying again");
                    if since.elapsed() > SILENCE {
                        return Err(lost(work, &error));
                    }
                }
                None => return Err(Failure::fault(format!("the watch of the {noun} ended"))),
            },
            _ = frame.tick() => {
                teller.frame();
                if heard.elapsed() > FRESH {
                    (watch, heard) = (begin(), Instant::now());
                }
            }
        }
    }
}

fn lost(work: &Work, error: &watcher::Error) -> Failure {
    Failure::new(ExitStatus::HostFailed, format!("the API server is silent for {} seconds", SILENCE.as_secs()))
        .because(chain(error))
        .hint(format!("the {} goes on without being watched\n{}", work.noun, work.hint))
}

/// Errors that no second try will mend: a missing right, a kind that is not known.
fn hopeless(noun: &str, error: &watcher::Error) -> Option<Failure> {
    let (watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error)) = error else {
        return None;
    };
    matches!(error, kube::Error::Api(status) if [401, 403, 404].contains(&status.code))
        .then(|| refused(format!("failed to watch the {noun}"), error))
}
