//! Which nodes can be reached, and whether they have what is needed.

use std::time::Duration;

use miroir_api::{NodeId, ShardId};

use super::Shared;
use crate::context::Context;
use crate::error::ErrorKind;
use crate::node::Call;

impl Shared {
    /// Waits a little until every node that can be reached has made an index and prepared it for
    /// reads of some shards.
    pub async fn await_index(&self, physical: &str, cx: &Context) {
        let call = Call::get("settings_get", format!("/indexes/{physical}/settings"));
        let topology = self.topology();
        let nodes =
            topology.nodes().filter(|n| n.status.is_readable() && !self.scores.is_open(&n.id));
        for node in nodes {
            let mut pause = Duration::from_millis(4);
            for _ in 0..10 {
                match self.call(&node.id, &call, cx).await {
                    Ok(body) if memchr::memmem::find(&body, b"\"_miroir_shard\"").is_some() => {
                        break;
                    }
                    Err(error) if !matches!(error.kind(), ErrorKind::Verbatim { .. }) => break,
                    _ => {
                        tokio::time::sleep(pause).await;
                        pause *= 2;
                    }
                }
            }
        }
    }

    /// A node that can answer questions that any node answers alike: readable, its breaker closed.
    pub fn any_node(&self) -> Option<NodeId> {
        let topology = self.topology();
        let readable = |open: bool| {
            topology
                .nodes()
                .find(|n| n.status.is_readable() && (open || !self.scores.is_open(&n.id)))
                .map(|n| n.id.clone())
        };
        readable(false).or_else(|| readable(true))
    }

    /// Whether some group can answer for every shard right now.
    pub fn fully_covered(&self) -> bool {
        let topology = self.topology();
        let placement = topology.placement(self.tuning.shards);
        topology.groups().iter().any(|group| {
            (0..self.tuning.shards).all(|shard| {
                placement.owners(group.id, ShardId(shard)).any(|id| {
                    topology.node(id).is_some_and(|n| n.status.is_readable())
                        && self.health.get(id).last_seen.is_some()
                })
            })
        })
    }
}
