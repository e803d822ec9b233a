//! The layer and its service.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use miroir_api::NodeId;
use miroir_api::meili::ApiError;
use miroir_pipeline::context::Class;
use miroir_pipeline::explain::{Audience, Explain, WarningKind};
use miroir_pipeline::leaf::{Failed, Question, Request, Response, Target};
use miroir_pipeline::node::Scores;
use miroir_pipeline::stack::LayerName;
use miroir_pipeline::stage::{Middleware, Next, Ready, Reply};
use miroir_pipeline::{Error, Fault, NodeFailure, Placed, StageService};
use miroir_store::IndexEntry;
use tokio::time::Instant;

use super::fingerprint::Fingerprint;
use super::quarantine::Quarantine;
use super::table::{LIMIT, Reason};
use crate::leaf::{FailoverLayer, HedgeLayer};

/// Calls that are over sooner were most likely in flight when their node was stopped.
const LONG: Duration = Duration::from_secs(1);
/// Nor is a call suspect that took no longer than so many times what nearly all calls take.
const USUAL: f64 = 4.0;

#[derive(Debug)]
struct Shared {
    scores: Arc<Scores>,
    quarantine: Arc<Quarantine>,
}

/// See the [module's documentation](super). Clones share one table.
#[derive(Clone, Debug)]
#[must_use]
pub struct QueryQuarantineLayer {
    shared: Arc<Shared>,
}

impl QueryQuarantineLayer {
    /// Refuses the questions of `quarantine` and adds to them, by how long calls take the nodes of
    /// `scores`.
    pub fn new(scores: Arc<Scores>, quarantine: Arc<Quarantine>) -> Self {
        Self { shared: Arc::new(Shared { scores, quarantine }) }
    }
}

impl Placed for QueryQuarantineLayer {
    const NAME: &'static str = "query_quarantine";
    const INSIDE_OF: &'static [LayerName] =
        &[LayerName::of::<HedgeLayer>(), LayerName::of::<FailoverLayer>()];
}

miroir_pipeline::layer!(QueryQuarantineLayer);

impl Middleware<Request> for QueryQuarantineLayer {
    fn call<S: StageService<Request>>(
        &self,
        request: Request,
        next: Ready<'_, S>,
    ) -> Reply<Request, S> {
        let by_a_client = request.cx.class == Class::Interactive
            && matches!(request.target, Target::Cover { .. })
            && !matches!(request.question, Question::Plain(_));
        if !by_a_client {
            return next.pass(request);
        }
        let (shared, next) = (Arc::clone(&self.shared), next.take());
        Reply::boxed(async move { shared.ask(next, request).await })
    }
}

/// What is kept of a request while it is under way.
struct Asked {
    index: Arc<IndexEntry>,
    question: Question,
    explain: Option<Arc<Explain>>,
}

impl Asked {
    fn of(request: &Request) -> Self {
        let Request { index, question, cx, .. } = request;
        let (index, question) = (Arc::clone(index), question.clone());
        Self { index, question, explain: cx.explain.clone() }
    }
}

/// By what questions are told apart.
impl Hash for Asked {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.index.physical, &self.question).hash(state);
    }
}

impl Shared {
    async fn ask<S: StageService<Request>>(
        &self,
        next: Next<Request, S>,
        request: Request,
    ) -> Result<Response, Error> {
        let (begun, asked) = (Instant::now(), Asked::of(&request));
        let table = &self.quarantine.table;
        // As a rule there are none, and nobody has to read a question.
        let known = (!table.is_empty()).then(|| Fingerprint::of(&asked));
        if let Some((reason, left)) = known.and_then(|known| table.refused(known, begun)) {
            if let Some(explain) = &asked.explain {
                warn(explain, reason, left);
                if !explain.executes() {
                    return next.run(request).await;
                }
            }
            metrics::counter!("miroir_query_quarantine_refused_total").increment(1);
            return Err(refusal(reason, left));
        }
        let answer = next.run(request).await;
        let failed = match &answer {
            Ok(answer) => &*answer.failed,
            Err(_) => &[],
        };
        let now = Instant::now();
        let whole = answer.as_ref().err().and_then(|error| match error.fault() {
            Fault::Node(node) => Some((node, error)),
            _ => None,
        });
        let failures = failed.iter().map(|Failed { node, error, .. }| (node, error)).chain(whole);
        let worst = failures
            .filter_map(|(node, error)| {
                Some((self.points(&asked, node, error, now - begun)?, node.clone()))
            })
            .max_by_key(|((points, _), _)| *points);
        match worst {
            None if answer.is_ok() && !table.is_empty() => {
                table.acquit(known.unwrap_or_else(|| Fingerprint::of(&asked)), now);
            }
            None => {}
            Some((counted, node)) => {
                let reason = counted.1;
                let key = known.unwrap_or_else(|| Fingerprint::of(&asked));
                if let Some(left) = self.quarantine.count(key, counted, &node).await {
                    metrics::counter!("miroir_query_quarantine_total", "reason" => reason.label())
                        .increment(1);
                    tracing::warn!(
                        index = %asked.index.name, reason = reason.label(),
                        "a query is not asked again for a while: a node broke off over it"
                    );
                    if let Some(explain) = &asked.explain {
                        warn(explain, reason, left);
                    }
                    return Err(refusal(reason, left));
                }
            }
        }
        answer
    }

    /// What a failure counts. `None`: it says nothing about the question.
    fn points(
        &self,
        asked: &Asked,
        node: &NodeId,
        error: &Error,
        took: Duration,
    ) -> Option<(u32, Reason)> {
        match error.node_failure()? {
            NodeFailure::Reset | NodeFailure::Body => {
                let heavy = self.was_long(node, took) || asked.question.is_heavy();
                Some((if heavy { LIMIT } else { 1 }, Reason::Reset))
            }
            NodeFailure::Timeout if asked.question.is_heavy() => Some((LIMIT, Reason::Timeout)),
            _ => None,
        }
    }

    fn was_long(&self, node: &NodeId, took: Duration) -> bool {
        let usual = self.scores.patience(node, 99).unwrap_or_default();
        took >= LONG.max(usual.mul_f64(USUAL))
    }
}

fn sentence(reason: Reason, left: Duration) -> String {
    let happened = match reason {
        Reason::Reset => "A node broke off over this query",
        Reason::Timeout => "A node did not answer this query in time",
    };
    let seconds = left.as_secs().max(1);
    format!(
        "{happened}, so it is not asked again for {seconds} s: ask for less, as with fewer conditions \
         in `filter`. An operator may change `query_quarantine.duration_ms`."
    )
}

fn refusal(reason: Reason, left: Duration) -> Error {
    Error::refused(ApiError::new("miroir_query_quarantined", sentence(reason, left)))
}

fn warn(explain: &Explain, reason: Reason, left: Duration) {
    explain.warn(WarningKind::Layer, Audience::Everybody, sentence(reason, left));
}
