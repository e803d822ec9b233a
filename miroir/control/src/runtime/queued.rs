//! The runner for long work that is cut into jobs, which any pod does.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use serde_json::Value;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use super::count;
use miroir_core::lock::Lock;
use miroir_pipeline::error::Error;
use miroir_store::clock;
use miroir_store::{Claim, Job, Jobs, NewJob};

/// Work on the jobs of one queue.
pub trait JobHandler: Send + Sync + 'static {
    /// The queue, as stores and metrics name it.
    const KIND: &'static str;
    /// Works on a job from its cursor on, and answers the jobs that follow from it: a large one may
    /// do nothing but cut itself into smaller ones. It is cut off when another pod has the job; what
    /// it does from a cursor on must be safe to do twice.
    fn run(
        &self,
        job: Job,
        progress: &JobProgress,
    ) -> impl Future<Output = Result<Vec<NewJob>, Error>> + Send;
}

/// How far the work on a job has come.
#[derive(Debug, Default)]
pub struct JobProgress(Lock<Option<Value>>);

impl JobProgress {
    /// Whoever goes on with the job begins here. Stored with the next heartbeat.
    pub fn at(&self, cursor: Value) {
        *self.0.lock() = Some(cursor);
    }

    fn get(&self) -> Option<Value> {
        self.0.lock().clone()
    }
}

/// How jobs are claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claims {
    /// How long a claim lives without a heartbeat.
    pub ttl: Duration,
    /// Time between two heartbeats.
    pub heartbeat: Duration,
    /// Pause before an empty queue is looked at again.
    pub idle: Duration,
    /// How often a job is tried.
    pub attempts: u64,
}

impl Default for Claims {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(30),
            heartbeat: Duration::from_secs(10),
            idle: Duration::from_secs(1),
            attempts: 5,
        }
    }
}

/// Works on one job after the other until cancelled. What is under way then is given back.
pub async fn queued<H: JobHandler>(
    handler: Arc<H>,
    jobs: Arc<dyn Jobs>,
    claims: Claims,
    stop: CancellationToken,
) {
    while !stop.is_cancelled() {
        let begun = Instant::now();
        match jobs.claim(H::KIND, clock::now(), claims.ttl).await {
            Ok(Some(job)) => {
                let work = Work { handler: &*handler, jobs: &*jobs, claims, claim: job.claim() };
                work.perform(job, begun + claims.ttl, &stop).await;
                continue;
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(queue = H::KIND, %error, "no job could be claimed"),
        }
        publish::<H>(&*jobs).await;
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = sleep(claims.idle) => {}
        }
    }
}

/// How many jobs wait or are under way.
async fn publish<H: JobHandler>(jobs: &dyn Jobs) {
    if let Ok(all) = jobs.list(H::KIND).await {
        let open = all.iter().filter(|job| job.error.is_none()).count();
        metrics::gauge!("miroir_background_queue_depth", "job_type" => H::KIND).set(open as f64);
    }
}

struct Work<'a, H> {
    handler: &'a H,
    jobs: &'a dyn Jobs,
    claims: Claims,
    claim: Claim,
}

/// How the work on a job ended.
enum End {
    Done(Result<Vec<NewJob>, Error>),
    Panicked,
    /// Another pod has it, or may have it.
    Lost,
    Stopped,
}

impl<H: JobHandler> Work<'_, H> {
    async fn perform(&self, job: Job, until: Instant, stop: &CancellationToken) {
        publish::<H>(self.jobs).await;
        let attempt = job.attempt;
        let progress = JobProgress::default();
        progress.at(job.cursor.clone());
        let end = {
            let work = AssertUnwindSafe(self.handler.run(job, &progress)).catch_unwind();
            tokio::select! {
                biased;
                () = self.lost(&progress, until) => End::Lost,
                () = stop.cancelled() => End::Stopped,
                done = work => done.map_or(End::Panicked, End::Done),
            }
        };
        let id = &self.claim.id;
        let (outcome, ended) = match end {
            End::Done(Ok(follow)) => {
                ("ok", self.jobs.finish(&self.claim, follow, clock::now()).await)
            }
            End::Done(Err(error)) => {
                tracing::warn!(queue = H::KIND, job = id, attempt, %error, "a job failed");
                ("error", self.give_back(&progress, error.to_string(), attempt).await)
            }
            End::Panicked => {
                tracing::error!(queue = H::KIND, job = id, attempt, "the work on a job panicked");
                ("panic", self.give_back(&progress, "a panic".to_owned(), attempt).await)
            }
            End::Stopped => {
                let back = self.give_back(&progress, "the pod ended".to_owned(), 0).await;
                ("stopped", back)
            }
            End::Lost => ("lost", Ok(true)),
        };
        count(H::KIND, outcome);
        if !matches!(ended, Ok(true)) {
            // Its claim runs out, and another pod goes on from the last heartbeat.
            tracing::warn!(queue = H::KIND, job = id, "the end of a job could not be recorded");
        }
    }

    async fn give_back(
        &self,
        progress: &JobProgress,
        reason: String,
        attempt: u64,
    ) -> Result<bool, miroir_store::StoreError> {
        let cursor = progress.get().unwrap_or_default();
        self.jobs.advance(&self.claim, cursor, clock::now(), self.claims.ttl).await?;
        let for_good = attempt >= self.claims.attempts;
        self.jobs.fail(&self.claim, reason, for_good, clock::now()).await
    }

    /// Sends heartbeats; done when the claim does not count any more.
    async fn lost(&self, progress: &JobProgress, mut until: Instant) {
        loop {
            sleep_until(until.min(Instant::now() + self.claims.heartbeat)).await;
            let begun = Instant::now();
            if begun >= until {
                return;
            }
            let cursor = progress.get().unwrap_or_default();
            let beat = self.jobs.advance(&self.claim, cursor, clock::now(), self.claims.ttl);
            match timeout_at(until, beat).await {
                Ok(Ok(true)) => until = begun + self.claims.ttl,
                Ok(Ok(false)) | Err(_) => return,
                Ok(Err(error)) => {
                    tracing::warn!(queue = H::KIND, job = self.claim.id, %error, "no heartbeat");
                }
            }
        }
    }
}
