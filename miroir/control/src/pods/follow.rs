//! Reporting to the others, and following what the leader changes.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use miroir_pipeline::cluster::{Bar, ClusterState};
use miroir_pipeline::error::Error;
use miroir_store::clock;
use miroir_store::{PodReport, Roster};

/// Who a pod is, and how it keeps in touch.
#[derive(Clone, Debug)]
pub struct PodOptions {
    /// Where other pods reach it, `http://host:port`.
    pub address: String,
    /// How long a report counts: a pod answers reads for so long without hearing from the store, and
    /// the leader waits as long for one that is silent, when it changes what pods keep.
    pub report_ttl: Duration,
    /// Time between two reports.
    pub interval: Duration,
}

impl Default for PodOptions {
    fn default() -> Self {
        Self {
            address: String::new(),
            report_ttl: Duration::from_secs(10),
            interval: Duration::from_millis(100),
        }
    }
}

async fn report(state: &ClusterState, options: &PodOptions) -> Result<Roster, Error> {
    let leadership = &state.leadership;
    let leads = leadership.fence().filter(|_| leadership.leads());
    let topology = state.membership.topology();
    let readable = topology.nodes().filter(|node| node.is_readable());
    let report = PodReport {
        name: leadership.process().to_owned(),
        pod: leadership.pod().to_owned(),
        address: options.address.clone(),
        seen: leadership.seen(),
        leads,
        settled: state.membership.settled(),
        readable: leads.map(|_| readable.map(|n| n.id.clone()).collect()).unwrap_or_default(),
    };
    let answer = state.stores.pods.report(report, clock::now(), options.report_ttl);
    match timeout(options.report_ttl, answer).await {
        Ok(roster) => Ok(roster?),
        Err(_) => Err(Error::deadline()),
    }
}

/// One report, and what follows from the answer.
pub(super) async fn step(state: &Arc<ClusterState>, options: &PodOptions) -> Result<(), Error> {
    let leadership = &state.leadership;
    // Twice where there was something new: a report counts only once the pod has read it.
    for _ in 0..2 {
        let begun = Instant::now();
        let roster = report(state, options).await?;
        let leader = roster.pods.iter().filter(|pod| pod.leads.is_some());
        let leader = leader.max_by_key(|pod| pod.leads).cloned();
        // A machine that stood still finds its lease in force when it goes on.
        if leader
            .as_ref()
            .and_then(|pod| pod.leads)
            .is_some_and(|fence| leadership.step_down(fence))
        {
            state.stores.fence.close();
            tracing::warn!("another pod has followed this one as the leader");
        }
        leadership.note_leader(leader);
        if leadership.is_elected() {
            // What it has in memory is what it wrote.
            if leadership.seen() == Some(roster.epoch) {
                return Ok(());
            }
            leadership.note_seen(Some(roster.epoch));
            continue;
        }
        let seen = leadership.seen();
        // What this report was told it reads now; until then whoever changed it waits for this pod.
        if roster.accepted && seen.is_some() {
            leadership.trust_until(begun + options.report_ttl);
        }
        if seen == Some(roster.epoch) {
            return Ok(());
        }
        state.reload_parts(&roster.changed_since(seen)).await?;
        if leadership.barred() == Some(Bar::OtherTopology) {
            // Nobody waits for a pod that answers nothing.
            return Ok(());
        }
        leadership.note_seen(Some(roster.epoch));
    }
    Ok(())
}

/// Reports at the interval until cancelled, and takes the pod off the roster then.
pub async fn follow(state: Arc<ClusterState>, options: PodOptions, stop: CancellationToken) {
    let mut tick = interval(options.interval);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut well = true;
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            _ = tick.tick() => {}
        }
        let done = step(&state, &options).await;
        if let Err(error) = &done
            && well
        {
            tracing::warn!(%error, "the pod is out of touch with the store");
        } else if done.is_ok() && !well {
            tracing::info!("the pod is in touch with the store again");
        }
        well = done.is_ok();
        let mismatch = state.leadership.barred() == Some(Bar::OtherTopology);
        metrics::gauge!("miroir_topology_mismatch").set(if mismatch { 1.0 } else { 0.0 });
        let in_touch = state.leadership.ensure_fresh().is_ok();
        metrics::gauge!("miroir_pod_in_touch").set(if in_touch { 1.0 } else { 0.0 });
        if let Some(epoch) = state.leadership.seen() {
            metrics::gauge!("miroir_pod_epoch").set(epoch as f64);
        }
    }
    let _ =
        timeout(options.interval * 10, state.stores.pods.leave(state.leadership.process())).await;
}
