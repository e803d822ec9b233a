//! Nodes and servers as processes on loopback, for the demo, the benches and the conformance run.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::build::Programs;
use crate::guard::{self, Process, Scratch};
use crate::http::Client;
use crate::options::Shape;
use crate::{Failure, Outcome};

/// The key of clients. Everything here listens on loopback only and lives for minutes.
pub(crate) const MASTER_KEY: &str = "demo-master-key-for-clients";
/// The key of nodes.
pub(crate) const NODE_KEY: &str = "demo-node-key-behind-miroir";
/// The key of operators.
pub(crate) const ADMIN_KEY: &str = "demo-admin-key-for-operators";

/// How long a process may take until it answers.
pub(crate) const START_LIMIT: Duration = Duration::from_mins(1);
/// How long one task may take.
const TASK_LIMIT: Duration = Duration::from_mins(10);
/// What a node may index with. It sets a part of that aside, and clears it, for every batch: a second's
/// work where it is most of the machine's memory, as by default, and nodes here share a machine.
const INDEXING_MEMORY: &str = "512MB";

/// What runs as nodes.
#[derive(Clone, Debug)]
pub(crate) enum NodeProgram {
    /// The engine node of the test kit.
    Engine(PathBuf),
    /// A real Meilisearch.
    Meilisearch(PathBuf),
}

impl NodeProgram {
    /// A real binary if one was named, else the engine node that was built.
    pub(crate) fn choose(real: Option<&Path>, programs: &Programs) -> Outcome<Self> {
        match (real, &programs.engine_node) {
            (Some(path), _) if path.is_file() => Ok(Self::Meilisearch(path.to_owned())),
            (Some(path), _) => Err(format!("{} is not a file", path.display()).into()),
            (None, Some(path)) => Ok(Self::Engine(path.clone())),
            (None, None) => Err("the engine node was not built".into()),
        }
    }

    /// What it is, without its path.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Engine(_) => "engine nodes",
            Self::Meilisearch(_) => "real nodes",
        }
    }

    /// For messages.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Engine(_) => "engine nodes of the test kit".to_owned(),
            Self::Meilisearch(path) => format!("{} processes", path.display()),
        }
    }
}

/// A running node.
#[derive(Debug)]
pub(crate) struct Node {
    /// Base address.
    pub(crate) url: String,
    process: Process,
}

impl Node {
    /// Starts a node with its data and its log below `dir`, and waits until it answers.
    pub(crate) fn start(program: &NodeProgram, name: &str, dir: &Path) -> Outcome<Self> {
        Self::start_at(program, name, dir, None)
    }

    /// As [`Node::start`], on a port that was chosen before.
    pub(crate) fn start_at(
        program: &NodeProgram,
        name: &str,
        dir: &Path,
        port: Option<u16>,
    ) -> Outcome<Self> {
        let (home, log) = (dir.join(name), dir.join(format!("{name}.log")));
        std::fs::create_dir_all(&home)?;
        match program {
            NodeProgram::Engine(path) => {
                let mut command = Command::new(path);
                let port = port.unwrap_or(0).to_string();
                command.arg("--dir").arg(&home).args(["--port", &port, "--master-key", NODE_KEY]);
                let (process, url) =
                    Process::start_announced(name, &mut command, &log, START_LIMIT)?;
                if !url.starts_with("http://") {
                    return Err(process.trouble(&format!("printed `{url}` instead of its address")));
                }
                let mut node = Self { url, process };
                node.wait_ready()?;
                Ok(node)
            }
            NodeProgram::Meilisearch(path) => {
                // Somebody else may take the port between the choice and the start.
                let mut last = None;
                for _ in 0..3 {
                    let url = format!("http://127.0.0.1:{}", port.map_or_else(free_port, Ok)?);
                    let mut command = Command::new(path);
                    command
                        .args(["--no-analytics", "--http-addr", url.trim_start_matches("http://")])
                        .arg("--db-path")
                        .arg(home.join("data"))
                        .env("MEILI_MASTER_KEY", NODE_KEY)
                        // Or nodes refuse to call each other on loopback, which the bench's remote
                        // federated search needs.
                        .env("MEILI_EXPERIMENTAL_ALLOWED_IP_NETWORKS", "127.0.0.0/8")
                        .env("MEILI_MAX_INDEXING_MEMORY", INDEXING_MEMORY)
                        .current_dir(&home);
                    let process = Process::start(name, &mut command, &log)?;
                    let mut node = Self { url, process };
                    match node.wait_ready() {
                        Ok(()) => return Ok(node),
                        Err(Failure::Stopped) => return Err(Failure::Stopped),
                        Err(error) => last = Some(error),
                    }
                }
                Err(last.unwrap_or_else(|| format!("{name} did not start").into()))
            }
        }
    }

    /// An error when it has ended.
    pub(crate) fn check(&mut self) -> Outcome<()> {
        self.process.check()
    }

    /// Its port.
    pub(crate) fn port(&self) -> Option<u16> {
        self.url.rsplit(':').next()?.parse().ok()
    }

