//! Facet values that are spelt in several ways, numbers beside strings that are written like them, and
//! distinct hits by them: counted over shards as by one node that holds every document.

use miroir_control::Miroir;
use miroir_core::merge::FacetValue;
use serde_json::{Value, json};

use crate::support::real::{self, Node, nodes};
use crate::support::{Api, KEY};

const SPELLINGS: &[&[&str]] = &[
    &["Drama", "DRAMA", " drama "],
    &["Café", "CAFÉ", "Cafe\u{301}"],
    &["Part Ⅱ", "part ii"],
    &["ｗｉｄｅ", "Wide"],
];

/// One node with every document, and the same over 16 shards on the others.
struct Pair {
    plain: Api,
    sharded: Api,
    _nodes: Vec<Node>,
    miroir: Miroir,
}

fn documents() -> Vec<Value> {
    let long = ["ab ".repeat(157), "Éé ".repeat(80)];
    (0..240_usize)
        .map(|n| {
            let spellings = SPELLINGS[n / 3 % SPELLINGS.len()];
            let text = spellings[n / 12 % spellings.len()];
            let cut = format!("{}{}", long[n % 2], n / 2 % 5);
            let mixed = match n % 9 {
                0 => json!(5),
                1 | 2 => json!("5"),
                3 => json!(7.5),
                4 => json!("7.5"),
                5 => json!(n % 2 == 0),
                6 => json!("True"),
                7 => json!("5.0"),
                _ => json!(8),
            };
            // Each page is of one site, but a few that have none.
            let site = (n % 17 > 0).then(|| format!("{}{}", spellings[n % 2], n % 23));
            json!({"id": n, "n": n, "text": text, "cut": cut, "mixed": mixed, "site": site,
                   "tags": [text, cut, n % 4], "title": format!("page {}", n % 5)})
        })
        .collect()
}

impl Pair {
    async fn start() -> Self {
        let nodes = nodes(4).await;
        let mut builder = Miroir::builder().node_key(KEY).shards(16).replication_factor(1);
        for (at, node) in nodes.iter().enumerate().skip(1) {
            builder = builder.node(&format!("node-{at}"), &node.url(), 0);
        }
        let miroir = builder.build().await.unwrap();
        miroir.spawn_workers();
        let (plain, sharded) = (Api::at(nodes[0].url()), Api::miroir(&miroir));
        let settings = json!({
            "filterableAttributes": ["text", "cut", "mixed", "tags", "n"],
            "sortableAttributes": ["n"],
        });
        for api in [&plain, &sharded] {
            api.succeed("PATCH", "/indexes/pages/settings", &settings).await;
            api.succeed("POST", "/indexes/pages/documents", &json!(documents())).await;
        }
        Self { plain, sharded, _nodes: nodes, miroir }
    }

    /// What both answer, facet values in their order and by their normal form or as they are spelt.
    async fn ask(&self, path: &str, body: &Value, spelt: bool) -> [Value; 2] {
        let normal = |text: &str| format!("{:?}", FacetValue::text(text));
        let value = |text: &str| if spelt { text.to_owned() } else { normal(text) };
        let mut answers = [Value::Null, Value::Null];
        for (api, answer) in [&self.sharded, &self.plain].into_iter().zip(&mut answers) {
            *answer = api.json("POST", path, body).await.expect(200);
            let object = answer.as_object_mut().unwrap();
            object.retain(|key, _| key != "processingTimeMs" && key != "requestUid");
            for (_, values) in object
                .get_mut("facetDistribution")
                .and_then(Value::as_object_mut)
                .into_iter()
                .flatten()
            {
                let counts = values.as_object().unwrap().iter();
                *values = counts.map(|(text, count)| json!([value(text), count])).collect();
            }
            for hit in
                object.get_mut("facetHits").and_then(Value::as_array_mut).into_iter().flatten()
            {
                let text = hit["value"].as_str().unwrap();
                hit["value"] = value(text).into();
            }
        }
        answers
    }

    async fn same(&self, path: &str, body: &Value) {
        let [sharded, plain] = self.ask(path, body, false).await;
        assert_eq!(sharded, plain, "{path} {body}");
    }

    /// The spelling is that of the document that came first on both.
    async fn same_to_the_letter(&self, path: &str, body: &Value) {
        let [sharded, plain] = self.ask(path, body, true).await;
        assert_eq!(sharded, plain, "{path} {body}");
    }
}

const SEARCH: &str = "/indexes/pages/search";

