//! The layer, its service, and the task that calls a shadow.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, Release};
use std::time::Duration;

use bytes::Bytes;
use miroir_api::admin::{ShadowDiff, ShadowHits, ShadowKind, ShadowRequest, ShadowSide};
use miroir_pipeline::context::{Class, Origin};
use miroir_pipeline::deadline::Deadline;
use miroir_pipeline::operation::{Request, Response};
use miroir_pipeline::stack::LayerName;
use miroir_pipeline::stage::{Middleware, Ready, Reply};
use miroir_pipeline::{Error, Fault, Placed, StageService};
use miroir_store::clock;
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};
use tower::ServiceExt;

use super::diff::{Difference, Shape, difference};
use super::log::ShadowLog;
use super::sample::Sampler;
use super::{PrimaryKeys, Shadow, ShadowOptions};
use crate::operation::{IdempotencyLayer, RateLimitLayer};

/// Ids that are remembered of each difference, and their length.
const IDS: usize = 10;
const ID_BYTES: usize = 64;
/// How much of a request's path and body is remembered.
const REQUEST_BYTES: usize = 1024;
/// From this size on answers are compared off the threads that serve clients.
const LARGE: usize = 64 * 1024;

#[derive(Debug)]
struct Target {
    shadow: Shadow,
    sampler: Sampler,
    seats: Arc<Semaphore>,
}

struct Shared {
    targets: Vec<Target>,
    keys: PrimaryKeys,
    options: ShadowOptions,
    log: Arc<ShadowLog>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("targets", &self.targets)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// See the [module's documentation](super).
#[derive(Clone, Debug)]
#[must_use]
pub struct ShadowLayer {
    shared: Arc<Shared>,
}

impl ShadowLayer {
    /// Repeats requests at these shadows. What they are found to do differently is in the log.
    pub fn new(
        shadows: Vec<Shadow>,
        keys: PrimaryKeys,
        options: ShadowOptions,
    ) -> (Self, Arc<ShadowLog>) {
        let names = shadows.iter().map(|shadow| shadow.name.as_ref().to_owned());
        let log = Arc::new(ShadowLog::new(options.diff_buffer_size, names));
        let targets = shadows.into_iter().enumerate().map(|(at, shadow)| Target {
            sampler: Sampler::new(shadow.sample_rate, options.seed.wrapping_add(at as u64)),
            seats: Arc::new(Semaphore::new(options.max_in_flight)),
            shadow,
        });
        let shared = Shared { targets: targets.collect(), keys, options, log: Arc::clone(&log) };
        (Self { shared: Arc::new(shared) }, log)
    }
}

impl Placed for ShadowLayer {
    const NAME: &'static str = "shadow";
    const INSIDE_OF: &'static [LayerName] =
        &[LayerName::of::<RateLimitLayer>(), LayerName::of::<IdempotencyLayer>()];
}

miroir_pipeline::layer!(ShadowLayer);

impl Middleware<Request> for ShadowLayer {
    fn call<S: StageService<Request>>(
        &self,
        request: Request,
        next: Ready<'_, S>,
    ) -> Reply<Request, S> {
        let chosen = self.shared.choose(&request);
        if chosen.is_empty() {
            return next.pass(request);
        }
        let copy = request.clone();
        let shared = Arc::clone(&self.shared);
        let call = next.call(request);
        Reply::boxed(async move {
            let started = Instant::now();
            let result = call.await;
            let primary = Side::told(&result, started.elapsed());
            for at in chosen {
                shared.repeat(at, copy.clone(), primary.clone());
            }
            result
        })
    }
}

/// What one side did.
#[derive(Clone, Debug)]
struct Side {
    /// Status and body, or why there was no answer.
    answer: Result<(u16, Bytes), &'static str>,
    took: Duration,
}

impl Side {
    /// What a client is told.
    fn told(result: &Result<Response, Error>, took: Duration) -> Self {
        let (status, body) = match result {
            Ok(response) => (response.status, response.body.clone()),
            Err(error) => {
                let (status, body) = error.render();
                (status, body.unwrap_or_default())
            }
        };
        Self { answer: Ok((status.as_u16(), body)), took }
    }