    /// Ends it with SIGKILL.
    pub(crate) fn kill(&mut self) -> Outcome<()> {
        self.process.kill()
    }

    /// Stops it in the middle of what it does: its connections stay open, and nothing answers.
    pub(crate) fn pause(&self) -> Outcome<()> {
        self.process.signal(Signal::STOP)
    }

    /// Lets it go on after [`Node::pause`].
    pub(crate) fn resume(&self) -> Outcome<()> {
        self.process.signal(Signal::CONT)
    }

    /// A client with the node's key.
    pub(crate) fn client(&self) -> Client {
        Client::new(&self.url, NODE_KEY)
    }

    /// Process id.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    fn wait_ready(&mut self) -> Outcome<()> {
        let mut client = self.client().timeout(Duration::from_secs(5));
        wait_ready(&mut self.process, START_LIMIT, || {
            Ok(client.get("/health").is_ok_and(|reply| reply.status == 200))
        })
    }
}

fn wait_ready(
    process: &mut Process,
    limit: Duration,
    mut ready: impl FnMut() -> Outcome<bool>,
) -> Outcome<()> {
    let answered = guard::wait_until(limit, || {
        process.check()?;
        ready()
    })?;
    if answered { Ok(()) } else { Err(process.trouble("does not answer")) }
}

/// A running `miroir-server`.
#[derive(Debug)]
pub(crate) struct Server {
    /// Base address of the client API.
    pub(crate) url: String,
    /// Address of the metrics.
    pub(crate) metrics_url: String,
    /// Its configuration file.
    pub(crate) config: PathBuf,
    process: Process,
}

impl Server {
    /// Starts a server in front of `nodes`, spread over the groups in turn.
    pub(crate) fn start(
        program: &Path,
        nodes: &[String],
        shape: Shape,
        port: Option<u16>,
        dir: &Path,
    ) -> Outcome<Self> {
        Self::start_with(program, nodes, shape, port, dir, "")
    }

    /// As [`Server::start`], with more lines of configuration below `miroir`.
    pub(crate) fn start_with(
        program: &Path,
        nodes: &[String],
        shape: Shape,
        port: Option<u16>,
        dir: &Path,
        more: &str,
    ) -> Outcome<Self> {
        Self::start_command(Command::new(program), START_LIMIT, nodes, shape, port, dir, more)
    }

    /// As [`Server::start_with`], by a command that the server's arguments are put behind: the server
    /// itself, or what runs it. It may take up to `limit` until it is ready.
    pub(crate) fn start_command(
        command: Command,
        limit: Duration,
        nodes: &[String],
        shape: Shape,
        port: Option<u16>,
        dir: &Path,
        more: &str,
    ) -> Outcome<Self> {
        let port = match port {
            Some(0) | None => free_port()?,
            Some(port) => {
                // A clear message now instead of a log to read later.
                TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(|error| {
                    format!("port {port} cannot be used ({error}); choose another with --port")
                })?;
                port
            }
        };
        let store = format!("{{ backend: sqlite, path: {} }}", json!(dir.join("miroir.db")));
        let metrics_port = free_port()?;
        let text = configuration(nodes, shape, port, metrics_port, &store);
        Self::launch(command, limit, &(text + more), (port, metrics_port), dir)
    }

    /// Starts one of several servers over one `store`, a line of configuration, under a name of its own.
    pub(crate) fn start_pod(
        program: &Path,
        name: &str,
        nodes: &[String],
        shape: Shape,
        store: &str,
        dir: &Path,
    ) -> Outcome<Self> {
        let (port, metrics_port) = (free_port()?, free_port()?);
        let mut command = Command::new(program);
        command.env("POD_NAME", name);
        let text = configuration(nodes, shape, port, metrics_port, store);
        Self::launch(command, START_LIMIT, &text, (port, metrics_port), dir)
    }

    fn launch(
        mut command: Command,
        limit: Duration,
        text: &str,
        (port, metrics_port): (u16, u16),
        dir: &Path,
    ) -> Outcome<Self> {
        let config = dir.join("miroir.yaml");
        std::fs::write(&config, text)?;
        command
            .arg("--config")
            .arg(&config)
            .env("MIROIR_MASTER_KEY", MASTER_KEY)
            .env("MIROIR_NODE_MASTER_KEY", NODE_KEY)
            .env("MIROIR_ADMIN_API_KEY", ADMIN_KEY)
            .env_remove("MIROIR_CONFIG")
            .current_dir(dir);
        let process =
            Process::start("miroir-server", &mut command, &dir.join("miroir-server.log"))?;
        let url = format!("http://127.0.0.1:{port}");
        let metrics_url = format!("http://127.0.0.1:{metrics_port}/metrics");
        let mut server = Self { url, metrics_url, config, process };
        let mut client = server.client().timeout(Duration::from_secs(5));
        // `/health` answers as soon as the listener is open, this one when every shard can be read.
        wait_ready(&mut server.process, limit, || {
            Ok(client.get("/_miroir/ready").is_ok_and(|reply| reply.status == 200))
        })?;
        Ok(server)
    }

