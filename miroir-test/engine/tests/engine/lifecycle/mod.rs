//! The life of an index behind Miroir, on engine nodes, beside one plain node that gets the same
//! requests: whatever the plain node does, Miroir does.

mod restarts;

use std::time::Duration;

use miroir_control::Miroir;
use miroir_engine::EngineNode;
use miroir_layers::leaf::failover::FailoverLayer;
use miroir_pipeline::ClusterOptions;
use miroir_pipeline::Stack;
use miroir_pipeline::node::HealthOptions;
use serde_json::{Value, json};

use crate::support::{Answer, Api, KEY, Rng, corpus, nodes};

/// A plain node, and Miroir over others.
struct Pair {
    plain: Api,
    miroir: Api,
    running: Miroir,
    plain_node: EngineNode,
    nodes: Vec<EngineNode>,
}

/// How a cluster is made.
#[derive(Clone)]
struct Plan {
    shards: u32,
    groups: u32,
    nodes_per_group: usize,
    copies: u32,
    options: ClusterOptions,
}

impl Plan {
    fn new(shards: u32, groups: u32, nodes_per_group: usize, copies: u32) -> Self {
        Self { shards, groups, nodes_per_group, copies, options: ClusterOptions::default() }
    }

    async fn build(&self, nodes: &[EngineNode]) -> Miroir {
        let options = ClusterOptions { shards: self.shards, ..self.options.clone() };
        let mut builder = Miroir::builder()
            .node_key(KEY)
            .options(options)
            .replication_factor(self.copies)
            .health(HealthOptions {
                interval: Duration::from_millis(50),
                timeout: Duration::from_secs(2),
                unhealthy_threshold: 2,
                recovery_threshold: 2,
            })
            .leaves(Stack::new().push(FailoverLayer::default()));
        for (at, node) in nodes.iter().enumerate() {
            let group = (at / self.nodes_per_group) as u32;
            builder = builder.node(&format!("node-{at}"), &node.url(), group);
        }
        builder.build().await.unwrap()
    }

    async fn start(&self) -> Pair {
        let plain_node = EngineNode::start_temp(KEY).await.unwrap();
        let nodes = nodes(self.nodes_per_group * self.groups as usize).await;
        let running = self.build(&nodes).await;
        running.spawn_workers();
        let (plain, miroir) = (Api::node(&plain_node), Api::miroir(&running));
        Pair { plain, miroir, running, plain_node, nodes }
    }
}

/// What a task says apart from when, and as which number.
fn outcome(task: &Value) -> Value {
    let pick = |key: &str| {
        let mut value = task.get(key).cloned().unwrap_or(Value::Null);
        if let Some(object) = value.as_object_mut() {
            // A reset names these on 1.50; the engine behind these nodes does not know them.
            object.shift_remove("foreignKeys");
            object.shift_remove("chat");
        }
        value
    };
    json!({
        "indexUid": pick("indexUid"), "status": pick("status"), "type": pick("type"),
        "details": pick("details"), "error": pick("error"),
    })
}

/// An answer without what differs from one moment to the next.
fn steady(answer: &Answer) -> (u16, Value) {
    let mut body = answer.body.clone();
    if let Some(object) = body.as_object_mut() {
        for key in
            ["taskUid", "enqueuedAt", "processingTimeMs", "requestUid", "createdAt", "updatedAt"]
        {
            object.shift_remove(key);
        }
    }
    (answer.status, body)
}

impl Pair {
    /// Sends the same request to both, waits for its task if there is one, and requires the same
    /// outcome. Answers Miroir's final answer or task.
    async fn both(&self, method: &str, path: &str, content_type: &str, body: &str) -> Value {
        let left = self.plain.raw(method, path, content_type, body).await;
        let right = self.miroir.raw(method, path, content_type, body).await;
        assert_eq!(steady(&right), steady(&left), "{method} {path} {body}");
        if left.status != 202 {
            return right.body;
        }
        let (left, right) = tokio::join!(self.plain.finish(left), self.miroir.finish(right));
        assert_eq!(outcome(&right), outcome(&left), "{method} {path} {body}");
        right
    }

    async fn json(&self, method: &str, path: &str, body: &Value) -> Value {
        self.both(method, path, "application/json", &body.to_string()).await
    }

    async fn get(&self, path: &str) -> Value {
        self.both("GET", path, "", "").await
    }

