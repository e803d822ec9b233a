//! `replica_selection`: which replica of a shard is asked.

use miroir::routing::{Selection, Strategy};
use serde::{Deserialize, Serialize};

use super::duration::Millis;
use super::error::ConfigError;

/// How replicas are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SelectionStrategy {
    /// In turn among those that are well.
    #[default]
    Adaptive,
    /// In turn.
    RoundRobin,
    /// At random.
    Random,
}

/// `replica_selection`: which replica of a shard is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReplicaSelectionConfig {
    /// How it is chosen. What follows has an effect where this is `adaptive`.
    pub strategy: SelectionStrategy,
    /// What a node costs that takes twice as long as the median one.
    pub latency_weight: f64,
    /// What a node costs that has many more calls in flight than the median one.
    pub inflight_weight: f64,
    /// What a node costs that fails every call.
    pub error_weight: f64,
    /// How long it takes until half of what is known of a node counts no more.
    pub ewma_half_life_ms: Millis,
    /// Share of requests that go to a random replica while some are spared, from 0 to 1.
    pub exploration_epsilon: f64,
}

impl Default for ReplicaSelectionConfig {
    fn default() -> Self {
        Self {
            strategy: SelectionStrategy::Adaptive,
            latency_weight: 1.0,
            inflight_weight: 2.0,
            error_weight: 10.0,
            ewma_half_life_ms: Millis(5_000),
            exploration_epsilon: 0.05,
        }
    }
}

impl ReplicaSelectionConfig {
    /// As the library's own options.
    pub(crate) fn selection(&self) -> Selection {
        Selection {
            strategy: match self.strategy {
                SelectionStrategy::Adaptive => Strategy::Adaptive,
                SelectionStrategy::RoundRobin => Strategy::RoundRobin,
                SelectionStrategy::Random => Strategy::Random,
            },
            latency_weight: self.latency_weight,
            in_flight_weight: self.inflight_weight,
            error_weight: self.error_weight,
            exploration: self.exploration_epsilon,
        }
    }

    /// What is wrong with it.
    pub(super) fn problems(&self) -> Vec<ConfigError> {
        let mut found = Vec::new();
        let mut when = |broken: bool, key: &'static str, problem: String, remedy: &str| {
            if broken {
                found.push(ConfigError::new([key], problem, remedy));
            }
        };
        for (key, weight) in [
            ("replica_selection.latency_weight", self.latency_weight),
            ("replica_selection.inflight_weight", self.inflight_weight),
            ("replica_selection.error_weight", self.error_weight),
        ] {
            let good = (0.0..=1_000.0).contains(&weight);
            when(!good, key, format!("{weight} is not a weight"), "use 0 to 1000");
        }
        let epsilon = self.exploration_epsilon;
        when(
            !(0.0..=1.0).contains(&epsilon),
            "replica_selection.exploration_epsilon",
            format!("{epsilon} is not a share"),
            "use 0 to 1",
        );
        when(
            self.ewma_half_life_ms.is_zero(),
            "replica_selection.ewma_half_life_ms",
            "must not be 0".to_owned(),
            "use at least 1, or remove the key",
        );
        found
    }
}
