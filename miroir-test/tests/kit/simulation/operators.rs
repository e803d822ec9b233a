//! Who is not a client: operators, and whatever befalls processes.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use miroir_api::{NodeId, TaskUid};
use miroir_core::routing::shard_of;
use miroir_test::faults::Rng;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::run::Run;

impl Run {
    /// Kills pods and holds them up, the one that leads more often than others.
    pub(super) async fn trouble_pods(self: Arc<Self>, mut rng: Rng) {
        while Instant::now() < self.until {
            sleep(rng.between(Duration::from_secs(1), Duration::from_secs(8))).await;
            let any = rng.below(self.cluster.pods() as u64) as usize;
            let pod = match self.cluster.leader() {
                Some(leader) if rng.below(3) > 0 => leader,
                _ => any,
            };
            if rng.below(2) == 0 {
                self.cluster.restart_pod(pod).await;
                self.history.restarted();
            } else {
                self.cluster.hold_up(pod, true);
                sleep(rng.between(Duration::from_millis(200), Duration::from_secs(7))).await;
                self.cluster.hold_up(pod, false);
            }
        }
    }

    /// Changes settings, and makes and deletes an index.
    pub(super) async fn operator(self: Arc<Self>, mut rng: Rng) {
        while Instant::now() < self.until {
            sleep(rng.between(Duration::from_millis(200), Duration::from_secs(6))).await;
            let answer = match rng.below(4) {
                0 | 1 => {
                    let words = [format!("w{}", rng.below(1000))];
                    let body = json!({"stopWords": words});
                    self.cluster.request(Method::PATCH, "/indexes/main/settings", Some(body)).await
                }
                2 => {
                    let body = json!([{"id": "x", "v": 0}]);
                    self.cluster.request(Method::POST, "/indexes/other/documents", Some(body)).await
                }
                _ => self.cluster.request(Method::DELETE, "/indexes/other", None).await,
            };
            if let Some(task) = answer.body["taskUid"].as_u64().filter(|_| rng.below(2) == 0) {
                let _ = self.cluster.wait(task, Duration::from_secs(3)).await;
            }
        }
    }

    /// Kills the one process and starts another, now and then; one that dies may have calls under
    /// way that arrive later.
    pub(super) async fn restarts(self: Arc<Self>, mut rng: Rng) {
        loop {
            if self.goes_back {
                self.cluster.keep_store();
            }
            sleep(rng.between(Duration::from_secs(3), Duration::from_secs(20))).await;
            if Instant::now() >= self.until {
                return;
            }
            if self.goes_back {
                self.cluster.restart_with_the_kept_store().await;
            } else {
                self.cluster.restart().await;
            }
            self.history.restarted();
        }
    }

    /// A call that arrives after its process has ended, or has given it up, is noticed when the node is
    /// looked at, by its task: nobody can keep a node from taking it. Where that node has the only sound
    /// replica of a shard, what the call undoes is nowhere else.
    pub(super) async fn strays(self: Arc<Self>) {
        while let Some(stray) = self.cluster.stray_call().await {
            self.fired("stray call");
            self.history.blind_for(super::CHECKED + super::LOOKED_INTO);
            for id in self.touched(&stray.body) {
                if self.is_alone(&stray.node, &id) {
                    self.fired("stray call at the only replica");
                    self.history.undone(&id);
                }
            }
        }
    }

    /// The ids that a call writes or deletes; all, where it does not name them.
    fn touched(&self, body: &[u8]) -> Vec<String> {
        let values = serde_json::Deserializer::from_slice(body).into_iter::<Value>().flatten();
        let flat = values.flat_map(|value| match value {
            Value::Array(all) => all,
            one => vec![one],
        });
        let ids: Vec<String> = flat
            .filter_map(|value| value.get("id").unwrap_or(&value).as_str().map(str::to_owned))
            .collect();
        if ids.is_empty() { self.history.ids() } else { ids }
    }

    /// Whether no other replica of a document's shard is sound, as far as anybody knows.
    fn is_alone(&self, node: &NodeId, id: &str) -> bool {
        let cluster = self.cluster.miroir();
        let state = &cluster.cluster.state;
        let Some(entry) = state.catalog.by_physical("main") else { return true };
        let shard = shard_of(id.as_bytes(), entry.shards);
        let (stale, topology) = (state.staleness.load(), state.membership.topology());
        let placement = topology.placement(entry.shards);
        let newest = state.open_tasks.newest_of("main").unwrap_or(TaskUid(0));
        let mut others = placement.write_targets(shard).filter(|(_, other)| *other != node);
        !others.any(|(_, other)| {
            stale.is_authority("main", other, shard)
                && !state.open_tasks.is_in_doubt("main", other, newest)
        })
    }

    /// Somebody writes to a node past Miroir, always the same one: to documents that a client of the
    /// run writes as well.
    pub(super) async fn foreign_writer(self: Arc<Self>, mut rng: Rng) {
        let node = &self.cluster.nodes[rng.below(self.cluster.nodes.len() as u64) as usize];
        while Instant::now() < self.until {
            sleep(rng.between(Duration::from_secs(2), Duration::from_secs(9))).await;
            let ids = self.history.ids();
            let entries = self.cluster.miroir().cluster.state.catalog.all();
            let Some(entry) = entries.iter().find(|entry| entry.name.as_str() == "main") else {
                continue;
            };
            if ids.is_empty() {
                continue;
            }
            let id = &ids[rng.below(ids.len() as u64) as usize];
            self.history.taint(id);
            let path = format!("/indexes/{}/documents/{id}", entry.physical);
            node.foreign(Method::DELETE, &path, &Value::Null);
        }
    }

    /// Looks twice a second whether what must hold at every moment does.
    pub(super) async fn watch(self: Arc<Self>) {
        while Instant::now() < self.until && self.history.violations().is_empty() {
            sleep(Duration::from_millis(500)).await;
            miroir_test::invariants::check(&self.cluster, &self.history, "main");
            self.fired("invariants checked");
        }
    }
}
