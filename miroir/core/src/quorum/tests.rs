//! The table of the write quorum, and its definition as a property.

use miroir_api::{GroupId, NodeId, ShardId};
use proptest::prelude::*;

use super::*;

fn placement(groups: usize, nodes: usize, rf: u32) -> Placement {
    let ids = |g| (0..nodes).map(|n| NodeId::new(&format!("g{g}-n{n}")).unwrap()).collect();
    Placement::new(&(0..groups).map(ids).collect::<Vec<_>>(), rf, 8)
}

#[test]
fn each_rule_needs_its_number_of_acknowledgements() {
    use WriteQuorum::{Any, Auto, Majority};
    for (rule, expected) in [(Auto, [1, 1, 2, 3, 3]), (Majority, [1, 2, 2, 3, 3]), (Any, [1; 5])] {
        assert_eq!([1, 2, 3, 4, 5].map(|rf| rule.needed(rf)), expected, "{rule:?}");
    }
    assert_eq!(WriteQuorum::default(), Auto);
    assert_eq!(serde_json::to_value(Majority).unwrap(), "majority");
}

/// RG, RF, rule, acknowledgements in each group, accepted, degraded groups.
#[test]
fn a_write_is_accepted_once_one_group_meets_its_quorum() {
    use WriteQuorum::{Any, Auto, Majority};
    let shard = ShardId(3);
    for (rf, rule, acks, accepted, degraded) in [
        (1, Majority, &[1][..], true, &[][..]),
        (1, Auto, &[0], false, &[]),
        (2, Majority, &[2], true, &[]),
        (2, Majority, &[1], false, &[]),
        (2, Auto, &[1], true, &[0]),
        (2, Auto, &[0], false, &[]),
        (3, Majority, &[2], true, &[0]),
        (3, Auto, &[2], true, &[0]),
        (3, Auto, &[1], false, &[]),
        (3, Any, &[1], true, &[0]),
        (1, Auto, &[1, 0], true, &[1]),
        (1, Majority, &[0, 1], true, &[0]),
        (1, Any, &[0, 0], false, &[]),
        (3, Auto, &[2, 3], true, &[0]),
        (3, Majority, &[3, 1], true, &[1]),
        (3, Majority, &[1, 1], false, &[]),
        (3, Auto, &[2, 0], true, &[0, 1]),
    ] {
        let placement = placement(acks.len(), rf as usize, rf);
        let mut acked = Vec::new();
        let mut late = Vec::new();
        for (group, acks) in (0..).map(GroupId).zip(acks) {
            let owners: Vec<NodeId> = placement.owners(group, shard).cloned().collect();
            acked.extend_from_slice(&owners[..*acks]);
            late.extend_from_slice(&owners[*acks..]);
        }
        late.sort();
        let touched = ShardSet::single(shard, 8);
        let missed: Vec<_> = late.into_iter().map(|node| (node, touched.clone())).collect();
        let expected = if accepted {
            let degraded_groups = degraded.iter().copied().map(GroupId).collect();
            let needed = rule.needed(rf) as usize;
            let met = (0..).zip(acks).filter(|(_, acks)| **acks >= needed);
            let complete = met.map(|(group, _)| GroupId(group)).collect();
            QuorumDecision::Met { complete, degraded_groups, missed }
        } else {
            QuorumDecision::NoQuorum { shards: touched.clone(), missed }
        };
        let verdict = evaluate(&placement, rf, rule, &touched, |n, _| acked.contains(n));
        assert_eq!(verdict, expected, "RF {rf} {rule:?} {acks:?}");
    }
}

#[test]
fn nothing_touched_and_unknown_shards() {
    let placement = placement(2, 3, 2);
    let rule = WriteQuorum::Auto;
    let nothing = evaluate(&placement, 2, rule, &ShardSet::empty(8), |_, _| false);
    assert_eq!(
        nothing,
        QuorumDecision::Met {
            complete: vec![GroupId(0), GroupId(1)],
            degraded_groups: vec![],
            missed: vec![]
        }
    );
    let beyond = ShardSet::single(ShardId(8), 9);
    let lost = evaluate(&placement, 2, rule, &beyond, |_, _| true);
    assert_eq!(lost, QuorumDecision::NoQuorum { shards: beyond, missed: vec![] });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn verdicts_follow_the_definition(
        groups in 1_usize..4,
        (rf, extra) in (1_u32..4, 0_usize..3),
        rule in prop::sample::select(vec![WriteQuorum::Auto, WriteQuorum::Majority, WriteQuorum::Any]),
        touched in any::<u8>(),
        down in any::<u32>(),
    ) {
        let placement = placement(groups, rf as usize + extra, rf);
        let touched = ShardSet::from_iter((0..8).filter(|s| touched >> s & 1 == 1).map(ShardId), 8);
        // Failures by node and shard: a node may lose a part of a batch only.
        let acked = |node: &NodeId, shard: ShardId| {
            down >> (crate::routing::score(shard, node) % 32) & 1 == 0
        };
        let acks = |group, shard| placement.owners(group, shard).filter(|n| acked(n, shard)).count();
        let lost = ShardSet::from_iter(
            touched.iter().filter(|shard| {
                placement.groups().all(|g| (acks(g, *shard) as u32) < rule.needed(rf))
            }),
            8,
        );
        let (got_lost, missed) = match evaluate(&placement, rf, rule, &touched, acked) {
            QuorumDecision::Met { complete, degraded_groups, missed } => {
                let whole = |g: &GroupId| {
                    touched.iter().all(|s| acks(*g, s) as u32 >= rule.needed(rf))
                };
                prop_assert_eq!(complete, placement.groups().filter(whole).collect::<Vec<_>>());
                let expected: Vec<GroupId> = placement
                    .groups()
                    .filter(|g| touched.iter().any(|s| acks(*g, s) < rf as usize))
                    .collect();
                prop_assert_eq!(degraded_groups, expected);
                (ShardSet::empty(8), missed)
            }
            QuorumDecision::NoQuorum { shards, missed } => {
                prop_assert!(!shards.is_empty());
                (shards, missed)
            }
        };
        prop_assert_eq!(got_lost, lost);
        let got: Vec<(NodeId, ShardId)> =
            missed.iter().flat_map(|(n, set)| set.iter().map(|s| (n.clone(), s))).collect();
        let mut expected: Vec<(NodeId, ShardId)> = touched
            .iter()
            .flat_map(|s| placement.write_targets(s).map(move |(_, n)| (n.clone(), s)))
            .filter(|(n, s)| !acked(n, *s))
            .collect();
        expected.sort();
        prop_assert_eq!(got, expected);
    }
}
