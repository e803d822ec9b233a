//! Several searches in one request, and searches of facet values, against one plain node.
//!
//! These tests use the in-process engine, which has no vectors and no federated search; those are
//! compared with real nodes by the conformance kit. A federation of one query needs no node's help
//! and is tested here.

use miroir_control::Miroir;
use serde_json::{Value, json};

use crate::support::{Api, KEY, nodes};

/// A plain node and Miroir over three others, with the same two indexes.
async fn pair() -> (Vec<miroir_engine::EngineNode>, Miroir, Api, Api) {
    let all = nodes(4).await;
    let mut builder = Miroir::builder().node_key(KEY).shards(8).replication_factor(2);
    for (at, node) in all.iter().take(3).enumerate() {
        builder = builder.node(&format!("node-{at}"), &node.url(), 0);
    }
    let miroir = builder.build().await.unwrap();
    miroir.spawn_workers();
    let (plain, cluster) = (Api::node(&all[3]), Api::miroir(&miroir));
    for api in [&plain, &cluster] {
        for (index, noun) in [("tools", "hammer"), ("toys", "bear")] {
            let settings = json!({
                "filterableAttributes": ["kind", "size"], "sortableAttributes": ["id"],
                "faceting": {"maxValuesPerFacet": 4},
            });
            api.succeed("PATCH", &format!("/indexes/{index}/settings"), &settings).await;
            let documents: Vec<Value> = (0..60)
                .map(|id| {
                    let kind = ["Iron", "iron", "Wood", "Paper", "Glass", "Ink"][id % 6];
                    json!({"id": id, "kind": kind, "size": id % 7, "name": format!("{noun} number {id}")})
                })
                .collect();
            let path = format!("/indexes/{index}/documents?primaryKey=id");
            api.succeed("POST", &path, &json!(documents)).await;
        }
    }
    (all, miroir, plain, cluster)
}

/// Leaves out what is different on every call.
fn settled(mut value: Value) -> Value {
    if let Some(results) = value["results"].as_array_mut() {
        *results = results.drain(..).map(settled).collect();
    }
    for key in ["processingTimeMs", "requestUid"] {
        if let Some(members) = value.as_object_mut() {
            members.shift_remove(key);
        }
    }
    value
}

