//! Writes whose documents nodes count: each document is to be counted once.
//!
//! A node says how many documents one call changed in all its shards together. Where every node of
//! a group takes the write, the group's sum over its replicas is the number. Where none is complete,
//! the nodes that are left hold overlapping sets of shards, and no sum of theirs is right: such a
//! write is sent in two calls, one about the shards that this node counts and one about the others.

use std::collections::BTreeMap;

use miroir_api::NodeId;

use super::plan::Batch;
use super::write::writable;
use crate::cluster::ClusterState;
use crate::index::Request;
use crate::node::Call;
use miroir_core::routing::{Placement, ShardSet};
use miroir_core::view::CatchUp;

/// The calls of a write that nodes count, one entry a node that holds some of `touched`.
/// `calls_for` makes the calls about some shards of a node, and is told whether the node has others.
pub(super) fn counted(
    state: &ClusterState,
    request: &Request,
    touched: &ShardSet,
    calls_for: impl Fn(&ShardSet, bool) -> Vec<Call>,
) -> Vec<Batch> {
    let topology = &request.topology;
    let placement = topology.placement(request.index.shards);
    let there = |node: &NodeId| writable(state, topology, &request.index, CatchUp::Shard, node);
    let groups: Vec<Vec<&NodeId>> =
        topology.groups().iter().map(|group| group.nodes.iter().map(|n| &n.id).collect()).collect();
    let counters = counters(&groups, &placement, touched, there);
    topology
        .nodes()
        .filter_map(|node| {
            let shards = placement.owned_by(&node.id).intersection(touched);
            if shards.is_empty() {
                return None;
            }
            let own = counters.as_ref().and_then(|counters| counters.get(&node.id));
            let rest = own.map(|own| shards.difference(own)).filter(|rest| !rest.is_empty());
            let sets: Vec<(ShardSet, bool)> = match (own, rest) {
                (Some(own), Some(rest)) => vec![(own.clone(), true), (rest, true)],
                _ => vec![(shards.clone(), false)],
            };
            let (mut calls, mut parts) = (Vec::new(), Vec::new());
            for (set, part) in sets {
                for call in calls_for(&set, part) {
                    calls.push(call);
                    parts.push(set.clone());
                }
            }
            if calls.len() == 1 {
                parts.clear();
            }
            Some(Batch { node: node.id.clone(), shards, calls, parts })
        })
        .collect()
}

/// Which node counts which shards; none where a whole group is there and its sum will do.
fn counters(
    groups: &[Vec<&NodeId>],
    placement: &Placement,
    touched: &ShardSet,
    there: impl Fn(&NodeId) -> bool,
) -> Option<BTreeMap<NodeId, ShardSet>> {
    let concerned = |node: &NodeId| !placement.owned_by(node).intersection(touched).is_empty();
    let is_whole = |nodes: &Vec<&NodeId>| nodes.iter().all(|node| there(node) || !concerned(node));
    // While the layout changes not every shard has as many owners in a group.
    if !placement.changes() && groups.iter().any(is_whole) {
        return None;
    }
    let mut counters: BTreeMap<NodeId, ShardSet> = BTreeMap::new();
    for shard in touched.iter() {
        let owner = placement.write_targets(shard).map(|(_, node)| node).find(|node| there(node));
        if let Some(node) = owner {
            let empty = || ShardSet::empty(touched.universe());
            counters.entry(node.clone()).or_insert_with(empty).insert(shard);
        }
    }
    Some(counters)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster() -> (Vec<NodeId>, Placement) {
        let nodes: Vec<NodeId> = ["a", "b", "c"].map(|id| NodeId::new(id).unwrap()).into();
        let placement = Placement::new(std::slice::from_ref(&nodes), 2, 16);
        (nodes, placement)
    }

    #[test]
    fn a_whole_group_needs_no_counters() {
        let (nodes, placement) = cluster();
        let groups = [nodes.iter().collect()];
        let touched = ShardSet::full(16);
        assert_eq!(counters(&groups, &placement, &touched, |_| true), None);
        // Nor does a write that the missing node has no part in.
        let others = touched.difference(&placement.owned_by(&nodes[2]));
        assert!(!others.is_empty());
        assert_eq!(counters(&groups, &placement, &others, |node| *node != nodes[2]), None);
    }

    #[test]
    fn what_is_left_counts_every_shard_once() {
        let (nodes, placement) = cluster();
        let groups = [nodes.iter().collect()];
        let touched = ShardSet::full(16);
        let counters = counters(&groups, &placement, &touched, |node| *node != nodes[2]).unwrap();
        assert!(!counters.contains_key(&nodes[2]));
        let mut seen = ShardSet::empty(16);
        for (node, own) in &counters {
            assert!(placement.owned_by(node).is_superset(own));
            assert!(seen.intersection(own).is_empty());
            seen.union_with(own);
        }
        assert_eq!(seen, touched);
    }
}
