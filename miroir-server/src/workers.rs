//! The server's own workers, beside the library's. Each ends when the cluster's `stop` is cancelled;
//! one that panics is started again.

use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;
use miroir::Miroir;
use miroir::cluster::ClusterState;
use miroir::runtime::supervise;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::admin::Readiness;
use crate::resources;
use crate::tls::{self, Source};

/// Time between two looks at readiness.
const LOOK: Duration = Duration::from_millis(500);

/// Starts all workers. Dropping the set cuts them off.
pub(crate) fn start(
    miroir: &Miroir,
    readiness: &Readiness,
    metrics: PrometheusHandle,
    certificates: Arc<Vec<Source>>,
) -> JoinSet<()> {
    let shared = &miroir.cluster().state;
    let stop = &shared.stop;
    let mut workers = miroir.workers();

    let admission = Arc::clone(miroir.admission());
    workers.spawn(supervise("resources", stop, move |stop| {
        resources::run(Arc::clone(&admission), stop)
    }));

    workers.spawn(supervise("metrics", stop, move |stop| {
        let metrics = metrics.clone();
        async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = crate::metrics::upkeep(metrics) => {}
            }
        }
    }));

    workers.spawn(supervise("tls", stop, move |stop| tls::run(Arc::clone(&certificates), stop)));

    let (state, readiness) = (Arc::clone(shared), readiness.clone());
    workers.spawn(supervise("readiness", stop, move |stop| {
        await_ready(Arc::clone(&state), readiness.clone(), stop)
    }));
    workers
}

/// Notices the moment of readiness even if nobody asks.
async fn await_ready(shared: Arc<ClusterState>, readiness: Readiness, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(LOOK);
    while !readiness.look(&shared) {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
    }
}
