//! The edge over real sockets: headers, refusals, probes, limits, the end.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use http::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{ADMIN, Answer, FakeNode, MASTER, Running, eventually};

const VARY: &str = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers";

fn bearer(key: &str) -> String {
    format!("Bearer {key}")
}

#[tokio::test]
async fn health_needs_no_key_and_no_node() {
    let node = FakeNode::start().await;
    node.well.store(false, Ordering::SeqCst);
    let started = Instant::now();
    let server = Running::over(vec![node], |_| {}).await;
    let answer = server.get("/health", &[]).await;
    assert_eq!((answer.status, answer.body.as_ref()), (200, &br#"{"status":"available"}"#[..]));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    // The target is 100 ms from the start of the process; test machines are shared.
    assert!(started.elapsed().as_millis() < 1_000, "{:?}", started.elapsed());
}

#[tokio::test]
async fn every_answer_has_a_request_id() {
    let server = Running::start(1, |_| {}).await;
    let mut seen = std::collections::BTreeSet::new();
    for path in ["/health", "/nowhere", "/indexes", "/_miroir/ready", "/_miroir/topology"] {
        let answer = server.get(path, &[]).await;
        let id = answer.header("x-miroir-request-id").unwrap().to_owned();
        assert_eq!(id.len(), 16, "{path}: {id}");
        assert!(seen.insert(id), "{path}");
        // One Meilisearch does not send this one.
        assert_eq!(answer.header("x-request-id"), None, "{path}");
    }
    let both = |answer: &Answer| {
        let [own, echo] = ["x-miroir-request-id", "x-request-id"].map(|name| answer.header(name));
        assert_eq!(own, echo);
        own.unwrap().to_owned()
    };
    let answer = server.get("/nowhere", &[("x-request-id", "abc-123")]).await;
    assert_eq!(both(&answer), "abc-123");
    let answer = server.get("/health", &[("x-request-id", "not a sane one")]).await;
    assert_eq!(both(&answer).len(), 16);
}

#[tokio::test]
async fn unknown_paths_and_methods_are_empty() {
    let server = Running::start(1, |_| {}).await;
    for path in ["/nowhere", "/indexes/a/b/c/d", "/_miroir/nowhere", "/_miroirs"] {
        let answer = server.get(path, &[]).await;
        assert_eq!((answer.status, answer.body.len()), (404, 0), "{path}");
        assert_eq!(answer.header("content-type"), None, "{path}");
        assert_eq!(answer.header("vary"), Some(VARY), "{path}");
    }
    let answer = server.send(Method::POST, "/health", &[], "").await;
    assert_eq!((answer.status, answer.body.len()), (405, 0));
    assert_eq!(answer.header("allow"), Some("GET"));
    let answer = server.send(Method::OPTIONS, "/health", &[], "").await;
    assert_eq!(answer.status, 405);
}

#[tokio::test]
async fn slashes_at_the_end_mean_nothing() {
    let server = Running::start(1, |_| {}).await;
    for path in ["/health/", "//health", "/health//?a=b"] {
        assert_eq!(server.get(path, &[]).await.status, 200, "{path}");
    }
    // Neither spelling leads around the key.
    for path in ["/_miroir/topology/", "//_miroir/topology", "/_miroir//topology"] {
        let answer = server.get(path, &[("authorization", &bearer(MASTER))]).await;
        assert_eq!(answer.status, 401, "{path}");
        assert_eq!(server.admin(path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn clients_are_refused_as_meilisearch_refuses_them() {
    let server = Running::start(1, |_| {}).await;
    let missing = server.get("/indexes", &[]).await;
    assert_eq!(
        (missing.status, &missing.json()["code"]),
        (401, &"missing_authorization_header".into())
    );
    for key in ["nonsense", ADMIN] {
        let invalid = server.get("/indexes", &[("authorization", &bearer(key))]).await;
        assert_eq!((invalid.status, &invalid.json()["code"]), (403, &"invalid_api_key".into()));
    }
    let open = server.master("/indexes").await;
    assert_eq!((open.status, &open.json()["total"]), (200, &0.into()));
}

#[tokio::test]
async fn operators_need_the_admin_key() {
    let server = Running::start(2, |_| {}).await;
    for path in [
        "/_miroir/topology",
        "/_miroir/shards",
        "/_miroir/replicas",
        "/_miroir/pods",
        "/_miroir/metrics",
    ] {
        for headers in [&[][..], &[("authorization", bearer(MASTER).as_str())]] {
            let answer = server.get(path, headers).await;
            assert_eq!(answer.status, 401, "{path}");
            let error = answer.json();
            assert_eq!(
                (&error["code"], &error["type"]),
                (&"miroir_invalid_auth".into(), &"auth".into())
            );
            // The link leads to a page of this very server that anybody may read.
            let link = error["link"].as_str().unwrap();
            let (page, anchor) = link.split_once('#').unwrap();
            let page = server.get(page, &[]).await;
            assert_eq!((page.status, anchor), (200, "miroir_invalid_auth"));
            let text = String::from_utf8_lossy(&page.body).into_owned();
            assert!(text.contains("<h2 id=\"miroir_invalid_auth\">"), "{text}");
        }
        assert_eq!(server.admin(path).await.status, 200, "{path}");
        assert_eq!(server.get(path, &[("x-admin-key", ADMIN)]).await.status, 200, "{path}");
    }
    assert_eq!(server.send(Method::POST, "/_miroir/ready", &[], "").await.status, 405);
}

/// How often something was refused for a reason, as the metrics say.
async fn refused(server: &Running, reason: &str) -> u64 {
    let text = server.admin("/_miroir/metrics").await;
    let text = String::from_utf8_lossy(&text.body).into_owned();
    let name = format!("miroir_requests_refused_total{{reason=\"{reason}\"}} ");
    let value = text.lines().find_map(|line| line.strip_prefix(&name));
    value.unwrap_or_else(|| panic!("{name} in {text}")).parse().unwrap()
}

#[tokio::test]
async fn what_is_refused_is_counted_by_its_reason() {
    let server = Running::start(1, |config| {
        config.server.max_body_bytes = 2_000;
        config.multi_search.max_queries_per_batch = 100;
    })
    .await;
    let master = bearer(MASTER);
    let open = [("authorization", master.as_str()), ("content-type", "application/json")];
    let made = json!({"actions": ["search"], "indexes": ["a"], "expiresAt": null}).to_string();
    let made = server.send(Method::POST, "/keys", &open, made).await.json();
    let key = bearer(made["key"].as_str().unwrap());
    let limited = [("authorization", key.as_str()), ("content-type", "application/json")];
    let conditions: Vec<String> = (0..281).map(|n| format!("a{n}=1")).collect();
    let filter = json!({"filter": conditions.join(" OR ")}).to_string();
    let queries = json!({"queries": vec![json!({"indexUid": "a"}); 101]}).to_string();
    let large = "x".repeat(2_001);
    let search = "/indexes/a/search";
    for (reason, method, path, headers, body, status) in [
        ("authentication", Method::GET, "/indexes", &[][..], String::new(), 401),
        ("authentication", Method::GET, "/_miroir/topology", &open, String::new(), 401),
        ("unread", Method::POST, search, &[], "{}".to_owned(), 401),
        ("authorization", Method::GET, "/indexes", &limited, String::new(), 403),
        ("authorization", Method::POST, "/indexes/b/search", &limited, "{}".to_owned(), 403),
        ("limit", Method::POST, search, &open, large, 413),
        ("limit", Method::POST, "/multi-search", &open, queries, 400),
    ] {
        let before = refused(&server, reason).await;
        let answer = server.send(method, path, headers, body).await;
        assert_eq!(answer.status, status, "{path}: {:?}", answer.body);
        // Other tests of this process are refused as well.
        assert!(refused(&server, reason).await > before, "{reason} of {path}");
    }
    let server = Running::start(1, |config| config.server.max_filter_conditions = 100).await;
    let before = refused(&server, "limit").await;
    assert_eq!(server.send(Method::POST, search, &open, filter).await.status, 400);
    assert!(refused(&server, "limit").await > before);
}

#[tokio::test]
async fn the_topology_shows_what_the_checks_saw() {
    let server = Running::start(3, |config| config.replication_factor = 2).await;
    eventually(async || server.get("/_miroir/ready", &[]).await.status == 200).await;
    let view = server.admin("/_miroir/topology").await.json();
    assert_eq!(view["shards"], 4);
    assert_eq!(view["replication_factor"], 2);
    assert_eq!(view["fully_covered"], true);
    assert_eq!(view["degraded_node_count"], 0);
    let nodes = view["nodes"].as_array().unwrap();
    let copies: u64 = nodes.iter().map(|node| node["shard_count"].as_u64().unwrap()).sum();
    assert_eq!((nodes.len(), copies), (3, 8));
    assert!(nodes.iter().all(|node| node["last_seen_ms"].is_u64() && node["status"] == "active"));

    let view = server.admin("/_miroir/shards").await.json();
    assert_eq!(view["placement"].as_array().unwrap().len(), 4);
    let view = server.admin("/_miroir/shards?shards=32").await.json();
    let placement = view["placement"].as_array().unwrap();
    assert_eq!(placement.len(), 32);
    assert!(placement.iter().all(|shard| shard["groups"][0].as_array().unwrap().len() == 2));
    for bad in ["shards=0", "shards=16385", "shards=x", "shard=4", "shards=4&index=a"] {
        let answer = server.admin(&format!("/_miroir/shards?{bad}")).await;
        assert_eq!((answer.status, &answer.json()["code"]), (400, &"bad_request".into()), "{bad}");
    }
    let answer = server.admin("/_miroir/shards?index=nope").await;
    assert_eq!((answer.status, &answer.json()["code"]), (404, &"index_not_found".into()));
    let answer = server.admin("/_miroir/replicas").await;
    assert_eq!(answer.json(), serde_json::json!({"total": 0, "stale": []}));
    assert!(server.nodes.iter().all(|node| node.keys.load(Ordering::SeqCst)));
}

#[tokio::test]
async fn ready_waits_for_the_nodes_and_stays() {
    let node = FakeNode::start().await;
    node.well.store(false, Ordering::SeqCst);
    let server = Running::over(vec![node], |_| {}).await;
    assert_eq!(server.get("/_miroir/ready", &[]).await.status, 503);
    server.nodes[0].well.store(true, Ordering::SeqCst);
    eventually(async || server.get("/_miroir/ready", &[]).await.status == 200).await;
    server.nodes[0].well.store(false, Ordering::SeqCst);
    eventually(async || server.admin("/_miroir/topology").await.json()["fully_covered"] == false)
        .await;
    assert_eq!(server.get("/_miroir/ready", &[]).await.status, 200);
}

#[tokio::test]
async fn without_an_admin_api_there_is_still_a_probe() {
    let server = Running::start(1, |config| config.admin.enabled = false).await;
    eventually(async || server.get("/_miroir/ready", &[]).await.status == 200).await;
    assert_eq!(server.admin("/_miroir/topology").await.status, 404);
    assert_eq!(server.get("/_miroir/errors", &[]).await.status, 200);
}

#[tokio::test]
async fn cross_origin_requests_are_answered_as_by_meilisearch() {
    let server = Running::start(1, |_| {}).await;
    let answer = server.get("/health", &[("origin", "http://a.b")]).await;
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    assert_eq!(answer.header("vary"), Some(VARY));
    let answer = server.get("/indexes", &[("origin", "http://a.b")]).await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (401, Some("*")));
    let answer = server.get("/health", &[]).await;
    assert_eq!(answer.header("access-control-allow-origin"), None);
    assert_eq!(answer.header("vary"), Some(VARY));

    let wish = [
        ("origin", "http://a.b"),
        ("access-control-request-method", "PATCH"),
        ("access-control-request-headers", "x-foo, authorization"),
    ];
    // A preflight needs no key and no route.
    for path in ["/indexes/a/settings", "/nowhere"] {
        let answer = server.send(Method::OPTIONS, path, &wish, "").await;
        assert_eq!((answer.status, answer.body.len()), (200, 0));
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
        assert_eq!(answer.header("access-control-allow-headers"), Some("x-foo, authorization"));
        assert_eq!(answer.header("access-control-max-age"), Some("86400"));
        assert_eq!(answer.header("vary"), Some(VARY));
        let mut methods: Vec<_> =
            answer.header("access-control-allow-methods").unwrap().split(", ").collect();
        methods.sort_unstable();
        let all = ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"];
        assert_eq!(methods, all);
    }
    let wish = [("origin", "http://a.b"), ("access-control-request-method", "BOGUS")];
    let answer = server.send(Method::OPTIONS, "/health", &wish, "").await;
    assert_eq!(
        (answer.status, answer.body.as_ref()),
        (400, &b"Requested method is not allowed"[..])
    );
    assert_eq!(answer.header("vary"), None);
}

#[tokio::test]
async fn answers_are_compressed_on_demand() {
    let server = Running::start(1, |_| {}).await;
    for (accept, encoding) in [
        ("gzip", Some("gzip")),
        ("deflate", Some("deflate")),
        ("gzip, br, deflate", Some("br")),
        ("br;q=0.1, deflate;q=0.5, gzip;q=0.2", Some("deflate")),
        ("zstd", None),
        ("*", None),
        ("gzip;q=0", None),
        ("", None),
    ] {
        let answer = server.get("/health", &[("accept-encoding", accept)]).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-encoding"), encoding, "{accept}");
        let vary: Vec<_> = answer.headers.get_all("vary").iter().collect();
        assert_eq!(
            vary.contains(&&http::HeaderValue::from_static("accept-encoding")),
            encoding.is_some()
        );
        assert!(vary.contains(&&http::HeaderValue::from_static(VARY)));
        if encoding == Some("gzip") {
            assert!(answer.body.starts_with(&[0x1f, 0x8b]));
        }
    }
    let answer = server.get("/nowhere", &[("accept-encoding", "gzip")]).await;
    assert_eq!(
        (answer.header("content-encoding"), answer.header("content-length")),
        (None, Some("0"))
    );
    let answer = server.get("/health", &[("accept-encoding", "identity;q=0")]).await;
    assert_eq!((answer.status, answer.body.as_ref()), (406, &b"br, gzip, deflate"[..]));
}

/// A gzip stream of stored blocks: no compressor needed to make one.
fn gzip(text: &[u8]) -> Vec<u8> {
    let mut crc = !0_u32;
    for byte in text {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (!(crc & 1)).wrapping_add(1));
        }
    }
    let length = u16::try_from(text.len()).unwrap();
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255, 1];
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&(!length).to_le_bytes());
    out.extend_from_slice(text);
    out.extend_from_slice(&(!crc).to_le_bytes());
    out.extend_from_slice(&u32::from(length).to_le_bytes());
    out
}

#[tokio::test]
async fn bodies_may_be_compressed() {
    let server = Running::start(1, |config| config.server.max_body_bytes = 64).await;
    let key = bearer(MASTER);
    let send = async |encoding: &str, body: Vec<u8>| {
        let headers = [
            ("authorization", key.as_str()),
            ("content-type", "application/json"),
            ("content-encoding", encoding),
        ];
        server.send(Method::POST, "/multi-search", &headers, body).await
    };
    let nothing = serde_json::json!({"results": []});
    assert_eq!(send("gzip", gzip(b"{\"queries\":[]}")).await.json(), nothing);
    // Meilisearch takes encodings that it does not know for none.
    assert_eq!(send("bogus", b"{\"queries\":[]}".to_vec()).await.json(), nothing);
    for encoding in ["gzip", "deflate", "br"] {
        let answer = send(encoding, b"{\"queries\":[]}".to_vec()).await;
        assert_eq!(
            (answer.status, &answer.json()["code"]),
            (400, &"bad_request".into()),
            "{encoding}"
        );
    }
    // The limit is on what comes out.
    let answer = send("gzip", gzip(&[b' '; 65])).await;
    assert_eq!((answer.status, &answer.json()["code"]), (413, &"payload_too_large".into()));
}

/// A body that never ends holds nothing, as long as nobody known sends it.
#[tokio::test]
async fn who_has_no_key_is_refused_before_his_body_is_read() {
    let server = Running::start(1, |_| {}).await;
    let address = server.base.trim_start_matches("http://");
    for (key, status) in [("", 401), ("Authorization: Bearer wrong\r\n", 403)] {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let head = format!(
            "POST /indexes/a/search HTTP/1.1\r\nHost: x\r\n{key}Content-Type: application/json\r\n\
             Content-Length: 100000\r\n\r\n{{"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&answer), format!("HTTP/1.1 {status}"));
    }
}

