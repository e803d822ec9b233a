//! What server, workers, admin API and tests share: handles to the running stages.

pub mod aliases;
mod catalogue;
mod reach;
mod stale;
mod tuning;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use miroir_api::{IndexUid, NodeId, ShardId, TaskUid};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::context::Context;
use crate::effect::Effect;
use crate::error::{Error, NodeFailure};
use crate::hints::Hints;
use crate::index::scatter::{UnderWay, listing};
use crate::index::sequencer::{Exclusive, Sequencer};
use crate::index::settings::{IndexSettings, SettingsCache};
use crate::keys::Keyring;
use crate::leaf::{Pace, Route};
use crate::node::health::HealthBoard;
use crate::node::{Call, Numbering, Pool, Scores};
use crate::operation::control::{lost, recover};
use crate::pods::Office;
use crate::routing::standing::mix;
use crate::routing::{Standings, Strategy};
use crate::stage::BoxService;
use crate::store::watched::{Outbox, Watched};
use crate::store::{IndexEntry, Stale, StoreError, Stores, TaskQuery};
use crate::tenants::TenantDirectory;
use crate::topology::{NodeEvent, Topology};
use crate::{index, leaf, operation};

pub use stale::StaleMap;
pub use tuning::{
    BroadcastStrategy, ExplainTuning, MultiSearchTuning, Tuning, UnavailableShards,
    VectorSearchTuning,
};

type Catalogue = BTreeMap<IndexUid, Arc<IndexEntry>>;

/// State below the stages: topology, stores, nodes, and snapshots of what the stores hold.
pub struct Shared {
    topology: ArcSwap<Topology>,
    topology_lock: Mutex<()>,
    catalogue: ArcSwap<Catalogue>,
    catalogue_lock: tokio::sync::Mutex<()>,
    /// Names that stand for indexes.
    pub aliases: Arc<aliases::AliasTable>,
    alias_lock: tokio::sync::Mutex<()>,
    stale: ArcSwap<StaleMap>,
    stale_lock: tokio::sync::Mutex<()>,
    /// Stores.
    pub stores: Stores,
    /// Finished tasks that webhooks are yet to be told of.
    pub outbox: Arc<Outbox>,
    /// Node stacks.
    pub pool: Pool,
    /// Node figures.
    pub scores: Arc<Scores>,
    /// Health checks.
    pub health: HealthBoard,
    /// Task numbers of nodes.
    pub numbering: Numbering,
    /// Figures.
    pub tuning: Tuning,
    /// API keys.
    pub keyring: Arc<Keyring>,
    /// Which tenants API keys are of.
    pub tenants: Arc<TenantDirectory>,
    /// Order of writes.
    pub sequencer: Sequencer,
    /// Writes and broadcasts that outlive their client.
    pub tracker: TaskTracker,
    /// Ends workers.
    pub stop: CancellationToken,
    /// Wakes the task poller.
    pub tasks_changed: Notify,
    /// Wakes the repairer.
    pub repairs_changed: Notify,
    /// Settings broadcasts in flight, by physical index.
    pub broadcasts: Mutex<BTreeMap<String, u32>>,
    /// Writes of this process that are being sent.
    pub(crate) under_way: UnderWay,
    /// Broadcasts that are being verified by this process.
    pub settling: Mutex<BTreeSet<TaskUid>>,
    /// Nodes known to have the experimental features that clients set. Held while they change.
    pub features: tokio::sync::Mutex<BTreeSet<NodeId>>,
    /// Which search rules nodes are known to have, by a hash of them all. Held while they change.
    pub rules: tokio::sync::Mutex<BTreeMap<NodeId, u64>>,
    /// What this process may do among others.
    pub office: Arc<Office>,
    /// The first task that can be this process' own: what has a lower uid is of another one, or of
    /// a term before.
    pub(crate) first_task: AtomicU32,
    /// Gates of indexes with writes of a process before that nobody has looked into yet: no write,
    /// copy or change of the index comes before that.
    pub(crate) unrecovered: Mutex<BTreeMap<String, Exclusive>>,
    sequence: AtomicU64,
    pace: Pace,
    settings: SettingsCache,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("tuning", &self.tuning).finish_non_exhaustive()
    }
}

