//! Attributes of Miroir's own are, for clients, attributes that do not exist: whatever names one is
//! answered by Miroir as a node answers it of a name that nothing has, and acts on nothing.

use miroir_control::Miroir;
use miroir_pipeline::ClusterOptions;
use serde_json::{Value, json};

use crate::support::{Api, KEY, real};

/// What stands for a reserved name in a template: `%shard`, `%order`, ….
const NAMES: [&str; 4] = ["shard", "order", "updated_at", "expires_at"];
/// As long as the real one, so that places in texts are the same.
const OTHER: &str = "_mirror_";
const OURS: &str = "_miroir_";
/// Members that differ from one answer to the next.
const VARYING: [&str; 9] = [
    "processingTimeMs",
    "requestUid",
    "taskUid",
    "uid",
    "batchUid",
    "enqueuedAt",
    "startedAt",
    "finishedAt",
    "duration",
];

const FILTERS: &[&str] = &[
    "% = 1",
    "% != 1",
    "% EXISTS",
    "% NOT EXISTS",
    "NOT % EXISTS",
    "% IS NULL",
    "% IS NOT NULL",
    "% IS EMPTY",
    "% IN [1, 2]",
    "% NOT IN [1, 2]",
    "'%' = 1",
    "\\\"%\\\" = 1",
    "% > 1",
    "% 1 TO 4",
    "n = 1 AND % = 2",
    "n = 1 OR NOT % EXISTS",
    "n = '%'",
    "n IN [%, 1]",
    "t = %",
    "%.x = 1",
    "% = %",
    "% =",
    "(% = 1",
    "\\u0025 = 1",
];

/// Bodies of searches, beside one for every filter.
const SEARCHES: &[&str] = &[
    r#"{"sort": ["%:asc"]}"#,
    r#"{"sort": ["n:asc", "%:desc"]}"#,
    r#"{"sort": ["%"]}"#,
    r#"{"facets": ["%"]}"#,
    r#"{"facets": ["n", "%"]}"#,
    r#"{"distinct": "%"}"#,
    r#"{"attributesToRetrieve": ["id", "%"], "sort": ["n:asc"]}"#,
    r#"{"attributesToHighlight": ["%"], "q": "word1"}"#,
    r#"{"attributesToCrop": ["%:3"], "q": "word1"}"#,
    r#"{"attributesToSearchOn": ["%"], "q": "word1"}"#,
    r#"{"attributesToSearchOn": ["t", "%"], "q": "word1"}"#,
    r#"{"q": "%"}"#,
];

#[derive(Debug)]
struct Pair {
    miroir: Api,
    plain: Api,
}

fn normal(mut body: Value) -> Value {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(object) => {
                for key in VARYING {
                    object.shift_remove(key);
                }
                object.values_mut().for_each(strip);
            }
            Value::Array(list) => {
                list.iter_mut().for_each(strip);
                // Ties come in an order of Miroir's own; all documents are on every page here.
                if list.iter().all(|member| member["id"].is_number()) {
                    list.sort_by_key(|member| member["id"].as_u64());
                }
            }
            _ => {}
        }
    }
    strip(&mut body);
    serde_json::from_str(&body.to_string().replace(OTHER, OURS)).unwrap()
}

impl Pair {
    /// Sends both the same request, but for the names; tasks are waited for.
    async fn same(&self, method: &str, path: &str, template: &str) {
        for name in NAMES {
            let mut said = Vec::new();
            for (api, prefix) in [(&self.plain, OTHER), (&self.miroir, OURS)] {
                let name = format!("{prefix}{name}");
                let body = template.replace("\\u0025", &name.replacen('_', "\\u005f", 1));
                let body = body.replace('%', &name);
                let path = path.replace('$', &name);
                let media = if body.is_empty() { "" } else { "application/json" };
                let answer = api.raw(method, &path, media, &body).await;
                let mut all = vec![json!(answer.status), normal(answer.body.clone())];
                if let Some(task) = answer.body["taskUid"].as_u64() {
                    all.push(normal(api.wait(task).await));
                }
                said.push(Value::from(all));
            }
            assert_eq!(said[1], said[0], "{method} {path} {template} {name}");
        }
    }

