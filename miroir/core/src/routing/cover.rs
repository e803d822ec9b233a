//! Covers: which nodes to ask so that every shard is read exactly once.
//!
//! 1. Each shard takes the first usable owner of the best [`Tier`], starting in rank order at
//!    `rotation` modulo the replication factor. Where that one is passed over, its turns go to all
//!    that are no worse than the next, one after the other.
//! 2. A node whose shards all have another usable owner, no worse, among the chosen nodes is
//!    dropped, one after the other, until none can be; nodes of the worst tier first. Where to start
//!    among equals moves on every `replication_factor` rotations, so that each is spared in turn.
//! 3. Each shard takes its first usable owner among the nodes that are left, in the same order as
//!    before.
//!
//! With RF = 1 steps 2 and 3 change nothing. With RF = 2 on 3 nodes two nodes answer; with as many
//! replicas as nodes one node answers alone and needs no shard filter. A read of a single shard
//! goes to its owners in turn.

use miroir_api::{GroupId, NodeId, ShardId};

use super::{Placement, ShardSet, Standings, Tier};

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
    /// Node to ask.
    pub node: NodeId,
    /// The shards to read there; never empty.
    pub shards: ShardSet,
    /// Whether the node has documents of no other shards, and so needs no shard filter.
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
    standings: &Standings,
    usable: impl Fn(&NodeId, ShardId) -> bool,
) -> Cover {
    let mut out = Cover { leaves: Vec::new(), missing: shards.clone() };
    fill(&mut out, placement, group, rotation, standings, &usable);
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
    standings: &Standings,
    usable: impl Fn(&NodeId, ShardId) -> bool,
) -> Cover {
    let mut out = Cover { leaves: Vec::new(), missing: shards.clone() };
    for group in groups {
        if out.missing.is_empty() {
            break;
        }
        fill(&mut out, placement, *group, rotation, standings, &usable);
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
    standings: &Standings,
    usable: &impl Fn(&NodeId, ShardId) -> bool,
) {
    let nodes = placement.nodes(group);
    if nodes.is_empty() {
        return;
    }
    let tiers: Vec<Tier> = nodes.iter().map(|node| standings.tier(node)).collect();
    let choices = Choices::new(placement, group, &out.missing, rotation, &tiers, usable);
    let turn = rotation / choices.copies.max(1) as u64;
    let kept = choices.few_nodes(&tiers, turn);

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
            let exact = placement.held_at(group, at).is_some_and(|held| shards.is_superset(held));
            out.leaves.push(Leaf { node: nodes[at].clone(), shards, exact });
        }
    }
}

/// The usable owners of each wanted shard that has one, by tier and in rotated rank order, in one
/// flat list.
struct Choices {
    owners: Vec<u32>,
    /// A shard and where its owners end in `owners`.
    ends: Vec<(ShardId, usize)>,
    /// Most owners that a shard has, usable or not.
    copies: usize,
}

impl Choices {
    fn new(
        placement: &Placement,
        group: GroupId,
        shards: &ShardSet,
        rotation: u64,
        tiers: &[Tier],
        usable: &impl Fn(&NodeId, ShardId) -> bool,
    ) -> Self {
        let uneven = tiers.iter().any(|tier| *tier != Tier::Good);
        let nodes = placement.nodes(group);
        let wanted = shards.len();
        let mut copies = shards.iter().next().map_or(0, |s| placement.ranked(group, s).len());
        let mut owners = Vec::with_capacity(wanted * copies);
        let mut ends = Vec::with_capacity(wanted);
        for shard in shards.iter() {
            let ranked = placement.ranked(group, shard);
            copies = copies.max(ranked.len());
            let start = rotation.checked_rem(ranked.len() as u64).unwrap_or(0) as usize;
            let before = owners.len();
            let rotated = ranked[start..].iter().chain(&ranked[..start]);
            owners.extend(rotated.filter(|owner| usable(&nodes[**owner as usize], shard)));
            if uneven {
                owners[before..].sort_by_key(|owner: &u32| tiers[*owner as usize]);
            }
            if owners.len() > before {
                // The turns of one that is passed over go to all its equals, not to the next alone.
                let best = &mut owners[before..];
                if best[0] != ranked[start] {
                    let tier = tiers[best[0] as usize];
                    let equals = best.iter().take_while(|o| tiers[**o as usize] == tier).count();
                    let turn = rotation / ranked.len() as u64 % equals as u64;
                    best[..equals].rotate_left(turn as usize);
                }
                ends.push((shard, owners.len()));
            }
        }
        Self { owners, ends, copies }
    }

    fn iter(&self) -> impl Iterator<Item = (ShardId, &[u32])> {
        let mut start = 0;
        self.ends.iter().map(move |(shard, end)| {
            let owners = &self.owners[start..*end];
            start = *end;
            (*shard, owners)
        })
    }

    /// The usable owners of the shard at a position.
    fn owners(&self, at: usize) -> &[u32] {
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before].1);
        &self.owners[start..self.ends[at].1]
    }

    /// The nodes to ask, as flags: first choices, less the nodes that others, no worse, can stand in
    /// for. Of the worst the first to be spared is the `turn`-th, modulo their number.
    fn few_nodes(&self, tiers: &[Tier], turn: u64) -> Vec<bool> {
        let nodes = tiers.len();
        let mut kept = vec![false; nodes];
        for (_, owners) in self.iter() {
            kept[owners[0] as usize] = true;
        }
        if self.owners.len() == self.ends.len() {
            return kept; // no shard has a second choice
        }
        let mut shards_of: Vec<Vec<usize>> = vec![Vec::new(); nodes];
        for (at, (_, owners)) in self.iter().enumerate() {
            for owner in owners.iter().map(|owner| *owner as usize).filter(|owner| kept[*owner]) {
                shards_of[owner].push(at);
            }
        }
        let first = (turn % nodes as u64) as usize;
        let mut order: Vec<usize> = (first..nodes).chain(0..first).collect();
        order.sort_by_key(|node| std::cmp::Reverse(tiers[*node]));
        for node in order.into_iter().filter(|node| kept[*node]).collect::<Vec<_>>() {
            let replaceable = shards_of[node].iter().all(|at| {
                self.owners(*at)
                    .iter()
                    .map(|other| *other as usize)
                    .any(|other| other != node && kept[other] && tiers[other] <= tiers[node])
            });
            kept[node] = !replaceable;
        }
        kept
    }
}
