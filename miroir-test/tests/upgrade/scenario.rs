//! A process that dies with a task in every state, and the one that follows it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http_body_util::{BodyExt, Full};
use miroir_api::meili::{TaskKind, TaskStatus};
use miroir_api::{NodeId, TaskUid};
use miroir_control::Miroir;
use miroir_control::tasks::poller;
use miroir_core::topology::NodeEvent;
use miroir_pipeline::cluster::ClusterOptions;
use miroir_pipeline::context::Principal;
use miroir_pipeline::stage::BoxService;
use miroir_store::{NewTask, StoreFuture, Stores, TaskPage, TaskQuery, TaskRecord, Tasks};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::sync::Notify;
use tower::ServiceExt;

use super::node::{Disk, StubNode};

/// How long the next process may take to end everything.
const PATIENCE: Duration = Duration::from_mins(1);
/// The names of the nodes; each has every shard.
const NODES: [&str; 3] = ["n0", "n1", "n2"];

/// What there is besides the store once the process has died.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Left {
    /// What the nodes keep, by name.
    pub(crate) nodes: BTreeMap<String, Disk>,
    /// The task of each state, by the name of the state.
    pub(crate) tasks: BTreeMap<String, u32>,
}

/// A running Miroir over such nodes.
pub(crate) struct Running {
    pub(crate) miroir: Miroir,
    nodes: Vec<StubNode>,
}

/// A client's view of an answer.
type Told = (u16, Value);

impl Running {
    pub(crate) async fn start(stores: Stores, disks: &BTreeMap<String, Disk>) -> Self {
        let disk = |name: &&str| disks.get(*name).cloned().unwrap_or_default();
        let nodes: Vec<StubNode> =
            NODES.iter().map(|name| StubNode::new(name, disk(name))).collect();
        let all = nodes.clone();
        let factory = move |node: &miroir_core::topology::Node| {
            let at = NODES.iter().position(|name| *name == node.id.as_str()).unwrap();
            let stub = all[at].clone();
            let serve = move |request| stub.clone().answer(request);
            Ok(BoxService::new(tower::service_fn(serve)))
        };
        let options = ClusterOptions { shards: 4, ..ClusterOptions::default() };
        let mut builder = Miroir::builder()
            .options(options)
            .replication_factor(3)
            .stores(stores)
            .node_stack(Arc::new(factory));
        for name in NODES {
            builder = builder.node(name, &format!("http://{name}"), 0);
        }
        Self { miroir: builder.build().await.unwrap(), nodes }
    }

    pub(crate) async fn request(&self, method: Method, path: &str, body: Value) -> Told {
        let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
        let mut request = http::Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .unwrap();
        request.extensions_mut().insert(Principal::MasterKey);
        let Ok(response) = self.miroir.http(Duration::from_mins(1)).oneshot(request).await;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (parts.status.as_u16(), serde_json::from_slice(&body).unwrap_or_default())
    }

    /// Sends a change; the uid of its task.
    async fn change(&self, method: Method, path: &str, body: Value) -> u32 {
        let (status, told) = self.request(method.clone(), path, body).await;
        assert!(matches!(status, 200 | 202), "{method} {path}: {told}");
        u32::try_from(told["taskUid"].as_u64().unwrap()).unwrap()
    }

    async fn round(&self) {
        poller::round(&self.miroir.cluster.state).await.unwrap();
    }

    /// What a client is told of a task.
    pub(crate) async fn task(&self, uid: u32) -> Value {
        let (status, told) = self.request(Method::GET, &format!("/tasks/{uid}"), Value::Null).await;
        assert_eq!(status, 200, "{told}");
        told
    }

    pub(crate) async fn unfinished(&self) -> Vec<TaskRecord> {
        self.miroir.cluster.state.stores.tasks.unfinished().await.unwrap()
    }