#[tokio::test]
async fn pages_of_other_origins_are_answered_by_the_client_api_alone() {
    let server = Running::start(1, |_| {}).await;
    for (path, shown) in [("/version", true), ("/_miroir/ready", false), ("//_miroir/ready", false)]
    {
        let answer =
            server.send(Method::GET, path, &[("origin", "https://shop.example")], "").await;
        assert_eq!(answer.headers.contains_key("access-control-allow-origin"), shown, "{path}");
        assert_eq!(answer.headers.contains_key("x-content-type-options"), !shown, "{path}");
    }
}

#[tokio::test]
async fn answers_to_clients_have_the_headers_of_a_node_and_no_others() {
    let server = Running::start(1, |_| {}).await;
    let nodes = ["content-type", "content-length", "date", "vary"];
    for (method, path, body) in [
        (Method::GET, "/health", ""),
        (Method::GET, "/indexes", ""),
        (Method::GET, "/indexes/none", ""),
        (Method::POST, "/indexes/none/search", "{}"),
        (Method::POST, "/indexes", "["),
        (Method::GET, "/none", ""),
        (Method::GET, "/_miroir", ""),
    ] {
        let answer = server.send(method, path, &[("content-type", "application/json")], body).await;
        for name in answer.headers.keys() {
            let own = name.as_str().starts_with("x-miroir-");
            assert!(own || nodes.contains(&name.as_str()), "{path}: {name}");
        }
    }
}

