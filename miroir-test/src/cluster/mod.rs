//! A whole cluster in memory: the real pipeline and workers over fake nodes, on tokio's clock; one
//! process, or several pods.

mod life;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::Method;
use http_body_util::{BodyExt, Full};
use miroir_api::{NodeId, header};
use miroir_control::Miroir;
use miroir_control::broadcast::drift::{self, DriftOptions};
use miroir_control::pods::{self, Leader, PodOptions};
use miroir_control::replicas::repair;
use miroir_control::runtime::{Candidate, Peers, elected};
use miroir_control::tasks::poller;
use miroir_control::topology::health;
use miroir_core::lock::Lock;
use miroir_core::quorum::WriteQuorum;
use miroir_core::routing::ShardSet;
use miroir_pipeline::cluster::PodName;
use miroir_pipeline::context::Principal;
use miroir_pipeline::http::{Router, routes::Route};
use miroir_pipeline::leaf::{self, Target};
use miroir_pipeline::node::HealthOptions;
use miroir_pipeline::stage::BoxService;
use miroir_pipeline::{ClusterOptions, ScatterOptions, SettingsBroadcastOptions, Stack};
use miroir_pipeline::{Error, NodeFailure};
use miroir_store::{Stores, memory};
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tower::layer::layer_fn;

pub use life::{Common, Life};

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
    running: Lock<Vec<Running>>,
    common: Common,
    /// The pod that the next client asks.
    turn: AtomicUsize,
    router: Router,
}

/// When nodes are checked.
const HEALTH: HealthOptions = HealthOptions {
    interval: Duration::from_millis(500),
    timeout: Duration::from_millis(300),
    unhealthy_threshold: 2,
    recovery_threshold: 2,
};
/// How long a lease lives, and how long a pod's word counts.
const LEASE: Duration = Duration::from_secs(3);
/// Time between two renewals.
const RENEW: Duration = Duration::from_secs(1);

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
                let again = request.with_target(target);
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

/// The connection broke.
const LOST: Answer = Answer { status: 0, degraded: None, body: Value::Null };