    /// Requires that both have the same documents, all of them.
    async fn same_documents(&self, index: &str) -> usize {
        let (left, right) =
            (documents(&self.plain, index).await, documents(&self.miroir, index).await);
        assert_eq!(right, left);
        left.len()
    }

    async fn same_stats(&self, index: &str) {
        let path = format!("/indexes/{index}/stats");
        let pick = |stats: Value| {
            ["numberOfDocuments", "fieldDistribution", "numberOfEmbeddings", "isIndexing"]
                .map(|key| canonical(stats.get(key).unwrap_or(&Value::Null)))
        };
        let left = pick(self.plain.get(&path).await.expect(200));
        let right = pick(self.miroir.get(&path).await.expect(200));
        assert_eq!(right, left);
        let all = self.miroir.get("/stats").await.expect(200);
        assert_eq!(pick(all["indexes"][index].clone()), left);
    }

    async fn stop(self) {
        self.running.shutdown().await;
        for node in self.nodes {
            node.kill();
        }
        self.plain_node.kill();
    }
}

/// A value as text, keys in alphabetical order.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort();
            let parts: Vec<String> =
                keys.iter().map(|key| format!("{key:?}:{}", canonical(&map[*key]))).collect();
            format!("{{{}}}", parts.join(","))
        }
        Value::Array(list) => {
            format!("[{}]", list.iter().map(canonical).collect::<Vec<_>>().join(","))
        }
        other => other.to_string(),
    }
}

async fn documents(api: &Api, index: &str) -> Vec<String> {
    let found = api.get(&format!("/indexes/{index}/documents?limit=100000")).await.expect(200);
    let mut list: Vec<String> =
        found["results"].as_array().unwrap().iter().map(canonical).collect();
    assert_eq!(found["total"], list.len());
    list.sort();
    list
}

fn shapes() -> Vec<Plan> {
    vec![Plan::new(1, 1, 1, 1), Plan::new(16, 1, 3, 2), Plan::new(7, 2, 2, 1)]
}

