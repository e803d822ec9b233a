//! What the leader does.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::messages;
use super::take_over::take_over;
use crate::runtime::{ElectedTask, Term};
use miroir_pipeline::cluster::{Bar, ClusterState};
use miroir_pipeline::error::Error;
use miroir_store::{Fence, Part};

/// Pause before taking over is tried again.
const AGAIN: Duration = Duration::from_millis(200);
/// How long work of a former term may take to notice that the term is over.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often messages are looked for.
const MESSAGES: Duration = Duration::from_millis(500);

/// Starts what the leader runs; each ends when the token is cancelled.
pub type Start = Box<dyn Fn(CancellationToken) -> Vec<BoxFuture<'static, ()>> + Send + Sync>;

/// Changes, for all pods.
pub struct Leader {
    state: Arc<ClusterState>,
    start: Start,
}

impl std::fmt::Debug for Leader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leader")
            .field("pod", &self.state.leadership.process())
            .finish_non_exhaustive()
    }
}

impl Leader {
    /// Runs the workers that `start` answers in every term.
    #[must_use]
    pub fn new(state: Arc<ClusterState>, start: Start) -> Self {
        Self { state, start }
    }

    async fn take_over(&self, fence: u64) -> Result<(), Error> {
        let state = &self.state;
        state.stores.fence.carry(fence);
        take_over(state).await?;
        // Whatever the one before changed and could not announce.
        state.leadership.publish_and_wait(&Part::ALL).await?;
        Ok(())
    }
}

impl ElectedTask for Leader {
    const SCOPE: &'static str = Fence::SCOPE;

    async fn perform(self: Arc<Self>, term: Term) {
        let leadership = &self.state.leadership;
        // Nothing of a former term may act with the token of this one.
        let begun = Instant::now();
        while leadership.has_changes() {
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
        if leadership.barred() == Some(Bar::OtherTopology) {
            // Another pod may lead that has the nodes of the store.
            return;
        }
        leadership.begin_term(term.stop.clone());
        tracing::info!(fence = term.fence, "took over");
        let mut workers = tokio::task::JoinSet::new();
        for worker in (self.start)(term.stop.clone()) {
            workers.spawn(worker);
        }
        loop {
            tokio::select! {
                biased;
                () = term.stop.cancelled() => break,
                () = sleep(MESSAGES) => {}
            }
            match self.state.stores.pods.take_notes().await {
                Ok(notes) => {
                    for note in notes {
                        messages::handle(&self.state, note).await;
                    }
                }
                Err(error) => tracing::warn!(%error, "messages could not be read"),
            }
        }
        // Aborted, should they not end by themselves: the task ends with this future.
        while workers.join_next().await.is_some() {}
    }

    fn renewed(&self, fence: u64, until: Instant) {
        self.state.leadership.hold_lease(fence, until);
    }

    fn ended(&self) {
        let state = &self.state;
        state.stores.fence.close();
        // Who waits at these gates has to notice.
        state.recovery.open_all_but(|_| false);
        state.leadership.end_term();
    }
}
