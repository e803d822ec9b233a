//! Which replicas a read tries first.

mod exploration;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use miroir_core::hints::Hints;
use miroir_core::routing::standing::mix;
use miroir_core::routing::{Selection, Standings, Strategy};
use miroir_core::topology::Topology;
use miroir_core::view::Route;
use tokio::time::Instant;

use self::exploration::ExplorationRate;
use crate::node::Scores;

/// Routes reads by what the nodes' answers have shown.
#[derive(Debug)]
pub struct ReadRouter {
    scores: Arc<Scores>,
    selection: Selection,
    sequence: AtomicU64,
    exploration: ExplorationRate,
}

impl ReadRouter {
    /// Routes by these scores.
    pub fn new(scores: Arc<Scores>, selection: Selection) -> Self {
        Self {
            scores,
            selection,
            sequence: AtomicU64::new(0),
            exploration: ExplorationRate::new(Instant::now()),
        }
    }

    /// The next number of this pod's read sequence.
    pub fn next_sequence(&self) -> u64 {
        self.sequence.fetch_add(1, Ordering::Relaxed)
    }

    /// Which groups and replicas a read tries, best first; see [`Route::choose`].
    pub fn route(&self, topology: &Topology, hints: &Hints, sequence: u64) -> Route {
        let (mut selection, now) = (self.selection, Instant::now());
        let standings = match selection.strategy {
            Strategy::Adaptive => self.scores.standings(topology, &selection, now),
            Strategy::RoundRobin | Strategy::Random => Standings::default(),
        };
        let copies = topology.replication_factor() * topology.groups().len() as u32;
        let (period, needed) = self.exploration.step(now, copies, self.scores.half_life());
        selection.exploration_epsilon = selection.exploration_epsilon.min(needed);
        // Equal queries draw the same for a while: hits that no rule tells apart come in a node's own
        // order, so that pages of one query have to come from the same replicas.
        let draw = mix(sequence, period);
        let route = Route::choose(topology, standings, &selection, hints, sequence, draw);
        if route.explores() {
            metrics::counter!("miroir_replica_selection_exploration_total").increment(1);
        }
        route
    }
}
