//! What health checks have shown of nodes, and the events that follow.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::error::NodeFailure;
use miroir_api::NodeId;
use miroir_core::lock::Lock;
use miroir_core::options::{Faults, Validate, milliseconds};
use miroir_core::topology::{Health, NodeEvent};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// `health`: when and how often nodes are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HealthOptions {
    /// Time between two checks of a node. 5 s by default.
    #[serde(rename = "interval_ms", with = "milliseconds")]
    pub interval: Duration,
    /// How long one check may take, no longer than `interval`. 2 s by default.
    #[serde(rename = "timeout_ms", with = "milliseconds")]
    pub timeout: Duration,
    /// Failures in a row before a node counts as unhealthy.
    pub unhealthy_threshold: u32,
    /// Answers in a row before it counts as healthy again.
    pub recovery_threshold: u32,
}

impl Default for HealthOptions {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            unhealthy_threshold: 3,
            recovery_threshold: 2,
        }
    }
}

impl Validate for HealthOptions {
    fn validate(&self, faults: &mut Faults) {
        let (timeout, interval) =
            (milliseconds::show(self.timeout), milliseconds::show(self.interval));
        faults.when(
            self.timeout > self.interval,
            &["timeout_ms", "interval_ms"],
            format!("a check may take {timeout}, the next starts after {interval}"),
            "make timeout_ms the smaller one",
        );
        faults.positive(&[
            ("interval_ms", self.interval.is_zero()),
            ("timeout_ms", self.timeout.is_zero()),
            ("unhealthy_threshold", self.unhealthy_threshold == 0),
            ("recovery_threshold", self.recovery_threshold == 0),
        ]);
    }
}

/// Failures in a row before a node of which no call is answered either counts as failed.
const ALARMED: u32 = 2;

/// Why a node did not pass a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckFailure {
    /// It failed.
    Node(NodeFailure),
    /// It answered something else than that it is well.
    BadAnswer,
    /// It was away, and has not shown yet what it still has.
    Unverified,
    /// It has another node's disk.
    ForeignDisk,
}

impl CheckFailure {
    /// Its name in the admin API.
    pub fn label(self) -> &'static str {
        match self {
            Self::Node(failure) => failure.label(),
            Self::BadAnswer => "bad_answer",
            Self::Unverified => "unproven",
            Self::ForeignDisk => "foreign_disk",
        }
    }

    /// Whether nobody can be spoken with at its address, which is not a matter of patience.
    fn is_absence(self) -> bool {
        match self {
            Self::Node(failure) => failure.is_absence(),
            Self::BadAnswer | Self::Unverified | Self::ForeignDisk => false,
        }
    }
}

/// What is known of one node.
#[derive(Clone, Debug, Default)]
pub struct NodeHealth {
    /// When it last answered.
    pub last_seen: Option<Instant>,
    /// Why the last check failed.
    pub error: Option<CheckFailure>,
    failures: u32,
    answers: u32,
}

/// What is known of all nodes.
#[derive(Debug, Default)]
pub struct HealthBoard {
    nodes: Lock<BTreeMap<NodeId, NodeHealth>>,
}

impl HealthBoard {
    /// What is known of one node.
    pub fn get(&self, node: &NodeId) -> NodeHealth {
        self.nodes.lock().get(node).cloned().unwrap_or_default()
    }

    /// Notes why a node is not used, found out other than by a check.
    pub fn blame(&self, node: &NodeId, why: CheckFailure) {
        let mut nodes = self.nodes.lock();
        let entry = nodes.entry(node.clone()).or_default();
        entry.error = Some(why);
        entry.answers = 0;
    }

    /// Records a check and says which event it causes, if any. `alarmed` says that no call of the
    /// node is answered either: then two failures are enough. Pure but for the board itself.
    pub fn record(
        &self,
        node: &NodeId,
        health: Health,
        result: Result<(), CheckFailure>,
        alarmed: bool,
        options: &HealthOptions,
    ) -> Option<NodeEvent> {
        let mut nodes = self.nodes.lock();
        let entry = nodes.entry(node.clone()).or_default();
        match result {
            Ok(()) => {
                entry.last_seen = Some(Instant::now());
                entry.error = None;
                entry.failures = 0;
                entry.answers = entry.answers.saturating_add(1);
                (health != Health::Well && entry.answers >= options.recovery_threshold)
                    .then_some(NodeEvent::Recover)
            }
            Err(why) => {
                entry.error = Some(why);
                entry.answers = 0;
                entry.failures = entry.failures.saturating_add(1);
                let threshold = options.unhealthy_threshold;
                let fatal = if why == CheckFailure::ForeignDisk {
                    // Seen once is seen.
                    1
                } else if why.is_absence() {
                    threshold
                } else if alarmed {
                    ALARMED
                } else {
                    threshold.saturating_mul(2)
                };
                match health {
                    Health::Failed => None,
                    _ if entry.failures >= fatal => Some(NodeEvent::Fail),
                    Health::Well if entry.failures >= threshold => Some(NodeEvent::Suspect),
                    _ => None,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> NodeId {
        NodeId::new("a").unwrap()
    }

    #[tokio::test]
    async fn thresholds_decide() {
        let board = HealthBoard::default();
        let options = HealthOptions::default();
        let connect = || Err(CheckFailure::Node(NodeFailure::Connect));
        let timeout = || Err(CheckFailure::Node(NodeFailure::Timeout));
        let step = |health, result| board.record(&id(), health, result, false, &options);
        use Health::{Degraded, Failed, Well};
        assert_eq!(step(Well, connect()), None);
        assert_eq!(step(Well, connect()), None);
        assert_eq!(step(Well, connect()), Some(NodeEvent::Fail));
        assert_eq!(step(Failed, connect()), None);
        assert_eq!(step(Failed, Ok(())), None);
        assert_eq!(step(Failed, Ok(())), Some(NodeEvent::Recover));
        for _ in 0..2 {
            assert_eq!(step(Well, timeout()), None);
        }
        assert_eq!(step(Well, timeout()), Some(NodeEvent::Suspect));
        assert_eq!(step(Degraded, timeout()), None);
        assert_eq!(step(Degraded, timeout()), None);
        assert_eq!(step(Degraded, timeout()), Some(NodeEvent::Fail));
        // Where calls are not answered either, two misses do, and one refusal still does not.
        let alarmed = |result| board.record(&id(), Well, result, true, &options);
        assert_eq!(step(Well, Ok(())), None);
        assert_eq!(alarmed(connect()), None);
        assert_eq!(step(Well, Ok(())), None);
        assert_eq!(alarmed(timeout()), None);
        assert_eq!(alarmed(timeout()), Some(NodeEvent::Fail));
    }
}