#[tokio::test(flavor = "multi_thread")]
async fn indexes_and_documents_of_every_kind() {
    for plan in shapes() {
        let pair = plan.start().await;
        pair.json("POST", "/indexes", &json!({"uid": "books"})).await;
        pair.get("/indexes/books").await;
        pair.json("PATCH", "/indexes/books", &json!({"primaryKey": "isbn"})).await;
        pair.get("/indexes/books").await;
        pair.json("POST", "/indexes", &json!({"uid": "books"})).await;
        pair.json("POST", "/indexes", &json!({"uid": "not a uid"})).await;

        let mut rng = Rng(7);
        let mut list = corpus::documents(&mut rng, 60);
        for (at, document) in list.iter_mut().enumerate() {
            document["isbn"] = json!(format!("978-{at}"));
        }
        let docs = "/indexes/books/documents";
        pair.json("POST", docs, &json!(list)).await;
        assert_eq!(pair.same_documents("books").await, 60);
        pair.json("POST", docs, &json!({"isbn": 5, "title": "one object"})).await;
        pair.both(
            "POST",
            docs,
            "application/x-ndjson",
            "{\"isbn\":\"nd-1\",\"pages\":1.50}\n\n{\"isbn\":\"nd-2\",\"tags\":[\"a\",[]]}\n",
        )
        .await;
        pair.both(
            "POST",
            docs,
            "text/csv",
            "isbn,title,pages:number,new:boolean\ncsv-1,\"a, b\",12,true\ncsv-2,,,\n",
        )
        .await;
        pair.both(
            "POST",
            &format!("{docs}?csvDelimiter=%3B"),
            "text/csv",
            "isbn;title\ncsv-3;semicolons\n",
        )
        .await;
        pair.both("PUT", docs, "text/csv", "isbn,title\ncsv-1,changed\n").await;
        pair.json(
            "PUT",
            docs,
            &json!([{"isbn": "978-1", "pop": 77}, {"isbn": "new", "a": {"b": 1}}]),
        )
        .await;
        pair.json("PUT", docs, &json!({"isbn": "978-2", "title": null})).await;
        pair.same_documents("books").await;
        pair.same_stats("books").await;

        pair.json("DELETE", &format!("{docs}/978-3"), &Value::Null).await;
        pair.json("DELETE", &format!("{docs}/never-there"), &Value::Null).await;
        pair.json("POST", &format!("{docs}/delete-batch"), &json!(["978-4", 5, "978-5", "nobody"]))
            .await;
        pair.json("PUT", "/indexes/books/settings/filterable-attributes", &json!(["pop", "price"]))
            .await;
        pair.json("POST", &format!("{docs}/delete"), &json!({"filter": "pop > 2"})).await;
        assert!(pair.same_documents("books").await > 20);
        pair.same_stats("books").await;
        pair.both("DELETE", docs, "", "").await;
        assert_eq!(pair.same_documents("books").await, 0);
        pair.json("POST", docs, &json!([{"isbn": 1}])).await;
        assert_eq!(pair.same_documents("books").await, 1);

        // An index made by its first documents, with an inferred primary key.
        pair.json("POST", "/indexes/films/documents", &json!([{"film_id": 1}, {"film_id": 2}]))
            .await;
        pair.get("/indexes/films").await;
        pair.get("/indexes/films/documents/2").await;
        let listed = pair.miroir.get("/indexes").await.expect(200);
        assert_eq!(listed["total"], 2);
        pair.both("DELETE", "/indexes/books", "", "").await;
        pair.get("/indexes/books").await;
        pair.get(docs).await;
        pair.both("DELETE", "/indexes/books", "", "").await;
        pair.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_fail_as_on_one_node() {
    for plan in shapes() {
        let pair = plan.start().await;
        let long = "x".repeat(600);
        for (path, body) in [
            ("/indexes/a/documents", json!([{"id": "a b"}])),
            ("/indexes/a/documents?primaryKey=id", json!([{"id": 1}, {"id": "naïve"}, {"id": 3}])),
            ("/indexes/a/documents?primaryKey=id", json!([{"id": 1}, {"title": "no id"}])),
            ("/indexes/a/documents?primaryKey=id", json!([{"id": {"nested": 1}}])),
            ("/indexes/a/documents?primaryKey=id", json!([{"id": 1.5}])),
            ("/indexes/a/documents?primaryKey=id", json!([{"id": null}])),
            ("/indexes/a/documents?primaryKey=id", json!([{"id": long}])),
            ("/indexes/b/documents", json!([{"title": "nothing like a key"}])),
            ("/indexes/c/documents", json!([{"a_id": 1, "b_id": 2}])),
            ("/indexes/d/documents", json!([])),
            ("/indexes/e/documents", json!("text")),
            ("/indexes/e/documents", json!({"id": 1})),
            ("/indexes/e/documents?primaryKey=other", json!({"id": 2, "other": 2})),
            ("/indexes/e/documents", json!([{"id": 4, "_geo": {"lat": 1, "lng": 2}}])),
        ] {
            pair.json("POST", path, &body).await;
        }
        pair.both("POST", "/indexes/e/documents", "application/json", "[{\"id\": 1,").await;
        pair.both("POST", "/indexes/e/documents", "application/json", "").await;
        pair.both("POST", "/indexes/e/documents", "text/plain", "hello").await;
        pair.both("POST", "/indexes/e/documents", "application/x-ndjson", "{\"id\":1}\n{oops\n")
            .await;
        pair.both("POST", "/indexes/e/documents", "text/csv", "id,title\n1\n").await;
        assert_eq!(pair.same_documents("e").await, 2);
        pair.json("PUT", "/indexes/e/settings/filterable-attributes", &json!(["_geo"])).await;
        pair.json(
            "POST",
            "/indexes/e/documents",
            &json!([{"id": 9, "_geo": {"lat": 100, "lng": 2}}]),
        )
        .await;
        pair.json("POST", "/indexes/e/documents", &json!([{"id": 9, "_geo": "here"}])).await;
        pair.json("POST", "/indexes/e/documents/delete", &json!({"filter": "unknown = 1"})).await;
        pair.json("POST", "/indexes/e/documents/delete", &json!({"filter": "id >"})).await;
        pair.json("POST", "/indexes/nowhere/documents/delete-batch", &json!([1])).await;
        pair.json("PATCH", "/indexes/e", &json!({"primaryKey": "other"})).await;
        pair.json("PATCH", "/indexes/nowhere", &json!({"primaryKey": "id"})).await;
        pair.same_documents("e").await;
        pair.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_whole_and_one_by_one() {
    let pair = Plan::new(16, 1, 3, 2).start().await;
    let settings = "/indexes/books/settings";
    pair.json("POST", "/indexes", &json!({"uid": "books", "primaryKey": "id"})).await;
    pair.get(settings).await;
    let mut rng = Rng(3);
    for _ in 0..4 {
        pair.json("PATCH", settings, &corpus::settings(&mut rng)).await;
        pair.get(settings).await;
    }
    for (name, verb, value) in [
        ("displayed-attributes", "PUT", json!(["id", "title"])),
        ("searchable-attributes", "PUT", json!(["title"])),
        ("filterable-attributes", "PUT", json!(["price", "genre"])),
        ("sortable-attributes", "PUT", json!(["price"])),
        ("ranking-rules", "PUT", json!(["words", "price:asc"])),
        ("stop-words", "PUT", json!(["the"])),
        ("non-separator-tokens", "PUT", json!(["#"])),
        ("separator-tokens", "PUT", json!(["&sep"])),
        ("dictionary", "PUT", json!(["J. R. R."])),
        ("synonyms", "PUT", json!({"a": ["b", "c"]})),
        ("distinct-attribute", "PUT", json!("genre")),
        ("proximity-precision", "PUT", json!("byAttribute")),
        ("typo-tolerance", "PATCH", json!({"enabled": false})),
        ("faceting", "PATCH", json!({"maxValuesPerFacet": 7})),
        ("pagination", "PATCH", json!({"maxTotalHits": 12})),
        ("search-cutoff-ms", "PUT", json!(900)),
        ("facet-search", "PUT", json!(false)),
        ("prefix-search", "PUT", json!("disabled")),
    ] {
        let path = format!("{settings}/{name}");
        pair.get(&path).await;
        pair.json(verb, &path, &value).await;
        pair.get(&path).await;
        pair.json(verb, &path, &json!([{"wrong": 1}])).await;
    }
    pair.get(settings).await;
    pair.both("DELETE", &format!("{settings}/faceting"), "", "").await;
    pair.both("DELETE", &format!("{settings}/displayed-attributes"), "", "").await;
    pair.both("DELETE", &format!("{settings}/filterable-attributes"), "", "").await;
    pair.get(settings).await;
    pair.json("PATCH", settings, &json!({"rankingRules": ["nonsense"]})).await;
    pair.json("PATCH", settings, &json!({"unknownSetting": 1})).await;
    pair.both("DELETE", settings, "", "").await;
    pair.get(settings).await;
    // The reset must not have taken away what Miroir itself needs.
    let mut rng = Rng(5);
    pair.json("POST", "/indexes/books/documents", &json!(corpus::documents(&mut rng, 50))).await;
    assert_eq!(pair.same_documents("books").await, 50);
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn statistics_count_every_document_once() {
    for plan in [Plan::new(16, 1, 3, 2), Plan::new(8, 2, 2, 1), Plan::new(8, 2, 2, 2)] {
        let pair = plan.start().await;
        let mut rng = Rng(11);
        let list = corpus::documents(&mut rng, 90);
        pair.json("POST", "/indexes/books/documents?primaryKey=id", &json!(list)).await;
        pair.same_stats("books").await;
        let gone: Vec<Value> = list.iter().step_by(4).map(|doc| doc["id"].clone()).collect();
        pair.json("POST", "/indexes/books/documents/delete-batch", &json!(gone)).await;
        pair.json("PUT", "/indexes/books/documents", &json!([{"id": 1, "brand": "new"}])).await;
        pair.same_stats("books").await;
        pair.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn facet_counts_are_exact_where_nodes_cut_their_lists() {
    let mut plan = Plan::new(16, 1, 3, 1);
    plan.options.faceting.node_max_values = 3;
    let pair = plan.start().await;
    let index = "/indexes/books";
    // 30 values of five or six documents each, and one of seven: no node's own first ten are sure
    // to have it.
    let mut list = Vec::new();
    for value in 0..30 {
        for _ in 0..5 + value % 2 + usize::from(value == 13) {
            list.push(json!({"id": list.len(), "tag": format!("t{value:02}")}));
        }
    }
    pair.json("POST", &format!("{index}/documents?primaryKey=id"), &json!(list)).await;
    pair.json(
        "PATCH",
        &format!("{index}/settings"),
        &json!({"filterableAttributes": ["tag"],
                "faceting": {"maxValuesPerFacet": 1, "sortFacetValuesBy": {"*": "count"}}}),
    )
    .await;
    let query = json!({"facets": ["tag"], "limit": 1});
    let mut cut = 0;
    for node in &pair.nodes {
        let found = Api::node(node).search("books", &query).await.expect(200);
        let values = found["facetDistribution"]["tag"].as_object().unwrap().clone();
        assert_eq!(values.len(), 10, "a node lists ten times what the client sees");
        cut += usize::from(!values.contains_key("t13"));
    }
    let (left, right) =
        (pair.plain.search("books", &query).await, pair.miroir.search("books", &query).await);
    let (left, right) = (left.expect(200), right.expect(200));
    assert_eq!(left["facetDistribution"], json!({"tag": {"t13": 7}}));
    assert_eq!(right["facetDistribution"], left["facetDistribution"]);
    assert!(cut > 0, "some node leaves the winner out, or this test tests nothing");
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_miroirs_own_is_never_seen() {
    let pair = Plan::new(16, 1, 2, 2).start().await;
    let mut rng = Rng(2);
    let list = corpus::documents(&mut rng, 40);
    pair.json("POST", "/indexes/books/documents?primaryKey=id", &json!(list)).await;
    let clean = |what: &str, answer: &Answer| {
        let text = format!("{} {:?}", answer.body, answer.headers);
        assert!(!text.contains("_miroir"), "{what}: {text}");
        assert!(!text.contains(|c| ('\u{e000}'..'\u{f8ff}').contains(&c)), "{what}: {text}");
    };
    for filterable in [json!([]), json!(["price", "genre"])] {
        let path = "/indexes/books/settings/filterable-attributes";
        pair.json("PUT", path, &filterable).await;
        for query in [
            json!({"facets": ["*"], "attributesToHighlight": ["*"], "showMatchesPosition": true,
                   "attributesToCrop": ["*"], "showRankingScoreDetails": true, "limit": 100}),
            json!({"q": "sun", "attributesToRetrieve": ["*"], "attributesToHighlight": ["*"]}),
            json!({"filter": "nothing = 1"}),
            json!({"facets": ["nothing"]}),
            json!({"sort": ["nothing:asc"]}),
            json!({"distinct": "nothing"}),
        ] {
            let answer = pair.miroir.search("books", &query).await;
            clean(&query.to_string(), &answer);
            let oracle = pair.plain.search("books", &query).await;
            if oracle.status != 200 {
                assert_eq!(steady(&answer), steady(&oracle), "{query}");
            }
        }
        // Who names a reserved attribute is answered as if there were none.
        for query in [
            json!({"filter": "_miroir_shard = x"}),
            json!({"facets": ["_miroir_shard"]}),
            json!({"sort": ["_miroir_shard:asc"]}),
            json!({"distinct": "_miroir_shard"}),
            json!({"attributesToRetrieve": ["_miroir_shard", "id"], "limit": 3, "sort": []}),
        ] {
            let left = pair.plain.search("books", &query).await;
            let right = pair.miroir.search("books", &query).await;
            assert_eq!(right.status, left.status, "{query}: {}", right.body);
            if left.status == 200 {
                clean(&query.to_string(), &right);
            } else {
                assert_eq!(steady(&right), steady(&left), "{query}");
            }
        }
        for path in [
            "/indexes/books/documents?limit=1000",
            "/indexes/books/documents/1",
            "/indexes/books/documents/1?fields=*",
            "/indexes/books/stats",
            "/stats",
            "/indexes/books/settings",
            "/indexes/books/settings/filterable-attributes",
            "/indexes/books",
            "/indexes",
            "/tasks",
        ] {
            clean(path, &pair.miroir.get(path).await);
        }
        for body in [json!({"filter": "nothing = 1"}), json!({"sort": ["nothing:asc"]})] {
            let answer = pair.miroir.json("POST", "/indexes/books/documents/fetch", &body).await;
            clean(&body.to_string(), &answer);
        }
    }
    pair.json("PUT", "/indexes/books/settings/displayed-attributes", &json!(["id", "title"])).await;
    let query = json!({"limit": 100, "attributesToHighlight": ["*"]});
    let found = pair.miroir.search("books", &query);
    let found = found.await.expect(200);
    for hit in found["hits"].as_array().unwrap() {
        for object in [hit, &hit["_formatted"]] {
            let extra = object.as_object().unwrap().keys();
            let extra = extra.filter(|k| !["id", "title", "_formatted"].contains(&k.as_str()));
            assert_eq!(extra.count(), 0, "{hit}");
        }
    }
    pair.stop().await;
}
