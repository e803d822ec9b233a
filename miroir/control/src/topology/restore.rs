//! Makes copies anew that were on a node which failed, once it has been away for `restore_after_s`.
//!
//! A spare of the node's group takes its place; with `auto_restore: spread` and no spare the other nodes of
//! the group do. It is a change of the topology like any other ([`super::operations`]), with a source
//! that nobody asks, and operators see it as one.
//!
//! Where the node comes back before the new owners are read, the change is rolled back: the node lacks
//! only what was written since it went. One that comes back later is a spare. A node that comes and goes is
//! waited for twice as long each time, up to an hour; that, and since when a node is away, is what this
//! process has seen, so that a new leader waits anew.
//!
//! Nothing begins while more than one node of a group is away, or more than a third of all: that is a
//! network, and not a disk. Nothing begins either where a shard has no other complete replica: there is
//! nothing to copy from.
//!
//! # Metrics
//! `miroir_restores_total{outcome}`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use miroir_api::NodeId;
use miroir_core::topology::{Health, Phase, Restore, patience, restore};
use miroir_pipeline::cluster::ClusterState;
use miroir_pipeline::error::Error;
use miroir_store::records::{CommittedTopology, Operation, OperationState};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::operations::{self, Verb};
use crate::replicas::repair::has_source;

/// Time between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// Time between two attempts to begin.
const AGAIN: Duration = Duration::from_secs(30);

/// What this process has seen of nodes.
#[derive(Debug, Default)]
struct Seen {
    /// Since when nodes are away.
    since: BTreeMap<NodeId, Instant>,
    /// How often they came back.
    returns: BTreeMap<NodeId, u32>,
    /// When it was tried last, in vain.
    tried: Option<Instant>,
    /// What was said last.
    said: Option<Restore>,
}

impl Seen {
    fn look(&mut self, state: &ClusterState) {
        let topology = state.membership.topology();
        self.since.retain(|node, _| topology.node(node).is_some());
        for node in topology.nodes() {
            if node.health == Health::Failed {
                self.since.entry(node.id.clone()).or_insert_with(Instant::now);
            } else if self.since.remove(&node.id).is_some() {
                *self.returns.entry(node.id.clone()).or_default() += 1;
            }
        }
    }

    fn failed(&self, after: Duration) -> BTreeMap<NodeId, (Duration, Duration)> {
        let of = |(node, since): (&NodeId, &Instant)| {
            let returns = self.returns.get(node).copied().unwrap_or(0);
            (node.clone(), (since.elapsed(), patience(after, returns)))
        };
        self.since.iter().map(of).collect()
    }

    /// Says why nothing is done, once.
    fn say(&mut self, decision: Restore) {
        if self.said.as_ref() == Some(&decision) {
            return;
        }
        match &decision {
            Restore::Brake => {
                count("brake");
                tracing::warn!("so many nodes are away that copies are not made anew");
            }
            Restore::NoPlace(node) => {
                count("no_place");
                tracing::warn!(
                    %node,
                    "the node is away for long, and there is no place for its copies: add a spare \
                     to its group, or have the node replaced"
                );
            }
            Restore::Wait | Restore::Begin { .. } => {}
        }
        self.said = Some(decision);
    }
}

fn count(outcome: &'static str) {
    metrics::counter!("miroir_restores_total", "outcome" => outcome).increment(1);
}

/// Looks after nodes that failed, until cancelled. One pod does, for all.
pub async fn run(state: Arc<ClusterState>, stop: CancellationToken) {
    let mut seen = Seen::default();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            done = step(&state, &mut seen) => if let Err(error) = done {
                seen.tried = Some(Instant::now());
                tracing::warn!(%error, "copies of a failed node are not made anew");
            },
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = sleep(LOOK) => {}
        }
    }
}

async fn step(state: &Arc<ClusterState>, seen: &mut Seen) -> Result<(), Error> {
    seen.look(state);
    let committed = state.committed.load_full();
    if let Some(operation) = &committed.operation {
        return take_back(state, &committed, operation).await;
    }
    keep_as_spare(state, &committed).await?;
    if seen.tried.is_some_and(|tried| tried.elapsed() < AGAIN) {
        return Ok(());
    }
    let topology = state.membership.topology();
    let there = |id: &NodeId| topology.node(id).is_some_and(|node| state.nodes.is_available(node));
    let spares = committed.without_shards.iter();
    let spares = spares.filter(|seat| committed.spares.contains(&seat.id) && there(&seat.id));
    let spares: Vec<_> = spares.cloned().collect();
    let options = state.options.restore;
    let decision = restore(&committed.layout, &spares, &seen.failed(options.after), options.place);
    let Restore::Begin { node, wish } = &decision else {
        seen.say(decision);
        return Ok(());
    };
    if let Some(index) = without_source(state, node) {
        let why = "a shard has no other complete replica: the node, or its disk, has to come back";
        return Err(Error::internal(format!("index `{index}` of node `{node}`: {why}")));
    }
    tracing::warn!(%node, ?wish, "the node is away for long: its copies are made anew");
    operations::begin_for(state, wish, false, Some(node.clone())).await?;
    count("begun");
    seen.say(decision);
    Ok(())
}

/// An index of which the node has a shard that nobody else has completely.
fn without_source(state: &ClusterState, node: &NodeId) -> Option<String> {
    let topology = state.membership.topology();
    let lacks = |entry: &Arc<miroir_store::IndexEntry>| {
        let owned = topology.placement(entry.shards).owned_by(node);
        owned.iter().any(|shard| !has_source(state, entry, node, shard))
    };
    let all = state.catalog.all();
    all.iter().find(|entry| entry.primary_key.is_some() && lacks(entry)).map(|e| e.name.to_string())
}

/// A node that came back in time keeps its shards.
async fn take_back(
    state: &Arc<ClusterState>,
    committed: &CommittedTopology,
    operation: &Operation,
) -> Result<(), Error> {
    let Some(node) = &operation.restores else { return Ok(()) };
    let early = committed.change.as_ref().is_some_and(|change| change.phase < Phase::Switched);
    let moving = operation.state == OperationState::Moving;
    if early && moving && state.options.restore.takes_back && is_back(state, node) {
        tracing::info!(%node, "the node is back: its copies are not made anew");
        operations::apply(state, operation.id, Verb::Rollback).await?;
        count("rolled_back");
    }
    Ok(())
}

/// One that came back late is the next spare.
async fn keep_as_spare(
    state: &Arc<ClusterState>,
    committed: &CommittedTopology,
) -> Result<(), Error> {
    let Some(last) = committed.ended.first() else { return Ok(()) };
    let Some(node) = &last.restores else { return Ok(()) };
    let idle = committed.without_shards.iter().any(|seat| seat.id == *node);
    let committed_it = last.state == OperationState::Committed;
    if committed_it && idle && !committed.spares.contains(node) && is_back(state, node) {
        operations::make_spare(state, node).await?;
        tracing::info!(%node, "the node is back, and is a spare from now on");
        count("spare");
    }
    Ok(())
}

fn is_back(state: &ClusterState, node: &NodeId) -> bool {
    let topology = state.membership.topology();
    topology.node(node).is_some_and(|node| {
        node.health == Health::Well && state.membership.task_uids.is_verified(&node.id)
    })
}
