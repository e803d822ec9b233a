//! What the stages and the control plane know of the cluster, each part with one owner.
//!
//! | part | what it owns |
//! | --- | --- |
//! | [`Catalog`] | which indexes there are |
//! | [`Aliases`] | names that stand for indexes |
//! | [`Membership`] | the topology, health, task uids of nodes |
//! | [`NodeLives`] | which disk each node has, as the store knows |
//! | [`Staleness`] | replicas that must not be read |
//! | [`Leadership`] | what this pod may do among others |
//! | [`Nodes`] | calls to nodes by name |
//! | [`ReadRouter`] | which replicas a read tries first |
//! | [`SettingsCache`], [`Broadcasts`] | settings of indexes, and those on their way |
//! | [`Sequencer`], [`InFlightTasks`], [`Recovery`] | the order of writes, and those that were left |
//! | [`DocumentOrder`] | in which order documents came first, where no node can tell yet |
//! | [`LateWrites`], [`WriteBytes`] | writes that nodes have not answered, and how much of them is held |
//! | [`AppliedState`] | instance-wide state that nodes are known to have |
//! | [`Comparisons`] | what comparisons of replicas found |
//! | [`Followers`] | what capabilities keep in memory of the stores |
//!
//! [`ClusterState`] is only the bundle: a part that needs another one is given it when it is made, and a
//! function takes the part it needs.

pub mod aliases;
pub mod anti_entropy;
mod applied;
mod broadcasts;
mod catalog;
pub mod disk_loss;
pub mod document_order;
mod filterable;
mod followers;
pub mod gauges;
mod in_flight;
pub mod late_writes;
pub mod leadership;
mod lives;
mod membership;
mod nodes;
mod options;
pub mod provisional;
mod reads;
mod recovery;
pub mod sequencer;
pub mod settings;
mod snapshot;
mod staleness;
mod write_bytes;

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use miroir_api::{NodeId, ShardId};
use miroir_core::topology::Topology;
use miroir_store::open_tasks::OpenTasks;
use miroir_store::records::{CommittedTopology, Operation, OperationState};
use miroir_store::watched::{Outbox, Watched};
use miroir_store::{Part, StoreError, StoreId, Stores};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use aliases::Aliases;
pub use anti_entropy::{AntiEntropyOptions, Comparisons};
pub use applied::AppliedState;
pub use broadcasts::Broadcasts;
pub use catalog::Catalog;
pub use document_order::DocumentOrder;
pub use followers::{Follow, Followers};
pub use in_flight::{InFlightGuard, InFlightTasks};
pub use late_writes::LateWrites;
pub use leadership::{Bar, Leadership, PodName};
pub use lives::NodeLives;
pub use membership::Membership;
pub use nodes::Nodes;
pub use options::{
    BroadcastStrategy, ClusterOptions, DocumentOrderOptions, ExplainOptions, FacetingOptions,
    FilterLimits, MultiSearchOptions, OnDifference, RestoreOptions, ScatterOptions,
    SettingsBroadcastOptions, TopologyOptions, UnavailableShardPolicy, VectorSearchOptions,
    WebhookOptions, WriteCombiningOptions,
};
pub use reads::ReadRouter;
pub use recovery::Recovery;
pub use sequencer::Sequencer;
pub use settings::{IndexSettings, SettingsCache};
pub use snapshot::{Snapshot, Writer};
pub use staleness::Staleness;
pub use write_bytes::{WriteBytes, WritePermit};

use crate::keyring::Keyring;
use crate::node::{KnownDisk, KnownDisks, Pool, Scores};

/// What wakes workers before their time.
#[derive(Debug, Default)]
pub struct Signals {
    /// There is a task to follow.
    pub tasks: Notify,
    /// There may be a replica to repair.
    pub repairs: Arc<Notify>,
}

/// What a cluster is founded on.
#[derive(Clone, Debug)]
pub struct Founding {
    /// What the store is called.
    pub store_id: StoreId,
    /// The nodes as the store has them.
    pub committed: CommittedTopology,
    /// The same nodes, with the addresses at which they are reached.
    pub topology: Topology,
}

