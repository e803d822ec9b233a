//! Reporting to the others, and following what the leader changes.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::Standing;
use crate::clock;
use crate::cluster::Shared;
use crate::error::Error;
use crate::store::{PodReport, Roster};

/// Who a pod is, and how it keeps in touch.
#[derive(Clone, Debug)]
pub struct PodOptions {
    /// Where other pods reach it, `http://host:port`.
    pub address: String,
    /// How long a pod answers reads without hearing from the store. The leader waits as long for
    /// one that is silent, when it changes what pods keep.
    pub word: Duration,
    /// Time between two reports.
    pub interval: Duration,
}

impl Default for PodOptions {
    fn default() -> Self {
        Self {
            address: String::new(),
            word: Duration::from_secs(10),
            interval: Duration::from_millis(100),
        }
    }
}

async fn report(shared: &Shared, options: &PodOptions) -> Result<Roster, Error> {
    let office = &shared.office;
    let leads = office.fence().filter(|_| office.leads());
    let topology = shared.topology();
    let readable = topology.nodes().filter(|node| node.status.is_readable());
    let report = PodReport {
        name: office.name().to_owned(),
        pod: office.pod.clone(),
        address: options.address.clone(),
        seen: office.seen(),
        leads,
        readable: leads.map(|_| readable.map(|n| n.id.clone()).collect()).unwrap_or_default(),
    };
    let answer = shared.stores.pods.report(report, clock::now(), options.word);
    match timeout(options.word, answer).await {
        Ok(roster) => Ok(roster?),
        Err(_) => Err(Error::deadline()),
    }
}

/// One report, and what follows from the answer.
pub(super) async fn step(shared: &Arc<Shared>, options: &PodOptions) -> Result<(), Error> {
    let office = &shared.office;
    // Twice where there was something new: a report counts only once the pod has read it.
    for _ in 0..2 {
        let begun = Instant::now();
        let roster = report(shared, options).await?;
        let leader = roster.pods.into_iter().filter(|pod| pod.leads.is_some());
        office.leader.store(Arc::new(leader.max_by_key(|pod| pod.leads)));
        if let Standing::Leads { .. } = **office.standing.load() {
            // What it has in memory is what it wrote.
            if office.seen() == Some(roster.epoch) {
                return Ok(());
            }
            office.saw(Some(roster.epoch));
            continue;
        }
        if office.seen() == Some(roster.epoch) {
            let until = Some(begun + options.word);
            office.standing.rcu(|standing| match **standing {
                Standing::Follows { .. } => Arc::new(Standing::Follows { until }),
                _ => Arc::clone(standing),
            });
            return Ok(());
        }
        shared.reload().await?;
        office.saw(Some(roster.epoch));
    }
    Ok(())
}

/// Reports at the interval until cancelled, and takes the pod's word back then.
pub async fn follow(shared: Arc<Shared>, options: PodOptions, stop: CancellationToken) {
    let mut tick = interval(options.interval);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut well = true;
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = tick.tick() => {}
        }
        let done = step(&shared, &options).await;
        if let Err(error) = &done
            && well
        {
            tracing::warn!(%error, "the pod is out of touch with the store");
        } else if done.is_ok() && !well {
            tracing::info!("the pod is in touch with the store again");
        }
        well = done.is_ok();
        let in_touch = shared.office.in_touch().is_ok();
        metrics::gauge!("miroir_pod_in_touch").set(if in_touch { 1.0 } else { 0.0 });
        if let Some(epoch) = shared.office.seen() {
            metrics::gauge!("miroir_pod_epoch").set(epoch as f64);
        }
    }
    let _ = timeout(options.interval * 10, shared.stores.pods.leave(shared.office.name())).await;
}
