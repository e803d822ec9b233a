//! What the leader does.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{Note, Standing};
use crate::cluster::Shared;
use crate::error::Error;
use crate::store::Fence;
use crate::worker::{Duty, Term};

/// Pause before taking over is tried again.
const AGAIN: Duration = Duration::from_millis(200);
/// How long work of a former term may take to notice that the term is over.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often notes are looked for.
const NOTES: Duration = Duration::from_millis(500);

/// Starts what the leader runs; each ends when the token is cancelled.
pub type Start = Box<dyn Fn(CancellationToken) -> Vec<BoxFuture<'static, ()>> + Send + Sync>;

/// Changes, for all pods.
pub struct Leader {
    shared: Arc<Shared>,
    start: Start,
}

impl std::fmt::Debug for Leader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leader").field("pod", &self.shared.office.name()).finish_non_exhaustive()
    }
}

impl Leader {
    /// Runs the workers that `start` answers in every term.
    #[must_use]
    pub fn new(shared: Arc<Shared>, start: Start) -> Self {
        Self { shared, start }
    }

    async fn take_over(&self, fence: u64) -> Result<(), Error> {
        let shared = &self.shared;
        shared.stores.fence.carry(fence);
        shared.take_over().await?;
        // Whatever the one before changed and could not announce.
        shared.announce().await?;
        Ok(())
    }
}

impl Duty for Leader {
    const SCOPE: &'static str = Fence::SCOPE;

    async fn perform(self: Arc<Self>, term: Term) {
        let office = &self.shared.office;
        // Nothing of a former term may act with the token of this one.
        let begun = Instant::now();
        while Arc::strong_count(&office.at_work) > 1 {
            if begun.elapsed() > PATIENCE {
                tracing::error!("work of a former term does not end: another pod may lead");
                return;
            }
            sleep(AGAIN).await;
        }
        while let Err(error) = self.take_over(term.fence).await {
            tracing::error!(%error, "taking over is tried again");
            sleep(AGAIN).await;
        }
        office.term.store(Arc::new(term.stop.clone()));
        office.standing.rcu(|standing| match **standing {
            Standing::Leads { fence, until, word, .. } => {
                Arc::new(Standing::Leads { fence, until, open: true, word })
            }
            _ => Arc::clone(standing),
        });
        tracing::info!(fence = term.fence, "took over");
        let mut workers = tokio::task::JoinSet::new();
        for worker in (self.start)(term.stop.clone()) {
            workers.spawn(worker);
        }
        loop {
            tokio::select! {
                () = term.stop.cancelled() => break,
                () = sleep(NOTES) => {}
            }
            match self.shared.stores.pods.take_notes().await {
                Ok(notes) => {
                    for note in notes {
                        Note::read(&self.shared, note).await;
                    }
                }
                Err(error) => tracing::warn!(%error, "notes could not be read"),
            }
        }
        // Aborted, should they not end by themselves: the task ends with this future.
        while workers.join_next().await.is_some() {}
    }

    fn renewed(&self, fence: u64, until: Instant) {
        self.shared.office.standing.rcu(|standing| {
            let (open, word) = match **standing {
                Standing::Leads { fence: own, open, word, .. } if own == fence => (open, word),
                Standing::Follows { until } => (false, until),
                _ => (false, None),
            };
            Arc::new(Standing::Leads { fence, until, open, word })
        });
    }

    fn ended(&self) {
        let shared = &self.shared;
        shared.stores.fence.close();
        // Who waits at these gates has to notice.
        shared.unrecovered.lock().expect("no panic holds this lock").clear();
        shared.office.standing.store(Arc::new(Standing::Follows { until: None }));
        // What it has in memory may not be what another wrote meanwhile.
        shared.office.saw(None);
    }
}
