//! Choice and scores together, over a virtual clock.

use std::collections::BTreeMap;
use std::time::Duration;

use miroir_api::{GroupId, IndexUid, NodeId};
use tokio::time::Instant;

use super::*;
use crate::leaf::choose;
use crate::node::{Counted, Scores};
use miroir_core::hints::{Hints, Priority};
use miroir_core::routing::ShardSet;
use miroir_core::routing::standing::{mix, unit};
use miroir_core::routing::{Selection, Strategy};
use miroir_core::topology::{Node, Topology};
use miroir_core::view::{Reason, StaleMap};
use miroir_store::IndexEntry;

const HALF_LIFE: Duration = Duration::from_secs(5);
const SHARDS: u32 = 64;

fn id(group: u32, at: usize) -> NodeId {
    NodeId::new(&format!("g{group}-n{at}")).unwrap()
}

fn topology(groups: u32, nodes: usize, copies: u32) -> Topology {
    let nodes = (0..groups).flat_map(|group| {
        (0..nodes)
            .map(move |at| Node::new(id(group, at), format!("http://{group}.{at}"), GroupId(group)))
    });
    Topology::new(nodes.collect(), copies).unwrap()
}

fn index() -> IndexEntry {
    let then = time::OffsetDateTime::UNIX_EPOCH;
    IndexEntry::new(IndexUid::new("a").unwrap(), "a".into(), SHARDS, then)
}

/// One cluster under a steady stream of searches, whose nodes take what `latency` says at a second.
struct Simulation {
    topology: Topology,
    selection: Selection,
    /// Searches a second.
    rate: u64,
    seed: u64,
    fails: fn(&NodeId, f64) -> bool,
}

/// Calls by second and node, and how many requests explored.
struct Seen {
    calls: BTreeMap<(u64, NodeId), u64>,
    explored: u64,
    requests: u64,
}

impl Seen {
    /// A node's share of the calls of some seconds.
    fn share(&self, node: &NodeId, seconds: std::ops::Range<u64>) -> f64 {
        let within = || self.calls.iter().filter(|((second, _), _)| seconds.contains(second));
        let all: u64 = within().map(|(_, calls)| calls).sum();
        let own: u64 = within().filter(|((_, it), _)| it == node).map(|(_, calls)| calls).sum();
        own as f64 / all.max(1) as f64
    }
}

/// No node fails.
const NEVER: fn(&NodeId, f64) -> bool = |_, _| false;

impl Simulation {
    fn new(topology: Topology) -> Self {
        Self { topology, selection: Selection::default(), rate: 100, seed: 7, fails: NEVER }
    }

    fn run(&self, seconds: u64, latency: impl Fn(&NodeId, f64) -> f64) -> Seen {
        let scores = Scores::new(HALF_LIFE);
        let (start, index, stale) = (Instant::now(), index(), StaleMap::default());
        let pace = ExplorationRate::new(start);
        let copies = self.topology.replication_factor() * self.topology.groups().len() as u32;
        let mut seen = Seen { calls: BTreeMap::new(), explored: 0, requests: seconds * self.rate };
        let mut under_way: BTreeMap<(Duration, u64, NodeId), (Duration, Counted)> = BTreeMap::new();
        for n in 0..seen.requests {
            let at = Duration::from_micros(n * 1_000_000 / self.rate);
            while let Some(first) = under_way.first_entry().filter(|first| first.key().0 <= at) {
                let ((end, _, node), (took, _)) = first.remove_entry();
                let score = scores.node(&node);
                if (self.fails)(&node, end.as_secs_f64()) {
                    score.failed(took, start + end);
                } else {
                    score.answered(took, start + end);
                }
            }
            let standings = scores.standings(&self.topology, &self.selection, start + at);
            let (_, needed) = pace.step(start + at, copies, HALF_LIFE);
            let exploration_epsilon = self.selection.exploration_epsilon.min(needed);
            let selection = Selection { exploration_epsilon, ..self.selection };
            let (sequence, draw) = (mix(self.seed, 2 * n), mix(self.seed, 2 * n + 1));
            let route = Route::choose(
                &self.topology,
                standings,
                &selection,
                &Hints::default(),
                sequence,
                draw,
            );
            seen.explored += u64::from(route.explores());
            let all = ShardSet::full(SHARDS);
            let cover = choose(&self.topology, &index, &stale, &route, &all, &[], &scores);
            assert!(cover.missing.is_empty());
            for leaf in cover.leaves {
                *seen.calls.entry((at.as_secs(), leaf.node.clone())).or_default() += 1;
                // Searches differ: from half to twice of what the node usually takes.
                let differs = 0.5 * 4_f64.powf(unit(mix(draw, 9)));
                let took = latency(&leaf.node, at.as_secs_f64()) * differs / 1e3;
                let took = Duration::from_secs_f64(took);
                let guard = scores.node(&leaf.node).begin();
                under_way.insert((at + took, n, leaf.node), (took, guard));
            }
        }
        seen
    }
}

