//! API keys through the whole client API: who sees and changes what, over fake nodes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http_body_util::{BodyExt, Full};
use miroir_api::NodeId;
use miroir_control::Miroir;
use miroir_core::keys::MasterKey;
use miroir_layers::edge::{AuthenticateLayer, AuthenticateOptions};
use miroir_layers::operation::AuthorizeLayer;
use miroir_pipeline::Stack;
use miroir_pipeline::context::Principal;
use miroir_pipeline::stage::BoxService;
use miroir_store::{Stores, memory};
use miroir_test::node::FakeNode;
use serde_json::{Value, json};
use tower::{Layer, ServiceExt};

const MASTER: &str = "the-master-key-of-these-tests";

/// A process over three nodes, with authentication and authorization around it.
struct Process {
    miroir: Miroir,
    authenticate: AuthenticateLayer,
}

impl Process {
    async fn start(nodes: &[FakeNode], stores: &Stores, master: Option<&str>) -> Self {
        let all = nodes.to_vec();
        let factory = move |node: &miroir_core::topology::Node| {
            let fake =
                all.iter().find(|fake| *fake.id() == node.id).cloned().expect("a known node");
            Ok(BoxService::new(tower::service_fn(move |request| fake.clone().oneshot(request))))
        };
        let mut builder = Miroir::builder()
            .shards(4)
            .stores(stores.clone())
            .node_stack(Arc::new(factory))
            .operations(Stack::new().push(AuthorizeLayer::default()));
        if let Some(master) = master {
            builder = builder.master_key(master);
        }
        for node in nodes {
            let id = node.id().as_str();
            builder = builder.node(id, &format!("http://{id}"), 0);
        }
        let miroir = builder.build().await.expect("a valid shape");
        miroir.spawn_workers();
        let keyring = Arc::clone(&miroir.cluster.state.keyring);
        let options = AuthenticateOptions { keyring, admin_key: None };
        Self { miroir, authenticate: AuthenticateLayer::new(&options) }
    }

