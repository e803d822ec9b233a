//! The in-process engine node, over HTTP.

mod documents;
mod searches;
mod tasks;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use miroir_engine::{EngineNode, EngineOptions};
use serde_json::{Value, json};

const KEY: &str = "test-master-key";

/// A client of one node.
#[derive(Clone)]
struct Http {
    base: String,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Http {
    fn new(node: &EngineNode) -> Self {
        Self { base: node.url(), client: Client::builder(TokioExecutor::new()).build_http() }
    }

    async fn raw(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> (u16, Value) {
        let mut request =
            http::Request::builder().method(method).uri(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response =
            self.client.request(request.body(Full::new(Bytes::from(body))).unwrap()).await.unwrap();
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let value =
            if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() };
        (status, value)
    }

    async fn send(
        &self,
        method: &str,
        path: &str,
        content_type: &str,
        body: Vec<u8>,
    ) -> (u16, Value) {
        let token = format!("Bearer {KEY}");
        self.raw(method, path, &[("authorization", &token), ("content-type", content_type)], body)
            .await
    }

    async fn json(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        self.send(method, path, "application/json", body.to_string().into_bytes()).await
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        self.send("GET", path, "application/json", Vec::new()).await
    }

    /// Sends a write and waits for its task.
    async fn write(&self, method: &str, path: &str, body: Value) -> Value {
        let (status, summary) = self.json(method, path, body).await;
        assert!(status == 202 || status == 200, "{status} {summary}");
        self.wait(summary["taskUid"].as_u64().unwrap()).await
    }

    async fn succeed(&self, method: &str, path: &str, body: Value) -> Value {
        let task = self.write(method, path, body).await;
        assert_eq!(task["status"], "succeeded", "{task}");
        task
    }

    async fn wait(&self, uid: u64) -> Value {
        let deadline = Instant::now() + Duration::from_mins(2);
        loop {
            let (status, list) = self.get(&format!("/tasks?uids={uid}&limit=1")).await;
            assert_eq!(status, 200, "{list}");
            let task = &list["results"][0];
            if !["enqueued", "processing"].contains(&task["status"].as_str().unwrap()) {
                return task.clone();
            }
            assert!(Instant::now() < deadline, "task {uid} does not end: {task}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn search(&self, uid: &str, query: Value) -> Value {
        let (status, found) = self.json("POST", &format!("/indexes/{uid}/search"), query).await;
        assert_eq!(status, 200, "{found}");
        found
    }
}

fn ids(found: &Value) -> Vec<i64> {
    let list = found.get("hits").or_else(|| found.get("results")).unwrap();
    list.as_array().unwrap().iter().map(|hit| hit["id"].as_i64().unwrap()).collect()
}

fn movies() -> Value {
    json!([
        { "id": 1, "title": "Carol", "genre": "Romance", "year": 2015, "note": { "press": 8.5 } },
        { "id": 2, "title": "Wonder Woman", "genre": ["Action", "Adventure"], "year": 2017 },
        { "id": 3, "title": "Life of Pi", "genre": "Adventure", "year": 2012 },
        { "id": 4, "title": "Mad Max: Fury Road", "genre": "Action", "year": 2015 },
        { "id": 5, "title": "Moana", "genre": "adventure", "year": null },
    ])
}

async fn node() -> (EngineNode, Http) {
    let node = EngineNode::start_temp(KEY).await.unwrap();
    let http = Http::new(&node);
    (node, http)
}

/// A directory removed at the end of a test.
struct TempDir(PathBuf);

impl TempDir {
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!("miroir-engine-test-{}", uuid::Uuid::new_v4())))
    }

    fn options(&self) -> EngineOptions {
        EngineOptions { dir: self.0.clone(), port: 0, master_key: Some(KEY.to_owned()) }
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn authentication_and_unknown_routes() {
    let (node, http) = node().await;
    let (status, health) = http.raw("GET", "/health", &[], Vec::new()).await;
    assert_eq!((status, health), (200, json!({ "status": "available" })));
    let (status, error) = http.raw("GET", "/version", &[], Vec::new()).await;
    assert_eq!((status, &error["code"]), (401, &json!("missing_authorization_header")));
    let (status, error) =
        http.raw("GET", "/version", &[("authorization", "Bearer no")], Vec::new()).await;
    assert_eq!((status, &error["code"]), (403, &json!("invalid_api_key")));
    assert_eq!(http.get("/version").await.1["pkgVersion"], "1.15.1");
    assert_eq!(http.get("/nothing").await, (404, Value::Null));
    let (status, error) = http.get("/indexes/movies").await;
    assert_eq!((status, &error["code"]), (404, &json!("index_not_found")));
    assert_eq!(error["link"], "https://docs.meilisearch.com/errors#index_not_found");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_round_trip() {
    let (node, http) = node().await;
    http.succeed("POST", "/indexes", json!({ "uid": "s" })).await;
    let (_, defaults) = http.get("/indexes/s/settings").await;
    assert_eq!(
        defaults,
        json!({
            "displayedAttributes": ["*"], "searchableAttributes": ["*"], "filterableAttributes": [],
            "sortableAttributes": [],
            "rankingRules": ["words", "typo", "proximity", "attribute", "sort", "exactness"],
            "stopWords": [], "nonSeparatorTokens": [], "separatorTokens": [], "dictionary": [], "synonyms": {},
            "distinctAttribute": null, "proximityPrecision": "byWord",
            "typoTolerance": {
                "enabled": true, "minWordSizeForTypos": { "oneTypo": 5, "twoTypos": 9 },
                "disableOnWords": [], "disableOnAttributes": [], "disableOnNumbers": false,
            },
            "faceting": { "maxValuesPerFacet": 100, "sortFacetValuesBy": { "*": "alpha" } },
            "pagination": { "maxTotalHits": 1000 }, "embedders": {}, "searchCutoffMs": null,
            "localizedAttributes": null, "facetSearch": true, "prefixSearch": "indexingTime",
        })
    );
    let rule = json!({
        "attributePatterns": ["attr_*"],
        "features": { "facetSearch": false, "filter": { "equality": true, "comparison": true } },
    });
    let wanted = json!({
        "displayedAttributes": ["id", "title"], "searchableAttributes": ["title", "body"],
        "filterableAttributes": ["genre", rule], "sortableAttributes": ["a", "b"],
        "rankingRules": ["words", "sort", "typo", "year:desc"], "stopWords": ["a", "the"],
        "nonSeparatorTokens": ["#"], "separatorTokens": ["|"], "dictionary": ["J. R."],
        "synonyms": { "film": ["movie"] }, "distinctAttribute": "genre", "proximityPrecision": "byAttribute",
        "typoTolerance": {
            "enabled": false, "minWordSizeForTypos": { "oneTypo": 4, "twoTypos": 8 },
            "disableOnWords": ["shrek"], "disableOnAttributes": ["title"], "disableOnNumbers": true,
        },
        "faceting": { "maxValuesPerFacet": 7, "sortFacetValuesBy": { "*": "alpha", "genre": "count" } },
        "pagination": { "maxTotalHits": 50 },
        "embedders": { "e": { "source": "userProvided", "dimensions": 2 } }, "searchCutoffMs": 250,
        "localizedAttributes": [{ "attributePatterns": ["title"], "locales": ["fra"] }],
        "facetSearch": false, "prefixSearch": "disabled",
    });
    let task = http.succeed("PATCH", "/indexes/s/settings", wanted.clone()).await;
    assert_eq!(task["details"]["typoTolerance"], wanted["typoTolerance"]);
    let (_, mut got) = http.get("/indexes/s/settings").await;
    let embedder = got["embedders"]["e"].clone();
    assert_eq!((&embedder["source"], &embedder["dimensions"]), (&json!("userProvided"), &json!(2)));
    got["embedders"] = wanted["embedders"].clone();
    assert_eq!(got, wanted);

    http.succeed("PATCH", "/indexes/s/settings/typo-tolerance", json!({ "enabled": true })).await;
    let (_, typos) = http.get("/indexes/s/settings/typo-tolerance").await;
    assert_eq!(
        (&typos["enabled"], &typos["minWordSizeForTypos"]["oneTypo"]),
        (&json!(true), &json!(4))
    );
    http.succeed("DELETE", "/indexes/s/settings/stop-words", Value::Null).await;
    assert_eq!(http.get("/indexes/s/settings/stop-words").await, (200, json!([])));
    let (status, error) =
        http.json("PUT", "/indexes/s/settings/ranking-rules", json!(["wrods"])).await;
    assert_eq!((status, &error["code"]), (400, &json!("invalid_settings_ranking_rules")));
    let (status, error) = http.json("PATCH", "/indexes/s/settings", json!({ "nope": 1 })).await;
    assert_eq!((status, &error["code"]), (400, &json!("bad_request")));
    http.succeed("DELETE", "/indexes/s/settings", Value::Null).await;
    assert_eq!(http.get("/indexes/s/settings").await.1, defaults);
    node.stop().await;
}
