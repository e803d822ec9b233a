//! The layer and its service.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::future::{self, Either};
use miroir_api::NodeId;
use miroir_core::routing::{Cover, Leaf, ShardSet};
use miroir_core::view::Route;
use miroir_pipeline::context::Class;
use miroir_pipeline::explain::Patience;
use miroir_pipeline::leaf::{Request, Response, Target, choose};
use miroir_pipeline::node::Scores;
use miroir_pipeline::stack::Need;
use miroir_pipeline::stage::{Middleware, Next, Ready, Reply, Unready};
use miroir_pipeline::{Error, Placed, StageService, gather, node};
use tokio::time::{Instant, timeout_at};

use super::HedgeOptions;
use crate::leaf::budget::Budget;
use crate::leaf::failure::{is_final, or_failed};
use crate::node::LoadLayer;

/// The share of calls that are over before a node that is only probed has another one beside it.
const USUAL: u32 = 50;

#[derive(Debug)]
struct Shared {
    options: HedgeOptions,
    scores: Arc<Scores>,
    budget: Budget,
}

/// See the [module's documentation](super). Clones share one budget.
#[derive(Clone, Debug)]
#[must_use]
pub struct HedgeLayer {
    shared: Arc<Shared>,
}

impl HedgeLayer {
    /// Hedges by these figures of the nodes.
    pub fn new(scores: Arc<Scores>, options: HedgeOptions) -> Self {
        let budget = Budget::new(options.budget_percent, 0, options.burst);
        Self { shared: Arc::new(Shared { options, scores, budget }) }
    }
}

impl Placed for HedgeLayer {
    const NAME: &'static str = "hedge";
    const NEEDS: &'static [Need] = &[Need::of::<node::Request, LoadLayer>()];
}

miroir_pipeline::layer!(HedgeLayer);

impl Middleware<Request> for HedgeLayer {
    fn call<S: StageService<Request>>(
        &self,
        request: Request,
        next: Ready<'_, S>,
    ) -> Reply<Request, S> {
        match &request.target {
            Target::Cover { .. } if request.cx.class == Class::Interactive => {
                let (shared, next) = (Arc::clone(&self.shared), next.take());
                Reply::boxed(async move { shared.cover(next, &request).await })
            }
            _ => next.pass(request),
        }
    }
}

/// What became of one part: its answer, or the error that ends the whole request.
type Part = Result<Response, Error>;

fn is_complete(part: &Part) -> bool {
    part.as_ref().is_ok_and(|part| part.failed.is_empty() && part.missing.is_empty())
}

/// Whether nobody can answer better.
fn is_settled(part: &Part) -> bool {
    is_complete(part) || part.as_ref().is_err_and(is_final)
}

impl Shared {
    async fn cover<S: StageService<Request>>(
        &self,
        next: Next<Request, S>,
        request: &Request,
    ) -> Result<Response, Error> {
        let Request { topology, index, stale, route, .. } = request;
        let Target::Cover { shards, avoid, chosen } = &request.target else {
            return next.run(request.clone()).await;
        };
        let cover = match chosen {
            Some(leaf) => {
                let missing = ShardSet::empty(shards.universe());
                Cover { leaves: vec![leaf.clone()], missing }
            }
            None => choose(topology, index, stale, route, shards, avoid, &self.scores),
        };
        let hedges = AtomicU32::new(0);
        // The service that was polled ready takes the first part.
        let others = (cover.leaves.len() > 1).then(|| next.another());
        let mut ready = Some(next.into_unready());
        let parts = cover.leaves.into_iter().filter_map(|leaf| {
            let next = ready.take().or_else(|| others.clone())?;
            Some(self.part(next, request, leaf, avoid, &hedges))
        });
        let mut out = Response { pages: Vec::new(), failed: Vec::new(), missing: cover.missing };
        for part in gather::try_all(parts).await? {
            out.pages.extend(part.pages);
            out.failed.extend(part.failed);
            out.missing.union_with(&part.missing);
        }
        Ok(out)
    }

