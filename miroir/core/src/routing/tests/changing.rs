//! Placements while a layout changes, against what each phase promises.

use std::collections::{BTreeMap, BTreeSet};

use miroir_api::{GroupId, NodeId, ShardId};
use proptest::prelude::*;

use crate::routing::{Phase, Placement, Seats, ShardSet, Standings, cover_with_fallback};

const PHASES: [Phase; 4] = [Phase::Announced, Phase::Copying, Phase::Switched, Phase::Retiring];

prop_compose! {
    /// Nodes of up to three groups, and a number of copies that each of them can hold.
    fn any_seats()(
        picks in prop::collection::vec((0..3_u32, 0..5_u8), 1..9), copies in 1..3_u32,
    ) -> Seats {
        let mut groups: BTreeMap<GroupId, BTreeSet<NodeId>> = BTreeMap::new();
        for (group, node) in picks {
            let id = NodeId::new(&format!("g{group}-{node}")).unwrap();
            groups.entry(GroupId(group)).or_default().insert(id);
        }
        let smallest = groups.values().map(BTreeSet::len).min().unwrap_or(1) as u32;
        let groups = groups.into_iter().map(|(id, nodes)| (id, nodes.into_iter().collect()));
        Seats { replication_factor: copies.min(smallest), groups: groups.collect() }
    }
}

type Owners = BTreeSet<NodeId>;

fn written(placement: &Placement, shard: ShardId) -> Owners {
    placement.write_targets(shard).map(|(_, node)| node.clone()).collect()
}

fn read(placement: &Placement, groups: &[GroupId], shard: ShardId) -> Owners {
    groups.iter().flat_map(|group| placement.owners(*group, shard).cloned()).collect()
}

proptest! {
    #[test]
    fn each_phase_reads_writes_and_holds_what_it_says(
        from in any_seats(), to in any_seats(), shards in 1..20_u32,
    ) {
        let (before, after) = (Placement::of(&from, shards), Placement::of(&to, shards));
        let all: Vec<GroupId> = (0..3).map(GroupId).collect();
        let nodes: BTreeSet<&NodeId> =
            from.groups.values().chain(to.groups.values()).flatten().collect();
        for phase in PHASES {
            let now = Placement::changing(&from, &to, phase, shards);
            prop_assert!(now.changes() && !before.changes());
            for shard in (0..shards).map(ShardId) {
                let (old, new) = (written(&before, shard), written(&after, shard));
                let both: Owners = old.union(&new).cloned().collect();
                let (writes, reads) = match phase {
                    Phase::Announced => (&old, &old),
                    Phase::Copying => (&both, &both),
                    Phase::Switched => (&both, &new),
                    Phase::Retiring => (&new, &new),
                };
                prop_assert_eq!(&written(&now, shard), writes);
                prop_assert_eq!(&read(&now, &all, shard), reads);
                for node in &nodes {
                    let holds = now.held_by(node).contains(shard);
                    prop_assert_eq!(holds, both.contains(*node));
                    prop_assert_eq!(now.owned_by(node).contains(shard), writes.contains(*node));
                    prop_assert_eq!(now.read_from(node).contains(shard), reads.contains(*node));
                }
            }
            let counted = if phase < Phase::Switched { &before } else { &after };
            prop_assert!(now.groups().eq(counted.groups()));
        }
    }

    /// A node that may have documents of a shard it is not asked for is told which to look through.
    #[test]
    fn a_leaf_is_exact_only_where_the_node_holds_nothing_else(
        from in any_seats(), to in any_seats(), shards in 1..20_u32, rotation in 0..9_u64,
    ) {
        for phase in PHASES {
            let now = Placement::changing(&from, &to, phase, shards);
            let groups: Vec<GroupId> = now.groups().collect();
            let wanted = ShardSet::full(shards);
            let standings = Standings::default();
            let cover =
                cover_with_fallback(&now, &groups, &wanted, rotation, &standings, |_, _| true);
            prop_assert!(cover.missing.is_empty(), "complete groups hold every shard");
            for leaf in cover.leaves {
                prop_assert!(now.read_from(&leaf.node).is_superset(&leaf.shards));
                prop_assert_eq!(leaf.exact, leaf.shards.is_superset(&now.held_by(&leaf.node)));
            }
        }
    }
}

/// From every phase the owners that count in the next are written already.
#[test]
fn whoever_is_read_next_is_written_now() {
    let nodes = |names: &[&str]| names.iter().map(|name| NodeId::new(name).unwrap()).collect();
    let seats = |names: &[&str]| Seats {
        replication_factor: 2,
        groups: [(GroupId(0), nodes(names))].into_iter().collect(),
    };
    let (from, to) = (seats(&["a", "b", "c"]), seats(&["b", "c", "d", "e"]));
    let at = |phase| Placement::changing(&from, &to, phase, 64);
    for pair in PHASES.windows(2).filter(|pair| pair[0] != Phase::Announced) {
        let (now, next) = (at(pair[0]), at(pair[1]));
        for shard in (0..64).map(ShardId) {
            let writes = written(&now, shard);
            assert!(read(&next, &[GroupId(0)], shard).is_subset(&writes), "{pair:?}");
        }
    }
}

/// A group that is added or removed is read for the layout that counts, and a node for its group's.
#[test]
fn who_is_read_follows_the_layout_that_counts() {
    let nodes = |names: &[&str]| names.iter().map(|name| NodeId::new(name).unwrap()).collect();
    let seats = |groups: &[&[&str]]| Seats {
        replication_factor: 1,
        groups: (0..).map(GroupId).zip(groups.iter().map(|names| nodes(names))).collect(),
    };
    let (from, to) = (seats(&[&["a", "b"]]), seats(&[&["b", "c"], &["d"]]));
    let read = |phase| {
        let now = Placement::changing(&from, &to, phase, 64);
        let all = ["a", "b", "c", "d", "e"];
        all.into_iter().filter(|name| now.is_read(&NodeId::new(name).unwrap())).collect::<String>()
    };
    assert_eq!(PHASES.map(read), ["ab", "abc", "bcd", "bcd"]);
}
