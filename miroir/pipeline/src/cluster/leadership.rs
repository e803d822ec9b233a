//! What this pod may do among several: lead, follow, or be alone.
//!
//! All pods answer reads. One of them, elected by a lease, *leads*: it alone changes anything, in
//! the stores and on nodes. What a pod answers by (the catalogue, stale replicas, keys) it keeps in
//! memory, with the *epoch* it has read. The leader raises the epoch when it changed any of that,
//! and goes on only once every pod has reported the new epoch, or what that pod has read counts no
//! more ([`Leadership::publish_and_wait`]). So nobody is told of a change, and then reads without it
//! somewhere else.
//!
//! Who elects, reports and follows is the control plane; this is what the data plane asks.
//!
//! # Metrics
//! `miroir_epoch_wait_seconds`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use miroir_api::{NodeId, ShardId, TaskUid};
use miroir_store::{Part, PodReport, Pods, StoreError, clock};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::error::Error;

/// How often the leader looks whether the others have seen a change.
const LOOK: Duration = Duration::from_millis(10);

#[derive(Debug)]
enum Role {
    /// There is nobody else.
    Alone,
    /// Elected; `open` once it has taken over what was left. Until then it answers by what it read
    /// before, as long as that is fresh.
    Leads { fence: u64, until: Instant, open: bool, fresh: Option<Instant> },
    /// `fresh`: how long what this pod has read counts as current.
    Follows { fresh: Option<Instant> },
}

/// Why a pod neither answers nor changes anything, whatever it may do otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bar {
    /// The store has other nodes than this process was started with.
    OtherTopology,
    /// Nodes were told of a later topology than the store's: the store is an older copy.
    StoreBehind {
        /// Version of the store's topology.
        version: u64,
        /// Highest version that a node was told.
        told: u64,
    },
}

impl Bar {
    fn error(self) -> Error {
        match self {
            Self::OtherTopology => Error::api(
                "miroir_topology_mismatch",
                "The store has other nodes than this pod was started with, so it would look for \
                 documents in the wrong places. Start it again with the nodes of the others.",
            ),
            Self::StoreBehind { version, told } => Error::api(
                "miroir_store_behind",
                format!(
                    "The store has version {version} of the topology and nodes were told of version \
                     {told}: the store is an older copy, and does not know what happened since. \
                     Restore the newer store; or accept this one with `miroir-ctl topology \
                     accept-store`, or compare it with what the nodes hold first, with `miroir-ctl \
                     topology rebuild`."
                ),
            ),
        }
    }
}

/// Which of several pods this is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodName {
    /// The name of the process: no other process, not even the one before it, has the same.
    pub process: String,
    /// What the deployment calls the pod; stays over restarts.
    pub pod: String,
}

/// What this pod may do, and whom to ask for the rest.
#[derive(Debug)]
pub struct Leadership {
    name: Option<PodName>,
    pods: Option<Arc<dyn Pods>>,
    role: ArcSwap<Role>,
    /// Why nothing is answered or changed.
    bar: ArcSwap<Option<Bar>>,
    /// What the leader says of itself.
    leader: ArcSwap<Option<PodReport>>,
    /// The epoch that was read, plus one; 0: none.
    seen: AtomicU64,
    /// Ends what belongs to a term.
    term: ArcSwap<CancellationToken>,
    /// Held by everything that changes something.
    changes: Arc<()>,
}

impl Default for Leadership {
    /// The leadership of a pod that is alone: it changes everything itself.
    fn default() -> Self {
        Self::with(None, None, Role::Alone)
    }
}

