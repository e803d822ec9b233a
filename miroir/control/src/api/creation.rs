//! Making an index, and changing it, on all nodes without a task of its own.
//!
//! The entry is in the catalogue, marked as being made, before any node is called, and the work is
//! detached from the client. So neither a crash nor a disconnect leaves an index on a node that
//! nothing points to: what was not finished is undone, at once or by the next process.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::join_all;
use miroir_api::{IndexUid, NodeId};

use crate::api::Control;
use crate::making;
use crate::node_setup::{creation_calls, node_base_settings};
use miroir_core::quorum::{self, QuorumDecision};
use miroir_core::routing::ShardSet;
use miroir_core::view::{CatchUp, StaleReplica};
use miroir_pipeline::cluster::disk_loss;
use miroir_pipeline::cluster::sequencer::Exclusive;
use miroir_pipeline::context::Context;
use miroir_pipeline::error::{Error, ErrorKind};
use miroir_pipeline::index::scatter::catalog_sync;
use miroir_pipeline::index::scatter::stale_marks::WriteOutcome;
use miroir_pipeline::node::{Call, TaskRef};
use miroir_store::{IndexEntry, clock};
use uuid::Uuid;

/// No quorum took a change.
#[derive(Debug)]
pub(crate) struct NotTaken {
    /// What the client is told.
    pub(crate) error: Error,
    /// Nodes that may have taken it all the same.
    pub(crate) may_have: Vec<NodeId>,
}

impl From<miroir_store::StoreError> for NotTaken {
    fn from(error: miroir_store::StoreError) -> Self {
        Self { error: error.into(), may_have: Vec::new() }
    }
}

impl Control {
    /// A new entry and its index on all nodes. The caller holds the gate of the name, and gets it
    /// back.
    pub(crate) async fn create_on_nodes(
        &self,
        name: &IndexUid,
        gate: Exclusive,
        cx: &Context,
    ) -> Result<(Arc<IndexEntry>, Exclusive), Error> {
        let (this, name, cx) = (self.clone(), name.clone(), cx.clone());
        let job = self.state.tracker.spawn(async move { this.make(&name, gate, &cx).await });
        job.await.map_err(Error::internal)?
    }

    async fn make(
        &self,
        name: &IndexUid,
        gate: Exclusive,
        cx: &Context,
    ) -> Result<(Arc<IndexEntry>, Exclusive), Error> {
        let (entry, gate) = self.new_entry(name, None, gate).await;
        let entry = Arc::new(IndexEntry { making: true, ..entry });
        let base = node_base_settings(&self.state.options);
        let calls = creation_calls(&entry.physical, entry.primary_key.as_deref(), &base);
        if self.state.catalog.insert(IndexEntry::clone(&entry)).await?.is_none() {
            let text = format!("Index `{name}` already exists.");
            return Err(Error::api("index_already_exists", text));
        }
        if let Err(missed) = self.apply_everywhere(&entry, &calls, cx).await {
            catalog_sync::unmake(&self.state, &entry, missed.may_have.iter()).await?;
            return Err(missed.error);
        }
        let made = |old: &IndexEntry| IndexEntry { making: false, ..old.clone() };
        let stored = self.state.catalog.change(&entry, made).await?;
        let stored = stored.ok_or_else(|| Error::index_not_found(name.as_str()))?;
        Ok((stored, gate))
    }

    /// A new entry. The caller holds the gate of the name, and gets it back with that of the name on
    /// the nodes.
    pub(crate) async fn new_entry(
        &self,
        name: &IndexUid,
        primary_key: Option<String>,
        mut gate: Exclusive,
    ) -> (IndexEntry, Exclusive) {
        let physical = loop {
            let physical = self.free_physical(name);
            if physical == name.as_str() {
                break physical;
            }
            self.state.sequencer.exclusive_too(&mut gate, &physical).await;
            // An index whose gate was closed until now may have been made.
            if self.state.catalog.by_physical(&physical).is_none() {
                break physical;
            }
        };
        let shards = self.state.options.shards;
        let entry = IndexEntry {
            primary_key,
            incarnation: Uuid::now_v7(),
            provisional: true,
            ..IndexEntry::new(name.clone(), physical, shards, clock::now())
        };
        (entry, gate)
    }