/// All parts; see the module's documentation.
pub struct ClusterState {
    /// Which indexes there are.
    pub catalog: Arc<Catalog>,
    /// Aliases: names that stand for one index, or for several.
    pub aliases: Aliases,
    /// The topology, health, task uids of nodes.
    pub membership: Arc<Membership>,
    /// Which disk each node has.
    pub lives: Arc<NodeLives>,
    /// Replicas that must not be read.
    pub staleness: Arc<Staleness>,
    /// What this pod may do among others.
    pub leadership: Arc<Leadership>,
    /// Calls to nodes by name.
    pub nodes: Arc<Nodes>,
    /// Which replicas a read tries first.
    pub reads: ReadRouter,
    /// Settings of indexes that reads need, kept by version.
    pub settings: SettingsCache,
    /// Which indexes have settings on their way to nodes.
    pub broadcasts: Arc<Broadcasts>,
    /// Gives writes one order per index and node.
    pub sequencer: Arc<Sequencer>,
    /// Writes whose calls this process is making.
    pub writes_in_flight: InFlightTasks,
    /// In which order documents came first, where no node can tell yet.
    pub document_order: Arc<DocumentOrder>,
    /// Writes that were acknowledged before all nodes had answered them.
    pub late_writes: LateWrites,
    /// Bounds the bytes of writes that nodes have not answered.
    pub write_bytes: WriteBytes,
    /// Settings broadcasts that this process is verifying.
    pub verifying: InFlightTasks,
    /// Writes that a process before this one left.
    pub recovery: Recovery,
    /// Instance-wide state that nodes are known to have.
    pub applied: AppliedState,
    /// API keys, by the secrets derived from the master key.
    pub keyring: Arc<Keyring>,
    /// What comparisons of replicas found.
    pub comparisons: Arc<Comparisons>,
    /// What capabilities keep in memory of the stores.
    pub followers: Followers,
    /// Everything durable.
    pub stores: Stores,
    /// What the store is called: part of what Miroir leaves on nodes, so that it is known again.
    pub store_id: StoreId,
    /// The nodes by which documents are placed, as the store has them.
    pub committed: ArcSwap<CommittedTopology>,
    /// Finished tasks that webhooks are yet to be told of.
    pub outbox: Arc<Outbox>,
    /// Unfinished tasks, kept by the pod that leads.
    pub open_tasks: Arc<OpenTasks>,
    /// How the cluster is run; fixed for the life of the process.
    pub options: ClusterOptions,
    /// Wakes workers before their next tick.
    pub signals: Signals,
    /// Writes and broadcasts that outlive their client.
    pub tracker: TaskTracker,
    /// Cancelled when the process ends: workers return.
    pub stop: CancellationToken,
}

impl fmt::Debug for ClusterState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterState").field("options", &self.options).finish_non_exhaustive()
    }
}

impl ClusterState {
    /// The parts over nodes and stores. Nothing was read of the stores yet, and with several pods
    /// nothing may be changed: see [`ClusterState::reload`].
    pub fn new(
        founding: Founding,
        stores: Stores,
        pool: Pool,
        scores: Arc<Scores>,
        options: ClusterOptions,
        pod: Option<PodName>,
    ) -> Arc<Self> {
        let Founding { store_id, committed, topology } = founding;
        let outbox = Arc::new(Outbox::default());
        let open_tasks = Arc::new(OpenTasks::default());
        let tasks =
            Watched::new(Arc::clone(&stores.tasks), Arc::clone(&outbox), Arc::clone(&open_tasks));
        let tasks = Arc::new(tasks);
        let stores = Stores { tasks, ..stores };
        let leadership = Arc::new(match pod {
            Some(name) => {
                stores.fence.name(&name.process);
                stores.fence.close();
                Leadership::shared(name, Arc::clone(&stores.pods))
            }
            None => Leadership::default(),
        });
        let signals = Signals::default();
        let membership = Arc::new(Membership::new(topology, Arc::clone(&signals.repairs)));
        membership.found(committed.version);
        let staleness = Arc::new(Staleness::new(
            Arc::clone(&stores.replicas),
            Arc::clone(&leadership),
            Arc::clone(&signals.repairs),
        ));
        let nodes = Arc::new(Nodes::new(
            pool,
            Arc::clone(&scores),
            Arc::clone(&membership),
            Arc::clone(&leadership),
            options.scatter.call_timeout(),
            options.shards,
        ));
        let broadcasts = Arc::new(Broadcasts::default());
        let settings = SettingsCache::new(
            Arc::clone(&nodes),
            Arc::clone(&membership),
            Arc::clone(&staleness),
            Arc::clone(&broadcasts),
            options.faceting.node_max_values,
        );
        let catalog = Arc::new(Catalog::new(Arc::clone(&stores.indexes), Arc::clone(&leadership)));
        let sequencer = Arc::new(Sequencer::default());
        let aliases = Aliases::new(
            Arc::clone(&stores.aliases),
            Arc::clone(&catalog),
            Arc::clone(&sequencer),
            Arc::clone(&leadership),
        );
        let keyring = Keyring::over(options.master_key.clone(), Arc::clone(&stores.keys));
        Arc::new(Self {
            reads: ReadRouter::new(scores, options.replica_selection),
            catalog,
            aliases,
            membership,
            lives: Arc::new(NodeLives::new(Arc::clone(&stores.node_records))),
            staleness,
            leadership,
            nodes,
            settings,
            broadcasts,
            sequencer,
            writes_in_flight: InFlightTasks::default(),
            document_order: Arc::default(),
            late_writes: LateWrites::default(),
            write_bytes: WriteBytes::new(options.max_unanswered_writes),
            verifying: InFlightTasks::default(),
            recovery: Recovery::default(),
            applied: AppliedState::default(),
            keyring: Arc::new(keyring),
            comparisons: Arc::default(),
            followers: Followers::default(),
            stores,
            store_id,
            committed: ArcSwap::from_pointee(committed),
            outbox,
            open_tasks,
            options,
            signals,
            tracker: TaskTracker::new(),
            stop: CancellationToken::new(),
        })
    }

