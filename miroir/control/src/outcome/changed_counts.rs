//! How many documents a task changed, when no group is complete. Pure.
//!
//! A node says how many it changed in all its shards together. Nodes whose shards are disjoint and
//! together all shards of the task give the exact number; where there are no such nodes, a document
//! of each shard is taken to be as likely as of any other.

use std::collections::BTreeSet;

use miroir_api::ShardId;

/// Nodes among which an exact answer is looked for; more would take long.
const MOST: usize = 16;

/// What one node said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answered {
    /// The shards it spoke of; none: the index as a whole.
    pub(crate) shards: BTreeSet<ShardId>,
    /// How many documents it changed in them.
    pub(crate) count: u64,
}

/// The number of documents, from what is known. `copies` is what each shard has where the shards
/// are not known.
pub(crate) fn count(touched: &BTreeSet<ShardId>, answers: &[Answered], copies: u64) -> u64 {
    if let Some(exact) = exact(touched, answers) {
        return exact;
    }
    let sum: u64 = answers.iter().map(|answer| answer.count).sum();
    let seen: u64 = answers.iter().map(|answer| answer.shards.len() as u64).sum();
    if seen == 0 {
        return sum.div_ceil(copies.max(1));
    }
    let wanted = touched.len() as u64;
    // Rounded to the nearest.
    (2 * sum * wanted + seen) / (2 * seen)
}

/// The sum over nodes that together hold every touched shard exactly once.
fn exact(touched: &BTreeSet<ShardId>, answers: &[Answered]) -> Option<u64> {
    let next = touched.first()?;
    let usable = answers.len().min(MOST);
    answers[..usable].iter().find_map(|answer| {
        let fits = answer.shards.contains(next) && answer.shards.is_subset(touched);
        if !fits {
            return None;
        }
        let rest: BTreeSet<ShardId> = touched.difference(&answer.shards).copied().collect();
        if rest.is_empty() {
            return Some(answer.count);
        }
        exact(&rest, answers).map(|more| answer.count + more)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(shards: &[u32]) -> BTreeSet<ShardId> {
        shards.iter().map(|shard| ShardId(*shard)).collect()
    }

    fn answered(shards: &[u32], count: u64) -> Answered {
        Answered { shards: set(shards), count }
    }

    #[test]
    fn disjoint_nodes_give_the_exact_number() {
        let all = set(&[0, 1, 2, 3]);
        // One node that holds everything, beside one that holds a part.
        assert_eq!(count(&all, &[answered(&[1, 2], 4), answered(&[0, 1, 2, 3], 9)], 2), 9);
        // Two halves, found behind a node that fits neither.
        let halves = [answered(&[0, 3], 5), answered(&[0, 1], 3), answered(&[2, 3], 4)];
        assert_eq!(count(&all, &halves, 2), 7);
        assert_eq!(count(&set(&[2]), &[answered(&[2], 1)], 3), 1);
        assert_eq!(count(&set(&[2]), &[answered(&[2], 0)], 3), 0);
    }

    #[test]
    fn overlapping_nodes_give_an_estimate() {
        let all = set(&[0, 1, 2, 3, 4, 5]);
        // Ten documents in each shard; three shards are there twice and three once.
        let overlapping = [answered(&[0, 1, 2, 3], 40), answered(&[0, 1, 2, 4, 5], 50)];
        assert_eq!(count(&all, &overlapping, 2), 60);
        assert_eq!(count(&all, &[], 2), 0);
        assert_eq!(count(&set(&[]), &[answered(&[], 5)], 2), 3, "shards unknown");
    }
}