/// Something is being changed while this lives.
#[derive(Clone, Debug)]
pub struct ChangeGuard(#[allow(dead_code, reason = "it is counted")] Arc<()>);

impl Leadership {
    fn with(name: Option<PodName>, pods: Option<Arc<dyn Pods>>, role: Role) -> Self {
        Self {
            name,
            pods,
            role: ArcSwap::from_pointee(role),
            bar: ArcSwap::default(),
            leader: ArcSwap::default(),
            seen: AtomicU64::new(0),
            term: ArcSwap::default(),
            changes: Arc::new(()),
        }
    }

    /// One of several pods over a store that they share. It changes nothing before it is elected,
    /// and answers nothing before it has read what there is.
    #[must_use]
    pub fn shared(name: PodName, pods: Arc<dyn Pods>) -> Self {
        Self::with(Some(name), Some(pods), Role::Follows { fresh: None })
    }

    /// The name of this process; empty for one that is alone.
    pub fn process(&self) -> &str {
        self.name.as_ref().map_or("", |name| &name.process)
    }

    /// The name of this pod; empty for one that is alone.
    pub fn pod(&self) -> &str {
        self.name.as_ref().map_or("", |name| &name.pod)
    }

    /// Whether there may be other pods.
    pub fn is_shared(&self) -> bool {
        self.name.is_some()
    }

    /// Whether this pod changes things itself.
    pub fn leads(&self) -> bool {
        match **self.role.load() {
            Role::Alone => true,
            Role::Leads { until, open, .. } => open && Instant::now() < until,
            Role::Follows { .. } => false,
        }
    }

    /// Whether this pod was elected, its term over or not.
    pub fn is_elected(&self) -> bool {
        matches!(**self.role.load(), Role::Leads { .. })
    }

    /// The fence of its lease, while it is in force.
    pub fn fence(&self) -> Option<u64> {
        match **self.role.load() {
            Role::Leads { fence, until, .. } if Instant::now() < until => Some(fence),
            _ => None,
        }
    }

    fn ensure_open(&self) -> Result<(), Error> {
        self.bar.load().map_or(Ok(()), |bar| Err(bar.error()))
    }

    /// Why nothing is answered or changed, if so.
    pub fn barred(&self) -> Option<Bar> {
        **self.bar.load()
    }

    /// Says why nothing is answered or changed from now on; `None` for no reason any more.
    pub fn bar(&self, why: Option<Bar>) {
        if self.barred() == why {
            return;
        }
        match why {
            Some(why) => tracing::error!(error = %why.error(), "nothing is answered or changed"),
            None => tracing::info!("requests are answered again"),
        }
        self.bar.store(Arc::new(why));
    }

    /// That anything may be changed, on nodes in particular.
    ///
    /// # Errors
    /// `miroir_store_behind` and `miroir_topology_mismatch` where nothing may be;
    /// `miroir_no_leader` if this pod does not lead.
    pub fn ensure_leader(&self) -> Result<(), Error> {
        self.ensure_open()?;
        match **self.role.load() {
            Role::Alone => Ok(()),
            Role::Leads { until, .. } if Instant::now() < until => Ok(()),
            _ => Err(Error::no_leader()),
        }
    }

    /// That what this pod has read counts as current.
    ///
    /// # Errors
    /// As [`Leadership::ensure_leader`] where nothing may be answered;
    /// `miroir_out_of_touch` if not.
    pub fn ensure_fresh(&self) -> Result<(), Error> {
        self.ensure_open()?;
        let until = match **self.role.load() {
            Role::Alone => return Ok(()),
            Role::Leads { until, open: true, .. } => Some(until),
            Role::Leads { fresh, .. } | Role::Follows { fresh } => fresh,
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

    /// Notes what the leader says of itself; `None` where nobody leads.
    pub fn note_leader(&self, leader: Option<PodReport>) {
        self.leader.store(Arc::new(leader));
    }

    /// Ends with the term.
    pub fn term(&self) -> CancellationToken {
        CancellationToken::clone(&self.term.load())
    }

    /// Says that something is being changed until the guard is dropped: a term does not begin
    /// while this process still works for one before.
    pub fn begin_change(&self) -> ChangeGuard {
        ChangeGuard(Arc::clone(&self.changes))
    }

    /// Whether a [`ChangeGuard`] is held.
    pub fn has_changes(&self) -> bool {
        Arc::strong_count(&self.changes) > 1
    }

    /// The epoch this pod has read; `None` before the first.
    pub fn seen(&self) -> Option<u64> {
        self.seen.load(Ordering::Acquire).checked_sub(1)
    }

    /// Notes which epoch this pod has read; `None` for none that counts.
    pub fn note_seen(&self, epoch: Option<u64>) {
        self.seen.store(epoch.map_or(0, |epoch| epoch + 1), Ordering::Release);
    }

    /// What a follower has read counts as current until then. Says nothing to a leader.
    pub fn trust_until(&self, until: Instant) {
        self.role.rcu(|role| match **role {
            Role::Follows { .. } => Arc::new(Role::Follows { fresh: Some(until) }),
            _ => Arc::clone(role),
        });
    }

    /// The lease is held until then, with this fence: a first time, or again.
    pub fn hold_lease(&self, fence: u64, until: Instant) {
        self.role.rcu(|role| {
            let (open, fresh) = match **role {
                Role::Leads { fence: own, open, fresh, .. } if own == fence => (open, fresh),
                Role::Follows { fresh } => (false, fresh),
                _ => (false, None),
            };
            Arc::new(Role::Leads { fence, until, open, fresh })
        });
    }

    /// What was left is taken over: the elected pod leads until `term` is cancelled.
    pub fn begin_term(&self, term: CancellationToken) {
        self.term.store(Arc::new(term));
        self.role.rcu(|role| match **role {
            Role::Leads { fence, until, fresh, .. } => {
                Arc::new(Role::Leads { fence, until, open: true, fresh })
            }
            _ => Arc::clone(role),
        });
    }

    /// The lease is lost: what this pod has in memory may not be what another wrote meanwhile.
    pub fn end_term(&self) {
        self.role.store(Arc::new(Role::Follows { fresh: None }));
        self.note_seen(None);
    }

    /// Another pod leads with a higher fence: the term of this one is over, whatever its own clock
    /// says of the lease. Returns whether it believed to lead.
    pub fn step_down(&self, successor: u64) -> bool {
        let deposed = self.fence().is_some_and(|own| successor > own);
        if deposed {
            self.end_term();
            self.term().cancel();
        }
        deposed
    }

    /// Raises the epoch and waits until every pod knows the parts that this one has just changed.
    ///
    /// # Errors
    /// When the store fails, or this pod leads no longer: then nobody may be told of the change.
    pub async fn publish_and_wait(&self, parts: &[Part]) -> Result<(), StoreError> {
        let Some(pods) = &self.pods else { return Ok(()) };
        let begun = Instant::now();
        let epoch = pods.bump_epoch(parts).await?;
        loop {
            let roster = pods.roster(clock::now()).await?;
            let me = self.process();
            let behind = |pod: &PodReport| pod.name != me && pod.seen.is_none_or(|e| e < epoch);
            if !roster.pods.iter().any(behind) {
                break;
            }
            if self.fence().is_none() {
                return Err(StoreError::Deposed);
            }
            sleep(LOOK).await;
        }
        metrics::histogram!("miroir_epoch_wait_seconds").record(begun.elapsed());
        Ok(())
    }

    /// Raises the epoch, so that the others read in their own time the parts this pod has just changed:
    /// they answer as well without it.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn publish(&self, parts: &[Part]) -> Result<(), StoreError> {
        if let Some(pods) = &self.pods {
            pods.bump_epoch(parts).await?;
        }
        Ok(())
    }

    /// Leaves a message for the leader. Without other pods there is nobody to read it.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn send(&self, message: &LeaderMessage) -> Result<(), Error> {
        let Some(pods) = &self.pods else { return Ok(()) };
        let note = serde_json::to_value(message).map_err(Error::internal)?;
        Ok(pods.note(note).await?)
    }
}

/// What a pod that does not lead has to tell the one that does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaderMessage {
    /// A pod that led may have sent parts of a task to nodes after its term was over, when its
    /// successor took it for certain that they had not arrived.
    Late {
        /// The task whose calls were late.
        task: TaskUid,
        /// The nodes that may have taken a call.
        nodes: Vec<NodeId>,
    },
    /// Replicas of a shard seem to differ, as a pod that compared them has seen.
    Differs {
        /// The index, by its name on the nodes.
        index: String,
        /// The shard.
        shard: ShardId,
        /// Ids of documents that differ.
        ids: Vec<String>,
    },
    /// Settings of nodes differ, as a pod that may not mend them has seen.
    Drift {
        /// The index, by its name on the nodes.
        index: String,
    },
}

