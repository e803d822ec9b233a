//! `Miroir::builder()`: the recommended pipeline, over the nodes and stores that it is given.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use miroir_api::{GroupId, InvalidNodeId, NodeId};
use miroir_control::Cluster;
use miroir_control::api::Control;
use miroir_control::pods::take_over;
use miroir_control::topology::founding::{FoundingError, found};
use miroir_core::keys::MasterKey;
use miroir_core::options::ConfigError;
use miroir_core::topology::{Node, Topology, TopologyError};
use miroir_layers::edge::rate_limit::Limiter;
use miroir_layers::index::tenant_affinity::TenantDirectory;
use miroir_layers::leaf::Quarantine;
use miroir_layers::node::CredentialsLayer;
use miroir_layers::operation::ShadowLayer;
use miroir_pipeline::cluster::ClusterState;
use miroir_pipeline::index::Scatter;
use miroir_pipeline::index::scatter::codecs;
use miroir_pipeline::leaf::Dispatch;
use miroir_pipeline::node::{Client, KnownDisks, Pool, Scores, is_https};
use miroir_pipeline::operation::Resolve;
use miroir_pipeline::stack::{BoxLayer, Description, OrderError, Stack};
use miroir_pipeline::tls::{ClientTls, ClientTlsOptions};
use miroir_pipeline::wiring::WiringError;
use miroir_pipeline::{index, leaf, node, operation};
use miroir_store::{StoreError, Stores, memory};

use crate::miroir::Miroir;
use crate::mount::{Layers, Mount, OwnLayers};
use crate::order::{self, NodeParts, Options, stage};
use crate::parts::Parts;
use crate::pod::Pod;