#[tokio::test(flavor = "multi_thread")]
async fn values_are_counted_by_their_normal_form() {
    let pair = Pair::start().await;
    for (q, filter) in [("", "n >= 0"), ("page 3", "n > 40"), ("", "mixed = 5 OR text = DRAMA")] {
        for facets in [json!(["text", "cut"]), json!(["mixed"]), json!(["tags", "mixed"])] {
            pair.same_to_the_letter(
                SEARCH,
                &json!({"q": q, "filter": filter, "facets": facets, "limit": 0}),
            )
            .await;
        }
    }
    for (facet, query) in
        [("text", "dr"), ("text", ""), ("cut", "ab"), ("mixed", "5"), ("tags", "éé")]
    {
        let body = json!({"facetName": facet, "facetQuery": query});
        pair.same_to_the_letter("/indexes/pages/facet-search", &body).await;
    }
    for order in ["alpha", "count"] {
        let faceting =
            json!({"faceting": {"maxValuesPerFacet": 3, "sortFacetValuesBy": {"*": order}}});
        for api in [&pair.plain, &pair.sharded] {
            api.succeed("PATCH", "/indexes/pages/settings", &faceting).await;
        }
        for facets in [json!(["text", "cut"]), json!(["mixed"]), json!(["tags", "mixed"])] {
            pair.same_to_the_letter(
                SEARCH,
                &json!({"facets": facets, "limit": 0, "filter": "n < 230"}),
            )
            .await;
        }
    }
    pair.miroir.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_of_one_index_count_values_by_their_normal_form() {
    let pair = Pair::start().await;
    let body = json!({
        "federation": {"limit": 0, "facetsByIndex": {"pages": ["mixed", "text", "tags"]},
                       "mergeFacets": {}},
        "queries": [{"indexUid": "pages", "q": "page 1"}, {"indexUid": "pages", "filter": "n < 90"}],
    });
    if real::binary().is_some() {
        pair.same_to_the_letter("/multi-search", &body).await;
    } else {
        // The engine's nodes have no federated searches.
        pair.plain.json("POST", "/multi-search", &body).await.expect(400);
    }
    pair.miroir.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn distinct_hits_are_told_apart_by_the_normal_form() {
    let pair = Pair::start().await;
    for distinct in ["text", "cut", "mixed"] {
        for page in [
            json!({"limit": 3}),
            json!({"limit": 100}),
            json!({"offset": 2, "limit": 2, "facets": ["mixed", "text"]}),
            json!({"hitsPerPage": 4, "page": 2}),
            json!({"hitsPerPage": 3, "facets": [distinct]}),
        ] {
            let mut body = json!({"distinct": distinct, "sort": ["n:asc"], "q": "page"});
            body.as_object_mut().unwrap().extend(page.as_object().cloned().unwrap());
            pair.same(SEARCH, &body).await;
        }
    }
    for limit in [1, 4, 200] {
        let body = json!({"distinct": "tags", "sort": ["n:asc"], "limit": limit});
        pair.same(SEARCH, &body).await;
    }
    pair.miroir.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attribute_that_is_not_filterable_tells_hits_apart() {
    let pair = Pair::start().await;
    for api in [&pair.plain, &pair.sharded] {
        let setting = json!({"distinctAttribute": "site"});
        api.succeed("PATCH", "/indexes/pages/settings", &setting).await;
    }
    for page in [
        json!({"limit": 3}),
        json!({"limit": 100, "facets": ["text", "mixed"]}),
        json!({"offset": 5, "limit": 5, "facets": ["tags", "cut", "n"]}),
        json!({"hitsPerPage": 4, "page": 2}),
        json!({"hitsPerPage": 0}),
    ] {
        for q in ["", "page 2", "nothing at all"] {
            let mut body = json!({"q": q, "sort": ["n:asc"]});
            body.as_object_mut().unwrap().extend(page.as_object().cloned().unwrap());
            pair.same(SEARCH, &body).await;
        }
    }
    // It stays so for clients.
    let settings = pair.sharded.get("/indexes/pages/settings").await.expect(200);
    assert_eq!(settings["filterableAttributes"], json!(["text", "cut", "mixed", "tags", "n"]));
    for body in
        [json!({"filter": "site = x"}), json!({"facets": ["site"]}), json!({"distinct": "site"})]
    {
        let refused = pair.sharded.search("pages", &body).await.expect(400);
        assert_eq!(refused, pair.plain.search("pages", &body).await.expect(400), "{body}");
    }
    pair.miroir.shutdown().await;
}
