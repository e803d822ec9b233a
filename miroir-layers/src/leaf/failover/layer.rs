//! The layer and its service.

use std::sync::Arc;
use std::time::Duration;

use miroir_core::routing::ShardSet;
use miroir_pipeline::leaf::{Failed, Request, Response, Target};
use miroir_pipeline::stack::LayerName;
use miroir_pipeline::stage::{Middleware, Next, Ready, Reply};
use miroir_pipeline::{Error, NodeFailure, Placed, Retry, StageService};
use tokio::time::Instant;

use super::FailoverOptions;
use crate::leaf::HedgeLayer;
use crate::leaf::budget::Budget;
use crate::leaf::failure::{as_failure, is_final, or_failed};

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
    const INSIDE_OF: &'static [LayerName] = &[LayerName::of::<HedgeLayer>()];
}

miroir_pipeline::layer!(FailoverLayer);

impl Middleware<Request> for FailoverLayer {
    fn call<S: StageService<Request>>(
        &self,
        request: Request,
        next: Ready<'_, S>,
    ) -> Reply<Request, S> {
        match &request.target {
            Target::Exactly(_) => next.pass(request),
            Target::Cover { .. } => {
                let (shared, next) = (Arc::clone(&self.shared), next.take());
                Reply::boxed(async move { shared.cover(next, &request).await })
            }
        }
    }
}

impl Shared {
    fn can_help(&self, error: &Error) -> bool {
        let timeout =
            matches!(error.node_failure(), Some(NodeFailure::Timeout | NodeFailure::Expired));
        error.retry() == Retry::OtherReplica && (self.retry_timeouts || !timeout)
    }

    async fn cover<S: StageService<Request>>(
        &self,
        next: Next<Request, S>,
        request: &Request,
    ) -> Result<Response, Error> {
        let Target::Cover { shards, avoid, .. } = &request.target else {
            return next.run(request.clone()).await;
        };
        self.budget.deposit();
        let (first, next) = next.start(request.clone());
        let mut answer = or_failed(first.await, shards)?;
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
            let again = request.with_target(Target::Cover {
                shards: wanted.clone(),
                avoid: avoid.clone(),
                chosen: None,
            });
            match next.clone().run(again).await {
                Ok(more) => {
                    answer.pages.extend(more.pages);
                    answer.failed = more.failed;
                    // No other replica: the failure that is known says more than "missing".
                    settled.extend(restricted(open, &more.missing));
                }
                Err(error) => match as_failure(&error, &wanted) {
                    Some(failed) => answer.failed = vec![failed],
                    None if is_final(&error) => return Err(error),
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
