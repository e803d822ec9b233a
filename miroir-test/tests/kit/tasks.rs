//! The task engine over nodes that only have queues: what it costs, and what holds nothing up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use miroir_api::meili::{TaskKind, TaskStatus};
use miroir_api::{IndexUid, NodeId, ShardId, TaskUid};
use miroir_control::Miroir;
use miroir_control::tasks::poller;
use miroir_core::lock::Lock;
use miroir_pipeline::cluster::ClusterState;
use miroir_pipeline::node::{Request, Response};
use miroir_pipeline::query::query_pairs;
use miroir_pipeline::stage::BoxService;
use miroir_store::{
    IndexEntry, NewTask, NodeTask, StoreFuture, Stores, TaskPage, TaskQuery, TaskRecord, Tasks,
    clock, memory,
};
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

/// A node that has a queue and nothing else.
#[derive(Debug, Default)]
struct Queue {
    /// Status by uid.
    tasks: Lock<BTreeMap<u32, &'static str>>,
    /// Uids it was asked for.
    asked: AtomicUsize,
    hangs: Lock<bool>,
    /// Refuses to make indexes.
    refuses: Lock<bool>,
}

impl Queue {
    fn answer(&self, request: &Request) -> (StatusCode, Value) {
        let query = query_pairs(request.uri().query().unwrap_or_default());
        let of = |name: &str| query.iter().find(|(key, _)| key == name).map(|(_, value)| value);
        let mut tasks = self.tasks.lock();
        match (request.method().as_str(), request.uri().path()) {
            ("GET", "/tasks") => {
                let view = |(uid, status): (&u32, &&str)| json!({"uid": uid, "status": status});
                let results: Vec<Value> = match of("uids") {
                    Some(uids) => {
                        let uids: Vec<u32> = uids.split(',').map(|u| u.parse().unwrap()).collect();
                        self.asked.fetch_add(uids.len(), Ordering::Relaxed);
                        let known = |uid: &u32| Some(view((uid, tasks.get(uid)?)));
                        uids.iter().filter_map(known).collect()
                    }
                    None => tasks.iter().next_back().map(view).into_iter().collect(),
                };
                (StatusCode::OK, json!({"results": results}))
            }
            ("POST", "/indexes") if *self.refuses.lock() => {
                let body = json!({
                    "message": "No room.", "code": "no_space_left_on_device", "type": "system",
                    "link": "https://docs.meilisearch.com/errors#no_space_left_on_device",
                });
                (StatusCode::UNPROCESSABLE_ENTITY, body)
            }
            // The key by which the node is known again.
            ("POST", "/keys") => (StatusCode::CREATED, json!({})),
            (method, _) if method != "GET" => {
                let uid = tasks.keys().next_back().map_or(0, |last| last + 1);
                tasks.insert(uid, "enqueued");
                (StatusCode::ACCEPTED, json!({"taskUid": uid}))
            }
            _ => (StatusCode::OK, json!({"results": []})),
        }
    }
}

/// A registry that counts.
#[derive(Debug)]
struct Counted {
    inner: Arc<dyn Tasks>,
    calls: AtomicUsize,
    /// Records that went in or out.
    records: AtomicUsize,
}

impl Counted {
    fn count(&self, records: usize) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.records.fetch_add(records, Ordering::Relaxed);
    }
}

impl Tasks for Counted {
    fn insert_many(&self, tasks: Vec<NewTask>) -> StoreFuture<'_, Vec<TaskRecord>> {
        self.inner.insert_many(tasks)
    }
    fn update(&self, task: TaskRecord) -> StoreFuture<'_, ()> {
        self.count(1);
        self.inner.update(task)
    }
    fn update_many(&self, tasks: Vec<TaskRecord>) -> StoreFuture<'_, ()> {
        self.count(tasks.len());
        self.inner.update_many(tasks)
    }
    fn get(&self, uid: TaskUid) -> StoreFuture<'_, Option<TaskRecord>> {
        self.count(1);
        self.inner.get(uid)
    }
    fn list(&self, query: TaskQuery) -> StoreFuture<'_, TaskPage> {
        Box::pin(async move {
            let page = self.inner.list(query).await?;
            self.count(page.tasks.len());
            Ok(page)
        })
    }
    fn uids(&self, query: TaskQuery) -> StoreFuture<'_, Vec<u32>> {
        self.inner.uids(query)
    }
    fn remove(&self, uids: Vec<u32>) -> StoreFuture<'_, Vec<TaskRecord>> {
        self.inner.remove(uids)
    }
    fn swap_indexes(&self, first: String, second: String, before: TaskUid) -> StoreFuture<'_, ()> {
        self.inner.swap_indexes(first, second, before)
    }
    fn unfinished(&self) -> StoreFuture<'_, Vec<TaskRecord>> {
        Box::pin(async move {
            let tasks = self.inner.unfinished().await?;
            self.count(tasks.len());
            Ok(tasks)
        })
    }
    fn index_names(&self) -> StoreFuture<'_, Vec<String>> {
        self.inner.index_names()
    }
    fn counts(&self) -> StoreFuture<'_, Vec<(TaskStatus, u64)>> {
        self.inner.counts()
    }
    fn prune(&self, finished_before: OffsetDateTime) -> StoreFuture<'_, u64> {
        self.inner.prune(finished_before)
    }
}

