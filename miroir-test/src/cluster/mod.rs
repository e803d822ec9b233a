//! A whole cluster in memory: the real pipeline and workers over fake nodes, on tokio's clock; one
//! process, or several pods.

mod life;
mod network;
mod process;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::Method;
use miroir_api::NodeId;
use miroir_control::Miroir;
use miroir_control::broadcast::drift::DriftOptions;
use miroir_core::lock::Lock;
use miroir_core::quorum::WriteQuorum;
use miroir_core::topology::NodeStatus;
use miroir_pipeline::http::{Router, routes::Route};
use miroir_store::{Stores, memory};
use serde_json::Value;
use tokio::time::Instant;

pub use life::Life;
pub use network::{Common, Stray};
pub use process::NODE_BODY;

use crate::faults::{Event, Fault, Rng};
use crate::node::{FakeNode, Fired};
use process::{LOST, Running, send, start};

/// Time a client waits for an answer.
const CLIENT_PATIENCE: Duration = Duration::from_mins(1);
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

/// See the module's documentation.
#[derive(Debug)]
pub struct SimCluster {
    /// The nodes, `n0`, `n1`, …, group by group.
    pub nodes: Vec<FakeNode>,
    /// How many of them the configuration lists; the others are to be added.
    configured: usize,
    /// What the process keeps, as it is on the disk.
    pub stores: Stores,
    /// Its shape.
    pub shape: Shape,
    running: Lock<Vec<Running>>,
    common: Common,
    /// What takes copies of the stores, and the copy it took last.
    past: memory::Past,
    kept: Lock<Option<memory::Copy>>,
    /// Time a client waits for an answer.
    patience: Lock<Duration>,
    fired: Lock<Fired>,
    /// The pod that the next client asks.
    turn: AtomicUsize,
    router: Router,
}

impl SimCluster {
    /// A cluster of healthy, empty nodes, its workers running.
    pub async fn new(seed: u64, shape: Shape) -> Self {
        Self::make(seed, shape, 0, 0).await
    }

    /// As [`SimCluster::new`], with several pods.
    pub async fn several(seed: u64, shape: Shape, pods: usize) -> Self {
        Self::make(seed, shape, pods, 0).await
    }

    /// As [`SimCluster::several`], with so many nodes besides that can be added; one process where there
    /// are no pods.
    pub async fn elastic(seed: u64, shape: Shape, pods: usize, spares: u32) -> Self {
        Self::make(seed, shape, pods, spares).await
    }

