//! The runner for work that exactly one pod does at a time.

use std::sync::Arc;
use std::time::Duration;

use miroir_core::options::{AutoBool, Faults, Validate, seconds};
use serde::{Deserialize, Serialize};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use miroir_store::clock;
use miroir_store::{Lease, Leases};

/// `leader_election`: which pod changes things, and runs what one pod runs for all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LeaderElectionOptions {
    /// Whether a pod is elected; `auto` elects one where the store is shared. `false` is for a single
    /// pod over a store of its own.
    pub enabled: AutoBool,
    /// How long a lease lives without renewal. As long a pod answers reads without hearing from the
    /// store, and so long the leader waits for one that died when it changes what all must know.
    #[serde(rename = "lease_ttl_s", with = "seconds")]
    pub lease_ttl: Duration,
    /// Time between two renewals.
    #[serde(rename = "renew_interval_s", with = "seconds")]
    pub renew_interval: Duration,
}

impl Default for LeaderElectionOptions {
    fn default() -> Self {
        Self {
            enabled: AutoBool::Auto,
            lease_ttl: Duration::from_secs(10),
            renew_interval: Duration::from_secs(3),
        }
    }
}

impl Validate for LeaderElectionOptions {
    fn validate(&self, faults: &mut Faults) {
        let (ttl, renew) = (seconds::show(self.lease_ttl), seconds::show(self.renew_interval));
        faults.when(
            self.enabled != AutoBool::Off && self.lease_ttl <= self.renew_interval,
            &["lease_ttl_s", "renew_interval_s"],
            format!("a lease of {ttl} ends before it is renewed after {renew}"),
            "make lease_ttl_s about three times renew_interval_s",
        );
        faults.positive(&[("renew_interval_s", self.renew_interval.is_zero())]);
    }
}

/// Work of whoever is elected.
pub trait ElectedTask: Send + Sync + 'static {
    /// What is elected, as the store and `miroir_leader` name it.
    const SCOPE: &'static str;
    /// Does the work until the term ends; it is cut off then. A task that returns gives the lease
    /// back.
    fn perform(self: Arc<Self>, term: Term) -> impl Future<Output = ()> + Send;
    /// The lease is good until `until`: said when the term begins and whenever it is renewed.
    fn renewed(&self, fence: u64, until: Instant);
    /// The term is over. Said before its work is cut off.
    fn ended(&self);
}

/// A time in leadership.
#[derive(Clone, Debug)]
pub struct Term {
    /// Fencing token: higher than that of any term before.
    pub fence: u64,
    /// Cancelled when it is over.
    pub stop: CancellationToken,
}

/// Who stands for election, and how.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The store in which the lease is taken.
    pub leases: Arc<dyn Leases>,
    /// A name that no other process has, nor the same one after a restart.
    pub holder: String,
    /// How long a lease lives without renewal.
    pub ttl: Duration,
    /// Time between two attempts to get or renew it.
    pub renew: Duration,
}

/// Ends the work of a term whatever ends the runner.
struct TermGuard<'a, D: ElectedTask> {
    task: &'a D,
    stop: CancellationToken,
    work: AbortHandle,
}

impl<D: ElectedTask> Drop for TermGuard<'_, D> {
    fn drop(&mut self) {
        self.task.ended();
        self.stop.cancel();
        self.work.abort();
        metrics::gauge!("miroir_leader", "scope" => D::SCOPE).set(0.0);
    }
}

/// Stands for election until cancelled, and does the task in every term won.
///
/// A lease is believed from the moment its request was *sent*, by a clock that does not jump: a pod
/// that is held up finds its term over when it goes on, before it does anything else.
pub async fn elected<D: ElectedTask>(candidate: Candidate, task: Arc<D>, stop: CancellationToken) {
    metrics::gauge!("miroir_leader", "scope" => D::SCOPE).set(0.0);
    while !stop.is_cancelled() {
        let begun = Instant::now();
        let acquire =
            candidate.leases.acquire(D::SCOPE, &candidate.holder, clock::now(), candidate.ttl);
        match timeout(candidate.ttl, acquire).await {
            Ok(Ok(Some(lease))) => serve(&candidate, &task, lease, begun, &stop).await,
            Ok(Ok(None)) => {}
            Ok(Err(error)) => tracing::warn!(scope = D::SCOPE, %error, "no election"),
            Err(_) => tracing::warn!(scope = D::SCOPE, "no election: the store does not answer"),
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = sleep(candidate.renew) => {}
        }
    }
}

async fn serve<D: ElectedTask>(
    candidate: &Candidate,
    task: &Arc<D>,
    lease: Lease,
    begun: Instant,
    stop: &CancellationToken,
) {
    let mut until = begun + candidate.ttl;
    let term = Term { fence: lease.fence, stop: stop.child_token() };
    tracing::info!(scope = D::SCOPE, fence = lease.fence, "this pod leads");
    metrics::gauge!("miroir_leader", "scope" => D::SCOPE).set(1.0);
    metrics::counter!("miroir_leader_terms_total", "scope" => D::SCOPE).increment(1);
    task.renewed(lease.fence, until);
    let mut work = tokio::spawn(Arc::clone(task).perform(term.clone()));
    let guard = TermGuard { task: &**task, stop: term.stop, work: work.abort_handle() };
    let mut next = Instant::now() + candidate.renew;
    // Whether the lease is given back, and its work is over already.
    let (gives_back, over) = loop {
        tokio::select! {
            biased;
            () = tokio::time::sleep_until(until) => break (false, false),
            () = stop.cancelled() => break (true, false),
            ended = &mut work => {
                if let Err(error) = ended {
                    tracing::error!(scope = D::SCOPE, %error, "the leader's work broke off");
                }
                break (true, true);
            }
            () = tokio::time::sleep_until(next) => {}
        }
        let begun = Instant::now();
        match timeout_at(until, candidate.leases.renew(&lease, clock::now(), candidate.ttl)).await {
            Ok(Ok(true)) => {
                until = begun + candidate.ttl;
                task.renewed(lease.fence, until);
            }
            Ok(Ok(false)) => break (false, false),
            Ok(Err(error)) => tracing::warn!(scope = D::SCOPE, %error, "the lease is not renewed"),
            Err(_) => break (false, false),
        }
        next = Instant::now() + candidate.renew;
    };
    drop(guard);
    if gives_back {
        // Its work has to be over before another's begins.
        if !over {
            let _ = work.await;
        }
        let _ = timeout(candidate.renew, candidate.leases.release(&lease, clock::now())).await;
    }
    tracing::warn!(scope = D::SCOPE, fence = lease.fence, "this pod does not lead any more");
}
