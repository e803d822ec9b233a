//! The health checker: asks every node `GET /health` and says how they are doing.
//!
//! A node that refuses connections, or with which there is no TLS, `unhealthy_threshold` times in a
//! row is failed; one that connects but does not answer is first degraded, and failed after as many
//! misses again. `recovery_threshold` answers in a row make it active again; a node that is out of use
//! is asked each second for them, as it may just have started again.
//!
//! Nobody waits for that while calls show it. A node that refuses a connection, or that answers none
//! of its calls for much longer than usual, is an *alarm*: it is checked at once and again within
//! moments, and reads prefer others meanwhile. It is failed after `unhealthy_threshold` refusals, or
//! two checks that it does not answer either. Any call that is answered ends the alarm, so that one
//! refused connection fails nobody.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use miroir_api::NodeId;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::replicas::disk_check::{self, Verdict};
use miroir_core::topology::{Health, Node};
use miroir_pipeline::cluster::{ClusterState, gauges};
use miroir_pipeline::context::{Context, Origin};
use miroir_pipeline::error::Error;
use miroir_pipeline::node::{Alarm, Call, CheckFailure, HealthOptions, NodeCall};

/// How often silent nodes are looked for.
const LOOK: Duration = Duration::from_millis(250);
/// Time between two checks of a node that refuses connections, while it may be starting again.
const RETRY: Duration = Duration::from_millis(300);
/// Time between two checks of a node that is out of use.
const RETURN: Duration = Duration::from_secs(1);
/// How long a check may take of a node that answers no calls.
const PROMPT: Duration = Duration::from_millis(750);

async fn check(
    state: &Arc<ClusterState>,
    node: &NodeId,
    unhealthy: bool,
    timeout: Duration,
) -> Result<(), CheckFailure> {
    let cx = Context::internal(Origin::Repair, timeout);
    let call = Call::get("health", "/health").to_whoever();
    let answer = async {
        let mut request = call.request(&cx, timeout)?;
        if let Some(call) = request.extensions_mut().get_mut::<NodeCall>() {
            call.probe = true;
        }
        Call::accept(node, state.nodes.pool.send(node, request).await?)
    };
    let result: Result<_, Error> = answer.await;
    match result {
        // The leader looks at what the node has, and says so.
        Ok(_) if !state.leadership.leads() && state.lives.foreign(node).is_some() => {
            Err(CheckFailure::ForeignDisk)
        }
        Ok(_) if !state.leadership.leads() => {
            let reads = state.leadership.leader_reads(node);
            if unhealthy && reads != Some(true) { Err(CheckFailure::Unverified) } else { Ok(()) }
        }
        Ok(_) => match disk_check::check(state, node, timeout).await {
            Ok(Verdict::Own) => Ok(()),
            Ok(Verdict::Foreign) => Err(CheckFailure::ForeignDisk),
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
        let result = check(state, &node.id, is_away(node), options.timeout).await;
        (node.id.clone(), result)
    });
    for (node, result) in futures_util::future::join_all(checks).await {
        if is_refusal(result) {
            state.nodes.scores.node(&node).refused();
        }
        record(state, &node, result, false, options);
    }
    gauges::publish(state);
    if state.leadership.leads()
        && let Err(error) =
            state.lives.store_highest(&state.membership.task_uids, state.nodes.pool.given()).await
    {
        tracing::warn!(%error, "how far nodes have counted could not be stored");
    }
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

fn is_away(node: &Node) -> bool {
    node.health != Health::Well
}

fn is_refusal(result: Result<(), CheckFailure>) -> bool {
    matches!(result, Err(CheckFailure::Node(failure)) if failure.is_absence())
}

/// Takes a check down. Returns whether the node is in use after it.
fn record(
    state: &ClusterState,
    node: &NodeId,
    result: Result<(), CheckFailure>,
    alarmed: bool,
    options: &HealthOptions,
) -> bool {
    if result.is_ok() {
        state.nodes.scores.node(node).heard(Instant::now());
    }
    let topology = state.membership.topology();
    let Some(before) = topology.node(node) else { return false };
    let event = state.membership.health.record(node, before.health, result, alarmed, options);
    if let Some(event) = event {
        state.membership.apply(node, event);
        gauges::publish(state);
    }
    state.membership.topology().node(node).is_some_and(Node::is_writable)
}

/// Checks a node of which calls say that it does not answer, until it does or is failed.
async fn watch(
    state: &Arc<ClusterState>,
    node: NodeId,
    alarm: Alarm,
    options: &HealthOptions,
) -> NodeId {
    let (score, begun) = (state.nodes.scores.node(&node), Instant::now());
    score.suspect();
    let mut first = true;
    loop {
        let result = check(state, &node, false, options.timeout.min(PROMPT)).await;
        // Calls know better than a check that was turned away.
        if result.is_err() && score.heard_since(begun) {
            break;
        }
        // A call that merely takes long is no alarm worth a word.
        if result.is_err() && std::mem::take(&mut first) {
            let (id, reason) = (node.to_string(), alarm.label());
            tracing::warn!(%node, reason, "the node answers neither calls nor its check");
            metrics::counter!("miroir_node_alarms_total", "node_id" => id, "reason" => reason)
                .increment(1);
        }
        if !record(state, &node, result, true, options) || result.is_ok() {
            break;
        }
        if is_refusal(result) {
            tokio::time::sleep(RETRY).await;
        }
    }
    score.trust();
    node
}

/// Watches nodes of which calls show something before the next check would.
async fn follow_alarms(state: &Arc<ClusterState>, options: &HealthOptions) {
    let scores = &state.nodes.scores;
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut watches = FuturesUnordered::new();
    let mut watched = BTreeSet::new();
    loop {
        tokio::select! {
            biased;
            () = scores.refusal() => {}
            _ = look.tick() => {}
            Some(node) = watches.next() => {
                watched.remove(&node);
                continue;
            }
        }
        let topology = state.membership.topology();
        for (node, alarm) in scores.alarms(Instant::now()) {
            // A failed node is none that anybody asks; its checks go on.
            let used = topology.node(&node).is_some_and(|node| node.is_writable());
            if used && watched.insert(node.clone()) {
                watches.push(watch(state, node, alarm, options));
            }
        }
    }
}

/// Checks nodes that are out of use more often than the others, so that they are missed no longer than
/// they are away.
async fn follow_returns(state: &Arc<ClusterState>, options: &HealthOptions) {
    if options.interval <= RETURN {
        return std::future::pending().await;
    }
    // Between the checks of everybody.
    let mut tick = tokio::time::interval_at(Instant::now() + RETURN / 2, RETURN);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let topology = state.membership.topology();
        let away = topology.nodes().filter(|node| is_away(node)).map(|node| async {
            (node.id.clone(), check(state, &node.id, true, options.timeout).await)
        });
        for (node, result) in futures_util::future::join_all(away).await {
            match result {
                Ok(()) => _ = record(state, &node, result, false, options),
                // How often a node has to fail is counted by the checks of everybody.
                Err(why) => state.membership.health.blame(&node, why),
            }
        }
    }
}

/// Checks at the interval, and at once where calls show more, until cancelled.
pub async fn run(state: Arc<ClusterState>, options: HealthOptions, stop: CancellationToken) {
    let mut tick = tokio::time::interval(options.interval);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let checks = async {
        loop {
            tick.tick().await;
            check_all(&state, &options).await;
        }
    };
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = checks => {}
        () = follow_alarms(&state, &options) => {}
        () = follow_returns(&state, &options) => {}
    }
}
