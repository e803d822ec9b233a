//! The layer and its service.

use miroir_pipeline::explain::Audience;
use miroir_pipeline::index::{Request, Response};
use miroir_pipeline::query::ClientRequest;
use miroir_pipeline::stack::LayerName;
use miroir_pipeline::stage::{Middleware, Next, Ready, Reply};
use miroir_pipeline::{Error, Fault, Placed, StageService};
use serde_json::json;
use tokio::time::Instant;

use super::QueryCoalescingOptions;
use super::flight::{Flights, Lead, Seat, Turn};
use super::key::Key;
use super::sync::Arc;
use crate::index::{QueryPlannerLayer, TenantAffinityLayer};

/// What a leader found, and which request it is about in detail.
#[derive(Clone, Debug)]
struct Found {
    answer: Result<Response, Error>,
    of: Arc<ClientRequest>,
}

type Shared = Arc<Flights<Key, Found>>;

/// See the [module's documentation](super). Clones share their flights.
#[derive(Clone, Debug)]
#[must_use]
pub struct QueryCoalescingLayer {
    flights: Shared,
}

impl QueryCoalescingLayer {
    /// Shares with these options.
    pub fn new(options: QueryCoalescingOptions) -> Self {
        Self { flights: Arc::new(Flights::new(options)) }
    }
}

impl Default for QueryCoalescingLayer {
    fn default() -> Self {
        Self::new(QueryCoalescingOptions::default())
    }
}

impl Placed for QueryCoalescingLayer {
    const NAME: &'static str = "query_coalescing";
    const INSIDE_OF: &'static [LayerName] =
        &[LayerName::of::<TenantAffinityLayer>(), LayerName::of::<QueryPlannerLayer>()];
}

miroir_pipeline::layer!(QueryCoalescingLayer);

impl Middleware<Request> for QueryCoalescingLayer {
    fn call<S: StageService<Request>>(
        &self,
        request: Request,
        next: Ready<'_, S>,
    ) -> Reply<Request, S> {
        if let Some(explain) = &request.cx.explain {
            let eligible = Key::would_be(&request);
            explain.fact("coalescing_eligible", json!(eligible), Audience::Everybody);
        }
        let Some(key) = Key::of(&request) else {
            return next.pass(request);
        };
        // Nothing is reserved by being ready, so who waits holds nothing up.
        let next = next.take();
        let flights = Arc::clone(&self.flights);
        Reply::boxed(async move {
            // Not before somebody polls: others would wait for a leader that does not ask.
            let seat = Flights::join(&flights, key, Instant::now());
            answer(seat, next, request).await
        })
    }
}

async fn answer<S: StageService<Request>>(
    seat: Seat<Key, Found>,
    next: Next<Request, S>,
    request: Request,
) -> Result<Response, Error> {
    let turn = match seat {
        Seat::Leader(lead) => return led(lead, next, request).await,
        Seat::Alone => return next.run(request).await,
        Seat::Follower(turn) => {
            metrics::counter!("miroir_query_coalesce_subscribers_total").increment(1);
            request.cx.deadline.run(turn).await?
        }
    };
    match turn {
        Ok(Turn::Lead(lead)) => {
            lead.begin(Instant::now());
            led(lead, next, request).await
        }
        Ok(Turn::Landed(found)) => match found.answer {
            Ok(answer) => {
                metrics::counter!("miroir_query_coalesce_hits_total").increment(1);
                Ok(answer.with_fresh_uids())
            }
            // A complaint names what it complains about, in the order in which it was written.
            Err(error) if *error.fault() == Fault::Client && *found.of != *request.original => {
                next.run(request).await
            }
            Err(error) => Err(error),
        },
        // Not met: a flight ends with an answer for everybody, or with nobody waiting.
        Err(_) => next.run(request).await,
    }
}

async fn led<S: StageService<Request>>(
    lead: Lead<Key, Found>,
    next: Next<Request, S>,
    request: Request,
) -> Result<Response, Error> {
    let of = Arc::clone(&request.original);
    let found = Found { answer: next.run(request).await, of };
    match &found.answer {
        Err(error) if *error.fault() != Fault::Client => lead.fail(&found),
        _ => lead.land(&found),
    }
    found.answer
}
