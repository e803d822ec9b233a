//! The program against the real server, over fake nodes on sockets.

mod support;

use http_body_util::{BodyExt, Full};
use miroir_api::NodeId;
use miroir_ctl::Code;
use miroir_server::Server;
use miroir_server::config::{Config, Secret};
use miroir_test::certificates::Authority;
use miroir_test::node::FakeNode;
use serde_json::{Value, json};
use tower::ServiceExt;

use support::{KEY, MASTER, ctl, serve, with};

/// A fake node's address.
async fn node(name: &str) -> String {
    let node = FakeNode::new(NodeId::new(name).unwrap(), 7);
    let address = serve(move |request| {
        let node = node.clone();
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let request = http::Request::from_parts(parts, Full::new(body));
            node.oneshot(request).await.unwrap().map(Full::new)
        }
    })
    .await;
    format!("http://{address}")
}

/// A server over two nodes, with everything that `more` adds.
async fn server(directory: &tempfile::TempDir, more: Value) -> String {
    let mut config = json!({
        "shards": 8,
        "nodes": [
            { "id": "a", "address": node("a").await },
            { "id": "b", "address": node("b").await },
        ],
        "task_store": { "path": directory.path().join("miroir.db") },
        "server": { "port": 0, "metrics_port": 0, "bind": "127.0.0.1" },
        "health": { "interval_ms": 50, "timeout_ms": 50 },
    });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let mut config = Config::from_yaml(&json!({ "miroir": config }).to_string()).unwrap();
    config.master_key = Secret::new(MASTER);
    config.admin.api_key = Secret::new(KEY);
    let server = Box::pin(Server::build(config)).await.unwrap();
    let url = format!("http://{}", server.addresses().client);
    tokio::spawn(Box::pin(server.run(std::future::pending())));
    url
}