/// Node 0 takes `unhealthy` milliseconds from second 10 to second 40, and all others, and it
/// otherwise, 2.
fn unhealthy(slow: f64) -> impl Fn(&NodeId, f64) -> f64 {
    move |node, at| if *node == id(0, 0) && (10.0..40.0).contains(&at) { slow } else { 2.0 }
}

/// For every seed and rate tried: within one half-life a slow node's share is below 2 %, chance
/// included; two half-lives after it is well again it has its fair share.
#[test]
fn a_slow_node_is_spared_and_comes_back() {
    for (copies, slow, rate, seed) in [
        (3, 200.0, 100, 1),
        (3, 500.0, 100, 2),
        (3, 200.0, 1000, 3),
        (2, 200.0, 100, 4),
        (2, 500.0, 50, 5),
    ] {
        let simulation = Simulation { rate, seed, ..Simulation::new(topology(1, 3, copies)) };
        let seen = simulation.run(70, unhealthy(slow));
        let share = |seconds| seen.share(&id(0, 0), seconds);
        let what = format!("{copies} copies, {slow} ms, {rate}/s");
        assert!((share(0..10) - 1.0 / 3.0).abs() < 0.06, "{what}: {} before", share(0..10));
        assert!(share(15..40) < 0.02, "{what}: {} while slow", share(15..40));
        assert!(share(15..40) > 0.0005, "{what}: {} while slow", share(15..40));
        assert!((share(50..70) - 1.0 / 3.0).abs() < 0.06, "{what}: {} after", share(50..70));
    }
}

#[test]
fn exploration_is_as_much_as_configured_and_only_where_something_is_to_be_learnt() {
    let even = Simulation::new(topology(1, 3, 3)).run(20, |_, _| 2.0);
    assert_eq!(even.explored, 0);
    let always = |node: &NodeId, _: f64| if *node == id(0, 0) { 200.0 } else { 2.0 };
    // Four times per copy and half-life are enough: 24 in ten seconds, or 5 % of what is less.
    for (rate, seconds, most) in [(400, 60, 0.006), (100, 110, 0.024), (20, 300, 0.05)] {
        let seen = Simulation { rate, ..Simulation::new(topology(1, 3, 3)) }.run(seconds, always);
        // What is needed is known from the second period on.
        let explored = (seen.explored as f64 - 0.05 * 10.0 * rate as f64) / seen.requests as f64;
        assert!((explored / most - 1.0).abs() < 0.3, "{rate}/s: {explored}");
        let share = seen.share(&id(0, 0), 20..seconds) / most * 3.0;
        assert!((0.6..1.4).contains(&share), "{rate}/s: {share}");
    }
    let selection = Selection { exploration_epsilon: 0.0, ..Selection::default() };
    let never = Simulation { selection, ..Simulation::new(topology(1, 3, 3)) }.run(40, always);
    assert_eq!(never.explored, 0);
    assert!(never.share(&id(0, 0), 10..40) < 0.001);
}

#[test]
fn a_node_that_refuses_at_once_is_spared() {
    let fails = |node: &NodeId, at: f64| *node == id(0, 0) && at >= 10.0;
    let quick = |node: &NodeId, at: f64| if fails(node, at) { 0.1 } else { 20.0 };
    let simulation = Simulation { fails, ..Simulation::new(topology(1, 3, 3)) };
    let share = simulation.run(30, quick).share(&id(0, 0), 12..30);
    assert!(share < 0.025, "{share}");
}