    /// Takes an index back that was made for a request which was not accepted, unless it is another
    /// request's by now. Detached from the client.
    pub(crate) async fn take_back(&self, entry: &Arc<IndexEntry>) {
        let (state, entry) = (Arc::clone(&self.state), Arc::clone(entry));
        let job = self.state.tracker.spawn(async move {
            if let Err(error) = making::take_back(&state, &entry).await {
                tracing::warn!(index = %entry.name, %error, "an index that nobody made goes later");
            }
        });
        if let Err(error) = job.await {
            tracing::error!(%error, "taking an index back was given up");
        }
    }

    /// The name itself, unless another index lives under it on the nodes since a rename or swap.
    fn free_physical(&self, name: &IndexUid) -> String {
        let mut candidate = name.to_string();
        let mut number = 2;
        while self.state.catalog.by_physical(&candidate).is_some() {
            candidate = format!("{name}--{number}");
            number += 1;
        }
        candidate
    }

    /// Runs calls on every node without a task of its own. Nodes that miss them where a quorum does
    /// not are remembered.
    pub(crate) async fn apply_everywhere(
        &self,
        entry: &Arc<IndexEntry>,
        calls: &[Call],
        cx: &Context,
    ) -> Result<(), NotTaken> {
        let topology = self.state.membership.topology();
        let jobs = topology.nodes().map(|node| async {
            let mut sent = Vec::new();
            if self.state.nodes.is_available(node) {
                for call in calls {
                    let answer = self.enqueue(&node.id, call, cx).await;
                    let failed = answer.is_err();
                    sent.push(answer);
                    if failed {
                        break;
                    }
                }
            }
            (node.id.clone(), sent)
        });
        let sent: BTreeMap<NodeId, Vec<Result<u32, Error>>> =
            join_all(jobs).await.into_iter().collect();
        let outcome_of = |node: &NodeId| {
            sent.get(node).map_or(WriteOutcome::Rejected, |sent| WriteOutcome::of(sent))
        };
        let stale = self.state.staleness.load();
        let verdict = quorum::evaluate(
            &topology.placement(entry.shards),
            topology.replication_factor(),
            self.state.options.write_quorum,
            &ShardSet::full(entry.shards),
            |node, _| {
                outcome_of(node) == WriteOutcome::Accepted
                    && !stale.lacks_index(&entry.physical, node)
            },
        );
        match verdict {
            QuorumDecision::Met { missed, .. } => {
                let behind = missed
                    .into_iter()
                    .filter(|(node, _)| outcome_of(node) != WriteOutcome::Accepted);
                let rows = behind.map(|(node, _)| StaleReplica {
                    node,
                    index: entry.physical.clone(),
                    shard: None,
                    kind: CatchUp::Index,
                    generation: 0,
                    awaits: Vec::new(),
                });
                self.state.staleness.mark(rows.collect()).await?;
                Ok(())
            }
            QuorumDecision::NoQuorum { shards, .. } => {
                let may_have =
                    sent.keys().filter(|node| outcome_of(node) != WriteOutcome::Rejected).cloned();
                let may_have = may_have.collect();
                let refused = sent.into_values().flatten().filter_map(Result::err);
                let refused =
                    refused.into_iter().find(|e| matches!(e.kind(), ErrorKind::Verbatim { .. }));
                let error = refused.unwrap_or_else(|| Error::no_quorum(shards));
                Err(NotTaken { error, may_have })
            }
        }
    }

    async fn enqueue(&self, node: &NodeId, call: &Call, cx: &Context) -> Result<u32, Error> {
        let before = self.state.membership.task_uids.highest(node);
        let body = self.state.nodes.call(node, call, cx).await?;
        let uid = Call::parse::<TaskRef>(node, &body)?.task_uid;
        disk_loss::accept_task_uid(&self.state, node, before, uid).await?;
        Ok(uid)
    }
}
