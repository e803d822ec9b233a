//! What every command asks and prints, against canned answers; and every failure with its remedy.

#[path = "commands/operations.rs"]
mod operations;
mod support;

use std::fmt::Write as _;

use clap::CommandFactory;
use insta::assert_snapshot;
use miroir_ctl::{Cli, Code};
use serde_json::Value;
use tokio::net::TcpListener;

use support::{Canned, KEY, MASTER, ctl, with};

const READY: (&str, u16, &str) = ("GET /_miroir/ready", 200, r#"{"status":"ready"}"#);
const TOPOLOGY: &str = r#"{"shards":64,"replication_factor":2,"nodes":[
    {"id":"a","status":"active","replica_group":0,"shard_count":43,"last_seen_ms":120},
    {"id":"node-b","status":"failed","replica_group":0,"shard_count":41,"last_seen_ms":65000,"error":"connect"},
    {"id":"c","status":"active","replica_group":1,"shard_count":64,"last_seen_ms":null}
    ],"degraded_node_count":1,"rebalance_in_progress":false,"fully_covered":true}"#;
const GOOD_TOPOLOGY: &str = r#"{"shards":64,"replication_factor":1,"nodes":[
    {"id":"a","status":"active","replica_group":0,"shard_count":64,"last_seen_ms":12}
    ],"degraded_node_count":0,"rebalance_in_progress":false,"fully_covered":true}"#;
const REPLICAS: &str = r#"{"total":2,"stale":[
    {"node":"node-b","index":"movies","shard":7,"kind":"shard"},
    {"node":"node-b","index":"shoes","shard":null,"kind":"index"}]}"#;
const PODS: &str = r#"{"me":"miroir-1","epoch":12,"pods":[
    {"pod":"miroir-0","name":"p0","address":"http://10.0.0.1:7700","epoch":12,"leads":true,"fence":3},
    {"pod":"miroir-1","name":"p1","address":"http://10.0.0.2:7700","epoch":9,"leads":false,"fence":null}]}"#;
const METRICS: &str = "miroir_build_info{version=\"0.1.0\"} 1\nmiroir_memory_pressure 0\n\
    miroir_task_processing_age_seconds 1200\nmiroir_breaker_state{node_id=\"node-b\"} 2\n";
const GOOD_METRICS: &str = "miroir_build_info{version=\"0.1.0\"} 1\nmiroir_memory_pressure 0\n";
const TASK: &str = r#"{"uid":7,"batchUid":2,"indexUid":"movies","status":"failed",
    "type":"documentAdditionOrUpdate","canceledBy":null,"details":{"receivedDocuments":2,
    "indexedDocuments":0,"nodes":[{"node":"a","taskUid":12,"status":"succeeded","dropped":false},
    {"node":"node-b","taskUid":4,"status":"failed","dropped":false}]},"error":{"message":"No id.",
    "code":"missing_document_id","type":"invalid_request","link":"https://x"},"duration":"PT0.03S",
    "enqueuedAt":"2026-01-02T03:04:05.678Z","startedAt":"2026-01-02T03:04:06Z",
    "finishedAt":"2026-01-02T03:04:07Z"}"#;
const TASKS: &str = r#"{"results":[{"uid":12,"batchUid":null,"indexUid":null,"status":"enqueued",
    "type":"dumpCreation","canceledBy":null,"error":null,"duration":null,
    "enqueuedAt":"2026-01-02T03:04:05.678Z","startedAt":null,"finishedAt":null},
    {"uid":7,"batchUid":2,"indexUid":"movies","status":"succeeded","type":"settingsUpdate",
    "canceledBy":null,"error":null,"duration":"PT1S","enqueuedAt":"2026-01-02T03:04:05.678Z",
    "startedAt":null,"finishedAt":null}],"total":9,"limit":2,"from":12,"next":6}"#;
const SHADOW: &str = r#"{"diffs":[{"id":41,"at":"2026-01-02T03:04:05.678Z","target":"staging",
    "operation":"search","index":"movies","request":{"method":"POST","path":"/indexes/movies/search",
    "body":"{\"q\":\"a\"}"},"kinds":["hits","ranking"],"hits":{"missing_count":1,"extra_count":12,
    "changed_count":0,"missing":["7"],"extra":["8","9"],"changed":[]},"kendall_tau":0.8,
    "primary":{"status":200,"took_ms":3.25},"shadow":{"status":200,"took_ms":12345.0}},
    {"id":42,"at":"2026-01-02T03:04:06Z","target":"staging","operation":"search",
    "request":{"method":"POST","path":"/multi-search","body":"{","truncated":true},"kinds":["error"],
    "primary":{"status":200,"took_ms":3.0},"shadow":{"error":"timeout","took_ms":5000.0}}],
    "next_since_id":42,"targets":[{"target":"staging","sampled":1000,"dropped":4,"in_flight":0,
    "compared":996,"different":2,"kinds":{"hits":1,"ranking":1,"latency":0,"error":1}}]}"#;
