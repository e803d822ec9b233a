//! When searches see what a task wrote: shard by shard while it is under way, whole once it has ended.
//!
//! The test says how many searches saw a task half done. `MIROIR_VISIBILITY_DOCUMENTS` and
//! `MIROIR_VISIBILITY_UPDATES` set how much is written; with `MIROIR_TEST_MEILISEARCH` all nodes are
//! processes of that binary.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use miroir_control::Miroir;
use serde_json::{Value, json};

use crate::support::real::{describe, nodes};
use crate::support::{Api, KEY};

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

fn documents(count: usize, version: usize) -> Value {
    let text = "a sentence to index again with every version of the document";
    (0..count)
        .map(|id| json!({"id": id, "version": version, "text": format!("{text} {id}")}))
        .collect()
}

/// The versions that a search finds documents of.
async fn versions(api: &Api, uid: &str) -> Vec<u64> {
    let answer = api.search(uid, &json!({"facets": ["version"], "limit": 1})).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let counts = answer.body["facetDistribution"]["version"].as_object().cloned();
    counts.unwrap_or_default().keys().map(|key| key.parse().unwrap()).collect()
}

/// What searches saw of the updates.
#[derive(Debug, Default)]
struct Seen {
    searches: usize,
    /// Those that found documents of two versions.
    torn: usize,
    /// From the first of those of one update to the last, added up.
    windows: Duration,
}

impl Seen {
    fn say(&self, what: &str, updates: usize) {
        let Self { searches, torn, windows } = self;
        eprintln!(
            "{what}: {torn} of {searches} searches saw one of {updates} updates half done, for {windows:.1?} in all"
        );
    }
}

/// Rewrites all documents again and again, and searches all the while.
async fn update(api: &Api, uid: &str, count: usize, updates: usize) -> Seen {
    let mut seen = Seen::default();
    for version in 1..=updates {
        let path = format!("/indexes/{uid}/documents");
        let done = AtomicBool::new(false);
        let writing = async {
            let answer = api.json("POST", &path, &documents(count, version)).await;
            let task = api.finish(answer).await;
            assert_eq!(task["status"], "succeeded", "{task}");
            // One node shows all of a task from the moment it says that it has ended. So does Miroir.
            assert_eq!(versions(api, uid).await, [version as u64]);
            done.store(true, Ordering::Relaxed);
        };
        let searching = async {
            let (mut first, mut last) = (None, None);
            while !done.load(Ordering::Relaxed) {
                let found = versions(api, uid).await;
                seen.searches += 1;
                if found.len() > 1 {
                    seen.torn += 1;
                    first = first.or(Some(Instant::now()));
                    last = Some(Instant::now());
                }
            }
            if let (Some(first), Some(last)) = (first, last) {
                seen.windows += last - first;
            }
        };
        tokio::join!(writing, searching);
    }
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_seen_whole_once_it_has_ended() {
    let count = number("MIROIR_VISIBILITY_DOCUMENTS", 300);
    let updates = number("MIROIR_VISIBILITY_UPDATES", 6);
    eprintln!("{updates} updates of {count} documents, on {}", describe());
    let all = nodes(4).await;
    let mut builder = Miroir::builder().node_key(KEY).shards(16).replication_factor(2);
    for (at, node) in all.iter().enumerate().skip(1) {
        builder = builder.node(&format!("node-{at}"), &node.url(), 0);
    }
    let miroir = builder.build().await.unwrap();
    miroir.spawn_workers();
    let (plain, cluster) = (Api::at(all[0].url()), Api::miroir(&miroir));
    for (api, what) in [(&plain, "one node"), (&cluster, "three nodes, 16 shards, two copies")] {
        let settings = json!({"filterableAttributes": ["version"]});
        let answer = api.json("PATCH", "/indexes/versions/settings", &settings).await;
        api.finish(answer).await;
        let path = "/indexes/versions/documents?primaryKey=id";
        let answer = api.json("POST", path, &documents(count, 0)).await;
        api.finish(answer).await;
        let seen = update(api, "versions", count, updates).await;
        seen.say(what, updates);
        if what == "one node" {
            assert_eq!(seen.torn, 0);
        }
    }
    miroir.shutdown().await;
}

/// What has to appear at once is written to another index and swapped in: no search sees half of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_swap_is_seen_whole() {
    let all = nodes(3).await;
    let mut builder = Miroir::builder().node_key(KEY).shards(16).replication_factor(1);
    for (at, node) in all.iter().enumerate() {
        builder = builder.node(&format!("node-{at}"), &node.url(), 0);
    }
    let miroir = builder.build().await.unwrap();
    miroir.spawn_workers();
    let api = Api::miroir(&miroir);
    let settings = json!({"filterableAttributes": ["version"]});
    for (version, uid) in ["live", "next"].into_iter().enumerate() {
        let answer = api.json("PATCH", &format!("/indexes/{uid}/settings"), &settings).await;
        api.finish(answer).await;
        let path = format!("/indexes/{uid}/documents?primaryKey=id");
        api.finish(api.json("POST", &path, &documents(200, version)).await).await;
    }
    for version in 2..6 {
        let done = AtomicBool::new(false);
        let writing = async {
            let path = "/indexes/next/documents";
            api.finish(api.json("POST", path, &documents(200, version)).await).await;
            let swap = json!([{"indexes": ["live", "next"]}]);
            api.finish(api.json("POST", "/swap-indexes", &swap).await).await;
            assert_eq!(versions(&api, "live").await, [version as u64]);
            done.store(true, Ordering::Relaxed);
        };
        let searching = async {
            while !done.load(Ordering::Relaxed) {
                assert_eq!(versions(&api, "live").await.len(), 1, "half a swap");
            }
        };
        tokio::join!(writing, searching);
    }
    miroir.shutdown().await;
}
