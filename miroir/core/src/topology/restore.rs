//! When shards of a node that failed get a new owner by themselves.

use std::collections::BTreeMap;
use std::time::Duration;

use miroir_api::{GroupId, NodeId};
use serde::{Deserialize, Serialize};

use super::{Layout, Seat, Wish};

/// `rebalancer.auto_restore`: where copies go that a failed node had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AutoRestore {
    /// To a spare of its group.
    #[default]
    Spare,
    /// To a spare of its group, or else to the other nodes of the group.
    Spread,
    /// Nowhere: an operator decides.
    Off,
}

/// What is to be done about nodes that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Restore {
    /// Nothing yet: none has failed for long enough.
    Wait,
    /// Nothing: so many failed at a time that it is more likely a network than disks.
    Brake,
    /// Nothing can be: no spare, or too few nodes. What would help is said to operators.
    NoPlace(NodeId),
    /// This.
    Begin {
        /// The node whose copies are made anew.
        node: NodeId,
        /// By this change of the layout.
        wish: Wish,
    },
}

/// Longest time that a node which comes and goes is waited for.
const LONGEST: Duration = Duration::from_hours(1);

/// How long a node is waited for that came back so often before: twice as long each time, up to an hour.
pub fn patience(after: Duration, returns: u32) -> Duration {
    after.saturating_mul(1 << returns.min(16)).min(LONGEST.max(after))
}

/// Decides about nodes of a layout that failed, each with how long ago and how long it is waited for.
pub fn restore(
    layout: &Layout,
    spares: &[Seat],
    failed: &BTreeMap<NodeId, (Duration, Duration)>,
    how: AutoRestore,
) -> Restore {
    let mut of_group: BTreeMap<GroupId, usize> = BTreeMap::new();
    let seats: Vec<&Seat> =
        layout.nodes.iter().filter(|seat| failed.contains_key(&seat.id)).collect();
    for seat in &seats {
        *of_group.entry(seat.group).or_default() += 1;
    }
    let longest = seats
        .iter()
        .filter(|seat| failed[&seat.id].0 >= failed[&seat.id].1)
        .max_by_key(|seat| failed[&seat.id].0);
    let Some(seat) = longest.filter(|_| how != AutoRestore::Off) else { return Restore::Wait };
    if of_group.values().any(|failed| *failed > 1) || seats.len() * 3 > layout.nodes.len() {
        return Restore::Brake;
    }
    let node = seat.id.clone();
    let spare = spares.iter().find(|spare| spare.group == seat.group);
    let wish = match spare {
        Some(spare) => {
            let (by, address) = (spare.id.clone(), spare.address.clone());
            Wish::Replace { node: node.clone(), by, address }
        }
        None => Wish::Drain(vec![node.clone()]),
    };
    let may = spare.is_some() || how == AutoRestore::Spread;
    if may && layout.after(&wish).is_ok() {
        Restore::Begin { node, wish }
    } else {
        Restore::NoPlace(node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> NodeId {
        NodeId::new(text).unwrap()
    }

    fn seat(text: &str, group: u32) -> Seat {
        Seat { id: id(text), group: GroupId(group), address: format!("http://{text}:7700") }
    }

    fn layout(replication_factor: u32, nodes: &[(&str, u32)]) -> Layout {
        let nodes = nodes.iter().map(|(text, group)| seat(text, *group)).collect();
        Layout { replication_factor, nodes }
    }

    fn failed(list: &[(&str, u64)]) -> BTreeMap<NodeId, (Duration, Duration)> {
        let of = |(text, since): &(&str, u64)| {
            (id(text), (Duration::from_secs(*since), Duration::from_mins(10)))
        };
        list.iter().map(of).collect()
    }

    #[test]
    fn a_node_that_failed_for_long_is_replaced_by_a_spare_of_its_group() {
        let three = layout(2, &[("a", 0), ("b", 0), ("c", 0)]);
        let spares = [seat("y", 1), seat("z", 0)];
        let begin = |node: &str, wish| Restore::Begin { node: id(node), wish };
        let by = |by: &str| Wish::Replace {
            node: id("b"),
            by: id(by),
            address: format!("http://{by}:7700"),
        };
        let long = failed(&[("b", 600)]);
        let spare = AutoRestore::Spare;
        assert_eq!(restore(&three, &spares, &failed(&[]), spare), Restore::Wait);
        assert_eq!(restore(&three, &spares, &failed(&[("b", 599)]), spare), Restore::Wait);
        assert_eq!(restore(&three, &spares, &long, spare), begin("b", by("z")));
        assert_eq!(restore(&three, &spares, &long, AutoRestore::Off), Restore::Wait);
        assert_eq!(restore(&three, &spares[..1], &long, spare), Restore::NoPlace(id("b")));
        // A spare that failed is none; who has no shards has none to be restored.
        assert_eq!(restore(&three, &spares, &failed(&[("z", 900)]), spare), Restore::Wait);
    }

    #[test]
    fn its_copies_are_spread_over_its_group_where_the_group_is_large_enough() {
        let three = layout(2, &[("a", 0), ("b", 0), ("c", 0)]);
        let long = failed(&[("b", 600)]);
        let drained = Restore::Begin { node: id("b"), wish: Wish::Drain(vec![id("b")]) };
        assert_eq!(restore(&three, &[], &long, AutoRestore::Spread), drained);
        let full = Layout { replication_factor: 3, ..three };
        assert_eq!(restore(&full, &[], &long, AutoRestore::Spread), Restore::NoPlace(id("b")));
    }

    #[test]
    fn nothing_moves_while_several_nodes_are_away() {
        let six = layout(2, &[("a", 0), ("b", 0), ("c", 0), ("d", 1), ("e", 1), ("f", 1)]);
        let (one, other) = ([seat("z", 0)], [seat("y", 1)]);
        let spares = [&one[..], &other[..]].concat();
        let how = AutoRestore::Spare;
        let two_of_a_group = failed(&[("a", 900), ("b", 1)]);
        assert_eq!(restore(&six, &spares, &two_of_a_group, how), Restore::Brake);
        let one_of_each = failed(&[("a", 900), ("d", 700)]);
        let Restore::Begin { node, .. } = restore(&six, &spares, &one_of_each, how) else {
            panic!("a third of all may be away");
        };
        assert_eq!(node, id("a"), "the longest first");
        let two = layout(1, &[("a", 0), ("b", 0)]);
        assert_eq!(restore(&two, &one, &failed(&[("a", 900)]), how), Restore::Brake);
    }

    #[test]
    fn whoever_comes_and_goes_is_waited_for_longer_each_time() {
        let after = Duration::from_mins(10);
        let minutes: Vec<u64> = (0..5).map(|n| patience(after, n).as_secs() / 60).collect();
        assert_eq!(minutes, [10, 20, 40, 60, 60]);
        assert_eq!(patience(Duration::from_hours(3), 9), Duration::from_hours(3));
        assert_eq!(patience(after, u32::MAX), LONGEST);
    }
}
