//! What clients are promised over two pods, one Redis and two replica groups of engine nodes: a
//! session reads what it wrote, a change that is sent many times is made once, and an alias leads to
//! one index or the other, never to both.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use http::Method;
use miroir_engine::EngineNode;
use miroir_server::config::{Config, NodeConfig, Secret, TaskStoreBackend};
use miroir_test::redis::RedisServer;
use serde_json::{Value, json};

use crate::TURN;
use crate::support::{ADMIN, Answer, MASTER, NODE, Running, eventually};

/// Two pods over the same nodes and store.
struct Deployment {
    pods: [Running; 2],
    _nodes: Vec<EngineNode>,
    _redis: RedisServer,
}

fn key(key: &str) -> (&'static str, String) {
    ("authorization", format!("Bearer {key}"))
}

impl Deployment {
    async fn start() -> Self {
        let mut nodes = Vec::new();
        for _ in 0..2 {
            nodes.push(EngineNode::start_temp(NODE).await.unwrap());
        }
        let redis = RedisServer::start(&["--save", "", "--appendonly", "no"]);
        let list: Vec<NodeConfig> = nodes
            .iter()
            .enumerate()
            .map(|(at, node)| NodeConfig {
                id: format!("engine-{at}"),
                address: node.url(),
                replica_group: at as u32,
            })
            .collect();
        let change = |config: &mut Config| {
            config.nodes = list.clone();
            config.replica_groups = 2;
            config.server.max_concurrent_requests = 3_000;
            config.task_store.backend = TaskStoreBackend::Redis;
            config.task_store.url = Secret::new(redis.url());
            config.leader_election.lease_ttl = Duration::from_secs(3);
            config.leader_election.renew_interval = Duration::from_secs(1);
        };
        let first = Running::over(Vec::new(), change).await;
        let leads = async |pod: &Running| {
            let pods = pod.admin("/_miroir/pods").await.json();
            pods["pods"].as_array().is_some_and(|pods| pods.iter().any(|p| p["leads"] == true))
        };
        eventually(async || leads(&first).await).await;
        let second = Running::over(Vec::new(), change).await;
        eventually(async || leads(&second).await).await;
        let pods = [first, second];
        eventually(async || pods[1].get("/_miroir/ready", &[]).await.status == 200).await;
        Self { pods, _nodes: nodes, _redis: redis }
    }