    /// What a shadow answered, if it did.
    fn got(result: &Result<Response, Error>, took: Duration) -> Self {
        match result {
            Err(error) if matches!(error.fault(), Fault::Node(_)) => {
                Self { answer: Err(error.label()), took }
            }
            _ => Self::told(result, took),
        }
    }

    fn failed(&self) -> bool {
        !matches!(self.answer, Ok((..400, _)))
    }

    fn len(&self) -> usize {
        self.answer.as_ref().map_or(0, |(_, body)| body.len())
    }

    /// For people: the code of an error that was answered, or why there was no answer.
    fn view(&self) -> ShadowSide {
        let (status, error) = match &self.answer {
            Ok((status, body)) => (Some(*status), (*status >= 400).then(|| code(body)).flatten()),
            Err(why) => (None, Some((*why).to_owned())),
        };
        ShadowSide { status, error, took_ms: millis(self.took) }
    }
}

/// The code of an error in Meilisearch's shape.
fn code(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    body["code"].as_str().map(|code| cut(code, ID_BYTES).to_owned())
}

fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1_000_000.0).round() / 1000.0
}

/// The beginning of a text, up to a whole character.
fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

impl Shared {
    /// The targets that get a request.
    fn choose(&self, request: &Request) -> Vec<usize> {
        if request.cx.origin != Origin::Client || request.changes() {
            return Vec::new();
        }
        // Search rules are in what was read, and in nothing else.
        if !request.op.was_read() {
            return Vec::new();
        }
        let name = request.op.name();
        let gets = |target: &Target| {
            target.shadow.operations.iter().any(|own| own == name) && target.sampler.choose()
        };
        let chosen = self.targets.iter().enumerate().filter(|(_, target)| gets(target));
        chosen.map(|(at, _)| at).collect()
    }

    /// Gives the request to a shadow, if it has a seat left. Does not wait.
    fn repeat(self: &Arc<Self>, at: usize, request: Request, primary: Side) {
        let (target, counts) = (&self.targets[at], self.log.counts(at));
        let name = &target.shadow.name;
        counts.sampled.fetch_add(1, Relaxed);
        let dropped = |reason| {
            counts.dropped.fetch_add(1, Relaxed);
            metrics::counter!(
                "miroir_shadow_dropped_total", "target" => name.to_string(), "reason" => reason
            )
            .increment(1);
        };
        if primary.len().max(request.original.body.len()) > self.options.max_body {
            return dropped("too_large");
        }
        let Ok(seat) = Arc::clone(&target.seats).try_acquire_owned() else {
            return dropped("in_flight");
        };
        counts.in_flight.fetch_add(1, Relaxed);
        let seat = Seat { shared: Arc::clone(self), at, _permit: seat };
        tokio::spawn(seat.run(request, primary));
    }

    /// What is remembered of two answers; `None` where they do not differ.
    fn judge(&self, at: usize, request: &Request, sides: &[Side; 2]) -> Option<ShadowDiff> {
        let [primary, shadow] = sides;
        let (mut views, mut kinds) = ([primary.view(), shadow.view()], Vec::new());
        let mut found = Difference::default();
        match (&primary.answer, &shadow.answer) {
            (Ok((..400, first)), Ok((..400, second))) => {
                let shape = Shape::of(&request.op);
                match difference(shape, request.op.index(), &*self.keys, first, second) {
                    Some(difference) => found = difference,
                    None => {
                        views[1].error = Some("unreadable".to_owned());
                        kinds.push(ShadowKind::Error);
                    }
                }
            }
            _ if views[0].status != views[1].status || views[0].error != views[1].error => {
                kinds.push(ShadowKind::Error);
            }
            _ => {}
        }
        for tau in &found.taus {
            metrics::histogram!("miroir_shadow_kendall_tau").record(*tau);
        }
        let tau = found.tau();
        if found.in_hits() {
            kinds.push(ShadowKind::Hits);
        }
        if tau.is_some_and(|tau| tau < 1.0) {
            kinds.push(ShadowKind::Ranking);
        }
        if shadow.answer.is_ok() {
            let delta = shadow.took.as_secs_f64() - primary.took.as_secs_f64();
            metrics::histogram!("miroir_shadow_latency_delta_seconds").record(delta);
            if shadow.took > primary.took + self.options.latency_tolerance {
                kinds.push(ShadowKind::Latency);
            }
        }
        kinds.sort();
        if kinds.is_empty() {
            return None;
        }
        let [primary, shadow] = views;
        Some(ShadowDiff {
            id: 0,
            at: clock::rfc3339(clock::now()),
            target: self.targets[at].shadow.name.as_ref().to_owned(),
            operation: request.op.name().to_owned(),
            index: request.op.index().map(str::to_owned),
            request: sent(request),
            kinds,
            hits: found.in_hits().then(|| hits(&found)),
            kendall_tau: tau,
            primary,
            shadow,
        })
    }