#[tokio::test]
async fn above_the_limit_requests_are_shed_and_probes_are_not() {
    let mut server = Running::start(1, |config| config.server.max_concurrent_requests = 1).await;
    // Its node has passed a check: that is not what the probe is asked for here.
    eventually(async || server.get("/_miroir/ready", &[]).await.status == 200).await;
    let node = server.nodes[0].clone();
    node.versions.forget_permits(usize::MAX);
    {
        let held = server.master("/version");
        tokio::pin!(held);
        tokio::select! {
            answer = &mut held => panic!("{answer:?}"),
            () = eventually(async || node.asked.load(Ordering::SeqCst) == 1) => {}
        }
        let shed = server.master("/indexes").await;
        assert_eq!((shed.status, &shed.json()["code"]), (503, &"miroir_overloaded".into()));
        assert!(
            shed.header("retry-after").is_some() && shed.header("x-miroir-request-id").is_some()
        );
        for probe in ["/health", "/_miroir/ready"] {
            assert_eq!(server.get(probe, &[]).await.status, 200, "{probe}");
        }
        node.versions.add_permits(1);
        assert_eq!(held.await.status, 200);
    }
    assert_eq!(server.master("/indexes").await.status, 200);
    server.stop();
    server.ended().await;
}

#[tokio::test]
async fn the_end_waits_for_requests_under_way() {
    let mut server = Running::start(1, |_| {}).await;
    let node = server.nodes[0].clone();
    node.versions.forget_permits(usize::MAX);
    let key = bearer(MASTER);
    let url = format!("{}/version", server.base);
    let other = Running::start(1, |_| {}).await;
    // Any client will do; this one outlives the server.
    let held = tokio::spawn(async move { other.get(&url, &[("authorization", &key)]).await });
    eventually(async || node.asked.load(Ordering::SeqCst) == 1).await;
    server.stop();
    let address = server.base.strip_prefix("http://").unwrap().to_owned();
    eventually(async || tokio::net::TcpStream::connect(&address).await.is_err()).await;
    assert!(!held.is_finished());
    node.versions.add_permits(1);
    server.ended().await;
    assert_eq!(held.await.unwrap().status, 200);
}