    /// A client with the master key.
    pub(crate) fn client(&self) -> Client {
        Client::new(&self.url, MASTER_KEY)
    }

    /// Process id.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// An error when it has ended.
    pub(crate) fn check(&mut self) -> Outcome<()> {
        self.process.check()
    }

    /// Ends it with SIGKILL.
    pub(crate) fn kill(&mut self) -> Outcome<()> {
        self.process.kill()
    }
}

/// A server and its nodes. Fields stop in their order: server, nodes, directory.
#[derive(Debug)]
pub(crate) struct Cluster {
    /// The server.
    pub(crate) server: Server,
    /// The nodes.
    pub(crate) nodes: Vec<Node>,
    /// Everything they wrote.
    pub(crate) scratch: Scratch,
}

impl Cluster {
    /// Starts nodes and server.
    pub(crate) fn start(
        program: &NodeProgram,
        server: &Path,
        shape: Shape,
        port: Option<u16>,
        scratch: Scratch,
    ) -> Outcome<Self> {
        let nodes = (0..shape.node_count())
            .map(|number| Node::start(program, &format!("node-{number}"), scratch.path()))
            .collect::<Outcome<Vec<_>>>()?;
        let urls: Vec<String> = nodes.iter().map(|node| node.url.clone()).collect();
        let server = Server::start(server, &urls, shape, port, scratch.path())?;
        Ok(Self { server, nodes, scratch })
    }
}

/// The configuration file of a demo server. Secrets come from the environment.
fn configuration(
    nodes: &[String],
    shape: Shape,
    port: u16,
    metrics_port: u16,
    store: &str,
) -> String {
    use std::fmt::Write as _;
    let mut text = format!(
        "# Written by `cargo xtask`. Keys come from MIROIR_MASTER_KEY, MIROIR_NODE_MASTER_KEY and\n\
         # MIROIR_ADMIN_API_KEY.\n\
         miroir:\n  shards: {}\n  replica_groups: {}\n  replication_factor: {}\n  nodes:\n",
        shape.shards, shape.groups, shape.factor,
    );
    for (number, url) in nodes.iter().enumerate() {
        let group = number as u32 % shape.groups;
        let _ = writeln!(
            text,
            "    - {{ id: node-{number}, address: \"{url}\", replica_group: {group} }}"
        );
    }
    let _ = write!(
        text,
        "  server: {{ bind: 127.0.0.1, port: {port}, metrics_port: {metrics_port} }}\n  \
         task_store: {store}\n"
    );
    text
}

/// A port that is free on loopback right now.
pub(crate) fn free_port() -> Outcome<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Sends a request that has to be accepted, and returns the task's uid.
pub(crate) fn enqueue(
    client: &mut Client,
    method: &str,
    path: &str,
    kind: &str,
    body: &[u8],
) -> Outcome<u64> {
    let reply = client.send(method, path, Some((kind, body)))?;
    match (reply.status, reply.json()["taskUid"].as_u64()) {
        (202, Some(uid)) => Ok(uid),
        (status, _) => Err(format!("{method} {path} answered {status}: {}", reply.text()).into()),
    }
}

/// Whether the other side has ended all its tasks, as far as it says.
pub(crate) fn is_idle(client: &mut Client) -> Outcome<bool> {
    let open = client.get("/tasks?statuses=enqueued,processing&limit=1")?;
    Ok(open.json()["total"] == 0)
}

/// Waits until a task has ended; an error unless it succeeded.
pub(crate) fn wait_task(client: &mut Client, uid: u64) -> Outcome<Value> {
    let mut task = Value::Null;
    let path = format!("/tasks/{uid}");
    let ended = guard::wait_until(TASK_LIMIT, || {
        let reply = client.get(&path)?;
        if reply.status != 200 {
            return Err(format!("{path} answered {}: {}", reply.status, reply.text()).into());
        }
        task = reply.json();
        Ok(!matches!(task["status"].as_str(), Some("enqueued" | "processing")))
    })?;
    match task["status"].as_str() {
        Some("succeeded") if ended => Ok(task),
        _ => Err(format!("task {uid} did not succeed: {task}").into()),
    }
}

/// [`enqueue`] with a JSON body, then [`wait_task`].
pub(crate) fn apply(client: &mut Client, method: &str, path: &str, body: &Value) -> Outcome<Value> {
    let body = body.to_string();
    let uid = enqueue(client, method, path, "application/json", body.as_bytes())?;
    wait_task(client, uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_take_nodes_in_turn() {
        let nodes = ["http://127.0.0.1:1", "http://127.0.0.1:2", "http://127.0.0.1:3"];
        let shape = Shape { groups: 2, ..Shape::default() };
        let text =
            configuration(&nodes.map(str::to_owned), shape, 7700, 9090, "{ backend: memory }");
        let groups: Vec<&str> =
            text.lines().filter_map(|line| line.split("replica_group: ").nth(1)).collect();
        assert_eq!(groups, ["0 }", "1 }", "0 }"]);
        assert!(text.contains("task_store: { backend: memory }"), "{text}");
    }
}
