//! The health checker: asks every node `GET /health` and moves nodes through their statuses.
//!
//! A node that refuses connections `unhealthy_threshold` times in a row is failed; one that
//! connects but does not answer is first degraded, and failed after as many misses again.
//! `recovery_threshold` answers in a row make it active again.

use std::sync::Arc;
use std::time::Duration;

use miroir_api::NodeId;
use tokio_util::sync::CancellationToken;

use crate::replicas::disk_check;
use miroir_core::topology::NodeStatus;
use miroir_pipeline::cluster::{ClusterState, gauges};
use miroir_pipeline::context::{Context, Origin};
use miroir_pipeline::error::Error;
use miroir_pipeline::node::{Call, CheckFailure, HealthOptions, NodeCall};

async fn check(
    state: &Arc<ClusterState>,
    node: &NodeId,
    unhealthy: bool,
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
        Call::accept(node, state.nodes.pool.send(node, request).await?)
    };
    let result: Result<_, Error> = answer.await;
    match result {
        // The leader looks at what the node has, and says so.
        Ok(_) if !state.leadership.leads() => {
            let reads = state.leadership.leader_reads(node);
            if unhealthy && reads != Some(true) { Err(CheckFailure::Unverified) } else { Ok(()) }
        }
        Ok(_) => match disk_check::check(state, node, timeout).await {
            Ok(()) => Ok(()),
            // A node that was away is not read before it has shown what it still has.
            Err(_) if unhealthy => Err(CheckFailure::Unverified),
            Err(error) => {
                tracing::debug!(%node, %error, "the node did not show its tasks");
                Ok(())
            }
        },
        Err(error) => Err(error.node_failure().map_or(CheckFailure::BadAnswer, CheckFailure::Node)),
    }
}

/// Checks all nodes once and applies what follows.
pub async fn check_all(state: &Arc<ClusterState>, options: &HealthOptions) {
    let topology = state.membership.topology();
    let checks = topology.nodes().map(|node| async {
        let unhealthy = matches!(node.status, NodeStatus::Failed | NodeStatus::Degraded);
        let result = check(state, &node.id, unhealthy, options.timeout).await;
        (node.id.clone(), result)
    });
    for (node, result) in futures_util::future::join_all(checks).await {
        let Some(status) = state.membership.topology().node(&node).map(|n| n.status) else {
            continue;
        };
        let event = state.membership.health.record(&node, status, result, options);
        if let Some(event) = event {
            state.membership.apply(&node, event);
        }
    }
    gauges::publish(state);
    match state.stores.tasks.counts().await {
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
pub async fn run(state: Arc<ClusterState>, options: HealthOptions, stop: CancellationToken) {
    let mut tick = tokio::time::interval(options.interval);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => check_all(&state, &options).await,
        }
    }
}