/// Repeats a command until what it prints is right.
async fn until(url: &str, arguments: &[&str], right: impl Fn(&str) -> bool) -> String {
    let end = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        let ran = ctl(url, arguments).await;
        if right(&ran.out) {
            return ran.out;
        }
        assert!(tokio::time::Instant::now() < end, "{arguments:?}: {ran:?}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_real_server_is_understood() {
    let directory = tempfile::tempdir().unwrap();
    let url = server(&directory, json!({})).await;
    until(&url, &["status", "--json"], |out| out.contains("\"ready\":true")).await;
    let status = ctl(&url, &["status"]).await;
    assert_eq!((status.code, status.err.as_str()), (Code::Done, ""));
    for text in ["2 nodes, all well", "all up to date", "1, on its own", "all can be read"] {
        assert!(status.out.contains(text), "{text}: {}", status.out);
    }
    let topology = ctl(&url, &["topology"]).await.out;
    assert!(topology.contains("8 shards, each 1 times"), "{topology}");
    assert!(ctl(&url, &["replicas"]).await.out.contains("up to date"));
    assert!(ctl(&url, &["pods"]).await.out.contains("one pod"));
    let stack = ctl(&url, &["stack"]).await.out;
    assert!(stack.contains("operation\n  authorize\n"), "{stack}");
    assert!(stack.contains("index\n  session_pinning\n  reserved_fields\n"), "{stack}");
    assert!(ctl(&url, &["shadow", "diff"]).await.out.contains("`shadow.enabled` is false"));

    let body = json!({ "uid": "m", "primaryKey": "id" });
    let made = post(&url, "/indexes", &body).await;
    let uid = made["taskUid"].to_string();
    let waited = ctl(&url, &["task", "wait", &uid]).await;
    assert_eq!((waited.code, waited.out), (Code::Done, format!("{uid} succeeded\n")));
    let shown = ctl(&url, &["task", "get", &uid]).await.out;
    assert!(shown.contains("indexCreation") && shown.contains("NODE"), "{shown}");
    let listed = ctl(&url, &["task", "list", "--index", "m", "--status", "succeeded"]).await;
    assert!(listed.out.contains("indexCreation"), "{listed:?}");
    let cancel = ctl(&url, &["task", "cancel", &uid]).await;
    assert!(cancel.out.contains("cancels them"), "{cancel:?}");
    let missing = ctl(&url, &["task", "get", "999"]).await;
    assert_eq!(missing.code, Code::Refused);
    assert!(missing.err.contains("Task `999` not found"), "{missing:?}");

    let wrong = with(&url, &["topology"], &[("MIROIR_ADMIN_API_KEY", "wrong")]).await;
    assert_eq!(wrong.code, Code::Key);
    // The operators' key does not open the client API, and the program says what does.
    let alone = [("MIROIR_ADMIN_API_KEY", KEY)];
    let listed = with(&url, &["task", "list"], &alone).await;
    assert_eq!(listed.code, Code::Key);
    assert!(listed.err.contains("MIROIR_MASTER_KEY"), "{listed:?}");
    let partly = with(&url, &["check"], &alone).await.out;
    assert!(partly.contains("skip  keys: needs a client's key"), "{partly}");
    let check = ctl(&url, &["check", "--json"]).await;
    let found: Value = serde_json::from_str(&check.out).unwrap();
    // The fake nodes are of no version; everything else is well.
    let found = found["findings"].as_array().unwrap();
    assert!(found.iter().all(|one| one["check"] == "versions"), "{found:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shadows_are_shown_and_an_api_that_is_off_is_recognized() {
    let directory = tempfile::tempdir().unwrap();
    let more = json!({ "shadow": { "enabled": true, "targets": [
        { "name": "away", "url": "http://127.0.0.1:1", "operations": ["document_get"] }
    ]}});
    let url = server(&directory, more).await;
    let stack = ctl(&url, &["stack"]).await.out;
    assert!(stack.contains("operation\n  authorize\n  idempotency\n  shadow\n"), "{stack}");
    get(&url, "/indexes/m/documents/1").await;
    let out = until(&url, &["shadow", "diff"], |out| out.contains("error: GET")).await;
    assert!(out.contains("primary 404 index_not_found in"), "{out}");
    assert!(out.contains("shadow no answer connect in"), "{out}");
    let unknown = ctl(&url, &["shadow", "diff", "--target", "x"]).await;
    assert_eq!(unknown.code, Code::Refused);
    assert!(unknown.err.contains("There are: `away`"), "{unknown:?}");

    let directory = tempfile::tempdir().unwrap();
    let off = server(&directory, json!({ "admin": { "enabled": false } })).await;
    let ran = ctl(&off, &["topology"]).await;
    assert_eq!(ran.code, Code::Refused);
    assert!(ran.err.contains("admin.enabled"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_come_and_go_on_the_real_server() {
    let directory = tempfile::tempdir().unwrap();
    let url = server(&directory, json!({})).await;
    until(&url, &["status", "--json"], |out| out.contains("\"ready\":true")).await;
    let body = json!({ "uid": "m", "primaryKey": "id" });
    let uid = post(&url, "/indexes", &body).await["taskUid"].to_string();
    assert_eq!(ctl(&url, &["task", "wait", &uid]).await.code, Code::Done);

    let third = node("c").await;
    let add = ["node", "add", "c", third.as_str()];
    let plan = ctl(&url, &[&add[..], &["--dry-run"]].concat()).await;
    assert_eq!((plan.code, plan.err.as_str()), (Code::Done, ""), "{plan:?}");
    assert!(plan.out.starts_with("join, from version 1 of the topology\n"), "{plan:?}");
    let nowhere = ctl(&url, &["node", "add", "c", "http://127.0.0.1:1", "--dry-run"]).await;
    assert_eq!(nowhere.code, Code::Findings, "{nowhere:?}");
    assert!(nowhere.out.contains("BLOCKED The node `c`"), "{nowhere:?}");
    let known = ctl(&url, &["node", "add", "a", &third, "--dry-run"]).await;
    assert_eq!(known.code, Code::Refused, "{known:?}");
    assert!(known.err.contains("miroir_operation_refused"), "{known:?}");

    let added = ctl(&url, &[&add[..], &["--yes", "--wait"]].concat()).await;
    assert_eq!((added.code, added.err.as_str()), (Code::Done, ""), "{added:?}");
    assert!(added.out.ends_with("\ncommitted\n"), "{added:?}");
    let kept = ctl(&url, &["node", "remove", "c", "--yes"]).await;
    assert!(kept.err.contains("miroir_node_not_drained"), "{kept:?}");
    let drained = ctl(&url, &["node", "drain", "c", "--yes", "--wait"]).await;
    assert_eq!((drained.code, drained.err.as_str()), (Code::Done, ""), "{drained:?}");
    let topology = ctl(&url, &["topology"]).await.out;
    assert!(topology.contains("drained"), "{topology}");
    let check = ctl(&url, &["check"]).await.out;
    assert!(check.contains("ok    nodes: 3 nodes, all well"), "{check}");
    let removed = ctl(&url, &["node", "remove", "c", "--yes"]).await;
    assert_eq!((removed.code, removed.err.as_str()), (Code::Done, ""), "{removed:?}");

    let listed = ctl(&url, &["operation", "list"]).await.out;
    assert!(listed.contains("join") && listed.contains("drain"), "{listed}");
    let all: Value =
        serde_json::from_str(&ctl(&url, &["operation", "list", "--json"]).await.out).unwrap();
    let id = all["operations"][0]["id"].as_str().unwrap();
    let over = ctl(&url, &["operation", "rollback", id]).await;
    assert_eq!(over.code, Code::Refused, "{over:?}");
    assert!(over.err.contains("has ended"), "{over:?}");
}

async fn send(request: http::Request<Full<bytes::Bytes>>) -> Value {
    let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new());
    let answer = client.build_http().request(request).await.unwrap();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice(&body).unwrap_or_default()
}

async fn post(url: &str, path: &str, body: &Value) -> Value {
    let request = http::Request::post(format!("{url}{path}"))
        .header("authorization", format!("Bearer {MASTER}"))
        .header("content-type", "application/json");
    send(request.body(Full::from(body.to_string())).unwrap()).await
}

async fn get(url: &str, path: &str) -> Value {
    let request = http::Request::get(format!("{url}{path}"))
        .header("authorization", format!("Bearer {MASTER}"));
    send(request.body(Full::default()).unwrap()).await
}

#[tokio::test]
async fn a_certificate_is_shown_to_a_server_that_asks_for_one() {
    let (directory, authority) = (tempfile::tempdir().unwrap(), Authority::new("tests"));
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (own, client) = (authority.server(&["127.0.0.1"]), authority.client("operator"));
    let ca = write("ca.pem", &authority.pem());
    let tls = json!({
        "cert_file": write("tls.crt", &own.certificate),
        "key_file": write("tls.key", &own.key),
        "client_ca_file": ca,
    });
    let block = json!({ "port": 0, "metrics_port": 0, "bind": "127.0.0.1", "tls": tls });
    let url = server(&directory, json!({ "server": block })).await.replace("http:", "https:");

    let untrusted = ctl(&url, &["topology"]).await;
    assert_eq!(untrusted.code, Code::Connection, "{untrusted:?}");
    assert!(untrusted.err.contains("--ca-file"), "{untrusted:?}");
    let nobody = ctl(&url, &["topology", "--ca-file", &ca]).await;
    assert_eq!(nobody.code, Code::Connection, "{nobody:?}");
    assert!(nobody.err.contains("give one with --cert-file"), "{nobody:?}");
    let (certificate, key) =
        (write("client.crt", &client.certificate), write("client.key", &client.key));
    let shown = ["topology", "--ca-file", &ca, "--cert-file", &certificate, "--key-file", &key];
    let ran = ctl(&url, &shown).await;
    assert!(ran.err.is_empty() && ran.out.contains("shards"), "{ran:?}");
    let mut wrong = shown;
    wrong[6] = &ca;
    let refused = ctl(&url, &wrong).await;
    assert_eq!(refused.code, Code::Usage, "{refused:?}");
    assert!(refused.err.contains("ca.pem holds no key"), "{refused:?}");
}