    fn record(&self, at: usize, request: &Request, sides: &[Side; 2]) {
        for (side, name) in sides.iter().zip(["primary", "shadow"]) {
            if side.failed() {
                let target = self.targets[at].shadow.name.to_string();
                metrics::counter!("miroir_shadow_errors_total", "target" => target, "side" => name)
                    .increment(1);
            }
        }
        if let Some(diff) = self.judge(at, request, sides) {
            for kind in &diff.kinds {
                metrics::counter!("miroir_shadow_diff_total", "kind" => kind.as_str()).increment(1);
            }
            self.log.add(at, diff);
        }
        self.log.counts(at).compared.fetch_add(1, Release);
    }
}

/// The beginning of what was sent.
fn sent(request: &Request) -> ShadowRequest {
    let Some(call) = request.repeat() else {
        let method = request.original.method.to_string();
        return ShadowRequest {
            method,
            path: String::new(),
            body: String::new(),
            truncated: false,
        };
    };
    let body = String::from_utf8_lossy(&call.body);
    ShadowRequest {
        method: call.method.to_string(),
        path: cut(&call.path, REQUEST_BYTES).to_owned(),
        body: cut(&body, REQUEST_BYTES).to_owned(),
        truncated: body.len().max(call.path.len()) > REQUEST_BYTES,
    }
}

/// The first few ids and the number of all.
fn hits(found: &Difference) -> ShadowHits {
    let few =
        |ids: &[String]| ids.iter().take(IDS).map(|id| cut(id, ID_BYTES).to_owned()).collect();
    ShadowHits {
        missing_count: found.missing.len(),
        extra_count: found.extra.len(),
        changed_count: found.changed.len(),
        missing: few(&found.missing),
        extra: few(&found.extra),
        changed: few(&found.changed),
    }
}

/// A place among the requests under way at one shadow; given back however the task ends.
struct Seat {
    shared: Arc<Shared>,
    at: usize,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.shared.log.counts(self.at).in_flight.fetch_sub(1, Relaxed);
    }
}

impl Seat {
    async fn run(self, mut request: Request, primary: Side) {
        let ShadowOptions { max_shadow_latency, max_body, .. } = self.shared.options;
        request.cx.origin = Origin::Shadow;
        request.cx.class = Class::Background;
        request.cx.deadline = Deadline::after(max_shadow_latency);
        let service = self.shared.targets[self.at].shadow.service.clone();
        let started = Instant::now();
        let answer = timeout(max_shadow_latency, service.oneshot(request.clone())).await;
        let took = started.elapsed();
        let mut shadow = match answer {
            Ok(result) => Side::got(&result, took),
            Err(_) => Side { answer: Err("timeout"), took },
        };
        if shadow.len() > max_body {
            shadow.answer = Err("too_large");
        }
        if primary.len().max(shadow.len()) < LARGE {
            self.shared.record(self.at, &request, &[primary, shadow]);
            return;
        }
        // The seat goes along: it is taken until the answers are no longer in memory.
        let compare = move || self.shared.record(self.at, &request, &[primary, shadow]);
        let _ = tokio::task::spawn_blocking(compare).await;
    }
}