    /// Asks one node for its shards, and others for the same shards if that takes too long.
    async fn part<S: StageService<Request>>(
        &self,
        next: Unready<Request, S>,
        request: &Request,
        leaf: Leaf,
        avoid: &[NodeId],
        hedges: &AtomicU32,
    ) -> Part {
        self.budget.deposit();
        // Nobody should have to wait for what is asked only to learn something.
        let probed = request.route.probed.contains(&leaf.node);
        if let Some(explain) = &request.cx.explain {
            let after = if probed {
                self.scores.patience(&leaf.node, USUAL)
            } else {
                self.patience(&leaf.node).map(|usual| usual.max(self.options.min_trigger))
            };
            let mut without = avoid.to_vec();
            without.push(leaf.node.clone());
            let replaceable = self.way_around(request, &leaf, without).is_some();
            explain.note(|record| {
                record.hedges.insert(leaf.node.clone(), Patience { after, replaceable });
            });
        }
        let target = |avoid: Vec<NodeId>, chosen: Option<Leaf>| Target::Cover {
            shards: leaf.shards.clone(),
            avoid,
            chosen,
        };
        let asked = request.with_target(target(avoid.to_vec(), Some(leaf.clone())));
        let (call, next) = match next.ready().await {
            Ok(next) => next.start(asked),
            Err(error) => return or_failed(Err(error), &leaf.shards),
        };
        let first = async { or_failed(call.await, &leaf.shards) };
        let mut first = std::pin::pin!(first);
        let begun = Instant::now();
        if probed {
            let usual = self.scores.patience(&leaf.node, USUAL).unwrap_or_default();
            if let Ok(answer) = timeout_at(begun + usual, &mut first).await {
                return answer;
            }
        } else {
            // Most calls are over before anybody has to look at figures.
            if let Ok(answer) = timeout_at(begun + self.options.min_trigger, &mut first).await {
                return answer;
            }
            let Some(patience) = self.patience(&leaf.node) else { return first.await };
            if let Ok(answer) = timeout_at(begun + patience, &mut first).await {
                return answer;
            }
        }
        if request.question.is_heavy() {
            metrics::counter!("miroir_hedge_skipped_total", "reason" => "heavy").increment(1);
            return first.await;
        }
        let _late = self.scores.node(&leaf.node).overdue();
        let mut without = avoid.to_vec();
        without.push(leaf.node.clone());
        let Some(way) = self.other_way(request, &leaf, without, hedges) else {
            return first.await;
        };
        let Way { route, without, .. } = way;
        let mut again = request.with_target(target(without, None));
        again.route = route;
        let second = async { or_failed(next.run(again).await, &leaf.shards) };
        let (answer, won) = race(first, std::pin::pin!(second)).await;
        let outcome = if won { "winner" } else { "loser" };
        metrics::counter!("miroir_hedge_fired_total", "outcome" => outcome).increment(1);
        answer
    }

    /// How long to wait for a node; `None` while that is not known.
    fn patience(&self, node: &NodeId) -> Option<Duration> {
        let usual = self.scores.patience(node, self.options.percent)?;
        Some(usual.mul_f64(self.options.p95_trigger_multiplier))
    }

    /// Where the shards of a slow node can be asked for, if that is possible.
    fn way_around(&self, request: &Request, leaf: &Leaf, without: Vec<NodeId>) -> Option<Way> {
        let Request { topology, index, stale, .. } = request;
        let mut route = request.route.clone();
        if !self.options.cross_group_fallback {
            let group = topology.node(&leaf.node)?.group;
            route.groups.retain(|other| *other == group);
        }
        let shards = &leaf.shards;
        let others = choose(topology, index, stale, &route, shards, &without, &self.scores);
        let calls = others.leaves.len();
        others.missing.is_empty().then_some(Way { route, without, calls })
    }

    /// The same, if it is also allowed.
    fn other_way(
        &self,
        request: &Request,
        leaf: &Leaf,
        mut without: Vec<NodeId>,
        hedges: &AtomicU32,
    ) -> Option<Way> {
        let skipped = |reason: &'static str| {
            metrics::counter!("miroir_hedge_skipped_total", "reason" => reason).increment(1);
            None
        };
        if self.way_around(request, leaf, without.clone()).is_none() {
            return skipped("no_replica");
        }
        // One more call to a node that is as late makes it later still.
        without.extend(self.scores.late().into_iter().filter(|node| *node != leaf.node));
        let Some(way) = self.way_around(request, leaf, without) else {
            return skipped("others_late");
        };
        if hedges.fetch_add(1, Ordering::Relaxed) >= self.options.max_hedges_per_query {
            return skipped("limit");
        }
        if !self.budget.withdraw(way.calls, Instant::now()) {
            return skipped("budget");
        }
        Some(way)
    }
}

/// How shards are asked for once more.
struct Way {
    route: Route,
    without: Vec<NodeId>,
    /// Calls to nodes that takes.
    calls: usize,
}

/// The first answer that nobody can better, and whether it is the second one's. The other call ends
/// with this function.
async fn race<A, B>(first: A, second: B) -> (Part, bool)
where
    A: Future<Output = Part> + Unpin,
    B: Future<Output = Part> + Unpin,
{
    match future::select(first, second).await {
        Either::Left((answer, other)) => {
            if is_settled(&answer) {
                return (answer, false);
            }
            let hedged = other.await;
            if is_settled(&hedged) { (hedged, true) } else { (answer, false) }
        }
        Either::Right((hedged, other)) => {
            if is_settled(&hedged) {
                return (hedged, true);
            }
            (other.await, false)
        }
    }
}
