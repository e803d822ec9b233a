//! The layer and its service.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use miroir_pipeline::codec::HeaderCodec;
use miroir_pipeline::context::TaskKey;
use miroir_pipeline::error::ErrorKind;
use miroir_pipeline::index::scatter::accepted;
use miroir_pipeline::keyring::Keyring;
use miroir_pipeline::meta::Meta;
use miroir_pipeline::operation::{Operation, Request, Response};
use miroir_pipeline::stack::LayerName;
use miroir_pipeline::stage::{Middleware, Next, Ready, Reply};
use miroir_pipeline::{Error, Fault, Placed, StageService};
use miroir_store::clock;
use miroir_store::records::{Began, Idempotency, Kept, KeptAnswer};
use miroir_store::{StoreError, Stores, TaskQuery, Tasks};
use time::OffsetDateTime;
use tokio::time::Instant;
use uuid::Uuid;

use super::IdempotencyOptions;
use super::flights::{Flight, Flights, Found};
use super::headers::{IdempotencyKey, Replayed, codec};
use super::key::{fingerprint, scoped};
use super::secret;
use crate::operation::AuthorizeLayer;

/// How far clocks of two pods may be apart.
const SKEW: time::Duration = time::Duration::minutes(1);
/// Tasks looked through at a time.
const PAGE: usize = 1000;

struct Shared {
    store: Arc<dyn Idempotency>,
    tasks: Arc<dyn Tasks>,
    keyring: Arc<Keyring>,
    flights: Flights,
    /// What this process is known by. What another one began is not under way any more: only one
    /// process at a time changes anything.
    holder: String,
    options: IdempotencyOptions,
}

/// See the [module's documentation](super).
#[derive(Clone)]
#[must_use]
pub struct IdempotencyLayer {
    shared: Arc<Shared>,
}

impl fmt::Debug for IdempotencyLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdempotencyLayer").field("options", &self.shared.options).finish()
    }
}

impl IdempotencyLayer {
    /// Remembers changes in these stores. API keys that answers show are taken from `keyring`, and
    /// are not remembered.
    pub fn new(stores: &Stores, keyring: Arc<Keyring>, options: IdempotencyOptions) -> Self {
        let (store, tasks) = (Arc::clone(&stores.idempotency), Arc::clone(&stores.tasks));
        let (flights, holder) = (Flights::default(), Uuid::new_v4().to_string());
        Self { shared: Arc::new(Shared { store, tasks, keyring, flights, holder, options }) }
    }
}

impl Placed for IdempotencyLayer {
    const NAME: &'static str = "idempotency";
    const INSIDE_OF: &'static [LayerName] = &[LayerName::of::<AuthorizeLayer>()];

    fn codec(&self) -> Option<Arc<dyn HeaderCodec>> {
        Some(Arc::new(codec()))
    }
}

miroir_pipeline::layer!(IdempotencyLayer);

impl Middleware<Request> for IdempotencyLayer {
    fn call<S: StageService<Request>>(
        &self,
        mut request: Request,
        next: Ready<'_, S>,
    ) -> Reply<Request, S> {
        let key = request.cx.get().filter(|_| request.changes());
        let Some(IdempotencyKey(key)) = key else { return next.pass(request) };
        let shared = Arc::clone(&self.shared);
        let (key, fingerprint) = (scoped(&request, key), fingerprint(&request));
        request.cx.insert(TaskKey(Arc::from(key.as_str())));
        Reply::boxed(shared.run(next.take(), request, key, fingerprint))
    }
}

fn count(outcome: &'static str) {
    metrics::counter!("miroir_idempotency_hits_total", "outcome" => outcome).increment(1);
}

fn reused() -> Error {
    count("conflict");
    Error::api(
        "miroir_idempotency_key_reused",
        "The `Idempotency-Key` of this request came with another request before. Use a new key for \
         every change, and the same one only to send the same change again.",
    )
}

fn again(mut answer: Response, derived: bool) -> Response {
    count("dedup");
    answer.meta.insert(Replayed { derived });
    answer
}

/// Whether a change that failed may have been made all the same.
fn is_open(error: &Error) -> bool {
    *error.fault() == Fault::Store
        || error.is_deposed()
        || matches!(error.kind(), ErrorKind::DeadlineExceeded)
}

impl Shared {
    async fn run<S: StageService<Request>>(
        self: Arc<Self>,
        next: Next<Request, S>,
        request: Request,
        key: String,
        fingerprint: String,
    ) -> Result<Response, Error> {
        let mut next = Some(next);
        loop {
            match self.flights.find(&key, &fingerprint, self.options.cached) {
                Found::Other => return Err(reused()),
                Found::Landed(answer) => return Ok(again(*answer, is_of_key(&request))),
                Found::Flying(mut landing) => {
                    let landed = request.cx.deadline.run(landing.wait_for(Option::is_some));
                    // If whoever had it is gone, somebody else takes it on.
                    if let Ok(landed) = landed.await? {
                        let outcome = landed.clone().expect("that was waited for");
                        return outcome.map(|answer| again(answer, is_of_key(&request)));
                    }
                }
                Found::Mine(flight) => {
                    let Some(next) = next.take() else { return Err(Error::deadline()) };
                    // Whoever waits, and the store, must learn of it even if this client goes away.
                    let deed = self.clone().fly(next, request, key, fingerprint, flight);
                    return tokio::spawn(deed).await.map_err(Error::internal)?;
                }
            }
        }
    }