    async fn make(seed: u64, shape: Shape, pods: usize, spares: u32) -> Self {
        let configured = shape.groups * shape.nodes_per_group;
        let nodes: Vec<FakeNode> = (0..configured + spares)
            .map(|at| {
                let id = NodeId::new(&format!("n{at}")).expect("a valid id");
                FakeNode::new(id, seed ^ (u64::from(at) + 1).wrapping_mul(0xD134_2543_DE82_EF95))
            })
            .collect();
        let (stores, past) = memory::open_with_past();
        let this = Self {
            nodes,
            configured: configured as usize,
            stores,
            past,
            kept: Lock::default(),
            patience: Lock::new(CLIENT_PATIENCE),
            fired: Lock::default(),
            shape,
            running: Lock::default(),
            common: Common::new(seed),
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
        let starting = start(self.shape, (&self.nodes, self.configured), &self.stores, life, pod);
        Box::pin(starting).await.expect("a valid shape")
    }

    /// The nodes that the cluster has now.
    pub fn members(&self) -> impl Iterator<Item = &FakeNode> {
        let topology = self.miroir().cluster.state.membership.topology();
        self.nodes.iter().filter(move |node| topology.node(node.id()).is_some())
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
        if held_up {
            self.fire("pod pause");
        }
        self.all()[pod].life.hold_up(held_up);
    }

    /// The pod that leads, as far as anybody can tell.
    pub fn leader(&self) -> Option<usize> {
        self.all().iter().position(|pod| pod.miroir.cluster.state.leadership.leads())
    }

    /// One pod, the leader or not.
    pub fn pod(&self, number: usize) -> Miroir {
        self.all()[number].miroir.clone()
    }

    /// How long clients wait for an answer from now on; a minute at first.
    pub fn set_patience(&self, patience: Duration) {
        *self.patience.lock() = patience;
    }

    fn fire(&self, what: &'static str) {
        *self.fired.lock().entry(what).or_default() += 1;
    }

    /// How often each kind of fault had an effect, on the nodes and elsewhere.
    pub fn fired(&self) -> Fired {
        let mut all = self.fired.lock().clone();
        all.extend(self.common.fired());
        for (what, count) in self.nodes.iter().flat_map(FakeNode::fired) {
            *all.entry(what).or_default() += count;
        }
        all
    }

    /// What an event says happens.
    pub fn suffer(&self, event: &Event) {
        match event.fault {
            Fault::SwapDisks { with } => self.nodes[event.node].swap_disks(&self.nodes[with]),
            fault => self.nodes[event.node].suffer(fault),
        }
    }

    /// So many of a thousand changes of nodes arrive up to eight seconds late, also if the process
    /// that sends them has ended, or does not lead any more.
    pub fn delay_calls(&self, per_mille: u32) {
        self.common.delay_calls(per_mille);
    }

    /// Each pod's clock is up to an hour wrong, and another pod's that starts.
    pub fn skew_clocks(&self, rng: &mut Rng) {
        for pod in self.all() {
            let hour = time::Duration::HOUR.whole_milliseconds() as u64;
            let skew = rng.below(2 * hour) as i64 - hour as i64;
            pod.life.skew_clock(time::Duration::milliseconds(skew));
        }
        self.common.skew_clocks(rng.fork());
    }

    /// The next call that arrives though nobody waits for it.
    pub async fn stray_call(&self) -> Option<Stray> {
        self.common.next_stray().await
    }

    /// Takes a copy of the stores.
    pub fn keep_store(&self) {
        *self.kept.lock() = Some(self.past.copy());
    }

    /// Kills the process and starts it over the stores as they were when they were copied.
    pub async fn restart_with_the_kept_store(&self) {
        for pod in self.all() {
            pod.life.end();
            pod.miroir.cluster.state.stop.cancel();
        }
        if let Some(copy) = self.kept.lock().take() {
            copy.restore();
            self.fire("store goes back");
        }
        self.restart().await;
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
        let patience = *self.patience.lock();
        let first = self.turn.fetch_add(1, Ordering::Relaxed) % all.len();
        if all.len() == 1 || !self.changes(&method, path) {
            return send(&all[first], method, path, body, patience).await;
        }
        let until = Instant::now() + patience;
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
                    answer = send(&there, method.clone(), path, body.clone(), patience) => answer,
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
        let task = self.ended(task, patience).await?;
        task["status"].as_str().map(str::to_owned)
    }

    /// Waits for a task; what it is then, or `None` when time is up.
    pub async fn ended(&self, task: u64, patience: Duration) -> Option<Value> {
        let until = Instant::now() + patience;
        loop {
            let answer = self.request(Method::GET, &format!("/tasks/{task}"), None).await;
            if matches!(answer.body["status"].as_str(), Some("succeeded" | "failed" | "canceled")) {
                return Some(answer.body);
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
            node.suffer(Fault::Mend);
        }
        self.delay_calls(0);
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
                .filter(|n| !matches!(n.status(), NodeStatus::Active | NodeStatus::Drained))
                .count();
            let changes = shared.committed.load().change.is_some();
            let leaderless = !shared.leadership.leads();
            if tasks.is_empty()
                && stale.is_empty()
                && busy == 0
                && down == 0
                && !changes
                && !leaderless
            {
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
                    "stuck: {down} nodes not active, {busy} busy, layout changes: {changes}\n{}\nstale: {}",
                    tasks.join("\n"),
                    stale.join(", ")
                ));
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}
