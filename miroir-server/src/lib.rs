//! Miroir's reference server: the layers in their default order ([`stack`]), configuration,
//! listeners, workers and the admin API.
//!
//! [`Server`] is usable from tests and other programs; ports of 0 let the system choose:
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use miroir_server::{Server, config::Config};
//! let config = Config::from_yaml("miroir: {server: {port: 0, metrics_port: 0}}")?;
//! let server = Server::build(config).await?;
//! println!("serving on {}", server.addresses().client);
//! server.run(async { let _ = tokio::signal::ctrl_c().await; }).await?;
//! # Ok(())
//! # }
//! ```

mod admin;
mod command;
pub mod config;
pub mod metrics;
mod mount;
mod paths;
mod peers;
mod refusal;
mod resources;
pub mod serve;
mod shadow;
pub mod stack;
pub mod telemetry;
mod tls;
mod workers;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;
use miroir::store::{StoreError, Stores};
use miroir::topology::TopologyError;
use miroir::{Cluster, Miroir, OrderError};
use miroir_api::InvalidNodeId;
use miroir_api::meili::{DEFAULT_DOCS_BASE, set_docs_base};
use miroir_layers::edge::ObserveOptions;
use miroir_layers::operation::ShadowLog;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use crate::command::run;

use crate::admin::Readiness;
use crate::config::{Config, ConfigErrors, TaskStoreBackend};
use crate::mount::Mount;
use crate::peers::Identity;
use crate::tls::Tls;

/// Why a server could not be built or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// Rules between configuration keys are broken, or a file that they name cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// A node's id cannot be one.
    #[error("`nodes[].id`: {0}")]
    NodeId(#[from] InvalidNodeId),
    /// The nodes are no cluster.
    #[error("{0}")]
    Topology(#[from] TopologyError),
    /// The store cannot be used.
    #[error("`{key}` {place}: {source}")]
    Store {
        /// The key that says where it is.
        key: &'static str,
        /// The file, or the address without credentials.
        place: String,
        /// What the store says.
        source: StoreError,
    },
    /// The node key cannot stand in a header.
    #[error("`node_master_key` has characters that a header cannot carry")]
    NodeKey(#[from] http::header::InvalidHeaderValue),
    /// The key of a shadow cannot be used.
    #[error(
        "`shadow.targets[{at}].api_key_env`: the variable {variable} {problem}; set it, or remove the key for a target without one"
    )]
    ShadowKey {
        /// Which target.
        at: usize,
        /// The variable that holds it.
        variable: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Layers stand in a wrong order.
    #[error("{0}")]
    Order(#[from] OrderError),
    /// A listener cannot be opened.
    #[error("cannot listen on {address} (`server.bind`, `{key}`): {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The key that sets the port.
        key: &'static str,
        /// What the system says.
        source: std::io::Error,
    },
    /// The library refuses what it was told, for a reason that no key of the configuration has.
    #[error("{0}")]
    Pipeline(miroir::BuildError),
}

impl BuildError {
    /// Says of what the library refuses which key to change.
    fn of_pipeline(config: &Config, error: miroir::BuildError) -> Self {
        match error {
            miroir::BuildError::NodeId(error) => Self::NodeId(error),
            miroir::BuildError::Topology(error) => Self::Topology(error),
            miroir::BuildError::NodeKey(error) => Self::NodeKey(error),
            miroir::BuildError::Order(error) => Self::Order(error),
            miroir::BuildError::Store(source) => store_failed(config, source),
            miroir::BuildError::Tls(fault) => Self::Config(fault.into()),
            other => Self::Pipeline(other),
        }
    }
}

/// Where a server listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The client API, and the admin API under `/_miroir`; over TLS where `server.tls` has it.
    pub client: SocketAddr,
    /// `GET /metrics`, without a key, over plain HTTP.
    pub metrics: SocketAddr,
}

/// A server that is ready to run: stores open, sockets bound, nothing accepted yet.
pub struct Server {
    config: Config,
    miroir: Miroir,
    shadow: Option<Arc<ShadowLog>>,
    readiness: Readiness,
    metrics: PrometheusHandle,
    tls: Tls,
    client: TcpListener,
    scrape: TcpListener,
    addresses: Addresses,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

impl Server {
    /// Validates the configuration, opens the store, builds the stages and binds both listeners.
    ///
    /// # Errors
    /// [`BuildError`] names the configuration key to change.
    pub async fn build(config: Config) -> Result<Self, BuildError> {
        config.validate().map_err(ConfigErrors::from)?;
        let tls = Tls::load(&config)?;
        let stores = open_stores(&config).await.map_err(|source| store_failed(&config, source))?;
        Box::pin(Self::with(config, stores, tls)).await
    }

    /// As [`Server::build`], over stores of the caller's choice.
    ///
    /// # Errors
    /// [`BuildError`] names the configuration key to change.
    pub async fn with_stores(config: Config, stores: Stores) -> Result<Self, BuildError> {
        config.validate().map_err(ConfigErrors::from)?;
        let tls = Tls::load(&config)?;
        Box::pin(Self::with(config, stores, tls)).await
    }

