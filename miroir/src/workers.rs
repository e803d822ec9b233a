//! Which workers run. Each ends when the cluster's `stop` is cancelled; one that panics is started
//! again.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use miroir_control::broadcast::drift;
use miroir_control::pods::{self, Leader, PodOptions};
use miroir_control::replicas::{anti_entropy, foreign, repair};
use miroir_control::runtime::{self, Candidate, Peers, elected, supervise};
use miroir_control::tasks::{late, poller};
use miroir_control::topology::health;
use miroir_control::topology::{operations, restore};
use miroir_control::{janitor, webhooks};
use miroir_pipeline::cluster::ClusterState;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::order::Options;
use crate::pod::Pod;

/// Starts all workers. Dropping the set cuts them off.
pub(crate) fn start(
    shared: &Arc<ClusterState>,
    options: &Options,
    pod: Option<&Pod>,
) -> JoinSet<()> {
    let stop = &shared.stop;
    let mut workers = JoinSet::new();
    let mut add = |worker| {
        workers.spawn(worker);
    };

    let (state, checks) = (Arc::clone(shared), options.health);
    add(supervise("health", stop, move |stop| health::run(Arc::clone(&state), checks, stop)));

    // A pod that has peers owns nothing until it knows them.
    let peers = Arc::new(if pod.is_some() { Peers::unknown() } else { Peers::alone() });
    if let Some(pod) = pod {
        among_others(shared, pod, &peers).into_iter().for_each(&mut add);
    } else {
        changing(shared, stop).into_iter().for_each(&mut add);
    }

    let (state, check, list) = (Arc::clone(shared), options.drift, Arc::clone(&peers));
    add(supervise("settings_drift_check", stop, move |stop| {
        drift::run(Arc::clone(&state), Arc::clone(&list), check, stop)
    }));

    let (state, list) = (Arc::clone(shared), Arc::clone(&peers));
    add(supervise("anti_entropy", stop, move |stop| {
        anti_entropy::run(Arc::clone(&state), Arc::clone(&list), stop)
    }));

    let (stores, pruning, list) = (shared.stores.clone(), options.pruning, Arc::clone(&peers));
    add(supervise("task_pruner", stop, move |stop| {
        janitor::prune(stores.clone(), Arc::clone(&list), pruning, stop)
    }));

    let state = Arc::clone(shared);
    add(supervise("shares", stop, move |stop| {
        pods::show_shares(Arc::clone(&state), Arc::clone(&peers), stop)
    }));
    workers
}

/// The workers of a pod that is not alone: finding others, reporting to them, standing for election.
fn among_others(
    shared: &Arc<ClusterState>,
    pod: &Pod,
    peers: &Arc<Peers>,
) -> [BoxFuture<'static, ()>; 3] {
    let stop = &shared.stop;
    let (list, discovery, every) = (Arc::clone(peers), Arc::clone(&pod.discovery), pod.refresh);
    let options = PodOptions {
        address: pod.address.clone(),
        report_ttl: pod.lease_ttl,
        ..PodOptions::default()
    };
    let candidate = Candidate {
        leases: Arc::clone(&shared.stores.leases),
        holder: shared.leadership.process().to_owned(),
        ttl: pod.lease_ttl,
        renew: pod.lease_renew,
    };
    let (follower, state) = (Arc::clone(shared), Arc::clone(shared));
    let start = Box::new(move |stop: CancellationToken| changing(&state, &stop));
    let leader = Arc::new(Leader::new(Arc::clone(shared), start));
    [
        supervise("peers", stop, move |stop| {
            runtime::follow(Arc::clone(&list), Arc::clone(&discovery), every, stop)
        }),
        supervise("pods", stop, move |stop| {
            pods::follow(Arc::clone(&follower), options.clone(), stop)
        }),
        supervise("leader", stop, move |stop| {
            elected(candidate.clone(), Arc::clone(&leader), stop)
        }),
    ]
}

/// The workers that change things: one pod runs them for all.
fn changing(shared: &Arc<ClusterState>, stop: &CancellationToken) -> Vec<BoxFuture<'static, ()>> {
    let (to_poll, to_repair, to_tell) =
        (Arc::clone(shared), Arc::clone(shared), Arc::clone(shared));
    let (to_follow, to_account, to_change) =
        (Arc::clone(shared), Arc::clone(shared), Arc::clone(shared));
    let (to_mend, to_restore) = (Arc::clone(shared), Arc::clone(shared));
    vec![
        supervise("poller", stop, move |stop| poller::run(Arc::clone(&to_poll), stop)),
        supervise("repair", stop, move |stop| repair::run(Arc::clone(&to_repair), stop)),
        supervise("late_writes", stop, move |stop| late::run(Arc::clone(&to_follow), stop)),
        supervise("foreign_tasks", stop, move |stop| foreign::run(Arc::clone(&to_account), stop)),
        supervise("topology", stop, move |stop| operations::run(Arc::clone(&to_change), stop)),
        supervise("restore", stop, move |stop| restore::run(Arc::clone(&to_restore), stop)),
        supervise("anti_entropy_mend", stop, move |stop| {
            anti_entropy::mend(Arc::clone(&to_mend), stop)
        }),
        supervise("webhooks", stop, move |stop| webhooks::run(Arc::clone(&to_tell), stop)),
    ]
}
