//! A whole cluster in memory: the real pipeline and workers over fake nodes, on tokio's clock.

mod life;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http_body_util::{BodyExt, Full};
use miroir::context::Principal;
use miroir::leaf::{self, Target};
use miroir::node::health::HealthOptions;
use miroir::operation::control::drift::DriftOptions;
use miroir::quorum::WriteQuorum;
use miroir::routing::ShardSet;
use miroir::stage::BoxService;
use miroir::store::{Stores, memory};
use miroir::{Error, Miroir};
use miroir_api::{NodeId, header};
use serde_json::Value;
use tokio::time::Instant;
use tower::ServiceExt;

pub use life::Life;

use crate::faults::Fault;
use crate::node::FakeNode;

/// Time a client waits for an answer.
const CLIENT_PATIENCE: Duration = Duration::from_mins(1);
/// Times a leaf asks again for what a node failed to answer.
const FAILOVERS: usize = 3;

/// What a cluster looks like.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// S.
    pub shards: u32,
    /// RG.
    pub groups: u32,
    /// RF.
    pub rf: u32,
    /// Nodes in each group.
    pub nodes_per_group: u32,
    /// When a write is acknowledged.
    pub quorum: WriteQuorum,
}

/// What a client gets.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status; 0 when the connection broke.
    pub status: u16,
    /// `X-Miroir-Degraded`.
    pub degraded: Option<String>,
    /// The body; `null` when it is no JSON.
    pub body: Value,
}

impl Answer {
    /// Whether it is a 200 that claims to be complete.
    pub fn complete(&self) -> bool {
        self.status == 200 && self.degraded.is_none()
    }

    /// The error code, if it is an error.
    pub fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }
}

#[derive(Clone, Debug)]
struct Running {
    miroir: Miroir,
    life: Life,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct SimCluster {
    /// The nodes, `n0`, `n1`, …, group by group.
    pub nodes: Vec<FakeNode>,
    /// What the process keeps, as it is on the disk.
    pub stores: Stores,
    /// Its shape.
    pub shape: Shape,
    running: Mutex<Running>,
}

/// Asks other replicas for what a node failed to answer. Reads only.
fn failover(inner: BoxService<leaf::Request>) -> BoxService<leaf::Request> {
    BoxService::new(tower::service_fn(move |request: leaf::Request| {
        let inner = inner.clone();
        async move {
            let mut answer = inner.clone().oneshot(request.clone()).await?;
            let Target::Cover { avoid, .. } = &request.target else { return Ok(answer) };
            let mut avoid = avoid.clone();
            // Failures that nobody can make good say more than "missing".
            let mut settled = Vec::new();
            for _ in 0..FAILOVERS {
                if answer.failed.is_empty() {
                    break;
                }
                let mut shards = ShardSet::empty(request.index.shards);
                let open = std::mem::take(&mut answer.failed);
                for failed in &open {
                    shards.union_with(&failed.shards);
                    avoid.push(failed.node.clone());
                }
                let target = Target::Cover { shards, avoid: avoid.clone(), chosen: None };
                let again = leaf::Request { target, ..request.clone() };
                let more = inner.clone().oneshot(again).await?;
                answer.pages.extend(more.pages);
                answer.failed.extend(more.failed);
                settled.extend(open.into_iter().filter_map(|failed| {
                    let shards = failed.shards.intersection(&more.missing);
                    (!shards.is_empty()).then_some(leaf::Failed { shards, ..failed })
                }));
            }
            answer.failed.extend(settled);
            Ok::<_, Error>(answer)
        }
    }))
}

async fn start(
    shape: Shape,
    nodes: &[FakeNode],
    stores: &Stores,
) -> Result<Running, miroir::BuildError> {
    let life = Life::default();
    let (all, process) = (nodes.to_vec(), life.clone());
    let factory = move |node: &miroir::topology::Node| {
        let fake = all.iter().find(|fake| *fake.id() == node.id).cloned();
        let (process, id) = (process.clone(), node.id.clone());
        Ok(BoxService::new(tower::service_fn(move |request: miroir::node::Request| {
            let (process, fake, id) = (process.clone(), fake.clone(), id.clone());
            async move {
                let fake = fake.ok_or_else(|| Error::node(&id, "unknown"))?;
                process.run(fake.oneshot(request)).await
            }
        })))
    };
    let mut builder = Miroir::builder()
        .shards(shape.shards)
        .replication_factor(shape.rf)
        .stores(life.stores(stores))
        .node_stack(Arc::new(factory))
        .leaves(Arc::new(|inner| Ok(failover(inner))))
        .health(HealthOptions {
            interval: Duration::from_millis(500),
            timeout: Duration::from_millis(300),
            unhealthy_threshold: 2,
            recovery_threshold: 2,
        })
        .tuning(miroir::cluster::Tuning {
            shards: shape.shards,
            write_quorum: shape.quorum,
            node_timeout: Duration::from_secs(1),
            verify_timeout: Duration::from_secs(20),
            max_repair_retries: 10,
            ..miroir::cluster::Tuning::default()
        });
    for (at, node) in nodes.iter().enumerate() {
        let group = at as u32 / shape.nodes_per_group;
        builder = builder.node(node.id().as_str(), &format!("http://fake-{at}"), group);
    }
    let miroir = builder.build().await?;
    miroir.spawn_workers();
    Ok(Running { miroir, life })
}

impl SimCluster {
    /// A cluster of healthy, empty nodes, its workers running.
    pub async fn new(seed: u64, shape: Shape) -> Self {
        let nodes: Vec<FakeNode> = (0..shape.groups * shape.nodes_per_group)
            .map(|at| {
                let id = NodeId::new(&format!("n{at}")).expect("a valid id");
                FakeNode::new(id, seed ^ (u64::from(at) + 1).wrapping_mul(0xD134_2543_DE82_EF95))
            })
            .collect();
        let stores = memory::open();
        let running = start(shape, &nodes, &stores).await.expect("a valid shape");
        Self { nodes, stores, shape, running: Mutex::new(running) }
    }

