//! The in-process engine node, over HTTP.
#![cfg(feature = "engine")]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use miroir_test::engine::{EngineNode, EngineOptions};
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
async fn documents_life_cycle() {
    let (node, http) = node().await;
    let task =
        http.succeed("POST", "/indexes", json!({ "uid": "movies", "primaryKey": "id" })).await;
    assert_eq!(task["details"], json!({ "primaryKey": "id" }));
    let task =
        http.succeed("POST", "/indexes/movies/documents?customMetadata=hello", movies()).await;
    assert_eq!(task["details"], json!({ "receivedDocuments": 5, "indexedDocuments": 5 }));
    assert_eq!(task["customMetadata"], "hello");
    assert_eq!(task["error"], Value::Null);
    assert!(task["duration"].as_str().unwrap().starts_with("PT"));

    let (_, document) = http.get("/indexes/movies/documents/1?fields=title,note").await;
    assert_eq!(document, json!({ "title": "Carol", "note": { "press": 8.5 } }));
    let (status, error) = http.get("/indexes/movies/documents/99").await;
    assert_eq!((status, &error["code"]), (404, &json!("document_not_found")));

    // A partial update keeps the other fields, a replacement does not.
    http.succeed("PUT", "/indexes/movies/documents", json!([{ "id": 1, "year": 2016 }])).await;
    let (_, document) = http.get("/indexes/movies/documents/1").await;
    assert_eq!((&document["title"], &document["year"]), (&json!("Carol"), &json!(2016)));
    http.succeed("POST", "/indexes/movies/documents", json!({ "id": 1, "title": "Carol" })).await;
    assert_eq!(
        http.get("/indexes/movies/documents/1").await.1,
        json!({ "id": 1, "title": "Carol" })
    );

    // Unknown documents are ignored on request.
    let update = json!([{ "id": 1, "year": 2015 }, { "id": 77, "title": "New" }]);
    let task = http.succeed("PUT", "/indexes/movies/documents?skipCreation=true", update).await;
    assert_eq!(task["details"], json!({ "receivedDocuments": 2, "indexedDocuments": 2 }));
    assert_eq!(http.get("/indexes/movies/documents/77").await.0, 404);
    assert_eq!(http.get("/indexes/movies/documents/1").await.1["year"], 2015);

    let task = http
        .succeed("POST", "/indexes/movies/documents/delete-batch", json!([2, "3", "nope"]))
        .await;
    assert_eq!(
        task["details"],
        json!({ "providedIds": 3, "deletedDocuments": 2, "originalFilter": null })
    );
    http.succeed("DELETE", "/indexes/movies/documents/5", Value::Null).await;
    let (_, list) = http.get("/indexes/movies/documents?limit=10").await;
    assert_eq!((ids(&list), &list["total"]), (vec![1, 4], &json!(2)));

    http.succeed("PUT", "/indexes/movies/settings/filterable-attributes", json!(["year"])).await;
    let task = http
        .succeed("POST", "/indexes/movies/documents/delete", json!({ "filter": "year = 2015" }))
        .await;
    assert_eq!(
        task["details"],
        json!({ "providedIds": 0, "deletedDocuments": 2, "originalFilter": "\"year = 2015\"" })
    );
    http.succeed("POST", "/indexes/movies/documents", movies()).await;
    let (_, stats) = http.get("/indexes/movies/stats").await;
    assert_eq!(
        (&stats["numberOfDocuments"], &stats["fieldDistribution"]["title"]),
        (&json!(5), &json!(5))
    );
    let task = http.succeed("DELETE", "/indexes/movies/documents", Value::Null).await;
    assert_eq!(task["details"], json!({ "deletedDocuments": 5 }));
    assert_eq!(http.get("/indexes/movies/stats").await.1["numberOfDocuments"], 0);

    let task = http.succeed("PATCH", "/indexes/movies", json!({ "uid": "films" })).await;
    assert_eq!(
        task["details"],
        json!({ "primaryKey": null, "oldIndexUid": "movies", "newIndexUid": "films" })
    );
    assert_eq!(http.get("/indexes").await.1["results"][0]["uid"], "films");
    http.succeed("DELETE", "/indexes/films", Value::Null).await;
    assert_eq!(http.get("/indexes").await.1["total"], 0);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_payload_formats() {
    let (node, http) = node().await;
    let csv = b"id:number;title;seen:boolean\n1;Carol;true\n2;;false\n".to_vec();
    let (status, summary) =
        http.send("POST", "/indexes/t/documents?csvDelimiter=%3B", "text/csv", csv).await;
    assert_eq!(status, 202, "{summary}");
    http.wait(summary["taskUid"].as_u64().unwrap()).await;
    let lines = b"{\"id\":3,\"title\":\"Pi\"}\n{\"id\":4}\n".to_vec();
    let (_, summary) =
        http.send("POST", "/indexes/t/documents", "application/x-ndjson", lines).await;
    let task = http.wait(summary["taskUid"].as_u64().unwrap()).await;
    assert_eq!(task["details"]["indexedDocuments"], 2, "{task}");
    let (_, list) = http.get("/indexes/t/documents").await;
    assert_eq!(
        list["results"],
        json!([
            { "id": 1, "title": "Carol", "seen": true },
            { "id": 2, "title": null, "seen": false },
            { "id": 3, "title": "Pi" },
            { "id": 4 },
        ])
    );
    for (content_type, body, status, code) in [
        ("text/plain", "{}", 415, "invalid_content_type"),
        ("application/json", "", 400, "missing_payload"),
        ("application/json", "[{\"id\":1}", 400, "malformed_payload"),
        ("application/json", "3", 400, "malformed_payload"),
        ("text/csv", "id:number\nx", 400, "malformed_payload"),
    ] {
        let (got, error) =
            http.send("POST", "/indexes/t/documents", content_type, body.into()).await;
        assert_eq!((got, error["code"].as_str().unwrap()), (status, code), "{error}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failing_tasks() {
    let (node, http) = node().await;
    let fails = async |method: &str, path: &str, body: Value, code: &str| {
        let task = http.write(method, path, body).await;
        assert_eq!(task["status"], "failed", "{task}");
        assert_eq!(task["error"]["code"], code, "{task}");
        task
    };
    let task = fails("DELETE", "/indexes/none", Value::Null, "index_not_found").await;
    assert_eq!(task["details"], json!({ "deletedDocuments": 0 }));
    fails("DELETE", "/indexes/none/documents/1", Value::Null, "index_not_found").await;
    let no_id = "index_primary_key_no_candidate_found";
    let task = fails("POST", "/indexes/a/documents", json!([{ "x": 1 }]), no_id).await;
    assert_eq!(task["details"], json!({ "receivedDocuments": 1, "indexedDocuments": 0 }));
    assert_eq!(http.get("/indexes/a").await.1["primaryKey"], Value::Null);
    let two = json!([{ "pid": 1, "bidid": 2, "qid": 3 }]);
    let task =
        fails("POST", "/indexes/a/documents", two, "index_primary_key_multiple_candidates_found")
            .await;
    assert!(task["error"]["message"].as_str().unwrap().contains("found 3 fields"), "{task}");
    http.succeed("POST", "/indexes/a/documents?primaryKey=id", json!([{ "id": 1 }])).await;
    fails("POST", "/indexes", json!({ "uid": "a" }), "index_already_exists").await;
    let task = fails(
        "POST",
        "/indexes/a/documents",
        json!([{ "id": 2 }, { "id": 1.0 }]),
        "invalid_document_id",
    )
    .await;
    assert!(
        task["error"]["message"]
            .as_str()
            .unwrap()
            .starts_with("Document identifier `1.0` is invalid."),
        "{task}"
    );
    fails("POST", "/indexes/a/documents", json!([{ "x": 2 }]), "missing_document_id").await;
    let other_key = "index_primary_key_already_exists";
    fails("POST", "/indexes/a/documents?primaryKey=other", json!([{ "other": 2 }]), other_key)
        .await;
    http.succeed("PUT", "/indexes/a/settings/sortable-attributes", json!(["_geo"])).await;
    fails(
        "POST",
        "/indexes/a/documents",
        json!([{ "id": 2, "_geo": "x" }]),
        "invalid_document_geo_field",
    )
    .await;
    let task = fails(
        "POST",
        "/indexes/a/documents/delete",
        json!({ "filter": "x = 1" }),
        "invalid_document_filter",
    )
    .await;
    assert!(
        task["error"]["message"]
            .as_str()
            .unwrap()
            .starts_with("Index `a`: Attribute `x` is not filterable")
    );
    assert_eq!(http.get("/indexes/a/documents").await.1["total"], 1);
    let (status, error) =
        http.json("POST", "/indexes/a/documents/delete", json!({ "filter": "x ==" })).await;
    assert_eq!((status, &error["code"]), (400, &json!("invalid_document_filter")));
    let (status, error) = http.get("/tasks/999").await;
    assert_eq!((status, &error["code"]), (404, &json!("task_not_found")));
    node.stop().await;
}

/// Tasks that share an indexing transaction keep their own details and failures.
#[tokio::test(flavor = "multi_thread")]
async fn batched_tasks_are_independent() {
    let (node, http) = node().await;
    http.succeed("PUT", "/indexes/b/settings/sortable-attributes", json!(["_geo"])).await;
    http.succeed("POST", "/indexes/b/documents", json!([{ "id": 0 }])).await;
    let mut uids = Vec::new();
    for n in 1..=20 {
        let body = match n {
            7 => json!([{ "id": n }, { "id": true }]),
            13 => json!([{ "id": n, "_geo": { "lat": "north", "lng": 1 } }]),
            _ => json!([{ "id": n, "n": n }, { "id": n, "n": n + 1 }]),
        };
        let (_, summary) = http.json("POST", "/indexes/b/documents", body).await;
        uids.push(summary["taskUid"].as_u64().unwrap());
    }
    for (at, uid) in uids.into_iter().enumerate() {
        let task = http.wait(uid).await;
        let expected = match at + 1 {
            7 => ("failed", 0, json!("invalid_document_id")),
            13 => ("failed", 0, json!("invalid_document_geo_field")),
            _ => ("succeeded", 1, Value::Null),
        };
        assert_eq!(task["status"], expected.0, "{task}");
        assert_eq!(task["details"]["indexedDocuments"], expected.1, "{task}");
        assert_eq!(task["error"].get("code").cloned().unwrap_or_default(), expected.2, "{task}");
    }
    assert_eq!(http.get("/indexes/b/stats").await.1["numberOfDocuments"], 19);
    assert_eq!(http.get("/indexes/b/documents/20").await.1["n"], 21);
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

#[tokio::test(flavor = "multi_thread")]
async fn searches() {
    let (node, http) = node().await;
    let settings =
        json!({ "filterableAttributes": ["genre", "year"], "sortableAttributes": ["year"] });
    http.succeed("PATCH", "/indexes/m/settings", settings).await;
    http.succeed("POST", "/indexes/m/documents", movies()).await;

    let found = http.search("m", json!({ "q": "wondr womn" })).await;
    assert_eq!((ids(&found), &found["estimatedTotalHits"]), (vec![2], &json!(1)));
    let keys: Vec<&String> = found.as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        [
            "hits",
            "query",
            "processingTimeMs",
            "limit",
            "offset",
            "estimatedTotalHits",
            "requestUid"
        ]
    );

    let query = json!({
        "q": "mad road", "sort": ["year:asc"], "showRankingScore": true, "showRankingScoreDetails": true,
        "attributesToHighlight": ["title"], "showMatchesPosition": true, "attributesToRetrieve": ["id"],
    });
    let found = http.search("m", query).await;
    let hit = &found["hits"][0];
    assert_eq!(
        hit["_formatted"],
        json!({ "id": "4", "title": "<em>Mad</em> Max: Fury <em>Road</em>" })
    );
    assert_eq!(hit["_matchesPosition"]["title"][1], json!({ "start": 14, "length": 4 }));
    let details = &hit["_rankingScoreDetails"];
    assert_eq!(
        details["words"],
        json!({ "order": 0, "matchingWords": 2, "maxMatchingWords": 2, "score": 1.0 })
    );
    assert_eq!(details["year:asc"], json!({ "order": 4, "value": 2015.0 }));
    assert_eq!(details["exactness"]["matchType"], "noExactMatch");

    let found = http.search("m", json!({ "sort": ["year:desc"], "limit": 2, "offset": 1 })).await;
    assert_eq!((ids(&found), &found["estimatedTotalHits"]), (vec![1, 4], &json!(5)));
    let found =
        http.search("m", json!({ "sort": ["year:desc"], "page": 3, "hitsPerPage": 2 })).await;
    assert_eq!(ids(&found), [5]);
    assert_eq!(
        (&found["totalHits"], &found["totalPages"], &found["page"]),
        (&json!(5), &json!(3), &json!(3))
    );
    assert_eq!(found.get("limit"), None);

    let query = json!({ "filter": ["year >= 2015", ["genre = action", "genre = romance"]], "facets": ["*"] });
    let found = http.search("m", query).await;
    assert_eq!(ids(&found), [1, 2, 4]);
    let expected = json!({
        "genre": { "Action": 2, "Adventure": 1, "Romance": 1 }, "year": { "2015": 2, "2017": 1 },
    });
    assert_eq!(found["facetDistribution"], expected);
    assert_eq!(found["facetStats"], json!({ "year": { "min": 2015.0, "max": 2017.0 } }));
    let found = http.search("m", json!({ "distinct": "genre", "page": 1 })).await;
    assert_eq!((ids(&found), &found["totalHits"]), (vec![1, 2], &json!(2)));
    let (_, found) = http
        .get("/indexes/m/search?q=carol&limit=1&attributesToRetrieve=id&showRankingScore=true")
        .await;
    assert_eq!(found["hits"], json!([{ "id": 1, "_rankingScore": 1.0 }]));

    for (query, code) in [
        (json!({ "filter": "nope = 1" }), "invalid_search_filter"),
        (json!({ "filter": "year >" }), "invalid_search_filter"),
        (json!({ "sort": ["title:asc"] }), "invalid_search_sort"),
        (json!({ "sort": ["title"] }), "invalid_search_sort"),
        (json!({ "facets": ["title"] }), "invalid_search_facets"),
        (json!({ "distinct": "title" }), "invalid_search_distinct"),
        (json!({ "limit": "x" }), "invalid_search_limit"),
        (json!({ "vector": [1.0] }), "missing_search_hybrid"),
        (json!({ "hybrid": { "embedder": "e" }, "q": "x" }), "invalid_search_embedder"),
        (json!({ "nope": 1 }), "bad_request"),
    ] {
        let (status, error) = http.json("POST", "/indexes/m/search", query).await;
        assert_eq!((status, error["code"].as_str().unwrap()), (400, code), "{error}");
    }

    let queries =
        json!({ "queries": [{ "indexUid": "m", "q": "moana" }, { "indexUid": "m", "q": "pi" }] });
    let (_, several) = http.json("POST", "/multi-search", queries).await;
    assert_eq!(several["results"][0]["indexUid"], "m");
    assert_eq!((ids(&several["results"][0]), ids(&several["results"][1])), (vec![5], vec![3]));
    let queries = json!({ "queries": [{ "indexUid": "none" }] });
    let (status, error) = http.json("POST", "/multi-search", queries).await;
    assert_eq!(
        (status, error["message"].as_str().unwrap()),
        (400, "Inside `.queries[0]`: Index `none` not found.")
    );
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn vector_searches() {
    let (node, http) = node().await;
    let settings = json!({ "embedders": { "e": { "source": "userProvided", "dimensions": 2 } } });
    http.succeed("PATCH", "/indexes/v/settings", settings).await;
    let documents = json!([
        { "id": 1, "t": "red apple", "_vectors": { "e": [1.0, 0.0] } },
        { "id": 2, "t": "green pear", "_vectors": { "e": [0.0, 1.0] } },
        { "id": 3, "t": "red cherry", "_vectors": { "e": null } },
    ]);
    http.succeed("POST", "/indexes/v/documents", documents).await;
    let semantic = json!({
        "vector": [0.0, 1.0], "hybrid": { "embedder": "e", "semanticRatio": 1.0 },
        "retrieveVectors": true, "showRankingScore": true,
    });
    let found = http.search("v", semantic).await;
    assert_eq!(ids(&found), [2, 1, 3]);
    assert_eq!((&found["semanticHitCount"], &found["estimatedTotalHits"]), (&json!(3), &json!(3)));
    assert_eq!(found["hits"][0]["_rankingScore"], 1.0);
    assert_eq!(
        found["hits"][0]["_vectors"],
        json!({ "e": { "embeddings": [[0.0, 1.0]], "regenerate": false } })
    );
    let hybrid = json!({ "q": "apple", "vector": [0.0, 1.0], "hybrid": { "embedder": "e", "semanticRatio": 0.5 } });
    let found = http.search("v", hybrid).await;
    assert_eq!(ids(&found).len(), 3);
    assert_eq!(http.get("/indexes/v/stats").await.1["numberOfEmbeddings"], 2);
    let (status, error) = http
        .json(
            "POST",
            "/indexes/v/search",
            json!({ "vector": [1.0], "hybrid": { "embedder": "e" } }),
        )
        .await;
    assert_eq!((status, &error["code"]), (400, &json!("invalid_vector_dimensions")));
    let wrong = json!([{ "id": 4, "_vectors": { "e": [1.0, 2.0, 3.0] } }]);
    let task = http.write("POST", "/indexes/v/documents", wrong).await;
    assert_eq!(task["error"]["code"], "invalid_vector_dimensions", "{task}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn facet_searches() {
    let (node, http) = node().await;
    http.succeed("PUT", "/indexes/m/settings/filterable-attributes", json!(["genre"])).await;
    http.succeed("POST", "/indexes/m/documents", movies()).await;
    let path = "/indexes/m/facet-search";
    let (status, found) =
        http.json("POST", path, json!({ "facetName": "genre", "facetQuery": "adv" })).await;
    assert_eq!(
        (status, &found["facetHits"]),
        (200, &json!([{ "value": "Adventure", "count": 3 }]))
    );
    assert_eq!(found["facetQuery"], "adv");
    let (_, found) = http.json("POST", path, json!({ "facetName": "genre", "q": "mad" })).await;
    assert_eq!(found["facetHits"], json!([{ "value": "Action", "count": 1 }]));
    let (status, error) = http.json("POST", path, json!({ "facetName": "title" })).await;
    assert_eq!((status, &error["code"]), (400, &json!("invalid_facet_search_facet_name")));
    node.stop().await;
}

/// Filters on a field whose name and values are private-use characters.
#[tokio::test(flavor = "multi_thread")]
async fn filters_on_private_use_characters() {
    let (node, http) = node().await;
    let field = "\u{e000}slot";
    let value = |n: u32| format!("\u{e001}{n:04x}");
    http.succeed("PUT", "/indexes/p/settings/filterable-attributes", json!([field])).await;
    let documents: Vec<Value> = (0..100).map(|n| json!({ "id": n, field: value(n) })).collect();
    http.succeed("POST", "/indexes/p/documents", json!(documents)).await;
    for (filter, expected) in [
        (format!("\"{field}\" IN [\"{}\", \"{}\"]", value(3), value(70)), vec![3, 70]),
        (
            format!("\"{field}\" >= \"{}\" AND \"{field}\" < \"{}\"", value(10), value(13)),
            vec![10, 11, 12],
        ),
        (format!("\"{field}\" \"{}\" TO \"{}\"", value(98), value(500)), vec![98, 99]),
        (format!("\"{field}\" = \"{}\"", value(16)), vec![16]),
    ] {
        let found = http.search("p", json!({ "filter": filter })).await;
        assert_eq!(ids(&found), expected, "{filter}");
        let body = json!({ "filter": filter, "fields": ["id"] });
        let (_, found) = http.json("POST", "/indexes/p/documents/fetch", body).await;
        assert_eq!(ids(&found), expected, "{filter}");
        assert_eq!(found["total"], expected.len());
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sorted_fetches() {
    let (node, http) = node().await;
    http.succeed("PUT", "/indexes/f/settings/sortable-attributes", json!(["n", "_geo"])).await;
    let documents = json!([
        { "id": 1, "n": "b", "_geo": { "lat": 0.0, "lng": 2.0 } },
        { "id": 2, "n": [7, 3], "_geo": { "lat": 0.0, "lng": 1.0 } },
        { "id": 3, "_geo": { "lat": 0.0, "lng": 3.0 } },
        { "id": 4, "n": 5 },
        { "id": 5, "n": "A" },
    ]);
    http.succeed("POST", "/indexes/f/documents", documents).await;
    let token = format!("Bearer {KEY}");
    let headers = [("authorization", token.as_str()), ("meili-proxy-search", "true")];
    let fetch = async |sort: &str, fields: &str| {
        let body = json!({ "sort": [sort], "fields": [fields] }).to_string().into_bytes();
        let (status, found) = http.raw("POST", "/indexes/f/documents/fetch", &headers, body).await;
        assert_eq!(status, 200, "{found}");
        found
    };
    let found = fetch("n:asc", "id").await;
    assert_eq!(ids(&found), [2, 4, 5, 1, 3]);
    let values: Vec<&Value> = found["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|document| &document["_federation"]["weightedScoreValues"][0]["sort"]["value"])
        .collect();
    assert_eq!(values, [&json!(3), &json!(5), &json!("a"), &json!("b"), &Value::Null]);
    assert_eq!(ids(&fetch("n:desc", "id").await), [2, 4, 1, 5, 3]);
    let found = fetch("_geoPoint(0, 0):asc", "id").await;
    assert_eq!(ids(&found), [2, 1, 3, 4, 5]);
    let geo = &found["results"][0]["_federation"]["weightedScoreValues"][0]["geoSort"];
    assert_eq!(geo["asc"], true);
    assert!((geo["distance"].as_f64().unwrap() - 111_195.0).abs() < 1.0, "{geo}");
    let found =
        http.json("POST", "/indexes/f/documents/fetch", json!({ "ids": [5, "2", 9] })).await.1;
    assert_eq!((ids(&found), &found["total"]), (vec![2, 5], &json!(2)));
    assert_eq!(found["results"][0].get("_federation"), None);
    let (status, error) =
        http.json("POST", "/indexes/f/documents/fetch", json!({ "ids": ["a b"] })).await;
    assert_eq!((status, &error["code"]), (400, &json!("invalid_document_ids")));
    let (status, error) =
        http.json("POST", "/indexes/f/documents/fetch", json!({ "sort": ["id:asc"] })).await;
    assert_eq!((status, &error["code"]), (400, &json!("invalid_document_sort")));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn task_lists_cancelation_and_deletion() {
    let (node, http) = node().await;
    for uid in ["a", "b", "a"] {
        let (_, summary) = http.json("POST", "/indexes", json!({ "uid": uid })).await;
        http.wait(summary["taskUid"].as_u64().unwrap()).await;
    }
    let uids = |list: &Value| -> Vec<u64> {
        list["results"]
            .as_array()
            .unwrap()
            .iter()
            .map(|task| task["uid"].as_u64().unwrap())
            .collect()
    };
    let (_, list) = http.get("/tasks?limit=2").await;
    assert_eq!(
        (uids(&list), &list["from"], &list["next"], &list["total"]),
        (vec![2, 1], &json!(2), &json!(0), &json!(3))
    );
    let (_, list) = http.get("/tasks?reverse=true&from=1").await;
    assert_eq!(uids(&list), [1, 2]);
    assert_eq!(uids(&http.get("/tasks?statuses=FAILED&indexUids=a").await.1), [2]);
    assert_eq!(uids(&http.get("/tasks?uids=0,2,40&limit=3").await.1), [2, 0]);
    assert_eq!(uids(&http.get("/tasks?types=indexDeletion").await.1), [0_u64; 0]);
    let (status, error) = http.get("/tasks?types=nope").await;
    assert_eq!((status, &error["code"]), (400, &json!("invalid_task_types")));
    let (status, error) = http.json("POST", "/tasks/cancel", Value::Null).await;
    assert_eq!((status, &error["code"]), (400, &json!("missing_task_filters")));

    let task = http.succeed("DELETE", "/tasks?uids=2", Value::Null).await;
    assert_eq!(
        task["details"],
        json!({ "matchedTasks": 1, "deletedTasks": 1, "originalFilter": "?uids=2" })
    );
    assert_eq!(http.get("/tasks/2").await.0, 404);

    // Cancelation ends what still waits; tasks that were already done stay as they are.
    let documents: Vec<Value> =
        (0..500).map(|n| json!({ "id": n, "text": format!("document number {n}") })).collect();
    let mut written = Vec::new();
    for uid in ["c", "d", "c", "d", "c", "d"] {
        let (_, summary) =
            http.json("POST", &format!("/indexes/{uid}/documents"), json!(documents)).await;
        written.push(summary["taskUid"].as_u64().unwrap());
    }
    let task =
        http.succeed("POST", "/tasks/cancel?statuses=enqueued,processing", Value::Null).await;
    let mut canceled = 0;
    for uid in written {
        let other = http.wait(uid).await;
        if other["status"] == "canceled" {
            canceled += 1;
            assert_eq!(other["canceledBy"], task["uid"]);
            assert_eq!(other["details"]["indexedDocuments"], 0);
        } else {
            assert_eq!(other["status"], "succeeded", "{other}");
        }
    }
    assert_eq!(task["details"]["canceledTasks"], canceled);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_and_restart_with_pending_tasks() {
    let dir = TempDir::new();
    let node = EngineNode::start(dir.options()).await.unwrap();
    let http = Http::new(&node);
    http.succeed("PUT", "/indexes/k/settings/sortable-attributes", json!(["n"])).await;
    http.succeed("POST", "/indexes/k/documents", json!([{ "id": 0, "n": 0 }])).await;
    let mut last = 0;
    for batch in 0..8 {
        let documents: Vec<Value> = (1..=200)
            .map(|n| json!({ "id": batch * 200 + n, "n": n, "text": format!("some text about topic {n}") }))
            .collect();
        let method = if batch % 2 == 0 { "POST" } else { "PUT" };
        let (status, summary) = http.json(method, "/indexes/k/documents", json!(documents)).await;
        assert_eq!(status, 202);
        last = summary["taskUid"].as_u64().unwrap();
    }
    node.kill();

    let node = EngineNode::start(dir.options()).await.unwrap();
    let http = Http::new(&node);
    assert_eq!(http.get("/tasks/0").await.1["status"], "succeeded");
    let task = http.wait(last).await;
    assert_eq!(
        (&task["status"], &task["details"]["indexedDocuments"]),
        (&json!("succeeded"), &json!(200))
    );
    assert_eq!(http.get("/indexes/k/stats").await.1["numberOfDocuments"], 1601);
    assert_eq!(http.get("/indexes/k/settings/sortable-attributes").await.1, json!(["n"]));
    let (_, list) = http.get("/tasks?limit=100").await;
    assert_eq!(list["total"], 10);
    assert!(
        list["results"].as_array().unwrap().iter().all(|task| task["status"] == "succeeded"),
        "{list}"
    );
    node.stop().await;

    // A graceful stop keeps everything too, and uids go on.
    let node = EngineNode::start(dir.options()).await.unwrap();
    let http = Http::new(&node);
    assert_eq!(http.get("/indexes/k/documents/1600").await.1["n"], 200);
    let task = http.succeed("DELETE", "/indexes/k/documents/1600", Value::Null).await;
    assert_eq!(task["uid"], 10);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ingest_and_parallel_searches() {
    let (node, http) = node().await;
    let settings = json!({
        "filterableAttributes": ["group"], "sortableAttributes": ["rank"], "searchableAttributes": ["title", "body"],
    });
    http.succeed("PATCH", "/indexes/big/settings", settings).await;
    let words = [
        "river", "stone", "cloud", "forest", "harbor", "lantern", "meadow", "copper", "violet",
        "winter",
    ];
    let word = |n: usize| words[n % words.len()];
    let mut last = 0;
    for chunk in 0..6 {
        let documents: Vec<Value> = (chunk * 500..(chunk + 1) * 500)
            .map(|n| {
                json!({
                    "id": n, "group": n % 7, "rank": (n * 7919) % 3000,
                    "title": format!("{} {}", word(n), word(n / 10)),
                    "body": format!("{} {} {} number {n}", word(n / 3), word(n / 7), word(n * 3)),
                })
            })
            .collect();
        let (_, summary) = http.json("POST", "/indexes/big/documents", json!(documents)).await;
        last = summary["taskUid"].as_u64().unwrap();
    }
    assert_eq!(http.wait(last).await["status"], "succeeded");
    assert_eq!(http.get("/indexes/big/stats").await.1["numberOfDocuments"], 3000);

    let searches = (0..8).map(|worker| {
        let http = http.clone();
        tokio::spawn(async move {
            let mut answers = Vec::new();
            for n in 0..10 {
                let q = words[n % words.len()];
                let query =
                    json!({ "q": q, "filter": format!("group = {}", n % 7), "sort": ["rank:asc"] });
                let mut found = http.search("big", query).await;
                assert!(
                    found["estimatedTotalHits"].as_u64().unwrap() > 0,
                    "worker {worker}: {found}"
                );
                found["requestUid"] = Value::Null;
                found["processingTimeMs"] = Value::Null;
                answers.push(found);
            }
            answers
        })
    });
    let mut reference = None;
    for search in searches.collect::<Vec<_>>() {
        let answers = search.await.unwrap();
        assert_eq!(reference.get_or_insert_with(|| answers.clone()), &answers);
    }
    node.stop().await;
}
