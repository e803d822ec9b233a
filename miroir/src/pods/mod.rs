//! PODS: several processes as one.
//!
//! All pods answer reads. One of them, elected by a lease, *leads*: it alone changes anything, in
//! the stores and on nodes, and follows tasks, repairs replicas and tells webhooks. The others
//! pass on to it what changes something, so that clients may talk to any of them.
//!
//! # Why reads are right on every pod
//! What a pod answers by (the catalogue, stale replicas, keys) it keeps in memory, with the *epoch*
//! it has read. The leader raises the epoch when it changed any of that, and goes on only once every
//! pod has reported the new epoch or its last *word* has run out ([`Shared::announce`]). A pod
//! answers reads only while its word counts, and looks again before it sends an answer. So nobody is
//! told of a change, and then reads without it somewhere else.
//!
//! # Why changes are right
//! Two leaders at a time are impossible by the clock of the store, and harmless where a process is
//! held up: it finds its term over when it goes on, its store refuses what it still wants to change
//! ([`crate::store::Fence`]), and what it may have sent to a node late it leaves a note about, so
//! that the replica catches up.
//!
//! A term begins as a process does: with what tasks and catalogue say was left unfinished.
//!
//! # Metrics
//! `miroir_leader{scope}`, `miroir_leader_terms_total{scope}`, `miroir_pod_epoch`,
//! `miroir_pod_in_touch`, `miroir_epoch_wait_seconds`, `miroir_late_writes_total`.

mod follow;
mod lead;
mod notes;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use miroir_api::NodeId;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::cluster::Shared;
use crate::error::Error;
use crate::store::{PodReport, StoreError};

pub use follow::{PodOptions, follow};
pub use lead::{Leader, Start};
pub(crate) use notes::Note;

/// How often the leader looks whether the others have seen a change.
const LOOK: Duration = Duration::from_millis(10);

#[derive(Debug)]
enum Standing {
    /// There is nobody else.
    Alone,
    /// Elected; `open` once it has taken over what was left. Until then it answers by what it read
    /// before, as long as that may be believed.
    Leads { fence: u64, until: Instant, open: bool, word: Option<Instant> },
    /// `until`: how long what this pod has read may be believed.
    Follows { until: Option<Instant> },
}

/// What this pod may do, and whom to ask for the rest.
#[derive(Debug)]
pub struct Office {
    name: String,
    pod: String,
    standing: ArcSwap<Standing>,
    /// What the leader says of itself.
    leader: ArcSwap<Option<PodReport>>,
    /// The epoch that was read, plus one; 0: none.
    seen: AtomicU64,
    /// Ends what belongs to a term.
    term: ArcSwap<CancellationToken>,
    /// Held by everything that changes something.
    at_work: Arc<()>,
}

impl Default for Office {
    fn default() -> Self {
        Self::with(String::new(), String::new(), Standing::Alone)
    }
}

/// Something is being changed while this lives.
#[derive(Clone, Debug)]
pub struct AtWork(#[allow(dead_code, reason = "it is counted")] Arc<()>);

impl Office {
    fn with(name: String, pod: String, standing: Standing) -> Self {
        Self {
            name,
            pod,
            standing: ArcSwap::from_pointee(standing),
            leader: ArcSwap::default(),
            seen: AtomicU64::new(0),
            term: ArcSwap::default(),
            at_work: Arc::new(()),
        }
    }

    /// One of several pods, which may neither answer nor change anything until it has read the store or
    /// was elected. `pod` is the stable name of the deployment, `name` is unique to this process.
    #[must_use]
    pub fn shared(name: String, pod: String) -> Self {
        Self::with(name, pod, Standing::Follows { until: None })
    }

    /// Its name; empty for one that is alone.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether there may be other pods.
    pub fn is_shared(&self) -> bool {
        !self.name.is_empty()
    }

    /// Whether this pod changes things itself.
    pub fn leads(&self) -> bool {
        match **self.standing.load() {
            Standing::Alone => true,
            Standing::Leads { until, open, .. } => open && Instant::now() < until,
            Standing::Follows { .. } => false,
        }
    }

    /// The fence of its lease, while it is in force.
    pub fn fence(&self) -> Option<u64> {
        match **self.standing.load() {
            Standing::Leads { fence, until, .. } if Instant::now() < until => Some(fence),
            _ => None,
        }
    }

    /// Whether anything may be changed, on nodes in particular.
    ///
    /// # Errors
    /// `miroir_no_leader` if this pod does not lead.
    pub fn may_change(&self) -> Result<(), Error> {
        match **self.standing.load() {
            Standing::Alone => Ok(()),
            Standing::Leads { until, .. } if Instant::now() < until => Ok(()),
            _ => Err(Error::no_leader()),
        }
    }

    /// Whether what this pod has read may be believed.
    ///
    /// # Errors
    /// `miroir_out_of_touch` if not.
    pub fn in_touch(&self) -> Result<(), Error> {
        let until = match **self.standing.load() {
            Standing::Alone => return Ok(()),
            Standing::Leads { until, open: true, .. } => Some(until),
            Standing::Leads { word, .. } => word,
            Standing::Follows { until } => until,
        };
        if until.is_some_and(|until| Instant::now() < until) {
            return Ok(());
        }
        Err(Error::api(
            "miroir_out_of_touch",
            "This pod has not heard from the store for too long to know what is current. It tries \
             again all the time; retry, or ask another pod.",
        ))
    }

    /// Where the leader is reached, if there is one.
    pub fn leader(&self) -> Option<String> {
        self.leader.load().as_ref().as_ref().map(|leader| leader.address.clone())
    }

    /// Whether the leader reads from a node; `None` if nobody says.
    pub fn leader_reads(&self, node: &NodeId) -> Option<bool> {
        self.leader.load().as_ref().as_ref().map(|leader| leader.readable.contains(node))
    }

    /// A token that is canceled when the current term ends.
    pub fn term(&self) -> CancellationToken {
        CancellationToken::clone(&self.term.load())
    }

    /// Marks a change as under way until the returned guard is dropped. A term does not begin while this
    /// process still works for an earlier one.
    pub fn work(&self) -> AtWork {
        AtWork(Arc::clone(&self.at_work))
    }

    fn seen(&self) -> Option<u64> {
        self.seen.load(Ordering::Acquire).checked_sub(1)
    }

    fn saw(&self, epoch: Option<u64>) {
        self.seen.store(epoch.map_or(0, |epoch| epoch + 1), Ordering::Release);
    }
}

impl Shared {
    /// Waits until every pod knows what this one has just changed.
    ///
    /// # Errors
    /// If the store fails, or this pod no longer leads. The client must not be told then that the change
    /// was made.
    pub async fn announce(&self) -> Result<(), StoreError> {
        if !self.office.is_shared() {
            return Ok(());
        }
        let begun = Instant::now();
        let epoch = self.stores.pods.raise().await?;
        loop {
            let roster = self.stores.pods.roster(crate::clock::now()).await?;
            let me = self.office.name();
            let behind = |pod: &PodReport| pod.name != me && pod.seen.is_none_or(|e| e < epoch);
            if !roster.pods.iter().any(behind) {
                break;
            }
            if self.office.fence().is_none() {
                return Err(StoreError::Deposed);
            }
            sleep(LOOK).await;
        }
        metrics::histogram!("miroir_epoch_wait_seconds").record(begun.elapsed());
        Ok(())
    }

    /// Tells the other pods to read what this one has just changed, without waiting: their answers are
    /// right without it.
    pub(crate) async fn tell_later(&self) -> Result<(), StoreError> {
        if self.office.is_shared() {
            self.stores.pods.raise().await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
