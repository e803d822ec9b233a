//! The order in which the engine meets numbers of equal count.
//!
//! By count, the engine walks a tree: the values in order, then groups of four, groups of groups.
//! Groups wait in a heap with the values, by count and below values of the same count. So a last
//! group of one value, which counts as much as its value, has to wait for all others.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Children of a group.
const GROUP: usize = 4;
/// A level smaller than this is not built.
const LEVEL: usize = 5;

/// A member of a level: its count, and its children on the level below.
struct Group {
    count: u64,
    children: std::ops::Range<usize>,
    first: usize,
}

/// The order by falling count of all values of an index, given their counts in rising order of the
/// values; answers positions.
pub(crate) fn walk(counts: &[u64]) -> Vec<usize> {
    let value = |(at, count): (usize, &u64)| Group { count: *count, children: 0..0, first: at };
    let mut levels: Vec<Vec<Group>> = vec![counts.iter().enumerate().map(value).collect()];
    loop {
        let below = levels.last().map(Vec::as_slice).unwrap_or_default();
        if below.len().div_ceil(GROUP) < LEVEL {
            break;
        }
        let groups = below.chunks(GROUP).enumerate().map(|(at, members)| Group {
            count: members.iter().fold(0, |sum, member| sum.saturating_add(member.count)),
            children: at * GROUP..at * GROUP + members.len(),
            first: members.first().map_or(0, |member| member.first),
        });
        let groups = groups.collect();
        levels.push(groups);
    }
    let mut heap = BinaryHeap::new();
    let entry = |level: usize, at: usize| {
        let group = &levels[level][at];
        (group.count, Reverse(level), group.first, at)
    };
    let top = levels.len() - 1;
    heap.extend((0..levels[top].len()).map(|at| entry(top, at)));
    let mut out = Vec::with_capacity(counts.len());
    while let Some((_, Reverse(level), first, at)) = heap.pop() {
        if level == 0 {
            out.push(first);
        } else {
            heap.extend(levels[level][at].children.clone().map(|child| entry(level - 1, child)));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_values_come_highest_first() {
        assert_eq!(walk(&[]), Vec::<usize>::new());
        assert_eq!(walk(&[1, 3, 1, 3]), [3, 1, 2, 0]);
    }

    #[test]
    fn a_last_group_of_one_waits_for_its_equals() {
        let mut counts = [1_u64; 21];
        counts[3] = 9;
        let order = walk(&counts);
        assert_eq!(order[0], 3);
        assert_eq!(order[1], 19);
        assert_eq!(order[20], 20);
        // A last group of two counts more than its members, and does not wait.
        assert_eq!(walk(&[1; 22])[..3], [21, 20, 19]);
    }
}
