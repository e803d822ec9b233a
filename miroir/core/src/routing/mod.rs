//! Where a document lives and whom to ask: rendezvous hashing, placement and covers.
//!
//! Any pod computes the same answers from the same topology, without coordination. What is hashed
//! is therefore spelled out byte by byte and held by the golden vectors in
//! `tests/golden/placement.json`, which come from an independent implementation of XXH64:
//!
//! | what | hashed bytes | then |
//! | --- | --- | --- |
//! | shard of a document ([`shard_of`]) | UTF-8 of the primary key as text; a number in its decimal form | modulo the number of shards |
//! | score of a node for a shard ([`score`]) | shard as little-endian `u32`, then UTF-8 of the node id; no length, separator or terminator | highest score first, equal scores by ascending node id |
//!
//! The hash is [XXH64] with seed 0 in both cases. `std::hash::Hash` is not used: what it feeds to a
//! hasher (lengths, terminators, native byte order) is not a contract.
//!
//! The `replication_factor` best scores of a group own the shard (highest random weight hashing,
//! Thaler and Ravishankar 1998). A new node takes only shards in which it now is among the best; a
//! leaving node gives away only its own. Groups are scored separately, so that copies of a shard
//! never share one and every group holds all shards.
//!
//! [XXH64]: https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md

use std::hash::Hasher as _;

use miroir_api::{GroupId, NodeId, ShardId};
use twox_hash::XxHash64;

pub mod cover;
pub mod phase;
pub mod placement;
pub mod shards;
pub mod standing;

pub use cover::{Cover, Leaf, cover, cover_with_fallback};
pub use phase::Phase;
pub use placement::{Placement, Seats};
pub use shards::ShardSet;
pub use standing::{Figures, Selection, Standing, Standings, Strategy, Tier};

#[cfg(test)]
mod tests;

/// Fixed for ever: another seed is another placement of every document.
const SEED: u64 = 0;

/// The shard of a document, from the text of its primary key. Does not allocate.
///
/// # Panics
/// When `shards` is 0; the configuration refuses that.
#[inline]
pub fn shard_of(key: &[u8], shards: u32) -> ShardId {
    ShardId((XxHash64::oneshot(SEED, key) % u64::from(shards)) as u32)
}

/// How well a node suits a shard; the highest wins.
pub fn score(shard: ShardId, node: &NodeId) -> u64 {
    let mut hasher = XxHash64::with_seed(SEED);
    hasher.write(&shard.0.to_le_bytes());
    hasher.write(node.as_str().as_bytes());
    hasher.finish()
}

/// All nodes as indexes into `nodes`, best first: by descending score, then ascending node id.
pub fn rank(shard: ShardId, nodes: &[&NodeId]) -> Vec<usize> {
    owners_of(shard, nodes, nodes.len())
}

/// The owners of a shard among the nodes of one group: the first `replication_factor` of [`rank`].
pub fn owners_of(shard: ShardId, nodes: &[&NodeId], replication_factor: usize) -> Vec<usize> {
    ranked_by(nodes, replication_factor, |node| score(shard, node))
}

/// [`owners_of`] over any score, so that the order of equal scores can be tested.
fn ranked_by(nodes: &[&NodeId], count: usize, score: impl Fn(&NodeId) -> u64) -> Vec<usize> {
    let scores: Vec<u64> = nodes.iter().map(|node| score(node)).collect();
    let better =
        |a: &usize, b: &usize| scores[*b].cmp(&scores[*a]).then_with(|| nodes[*a].cmp(nodes[*b]));
    let mut order: Vec<usize> = (0..nodes.len()).collect();
    if count < order.len() {
        // Only the best are wanted: no need to sort the rest of a large group.
        order.select_nth_unstable_by(count, better);
        order.truncate(count);
    }
    order.sort_unstable_by(better);
    order
}

/// The group that answers the `seq`-th query of this pod: round robin. Group 0 when there is none.
#[must_use]
pub fn query_group(seq: u64, groups: u32) -> GroupId {
    GroupId((seq % u64::from(groups.max(1))) as u32)
}
