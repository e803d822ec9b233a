//! Search rules over simulated nodes: every node has every rule, whatever happened to it.

use std::time::Duration;

use http::Method;
use miroir_core::quorum::WriteQuorum;
use miroir_test::cluster::{Answer, Shape, SimCluster};
use miroir_test::faults::Fault;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

const RULE: &str = "/dynamic-search-rules/first";

async fn cluster(seed: u64) -> SimCluster {
    let quorum = WriteQuorum::Auto;
    let shape = Shape { shards: 6, groups: 1, rf: 2, nodes_per_group: 3, quorum };
    let cluster = SimCluster::new(seed, shape).await;
    let on = Some(json!({"dynamicSearchRules": true}));
    let answer = cluster.request(Method::PATCH, "/experimental-features", on).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    for name in ["a", "b"] {
        must(&cluster, Method::POST, "/indexes", Some(json!({"uid": name}))).await;
    }
    cluster
}

async fn must(cluster: &SimCluster, method: Method, path: &str, body: Option<Value>) -> Answer {
    let answer = cluster.request(method, path, body).await;
    assert_eq!(answer.status, 202, "{path}: {answer:?}");
    let task = answer.body["taskUid"].as_u64().unwrap();
    let status = cluster.wait(task, Duration::from_secs(30)).await;
    assert_eq!(status.as_deref(), Some("succeeded"), "{path}");
    answer
}

fn pins(index: &str) -> Value {
    json!([{"selector": {"indexUid": index, "id": "1"}, "action": {"type": "pin", "position": 0}}])
}

/// Waits until every node has this rule and no other, or none at all.
async fn everywhere(cluster: &SimCluster, rule: Option<(&str, &Value)>) {
    let end = Instant::now() + Duration::from_mins(1);
    let fits = || {
        cluster.nodes.iter().all(|node| {
            node.inspect(|disk| {
                disk.rules.len() == usize::from(rule.is_some())
                    && rule.is_none_or(|(name, value)| {
                        disk.rules.get("first").is_some_and(|own| own[name] == *value)
                    })
            })
        })
    };
    while !fits() {
        let rules: Vec<_> =
            cluster.nodes.iter().map(|node| node.inspect(|disk| disk.rules.clone())).collect();
        assert!(Instant::now() < end, "waited in vain for {rule:?}: {rules:?}");
        sleep(Duration::from_millis(50)).await;
    }
}

fn end(cluster: &SimCluster) {
    cluster.life().end();
    cluster.miroir().cluster.state.stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_away_gets_what_it_missed() {
    let cluster = cluster(1).await;
    let rule = json!({"description": "one", "actions": pins("a")});
    let answer = must(&cluster, Method::PATCH, RULE, Some(rule)).await;
    assert_eq!(answer.body["type"], "dsrUpdate");
    everywhere(&cluster, Some(("description", &json!("one")))).await;

    cluster.nodes[1].suffer(Fault::Crash);
    must(&cluster, Method::PATCH, RULE, Some(json!({"description": "two"}))).await;
    // The answer is Miroir's own, and keeps what the change did not name.
    let rule = cluster.request(Method::GET, RULE, None).await.body;
    assert_eq!((&rule["description"], &rule["actions"]), (&json!("two"), &pins("a")));
    cluster.nodes[1].wipe();
    cluster.nodes[1].suffer(Fault::Heal);
    everywhere(&cluster, Some(("description", &json!("two")))).await;

    cluster.nodes[0].suffer(Fault::Crash);
    must(&cluster, Method::DELETE, RULE, None).await;
    assert_eq!(cluster.request(Method::GET, RULE, None).await.status, 404);
    cluster.nodes[0].suffer(Fault::Heal);
    everywhere(&cluster, None).await;
    end(&cluster);
}

#[tokio::test(start_paused = true)]
async fn rules_name_what_has_the_name_now() {
    let cluster = cluster(2).await;
    must(&cluster, Method::PATCH, RULE, Some(json!({"actions": pins("a")}))).await;
    everywhere(&cluster, Some(("actions", &pins("a")))).await;
    let swap = json!([{"indexes": ["a", "b"]}]);
    must(&cluster, Method::POST, "/swap-indexes", Some(swap)).await;
    everywhere(&cluster, Some(("actions", &pins("b")))).await;
    assert_eq!(cluster.request(Method::GET, RULE, None).await.body["actions"], pins("a"));
    end(&cluster);
}

#[tokio::test(start_paused = true)]
async fn nodes_say_what_is_wrong() {
    let cluster = cluster(3).await;
    let wrong = Some(json!({"colour": "red"}));
    let answer = cluster.request(Method::PATCH, RULE, wrong).await;
    assert_eq!((answer.status, &answer.body["message"]), (400, &json!("Unknown field `colour`")));
    assert_eq!(cluster.request(Method::GET, RULE, None).await.status, 404);
    let off = Some(json!({"dynamicSearchRules": false}));
    cluster.request(Method::PATCH, "/experimental-features", off).await;
    let answer = cluster.request(Method::GET, RULE, None).await;
    assert_eq!(answer.body["code"], "feature_not_enabled", "{answer:?}");
    // They read the body before they look at the feature.
    let answer = cluster.request(Method::PATCH, RULE, Some(json!({"description": "one"}))).await;
    assert_eq!(answer.body["code"], "feature_not_enabled", "{answer:?}");
    end(&cluster);
}