    async fn with(config: Config, stores: Stores, tls: Tls) -> Result<Self, BuildError> {
        let metrics = metrics::install();
        metrics::touch_nodes(config.nodes.iter().map(|node| node.id.as_str()));
        metrics::touch_targets(config.shadow.targets.iter().map(|target| target.name.as_str()));
        for warning in config.warnings() {
            tracing::warn!(warning, "configuration");
        }
        let docs = &config.server.docs_base_url;
        if docs != DEFAULT_DOCS_BASE
            && let Err(kept) = set_docs_base(docs)
        {
            tracing::warn!(kept, "`server.docs_base_url`: another server of this process set it");
        }
        let me = Identity::of_this_pod();
        let (mut miroir, shadow) = Box::pin(stack::build(&config, stores, &me, &tls)).await?;
        let server = &config.server;
        let client = bind(server.bind, server.port, "server.port").await?;
        let metrics_bind = server.metrics_bind.unwrap_or(server.bind);
        let scrape = bind(metrics_bind, server.metrics_port, "server.metrics_port").await?;
        let address = |listener: &TcpListener, key| {
            listener.local_addr().map_err(|source| BuildError::Bind {
                address: SocketAddr::new(server.bind, 0),
                key,
                source,
            })
        };
        let addresses = Addresses {
            client: address(&client, "server.port")?,
            metrics: address(&scrape, "server.metrics_port")?,
        };
        stack::advertise(&config, &mut miroir, &me, addresses.client);
        let readiness = Readiness::default();
        Ok(Self { config, miroir, shadow, readiness, metrics, tls, client, scrape, addresses })
    }

    /// Where the server listens, with the ports the system chose.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Handles to the running stages.
    pub fn cluster(&self) -> &Cluster {
        self.miroir.cluster()
    }

    /// Serves until `shutdown` is done. Then stops accepting, lets requests under way finish, waits
    /// for writes that outlive their clients, ends the workers and closes the stores. Each of the
    /// two waits is bounded by `server.request_timeout_ms`.
    ///
    /// Dropping the future instead cuts everything off.
    ///
    /// # Errors
    /// None today; reserved for listeners that fail while running.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), BuildError> {
        let drain = self.config.server.request_timeout;
        let cluster = self.miroir.cluster();
        let state = Arc::clone(&cluster.state);
        let admin =
            admin::router(&self.config, &self.miroir, self.shadow, &self.readiness, &self.metrics);
        let mount = Mount::new(admin, self.miroir.decode());
        let edge = self.miroir.edge(mount, ObserveOptions { template: paths::template });
        let accept = CancellationToken::new();
        let scrapes = CancellationToken::new();

        let mut listeners = JoinSet::new();
        let tls = self.tls.listener;
        let speaks = if tls.is_some() { "https" } else { "http" };
        listeners.spawn(serve::serve(self.client, tls, edge, accept.clone(), drain));
        let mut scraper = JoinSet::new();
        let metrics = serve::scrape_service(self.metrics.clone());
        scraper.spawn(serve::serve(self.scrape, None, metrics, scrapes.clone(), Duration::ZERO));
        let certificates = self.tls.sources;
        tls::hear(&certificates);
        let mut workers = workers::start(&self.miroir, &self.readiness, self.metrics, certificates);
        drop(self.miroir);
        tracing::info!(
            client = %self.addresses.client,
            scheme = speaks,
            metrics = %self.addresses.metrics,
            version = env!("CARGO_PKG_VERSION"),
            "serving"
        );

        shutdown.await;

        tracing::info!("shutting down: no new requests");
        accept.cancel();
        while listeners.join_next().await.is_some() {}
        state.tracker.close();
        if tokio::time::timeout(drain, state.tracker.wait()).await.is_err() {
            // What they were doing is in the store; the next start picks it up.
            tracing::warn!(left = state.tracker.len(), "writes were still under way");
        }
        state.stop.cancel();
        while workers.join_next().await.is_some() {}
        scrapes.cancel();
        while scraper.join_next().await.is_some() {}
        tracing::info!("stopped");
        Ok(())
    }
}

/// The features whose tables the store must have.
fn features(config: &Config) -> Vec<&'static str> {
    let mut features = Vec::new();
    if config.tenant_affinity.is_kept() {
        features.push("tenant_map");
    }
    features
}

async fn open_stores(config: &Config) -> Result<Stores, StoreError> {
    let store = &config.task_store;
    let features = features(config);
    match store.backend {
        TaskStoreBackend::Sqlite => {
            let path = store.path.clone();
            // Off the runtime: it may have to migrate.
            tokio::task::spawn_blocking(move || {
                let options = miroir_store_sqlite::Options {
                    features,
                    ..miroir_store_sqlite::Options::default()
                };
                miroir_store_sqlite::open(&path, options)
            })
            .await
            .map_err(|panic| StoreError::Backend(Box::new(panic)))?
        }
        TaskStoreBackend::Redis => {
            let options = miroir_store_redis::Options {
                key_prefix: store.key_prefix.clone(),
                connect_timeout: store.connect_timeout,
                response_timeout: store.response_timeout,
                features,
            };
            miroir_store_redis::open(store.url.expose(), options).await
        }
    }
}

/// Says which store failed.
fn store_failed(config: &Config, source: StoreError) -> BuildError {
    let store = &config.task_store;
    let (key, place) = match store.backend {
        TaskStoreBackend::Sqlite => ("task_store.path", store.path.display().to_string()),
        TaskStoreBackend::Redis => {
            ("task_store.url", miroir_store_redis::address(store.url.expose()).unwrap_or_default())
        }
    };
    BuildError::Store { key, place, source }
}

async fn bind(
    ip: std::net::IpAddr,
    port: u16,
    key: &'static str,
) -> Result<TcpListener, BuildError> {
    let address = SocketAddr::new(ip, port);
    TcpListener::bind(address).await.map_err(|source| BuildError::Bind { address, key, source })
}
