//! What placement depends on, and how two of them differ.

use std::collections::BTreeMap;

use miroir_api::{GroupId, NodeId};
use serde::{Deserialize, Serialize};
use twox_hash::XxHash64;

use super::{Node, Topology};
use crate::routing::Seats;

/// One node of a [`Layout`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seat {
    /// Its id: what placement hashes.
    pub id: NodeId,
    /// The replica group it belongs to.
    pub group: GroupId,
    /// Where it was last reached. No part of the fingerprint: a node may move.
    pub address: String,
}

/// Which nodes a cluster has, in which groups, and how often each keeps a shard: all that placement
/// depends on but the number of shards, which every index has its own of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// Copies of a shard in each group.
    pub replication_factor: u32,
    /// The nodes, by group and id.
    pub nodes: Vec<Seat>,
}

impl Layout {
    /// The layout of a topology.
    pub fn of(topology: &Topology) -> Self {
        let seat = |node: &Node| Seat {
            id: node.id.clone(),
            group: node.group,
            address: node.address.clone(),
        };
        Self {
            replication_factor: topology.replication_factor(),
            nodes: topology.nodes().map(seat).collect(),
        }
    }

    /// What placement depends on.
    pub(super) fn seats(&self) -> Seats {
        let mut groups: BTreeMap<GroupId, Vec<NodeId>> = BTreeMap::new();
        for seat in &self.nodes {
            groups.entry(seat.group).or_default().push(seat.id.clone());
        }
        Seats { replication_factor: self.replication_factor, groups }
    }

    /// By what it is told from others, in the store of this name: XXH64 of its canonical text, as 16
    /// hexadecimal digits.
    pub fn fingerprint(&self, store: &str) -> String {
        let mut lines: Vec<String> =
            self.nodes.iter().map(|seat| format!("{}/{}", seat.group, seat.id)).collect();
        lines.sort_unstable();
        let text = format!("{store}\n{}\n{}\n", self.replication_factor, lines.join("\n"));
        format!("{:016x}", XxHash64::oneshot(0, text.as_bytes()))
    }

    /// What another layout has otherwise, each as a sentence about `other`, which is called
    /// `the configuration`. Empty where both place alike, whatever the addresses.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut found = Vec::new();
        if self.replication_factor != other.replication_factor {
            found.push(format!(
                "`replication_factor` is {} and the configuration has {}",
                self.replication_factor, other.replication_factor
            ));
        }
        let theirs: BTreeMap<&NodeId, &Seat> = other.nodes.iter().map(|s| (&s.id, s)).collect();
        let ours: BTreeMap<&NodeId, &Seat> = self.nodes.iter().map(|s| (&s.id, s)).collect();
        let mut new: Vec<&Seat> =
            other.nodes.iter().filter(|seat| !ours.contains_key(&seat.id)).collect();
        for seat in &self.nodes {
            let Some(now) = theirs.get(&seat.id) else {
                let same = |other: &&Seat| other.address == seat.address;
                match new.iter().position(same).map(|at| new.remove(at)) {
                    Some(renamed) => found.push(format!(
                        "the configuration calls node `{}`, at {}, `{}`",
                        seat.id, seat.address, renamed.id
                    )),
                    None => found.push(format!("the configuration lacks node `{}`", seat.id)),
                }
                continue;
            };
            if now.group != seat.group {
                found.push(format!(
                    "node `{}` is in group {} and the configuration has it in group {}",
                    seat.id, seat.group, now.group
                ));
            }
        }
        found.extend(
            new.iter()
                .map(|seat| format!("the configuration has node `{}`, which is new", seat.id)),
        );
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(replication_factor: u32, nodes: &[(&str, u32, &str)]) -> Layout {
        let seat = |(id, group, address): &(&str, u32, &str)| Seat {
            id: NodeId::new(id).unwrap(),
            group: GroupId(*group),
            address: (*address).to_owned(),
        };
        Layout { replication_factor, nodes: nodes.iter().map(seat).collect() }
    }

    #[test]
    fn only_what_places_makes_a_difference() {
        let known = layout(1, &[("a", 0, "x"), ("b", 0, "y"), ("c", 1, "z")]);
        let moved = layout(1, &[("c", 1, "v"), ("a", 0, "w"), ("b", 0, "u")]);
        assert!(known.differences(&moved).is_empty());
        assert_eq!(known.fingerprint("s"), moved.fingerprint("s"));
        assert_ne!(known.fingerprint("s"), known.fingerprint("t"));
        assert_eq!(known.fingerprint("s").len(), 16);
        let others = [
            (
                layout(2, &[("a", 0, "x"), ("b", 0, "y"), ("c", 1, "z")]),
                "`replication_factor` is 1",
            ),
            (layout(1, &[("a", 0, "x"), ("b", 0, "y")]), "lacks node `c`"),
            (layout(1, &[("a", 0, "x"), ("b", 1, "y"), ("c", 1, "z")]), "`b` is in group 0"),
            (
                layout(1, &[("a", 0, "x"), ("b", 0, "y"), ("d", 1, "z")]),
                "calls node `c`, at z, `d`",
            ),
            (
                layout(1, &[("a", 0, "x"), ("b", 0, "y"), ("c", 1, "z"), ("d", 1, "v")]),
                "has node `d`, which is new",
            ),
        ];
        for (other, says) in others {
            let found = known.differences(&other);
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].contains(says), "{found:?}");
            assert_ne!(known.fingerprint("s"), other.fingerprint("s"), "{says}");
        }
    }
}