    /// Tells clients of nodes what is known of their disks, for as long as this is there.
    pub fn tell_disks(self: &Arc<Self>, disks: &KnownDisks) {
        let state = Arc::downgrade(self);
        disks.told_by(move |node| {
            state.upgrade().map_or_else(KnownDisk::default, |state| state.known_disk(node))
        });
    }

    fn known_disk(&self, node: &NodeId) -> KnownDisk {
        let record = self.lives.get(node);
        let key = self.store_id.identity_key(node, record.life);
        // What this process has seen itself, as long as it is who looks after nodes.
        let leads = self.leadership.leads();
        let seen = if leads { self.membership.task_uids.highest(node) } else { None };
        KnownDisk {
            key: record.identified.then(|| key.to_string()),
            highest: seen.max(record.highest),
        }
    }

    /// Whether a node takes writes, and its calls are let through.
    pub fn is_available(&self, node: &NodeId) -> bool {
        self.membership.topology().node(node).is_some_and(|node| self.nodes.is_available(node))
    }

    /// Whether a node has tasks that no call of this process gave it, and what they changed was not
    /// compared with another node's yet.
    pub fn is_in_doubt(&self, node: &NodeId) -> bool {
        let newest = self.membership.task_uids.highest(node);
        newest
            .is_some_and(|newest| !self.nodes.pool.given().unexplained(node, newest, 1).is_empty())
    }

    /// Reads anew what is kept in memory of the stores.
    ///
    /// # Errors
    /// When a store fails.
    pub async fn reload(&self) -> Result<(), StoreError> {
        self.reload_parts(&Part::ALL).await
    }

    /// Reads these parts anew.
    ///
    /// # Errors
    /// When a store fails.
    pub async fn reload_parts(&self, parts: &[Part]) -> Result<(), StoreError> {
        for part in parts {
            match part {
                Part::Nodes => self.follow_nodes().await?,
                Part::Indexes => self.catalog.reload().await?,
                Part::Aliases => self.aliases.reload().await?,
                Part::Replicas => self.staleness.reload().await?,
                Part::Capabilities => self.followers.follow().await?,
                Part::Keys => self.keyring.follow().await?,
            }
        }
        Ok(())
    }

    /// As [`ClusterState::follow_topology`], and no node is used that has another's disk.
    async fn follow_nodes(&self) -> Result<(), StoreError> {
        self.follow_topology().await?;
        for node in self.lives.all().into_iter().filter(|record| record.foreign.is_some()) {
            self.membership.bar(&node.node);
        }
        Ok(())
    }

    /// Reads anew which nodes the store is about and what is known of them, and whether this process
    /// may answer by what it knows.
    ///
    /// # Errors
    /// When a store fails.
    pub async fn follow_topology(&self) -> Result<(), StoreError> {
        self.lives.reload().await?;
        if let Some(stored) = self.stores.identity.topology().await? {
            let own = self.committed.load();
            if stored.version > own.version {
                self.follow_committed(stored)?;
            } else if stored.fingerprint != own.fingerprint {
                self.leadership.bar(Some(Bar::OtherTopology));
                return Ok(());
            } else if stored.version != own.version {
                self.committed.store(Arc::new(stored));
            }
        }
        self.look_behind();
        Ok(())
    }

    /// Places documents by what the store says now.
    fn follow_committed(&self, stored: CommittedTopology) -> Result<(), StoreError> {
        // In this order: whoever plans by a topology finds its nodes.
        let broken = |error: &dyn fmt::Display| StoreError::Backend(error.to_string().into());
        let before = self.membership.topology();
        let next = before.following(&stored.layout, stored.change.as_ref(), &stored.without_shards);
        let next = next.map_err(|error| broken(&error))?;
        self.nodes.pool.follow(&next).map_err(|error| broken(&error))?;
        self.membership.follow(&stored).map_err(|error| broken(&error))?;
        self.committed.store(Arc::new(stored));
        Ok(())
    }

    /// Whether a change of the layout that is paused keeps a new owner of a shard, of so many, from being
    /// brought up to date.
    pub fn is_paused(&self, node: &NodeId, shard: ShardId, shards: u32) -> bool {
        let committed = self.committed.load();
        let paused = |operation: &Operation| operation.state == OperationState::Paused;
        if !committed.operation.as_ref().is_some_and(paused) {
            return false;
        }
        let before = self.membership.topology().following(&committed.layout, None, &[]);
        before.is_ok_and(|before| !before.placement(shards).owns(node, shard))
    }

    /// Compares the version of the topology with the highest that nodes were told.
    pub fn look_behind(&self) {
        let version = self.committed.load().version;
        let told = self.lives.all().into_iter().filter_map(|record| record.ahead).max();
        let ahead = told.filter(|told| *told > version);
        self.leadership.bar(ahead.map(|told| Bar::StoreBehind { version, told }));
    }
}