    async fn both(&self, method: &str, path: &str, body: &Value) {
        for api in [&self.plain, &self.miroir] {
            api.succeed(method, path, body).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reserved_attributes_do_not_exist_for_clients() {
    let nodes = real::nodes(3).await;
    let single = real::nodes(1).await;
    let mut builder = Miroir::builder()
        .node_key(KEY)
        .options(ClusterOptions { shards: 8, ..ClusterOptions::default() });
    for (at, node) in nodes.iter().enumerate() {
        builder = builder.node(&format!("node-{at}"), &node.url(), 0);
    }
    let running = builder.build().await.unwrap();
    running.spawn_workers();
    let pair = Pair { miroir: Api::miroir(&running), plain: Api::at(single[0].url()) };

    let documents: Value =
        (0..20).map(|n| json!({"id": n, "t": format!("word{}", n % 7), "n": n})).collect();
    let patterns = json!([{"attributePatterns": ["*"], "features": {"facetSearch": true, "filter": {"equality": true, "comparison": true}}}]);
    for (index, filterable) in [("named", json!(["n", "t"])), ("patterns", patterns)] {
        pair.both("POST", "/indexes", &json!({"uid": index, "primaryKey": "id"})).await;
        let settings = json!({"filterableAttributes": filterable, "sortableAttributes": ["n"]});
        pair.both("PATCH", &format!("/indexes/{index}/settings"), &settings).await;
        pair.both("POST", &format!("/indexes/{index}/documents"), &documents).await;
        let at = |rest: &str| format!("/indexes/{index}/{rest}");
        for filter in FILTERS {
            let with = |more: &str| format!(r#"{{"filter": "{filter}"{more}}}"#);
            pair.same("POST", &at("search"), &with(r#", "sort": ["n:asc"]"#)).await;
            pair.same("POST", &at("documents/fetch"), &with(r#", "ids": [1, 2]"#)).await;
            pair.same("POST", &at("facet-search"), &with(r#", "facetName": "t""#)).await;
            let list = format!(r#"{{"filter": ["n < 5", ["{filter}"]], "sort": ["n:asc"]}}"#);
            pair.same("POST", &at("search"), &list).await;
            let query = with(&format!(r#", "indexUid": "{index}", "limit": 0"#));
            pair.same("POST", "/multi-search", &format!(r#"{{"queries": [{query}]}}"#)).await;
        }
        for search in SEARCHES {
            pair.same("POST", &at("search"), search).await;
            let query = search.replacen('{', &format!(r#"{{"indexUid": "{index}", "#), 1);
            pair.same("POST", "/multi-search", &format!(r#"{{"queries": [{query}]}}"#)).await;
        }
        for query in [
            "filter=$%20EXISTS&sort=n:asc",
            "filter=%5B%22$%20%3D%201%22%5D",
            "sort=$:asc",
            "sort=n:asc,$:desc",
            "facets=$",
            "distinct=$",
            "attributesToRetrieve=id,$&sort=n:asc",
        ] {
            pair.same("GET", &at(&format!("search?{query}")), "").await;
        }
        pair.same("POST", &at("facet-search"), r#"{"facetName": "%"}"#).await;
        pair.same("GET", &at("documents?ids=1&fields=id,$"), "").await;
        pair.same("GET", &at("documents?ids=1&filter=$%20NOT%20EXISTS"), "").await;
        for filter in ["% = 1", "% EXISTS", "% IN [0, 1]", "'%' > 0", "n > 90 AND % EXISTS"] {
            let body = format!(r#"{{"filter": "{filter}"}}"#);
            pair.same("POST", &at("documents/delete"), &body).await;
        }
        // What a client calls so is its own, however little comes of it.
        for settings in [
            r#"{"filterableAttributes": ["n", "%"]}"#,
            r#"{"sortableAttributes": ["n", "%"]}"#,
            r#"{"displayedAttributes": ["id", "%"]}"#,
            r#"{"faceting": {"sortFacetValuesBy": {"%": "count"}}}"#,
            r#"{"typoTolerance": {"disableOnAttributes": ["%"]}}"#,
        ] {
            pair.same("PATCH", &at("settings"), settings).await;
            pair.same("GET", &at("settings"), "").await;
            pair.same("POST", &at("search"), r#"{"filter": "% EXISTS", "sort": ["n:asc"]}"#).await;
            pair.same("POST", &at("search"), r#"{"facets": ["%"], "limit": 0}"#).await;
        }
        pair.same("GET", &at("documents?limit=0"), "").await;
    }
    running.shutdown().await;
}
