//! The questions that are quarantined, here and in other pods.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use miroir_api::NodeId;
use miroir_store::Stores;
use miroir_store::records::{QueryFailure, QueryFailures};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::QueryQuarantineOptions;
use super::fingerprint::Fingerprint;
use super::table::{Reason, Table};

/// How long the others may take to be told: whoever asked waits for it, so that a pod that is asked
/// next has heard.
const TELLING: Duration = Duration::from_millis(500);

/// Questions that nodes did not survive. What one pod finds, the others hear at once, if they
/// [follow](Quarantine::follow).
#[derive(Debug)]
pub struct Quarantine {
    pub(super) table: Table,
    failures: Arc<dyn QueryFailures>,
    /// By what one's own words are known.
    name: u64,
}

impl Quarantine {
    /// Empty; tells and hears through these stores.
    #[must_use]
    pub fn new(options: QueryQuarantineOptions, stores: &Stores) -> Arc<Self> {
        let failures = Arc::clone(&stores.query_failures);
        let name = RandomState::new().hash_one(());
        Arc::new(Self { table: Table::new(options), failures, name })
    }

    /// Hears what other pods found, until `stop` is cancelled.
    pub async fn follow(self: Arc<Self>, stop: CancellationToken) {
        let mut heard = self.failures.listen();
        while let Some(Some(failure)) = stop.run_until_cancelled(heard.next()).await {
            let reason = if failure.timeout { Reason::Timeout } else { Reason::Reset };
            if failure.by != self.name
                && let Some(key) = Fingerprint::from_text(&failure.query)
            {
                self.table.count(key, (failure.points, reason), &failure.node, Instant::now());
            }
        }
    }

    /// Counts points, and tells the others. For how long the question is refused from now on, if it is.
    pub(super) async fn count(
        &self,
        key: Fingerprint,
        (points, reason): (u32, Reason),
        node: &NodeId,
    ) -> Option<Duration> {
        let left = self.table.count(key, (points, reason), node, Instant::now());
        let timed_out = reason == Reason::Timeout;
        let (query, node) = (key.to_text(), node.clone());
        let failure = QueryFailure { query, node, points, timeout: timed_out, by: self.name };
        match timeout(TELLING, self.failures.say(failure)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "other pods do not hear of a query"),
            Err(_) => tracing::warn!("other pods may not have heard of a query in time"),
        }
        left
    }
}
