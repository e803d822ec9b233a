//! Standings: how nodes compare right now, and so whom to ask first.
//!
//! Every node has a cost. 1 is what the median node has; only what is worse than the median counts:
//!
//! ```text
//! cost = 1 + latency_weight   * max(0, (latency + 5 ms) / (median latency + 5 ms) - 1)
//!          + inflight_weight * max(0, in flight - median) / (median + 8)
//!          + error_weight     * max(0, error rate - median)
//! ```
//!
//! The additions keep differences nobody notices (1 ms or 2 ms, no call or two in flight) from
//! deciding. Errors are a term of their own, so that a node that refuses everything at once does not
//! look quick. A node of which nothing is known costs what the median node costs.
//!
//! Costs sort nodes into [`Tier`]s. Within a tier they are equals, and the rotation decides as
//! if there were no costs: as long as all nodes are well, who answers a query depends on the query
//! alone, and its pages come from the same replicas.

use std::time::Duration;

use miroir_api::NodeId;
use serde::{Deserialize, Serialize};

use crate::options::{Faults, Validate, milliseconds};

/// Latencies are compared after this much was added to each, in seconds.
const SLACK: f64 = 0.005;
/// Calls in flight are compared to the median and this many more.
const QUEUE: f64 = 8.0;
/// A node that costs this many times as much as the best one is no longer its equal.
const BAND: f64 = 2.5;
/// A node that costs this many times as much as the median one is worse than another group.
const EXCLUDED: f64 = 5.0;
/// A cold node gets at most this many times its fair share.
const COLD_SHARE: f64 = 1.2;

/// How one of several replicas of a shard is chosen for a read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// In turn among the replicas of the best [`Tier`] that has any.
    #[default]
    Adaptive,
    /// In turn among all usable replicas, however they are doing.
    RoundRobin,
    /// At random among all usable replicas, however they are doing.
    Random,
}

/// `replica_selection`: which replica of a shard is asked.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Selection {
    /// Which rule chooses; the other fields count for [`Strategy::Adaptive`] only.
    pub strategy: Strategy,
    /// What a node costs that takes twice as long as the median node, beyond what that one costs.
    pub latency_weight: f64,
    /// What calls in flight cost; see the [module's documentation](self).
    pub inflight_weight: f64,
    /// What a node costs that fails every call while the median node fails none.
    pub error_weight: f64,
    /// How long it takes until half of what is known of a node counts no more: what `Scores` are
    /// made with. 5 s by default.
    #[serde(rename = "ewma_half_life_ms", with = "milliseconds")]
    pub ewma_half_life: Duration,
    /// Share of requests that go to replicas at random while some are spared, so that it is noticed
    /// when those are well again; from 0 to 1.
    pub exploration_epsilon: f64,
}

impl Default for Selection {
    fn default() -> Self {
        Self {
            strategy: Strategy::Adaptive,
            latency_weight: 1.0,
            inflight_weight: 2.0,
            error_weight: 10.0,
            ewma_half_life: Duration::from_secs(5),
            exploration_epsilon: 0.05,
        }
    }
}

impl Validate for Selection {
    fn validate(&self, faults: &mut Faults) {
        for (key, weight) in [
            ("latency_weight", self.latency_weight),
            ("inflight_weight", self.inflight_weight),
            ("error_weight", self.error_weight),
        ] {
            let good = (0.0..=1_000.0).contains(&weight);
            faults.when(!good, &[key], format!("{weight} is not a weight"), "use 0 to 1000");
        }
        let epsilon = self.exploration_epsilon;
        faults.when(
            !(0.0..=1.0).contains(&epsilon),
            &["exploration_epsilon"],
            format!("{epsilon} is not a share"),
            "use 0 to 1",
        );
        faults.positive(&[("ewma_half_life_ms", self.ewma_half_life.is_zero())]);
    }
}

/// How one node has been doing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    /// What it usually takes to answer; `None` while that is not known: the node is cold.
    pub latency: Option<Duration>,
    /// Number of calls to the node that have not been answered yet.
    pub in_flight: u64,
    /// Share of its calls that fail, from 0 to 1.
    pub error_rate: f64,
}

/// Who is asked before whom.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// About as good as the best.
    #[default]
    Good,
    /// Worse: asked where no good node has the shard.
    Poor,
    /// Nothing is known of it, and it has had its share.
    Spared,
    /// So much worse than most that another group is asked first.
    Excluded,
}

/// How one node compares to the others at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    /// Id of the node.
    pub node: NodeId,
    /// The measurements the cost was computed from.
    pub figures: Figures,
    /// What it costs to ask it; 1 is usual.
    pub cost: f64,
    /// Whether the node is asked before or after others.
    pub tier: Tier,
}

/// The standings of all nodes that can be asked, at one moment. By default nothing is known, and all
/// nodes are good.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Standings {
    /// Ascending by node.
    nodes: Vec<Standing>,
    uneven: bool,
}

/// The lower median; `None` of nothing.
fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    let middle = values.len().checked_sub(1)? / 2;
    let (_, median, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    Some(*median)
}

