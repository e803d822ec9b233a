//! Who is asked before whom.

use std::time::Duration;

use miroir_api::NodeId;
use proptest::prelude::*;

use super::super::standing::{allowed, mix, unit};
use super::super::*;

fn id(at: usize) -> NodeId {
    NodeId::new(&format!("n{at:02}")).unwrap()
}

fn quick(millis: u64) -> Figures {
    Figures { latency: Some(Duration::from_millis(millis)), ..Figures::default() }
}

fn tiers(figures: &[Figures]) -> Vec<Tier> {
    let all = figures.iter().enumerate().map(|(at, figures)| (id(at), *figures));
    let standings = Standings::new(all, &Selection::default());
    (0..figures.len()).map(|at| standings.tier(&id(at))).collect()
}

#[test]
fn nodes_that_differ_a_little_are_equally_good() {
    let busy = |in_flight| Figures { in_flight, ..quick(2) };
    for even in [
        vec![quick(1), quick(2), quick(8)],
        vec![quick(100), quick(150), quick(200)],
        vec![busy(0), busy(3), busy(5)],
        vec![busy(40), busy(50), busy(60)],
        vec![Figures { error_rate: 0.1, ..quick(2) }, quick(2), quick(2)],
        vec![quick(500), quick(500), quick(500)],
        // What all have alike is no reason to ask anybody else.
        vec![Figures { error_rate: 0.9, ..quick(2) }; 3],
    ] {
        assert_eq!(tiers(&even), vec![Tier::Good; 3], "{even:?}");
    }
}

#[test]
fn slow_busy_and_failing_nodes_are_spared() {
    let queue = Figures { in_flight: 20, ..quick(2) };
    for (unhealthy, tier) in [
        (quick(40), Tier::Excluded),
        (quick(20), Tier::Poor),
        (queue, Tier::Excluded),
        (Figures { in_flight: 8, ..quick(2) }, Tier::Poor),
        // An instant refusal is not speed: nothing is known but that it fails.
        (Figures { error_rate: 0.9, ..Figures::default() }, Tier::Excluded),
        (Figures { error_rate: 0.2, ..quick(0) }, Tier::Poor),
    ] {
        assert_eq!(
            tiers(&[quick(2), unhealthy, quick(2)]),
            [Tier::Good, tier, Tier::Good],
            "{unhealthy:?}"
        );
    }
    // A node nobody knows is like the median one.
    let cold = Figures::default();
    assert_eq!(tiers(&[quick(2), cold, quick(400)]), [Tier::Good, Tier::Good, Tier::Excluded]);
    assert_eq!(tiers(&[cold, cold, cold]), [Tier::Good; 3]);
}

#[test]
fn a_group_costs_what_its_worst_node_does_that_is_needed() {
    let figures = [quick(2), quick(2), quick(65)].into_iter().enumerate();
    let standings = Standings::new(figures.map(|(at, f)| (id(at), f)), &Selection::default());
    let nodes: Vec<NodeId> = (0..3).map(id).collect();
    assert!((standings.group_cost(&nodes, 1) - 10.0).abs() < 1e-9);
    assert!((standings.group_cost(&nodes, 2) - 1.0).abs() < 1e-9);
    // A node that cannot be asked is the first to be spared.
    let with_dead: Vec<NodeId> = [0, 1, 9].map(id).to_vec();
    assert!(standings.group_cost(&with_dead, 1).is_infinite());
    assert!((standings.group_cost(&with_dead, 2) - 1.0).abs() < 1e-9);
    assert!(standings.group_cost(&[], 1).is_infinite());
}

/// Golden values: the sequence is that of the reference implementation of SplitMix64.
#[test]
fn draws_follow_the_published_splitmix64() {
    let first: Vec<u64> = (0..3).map(|n| mix(1_234_567, n)).collect();
    assert_eq!(
        first,
        [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
    );
    assert!(unit(0) == 0.0 && unit(u64::MAX) < 1.0);
}

proptest! {
    /// However few are good: a node of which nothing is known gets at most 1.2 times its share.
    #[test]
    fn cold_nodes_get_little_more_than_their_share(
        kinds in prop::collection::vec(0_u8..3, 2..7),
        seed in any::<u64>(),
    ) {
        let figures: Vec<Figures> = kinds.iter().map(|kind| match kind {
            0 => Figures::default(),
            1 => quick(2),
            _ => quick(400),
        }).collect();
        let nodes: Vec<NodeId> = (0..kinds.len()).map(id).collect();
        let placement = Placement::new(std::slice::from_ref(&nodes), nodes.len() as u32, 1);
        let even = Standings::new(nodes.iter().cloned().zip(figures.clone()), &Selection::default());
        let mut asked = vec![0_u32; nodes.len()];
        let rounds = 12_000;
        for round in 0..rounds {
            let mut standings = even.clone();
            standings.spare_cold(&nodes, unit(mix(seed, round)));
            let all = ShardSet::full(1);
            let cover = cover(&placement, miroir_api::GroupId(0), &all, round, &standings, |_, _| true);
            asked[nodes.iter().position(|node| *node == cover.leaves[0].node).unwrap()] += 1;
        }
        for (kind, asked) in kinds.iter().zip(asked) {
            let share = f64::from(asked) / rounds as f64 * nodes.len() as f64;
            prop_assert!(*kind != 0 || share < 1.2 + 0.1, "{share} times its share");
        }
        prop_assert!(allowed(nodes.len(), nodes.len()) > 1.0);
    }
}
