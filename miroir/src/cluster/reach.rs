//! Which nodes can be reached, and whether they have what is needed.

use std::time::Duration;

use bytes::Bytes;
use miroir_api::{NodeId, ShardId};

use super::Shared;
use crate::context::Context;
use crate::error::{Error, ErrorKind, Retry};
use crate::node::Call;
use crate::routing::ShardSet;
use crate::topology::Node;

impl Shared {
    /// Whether a node takes writes and its calls are let through.
    pub fn is_well(&self, node: &Node) -> bool {
        node.status.is_writable() && !self.scores.is_open(&node.id)
    }

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

    /// The nodes that can answer questions that any node answers alike: the readable ones, those
    /// whose breaker is open last.
    pub fn any_nodes(&self) -> Vec<NodeId> {
        let topology = self.topology();
        let readable = topology.nodes().filter(|node| node.status.is_readable());
        let mut nodes: Vec<NodeId> = readable.map(|node| node.id.clone()).collect();
        nodes.sort_by_key(|node| self.scores.is_open(node));
        nodes
    }

    /// Asks a question that any node answers alike: one node, and the next where that one fails. It
    /// must do no harm on a node that took it and did not say so.
    ///
    /// # Errors
    /// What a node refuses; the failure of the last node asked; that no shard is available where
    /// there is no node to ask.
    pub async fn call_any(&self, call: &Call, cx: &Context) -> Result<(NodeId, Bytes), Error> {
        self.call_any_of(|_| true, call, cx).await
    }

    /// As [`Shared::call_any`], of some nodes only.
    ///
    /// # Errors
    /// As [`Shared::call_any`].
    pub async fn call_any_of(
        &self,
        of: impl Fn(&NodeId) -> bool,
        call: &Call,
        cx: &Context,
    ) -> Result<(NodeId, Bytes), Error> {
        let mut last = Error::shards_unavailable(ShardSet::full(self.tuning.shards));
        for node in self.any_nodes().into_iter().filter(|node| of(node)) {
            match self.call(&node, call, cx).await {
                Ok(body) => return Ok((node, body)),
                Err(error) if error.retry() == Retry::OtherReplica => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
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
