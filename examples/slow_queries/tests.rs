//! The capability of `slow_queries` from the configuration to the metrics.

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use miroir::Miroir;
use miroir::stack::Description;
use miroir_server::config::{Capabilities, Config, Flags};
use miroir_server::{metrics, stack};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::capability::SlowQueries;
use crate::quickstart::common::{Api, MASTER_KEY, Nodes, write};

fn read(yaml: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
    let more = Capabilities::default().with::<SlowQueries>();
    let environment = environment.iter().map(|(key, value)| ((*key).into(), (*value).into()));
    Config::from_sources_with(&more, Some(yaml), environment, &Flags::default())
        .map_err(|errors| errors.to_string())
}

/// Sends a request with the clients' key; returns its status, `X-Slow-Query` and its body.
async fn post(api: &impl Api, path: &str, after: &str, body: &Value) -> (StatusCode, bool, Value) {
    let request = Request::post(path)
        .header(header::AUTHORIZATION, format!("Bearer {MASTER_KEY}"))
        .header(header::CONTENT_TYPE, "application/json")
        .header("x-slow-after", after)
        .body(Full::new(Bytes::from(body.to_string())))
        .unwrap();
    let response = api.clone().oneshot(request).await.unwrap();
    let (status, slow) = (response.status(), response.headers().contains_key("x-slow-query"));
    let body = response.into_body().collect().await.map_err(Into::into).unwrap().to_bytes();
    (status, slow, serde_json::from_slice(&body).unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_metric_and_explanation_come_with_one_line() {
    let shown = metrics::install();
    let nodes = Nodes::get(Vec::new()).await.unwrap();
    let mut builder = Miroir::builder().node_key(&nodes.key).master_key(MASTER_KEY).shards(4);
    for (at, url) in nodes.urls.iter().enumerate() {
        builder = builder.node(&format!("node-{at}"), url, 0);
    }
    let miroir = builder.mount(SlowQueries::default()).build().await.unwrap();
    miroir.spawn_workers();
    let api = miroir.client_api();
    write(&api, "POST", "/indexes/slow/documents", &json!([{"id": 1}])).await.unwrap();

    let search = json!({"q": ""});
    for (after, slow) in [("0", true), ("3600000", false)] {
        let (status, said, _) = post(&api, "/indexes/slow/search", after, &search).await;
        assert_eq!((status, said), (StatusCode::OK, slow), "{after}");
    }
    let many = json!({"queries": [{"indexUid": "slow", "q": "a"}, {"indexUid": "slow"}]});
    assert!(post(&api, "/multi-search", "0", &many).await.1, "a slow part makes the whole slow");
    let (status, _, error) = post(&api, "/indexes/slow/search", "soon", &search).await;
    assert_eq!((status, &error["code"]), (StatusCode::BAD_REQUEST, &json!("invalid_header_value")));
    let (_, _, explained) = post(&api, "/indexes/slow/explain", "250", &search).await;
    assert_eq!(explained["plan"]["slow_after_ms"], 250, "{explained}");
    let metrics = shown.render();
    assert!(metrics.contains("slow_queries_total{index=\"slow\"} 3"), "{metrics}");
    miroir.shutdown().await;
}

#[test]
fn its_block_is_read_checked_and_shown_like_any_other() {
    let config = read("miroir: {slow_queries: {after_ms: 2s}}", &[]).unwrap();
    let index = |config: &Config| -> Description {
        stack::describe(config).into_iter().find(|stage| stage.stage == "index").unwrap()
    };
    assert_eq!(index(&config).layers.last(), Some(&"slow_queries"));
    assert!(config.to_yaml().contains("slow_queries:\n    enabled: true\n    after_ms: 2"));
    let off = read("miroir: {}", &[("MIROIR__SLOW_QUERIES__ENABLED", "false")]).unwrap();
    assert!(!index(&off).layers.contains(&"slow_queries"));

    for (yaml, wrong) in [
        ("miroir: {slow_queries: {afer_ms: 1}}", "`slow_queries.afer_ms`: unknown key; did you"),
        ("miroir: {slow_queries: {enabled: 7}}", "`slow_queries.enabled`: invalid type"),
    ] {
        let errors = read(yaml, &[]).unwrap_err();
        assert!(errors.contains(wrong), "{errors}");
    }
    let zero = read("miroir: {slow_queries: {after_ms: 0}}", &[]).unwrap();
    let faults: Vec<String> =
        zero.validate().unwrap_err().iter().map(ToString::to_string).collect();
    assert!(faults.iter().any(|fault| fault.starts_with("`slow_queries.after_ms`: must not be 0")));
    let unknown = Config::from_yaml("miroir: {slow_queries: {}}").unwrap_err().to_string();
    assert!(unknown.contains("`slow_queries`: unknown key"), "{unknown}");
}

/// The claim of `docs/write-a-layer.md`.
#[test]
fn a_whole_capability_is_eighty_lines_of_code() {
    let code = include_str!("capability.rs");
    let lines = code.lines().map(str::trim).filter(|line| !line.is_empty());
    let lines = lines.filter(|line| !line.starts_with("//")).count();
    assert!(lines <= 80, "{lines}");
}