#[tokio::test(flavor = "multi_thread")]
async fn every_query_is_answered_as_alone_and_in_order() {
    let (_nodes, _miroir, plain, cluster) = pair().await;
    let query = |index: &str, q: &str, limit: usize| {
        json!({"indexUid": index, "q": q, "sort": ["id:asc"], "limit": limit, "facets": ["size"],
               "showRankingScore": true})
    };
    let queries: Vec<Value> = (0..40)
        .map(|at| {
            let index = ["tools", "toys"][at % 2];
            query(index, ["hammer", "bear", "number", "", "nothing"][at % 5], at)
        })
        .collect();
    for body in [
        json!({"queries": []}),
        json!({"queries": [], "federation": null}),
        json!({"queries": queries}),
        json!({"queries": [{"indexUid": "toys", "q": "number", "filter": "size = 3", "page": 2,
                            "hitsPerPage": 3, "sort": ["id:desc"]}]}),
    ] {
        let expected = plain.json("POST", "/multi-search", &body).await.expect(200);
        let actual = cluster.json("POST", "/multi-search", &body).await.expect(200);
        assert_eq!(settled(actual), settled(expected), "{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_failing_query_is_the_answer() {
    let (_nodes, _miroir, plain, cluster) = pair().await;
    for body in [
        json!({"queries": [{"indexUid": "tools"}, {"indexUid": "nowhere"}, {"indexUid": "toys"}]}),
        json!({"queries": [{"indexUid": "tools"}, {"indexUid": "toys", "filter": "name = a"}]}),
        json!({"queries": [{"indexUid": "toys", "sort": ["name:asc"]}, {"indexUid": "nowhere"}]}),
    ] {
        let expected = plain.json("POST", "/multi-search", &body).await.expect(400);
        let actual = cluster.json("POST", "/multi-search", &body).await.expect(400);
        assert_eq!(actual["code"], expected["code"], "{body}");
        let message = |value: &Value| value["message"].as_str().unwrap().to_owned();
        assert!(message(&actual).starts_with("Inside `.queries["), "{actual}");
        // Nodes may know fewer filterable attributes by another order of their names.
        assert_eq!(message(&actual)[..20], message(&expected)[..20], "{body}");
        assert!(!message(&actual).contains("_miroir"), "{actual}");
    }
    let many: Vec<Value> = (0..2_001).map(|_| json!({"indexUid": "tools"})).collect();
    let refused = cluster.json("POST", "/multi-search", &json!({"queries": many})).await;
    assert_eq!(refused.expect(400)["code"], "miroir_too_many_queries");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_federation_of_one_query_is_that_query() {
    let (_nodes, _miroir, plain, cluster) = pair().await;
    let query = json!({"q": "number", "sort": ["id:desc"], "filter": "size < 4"});
    let mut alone = query.clone();
    alone["limit"] = 5.into();
    alone["offset"] = 2.into();
    alone["facets"] = json!(["size"]);
    let expected = plain.search("toys", &alone).await.expect(200);
    let mut federated = query.clone();
    federated["indexUid"] = "toys".into();
    federated["federationOptions"] = json!({"weight": 0.5});
    let body = json!({"queries": [federated],
                      "federation": {"limit": 5, "offset": 2, "facetsByIndex": {"toys": ["size"]}}});
    let actual = cluster.json("POST", "/multi-search", &body).await.expect(200);
    let ids = |value: &Value| -> Vec<Value> {
        value["hits"].as_array().unwrap().iter().map(|hit| hit["id"].clone()).collect()
    };
    assert_eq!(ids(&actual), ids(&expected));
    assert_eq!(actual["estimatedTotalHits"], expected["estimatedTotalHits"]);
    let facets = &actual["facetsByIndex"]["toys"];
    assert_eq!(facets["distribution"], expected["facetDistribution"]);
    assert_eq!(facets["stats"], expected["facetStats"]);
    let federation = &actual["hits"][0]["_federation"];
    assert_eq!(
        (&federation["indexUid"], &federation["queriesPosition"]),
        (&json!("toys"), &json!(0))
    );
    assert!(federation["weightedRankingScore"].as_f64().unwrap() <= 0.5);
    assert!(!actual.to_string().contains("_rankingScore"), "{actual}");
}

#[tokio::test(flavor = "multi_thread")]
async fn facet_values_are_counted_over_all_shards() {
    let (_nodes, _miroir, plain, cluster) = pair().await;
    for body in [
        json!({"facetName": "kind"}),
        json!({"facetName": "kind", "facetQuery": "i"}),
        json!({"facetName": "kind", "facetQuery": "wod", "filter": "size > 2"}),
        json!({"facetName": "kind", "q": "hammer", "facetQuery": "g"}),
        json!({"facetName": "size"}),
    ] {
        let expected = plain.json("POST", "/indexes/tools/facet-search", &body).await.expect(200);
        let actual = cluster.json("POST", "/indexes/tools/facet-search", &body).await.expect(200);
        // A value is spelt as the first document does that has it: "Iron" or "iron".
        assert_eq!(actual["facetHits"], expected["facetHits"], "{body}");
        assert_eq!(actual["facetQuery"], expected["facetQuery"]);
    }
    for (body, status) in [
        (json!({"facetName": "name"}), 400),
        (json!({}), 400),
        (json!({"facetName": "_miroir_shard"}), 400),
    ] {
        let expected = plain.json("POST", "/indexes/tools/facet-search", &body).await;
        let actual = cluster.json("POST", "/indexes/tools/facet-search", &body).await;
        assert_eq!((actual.status, expected.status), (status, status), "{body}");
        assert_eq!(actual.body["code"], expected.body["code"], "{body}");
    }
    assert_eq!(
        cluster.json("POST", "/indexes/none/facet-search", &json!({"facetName": "a"})).await.status,
        404
    );
}