struct Bench {
    nodes: BTreeMap<NodeId, Arc<Queue>>,
    tasks: Arc<Counted>,
    state: Arc<ClusterState>,
}

const NODES: [&str; 2] = ["a", "b"];

fn id(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

impl Bench {
    /// Two nodes with a copy of everything each.
    async fn over(stores: Stores) -> Self {
        let nodes: BTreeMap<NodeId, Arc<Queue>> =
            NODES.iter().map(|name| (id(name), Arc::default())).collect();
        let all = nodes.clone();
        let factory = move |node: &miroir_core::topology::Node| {
            let queue = Arc::clone(&all[&node.id]);
            Ok(BoxService::new(tower::service_fn(move |request: Request| {
                let queue = Arc::clone(&queue);
                async move {
                    if *queue.hangs.lock() {
                        std::future::pending::<()>().await;
                    }
                    let (status, body) = queue.answer(&request);
                    let mut response = Response::new(Bytes::from(body.to_string()));
                    *response.status_mut() = status;
                    Ok(response)
                }
            })))
        };
        let tasks = Arc::new(Counted {
            inner: Arc::clone(&stores.tasks),
            calls: AtomicUsize::new(0),
            records: AtomicUsize::new(0),
        });
        let mut builder = Miroir::builder()
            .shards(4)
            .replication_factor(2)
            .stores(Stores { tasks: tasks.clone(), ..stores })
            .node_stack(Arc::new(factory));
        for name in NODES {
            builder = builder.node(name, &format!("http://{name}"), 0);
        }
        let state = builder.build().await.unwrap().cluster.state;
        Self { nodes, tasks, state }
    }

    async fn new() -> Self {
        Self::over(memory::open()).await
    }

    /// A write of an index that these nodes took.
    async fn write(&self, index: &str, nodes: &[&str]) -> TaskUid {
        let parts = nodes.iter().map(|name| {
            let mut tasks = self.nodes[&id(name)].tasks.lock();
            let uid = tasks.keys().next_back().map_or(0, |last| last + 1);
            tasks.insert(uid, "enqueued");
            NodeTask { shards: vec![ShardId(0)], ..NodeTask::new(id(name), Some(uid)) }
        });
        let new = NewTask {
            index: Some(index.to_owned()),
            physical: Some(index.to_owned()),
            nodes: parts.collect(),
            ..NewTask::new(TaskKind::DocumentAdditionOrUpdate, clock::now())
        };
        let uid = self.state.stores.tasks.insert(new).await.unwrap().uid;
        self.state.signals.tasks.notify_one();
        uid
    }

    /// The nodes end the first so many tasks of their queues.
    fn work(&self, many: usize) {
        for queue in self.nodes.values() {
            let mut tasks = queue.tasks.lock();
            let open = tasks.values_mut().filter(|status| **status == "enqueued");
            open.take(many).for_each(|status| *status = "succeeded");
        }
    }

    async fn status(&self, uid: TaskUid) -> TaskStatus {
        self.state.stores.tasks.get(uid).await.unwrap().unwrap().status
    }

    fn asked(&self) -> usize {
        self.nodes.values().map(|queue| queue.asked.load(Ordering::Relaxed)).sum()
    }

    /// Uids asked for, calls of the store and records in it, during a round.
    async fn round(&self) -> [usize; 3] {
        let now = || {
            let load = |count: &AtomicUsize| count.load(Ordering::Relaxed);
            [self.asked(), load(&self.tasks.calls), load(&self.tasks.records)]
        };
        let before = now();
        poller::round(&self.state).await.unwrap();
        let after = now();
        std::array::from_fn(|at| after[at] - before[at])
    }
}

/// What a round costs when nothing happened, and when a hundred tasks were done, of so many.
async fn costs(unfinished: usize) -> [[usize; 3]; 2] {
    let bench = Bench::new().await;
    for number in 0..unfinished {
        bench.write(&format!("index{}", number % 7), &NODES).await;
    }
    let idle = bench.round().await;
    bench.work(100);
    let busy = bench.round().await;
    assert_eq!(bench.state.open_tasks.len(), unfinished - 100);
    [idle, busy]
}

#[tokio::test(start_paused = true)]
async fn a_round_costs_the_same_however_many_tasks_are_unfinished() {
    let (few, many) = (costs(1000).await, costs(20_000).await);
    for (few, many) in few.iter().flatten().zip(many.iter().flatten()) {
        assert!(*many <= 2 * few, "{few} and {many}");
    }
    let [uids, calls, records] = few[1];
    assert!(uids <= 2 * 400 && calls <= 8 && records <= 800, "{uids} {calls} {records}");
}

#[tokio::test(start_paused = true)]
async fn a_queue_is_followed_as_fast_as_it_is_worked_off() {
    let bench = Bench::new().await;
    for _ in 0..5000 {
        bench.write("a", &NODES).await;
    }
    bench.work(usize::MAX);
    for _ in 0..5 {
        bench.round().await;
    }
    assert!(bench.state.open_tasks.is_empty(), "{} are left", bench.state.open_tasks.len());
    assert_eq!(bench.state.stores.tasks.unfinished().await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_hangs_delays_no_task_of_others() {
    let bench = Bench::new().await;
    let stop = CancellationToken::new();
    let poller = tokio::spawn(poller::run(Arc::clone(&bench.state), stop.clone()));
    *bench.nodes[&id("b")].hangs.lock() = true;
    let stuck = bench.write("x", &NODES).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    for _ in 0..20 {
        let uid = bench.write("x", &["a"]).await;
        bench.work(1000);
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(bench.status(uid).await, TaskStatus::Succeeded);
    }
    assert!(!bench.status(stuck).await.is_terminal());
    stop.cancel();
    poller.await.unwrap();
}

/// An index whose making a process before this one left, and which every node refuses to make.
#[tokio::test(start_paused = true)]
async fn an_index_that_no_node_makes_holds_up_nothing_and_is_given_up() {
    let stores = memory::open();
    let name = IndexUid::new("stuck").unwrap();
    let entry = IndexEntry::new(name.clone(), "stuck".to_owned(), 4, OffsetDateTime::UNIX_EPOCH);
    stores.indexes.put(IndexEntry { version: 1, ..entry }, None).await.unwrap();
    let new = NewTask {
        index: Some("stuck".to_owned()),
        physical: Some("stuck".to_owned()),
        nodes: NODES.iter().map(|name| NodeTask::new(id(name), None)).collect(),
        ..NewTask::new(TaskKind::IndexCreation, clock::now())
    };
    let stuck = stores.tasks.insert(new).await.unwrap().uid;
    let bench = Bench::over(stores).await;
    for queue in bench.nodes.values() {
        *queue.refuses.lock() = true;
    }
    let stop = CancellationToken::new();
    let poller = tokio::spawn(poller::run(Arc::clone(&bench.state), stop.clone()));
    tokio::time::sleep(Duration::from_millis(100)).await;
    let other = bench.write("other", &NODES).await;
    bench.work(1000);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(bench.status(other).await, TaskStatus::Succeeded);
    assert!(!bench.status(stuck).await.is_terminal() && bench.state.catalog.get(&name).is_some());
    tokio::time::sleep(Duration::from_mins(5)).await;
    let given_up = bench.state.stores.tasks.get(stuck).await.unwrap().unwrap();
    assert_eq!(given_up.status, TaskStatus::Failed);
    assert_eq!(given_up.error.unwrap().code, "no_space_left_on_device");
    assert!(bench.state.catalog.get(&name).is_none());
    stop.cancel();
    poller.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn cancelations_cost_calls_by_the_page() {
    let bench = Bench::new().await;
    for _ in 0..1000 {
        bench.write("a", &NODES).await;
    }
    let new = NewTask {
        details: json!({"canceledTasks": null}).as_object().cloned(),
        protocol: miroir_store::TaskState::Cancelation {
            chosen: miroir_store::task_state::UidRanges::of(&(0..1000).collect::<Vec<_>>()),
            passed: None,
        }
        .into(),
        ..NewTask::new(TaskKind::TaskCancelation, clock::now())
    };
    let cancelation = bench.state.stores.tasks.insert(new).await.unwrap().uid;
    let [_, calls, _] = bench.round().await;
    assert!(calls < 30, "{calls}");
    // The nodes did cancel.
    for queue in bench.nodes.values() {
        let mut tasks = queue.tasks.lock();
        for (uid, status) in tasks.iter_mut() {
            *status = if *uid < 1000 { "canceled" } else { "succeeded" };
        }
    }
    let mut calls = 0;
    for _ in 0..4 {
        calls += bench.round().await[1];
    }
    assert_eq!(bench.status(cancelation).await, TaskStatus::Succeeded);
    assert!(bench.state.open_tasks.is_empty() && calls < 60, "{calls}");
    let record = bench.state.stores.tasks.get(cancelation).await.unwrap().unwrap();
    assert_eq!(record.details.unwrap()["canceledTasks"], 1000);
}