#[test]
fn round_robin_and_random_do_not_look() {
    for strategy in [Strategy::RoundRobin, Strategy::Random] {
        let selection = Selection { strategy, ..Selection::default() };
        let simulation = Simulation { selection, ..Simulation::new(topology(1, 3, 3)) };
        let seen = simulation.run(40, unhealthy(500.0));
        let share = seen.share(&id(0, 0), 15..40);
        assert!((share - 1.0 / 3.0).abs() < 0.04, "{strategy:?}: {share}");
        assert_eq!(seen.explored, 0);
    }
}

#[test]
fn a_group_with_a_slow_node_that_is_needed_is_passed_over() {
    let simulation = Simulation::new(topology(2, 3, 1));
    let seen = simulation.run(70, unhealthy(200.0));
    let group = |seconds: std::ops::Range<u64>| -> f64 {
        (0..3).map(|at| seen.share(&id(0, at), seconds.clone())).sum()
    };
    assert!((group(0..10) - 0.5).abs() < 0.06, "{}", group(0..10));
    // Half of what explores.
    assert!(group(15..40) < 0.04, "{}", group(15..40));
    assert!((group(50..70) - 0.5).abs() < 0.06, "{}", group(50..70));
    // With a second copy in the group, nobody has to leave it.
    let seen = Simulation::new(topology(2, 3, 2)).run(40, unhealthy(200.0));
    let group: f64 = (0..3).map(|at| seen.share(&id(0, at), 15..40)).sum();
    assert!((group - 0.5).abs() < 0.06, "{group}");
}

fn route(hint: Option<(u32, Priority)>, slow: Option<NodeId>, sequence: u64) -> Route {
    let (topology, selection) = (topology(3, 2, 1), Selection::default());
    let (scores, start) = (Scores::new(HALF_LIFE), Instant::now());
    for node in topology.nodes() {
        let takes = if slow.as_ref() == Some(&node.id) { 400 } else { 2 };
        for n in 0..50 {
            let now = start + Duration::from_millis(100 * n);
            scores.node(&node.id).answered(Duration::from_millis(takes), now);
        }
    }
    let standings = scores.standings(&topology, &selection, start + HALF_LIFE);
    let mut hints = Hints::default();
    if let Some((group, priority)) = hint {
        hints.group(GroupId(group), "tenant_affinity", priority);
    }
    // This draw does not explore.
    Route::choose(&topology, standings, &selection, &hints, sequence, 1)
}

#[test]
fn hints_win_over_costs_and_costs_over_turns() {
    let groups = |route: &Route| route.groups.iter().map(|group| group.0).collect::<Vec<_>>();
    let even = route(None, None, 4);
    assert_eq!((groups(&even), even.reason, even.rotation), (vec![1, 2, 0], Reason::Turn, 1));
    let slow = route(None, Some(id(1, 0)), 4);
    assert_eq!(groups(&slow), [2, 0, 1]);
    assert!(
        matches!(slow.reason, Reason::Cheaper { instead_of: GroupId(1), passed, .. } if passed > 10.0),
        "{:?}",
        slow.reason
    );
    let hinted = route(Some((1, Priority::Prefer)), Some(id(1, 0)), 0);
    assert_eq!((groups(&hinted), hinted.reason), (vec![1, 2, 0], Reason::Asked("tenant_affinity")));
    let must = route(Some((1, Priority::Must)), Some(id(1, 0)), 0);
    assert_eq!((groups(&must), must.reason), (vec![1], Reason::Asked("tenant_affinity")));
}

/// What only a node that is far too slow has in its group is asked of another group, if it may be.
#[test]
fn what_is_excluded_is_asked_across_groups() {
    let (topology, index, scores) = (topology(3, 2, 1), index(), Scores::default());
    let all = ShardSet::full(SHARDS);
    for (priority, leaves_group) in [(Priority::Prefer, true), (Priority::Must, false)] {
        let route = route(Some((1, priority)), Some(id(1, 0)), 0);
        let cover = choose(&topology, &index, &StaleMap::default(), &route, &all, &[], &scores);
        assert!(cover.missing.is_empty());
        let asked: Vec<&NodeId> = cover.leaves.iter().map(|leaf| &leaf.node).collect();
        assert_eq!(!asked.contains(&&id(1, 0)), leaves_group, "{asked:?}");
        assert!(asked.contains(&&id(1, 1)));
    }
}
