//! The health checker: asks every node `GET /health` and moves nodes through their statuses.
//!
//! A node that refuses connections `unhealthy_threshold` times in a row is failed; one that
//! connects but does not answer is first degraded, and failed after as many misses again.
//! `recovery_threshold` answers in a row make it active again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use miroir_api::NodeId;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Call, NodeCall};
use crate::cluster::Shared;
use crate::context::{Context, Origin};
use crate::error::{Error, NodeFailure};
use crate::operation::control::lost;
use crate::topology::{NodeEvent, NodeStatus};

/// When and how often to check.
#[derive(Clone, Copy, Debug)]
pub struct HealthOptions {
    /// Time between checks.
    pub interval: Duration,
    /// Time a check may take.
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

/// Why a node did not pass a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckFailure {
    /// It failed.
    Node(NodeFailure),
    /// It answered something else than that it is well.
    BadAnswer,
    /// It was away, and has not shown yet what it still has.
    Unproven,
}

impl CheckFailure {
    /// Its name in the admin API.
    pub fn label(self) -> &'static str {
        match self {
            Self::Node(failure) => failure.label(),
            Self::BadAnswer => "bad_answer",
            Self::Unproven => "unproven",
        }
    }

    /// Whether nobody listens at its address, which is not a matter of patience.
    fn is_absence(self) -> bool {
        match self {
            Self::Node(failure) => failure == NodeFailure::Connect,
            Self::BadAnswer | Self::Unproven => false,
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
    nodes: Mutex<BTreeMap<NodeId, NodeHealth>>,
}

impl HealthBoard {
    /// What is known of one node.
    pub fn get(&self, node: &NodeId) -> NodeHealth {
        self.nodes.lock().expect("no panic holds this lock").get(node).cloned().unwrap_or_default()
    }

    /// Records a check and says which event it causes, if any. Pure but for the board itself.
    fn record(
        &self,
        node: &NodeId,
        status: NodeStatus,
        result: Result<(), CheckFailure>,
        options: &HealthOptions,
    ) -> Option<NodeEvent> {
        let mut nodes = self.nodes.lock().expect("no panic holds this lock");
        let entry = nodes.entry(node.clone()).or_default();
        match result {
            Ok(()) => {
                entry.last_seen = Some(Instant::now());
                entry.error = None;
                entry.failures = 0;
                entry.answers = entry.answers.saturating_add(1);
                let ill = matches!(status, NodeStatus::Failed | NodeStatus::Degraded);
                (ill && entry.answers >= options.recovery_threshold).then_some(NodeEvent::Recover)
            }
            Err(why) => {
                entry.error = Some(why);
                entry.answers = 0;
                entry.failures = entry.failures.saturating_add(1);
                if status == NodeStatus::Failed || entry.failures < options.unhealthy_threshold {
                    None
                } else if why.is_absence() || entry.failures >= 2 * options.unhealthy_threshold {
                    Some(NodeEvent::Fail)
                } else if status == NodeStatus::Active {
                    Some(NodeEvent::Suspect)
                } else {
                    None
                }
            }
        }
    }
}

async fn check(
    shared: &Arc<Shared>,
    node: &NodeId,
    ill: bool,
    timeout: Duration,
) -> Result<(), CheckFailure> {
    let cx = Context::internal(Origin::Repair, timeout);
    let call = Call::get("health", "/health");
    let answer = async {
        let mut request = call.request(&cx, timeout)?;
        request.extensions_mut().insert(NodeCall {
            operation: call.operation,
            effect: call.effect(),
            deadline: cx.deadline,
            class: cx.class,
            probe: true,
        });
        Call::accept(node, shared.pool.send(node, request).await?)
    };
    let result: Result<_, Error> = answer.await;
    match result {
        // The leader looks at what the node has, and says so.
        Ok(_) if !shared.office.leads() => {
            let reads = shared.office.leader_reads(node);
            if ill && reads != Some(true) { Err(CheckFailure::Unproven) } else { Ok(()) }
        }
        Ok(_) => match lost::check(shared, node, timeout).await {
            Ok(()) => Ok(()),
            // A node that was away is not read before it has shown what it still has.
            Err(_) if ill => Err(CheckFailure::Unproven),
            Err(error) => {
                tracing::debug!(%node, %error, "the node did not show its tasks");
                Ok(())
            }
        },
        Err(error) => Err(error.node_failure().map_or(CheckFailure::BadAnswer, CheckFailure::Node)),
    }
}

/// Checks all nodes once and applies what follows.
pub async fn check_all(shared: &Arc<Shared>, options: &HealthOptions) {
    let topology = shared.topology();
    let checks = topology.nodes().map(|node| async {
        let ill = matches!(node.status, NodeStatus::Failed | NodeStatus::Degraded);
        let result = check(shared, &node.id, ill, options.timeout).await;
        (node.id.clone(), result)
    });
    for (node, result) in futures_util::future::join_all(checks).await {
        let Some(status) = shared.topology().node(&node).map(|n| n.status) else { continue };
        let event = shared.health.record(&node, status, result, options);
        if let Some(event) = event {
            shared.node_event(&node, event);
        }
    }
    shared.publish_gauges();
    match shared.stores.tasks.counts().await {
        Ok(counts) => {
            for (status, count) in counts {
                metrics::counter!("miroir_tasks_total", "status" => status.as_str())
                    .absolute(count);
            }
        }
        Err(error) => tracing::warn!(%error, "tasks could not be counted"),
    }
}

/// Checks at the interval until cancelled.
pub async fn run(shared: Arc<Shared>, options: HealthOptions, stop: CancellationToken) {
    let mut tick = tokio::time::interval(options.interval);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => check_all(&shared, &options).await,
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
        let step = |status, result| board.record(&id(), status, result, &options);
        use NodeStatus::{Active, Degraded, Failed};
        assert_eq!(step(Active, connect()), None);
        assert_eq!(step(Active, connect()), None);
        assert_eq!(step(Active, connect()), Some(NodeEvent::Fail));
        assert_eq!(step(Failed, connect()), None);
        assert_eq!(step(Failed, Ok(())), None);
        assert_eq!(step(Failed, Ok(())), Some(NodeEvent::Recover));
        for _ in 0..2 {
            assert_eq!(step(Active, timeout()), None);
        }
        assert_eq!(step(Active, timeout()), Some(NodeEvent::Suspect));
        assert_eq!(step(Degraded, timeout()), None);
        assert_eq!(step(Degraded, timeout()), None);
        assert_eq!(step(Degraded, timeout()), Some(NodeEvent::Fail));
    }
}