    async fn ask(
        &self,
        key: &str,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> (u16, Value) {
        let mut request = http::Request::builder().method(method).uri(path);
        if !key.is_empty() {
            request = request.header(http::header::AUTHORIZATION, format!("Bearer {key}"));
        }
        if body.is_some() {
            request = request.header(http::header::CONTENT_TYPE, "application/json");
        }
        let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let request = request.body(Full::new(body)).expect("a valid request");
        let service = self.authenticate.layer(self.miroir.http(Duration::from_mins(1)));
        let (parts, body) = service.oneshot(request).await.expect("no error").into_parts();
        let body = body.collect().await.expect("a whole body").to_bytes();
        (parts.status.as_u16(), serde_json::from_slice(&body).unwrap_or_default())
    }

    async fn get(&self, key: &str, path: &str) -> (u16, Value) {
        self.ask(key, Method::GET, path, None).await
    }

    /// A new key with these actions and indexes.
    async fn key(&self, actions: &[&str], indexes: &[&str]) -> String {
        let body = json!({"actions": actions, "indexes": indexes, "expiresAt": null});
        let (status, key) = self.ask(MASTER, Method::POST, "/keys", Some(body)).await;
        assert_eq!(status, 201, "{key}");
        key["key"].as_str().unwrap().to_owned()
    }

    /// Sends a write and waits for its task, as the master.
    async fn done(&self, key: &str, method: Method, path: &str, body: Value) -> Value {
        let (status, task) = self.ask(key, method, path, Some(body)).await;
        assert_eq!(status, 202, "{task}");
        loop {
            let (_, task) = self.get(MASTER, &format!("/tasks/{}", task["taskUid"])).await;
            if matches!(task["status"].as_str(), Some("succeeded" | "failed")) {
                return task;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn nodes() -> Vec<FakeNode> {
    (0..3).map(|at| FakeNode::new(NodeId::new(&format!("n{at}")).unwrap(), at)).collect()
}

fn names(list: &Value, field: &str) -> Vec<String> {
    let results = list["results"].as_array().unwrap();
    results.iter().map(|entry| entry[field].as_str().unwrap_or_default().to_owned()).collect()
}

const INVALID: &str = "The provided API key is invalid.";

#[tokio::test(start_paused = true)]
async fn keys_live_in_the_store_and_are_derived_from_the_master_key() {
    let (nodes, stores) = (nodes(), memory::open());
    let first = Process::start(&nodes, &stores, Some(MASTER)).await;
    let (_, keys) = first.get(MASTER, "/keys").await;
    assert_eq!(
        names(&keys, "name"),
        [
            "Default Search API Key",
            "Default Admin API Key",
            "Default Read-Only Admin API Key",
            "Default Chat API Key"
        ]
    );
    let body = json!({"uid": "6062abda-a5aa-4414-ac91-ecd7944c0f81", "actions": ["version"],
                      "indexes": ["*"], "expiresAt": null});
    let (status, made) = first.ask(MASTER, Method::POST, "/keys", Some(body.clone())).await;
    assert_eq!((status, &made["name"]), (201, &Value::Null));
    let (status, again) = first.ask(MASTER, Method::POST, "/keys", Some(body)).await;
    assert_eq!((status, &again["code"]), (409, &"api_key_already_exists".into()));
    let uid = "6062abda-a5aa-4414-ac91-ecd7944c0f81".parse().unwrap();
    assert_eq!(made["key"], MasterKey::new(MASTER).unwrap().derive(uid));
    let key = made["key"].as_str().unwrap();
    assert_eq!(first.get(key, "/version").await.0, 200);
    assert_eq!(first.get(&key.to_uppercase(), "/version").await.0, 200);
    let (status, body) = first.get(key, "/keys").await;
    assert_eq!((status, &body["message"]), (403, &INVALID.into()));

    // Another process over the same store makes no default keys of its own.
    let second = Process::start(&nodes, &stores, Some(MASTER)).await;
    let (_, after) = second.get(MASTER, "/keys?limit=3").await;
    assert_eq!((&after["total"], after["results"].as_array().unwrap().len()), (&5.into(), 3));
    assert_eq!(after["results"][1], keys["results"][0]);
    assert_eq!(second.get(key, "/version").await.0, 200);

    let path = format!("/keys/{key}");
    let change = json!({"name": "n", "description": null});
    let (status, changed) = second.ask(MASTER, Method::PATCH, &path, Some(change)).await;
    assert_eq!((status, &changed["name"], &changed["key"]), (200, &"n".into(), &made["key"]));
    assert_eq!(second.ask(MASTER, Method::DELETE, &path, None).await, (204, Value::Null));
    assert_eq!(second.get(key, "/version").await.0, 403);
    let (status, body) = second.get(MASTER, &path).await;
    let message = format!("API key `{key}` not found.");
    assert_eq!((status, &body["message"]), (404, &message.into()));

    // Another master key: the same uids, other keys.
    let third = Process::start(&nodes, &stores, Some("another-master-key-entirely")).await;
    assert_eq!(third.get(MASTER, "/keys").await.0, 403);
    let (_, other) = third.get("another-master-key-entirely", "/keys").await;
    assert_eq!(other["results"][0]["uid"], keys["results"][0]["uid"]);
    assert_ne!(other["results"][0]["key"], keys["results"][0]["key"]);
}

#[tokio::test(start_paused = true)]
async fn without_a_master_key_there_are_no_keys() {
    let process = Process::start(&nodes(), &memory::open(), None).await;
    assert_eq!(process.get("", "/version").await.0, 200);
    for (method, path) in
        [(Method::GET, "/keys"), (Method::POST, "/keys"), (Method::DELETE, "/keys/x")]
    {
        let (status, body) = process.ask("", method, path, None).await;
        assert_eq!((status, &body["code"]), (401, &"missing_master_key".into()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_limited_key_sees_its_indexes_and_their_tasks() {
    let process = Process::start(&nodes(), &memory::open(), Some(MASTER)).await;
    for uid in ["a1", "a2", "b", "c"] {
        let body = json!({"uid": uid, "primaryKey": "id"});
        process.done(MASTER, Method::POST, "/indexes", body).await;
    }
    // Tasks follow the names of their indexes, so this swap is about hidden ones.
    let swap = json!([{"indexes": ["b", "c"]}]);
    process.done(MASTER, Method::POST, "/swap-indexes", swap).await;
    let reads = ["indexes.get", "stats.get", "tasks.get", "indexes.swap"];
    let key = process.key(&reads, &["a*"]).await;

    let (_, list) = process.get(&key, "/indexes?limit=1").await;
    assert_eq!((names(&list, "uid"), &list["total"]), (vec!["a1".to_owned()], &2.into()));
    let (_, stats) = process.get(&key, "/stats").await;
    let shown: Vec<_> = stats["indexes"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(shown, ["a1", "a2"]);

    // As on a node, the total tells of the others, and what is about no one index is not shown.
    let (_, tasks) = process.get(&key, "/tasks").await;
    assert_eq!(
        (names(&tasks, "indexUid"), &tasks["total"]),
        (vec!["a2".into(), "a1".into()], &5.into())
    );
    let (_, tasks) = process.get(&key, "/tasks?indexUids=a1,a2&limit=1").await;
    assert_eq!((names(&tasks, "indexUid"), &tasks["total"]), (vec!["a2".to_owned()], &2.into()));
    assert_eq!(process.get(&key, "/tasks/0").await.0, 200);
    for hidden in [2, 3, 4] {
        let (status, body) = process.get(&key, &format!("/tasks/{hidden}")).await;
        assert_eq!((status, &body["code"]), (404, &"task_not_found".into()));
    }

    let (status, body) = process.get(&key, "/indexes/b").await;
    let message = "The API key cannot acces the index `b`, authorized indexes are [\"a*\"].";
    assert_eq!((status, &body["message"]), (403, &message.into()));
    let swap = json!([{"indexes": ["a1", "b"]}]);
    let (status, body) = process.ask(&key, Method::POST, "/swap-indexes", Some(swap)).await;
    assert_eq!((status, &body["message"]), (403, &INVALID.into()));
    let swap = json!([{"indexes": ["a1", "a2"]}]);
    assert_eq!(
        process.done(&key, Method::POST, "/swap-indexes", swap).await["status"],
        "succeeded"
    );
}

#[tokio::test(start_paused = true)]
async fn making_an_index_needs_its_own_action() {
    let process = Process::start(&nodes(), &memory::open(), Some(MASTER)).await;
    let writer = process.key(&["documents.add", "settings.update"], &["a*"]).await;
    let task = process
        .done(&writer, Method::POST, "/indexes/a1/documents", json!([{"id": 1}, {"id": 2}]))
        .await;
    assert_eq!(
        (&task["status"], &task["error"]["code"]),
        (&"failed".into(), &"index_not_found".into())
    );
    assert_eq!(task["details"], json!({"receivedDocuments": 2, "indexedDocuments": 0}));
    let settings = json!({"stopWords": ["a"]});
    let task = process.done(&writer, Method::PATCH, "/indexes/a1/settings", settings.clone()).await;
    assert_eq!(
        (&task["status"], &task["error"]["code"]),
        (&"failed".into(), &"index_not_found".into())
    );
    assert_eq!(process.get(MASTER, "/indexes").await.1["total"], 0);

    let maker = process.key(&["documents.add", "indexes.create"], &["a*"]).await;
    let (status, body) =
        process.ask(&maker, Method::POST, "/indexes", Some(json!({"uid": "b"}))).await;
    assert_eq!((status, &body["message"]), (403, &INVALID.into()));
    let task =
        process.done(&maker, Method::POST, "/indexes/a1/documents", json!([{"id": 1}])).await;
    assert_eq!(task["status"], "succeeded", "{task}");
    // It exists now, so the writer may write.
    let task = process.done(&writer, Method::PATCH, "/indexes/a1/settings", settings).await;
    assert_eq!(task["status"], "succeeded", "{task}");
    process.done(&maker, Method::POST, "/indexes", json!({"uid": "a2"})).await;
    assert_eq!(process.get(MASTER, "/indexes").await.1["total"], 2);
}

/// A bearer token is looked up by whoever wraps the API; the pipeline alone trusts its principal.
#[tokio::test(start_paused = true)]
async fn a_pipeline_without_authentication_refuses_everybody_unknown() {
    let process = Process::start(&nodes(), &memory::open(), Some(MASTER)).await;
    let service = process.miroir.http(Duration::from_mins(1));
    let mut request = http::Request::get("/indexes").body(Full::new(Bytes::new())).unwrap();
    let anonymous = service.clone().oneshot(request.clone()).await.unwrap();
    assert_eq!(anonymous.status(), 401);
    request.extensions_mut().insert(Principal::MasterKey);
    assert_eq!(service.oneshot(request).await.unwrap().status(), 200);
}