const EXPLAINED: &str = r#"{"resolved_uid":"products_v4","plan":{
    "alias_resolution":{"from":"products","to":"products_v4","version":7},"narrowed":true,
    "narrowing_reason":"pk filter: product_id IN [3 values]","target_shards":[12,47,48,53],
    "chosen_group":{"id":0,"reason":"lowest EWMA score (38 ms vs. group 1 at 52 ms)"},
    "target_nodes":{"12":"meili-1","47":"meili-1","48":"meili-1","53":"meili-2"},"hedging_armed":true,
    "hedge_trigger_ms":22,"coalescing_eligible":true,"cache_candidate":false,
    "tenant_affinity_pinned":null,"estimated_p95_ms":18,"settings_version":42},
    "warnings":["filter references `category`, which is not filterable"]}"#;
const ALIASES: &str = r#"[{"name":"products","kind":"single","current_uid":"products_v4","version":7},
    {"name":"logs","kind":"multi","target_uids":["logs_1","logs_2"],"version":3}]"#;
const ALIAS: &str = r#"{"name":"products","kind":"single","current_uid":"products_v4","target_uids":null,
    "version":7,"created_at":"2026-01-02T03:04:05Z","history":[
    {"uid":"products_v3","flipped_at":"2026-01-01T00:00:00Z"}]}"#;
const TENANTS: &str = r#"[{"api_key_hash":"ba78","tenant":"acme","group":1},
    {"api_key_hash":"01ff","tenant":"globex","group":null}]"#;
const ENTROPY: &str = r#"{"enabled":true,"auto_repair":true,
    "last":{"began_at":"2026-01-02T03:04:05Z","ended_at":"2026-01-02T03:09:05Z","shards":1,"skipped":2,"documents":4000},
    "mended":3,"reported":0,"ambiguous":1,"differences":[
    {"at":"2026-01-02T03:05:00Z","index":"movies","shard":7,"id":"42\u001b[2J","right":["a","b"],"wrong":["c"],"became":"mended"},
    {"at":"2026-01-02T03:04:30Z","index":"shoes","shard":1,"id":"9","right":[],"wrong":["a","b"],"became":"ambiguous"}]}"#;
const KEPT: &str = r#"{"kept":[{"at":"2026-01-02T03:05:00Z","index":"movies","node":"c","document":{"id":42,"title":"old"}}]}"#;
const ENQUEUED: &str = r#"{"taskUid":19,"indexUid":null,"status":"enqueued","type":"taskCancelation",
    "enqueuedAt":"2026-01-02T03:04:05Z"}"#;