    async fn done(&self) {
        while !self.unfinished().await.is_empty() {
            self.round().await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// A store that takes note of a deletion's first step and nothing after it.
#[derive(Debug)]
struct Breaks {
    inner: Arc<dyn Tasks>,
    broken: Arc<Notify>,
}

impl Tasks for Breaks {
    fn insert_many(&self, tasks: Vec<NewTask>) -> StoreFuture<'_, Vec<TaskRecord>> {
        self.inner.insert_many(tasks)
    }
    fn update(&self, task: TaskRecord) -> StoreFuture<'_, ()> {
        let stored = serde_json::to_string(&task).unwrap();
        let last = task.kind == TaskKind::TaskDeletion && stored.contains("forgotten");
        Box::pin(async move {
            self.inner.update(task).await?;
            if last {
                self.broken.notify_one();
                return std::future::pending().await;
            }
            Ok(())
        })
    }
    fn get(&self, uid: TaskUid) -> StoreFuture<'_, Option<TaskRecord>> {
        self.inner.get(uid)
    }
    fn list(&self, query: TaskQuery) -> StoreFuture<'_, TaskPage> {
        self.inner.list(query)
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
        self.inner.unfinished()
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

const INDEXES: [&str; 13] = [
    "added",
    "edited",
    "broken",
    "deleted",
    "set",
    "committed",
    "old-name",
    "first",
    "second",
    "canceled",
    "late",
    "late-set",
    "gone",
];

/// Runs a process over a new store at `path` until it has a task in every state, and lets it die.
pub(crate) async fn die(path: &Path) -> Left {
    let options = miroir_store_sqlite::Options::default();
    let stores = miroir_store_sqlite::open(path, options).unwrap();
    let broken = Arc::new(Notify::new());
    let breaks = Breaks { inner: Arc::clone(&stores.tasks), broken: Arc::clone(&broken) };
    let stores = Stores { tasks: Arc::new(breaks), ..stores };
    let running = Running::start(stores, &BTreeMap::new()).await;
    let mut tasks: BTreeMap<String, u32> = BTreeMap::new();
    let documents = |index: &str| format!("/indexes/{index}/documents");
    let settings = |index: &str| format!("/indexes/{index}/settings");
    let three = || json!([{"id": 1}, {"id": 2}, {"id": 3}, {"id": 3}]);

    for index in INDEXES {
        let body = json!({"uid": index, "primaryKey": "id"});
        running.change(Method::POST, "/indexes", body).await;
    }
    running.done().await;
    let mut remember = |name: &str, uid| {
        tasks.insert(name.to_owned(), uid);
    };
    let sortable = json!({"sortableAttributes": ["a"], "displayedAttributes": ["id", "a"]});
    remember(
        "settings committed",
        running.change(Method::PATCH, &settings("committed"), sortable.clone()).await,
    );
    running.done().await;

    // From here on nothing ends on the nodes.
    running.nodes.iter().for_each(StubNode::hold);
    remember("addition", running.change(Method::POST, &documents("added"), three()).await);
    let edit = |function: &str| json!({ "function": function });
    remember(
        "edition",
        running.change(Method::POST, "/indexes/edited/documents/edit", edit("doc.a = 1")).await,
    );
    remember(
        "edition that fails",
        running.change(Method::POST, "/indexes/broken/documents/edit", edit("broken")).await,
    );
    remember(
        "deletion of documents",
        running.change(Method::DELETE, &documents("deleted"), Value::Null).await,
    );
    remember(
        "settings proposed",
        running.change(Method::PATCH, &settings("set"), sortable.clone()).await,
    );
    let under_way = running.change(Method::POST, &documents("old-name"), three()).await;
    let name = json!({"uid": "new-name"});
    remember("rename", running.change(Method::PATCH, "/indexes/old-name", name).await);
    running.change(Method::POST, &documents("first"), three()).await;
    let swap = json!([{"indexes": ["first", "second"]}]);
    remember("swap", running.change(Method::POST, "/swap-indexes", swap).await);
    remember("dump", running.change(Method::POST, "/dumps", Value::Null).await);

    // A cancelation that was passed on, and what it was passed on for.
    let canceled = [
        ("canceled addition", Method::POST, documents("canceled"), three()),
        ("canceled deletion of documents", Method::DELETE, documents("canceled"), Value::Null),
        ("canceled settings", Method::PATCH, settings("canceled"), sortable.clone()),
        ("canceled snapshot", Method::POST, "/snapshots".to_owned(), Value::Null),
    ];
    let mut uids = Vec::new();
    for (name, method, path, body) in canceled {
        let uid = running.change(method, &path, body).await;
        remember(name, uid);
        uids.push(uid.to_string());
    }
    let path = format!("/tasks/cancel?uids={}", uids.join(","));
    remember("cancelation passed on", running.change(Method::POST, &path, Value::Null).await);
    // Waits for the first task of its index, which is under way.
    let path = format!("/tasks?uids=0,{under_way}");
    remember(
        "deletion of tasks that waits",
        running.change(Method::DELETE, &path, Value::Null).await,
    );
    running.nodes[1].release("dumpCreation");
    running.round().await;
    running.round().await;
    remember(
        "deletion of tasks that is under way",
        running.change(Method::DELETE, "/tasks?uids=1,2", Value::Null).await,
    );
    tokio::select! {
        () = running.round() => panic!("the store breaks first"),
        () = broken.notified() => {}
    }
    remember(
        "deletion of tasks",
        running.change(Method::DELETE, "/tasks?uids=3", Value::Null).await,
    );
    let late = running.change(Method::DELETE, &documents("canceled"), Value::Null).await;
    let path = format!("/tasks/cancel?uids={late}");
    remember("deletion of documents that is to be canceled", late);
    remember("cancelation", running.change(Method::POST, &path, Value::Null).await);

    // While a node is missing, the documents of an index that goes are counted.
    let (state, missing) = (&running.miroir.cluster.state, NodeId::new(NODES[2]).unwrap());
    state.membership.apply(&missing, NodeEvent::Fail);
    remember(
        "deletion of an index",
        running.change(Method::DELETE, "/indexes/gone", Value::Null).await,
    );
    state.membership.apply(&missing, NodeEvent::Recover);

    // Nobody hears whether these arrived.
    running.nodes[1..].iter().for_each(StubNode::hang);
    let before = running.unfinished().await.len();
    {
        let (added, set) = (documents("late"), settings("late-set"));
        let sent = async {
            tokio::join!(
                running.request(Method::POST, &added, three()),
                running.request(Method::PATCH, &set, sortable.clone()),
                running.request(Method::POST, "/indexes", json!({"uid": "late-new"})),
            )
        };
        let stored = async {
            let first = &running.nodes[0];
            let told = || {
                first.has("late", "documentAdditionOrUpdate")
                    && first.has("late-new", "indexCreation")
            };
            while running.nodes[1..].iter().any(|node| node.unanswered() < 3) || !told() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            _ = sent => panic!("nobody answers"),
            () = stored => {}
        }
    }
    for record in running.unfinished().await.iter().skip(before) {
        let name = match record.kind {
            TaskKind::DocumentAdditionOrUpdate => "addition without an answer",
            TaskKind::IndexCreation => "creation without an answer",
            TaskKind::SettingsUpdate => "settings without an answer",
            kind => panic!("{kind:?}"),
        };
        remember(name, record.uid.0);
    }
    let nodes = running.nodes.iter().zip(NODES).map(|(node, name)| (name.to_owned(), node.disk()));
    Left { nodes: nodes.collect(), tasks }
}

/// Starts the next process over what the one before left, and has it end every task: those whose
/// state cannot be read as failed.
pub(crate) async fn serve(path: &Path, left: &Left, broken: &[&str]) {
    let options = miroir_store_sqlite::Options::default();
    let stores = miroir_store_sqlite::open(path, options).unwrap();
    let documents = {
        let uid = TaskUid(left.tasks["deletion of an index"]);
        let stored = stores.tasks.get(uid).await.unwrap().unwrap();
        serde_json::to_value(stored).unwrap()["protocol"]["documents"].clone()
    };
    assert!(documents.as_u64().is_some_and(|count| count > 0), "{documents}");
    let before = stores.replicas.list().await.unwrap();
    let running = Running::start(stores, &left.nodes).await;
    let state = &running.miroir.cluster.state;
    // Nodes and store are taken over as they are: each node has its key now, nothing is marked.
    assert_eq!(state.stores.replicas.list().await.unwrap(), before);
    for (node, name) in running.nodes.iter().zip(NODES) {
        let known = state.lives.get(&NodeId::new(name).unwrap());
        assert!(known.identified && known.life == 0, "{known:?}");
        assert_eq!(node.keys(), [state.store_id.identity_key(&known.node, 0).to_string()]);
    }
    let founded = state.stores.identity.topology().await.unwrap().unwrap();
    assert_eq!((founded.version, founded.layout.nodes.len()), (1, NODES.len()));
    running.miroir.spawn_workers();
    let until = async |holds: &mut dyn FnMut(&[TaskRecord]) -> bool| {
        let waited = tokio::time::Instant::now();
        loop {
            let open = running.unfinished().await;
            if holds(&open) {
                return;
            }
            assert!(waited.elapsed() < PATIENCE, "still under way: {open:#?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    // What is canceled is still in the nodes' queues.
    let cancelation = left.tasks["cancelation"];
    until(&mut |open| open.iter().all(|task| task.uid.0 != cancelation || !task.nodes.is_empty()))
        .await;
    running.nodes.iter().for_each(StubNode::go_on);
    until(&mut <[_]>::is_empty).await;

    let by = |name: &str| json!(left.tasks[name]);
    let outcomes = [
        ("settings committed", "succeeded", json!({})),
        ("addition", "succeeded", json!({"receivedDocuments": 4, "indexedDocuments": 3})),
        ("edition", "succeeded", json!({"editedDocuments": 4, "deletedDocuments": 0})),
        ("edition that fails", "failed", json!({"editedDocuments": 0})),
        ("deletion of documents", "succeeded", json!({"deletedDocuments": 1})),
        ("settings proposed", "succeeded", json!({"sortableAttributes": ["a"]})),
        ("rename", "succeeded", json!({"newIndexUid": "new-name"})),
        ("swap", "succeeded", json!({})),
        ("dump", "succeeded", json!({"dumpUid": "dump-of-n0"})),
        ("canceled addition", "canceled", json!({"indexedDocuments": 0})),
        ("canceled deletion of documents", "canceled", json!({"deletedDocuments": 0})),
        ("canceled settings", "canceled", json!({})),
        ("canceled snapshot", "canceled", Value::Null),
        ("cancelation passed on", "succeeded", json!({"matchedTasks": 4, "canceledTasks": 4})),
        ("deletion of tasks that waits", "succeeded", json!({"deletedTasks": 2})),
        ("deletion of tasks that is under way", "succeeded", json!({"deletedTasks": 2})),
        ("deletion of tasks", "succeeded", json!({"matchedTasks": 1, "deletedTasks": 1})),
        (
            "deletion of documents that is to be canceled",
            "canceled",
            json!({"deletedDocuments": 0}),
        ),
        ("cancelation", "succeeded", json!({"canceledTasks": 1})),
        ("deletion of an index", "succeeded", json!({ "deletedDocuments": documents })),
        ("addition without an answer", "succeeded", json!({"indexedDocuments": 3})),
        ("settings without an answer", "succeeded", json!({"displayedAttributes": ["id", "a"]})),
        ("creation without an answer", "succeeded", json!({})),
    ];
    assert_eq!(outcomes.len(), left.tasks.len());
    for (name, status, details) in outcomes {
        let told = running.task(left.tasks[name]).await;
        if broken.contains(&name) {
            assert_eq!(told["status"], "failed", "{name}: {told}");
            assert_eq!(told["error"]["code"], "miroir_task_unreadable", "{name}: {told}");
            continue;
        }
        assert_eq!(told["status"], status, "{name}: {told}");
        for (key, value) in details.as_object().into_iter().flatten() {
            assert_eq!(told["details"][key], *value, "{name}: {told}");
        }
        let canceled_by = match name {
            "deletion of documents that is to be canceled" => by("cancelation"),
            _ if status == "canceled" => by("cancelation passed on"),
            _ => Value::Null,
        };
        assert_eq!(told["canceledBy"], canceled_by, "{name}: {told}");
    }
    let failed = running.task(left.tasks["edition that fails"]).await;
    let message = failed["error"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("(line 3, position 1)"), "in the client's own lines: {message}");
    // What was proposed is committed, with the client's own form of it.
    for index in ["set", "late-set", "committed"] {
        if index == "set" && broken.contains(&"settings proposed") {
            continue;
        }
        let path = format!("/indexes/{index}/settings");
        let (_, told) = running.request(Method::GET, &path, Value::Null).await;
        assert_eq!(told["displayedAttributes"], json!(["id", "a"]), "{index}: {told}");
        let name = miroir_api::IndexUid::new(index).unwrap();
        let entry = running.miroir.cluster.state.catalog.get(&name).unwrap();
        assert_eq!((entry.settings_version, entry.frozen.clone()), (1, None), "{index}");
    }
    running.miroir.shutdown().await;
}

/// Writes something into the stored states of tasks that no version knows.
pub(crate) async fn garble(path: &Path, left: &Left, names: &[&str]) {
    let options = miroir_store_sqlite::Options::default();
    let tasks = miroir_store_sqlite::open(path, options).unwrap().tasks;
    for name in names {
        let task = tasks.get(TaskUid(left.tasks[*name])).await.unwrap().unwrap();
        let mut stored = serde_json::to_value(task).unwrap();
        stored["protocol"]["nonsense"] = json!(true);
        let garbled: TaskRecord = serde_json::from_value(stored.clone()).unwrap();
        tasks.update(garbled).await.unwrap();
        let read = tasks.get(TaskUid(left.tasks[*name])).await.unwrap().unwrap();
        assert_eq!(serde_json::to_value(read).unwrap(), stored, "what cannot be read stays");
    }
}
