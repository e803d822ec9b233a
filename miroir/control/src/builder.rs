//! `Miroir::builder()`: the pipeline from nodes, stores and layers.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use miroir_api::{GroupId, InvalidNodeId, NodeId};

use crate::Cluster;
use crate::api::Control;
use crate::broadcast::drift::{self, DriftOptions};
use crate::pods::take_over;
use crate::replicas::{anti_entropy, foreign, repair};
use crate::runtime::Peers;
use crate::tasks::{late, poller};
use crate::topology::founding::{FoundingError, found};
use crate::topology::health;
use crate::topology::operations;
use crate::topology::restore;
use miroir_core::topology::{Node, Topology, TopologyError};
use miroir_pipeline::cluster::{ClusterOptions, ClusterState, PodName};
use miroir_pipeline::codec::Codecs;
use miroir_pipeline::http::{Decode, DecodeOptions};
use miroir_pipeline::index::Scatter;
use miroir_pipeline::index::scatter::codecs;
use miroir_pipeline::leaf::Dispatch;
use miroir_pipeline::node::HealthOptions;
use miroir_pipeline::node::{self, Client, ClientOptions, Factory, KnownDisks, Pool, Scores};
use miroir_pipeline::operation::Resolve;
use miroir_pipeline::stack::{BoxLayer, OrderError, Stack, StageLayer};
use miroir_pipeline::stage::BoxService;
use miroir_pipeline::tls::ClientTls;
use miroir_pipeline::wiring::{Wiring, WiringError};
use miroir_pipeline::{index, leaf, operation};
use miroir_store::{StoreError, Stores, memory};