/// Sends a request to a process.
async fn send(to: &Running, method: Method, path: &str, body: Option<Value>) -> Answer {
    let Running { miroir, life } = to;
    let mut request = http::Request::builder().method(method).uri(path);
    if body.is_some() {
        request = request.header(http::header::CONTENT_TYPE, "application/json");
    }
    let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
    let mut request = request.body(Full::new(body)).expect("a valid request");
    request.extensions_mut().insert(Principal::MasterKey);
    let answered = async {
        life.goes_on().await;
        let Ok(response) = miroir.http(CLIENT_PATIENCE).oneshot(request).await;
        life.goes_on().await;
        response
    };
    let response = tokio::select! {
        biased;
        () = life.ended() => return LOST,
        response = answered => response,
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

async fn start(
    shape: Shape,
    nodes: &[FakeNode],
    stores: &Stores,
    life: Life,
    pod: Option<usize>,
) -> Result<Running, miroir_control::BuildError> {
    let (all, process) = (nodes.to_vec(), life.clone());
    let factory = move |node: &miroir_core::topology::Node| {
        let fake = all.iter().find(|fake| *fake.id() == node.id).cloned();
        let (process, id) = (process.clone(), node.id.clone());
        Ok(BoxService::new(tower::service_fn(move |request: miroir_pipeline::node::Request| {
            let (process, fake, id) = (process.clone(), fake.clone(), id.clone());
            async move {
                let fake = fake.ok_or_else(|| Error::node(&id, NodeFailure::UnknownNode))?;
                process.run(fake.oneshot(request)).await
            }
        })))
    };
    let mut builder = Miroir::builder()
        .shards(shape.shards)
        .replication_factor(shape.rf)
        .stores(life.stores(stores))
        .node_stack(Arc::new(factory))
        .leaves(Stack::new().push_named("failover", layer_fn(failover)))
        .health(HEALTH)
        .options(ClusterOptions {
            shards: shape.shards,
            write_quorum: shape.quorum,
            scatter: ScatterOptions {
                node_timeout: Duration::from_secs(1),
                ..ScatterOptions::default()
            },
            settings_broadcast: SettingsBroadcastOptions {
                verify_timeout: Duration::from_secs(20),
                max_repair_retries: 10,
                ..SettingsBroadcastOptions::default()
            },
            ..ClusterOptions::default()
        });
    for (at, node) in nodes.iter().enumerate() {
        let group = at as u32 / shape.nodes_per_group;
        builder = builder.node(node.id().as_str(), &format!("http://fake-{at}"), group);
    }
    if let Some(number) = pod {
        // No other process has this name.
        static PROCESSES: AtomicUsize = AtomicUsize::new(0);
        let process = PROCESSES.fetch_add(1, Ordering::Relaxed);
        builder = builder
            .pod(PodName { process: format!("{number}-{process}"), pod: number.to_string() });
    }
    let miroir = builder.build().await?;
    match pod {
        None => miroir.spawn_workers(),
        Some(number) => spawn_pod(&miroir, number),
    }
    Ok(Running { miroir, life })
}

/// The workers of one of several pods.
fn spawn_pod(miroir: &Miroir, number: usize) {
    let shared = &miroir.cluster.state;
    let stop = || shared.stop.child_token();
    tokio::spawn(health::run(Arc::clone(shared), HEALTH, stop()));
    let options =
        PodOptions { address: number.to_string(), report_ttl: LEASE, ..PodOptions::default() };
    tokio::spawn(pods::follow(Arc::clone(shared), options, stop()));
    let state = Arc::clone(shared);
    let start = move |stop: CancellationToken| -> Vec<BoxFuture<'static, ()>> {
        vec![
            Box::pin(poller::run(Arc::clone(&state), stop.clone())),
            Box::pin(repair::run(Arc::clone(&state), stop.clone())),
            // Split between pods outside of simulations; here the leader finds all of it.
            Box::pin(drift::run(
                Arc::clone(&state),
                Arc::new(Peers::alone()),
                DriftOptions::default(),
                stop,
            )),
        ]
    };
    let candidate = Candidate {
        leases: Arc::clone(&shared.stores.leases),
        holder: shared.leadership.process().to_owned(),
        ttl: LEASE,
        renew: RENEW,
    };
    let leader = Arc::new(Leader::new(Arc::clone(shared), Box::new(start)));
    tokio::spawn(elected(candidate, leader, stop()));
}

impl SimCluster {
    /// A cluster of healthy, empty nodes, its workers running.
    pub async fn new(seed: u64, shape: Shape) -> Self {
        Self::make(seed, shape, 0).await
    }

    /// As [`SimCluster::new`], with several pods.
    pub async fn several(seed: u64, shape: Shape, pods: usize) -> Self {
        Self::make(seed, shape, pods).await
    }

    async fn make(seed: u64, shape: Shape, pods: usize) -> Self {
        let nodes: Vec<FakeNode> = (0..shape.groups * shape.nodes_per_group)
            .map(|at| {
                let id = NodeId::new(&format!("n{at}")).expect("a valid id");
                FakeNode::new(id, seed ^ (u64::from(at) + 1).wrapping_mul(0xD134_2543_DE82_EF95))
            })
            .collect();
        let this = Self {
            nodes,
            stores: memory::open(),
            shape,
            running: Lock::default(),
            common: Common::default(),
            turn: AtomicUsize::new(0),
            router: Router::default(),
        };
        let numbers = if pods == 0 { vec![None] } else { (0..pods).map(Some).collect() };
        for number in numbers {
            let running = this.process(number).await;
            this.running.lock().push(running);
        }
        this
    }

    async fn process(&self, pod: Option<usize>) -> Running {
        let life = Life::among(self.common.clone());
        start(self.shape, &self.nodes, &self.stores, life, pod).await.expect("a valid shape")
    }

    fn all(&self) -> Vec<Running> {
        self.running.lock().clone()
    }

    /// How many pods there are.
    pub fn pods(&self) -> usize {
        self.all().len()
    }

    /// The process, or the pod that leads, if one does.
    fn running(&self) -> Running {
        let all = self.all();
        let leads = |pod: &&Running| pod.miroir.cluster.state.leadership.leads();
        all.iter().find(leads).unwrap_or(&all[0]).clone()
    }

    /// Holds a pod up, or lets it go on.
    pub fn hold_up(&self, pod: usize, held_up: bool) {
        self.all()[pod].life.hold_up(held_up);
    }

    /// The pod that leads, as far as anybody can tell.
    pub fn leader(&self) -> Option<usize> {
        self.all().iter().position(|pod| pod.miroir.cluster.state.leadership.leads())
    }

    /// Ends everything.
    pub fn end(&self) {
        for Running { miroir, life } in self.all() {
            life.end();
            miroir.cluster.state.stop.cancel();
        }
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
        self.restart_pod(0).await;
    }

    /// As [`SimCluster::restart`], of one of several pods.
    pub async fn restart_pod(&self, pod: usize) {
        let old = self.all()[pod].clone();
        old.life.end();
        old.miroir.cluster.state.stop.cancel();
        let several = old.miroir.cluster.state.leadership.is_shared();
        let new = self.process(several.then_some(pod)).await;
        self.running.lock()[pod] = new;
    }

    /// Whether a request changes something.
    fn changes(&self, method: &Method, path: &str) -> bool {
        let path = path.split('?').next().unwrap_or_default();
        self.router.route(method, path).is_some_and(Route::changes)
    }

    /// Sends a request as a client with the master key would, to one pod after the other, which
    /// pass on what changes something, as [`miroir_layers`]' `forward` does.
    ///
    /// [`miroir_layers`]: https://docs.rs/miroir-layers
    pub async fn request(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let all = self.all();
        let first = self.turn.fetch_add(1, Ordering::Relaxed) % all.len();
        if all.len() == 1 || !self.changes(&method, path) {
            return send(&all[first], method, path, body).await;
        }
        let until = Instant::now() + CLIENT_PATIENCE;
        loop {
            let Running { miroir, life } = self.all()[first].clone();
            let leadership = &miroir.cluster.state.leadership;
            let leader = if leadership.leads() {
                Some(first)
            } else {
                leadership.leader().and_then(|address| address.parse().ok())
            };
            if let Some(leader) = leader {
                let there = self.all()[leader].clone();
                let answer = tokio::select! {
                    biased;
                    () = life.ended() => LOST,
                    answer = send(&there, method.clone(), path, body.clone()) => answer,
                };
                if answer.code() != "miroir_no_leader" {
                    return answer;
                }
            }
            if Instant::now() >= until {
                return LOST;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
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
            let shared = self.miroir().cluster.state;
            let tasks = self.stores.tasks.unfinished().await.map_err(|e| e.to_string())?;
            let stale = self.stores.replicas.list().await.map_err(|e| e.to_string())?;
            let busy = self.nodes.iter().filter(|node| node.inspect(|disk| !disk.idle())).count();
            let down = shared
                .membership
                .topology()
                .nodes()
                .filter(|n| n.status.as_str() != "active")
                .count();
            let leaderless = !shared.leadership.leads();
            if tasks.is_empty() && stale.is_empty() && busy == 0 && down == 0 && !leaderless {
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