    fn running(&self) -> Running {
        self.running.lock().expect("no panic holds this lock").clone()
    }

    /// The pipeline of the process that runs now.
    pub fn miroir(&self) -> Miroir {
        self.running().miroir
    }

    /// The process that runs now.
    pub fn life(&self) -> Life {
        self.running().life
    }

    /// Kills the process in the middle of whatever it does and starts another one over the same
    /// stores and nodes.
    pub async fn restart(&self) {
        let old = self.running();
        old.life.end();
        old.miroir.cluster.shared.stop.cancel();
        let new = start(self.shape, &self.nodes, &self.stores).await.expect("it was valid before");
        *self.running.lock().expect("no panic holds this lock") = new;
    }

    /// Sends a request as a client with the master key would.
    pub async fn request(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let Running { miroir, life } = self.running();
        let mut request = http::Request::builder().method(method).uri(path);
        if body.is_some() {
            request = request.header(http::header::CONTENT_TYPE, "application/json");
        }
        let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let mut request = request.body(Full::new(body)).expect("a valid request");
        request.extensions_mut().insert(Principal::MasterKey);
        let lost = Answer { status: 0, degraded: None, body: Value::Null };
        let response = tokio::select! {
            biased;
            () = life.ended() => return lost,
            response = miroir.http(CLIENT_PATIENCE).oneshot(request) => match response {
                Ok(response) => response,
                Err(never) => match never {},
            },
        };
        let (parts, body) = response.into_parts();
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let degraded = parts.headers.get(header::DEGRADED).and_then(|value| value.to_str().ok());
        Answer {
            status: parts.status.as_u16(),
            degraded: degraded.map(str::to_owned),
            body: serde_json::from_slice(&body).unwrap_or_default(),
        }
    }

    /// Waits for a task; its status, or `None` when time is up.
    pub async fn wait(&self, task: u64, patience: Duration) -> Option<String> {
        let until = Instant::now() + patience;
        loop {
            let answer = self.request(Method::GET, &format!("/tasks/{task}"), None).await;
            if let Some(status @ ("succeeded" | "failed")) = answer.body["status"].as_str() {
                return Some(status.to_owned());
            }
            if Instant::now() >= until {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Ends all faults, and waits until every task has ended, every replica has caught up and every
    /// node is idle.
    ///
    /// # Errors
    /// What is still open when time is up.
    pub async fn quiesce(&self, patience: Duration) -> Result<(), String> {
        for node in &self.nodes {
            node.suffer(Fault::Heal);
        }
        // Settings that a process was just proposing when it died are found by comparing.
        tokio::time::sleep(DriftOptions::default().interval).await;
        let until = Instant::now() + patience;
        let mut calm = 0;
        loop {
            let shared = self.miroir().cluster.shared;
            let tasks = self.stores.tasks.unfinished().await.map_err(|e| e.to_string())?;
            let stale = self.stores.replicas.list().await.map_err(|e| e.to_string())?;
            let busy = self.nodes.iter().filter(|node| node.inspect(|disk| !disk.idle())).count();
            let down = shared.topology().nodes().filter(|n| n.status.as_str() != "active").count();
            if tasks.is_empty() && stale.is_empty() && busy == 0 && down == 0 {
                calm += 1;
                if calm == 3 {
                    return Ok(());
                }
            } else {
                calm = 0;
            }
            if Instant::now() >= until {
                let tasks: Vec<String> = tasks
                    .iter()
                    .map(|t| format!("task {} {:?} {:?} {:?}", t.uid, t.kind, t.status, t.nodes))
                    .collect();
                let stale: Vec<String> = stale
                    .iter()
                    .map(|s| format!("{} {} {:?} {:?}", s.node, s.index, s.shard, s.kind))
                    .collect();
                return Err(format!(
                    "stuck: {down} nodes not active, {busy} busy\n{}\nstale: {}",
                    tasks.join("\n"),
                    stale.join(", ")
                ));
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}
