//! The layer and its service.

use std::task::{self, Poll};

use futures_util::future::Either;
use miroir_pipeline::explain::Audience;
use miroir_pipeline::index::{Request, Response};
use miroir_pipeline::query::Original;
use miroir_pipeline::stage::{StageFuture, take_ready};
use miroir_pipeline::{Error, Fault, Placed, StageService};
use serde_json::json;
use tokio::time::Instant;
use tower::{Layer, Service};

use super::CoalesceOptions;
use super::flight::{Flights, Lead, Seat, Turn};
use super::key::Key;
use super::sync::Arc;

/// What a leader found, and which request it is about in detail.
#[derive(Clone, Debug)]
struct Found {
    answer: Result<Response, Error>,
    of: Arc<Original>,
}

type Shared = Arc<Flights<Key, Found>>;

/// See the [module's documentation](super). Clones share their flights.
#[derive(Clone, Debug)]
#[must_use]
pub struct CoalesceLayer {
    flights: Shared,
}

impl CoalesceLayer {
    /// Shares with these options.
    pub fn new(options: CoalesceOptions) -> Self {
        Self { flights: Arc::new(Flights::new(options)) }
    }
}

impl Default for CoalesceLayer {
    fn default() -> Self {
        Self::new(CoalesceOptions::default())
    }
}

impl Placed for CoalesceLayer {
    const NAME: &'static str = "coalesce";
    const INSIDE_OF: &'static [&'static str] =
        &["tenant_affinity", "session_pinning", "query_planner"];
}

impl<S> Layer<S> for CoalesceLayer {
    type Service = Coalesce<S>;
    fn layer(&self, inner: S) -> Coalesce<S> {
        Coalesce { inner, flights: Arc::clone(&self.flights) }
    }
}

/// See the [module's documentation](super).
#[derive(Clone, Debug)]
pub struct Coalesce<S> {
    inner: S,
    flights: Shared,
}

impl<S: StageService<Request>> Service<Request> for Coalesce<S> {
    type Response = Response;
    type Error = Error;
    type Future = Either<S::Future, StageFuture<Request>>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        if let Some(explain) = &request.cx.explain {
            let eligible = Key::would_be(&request);
            explain.fact("coalescing_eligible", json!(eligible), Audience::Everybody);
        }
        let Some(key) = Key::of(&request) else {
            return Either::Left(self.inner.call(request));
        };
        // Nothing is reserved by being ready, so who waits holds nothing up.
        let inner = take_ready(&mut self.inner);
        let flights = Arc::clone(&self.flights);
        Either::Right(Box::pin(async move {
            // Not before somebody polls: others would wait for a leader that does not ask.
            let seat = Flights::join(&flights, key, Instant::now());
            answer(seat, inner, request).await
        }))
    }
}

async fn answer<S: StageService<Request>>(
    seat: Seat<Key, Found>,
    mut inner: S,
    request: Request,
) -> Result<Response, Error> {
    let turn = match seat {
        Seat::Leader(lead) => return led(lead, inner, request).await,
        Seat::Alone => return inner.call(request).await,
        Seat::Follower(turn) => {
            metrics::counter!("miroir_query_coalesce_subscribers_total").increment(1);
            request.cx.deadline.run(turn).await?
        }
    };
    match turn {
        Ok(Turn::Lead(lead)) => {
            lead.begin(Instant::now());
            led(lead, inner, request).await
        }
        Ok(Turn::Landed(found)) => match found.answer {
            Ok(answer) => {
                metrics::counter!("miroir_query_coalesce_hits_total").increment(1);
                Ok(answer.again())
            }
            // A complaint names what it complains about, in the order in which it was written.
            Err(error) if *error.fault() == Fault::Client && *found.of != *request.original => {
                inner.call(request).await
            }
            Err(error) => Err(error),
        },
        // Not met: a flight ends with an answer for everybody, or with nobody waiting.
        Err(_) => inner.call(request).await,
    }
}

async fn led<S: StageService<Request>>(
    lead: Lead<Key, Found>,
    mut inner: S,
    request: Request,
) -> Result<Response, Error> {
    let of = Arc::clone(&request.original);
    let found = Found { answer: inner.call(request).await, of };
    match &found.answer {
        Err(error) if *error.fault() != Fault::Client => lead.fail(&found),
        _ => lead.land(&found),
    }
    found.answer
}