impl Standings {
    /// Compares the nodes that can be asked, in any order.
    pub fn new(
        figures: impl IntoIterator<Item = (NodeId, Figures)>,
        selection: &Selection,
    ) -> Self {
        let mut nodes: Vec<Standing> = figures
            .into_iter()
            .map(|(node, figures)| Standing { node, figures, cost: 1.0, tier: Tier::Good })
            .collect();
        nodes.sort_unstable_by(|a, b| a.node.cmp(&b.node));
        let all = || nodes.iter().map(|node| &node.figures);
        let latency = median(all().filter_map(|f| f.latency).map(|l| l.as_secs_f64()));
        let in_flight = median(all().map(|f| f.in_flight as f64)).unwrap_or_default();
        let errors = median(all().map(|f| f.error_rate)).unwrap_or_default();
        for Standing { figures, cost, .. } in &mut nodes {
            let slower = match (figures.latency, latency) {
                (Some(own), Some(usual)) => (own.as_secs_f64() + SLACK) / (usual + SLACK) - 1.0,
                _ => 0.0,
            };
            let longer = (figures.in_flight as f64 - in_flight) / (in_flight + QUEUE);
            *cost += selection.latency_weight * slower.max(0.0)
                + selection.inflight_weight * longer.max(0.0)
                + selection.error_weight * (figures.error_rate - errors).max(0.0);
        }
        let usual = median(nodes.iter().map(|node| node.cost)).unwrap_or(1.0);
        let best = nodes.iter().map(|node| node.cost).min_by(f64::total_cmp).unwrap_or(1.0);
        for node in &mut nodes {
            node.tier = match node.cost {
                cost if cost > EXCLUDED * usual => Tier::Excluded,
                cost if cost > BAND * best => Tier::Poor,
                _ => Tier::Good,
            };
        }
        let uneven = nodes.iter().any(|node| node.tier != Tier::Good);
        Self { nodes, uneven }
    }

    /// One standing a node, ascending by node id.
    pub fn nodes(&self) -> &[Standing] {
        &self.nodes
    }

    /// A node's standing; `None` if the node cannot be asked, or nothing is known at all.
    pub fn of(&self, node: &NodeId) -> Option<&Standing> {
        let at = self.nodes.binary_search_by(|standing| standing.node.cmp(node)).ok()?;
        Some(&self.nodes[at])
    }

    /// A node's tier; good where nothing is known.
    pub fn tier(&self, node: &NodeId) -> Tier {
        if self.uneven { self.of(node).map_or(Tier::Good, |it| it.tier) } else { Tier::Good }
    }

    /// Whether some nodes are asked before others.
    pub fn is_uneven(&self) -> bool {
        self.uneven
    }

    /// Whether some nodes are left out for being excluded.
    pub fn excludes(&self) -> bool {
        self.uneven && self.nodes.iter().any(|node| node.tier == Tier::Excluded)
    }

    /// What it costs to have a group answer: what its worst node costs that cannot be spared.
    /// Infinite where some shard may have no replica.
    pub fn group_cost<'a>(
        &self,
        group: impl IntoIterator<Item = &'a NodeId>,
        replication_factor: u32,
    ) -> f64 {
        let mut costs: Vec<f64> = group
            .into_iter()
            .map(|node| self.of(node).map_or(f64::INFINITY, |standing| standing.cost))
            .collect();
        costs.sort_unstable_by(|a, b| b.total_cmp(a));
        // Any `replication_factor - 1` nodes can be done without.
        let spared = (replication_factor.max(1) - 1) as usize;
        costs.get(spared.min(costs.len().saturating_sub(1))).copied().unwrap_or(f64::INFINITY)
    }

    /// Whether nothing is known of any node of a group.
    pub fn is_cold<'a>(&self, group: impl IntoIterator<Item = &'a NodeId>) -> bool {
        group
            .into_iter()
            .all(|node| self.of(node).is_none_or(|standing| standing.figures.latency.is_none()))
    }

    /// Places cold nodes of a group behind the others as often as their share asks for. `draw` is
    /// uniform in 0..1.
    ///
    /// Where few nodes of many are good, each of them gets much; a node of which nothing is known is
    /// spared that.
    pub fn spare_cold<'a>(&mut self, group: impl IntoIterator<Item = &'a NodeId>, draw: f64) {
        let members: Vec<usize> = group
            .into_iter()
            .filter_map(|node| self.nodes.binary_search_by(|it| it.node.cmp(node)).ok())
            .collect();
        let good = members.iter().filter(|at| self.nodes[**at].tier == Tier::Good).count();
        if draw < allowed(good, members.len()) {
            return;
        }
        for at in members {
            let node = &mut self.nodes[at];
            if node.figures.latency.is_none() && node.tier == Tier::Good {
                node.tier = Tier::Spared;
                self.uneven = true;
            }
        }
    }
}

/// How often one of `good` equals may take its turn so that it gets no more than a cold one of `all`
/// may.
pub fn allowed(good: usize, all: usize) -> f64 {
    COLD_SHARE * good as f64 / all.max(1) as f64
}

/// Whether one of two costs is about as good as the other, which is the best.
pub fn is_near(cost: f64, best: f64) -> bool {
    cost <= BAND * best
}

/// The `n`-th number of the sequence that starts at `seed`: SplitMix64 (Steele, Lea and Flood 2014).
#[must_use]
pub fn mix(seed: u64, n: u64) -> u64 {
    let mut z = seed.wrapping_add(n.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A number as one of 0..1.
#[must_use]
pub fn unit(number: u64) -> f64 {
    (number >> 11) as f64 / (1_u64 << 53) as f64
}
