//! Which groups and replicas of a shard come first, decided once for a request.

use std::collections::BTreeMap;
use std::sync::Arc;

use miroir_api::{GroupId, NodeId};

use crate::hints::{Hints, Priority};
use crate::routing::standing::{allowed, is_near, mix, unit};
use crate::routing::{Selection, Standings, Strategy, Tier, query_group};
use crate::topology::Topology;

/// Why a group comes first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reason {
    /// It was its turn.
    Turn,
    /// A layer gave a hint at it.
    Asked(&'static str),
    /// It was another one's turn, which costs more.
    Cheaper {
        /// What the group costs; see [`crate::routing::standing`].
        cost: f64,
        /// The group whose turn it was.
        instead_of: GroupId,
        /// What that one costs.
        passed: f64,
    },
    /// Chance, to learn whether replicas that are spared are well again.
    Explored,
}

/// Which replicas to prefer.
#[derive(Clone, Debug)]
pub struct Route {
    /// Groups, best first. Later ones only fill what earlier ones cannot cover.
    pub groups: Vec<GroupId>,
    /// Rotates among the owners inside a group.
    pub rotation: u64,
    /// How nodes compare, as seen when the request came: everything that is chosen for it is chosen
    /// by the same standings.
    pub standings: Arc<Standings>,
    /// Why the first group is the first.
    pub reason: Reason,
    /// Nodes that are asked only to learn whether they are well again.
    pub probed: Vec<NodeId>,
}

impl Route {
    /// In turn, whoever is well.
    pub fn in_turn(groups: Vec<GroupId>, rotation: u64) -> Self {
        let (standings, reason, probed) = (Arc::default(), Reason::Turn, Vec::new());
        Self { groups, rotation, standings, reason, probed }
    }

    /// Decides for one request. `sequence` says whose turn it is: equal for equal queries, so that
    /// they go to the same replicas while all are well. `draw` is random. Equal arguments give equal
    /// routes.
    pub fn choose(
        topology: &Topology,
        mut standings: Standings,
        selection: &Selection,
        hints: &Hints,
        sequence: u64,
        draw: u64,
    ) -> Self {
        let hint = hints.group.as_ref();
        let must = hint.is_some_and(|hint| hint.priority > Priority::Prefer);
        // Only a group that must be read from is read from though it is for others.
        let excluded = |group: &GroupId| !must && hints.excluded.contains(group);
        let open: Vec<GroupId> =
            topology.complete_groups().map(|group| group.id).filter(|id| !excluded(id)).collect();
        let hint = hint.filter(|hint| open.contains(&hint.value));
        let count = open.len() as u32;
        let explores = selection.strategy == Strategy::Adaptive
            && standings.is_uneven()
            && unit(mix(draw, 0)) < selection.exploration_epsilon;
        let sequence = match selection.strategy {
            Strategy::Random => mix(draw, 1),
            Strategy::Adaptive if explores => mix(draw, 1),
            _ => sequence,
        };
        let adapts = selection.strategy == Strategy::Adaptive && !explores;
        let turn = open.get(query_group(sequence, count.max(1)).0 as usize).copied();
        let turn = turn.unwrap_or_default();
        let (groups, reason) = match hint {
            Some(hint) => {
                let mut groups = after(hint.value, &open);
                if hint.priority > Priority::Prefer {
                    groups.truncate(1);
                }
                (groups, Reason::Asked(hint.by))
            }
            None if adapts && count > 1 => by_cost(topology, &standings, &open, turn, mix(draw, 2)),
            None => (after(turn, &open), if explores { Reason::Explored } else { Reason::Turn }),
        };
        let mut probed = Vec::new();
        if explores {
            let unhealthy = standings.nodes().iter().filter(|node| node.tier > Tier::Good);
            probed.extend(unhealthy.map(|standing| standing.node.clone()));
            standings = Standings::default();
        } else if adapts {
            if let Some(group) = groups.first().and_then(|group| topology.group(*group)) {
                standings.spare_cold(group.nodes.iter().map(|node| &node.id), unit(mix(draw, 3)));
            }
        } else {
            standings = Standings::default();
        }
        // The group used the low part of the sequence; the rotation inside it uses the rest.
        let rotation = sequence / u64::from(count.max(1));
        Self { groups, rotation, standings: Arc::new(standings), reason, probed }
    }

    /// Whether chance decided, to learn something.
    pub fn explores(&self) -> bool {
        self.reason == Reason::Explored
    }
}

/// These groups, starting with one.
fn after(first: GroupId, open: &[GroupId]) -> Vec<GroupId> {
    let mut groups = open.to_vec();
    groups.rotate_left(open.iter().position(|group| *group == first).unwrap_or(0));
    groups
}

/// The groups that are about as good as the best in turn, then the others by what they cost.
fn by_cost(
    topology: &Topology,
    standings: &Standings,
    open: &[GroupId],
    turn: GroupId,
    draw: u64,
) -> (Vec<GroupId>, Reason) {
    let nodes = |group: GroupId| {
        topology.group(group).into_iter().flat_map(|group| group.nodes.iter().map(|node| &node.id))
    };
    let copies = topology.replication_factor();
    let costs: BTreeMap<GroupId, f64> =
        open.iter().map(|group| (*group, standings.group_cost(nodes(*group), copies))).collect();
    let cost = |group: &GroupId| costs.get(group).copied().unwrap_or(f64::INFINITY);
    let best = open.iter().map(cost).min_by(f64::total_cmp).unwrap_or(1.0);
    let mut order = after(turn, open);
    let good = order.iter().filter(|group| is_near(cost(group), best)).count();
    // A group of which nothing is known is not given everything at once.
    let spared = unit(draw) >= allowed(good, open.len());
    order.sort_by(|a, b| {
        let key = |group: &GroupId| match cost(group) {
            cost if !is_near(cost, best) => cost,
            _ if spared && standings.is_cold(nodes(*group)) => f64::MAX,
            _ => 0.0,
        };
        key(a).total_cmp(&key(b))
    });
    let first = order[0];
    let reason = if first == turn {
        Reason::Turn
    } else {
        Reason::Cheaper { cost: cost(&first), instead_of: turn, passed: cost(&turn) }
    };
    (order, reason)
}
