//! Covers: which nodes to ask so that every shard is read exactly once.
//!
//! 1. Each shard takes the first usable owner, starting in rank order at `rotation` modulo the
//!    replication factor.
//! 2. A node whose shards all have another usable owner among the chosen nodes is dropped, one
//!    after the other, until none can be. Where to start moves on every `replication_factor`
//!    rotations, so that each node is spared in turn.
//! 3. Each shard takes its first usable owner among the nodes that are left, in the same rank
//!    order as before.
//!
//! With RF = 1 steps 2 and 3 change nothing. With RF = 2 on 3 nodes two nodes answer; with as many
//! replicas as nodes one node answers alone and needs no shard filter. A read of a single shard
//! goes to its owners in turn.

use miroir_api::{GroupId, NodeId, ShardId};

use super::{Placement, ShardSet};

/// Who to ask for which shards. No shard is in two leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cover {
    /// One entry a node, ascending by node id.
    pub leaves: Vec<Leaf>,
    /// Wanted shards nobody can answer for, in the universe of what was wanted.
    pub missing: ShardSet,
}

/// One node of a cover.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// The node.
    pub node: NodeId,
    /// The shards to read there; never empty.
    pub shards: ShardSet,
    /// Whether the node *owns* nothing beyond these shards, and so needs no shard filter. What it
    /// still *holds* of former shards while a rebalance runs is not known here: then filter
    /// regardless.
    pub exact: bool,
}

/// Chooses one usable owner for each of `shards` inside one group.
///
/// `usable` is asked at most once for each node and shard. The same arguments give the same cover.
#[must_use]
pub fn cover(
    placement: &Placement,
    group: GroupId,
    shards: &ShardSet,
    rotation: u64,
    usable: impl Fn(&NodeId, ShardId) -> bool,
) -> Cover {
    let mut out = Cover { leaves: Vec::new(), missing: shards.clone() };
    fill(&mut out, placement, group, rotation, &usable);
    out
}

/// Tries the first of `groups`, then fills what is missing from the others in order.
///
/// A leaf of a later group is given only shards that no earlier group could answer for.
#[must_use]
pub fn cover_with_fallback(
    placement: &Placement,
    groups: &[GroupId],
    shards: &ShardSet,
    rotation: u64,
    usable: impl Fn(&NodeId, ShardId) -> bool,
) -> Cover {
    let mut out = Cover { leaves: Vec::new(), missing: shards.clone() };
    for group in groups {
        if out.missing.is_empty() {
            break;
        }
        fill(&mut out, placement, *group, rotation, &usable);
    }
    out.leaves.sort_unstable_by(|a, b| a.node.cmp(&b.node));
    out
}

/// Moves what `group` can answer from `missing` into new leaves.
fn fill(
    out: &mut Cover,
    placement: &Placement,
    group: GroupId,
    rotation: u64,
    usable: &impl Fn(&NodeId, ShardId) -> bool,
) {
    let nodes = placement.nodes(group);
    if nodes.is_empty() {
        return;
    }
    let choices = Choices::new(placement, group, &out.missing, rotation, usable);
    let kept =
        choices.few_nodes(nodes.len(), rotation / u64::from(placement.replication_factor().max(1)));

    let mut taken: Vec<Option<ShardSet>> = vec![None; nodes.len()];
    for (shard, owners) in choices.iter() {
        if let Some(owner) = owners.iter().find(|owner| kept[**owner as usize]) {
            taken[*owner as usize]
                .get_or_insert_with(|| ShardSet::empty(placement.shards()))
                .insert(shard);
            out.missing.remove(shard);
        }
    }
    for (at, shards) in taken.into_iter().enumerate() {
        if let Some(shards) = shards {
            let exact = shards.is_superset(placement.owned_at(group, at));
            out.leaves.push(Leaf { node: nodes[at].clone(), shards, exact });
        }
    }
}

/// The usable owners of each wanted shard that has one, in rotated rank order, in one flat list.
struct Choices {
    owners: Vec<u32>,
    /// A shard and where its owners end in `owners`.
    ends: Vec<(ShardId, usize)>,
}

impl Choices {
    fn new(
        placement: &Placement,
        group: GroupId,
        shards: &ShardSet,
        rotation: u64,
        usable: &impl Fn(&NodeId, ShardId) -> bool,
    ) -> Self {
        let nodes = placement.nodes(group);
        let wanted = shards.len();
        let copies = placement.replication_factor() as usize;
        let mut owners = Vec::with_capacity(wanted * copies);
        let mut ends = Vec::with_capacity(wanted);
        for shard in shards.iter() {
            let ranked = placement.ranked(group, shard);
            let start = rotation.checked_rem(ranked.len() as u64).unwrap_or(0) as usize;
            let before = owners.len();
            let rotated = ranked[start..].iter().chain(&ranked[..start]);
            owners.extend(rotated.filter(|owner| usable(&nodes[**owner as usize], shard)));
            if owners.len() > before {
                ends.push((shard, owners.len()));
            }
        }
        Self { owners, ends }
    }

    fn iter(&self) -> impl Iterator<Item = (ShardId, &[u32])> {
        let mut start = 0;
        self.ends.iter().map(move |(shard, end)| {
            let owners = &self.owners[start..*end];
            start = *end;
            (*shard, owners)
        })
    }

    /// The nodes to ask, as flags: first choices, less the nodes the others can stand in for. The
    /// first to be spared is the `turn`-th, modulo `nodes`.
    fn few_nodes(&self, nodes: usize, turn: u64) -> Vec<bool> {
        let mut kept = vec![false; nodes];
        for (_, owners) in self.iter() {
            kept[owners[0] as usize] = true;
        }
        if self.owners.len() == self.ends.len() {
            return kept; // no shard has a second choice
        }
        let mut shards_of: Vec<Vec<usize>> = vec![Vec::new(); nodes];
        let mut copies = vec![0_u32; self.ends.len()];
        for (at, (_, owners)) in self.iter().enumerate() {
            for owner in owners.iter().map(|owner| *owner as usize).filter(|owner| kept[*owner]) {
                shards_of[owner].push(at);
                copies[at] += 1;
            }
        }
        let first = (turn % nodes as u64) as usize;
        for node in (first..nodes).chain(0..first) {
            if kept[node] && shards_of[node].iter().all(|at| copies[*at] > 1) {
                kept[node] = false;
                for at in &shards_of[node] {
                    copies[*at] -= 1;
                }
            }
        }
        kept
    }
}