async fn canned() -> Canned {
    Canned::start(&[
        READY,
        ("GET /_miroir/topology", 200, TOPOLOGY),
        ("GET /_miroir/replicas", 200, REPLICAS),
        ("GET /_miroir/anti-entropy", 200, ENTROPY),
        ("POST /_miroir/anti-entropy/run", 202, ""),
        ("GET /_miroir/anti-entropy/kept", 200, KEPT),
        ("GET /_miroir/pods", 200, PODS),
        ("GET /_miroir/metrics", 200, METRICS),
        ("GET /_miroir/stack", 200, r#"{"stages":[{"stage":"edge","layers":["observe"]},{"stage":"index","layers":[]}]}"#),
        ("GET /version", 200, r#"{"pkgVersion":"1.49.0","commitSha":"x","commitDate":"y"}"#),
        ("GET /keys", 200, r#"{"results":[{"name":"old","uid":"u","expiresAt":"2020-01-01T00:00:00Z"},{"name":"b","uid":"v","expiresAt":null}]}"#),
        ("GET /_miroir/tasks/7", 200, TASK),
        ("GET /tasks", 200, TASKS),
        ("POST /tasks/cancel", 200, ENQUEUED),
        ("GET /_miroir/shadow/diff", 200, SHADOW),
        ("POST /indexes/products/explain", 200, EXPLAINED),
        ("GET /_miroir/aliases", 200, ALIASES),
        ("GET /_miroir/aliases/products", 200, ALIAS),
        ("POST /_miroir/aliases", 201, "{}"),
        ("PUT /_miroir/aliases/products", 200, "{}"),
        ("DELETE /_miroir/aliases/products", 204, ""),
        ("GET /_miroir/tenants", 200, TENANTS),
        ("POST /_miroir/tenants", 201, "{}"),
        ("DELETE /_miroir/tenants/ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", 204, ""),
    ])
    .await
}

/// Prints of a command that succeeds, with the server's address taken out.
async fn printed(server: &Canned, arguments: &[&str]) -> String {
    let ran = ctl(&server.url, arguments).await;
    assert_eq!((ran.code, ran.err.as_str()), (Code::Done, ""), "{arguments:?}");
    ran.out.replace(&server.url, "http://server")
}

#[tokio::test]
async fn tables() {
    let server = canned().await;
    for (name, arguments) in [
        ("status", &["status"][..]),
        ("topology", &["topology"]),
        ("replicas", &["replicas"]),
        ("entropy_status", &["entropy", "status"]),
        ("entropy_run", &["entropy", "run"]),
        ("entropy_kept", &["entropy", "kept"]),
        ("pods", &["pods"]),
        ("stack", &["stack"]),
        ("task_get", &["task", "get", "mtask-7"]),
        ("task_list", &["task", "list", "--limit", "2"]),
        ("task_cancel", &["task", "cancel", "7", "8"]),
        ("shadow_diff", &["shadow", "diff"]),
        ("explain", &["explain", "products", "-q", "shoe"]),
        ("alias_list", &["alias", "list"]),
        ("alias_get", &["alias", "get", "products"]),
        ("tenant_list", &["tenant", "list"]),
    ] {
        assert_snapshot!(name, printed(&server, arguments).await);
    }
}

#[tokio::test]
async fn check_finds_and_says_what_to_do() {
    let server = canned().await;
    let ran = ctl(&server.url, &["check"]).await;
    assert_eq!((ran.code, ran.err.as_str()), (Code::Findings, ""));
    assert_snapshot!("check", ran.out);
    let ran = ctl(&server.url, &["check", "--json"]).await;
    let json: Value = serde_json::from_str(&ran.out).unwrap();
    let found = json["findings"].as_array().unwrap();
    assert!(found.iter().all(|one| one["remedy"].as_str().is_some_and(|text| !text.is_empty())));
    assert_eq!((ran.code, found.len()), (Code::Findings, 8));
}

#[tokio::test]
async fn check_is_content_where_all_is_well() {
    let server = Canned::start(&[
        READY,
        ("GET /_miroir/topology", 200, GOOD_TOPOLOGY),
        ("GET /_miroir/replicas", 200, r#"{"total":0,"stale":[]}"#),
        ("GET /_miroir/pods", 200, r#"{"me":"","epoch":0,"pods":[]}"#),
        ("GET /_miroir/metrics", 200, GOOD_METRICS),
        ("GET /version", 200, r#"{"pkgVersion":"1.50.0"}"#),
        ("GET /keys", 200, r#"{"results":[]}"#),
    ])
    .await;
    assert_snapshot!("check_well", printed(&server, &["check"]).await);
}

#[tokio::test]
async fn json_is_what_the_server_said() {
    let server = canned().await;
    for (arguments, said) in [
        (&["topology", "--json"][..], TOPOLOGY),
        (&["--json", "replicas"], REPLICAS),
        (&["task", "get", "7", "--json"], TASK),
        (&["shadow", "diff", "--json"], SHADOW),
        (&["alias", "list", "--json"], ALIASES),
        (&["explain", "products", "--json"], EXPLAINED),
    ] {
        assert_eq!(ctl(&server.url, arguments).await.out, format!("{said}\n"), "{arguments:?}");
    }
    let all: Value =
        serde_json::from_str(&ctl(&server.url, &["status", "--json"]).await.out).unwrap();
    assert_eq!((&all["ready"], &all["topology"]["shards"]), (&true.into(), &64.into()));
}

#[tokio::test]
async fn what_is_asked_is_what_was_meant() {
    let server = canned().await;
    for (arguments, line, body) in [
        (
            &["task", "list", "--status", "failed,canceled", "--index", "a,b", "--from", "9"][..],
            "GET /tasks?statuses=failed%2Ccanceled&indexUids=a%2Cb&limit=20&from=9",
            "",
        ),
        (&["task", "cancel", "7", "mtask-8"], "POST /tasks/cancel?uids=7%2C8", "{}"),
        (
            &[
                "shadow", "diff", "--kind", "hits", "--target", "a b", "--since", "4", "--limit",
                "5",
            ],
            "GET /_miroir/shadow/diff?target=a%20b&kind=hits&limit=5&since_id=4",
            "",
        ),
        (
            &["explain", "products", "-q", "shoe", "--filter", "a = 1", "--execute"],
            "POST /indexes/products/explain?execute=true",
            r#"{"q":"shoe","filter":"a = 1"}"#,
        ),
        (
            &["alias", "create", "p", "p_1"],
            "POST /_miroir/aliases",
            r#"{"target":"p_1","name":"p"}"#,
        ),
        (
            &["alias", "create", "p", "p_1", "p_2"],
            "POST /_miroir/aliases",
            r#"{"targets":["p_1","p_2"],"name":"p"}"#,
        ),
        (
            &["alias", "flip", "products", "p_2"],
            "PUT /_miroir/aliases/products",
            r#"{"target":"p_2"}"#,
        ),
        (&["alias", "delete", "products"], "DELETE /_miroir/aliases/products", ""),
        (
            &["tenant", "add", "--api-key", "abc", "--tenant", "acme", "--group", "1"],
            "POST /_miroir/tenants",
            r#"{"api_key":"abc","tenant":"acme","group":1}"#,
        ),
        (
            &["tenant", "remove", "--api-key", "abc"],
            "DELETE /_miroir/tenants/ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            "",
        ),
    ] {
        printed(&server, arguments).await;
        let got = server.got().pop().unwrap();
        assert_eq!((got.line.as_str(), got.body.as_str()), (line, body), "{arguments:?}");
        let admin = got.line.contains(" /_miroir/");
        assert_eq!(got.key, format!("Bearer {}", if admin { KEY } else { MASTER }));
    }
}

#[tokio::test]
async fn waiting_ends_with_the_task_or_says_that_it_did_not() {
    let ended = |status: &str| TASK.replace("\"failed\"", &format!("\"{status}\""));
    let (good, busy) = (ended("succeeded"), ended("processing"));
    let server = Canned::start(&[
        ("GET /_miroir/tasks/1", 200, good.as_str()),
        ("GET /_miroir/tasks/2", 200, TASK),
        ("GET /_miroir/tasks/3", 200, busy.as_str()),
    ])
    .await;
    let ran = ctl(&server.url, &["task", "wait", "1"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (Code::Done, "1 succeeded: No id.\n"));
    let ran = ctl(&server.url, &["task", "wait", "1", "2"]).await;
    assert_eq!(ran.code, Code::Findings);
    let ran = ctl(&server.url, &["task", "wait", "3", "--for", "0.05"]).await;
    assert_eq!(ran.code, Code::Unfinished);
    assert!(
        ran.err.contains("task 3 is still processing") && ran.err.contains("--for"),
        "{}",
        ran.err
    );
}

/// Every failure: its exit code, what is wrong and what to do.
#[tokio::test]
async fn failures_have_a_remedy() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let closed = format!("http://{closed}");
    let hung = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = format!("http://{}", hung.local_addr().unwrap());
    let other = Canned::start(&[("GET /_miroir/ready", 200, "<html>")]).await;
    let off = Canned::start(&[READY]).await;
    let refusal = r#"{"message":"The admin key is missing or wrong.","code":"miroir_invalid_auth","type":"auth","link":""}"#;
    let guarded = Canned::start(&[READY, ("GET /_miroir/topology", 401, refusal)]).await;
    let failing = Canned::start(&[
        ("GET /_miroir/topology", 503, r#"{"message":"No store.","code":"miroir_store_failed","type":"internal","link":"/_miroir/errors#miroir_store_failed"}"#),
        ("GET /_miroir/pods", 502, "<html>bad gateway"),
        ("GET /_miroir/replicas", 200, "[]"),
    ])
    .await;
    let page = format!("see {}/_miroir/errors#miroir_store_failed", failing.url);
    let tls = other.url.replace("http:", "https:");
    let key = &[("MIROIR_ADMIN_API_KEY", KEY)][..];
    for (url, command, variables, code, problem, remedy) in [
        (&closed, "topology", key, Code::Connection, "refuses connections", "start miroir-server"),
        (&silent, "topology", key, Code::Connection, "did not answer within", "--timeout"),
        (&tls, "topology", key, Code::Connection, "no TLS", "http://"),
        (
            &"http://no-such-host.invalid".to_owned(),
            "topology",
            key,
            Code::Connection,
            "is not known",
            "name server",
        ),
        (&other.url, "topology", key, Code::Connection, "is not a Miroir", "7700"),
        (&other.url, "status", key, Code::Connection, "is not a Miroir", "7700"),
        (&off.url, "topology", key, Code::Refused, "has no /_miroir/topology", "admin.enabled"),
        (
            &guarded.url,
            "topology",
            key,
            Code::Key,
            "MIROIR_ADMIN_API_KEY is not accepted",
            "admin.api_key",
        ),
        (&guarded.url, "topology", &[], Code::Key, "none was given", "MIROIR_ADMIN_API_KEY"),
        (
            &failing.url,
            "topology",
            key,
            Code::Refused,
            "No store (miroir_store_failed, 503)",
            page.as_str(),
        ),
        (&failing.url, "pods", key, Code::Refused, "answered 502", "log"),
        (&failing.url, "replicas", key, Code::Refused, "not understood", "--json"),
        (&"localhost".to_owned(), "topology", key, Code::Usage, "has neither", "http://host:7700"),
    ] {
        let ran = with(url, &[command, "--timeout", "2"], variables).await;
        let context = format!("{url} {command}: {ran:?}");
        assert_eq!(ran.code, code, "{context}");
        assert_eq!(ran.out, "", "{context}");
        let (first, second) = ran.err.split_once("\n  remedy: ").expect(&context);
        assert!(first.contains(problem) && second.contains(remedy), "{context}");
        assert!(!ran.err.contains(KEY), "{context}");
    }
    let closed_tls = with(&closed.replace("http:", "https:"), &["topology"], key).await;
    assert!(closed_tls.err.contains("refuses connections"), "{closed_tls:?}");
    drop(hung);
}

#[tokio::test]
async fn a_configuration_is_judged_by_the_server() {
    let missing =
        ctl("http://x", &["config", "check", "x.yaml", "--server", "/nowhere/server"]).await;
    assert_eq!(missing.code, Code::Usage);
    assert!(missing.err.contains("--server"), "{missing:?}");
}

#[cfg(unix)]
#[tokio::test]
async fn what_the_server_says_of_a_configuration_is_passed_on() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let server = directory.path().join("server");
    let script = "#!/bin/sh\n[ \"$1 $3\" = \"--config --check-config\" ] || exit 9\n\
        if [ \"$2\" = good.yaml ]; then echo 'miroir: {}'; echo 'warning: shards' >&2; exit 0; fi\n\
        echo 'the configuration cannot be used:' >&2; echo '  - `nodes`: there are none' >&2; exit 2\n";
    std::fs::write(&server, script).unwrap();
    std::fs::set_permissions(&server, std::fs::Permissions::from_mode(0o755)).unwrap();
    let server = server.to_str().unwrap();
    let ran = async |arguments: &[&str]| {
        let all = [&["config"], arguments, &["--server", server]].concat();
        ctl("http://x", &all).await
    };
    let good = ran(&["check", "good.yaml"]).await;
    assert_eq!((good.code, good.out.as_str()), (Code::Done, "valid: good.yaml\n"));
    assert_eq!(good.err, "note: warning: shards\n");
    assert_eq!(ran(&["show", "good.yaml"]).await.out, "miroir: {}\n");
    let bad = ran(&["check", "bad.yaml"]).await;
    assert_eq!((bad.code, bad.out.as_str()), (Code::Findings, ""));
    assert!(bad.err.contains("`nodes`: there are none"), "{bad:?}");
    let json = ran(&["check", "bad.yaml", "--json"]).await;
    let said: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!((json.code, &said["valid"]), (Code::Findings, &false.into()));
}

#[tokio::test]
async fn completions_and_manual_are_printed() {
    for shell in ["bash", "zsh", "fish"] {
        let ran = ctl("http://x", &["completions", shell]).await;
        assert!(ran.out.contains("shadow") && ran.out.contains("miroir-ctl"), "{shell}");
    }
    assert!(ctl("http://x", &["man"]).await.out.contains(".TH"));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    assert_eq!(ctl("http://x", &["man", "--directory", path]).await.code, Code::Done);
    assert!(directory.path().join("miroir-ctl-task-wait.1").is_file());
}

/// `--help` of the program and of every command.
#[test]
fn help() {
    fn visit(command: &mut clap::Command, path: &str, out: &mut String) {
        let _ = writeln!(out, "===== {path}\n{}", command.render_long_help());
        for inner in command.get_subcommands_mut().filter(|inner| inner.get_name() != "help") {
            let path = format!("{path} {}", inner.get_name());
            visit(inner, &path, out);
        }
    }
    let mut command = Cli::command().term_width(100);
    command.build();
    let mut out = String::new();
    visit(&mut command, "miroir-ctl", &mut out);
    let out: Vec<&str> = out.lines().map(str::trim_end).collect();
    assert_snapshot!("help", out.join("\n"));
}