impl Shared {
    /// Loads what the stores hold.
    ///
    /// # Errors
    /// When a store fails.
    pub async fn load(
        topology: Topology,
        stores: Stores,
        pool: Pool,
        scores: Arc<Scores>,
        tuning: Tuning,
        office: Office,
    ) -> Result<Arc<Self>, StoreError> {
        let outbox = Arc::new(Outbox::default());
        let tasks = Arc::new(Watched::new(Arc::clone(&stores.tasks), Arc::clone(&outbox)));
        let stores = Stores { tasks, ..stores };
        let keyring = Keyring::over(tuning.master_key.clone(), Arc::clone(&stores.keys));
        let tenants = tuning.tenant_map.then(|| Arc::clone(&stores.tenants));
        let tenants = tenants.map_or_else(TenantDirectory::default, TenantDirectory::over);
        if office.is_shared() {
            stores.fence.close();
        }
        let shared = Arc::new(Self {
            keyring: Arc::new(keyring),
            tenants: Arc::new(tenants),
            outbox,
            topology: ArcSwap::from_pointee(topology),
            topology_lock: Mutex::new(()),
            catalogue: ArcSwap::default(),
            catalogue_lock: tokio::sync::Mutex::new(()),
            aliases: Arc::default(),
            alias_lock: tokio::sync::Mutex::new(()),
            stale: ArcSwap::default(),
            stale_lock: tokio::sync::Mutex::new(()),
            stores,
            pool,
            scores,
            health: HealthBoard::default(),
            numbering: Numbering::default(),
            tuning,
            sequencer: Sequencer::default(),
            tracker: TaskTracker::new(),
            stop: CancellationToken::new(),
            tasks_changed: Notify::new(),
            repairs_changed: Notify::new(),
            broadcasts: Mutex::new(BTreeMap::new()),
            under_way: UnderWay::default(),
            settling: Mutex::new(BTreeSet::new()),
            features: tokio::sync::Mutex::default(),
            rules: tokio::sync::Mutex::default(),
            office: Arc::new(office),
            first_task: AtomicU32::new(0),
            unrecovered: Mutex::default(),
            sequence: AtomicU64::new(0),
            pace: Pace::new(Instant::now()),
            settings: SettingsCache::default(),
        });
        if shared.office.is_shared() {
            shared.reload().await?;
        } else {
            shared.take_over().await?;
        }
        Ok(shared)
    }

    /// Reads anew what is kept in memory of the stores.
    ///
    /// # Errors
    /// When a store fails.
    pub(crate) async fn reload(&self) -> Result<(), StoreError> {
        self.reload_catalogue().await?;
        self.reload_aliases().await?;
        {
            let _guard = self.stale_lock.lock().await;
            self.reload_stale().await?;
        }
        self.tenants.follow().await?;
        self.keyring.follow().await
    }

    /// Begins to change things, where another process, or this one before, may have left off in the
    /// middle.
    ///
    /// # Errors
    /// When a store fails.
    pub(crate) async fn take_over(&self) -> Result<(), StoreError> {
        let newest = TaskQuery { limit: 1, ..TaskQuery::default() };
        let newest = self.stores.tasks.list(newest).await?.tasks.first().map(|task| task.uid.0);
        self.first_task.store(newest.map_or(0, |uid| uid + 1), Ordering::Release);
        let nodes: Vec<NodeId> = self.topology().nodes().map(|node| node.id.clone()).collect();
        listing::undo_makings(&self.stores, &nodes).await?;
        self.unrecovered.lock().expect("no panic holds this lock").clear();
        let held = recover::hold(&self.stores, &self.sequencer).await?;
        *self.unrecovered.lock().expect("no panic holds this lock") = held;
        self.keyring.seed().await?;
        self.reload().await?;
        self.outbox.want(!self.stores.webhooks.list().await?.is_empty());
        // What a former term of this process left here is told by the stores.
        self.broadcasts.lock().expect("no panic holds this lock").clear();
        self.settling.lock().expect("no panic holds this lock").clear();
        self.features.lock().await.clear();
        self.rules.lock().await.clear();
        self.numbering.clear();
        lost::remember(&self.stores, &self.numbering).await
    }