    async fn fly<S: StageService<Request>>(
        self: Arc<Self>,
        next: Next<Request, S>,
        request: Request,
        key: String,
        fingerprint: String,
        flight: Flight,
    ) -> Result<Response, Error> {
        let outcome = self.settle(next, request, &key, &fingerprint).await;
        if let Err(error) = &outcome
            && matches!(error.kind(), ErrorKind::Api(api) if api.code == "miroir_idempotency_key_reused")
        {
            // It is the others' key, not this one's: they ask for themselves.
            return outcome;
        }
        flight.land(&outcome, Instant::now() + self.options.ttl);
        outcome
    }

    async fn settle<S: StageService<Request>>(
        &self,
        next: Next<Request, S>,
        request: Request,
        key: &str,
        fingerprint: &str,
    ) -> Result<Response, Error> {
        let IdempotencyOptions { ttl, max_keys, .. } = self.options;
        let now = clock::now();
        let mine = Kept {
            request: fingerprint.to_owned(),
            holder: self.holder.clone(),
            began_at: now,
            answer: None,
        };
        match self.store.begin(key, mine.clone(), ttl, max_keys, now).await? {
            Began::First => {}
            Began::Known(known) if known.request != fingerprint => return Err(reused()),
            Began::Known(Kept { answer: Some(answer), .. }) => {
                let of_key = is_of_key(&request);
                return Ok(again(self.shown(answer, of_key)?, of_key));
            }
            Began::Known(known) => {
                if let Some(made) = self.made(key, known.began_at).await? {
                    let settled = Kept { answer: Some(self.kept(&made, false)), ..known.clone() };
                    self.store.replace(key, &known, settled, ttl, now).await?;
                    return Ok(again(made, false));
                }
                if !self.store.replace(key, &known, mine.clone(), ttl, now).await? {
                    return Err(Error::no_leader());
                }
            }
        }
        count("miss");
        let of_key = is_of_key(&request);
        let answer = next.run(request).await;
        let stored = match &answer {
            Ok(answer) => {
                let settled = Kept { answer: Some(self.kept(answer, of_key)), ..mine.clone() };
                self.store.replace(key, &mine, settled, ttl, clock::now()).await.map(drop)
            }
            // If it is sent again, its task tells what became of it.
            Err(error) if is_open(error) => Ok(()),
            Err(_) => self.store.drop_key(key, &mine, clock::now()).await,
        };
        if let Err(error) = stored {
            // If it is sent again, its task tells, too.
            tracing::warn!(%error, "the answer to a change with a key could not be stored");
        }
        answer
    }

    /// The answer to a change that a process made and did not live to answer.
    async fn made(&self, key: &str, began: OffsetDateTime) -> Result<Option<Response>, StoreError> {
        let of_key = |task: &miroir_store::TaskRecord| {
            let own = task.error.as_ref().is_some_and(|error| error.code.starts_with("miroir_"));
            task.idempotency.as_deref() == Some(key) && !own
        };
        let after_enqueued = Some(began - SKEW);
        let mut query = TaskQuery { after_enqueued, limit: PAGE, ..TaskQuery::default() };
        // The newest first.
        loop {
            let page = self.tasks.list(query.clone()).await?;
            if let Some(task) = page.tasks.into_iter().find(of_key) {
                let answer = accepted(&task, Vec::new(), None);
                let (status, body, meta) = (answer.status, answer.body, answer.meta);
                return Ok(Some(Response { status, body, meta }));
            }
            match page.next {
                Some(next) => query.from = Some(next),
                None => return Ok(None),
            }
        }
    }

    /// What the store gets of an answer.
    fn kept(&self, answer: &Response, of_key: bool) -> KeptAnswer {
        let mut body = String::from_utf8_lossy(&answer.body).into_owned();
        if of_key {
            body = secret::taken_out(&body, self.keyring.master());
        }
        KeptAnswer { status: answer.status.as_u16(), body }
    }

    fn shown(&self, kept: KeptAnswer, of_key: bool) -> Result<Response, Error> {
        let status = http::StatusCode::from_u16(kept.status).map_err(Error::internal)?;
        let mut body = kept.body;
        if of_key {
            body = secret::put_back(&body, self.keyring.master());
        }
        Ok(Response { status, body: Bytes::from(body), meta: Meta::default() })
    }
}

/// Whether the answer shows an API key.
fn is_of_key(request: &Request) -> bool {
    matches!(request.op, Operation::Key(_))
}