#[tokio::test]
async fn a_client_that_hangs_does_not_hold_the_end() {
    let mut server = Running::start(1, |config| {
        config.scatter.node_timeout = Some(Duration::from_millis(150));
        config.server.request_timeout = Duration::from_millis(200);
    })
    .await;
    let address = server.base.strip_prefix("http://").unwrap();
    let mut hanging = Vec::new();
    for head in
        ["GET /health HT", "POST /indexes HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{"]
    {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        hanging.push(stream);
    }
    // Both were accepted before this one.
    assert_eq!(server.get("/health", &[]).await.status, 200);
    server.stop();
    server.ended().await;
}

#[tokio::test]
async fn metrics_are_on_their_own_port_and_behind_the_admin_key() {
    let server = Running::start(1, |_| {}).await;
    server.master("/indexes").await;
    server.get("/indexes/0190-uuid/documents/7", &[]).await;
    server.get("/0190-uuid", &[]).await;
    let scraped = server.get(&format!("{}/metrics", server.metrics), &[]).await;
    assert_eq!(scraped.status, 200);
    assert!(scraped.header("content-type").unwrap().starts_with("text/plain"));
    let text = String::from_utf8(scraped.body.to_vec()).unwrap();
    let line = "miroir_requests_total{method=\"GET\",path_template=\"/indexes\",status=\"200\"}";
    assert!(text.contains(line), "{text}");
    assert!(text.contains("path_template=\"/indexes/{uid}/documents/{id}\""), "{text}");
    assert!(!text.contains("0190-uuid"));
    // What has a target is there once there is one.
    let named = |family: &&miroir_server::metrics::Family| family.named() != Some("target");
    for family in miroir_server::metrics::FAMILIES.iter().filter(named) {
        assert!(text.contains(&format!("# TYPE {} ", family.name)), "{}", family.name);
    }
    let mirror = server.admin("/_miroir/metrics").await;
    let mirror = String::from_utf8(mirror.body.to_vec()).unwrap();
    let families = |text: &str| {
        text.lines().filter(|line| line.starts_with("# TYPE")).map(str::to_owned).collect()
    };
    let (one, other): (std::collections::BTreeSet<_>, std::collections::BTreeSet<_>) =
        (families(&text), families(&mirror));
    assert_eq!(one, other);
    assert_eq!(server.get(&format!("{}/else", server.metrics), &[]).await.status, 404);
}

#[tokio::test]
async fn metrics_may_have_an_address_of_their_own() {
    let other = "127.0.0.2".parse().unwrap();
    let server = Running::start(1, |config| config.server.metrics_bind = Some(other)).await;
    assert!(server.metrics.starts_with("http://127.0.0.2:"), "{}", server.metrics);
    assert_eq!(server.get(&format!("{}/metrics", server.metrics), &[]).await.status, 200);
}