    /// The topology as it is now.
    pub fn topology(&self) -> Arc<Topology> {
        self.topology.load_full()
    }

    /// Applies an event to a node. Illegal transitions are logged and change nothing.
    pub fn node_event(&self, node: &NodeId, event: NodeEvent) {
        let _guard = self.topology_lock.lock().expect("no panic holds this lock");
        match self.topology.load().with_event(node, event) {
            Ok(next) => {
                let status = next.node(node).map_or("removed", |n| n.status.as_str());
                tracing::warn!(node = %node, status, "node changed its status");
                if event == NodeEvent::Fail {
                    self.numbering.doubt(node);
                }
                self.topology.store(Arc::new(next));
                self.repairs_changed.notify_waiters();
            }
            Err(error) => tracing::debug!(node = %node, %error, "ignored"),
        }
    }

    /// The next number of this pod's read sequence.
    pub fn next_sequence(&self) -> u64 {
        self.sequence.fetch_add(1, Ordering::Relaxed)
    }

    /// Which groups and replicas a read tries, best first; see [`Route::choose`].
    pub fn route(&self, topology: &Topology, hints: &Hints, sequence: u64) -> Route {
        let (mut selection, now) = (self.tuning.selection, Instant::now());
        let standings = match selection.strategy {
            Strategy::Adaptive => self.scores.standings(topology, &selection, now),
            Strategy::RoundRobin | Strategy::Random => Standings::default(),
        };
        let copies = topology.replication_factor() * topology.groups().len() as u32;
        let (period, needed) = self.pace.step(now, copies, self.scores.half_life());
        selection.exploration = selection.exploration.min(needed);
        // Equal queries draw the same for a while: hits that no rule tells apart come in a node's own
        // order, so that pages of one query have to come from the same replicas.
        let draw = mix(sequence, period);
        let route = Route::choose(topology, standings, &selection, hints, sequence, draw);
        if route.explores() {
            metrics::counter!("miroir_replica_selection_exploration_total").increment(1);
        }
        route
    }

    /// What reads and writes need of an index's settings, from a node, cached by version.
    ///
    /// # Errors
    /// When no node can say.
    pub async fn settings(
        &self,
        index: &IndexEntry,
        cx: &Context,
    ) -> Result<Arc<IndexSettings>, Error> {
        self.settings.get(self, index, cx).await
    }

    /// Replicas that must not be read.
    pub fn stale(&self) -> Arc<StaleMap> {
        self.stale.load_full()
    }

    async fn reload_stale(&self) -> Result<(), StoreError> {
        let rows = self.stores.replicas.list().await?;
        let mut map = StaleMap { rows: BTreeMap::new(), total: rows.len() };
        for row in rows {
            map.rows.entry(row.index.clone()).or_default().push(row);
        }
        metrics::gauge!("miroir_stale_shards").set(map.total as f64);
        self.stale.store(Arc::new(map));
        Ok(())
    }