/// The pipeline could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A node id is not valid.
    #[error(transparent)]
    Node(#[from] InvalidNodeId),
    /// The nodes do not make a topology.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// Layers stand in a wrong order.
    #[error(transparent)]
    Order(#[from] OrderError),
    /// A layer lacks another one that it needs.
    #[error(transparent)]
    Wiring(#[from] WiringError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store has other nodes.
    #[error(transparent)]
    Founding(#[from] FoundingError),
}

/// Layers of a stage.
type Layers<R> = Stack<R, BoxLayer<R>>;

/// Layers of the stage of one node.
type NodeLayers = Arc<dyn Fn(&NodeId) -> Layers<node::Request> + Send + Sync>;

/// Collects what a pipeline is made of.
#[must_use]
pub struct Builder {
    nodes: Vec<(String, String, u32)>,
    replication_factor: u32,
    node_key: Option<String>,
    options: ClusterOptions,
    health: HealthOptions,
    drift: DriftOptions,
    peers: Arc<Peers>,
    pod: Option<PodName>,
    stores: Option<Stores>,
    factory: Option<Arc<Factory>>,
    disks: KnownDisks,
    node_layers: NodeLayers,
    operations: Layers<operation::Request>,
    indexes: Layers<index::Request>,
    leaves: Layers<leaf::Request>,
    scores: Arc<Scores>,
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("nodes", &self.nodes).finish_non_exhaustive()
    }
}

/// A pipeline, its workers, and its HTTP service.
#[derive(Clone, Debug)]
pub struct Miroir {
    /// Handles to the stages and the state, for workers and tests.
    pub cluster: Cluster,
    health: HealthOptions,
    drift: DriftOptions,
    peers: Arc<Peers>,
    codecs: Codecs,
}

impl Miroir {
    /// Starts collecting.
    pub fn builder() -> Builder {
        Builder {
            nodes: Vec::new(),
            replication_factor: 1,
            node_key: None,
            options: ClusterOptions::default(),
            health: HealthOptions::default(),
            drift: DriftOptions::default(),
            peers: Arc::new(Peers::alone()),
            pod: None,
            stores: None,
            factory: None,
            disks: KnownDisks::default(),
            node_layers: Arc::new(|_| Stack::new().boxed()),
            operations: Stack::new().boxed(),
            indexes: Stack::new().boxed(),
            leaves: Stack::new().boxed(),
            scores: Arc::new(Scores::default()),
        }
    }

    /// The client API as a tower service over HTTP. Put an authentication layer around it: it
    /// trusts the [`miroir_pipeline::context::Principal`] it finds in the request's extensions.
    pub fn http(&self, timeout: Duration) -> Decode {
        let options = &self.cluster.state.options;
        let (max_body, filters) = (options.max_body, options.filters);
        let options = DecodeOptions { timeout, max_body, filters };
        Decode::new(self.cluster.operations.clone(), options).codecs(self.codecs.clone())
    }

    /// Starts health checks, task polling, repair, the drift check and anti-entropy. They end with [`Miroir::shutdown`].
    pub fn spawn_workers(&self) {
        let state = &self.cluster.state;
        let stop = || state.stop.child_token();
        state.tracker.spawn(health::run(Arc::clone(state), self.health, stop()));
        state.tracker.spawn(poller::run(Arc::clone(state), stop()));
        state.tracker.spawn(repair::run(Arc::clone(state), stop()));
        state.tracker.spawn(late::run(Arc::clone(state), stop()));
        state.tracker.spawn(foreign::run(Arc::clone(state), stop()));
        state.tracker.spawn(operations::run(Arc::clone(state), stop()));
        state.tracker.spawn(restore::run(Arc::clone(state), stop()));
        state.tracker.spawn(anti_entropy::mend(Arc::clone(state), stop()));
        let peers = Arc::clone(&self.peers);
        state.tracker.spawn(anti_entropy::run(Arc::clone(state), peers, stop()));
        let peers = Arc::clone(&self.peers);
        state.tracker.spawn(drift::run(Arc::clone(state), peers, self.drift, stop()));
    }

    /// Stops the workers and waits for writes that are under way.
    pub async fn shutdown(&self) {
        let state = &self.cluster.state;
        state.stop.cancel();
        state.tracker.close();
        state.tracker.wait().await;
    }
}

impl Builder {
    /// Adds a node: a stable id, its address (`http://host:port`), its replica group.
    pub fn node(mut self, id: &str, address: &str, group: u32) -> Self {
        self.nodes.push((id.to_owned(), address.to_owned(), group));
        self
    }

    /// Copies of each shard inside a group.
    pub fn replication_factor(mut self, copies: u32) -> Self {
        self.replication_factor = copies;
        self
    }

    /// The key Miroir uses on nodes.
    pub fn node_key(mut self, key: impl Into<String>) -> Self {
        self.node_key = Some(key.into());
        self
    }

    /// The key clients use, from which their API keys are derived. Give the same ring to the
    /// authentication layer: the `keyring` of [`Cluster::state`]. After [`Builder::options`], which
    /// replaces it.
    pub fn master_key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.options.master_key = miroir_core::keys::MasterKey::new(key);
        self
    }

    /// What the stages share.
    pub fn options(mut self, options: ClusterOptions) -> Self {
        self.options = options;
        self
    }

    /// Number of shards of a new index.
    pub fn shards(mut self, shards: u32) -> Self {
        self.options.shards = shards;
        self
    }

    /// When and how often nodes are checked.
    pub fn health(mut self, options: HealthOptions) -> Self {
        self.health = options;
        self
    }

    /// When settings of nodes are compared, and whether they are mended.
    pub fn drift(mut self, options: DriftOptions) -> Self {
        self.drift = options;
        self
    }

    /// The pods among which background work is split; this one alone by default.
    pub fn peers(mut self, peers: Arc<Peers>) -> Self {
        self.peers = peers;
        self
    }

    /// One of several pods over stores that they share; alone by default. It answers and changes
    /// nothing before [`crate::pods`]' workers run, which [`Miroir::spawn_workers`] does not start.
    pub fn pod(mut self, name: PodName) -> Self {
        self.pod = Some(name);
        self
    }

    /// Where state is kept; in memory by default.
    pub fn stores(mut self, stores: Stores) -> Self {
        self.stores = Some(stores);
        self
    }

    /// Node figures shared with layers of the node stage.
    pub fn scores(mut self, scores: Arc<Scores>) -> Self {
        self.scores = scores;
        self
    }

    /// How nodes are reached, layers included; by default by an HTTP client with the node key, inside
    /// of [`Builder::node_layers`]. What is behind it is not looked at when wiring is checked.
    pub fn node_stack(mut self, factory: Arc<Factory>) -> Self {
        self.factory = Some(factory);
        self
    }

    /// Where a [`Builder::node_stack`] finds what a node has to show before it is sent anything; it is
    /// told so when this is built.
    pub fn disks(mut self, disks: KnownDisks) -> Self {
        self.disks = disks;
        self
    }

    /// Layers of the node stage, for each node anew; a [`Builder::node_stack`] has none of them. The
    /// closure is called once more, for a node that there is not, to look at the wiring.
    pub fn node_layers<L>(
        mut self,
        layers: impl Fn(&NodeId) -> Stack<node::Request, L> + Send + Sync + 'static,
    ) -> Self
    where
        L: StageLayer<node::Request>,
    {
        self.node_layers = Arc::new(move |node| layers(node).boxed());
        self
    }

    /// Layers of the operation stage.
    pub fn operations<L>(mut self, layers: Stack<operation::Request, L>) -> Self
    where
        L: StageLayer<operation::Request>,
    {
        self.operations = layers.boxed();
        self
    }

    /// Layers of the index stage.
    pub fn indexes<L>(mut self, layers: Stack<index::Request, L>) -> Self
    where
        L: StageLayer<index::Request>,
    {
        self.indexes = layers.boxed();
        self
    }

    /// Layers of the leaf stage.
    pub fn leaves<L>(mut self, layers: Stack<leaf::Request, L>) -> Self
    where
        L: StageLayer<leaf::Request>,
    {
        self.leaves = layers.boxed();
        self
    }

    /// That every layer has what it needs in other stages.
    fn check(&self) -> Result<(), WiringError> {
        let wiring = Wiring::new().with(&self.operations).with(&self.indexes).with(&self.leaves);
        if self.factory.is_some() {
            return wiring.check();
        }
        let any = NodeId::new("any").expect("a valid constant");
        wiring.with(&(self.node_layers)(&any)).check()
    }

    /// Builds the pipeline. Nothing runs yet: see [`Miroir::spawn_workers`].
    ///
    /// # Errors
    /// [`BuildError`].
    pub async fn build(self) -> Result<Miroir, BuildError> {
        let nodes = self
            .nodes
            .iter()
            .map(|(id, address, group)| {
                Ok(Node::new(NodeId::new(id)?, address.clone(), GroupId(*group)))
            })
            .collect::<Result<Vec<_>, InvalidNodeId>>()?;
        let topology = Topology::new(nodes, self.replication_factor)?;
        self.check()?;
        let (key, layers) = (self.node_key.clone(), self.node_layers);
        let known = self.disks.clone();
        let factory = self.factory.unwrap_or_else(|| {
            Arc::new(move |node: &Node| {
                let (options, tls) = (ClientOptions::default(), ClientTls::default());
                let id = node.id.clone();
                let client = Client::with_disks(id, &node.address, options, tls, known.clone());
                let key = key.clone();
                let credentials = tower::util::MapRequestLayer::new(move |mut r: node::Request| {
                    let bearer = key.as_ref().map(|key| format!("Bearer {key}"));
                    if let Some(value) = bearer.and_then(|b| ::http::HeaderValue::from_str(&b).ok())
                    {
                        r.headers_mut().insert(::http::header::AUTHORIZATION, value);
                    }
                    r
                });
                let own = Stack::new().push_named("credentials", credentials).boxed();
                layers(&node.id).append(own).build(BoxService::<node::Request>::new(client))
            })
        });
        let stores = self.stores.unwrap_or_else(memory::open);
        let founding = found(&stores, topology, self.options.topology.on_difference).await?;
        let pool = Pool::new(factory, &founding.topology)?;
        let scatter = self.options.scatter;
        let state = ClusterState::new(
            founding,
            stores,
            pool.clone(),
            Arc::clone(&self.scores),
            self.options,
            self.pod,
        );
        state.tell_disks(&self.disks);
        if state.leadership.is_shared() {
            state.reload().await?;
        } else {
            take_over(&state).await?;
        }
        let mut codecs = codecs();
        codecs.extend(self.operations.codecs());
        codecs.extend(self.indexes.codecs());
        codecs.extend(self.leaves.codecs());
        let dispatch =
            Dispatch::new(pool, self.scores, scatter).with_staleness(Arc::clone(&state.staleness));
        let leaves = self.leaves.build(BoxService::<leaf::Request>::new(dispatch))?;
        let scatter = Scatter::new(leaves.clone(), Arc::clone(&state));
        let indexes = self.indexes.build(BoxService::<index::Request>::new(scatter))?;
        let control = Arc::new(Control::new(leaves.clone(), Arc::clone(&state)));
        let resolve = Resolve::new(
            indexes.clone(),
            Arc::clone(&state),
            operation::BoxService::new(Control::clone(&control)),
            control,
        );
        let operations = self.operations.build(BoxService::<operation::Request>::new(resolve))?;
        let cluster = Cluster { operations, indexes, leaves, state };
        let Self { health, drift, peers, .. } = self;
        Ok(Miroir { cluster, health, drift, peers, codecs })
    }
}