/// Why a pipeline could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A node id is not valid.
    #[error("{0}")]
    NodeId(#[from] InvalidNodeId),
    /// The nodes do not make a topology.
    #[error("{0}")]
    Topology(#[from] TopologyError),
    /// The node key cannot stand in a header.
    #[error("the node key has characters that a header cannot carry")]
    NodeKey(#[from] http::header::InvalidHeaderValue),
    /// There is no master key, so that everybody could do everything.
    #[error(
        "there is no master key, so everybody could do everything: give one with \
         `Builder::master_key`, or allow it with `Builder::open_to_everybody`"
    )]
    NoMasterKey,
    /// Several pods need stores that they share.
    #[error("`Builder::pod` needs `Builder::stores`: pods that share no store are no cluster")]
    PodWithoutStores,
    /// Layers stand in a wrong order.
    #[error("{0}")]
    Order(#[from] OrderError),
    /// A layer lacks another one that it needs.
    #[error("{0}")]
    Wiring(#[from] WiringError),
    /// The store failed.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The store has other nodes.
    #[error("{0}")]
    Founding(FoundingError),
    /// There is nobody to trust, and a node's address asks for TLS.
    #[error("{0}")]
    Tls(ConfigError),
}

/// Collects what a pipeline is made of. What is not given is as recommended: see [`Options`].
#[must_use]
pub struct Builder {
    nodes: Vec<(String, String, u32)>,
    replication_factor: u32,
    node_key: Option<String>,
    master_key: Option<MasterKey>,
    shards: Option<u32>,
    open: bool,
    admin_key: Option<String>,
    options: Options,
    timeout: Duration,
    stores: Option<Stores>,
    limiter: Option<Limiter>,
    shadow: Option<ShadowLayer>,
    pod: Option<Pod>,
    node_tls: Option<ClientTls>,
    own: OwnLayers,
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("nodes", &self.nodes).finish_non_exhaustive()
    }
}

impl Miroir {
    /// Starts collecting what a pipeline is made of.
    pub fn builder() -> Builder {
        Builder {
            nodes: Vec::new(),
            replication_factor: 1,
            node_key: None,
            master_key: None,
            shards: None,
            open: false,
            admin_key: None,
            options: Options::default(),
            timeout: Duration::from_secs(30),
            stores: None,
            limiter: None,
            shadow: None,
            pod: None,
            node_tls: None,
            own: OwnLayers::default(),
        }
    }
}

impl Builder {
    /// A builder without any layer: the stages alone, and whatever is put around them. Nobody is
    /// authenticated, and nothing is authorized, unless that is put there too.
    pub fn bare() -> miroir_control::Builder {
        miroir_control::Miroir::builder()
    }

    /// Adds a node: a stable id, its address (`http://host:port`, or `https://host:port` for TLS), its
    /// replica group, from 0.
    pub fn node(mut self, id: &str, address: &str, group: u32) -> Self {
        self.nodes.push((id.to_owned(), address.to_owned(), group));
        self
    }

    /// Copies of each shard inside a group; 1 by default.
    pub fn replication_factor(mut self, copies: u32) -> Self {
        self.replication_factor = copies;
        self
    }

    /// The key Miroir uses on nodes; none by default.
    pub fn node_key(mut self, key: impl Into<String>) -> Self {
        self.node_key = Some(key.into());
        self
    }

    /// How nodes are called whose address begins with `https://`: which authorities are trusted, and
    /// which certificate is shown. By default those are trusted that the system trusts, and none is
    /// shown. [`ClientTls::reload`] on a clone of it has the files read again.
    ///
    /// ```no_run
    /// # fn example() -> Result<(), miroir::options::ConfigError> {
    /// use miroir::Miroir;
    /// use miroir::tls::{ClientTls, ClientTlsOptions};
    /// let options = ClientTlsOptions { ca_file: "nodes-ca.pem".into(), ..Default::default() };
    /// let tls = ClientTls::load("node_tls", options)?;
    /// let builder = Miroir::builder().node("a", "https://10.0.0.1:7700", 0).node_tls(tls);
    /// # Ok(())
    /// # }
    /// ```
    pub fn node_tls(mut self, tls: ClientTls) -> Self {
        self.node_tls = Some(tls);
        self
    }

    /// The key clients use, from which API keys and tenant tokens are derived. An empty one is none.
    pub fn master_key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.master_key = MasterKey::new(key);
        self
    }

    /// Builds without a master key, too: everybody may do everything then, as on a Meilisearch
    /// without one.
    pub fn open_to_everybody(mut self) -> Self {
        self.open = true;
        self
    }

    /// The operator's key, which shows more of how a search is done. None by default: nobody is an
    /// operator.
    pub fn admin_key(mut self, key: impl Into<String>) -> Self {
        self.admin_key = Some(key.into());
        self
    }

    /// Number of shards of a new index; [`Options::cluster`] says otherwise.
    pub fn shards(mut self, shards: u32) -> Self {
        self.shards = Some(shards);
        self
    }

    /// What capabilities and stages are told.
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// How long a request of a client may take; 30 s by default.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Where state is kept; in memory by default, and gone with the process.
    pub fn stores(mut self, stores: Stores) -> Self {
        self.stores = Some(stores);
        self
    }

    /// Where requests are counted for rate limits; by default in the stores of several pods, and in
    /// memory otherwise.
    pub fn limiter(mut self, limiter: Limiter) -> Self {
        self.limiter = Some(limiter);
        self
    }

    /// Repeats reads at other clusters.
    pub fn shadow(mut self, shadow: ShadowLayer) -> Self {
        self.shadow = Some(shadow);
        self
    }

    /// One of several processes over stores that they share; alone by default. It answers and changes
    /// nothing before [`Miroir::spawn_workers`].
    pub fn pod(mut self, pod: Pod) -> Self {
        self.pod = Some(pod);
        self
    }

    /// Adds a capability of one's own: the layers its options make, inside of the recommended ones.
    pub fn mount(mut self, options: impl Mount) -> Self {
        self.own.push(move |parts| {
            let mut layers = Layers::default();
            options.clone().mount(&mut layers, parts);
            layers
        });
        self
    }

    /// Layers of one's own in the operation stage, inside of the recommended ones: what they see is
    /// authorized. The closure adds them to an empty stack, takes what they share of [`Parts`], and
    /// ends with [`Stack::boxed`]. It is called more than once: to build, to check, to describe.
    pub fn operation_layers(
        mut self,
        layers: impl Fn(
            Stack<operation::Request>,
            &Parts,
        ) -> Stack<operation::Request, BoxLayer<operation::Request>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        self.own.push(move |parts| Layers {
            operations: Some(layers(Stack::new(), parts)),
            ..Layers::default()
        });
        self
    }

    /// As [`Builder::operation_layers`], in the index stage.
    pub fn index_layers(
        mut self,
        layers: impl Fn(
            Stack<index::Request>,
            &Parts,
        ) -> Stack<index::Request, BoxLayer<index::Request>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        self.own.push(move |parts| Layers {
            indexes: Some(layers(Stack::new(), parts)),
            ..Layers::default()
        });
        self
    }

    /// As [`Builder::operation_layers`], in the leaf stage.
    pub fn leaf_layers(
        mut self,
        layers: impl Fn(Stack<leaf::Request>, &Parts) -> Stack<leaf::Request, BoxLayer<leaf::Request>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        self.own.push(move |parts| Layers {
            leaves: Some(layers(Stack::new(), parts)),
            ..Layers::default()
        });
        self
    }

    /// As [`Builder::operation_layers`], in the stage of each node, whose id the closure is told. They
    /// are next to the HTTP client, and see every call to it as it is sent.
    ///
    /// The closure is called for each node, and for one that there is not when the pipeline is
    /// described or checked.
    pub fn node_layers(
        mut self,
        layers: impl Fn(
            Stack<node::Request>,
            &NodeId,
            &Parts,
        ) -> Stack<node::Request, BoxLayer<node::Request>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        self.own.nodes = Some(Arc::new(move |node, parts| layers(Stack::new(), node, parts)));
        self
    }

    /// What [`Builder::build`] would build: the stages with their layers, from the client inwards.
    /// Opens nothing. A node key that cannot be used counts as none.
    pub fn describe(&self) -> Vec<Description> {
        let parts = Parts::of_nobody();
        let credentials = self.node_key.as_ref().and_then(|key| CredentialsLayer::new(key).ok());
        order::describe(&self.options, &parts, &self.own, credentials, self.shadow.clone()).0
    }

    /// How nodes are called.
    fn client_tls(&self) -> Result<ClientTls, BuildError> {
        let spoken = self.nodes.iter().any(|(_, address, _)| is_https(address));
        match &self.node_tls {
            Some(tls) => Ok(tls.clone()),
            // Read now, so that a system that trusts nobody is found out now.
            None if spoken => {
                ClientTls::load("node_tls", ClientTlsOptions::default()).map_err(BuildError::Tls)
            }
            None => Ok(ClientTls::default()),
        }
    }

    fn topology(&self) -> Result<Topology, BuildError> {
        let node = |(id, address, group): &(String, String, u32)| {
            Ok(Node::new(NodeId::new(id)?, address.clone(), GroupId(*group)))
        };
        let nodes = self.nodes.iter().map(node).collect::<Result<Vec<_>, InvalidNodeId>>()?;
        Ok(Topology::new(nodes, self.replication_factor)?)
    }

    /// Refuses what could be built and would be wrong.
    fn check(&self) -> Result<(), BuildError> {
        if self.options.cluster.master_key.is_none() && !self.open {
            return Err(BuildError::NoMasterKey);
        }
        if self.pod.is_some() && self.stores.is_none() {
            return Err(BuildError::PodWithoutStores);
        }
        Ok(())
    }

    /// Builds the pipeline, innermost stage first, and reads the stores. Nothing runs yet: see
    /// [`Miroir::spawn_workers`].
    ///
    /// # Errors
    /// [`BuildError`].
    pub async fn build(self) -> Result<Miroir, BuildError> {
        Box::pin(self.assemble()).await
    }

    async fn assemble(mut self) -> Result<Miroir, BuildError> {
        let cluster = &mut self.options.cluster;
        cluster.master_key = self.master_key.take().or_else(|| cluster.master_key.take());
        cluster.shards = self.shards.unwrap_or(cluster.shards);
        self.check()?;
        let topology = self.topology()?;
        let credentials = self.node_key.as_deref().map(CredentialsLayer::new).transpose()?;
        let tls = self.client_tls()?;
        let Self { options, stores, limiter, shadow, pod, admin_key, timeout, own, .. } = self;

        let scores = Arc::new(Scores::new(options.cluster.replica_selection.ewma_half_life));
        // Layers of nodes may need what the state has, and the state has the nodes: they are built
        // when it is there.
        let shared: Arc<OnceLock<Parts>> = Arc::default();
        let disks = KnownDisks::default();
        let factory = {
            let (options, scores) = (options.clone(), Arc::clone(&scores));
            let (own, shared, credentials) =
                (own.nodes.clone(), Arc::clone(&shared), credentials.clone());
            let known = disks.clone();
            Arc::new(move |it: &Node| {
                let (client, tls, known) = (options.node_client(), tls.clone(), known.clone());
                let client = Client::with_disks(it.id.clone(), &it.address, client, tls, known);
                let parts = NodeParts {
                    scores: Arc::clone(&scores),
                    connections: client.connections(),
                    credentials: credentials.clone(),
                };
                match own.as_ref().zip(shared.get()) {
                    Some((own, shared)) => order::node(&options, &it.id, &parts)
                        .append(own(&it.id, shared))
                        .build(node::BoxService::new(client)),
                    None => order::node(&options, &it.id, &parts).build(client),
                }
            })
        };
        let pool = Pool::empty(factory);
        let scatter = options.cluster.scatter;
        let stores = stores.unwrap_or_else(memory::open);
        let on_difference = options.cluster.topology.on_difference;
        let founding = found(&stores, topology, on_difference).await.map_err(|e| match e {
            FoundingError::Store(error) => BuildError::Store(error),
            error => BuildError::Founding(error),
        })?;
        let topology = founding.topology.clone();
        let state = ClusterState::new(
            founding,
            stores,
            pool.clone(),
            Arc::clone(&scores),
            options.cluster.clone(),
            pod.as_ref().map(|pod| pod.name.clone()),
        );
        state.tell_disks(&disks);
        let kept = options.tenant_affinity.is_kept().then(|| Arc::clone(&state.stores.tenants));
        let tenants = Arc::new(TenantDirectory::new(kept, Arc::clone(&state.leadership)));
        state.followers.register(Arc::clone(&tenants) as _);
        let limiter = limiter.unwrap_or_else(|| {
            let local = options.rate_limit.is_local(pod.is_some());
            let shared = || Arc::clone(&state.stores.buckets);
            Limiter::new(if local { memory::buckets() } else { shared() })
        });
        // The stores of the state: what they refuse, layers must not do either.
        let (stores, keyring) = (state.stores.clone(), Arc::clone(&state.keyring));
        let quarantine = Quarantine::new(options.query_quarantine, &stores);
        let parts = Parts { scores, stores, limiter, keyring, tenants, quarantine };
        order::describe(&options, &parts, &own, credentials, shadow.clone()).1.check()?;
        let _ = shared.set(parts.clone());
        pool.follow(&topology)?;
        if state.leadership.is_shared() {
            state.reload().await?;
        } else {
            take_over(&state).await?;
        }

        let own = own.make(&parts);
        let mut codecs = codecs();
        let dispatch = Dispatch::new(pool, Arc::clone(&parts.scores), scatter)
            .with_staleness(Arc::clone(&state.staleness));
        let leaves = stage!(order::leaf(&options, &parts), own.leaves, dispatch, codecs)?;
        let scatter = Scatter::new(leaves.clone(), Arc::clone(&state));
        let indexes = stage!(order::index(&options, &parts), own.indexes, scatter, codecs)?;
        let control = Arc::new(Control::new(leaves.clone(), Arc::clone(&state)));
        let resolve = Resolve::new(
            indexes.clone(),
            Arc::clone(&state),
            operation::BoxService::new(Control::clone(&control)),
            control,
        );
        let aliases = state.aliases.table();
        let operations = stage!(
            order::operation(&options, &parts, aliases, shadow),
            own.operations,
            resolve,
            codecs
        )?;
        let cluster = Cluster { operations, indexes, leaves, state };
        Ok(Miroir::new(cluster, options, parts, codecs, admin_key, timeout, pod))
    }
}
