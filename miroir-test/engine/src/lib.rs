//! An in-process, Meilisearch-compatible node over the Meilisearch engine. A test and demo part.
//!
//! It exists so that Miroir can be compared with a real search engine, and shown at work, without
//! any external process: tests and the demo start a few of these nodes on loopback ports and talk
//! HTTP to them. It is **not** meant for production: no API keys besides the master key, no dumps,
//! snapshots, federated search or remote embedders, and durability is best effort (files are not
//! synchronised explicitly).
//!
//! Every node has its own data directory with one engine environment per index, an append-only
//! journal of tasks and the payloads of the tasks that wait. One thread runs the tasks in order.
//! Starting again on the same directory restores all of it.

mod answers;
mod documents;
mod errors;
mod format;
mod index_routes;
mod indexing;
mod params;
mod payload;
mod query;
mod routes;
mod search;
mod server;
mod settings;
mod settings_view;
mod store;
mod tasks;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::indexing::Indexing;
use self::store::IndexStore;
use self::tasks::queue::TaskQueue;

/// The version that `GET /version` reports: the engine's own.
pub const ENGINE_VERSION: &str = "1.15.1";

/// What the routes and the worker share.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) master_key: Option<String>,
    pub(crate) indexes: IndexStore,
    pub(crate) queue: TaskQueue,
    /// Switches of experimental features. They are shown, and change nothing here.
    pub(crate) features: std::sync::Mutex<serde_json::Map<String, serde_json::Value>>,
}

/// How to start a node.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Data directory, created when missing. Two live nodes must not share one.
    pub dir: PathBuf,
    /// Loopback port; 0 takes a free one.
    pub port: u16,
    /// The bearer token that requests must carry, if any.
    pub master_key: Option<String>,
}

/// A running node. Dropping it is like [`EngineNode::kill`].
#[derive(Debug)]
pub struct EngineNode {
    address: SocketAddr,
    state: Arc<State>,
    stop: watch::Sender<bool>,
    server: Option<JoinHandle<()>>,
    worker: Option<thread::JoinHandle<()>>,
    temporary: Option<PathBuf>,
}

impl EngineNode {
    /// Starts a node on `127.0.0.1`. Must be called inside a Tokio runtime.
    ///
    /// # Errors
    /// When the port is taken, or the data directory cannot be used.
    pub async fn start(options: EngineOptions) -> std::io::Result<EngineNode> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port)).await?;
        let address = listener.local_addr()?;
        let opened = tokio::task::spawn_blocking(move || {
            std::fs::create_dir_all(&options.dir)?;
            let indexes = IndexStore::open(&options.dir)?;
            let queue = TaskQueue::open(&options.dir)?;
            let features = std::sync::Mutex::default();
            let state = State { master_key: options.master_key, indexes, queue, features };
            Ok::<_, std::io::Error>((state, Indexing::new()?))
        });
        let (state, indexing) = opened.await.map_err(std::io::Error::other)??;
        let state = Arc::new(state);
        let for_worker = Arc::clone(&state);
        let worker = thread::Builder::new()
            .name("engine-worker".to_owned())
            .spawn(move || tasks::worker::run(&for_worker, &indexing))?;
        let (stop, stopped) = watch::channel(false);
        let server = tokio::spawn(server::serve(listener, Arc::clone(&state), stopped));
        Ok(EngineNode {
            address,
            state,
            stop,
            server: Some(server),
            worker: Some(worker),
            temporary: None,
        })
    }

    /// Starts a node on a free port with a data directory of its own, removed with the node.
    ///
    /// # Errors
    /// When the data directory cannot be made or used.
    pub async fn start_temp(master_key: &str) -> std::io::Result<EngineNode> {
        let dir = std::env::temp_dir().join(format!("miroir-engine-{}", uuid::Uuid::new_v4()));
        let options =
            EngineOptions { dir: dir.clone(), port: 0, master_key: Some(master_key.to_owned()) };
        let started = EngineNode::start(options).await;
        match started {
            Ok(mut node) => {
                node.temporary = Some(dir);
                Ok(node)
            }
            Err(error) => {
                let _ = std::fs::remove_dir_all(dir);
                Err(error)
            }
        }
    }

    /// Base URL, such as `http://127.0.0.1:7700`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Stops gracefully: requests under way and the task being processed end, waiting tasks stay
    /// on disk, the environments are closed.
    pub async fn stop(mut self) {
        let _ = self.stop.send(true);
        if let Some(server) = self.server.take() {
            let _ = server.await;
        }
        self.state.queue.stop(false);
        let worker = self.worker.take();
        let state = Arc::clone(&self.state);
        let closing = tokio::task::spawn_blocking(move || {
            if let Some(worker) = worker {
                let _ = worker.join();
            }
            state.indexes.close();
        });
        let _ = closing.await;
    }

    /// Stops at once: connections are cut and the transaction under way is given up. The queue
    /// stays on disk as it is. Blocks for the short moment the worker needs to notice.
    pub fn kill(mut self) {
        self.cut();
    }

    fn cut(&mut self) {
        if let Some(server) = self.server.take() {
            server.abort();
        }
        self.state.queue.stop(true);
        if let Some(worker) = self.worker.take() {
            let _ = worker.join();
        }
    }
}

impl Drop for EngineNode {
    fn drop(&mut self) {
        self.cut();
        if let Some(dir) = self.temporary.take() {
            let _ = std::fs::remove_dir_all(dir);
        }
    }
}
