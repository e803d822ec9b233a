//! Nodes that are processes of a real Meilisearch where there is one, and the in-process engine
//! where there is none.

use std::ffi::OsString;
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use miroir_engine::EngineNode;
use tempfile::TempDir;

use super::{Api, KEY};

/// How long a node may take to start.
const PATIENCE: Duration = Duration::from_secs(30);

/// A node. It ends when this is dropped.
#[derive(Debug)]
pub(crate) enum Node {
    Engine(EngineNode),
    Process(Process),
}

/// A node in a process of its own.
#[derive(Debug)]
pub(crate) struct Process {
    url: String,
    child: Child,
    _directory: TempDir,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Node {
    /// Where it listens.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Engine(node) => node.url(),
            Self::Process(node) => node.url.clone(),
        }
    }
}

/// The binary that `MIROIR_TEST_MEILISEARCH` names.
pub(crate) fn binary() -> Option<OsString> {
    std::env::var_os("MIROIR_TEST_MEILISEARCH").filter(|path| !path.is_empty())
}

/// What [`nodes`] starts.
pub(crate) fn describe() -> &'static str {
    if binary().is_some() { "processes of a real Meilisearch" } else { "the in-process engine" }
}

/// Starts nodes.
pub(crate) async fn nodes(count: usize) -> Vec<Node> {
    let mut out = Vec::with_capacity(count);
    for _ in 0..count {
        out.push(match binary() {
            Some(binary) => Node::Process(process(&binary).await),
            None => Node::Engine(EngineNode::start_temp(KEY).await.unwrap()),
        });
    }
    out
}

async fn process(binary: &OsString) -> Process {
    let directory = tempfile::tempdir().unwrap();
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let child = Command::new(binary)
        .args(["--no-analytics", "--master-key", KEY, "--http-addr"])
        .arg(format!("127.0.0.1:{port}"))
        // Set aside for every batch: by default a second's work.
        .env("MEILI_MAX_INDEXING_MEMORY", "256MB")
        .current_dir(directory.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}", binary.display()));
    let url = format!("http://127.0.0.1:{port}");
    let mut node = Process { url: url.clone(), child, _directory: directory };
    let deadline = Instant::now() + PATIENCE;
    let api = Api::at(url);
    while api.reachable().await != Some(200) {
        let ended = node.child.try_wait().unwrap();
        assert!(ended.is_none(), "{} ended: {ended:?}", binary.display());
        assert!(Instant::now() < deadline, "{} does not start", binary.display());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    node
}