    /// Remembers replicas that missed something; durable when it returns.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn mark_stale(&self, rows: Vec<Stale>) -> Result<(), StoreError> {
        self.mark_stale_by(|_| (rows, ())).await
    }

    /// As [`Shared::mark_stale`], with rows that depend on what is stale already. Nothing else is
    /// marked or cleared between the decision and the mark, so that no two writes each take the
    /// other's replica for the good one.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn mark_stale_by<T>(
        &self,
        decide: impl FnOnce(&StaleMap) -> (Vec<Stale>, T),
    ) -> Result<T, StoreError> {
        let guard = self.stale_lock.lock().await;
        let (rows, out) = decide(&self.stale.load());
        if rows.is_empty() {
            return Ok(out);
        }
        self.stores.replicas.mark(rows).await?;
        self.reload_stale().await?;
        self.repairs_changed.notify_waiters();
        drop(guard);
        self.announce().await?;
        Ok(out)
    }

    /// Forgets a miss that was repaired.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn clear_stale(&self, row: Stale) -> Result<bool, StoreError> {
        let _guard = self.stale_lock.lock().await;
        let cleared = self.stores.replicas.clear(row).await?;
        self.reload_stale().await?;
        self.tell_later().await?;
        Ok(cleared)
    }

    /// Forgets every miss about an index that is gone.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn forget_stale(&self, index: &str) -> Result<(), StoreError> {
        let _guard = self.stale_lock.lock().await;
        self.stores.replicas.forget_index(index).await?;
        self.reload_stale().await?;
        self.tell_later().await
    }

    /// Sends one call to one node and judges the answer.
    ///
    /// # Errors
    /// See [`Call::accept`].
    pub async fn call(
        &self,
        node: &NodeId,
        call: &Call,
        cx: &Context,
    ) -> Result<bytes::Bytes, Error> {
        self.call_within(node, call, cx, self.tuning.node_timeout).await
    }

    /// As [`Shared::call`], with a time of its own.
    ///
    /// # Errors
    /// See [`Call::accept`].
    pub async fn call_within(
        &self,
        node: &NodeId,
        call: &Call,
        cx: &Context,
        timeout: Duration,
    ) -> Result<bytes::Bytes, Error> {
        if call.effect() == Effect::Change {
            self.office.may_change()?;
        }
        let request = call.request(cx, timeout)?;
        Call::accept(node, self.pool.send(node, request).await?)
    }

    /// Notes the number of a task that a node took, asked for when `before` was the highest number
    /// known of it.
    ///
    /// # Errors
    /// When the number shows that the node lost its disk: then that is on record.
    pub async fn took(&self, node: &NodeId, before: Option<u32>, uid: u32) -> Result<(), Error> {
        if self.numbering.takes(node, before, uid) {
            return Ok(());
        }
        lost::declare(self, node).await?;
        Err(Error::node(node, NodeFailure::LostDisk))
    }

    /// Sets the gauges that describe the cluster.
    pub fn publish_gauges(&self) {
        let topology = self.topology();
        let placement = topology.placement(self.tuning.shards);
        let mut covered = 0;
        for shard in 0..self.tuning.shards {
            let alive = placement
                .write_targets(ShardId(shard))
                .any(|(_, id)| topology.node(id).is_some_and(|n| n.status.is_readable()));
            covered += u32::from(alive);
        }
        let total = self.tuning.shards.max(1);
        metrics::gauge!("miroir_shard_coverage").set(f64::from(covered) / f64::from(total));
        metrics::gauge!("miroir_degraded_shards_total").set(f64::from(total - covered));
        let standings = self.scores.standings(&topology, &self.tuning.selection, Instant::now());
        for node in topology.nodes() {
            let id = node.id.to_string();
            if let Some(standing) = standings.of(&node.id) {
                metrics::gauge!("miroir_replica_selection_score", "node_id" => id.clone())
                    .set(standing.cost);
            }
            let healthy = node.status == crate::topology::NodeStatus::Active;
            metrics::gauge!("miroir_node_healthy", "node_id" => id.clone()).set(if healthy {
                1.0
            } else {
                0.0
            });
            metrics::gauge!("miroir_shard_distribution", "node_id" => id.clone())
                .set(placement.owned_by(&node.id).len() as f64);
            let score = self.scores.node(&node.id);
            metrics::gauge!("miroir_node_ewma_latency_seconds", "node_id" => id.clone())
                .set(score.latency().as_secs_f64());
            metrics::gauge!("miroir_node_in_flight", "node_id" => id).set(score.in_flight() as f64);
        }
    }
}

/// Handles to the running pipeline. Cheap to clone.
#[derive(Clone)]
pub struct Cluster {
    /// As a client would.
    pub operations: BoxService<operation::Request>,
    /// One index, full data plane.
    pub indexes: BoxService<index::Request>,
    /// Named shards or one named replica.
    pub leaves: BoxService<leaf::Request>,
    /// Everything below.
    pub shared: Arc<Shared>,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("shared", &self.shared).finish_non_exhaustive()
    }
}