    async fn ask(
        &self,
        pod: usize,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Answer {
        let (name, value) = if path.starts_with("/_miroir") { key(ADMIN) } else { key(MASTER) };
        let mut all = vec![(name, value.as_str()), ("content-type", "application/json")];
        all.extend_from_slice(headers);
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.pods[pod].send(method, path, &all, body).await
    }

    /// Adds documents and waits until everybody has them.
    async fn add(&self, index: &str, documents: Value) {
        let path = format!("/indexes/{index}/documents");
        let answer = self.ask(0, Method::POST, &path, &[], &documents).await;
        self.end_of(&answer).await;
    }

    /// Waits until what was accepted has been done.
    async fn end_of(&self, answer: &Answer) {
        assert_eq!(answer.status, 202, "{:?}", answer.body);
        let path = format!("/tasks/{}", answer.json()["taskUid"]);
        eventually(async || {
            let task = self.ask(0, Method::GET, &path, &[], &Value::Null).await.json();
            assert_ne!(task["status"], "failed", "{task}");
            task["status"] == "succeeded"
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_get_what_they_are_promised() {
    let _turn = TURN.lock().await;
    let deployment = Arc::new(Deployment::start().await);
    sessions(&deployment).await;
    one_of_many(&deployment).await;
    keys(&deployment).await;
    flips(&deployment).await;
    several_indexes(&deployment).await;
}

/// Whoever writes with a session reads it on either pod, at once.
async fn sessions(deployment: &Deployment) {
    let session = [("x-miroir-session", "a-session")];
    let path = "/indexes/sessions/documents";
    for round in 0..40_u32 {
        let (writer, reader) = (round as usize % 2, (round as usize / 2) % 2);
        let document = json!([{"id": round, "title": format!("round{round}")}]);
        let written = deployment.ask(writer, Method::POST, path, &session, &document).await;
        assert_eq!(written.status, 202, "{:?}", written.body);
        let query = json!({"q": format!("round{round}")});
        let search = "/indexes/sessions/search";
        let found = deployment.ask(reader, Method::POST, search, &session, &query).await;
        assert_eq!(found.header("x-miroir-session-stale"), None);
        assert_eq!(found.json()["hits"][0]["id"], round, "{:?}", found.body);
        let one = format!("{path}/{round}");
        let got = deployment.ask(1 - reader, Method::GET, &one, &session, &Value::Null).await;
        assert_eq!(got.status, 200, "{:?}", got.body);
    }
}

/// Of many that are the same, on both pods, one has an effect.
async fn one_of_many(deployment: &Deployment) {
    let path = "/indexes/once/documents";
    let headers = [("idempotency-key", "the-key")];
    let body = json!([{"id": 1}, {"id": 2}]);
    let calls =
        (0..1_000).map(|call| deployment.ask(call % 2, Method::POST, path, &headers, &body));
    let answers = join_all(calls).await;
    let tasks: std::collections::BTreeSet<u64> =
        answers.iter().map(|answer| answer.json()["taskUid"].as_u64().unwrap()).collect();
    assert_eq!(tasks.len(), 1, "{tasks:?}");
    let header = "x-miroir-idempotency-replayed";
    let first = answers.iter().filter(|answer| answer.header(header).is_none()).count();
    assert_eq!(first, 1);
    let list = "/tasks?indexUids=once&types=documentAdditionOrUpdate";
    let listed = deployment.ask(1, Method::GET, list, &[], &Value::Null).await.json();
    assert_eq!(listed["total"], 1, "{listed}");
    let other = deployment.ask(1, Method::POST, path, &headers, &json!([{"id": 3}])).await;
    assert_eq!(other.status, 409);
    assert_eq!(other.json()["code"], "miroir_idempotency_key_reused");
}

/// A key opens the same on every pod, though no pod sends it to another one. What a client says about
/// pods has no effect.
async fn keys(deployment: &Deployment) {
    let wanted = json!({
        "actions": ["documents.add", "indexes.create"], "indexes": ["mine"], "expiresAt": null,
    });
    let headers = [("idempotency-key", "the-making")];
    let made = deployment.ask(1, Method::POST, "/keys", &headers, &wanted).await;
    assert_eq!(made.status, 201, "{:?}", made.body);
    let again = deployment.ask(0, Method::POST, "/keys", &headers, &wanted).await;
    assert_eq!((again.status, &again.body), (201, &made.body));
    let made = made.json();
    let bearer = format!("Bearer {}", made["key"].as_str().unwrap());
    let add = async |pod: usize, path: &str, forwarded: &str| {
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
            ("x-miroir-forwarded", forwarded),
        ];
        let answer =
            deployment.pods[pod].send(Method::POST, path, &headers, "[{\"id\":1}]".to_owned());
        answer.await.status
    };
    for pod in 0..2 {
        for forwarded in ["", "1", "v1;master"] {
            assert_eq!(add(pod, "/indexes/mine/documents", forwarded).await, 202, "pod {pod}");
            assert_eq!(add(pod, "/indexes/others/documents", forwarded).await, 403, "pod {pod}");
            assert_eq!(add(pod, "/_miroir/aliases", forwarded).await, 401, "pod {pod}");
        }
    }
    let path = format!("/keys/{}", made["uid"].as_str().unwrap());
    let deleted = deployment.ask(1, Method::DELETE, &path, &[], &Value::Null).await;
    assert_eq!(deleted.status, 204);
    for pod in 0..2 {
        assert_eq!(add(pod, "/indexes/mine/documents", "").await, 403, "pod {pod}");
    }
}

const FLIPS: u64 = 100;

/// An alias is flipped under load: every answer is of one index, and of the one it stood for.
async fn flips(deployment: &Arc<Deployment>) {
    for version in 0..2 {
        let documents: Vec<Value> =
            (0..10).map(|id| json!({"id": id, "version": version})).collect();
        deployment.add(&format!("shop_v{version}"), json!(documents)).await;
    }
    let made = json!({"name": "shop", "target": "shop_v0"});
    let made = deployment.ask(1, Method::POST, "/_miroir/aliases", &[], &made).await;
    assert_eq!(made.status, 201, "{:?}", made.body);

    // How many flips have been answered, and whether it is over.
    let (flipped, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let readers: Vec<_> = (0..4_usize)
        .map(|reader| {
            let (deployment, flipped, over) =
                (Arc::clone(deployment), Arc::clone(&flipped), Arc::clone(&over));
            tokio::spawn(async move {
                let mut reads = 0;
                while !over.load(Ordering::SeqCst) {
                    let before = flipped.load(Ordering::SeqCst);
                    let query = json!({"q": "", "limit": 20});
                    let path = "/indexes/shop/search";
                    let found = deployment.ask(reader % 2, Method::POST, path, &[], &query).await;
                    let after = flipped.load(Ordering::SeqCst);
                    assert_eq!(found.status, 200, "{:?}", found.body);
                    let hits = found.json()["hits"].as_array().unwrap().clone();
                    assert_eq!(hits.len(), 10);
                    let version = hits[0]["version"].as_u64().unwrap();
                    assert!(hits.iter().all(|hit| hit["version"] == version), "torn: {hits:?}");
                    if before == after && before == FLIPS {
                        assert_eq!(version, before % 2, "an old target after the last flip");
                    }
                    reads += 1;
                }
                reads
            })
        })
        .collect();
    for flip in 1..=FLIPS {
        let target = json!({"target": format!("shop_v{}", flip % 2)});
        let path = "/_miroir/aliases/shop";
        let answer = deployment.ask(flip as usize % 2, Method::PUT, path, &[], &target).await;
        assert_eq!(answer.status, 200, "{:?}", answer.body);
        // Whoever asks after the answer is served by the new target, on either pod.
        for pod in 0..2 {
            let query = json!({"limit": 1});
            let found =
                deployment.ask(pod, Method::POST, "/indexes/shop/search", &[], &query).await;
            assert_eq!(found.json()["hits"][0]["version"], flip % 2, "pod {pod}, flip {flip}");
        }
        flipped.store(flip, Ordering::SeqCst);
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    over.store(true, Ordering::SeqCst);
    let reads: u64 = join_all(readers).await.into_iter().map(|reads| reads.unwrap() as u64).sum();
    assert!(reads > FLIPS, "only {reads} reads");

    let shown = deployment.ask(1, Method::GET, "/_miroir/aliases/shop", &[], &Value::Null).await;
    let shown = shown.json();
    assert_eq!((&shown["kind"], &shown["version"]), (&json!("single"), &json!(FLIPS + 1)));
    assert_eq!(shown["history"].as_array().unwrap().len(), 10);
    // A write goes to the target, and names are not taken twice.
    let path = "/indexes/shop/documents";
    let written = deployment.ask(1, Method::POST, path, &[], &json!([{"id": 99}])).await;
    assert_eq!(written.json()["indexUid"], "shop_v0");
    let taken = deployment.ask(0, Method::POST, "/indexes", &[], &json!({"uid": "shop"})).await;
    let task = format!("/tasks/{}", taken.json()["taskUid"]);
    let task = deployment.ask(0, Method::GET, &task, &[], &Value::Null).await.json();
    assert_eq!(task["error"]["code"], "index_already_exists", "{task}");
}

/// An alias of several indexes is read as one index, and takes no changes. (Engine nodes have no
/// federated search: what a search of one becomes is tested with the layer.)
async fn several_indexes(deployment: &Deployment) {
    let documents = |from: u32| (from..from + 5).map(|id| json!({"id": id, "n": id})).collect();
    deployment.add("logs_1", Value::Array(documents(0))).await;
    deployment.add("logs_2", Value::Array(documents(5))).await;
    let made = json!({"name": "logs", "targets": ["logs_2", "logs_1"]});
    let made = deployment.ask(0, Method::POST, "/_miroir/aliases", &[], &made).await;
    assert_eq!(made.status, 201, "{:?}", made.body);
    let path = "/indexes/logs/documents";
    let one = deployment.ask(0, Method::GET, &format!("{path}/3"), &[], &Value::Null).await;
    assert_eq!(one.json()["n"], 3);
    let list = deployment.ask(0, Method::GET, &format!("{path}?limit=6"), &[], &Value::Null).await;
    assert_eq!(list.json()["total"], 10);
    assert_eq!(list.json()["results"].as_array().unwrap().len(), 6);
    let refused = deployment.ask(1, Method::POST, path, &[], &json!([{"id": 1}])).await;
    assert_eq!(refused.status, 409);
    assert_eq!(refused.json()["code"], "miroir_multi_alias_not_writable");
}
