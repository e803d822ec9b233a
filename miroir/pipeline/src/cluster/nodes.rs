//! Calls to nodes by name, outside of the leaf stage.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use miroir_api::{NodeId, ShardId};
use miroir_core::routing::ShardSet;
use miroir_core::topology::Node;

use super::leadership::Leadership;
use super::membership::Membership;
use crate::context::Context;
use crate::effect::Effect;
use crate::error::{Error, ErrorKind, NodeFailure, Retry};
use crate::node::{Call, Pool, Scores};

/// First pause between two looks for an index that a node has still to make. Each is twice as long as
/// the one before it.
const INDEX_PAUSE: Duration = Duration::from_millis(4);
/// How many there are: 4 s in all.
const INDEX_PAUSES: u32 = 10;

/// The nodes of the topology, each behind its stack. A call that changes a node is sent by the
/// leader only.
#[derive(Debug)]
pub struct Nodes {
    /// One stack of layers per node of the topology.
    pub pool: Pool,
    /// How nodes are doing, as their answers show.
    pub scores: Arc<Scores>,
    membership: Arc<Membership>,
    leadership: Arc<Leadership>,
    /// How long one call may take, unless it says otherwise.
    timeout: Duration,
    /// S of new indexes.
    shards: u32,
}

impl Nodes {
    /// The nodes of a pool. `timeout` bounds calls that say nothing else; `shards` is the number of
    /// shards that count as missing where no node can be asked.
    pub fn new(
        pool: Pool,
        scores: Arc<Scores>,
        membership: Arc<Membership>,
        leadership: Arc<Leadership>,
        timeout: Duration,
        shards: u32,
    ) -> Self {
        Self { pool, scores, membership, leadership, timeout, shards }
    }

    /// Sends one call to one node and judges the answer.
    ///
    /// # Errors
    /// See [`Call::accept`]; `miroir_no_leader` for a change where this pod does not lead.
    pub async fn call(&self, node: &NodeId, call: &Call, cx: &Context) -> Result<Bytes, Error> {
        self.call_within(node, call, cx, self.timeout).await
    }

    /// As [`Nodes::call`], with a time of its own.
    ///
    /// # Errors
    /// As [`Nodes::call`].
    pub async fn call_within(
        &self,
        node: &NodeId,
        call: &Call,
        cx: &Context,
        timeout: Duration,
    ) -> Result<Bytes, Error> {
        if call.effect() == Effect::Change {
            self.leadership.ensure_leader()?;
        }
        let request = call.request(cx, timeout)?;
        Call::accept(node, self.pool.send(node, request).await?)
    }

    /// Whether a node takes writes and its calls are let through.
    pub fn is_available(&self, node: &Node) -> bool {
        node.is_writable() && !self.scores.is_open(&node.id)
    }

    /// Waits a little until every node that can be reached has made an index and prepared it for
    /// reads of some shards.
    pub async fn await_index(&self, physical: &str, cx: &Context) {
        let call = Call::get("settings_get", format!("/indexes/{physical}/settings"));
        let topology = self.membership.topology();
        let nodes = topology.nodes().filter(|n| n.is_readable() && !self.scores.is_open(&n.id));
        join_all(nodes.map(|node| self.await_index_on(&node.id, &call, cx))).await;
    }

    async fn await_index_on(&self, node: &NodeId, settings: &Call, cx: &Context) {
        for attempt in 0..=INDEX_PAUSES {
            if attempt > 0 {
                tokio::time::sleep(INDEX_PAUSE * (1 << (attempt - 1))).await;
            }
            match self.call(node, settings, cx).await {
                Ok(body) if memchr::memmem::find(&body, b"\"_miroir_shard\"").is_some() => return,
                Err(error) if !matches!(error.kind(), ErrorKind::Verbatim { .. }) => return,
                _ => {}
            }
        }
    }

    /// The nodes that can answer questions that any node answers alike: the readable ones, those
    /// whose breaker is open last.
    pub fn any(&self) -> Vec<NodeId> {
        let topology = self.membership.topology();
        let readable = topology.nodes().filter(|node| node.is_readable());
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

    /// As [`Nodes::call_any`], of some nodes only.
    ///
    /// # Errors
    /// As [`Nodes::call_any`].
    pub async fn call_any_of(
        &self,
        of: impl Fn(&NodeId) -> bool,
        call: &Call,
        cx: &Context,
    ) -> Result<(NodeId, Bytes), Error> {
        let mut last = Error::shards_unavailable(ShardSet::full(self.shards));
        let mut asked = 0;
        for node in self.any().into_iter().filter(|node| of(node)) {
            match self.call(&node, call, cx).await {
                Ok(body) => return Ok((node, body)),
                Err(error) if error.retry() == Retry::OtherReplica => {
                    // A question that two nodes did not survive is not asked of a third.
                    let was_sent = error.node_failure().is_some_and(NodeFailure::was_sent);
                    last = error;
                    asked += u32::from(was_sent);
                    if asked == 2 {
                        break;
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    /// Whether some group can answer for every shard right now.
    pub fn fully_covered(&self) -> bool {
        let topology = self.membership.topology();
        let placement = topology.placement(self.shards);
        topology.complete_groups().any(|group| {
            (0..self.shards).all(|shard| {
                placement.owners(group.id, ShardId(shard)).any(|id| {
                    topology.node(id).is_some_and(|n| n.is_readable())
                        && self.membership.health.get(id).last_seen.is_some()
                })
            })
        })
    }
}
