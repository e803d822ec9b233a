//! The layer and its service.

use std::sync::Arc;
use std::task::{self, Poll};
use std::time::Duration;

use miroir::leaf::{Failed, Request, Response, Target};
use miroir::routing::ShardSet;
use miroir::stage::{StageFuture, take_ready};
use miroir::{Error, Fault, NodeFailure, Placed, Retry, StageService};
use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt};

use super::FailoverOptions;
use crate::leaf::budget::Budget;
use crate::leaf::failure::{as_failure, or_failed};

#[derive(Debug)]
struct Shared {
    max_attempts: u32,
    retry_timeouts: bool,
    budget: Budget,
}

/// See the [module's documentation](super). Clones share one budget.
#[derive(Clone, Debug)]
#[must_use]
pub struct FailoverLayer {
    shared: Arc<Shared>,
}

impl FailoverLayer {
    /// Fails over with these options.
    pub fn new(options: FailoverOptions) -> Self {
        let budget = Budget::new(options.budget_percent, options.per_second, options.burst);
        let FailoverOptions { max_attempts, retry_timeouts, .. } = options;
        Self { shared: Arc::new(Shared { max_attempts, retry_timeouts, budget }) }
    }
}

impl Default for FailoverLayer {
    fn default() -> Self {
        Self::new(FailoverOptions::default())
    }
}

impl Placed for FailoverLayer {
    const NAME: &'static str = "failover";
    const INSIDE_OF: &'static [&'static str] = &["hedge"];
}

impl<S> Layer<S> for FailoverLayer {
    type Service = Failover<S>;
    fn layer(&self, inner: S) -> Failover<S> {
        Failover { inner, shared: Arc::clone(&self.shared) }
    }
}

/// See the [module's documentation](super).
#[derive(Clone, Debug)]
pub struct Failover<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S: StageService<Request>> Service<Request> for Failover<S> {
    type Response = Response;
    type Error = Error;
    type Future = StageFuture<Request>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        match &request.target {
            Target::Exactly(_) => Box::pin(self.inner.call(request)),
            Target::Cover { .. } => {
                let inner = take_ready(&mut self.inner);
                let shared = Arc::clone(&self.shared);
                Box::pin(async move { shared.cover(inner, &request).await })
            }
        }
    }
}

impl Shared {
    fn can_help(&self, error: &Error) -> bool {
        let timeout = error.node_failure() == Some(NodeFailure::Timeout);
        error.retry() == Retry::OtherReplica && (self.retry_timeouts || !timeout)
    }

    async fn cover<S: StageService<Request>>(
        &self,
        mut inner: S,
        request: &Request,
    ) -> Result<Response, Error> {
        let Target::Cover { shards, avoid, .. } = &request.target else {
            return inner.call(request.clone()).await;
        };
        self.budget.deposit();
        let mut answer = or_failed(inner.call(request.clone()).await, shards)?;
        if answer.failed.is_empty() {
            return Ok(answer);
        }
        let mut avoid = avoid.clone();
        let universe = shards.universe();
        // Failures that nobody can make good.
        let mut settled = Vec::new();
        for _ in 1..self.max_attempts {
            let (open, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut answer.failed)
                .into_iter()
                .partition(|failed| self.can_help(&failed.error));
            settled.extend(rest);
            if open.is_empty() {
                break;
            }
            if request.cx.deadline.remaining() == Duration::ZERO {
                answer.failed = open;
                break;
            }
            if !self.budget.withdraw(1, Instant::now()) {
                metrics::counter!("miroir_failover_exhausted_total").increment(1);
                answer.failed = open;
                break;
            }
            metrics::counter!("miroir_scatter_retries_total").increment(1);
            let mut wanted = ShardSet::empty(universe);
            for failed in &open {
                wanted.union_with(&failed.shards);
                if !avoid.contains(&failed.node) {
                    avoid.push(failed.node.clone());
                }
            }
            let again = request.about(Target::Cover {
                shards: wanted.clone(),
                avoid: avoid.clone(),
                chosen: None,
            });
            match inner.clone().oneshot(again).await {
                Ok(more) => {
                    answer.pages.extend(more.pages);
                    answer.failed = more.failed;
                    // No other replica: the failure that is known says more than "missing".
                    settled.extend(restricted(open, &more.missing));
                }
                Err(error) => match as_failure(&error, &wanted) {
                    Some(failed) => answer.failed = vec![failed],
                    None if *error.fault() == Fault::Client => return Err(error),
                    None => {
                        answer.failed = open;
                        break;
                    }
                },
            }
        }
        answer.failed.extend(settled);
        Ok(answer)
    }
}

/// The parts of these failures that are among `shards`.
fn restricted(failed: Vec<Failed>, shards: &ShardSet) -> impl Iterator<Item = Failed> {
    failed.into_iter().filter_map(move |failed| {
        let left = failed.shards.intersection(shards);
        (!left.is_empty()).then_some(Failed { shards: left, ..failed })
    })
}