#[cfg(test)]
mod tests {
    use miroir_store::memory;

    use super::*;

    fn shared() -> (Arc<dyn Pods>, Leadership) {
        let pods = memory::open().pods;
        let name = PodName { process: "a-1".to_owned(), pod: "a".to_owned() };
        (Arc::clone(&pods), Leadership::shared(name, pods))
    }

    #[tokio::test(start_paused = true)]
    async fn a_follower_changes_nothing_and_reads_while_it_is_fresh() {
        let (_, pod) = shared();
        assert!(pod.ensure_leader().is_err() && pod.ensure_fresh().is_err());
        pod.trust_until(Instant::now() + Duration::from_secs(1));
        assert!(pod.ensure_leader().is_err() && pod.ensure_fresh().is_ok());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(pod.ensure_fresh().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn an_elected_pod_leads_from_the_take_over_to_the_end_of_its_lease() {
        let (_, pod) = shared();
        pod.hold_lease(3, Instant::now() + Duration::from_secs(1));
        assert!(pod.fence() == Some(3) && !pod.leads() && pod.ensure_leader().is_ok());
        pod.begin_term(CancellationToken::new());
        assert!(pod.leads() && pod.ensure_fresh().is_ok());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!pod.leads() && pod.fence().is_none() && pod.ensure_leader().is_err());
        pod.end_term();
        assert!(!pod.is_elected() && pod.seen().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_waits_for_pods_that_have_not_read_it_and_not_for_silent_ones() {
        let (pods, leader) = shared();
        leader.hold_lease(1, Instant::now() + Duration::from_hours(1));
        let report = |seen| PodReport {
            name: "b-1".to_owned(),
            pod: "b".to_owned(),
            address: String::new(),
            seen,
            leads: None,
            readable: Vec::new(),
            settled: 0,
        };
        let ttl = Duration::from_secs(5);
        pods.report(report(Some(0)), clock::now(), ttl).await.unwrap();
        let waits = leader.publish_and_wait(&[Part::Indexes]);
        tokio::pin!(waits);
        tokio::select! {
            biased;
            _ = &mut waits => panic!("the other pod has not read it"),
            () = sleep(Duration::from_millis(50)) => {}
        }
        pods.report(report(Some(1)), clock::now(), ttl).await.unwrap();
        waits.await.unwrap();
    }

    #[tokio::test]
    async fn changes_are_counted_while_their_guards_live() {
        let pod = Leadership::default();
        let guard = pod.begin_change();
        assert!(pod.has_changes());
        drop(guard);
        assert!(!pod.has_changes());
    }
}
