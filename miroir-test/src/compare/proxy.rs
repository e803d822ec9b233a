//! The proxy: asks both servers, answers with one, and keeps a [`Report`].
//!
//! Requests that change something are sent one at a time, so that both servers get them in one order. A
//! task that has not ended on one side is asked for again until it has on both. Another answer that
//! differs while a server has unfinished tasks is asked for again once there are none: only what differs
//! then is a difference. No encoding is asked for, so the answers' compression is not compared.
//!
//! `GET /_compare/text` and `GET /_compare/json` show the report.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST,
    HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, Response, StatusCode};
use http_body_util::{BodyExt, Either, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use miroir_core::lock::Lock;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::RwLock;
use tokio::time::{Instant, sleep, timeout};

use super::differ::{self, Difference};
use super::keys::{MainKeys, Mapped, mapped};
use super::normal::normal;
use super::pairs::{Kind, Pairs};
use super::report::Report;
use super::route::{Treatment, renamed, template, treatment};
use super::side::{Answer, Request, Side};

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_mins(2);
/// How long tasks may take to end on both sides.
const TASKS: Duration = Duration::from_mins(2);
/// Between two looks at tasks.
const PAUSE: Duration = Duration::from_millis(40);
/// What concerns one connection only, or is written anew.
const OWN: [HeaderName; 8] =
    [ACCEPT_ENCODING, CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TE, TRANSFER_ENCODING, UPGRADE];

/// What is compared, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// Base address of the reference, such as `http://127.0.0.1:7700`.
    pub reference: String,
    /// Base address of the candidate.
    pub candidate: String,
    /// Their main keys, and what the client uses.
    pub keys: MainKeys,
    /// Whose answers the client gets.
    pub facing: Side,
    /// Whether the order of fields counts.
    pub key_order: bool,
    /// Most examples in the report.
    pub examples: usize,
}

type Body = Either<Full<Bytes>, Incoming>;

/// A proxy that compares.
pub struct Proxy {
    options: Options,
    client: Client<HttpConnector, Full<Bytes>>,
    /// Held by a request that changes something, shared by the others.
    gate: RwLock<()>,
    state: Lock<State>,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("options", &self.options).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct State {
    pairs: Pairs,
    report: Report,
}

/// Two answers, and where they differ.
struct Compared {
    reference: Answer,
    candidate: Answer,
    differences: Vec<Difference>,
}

impl Proxy {
    /// A proxy that knows which of the keys that both servers already have belong together.
    ///
    /// # Errors
    /// A server that does not answer.
    pub async fn new(options: Options) -> Result<Arc<Self>, String> {
        let state = State { pairs: Pairs::default(), report: Report::new(options.examples) };
        let client = Client::builder(TokioExecutor::new()).build_http();
        let (gate, state) = (RwLock::new(()), Lock::new(state));
        let proxy = Self { options, client, gate, state };
        let [left, right] = [
            proxy.own(Side::Reference, "/keys?limit=1000").await?,
            proxy.own(Side::Candidate, "/keys?limit=1000").await?,
        ];
        proxy.state.lock().pairs.learn_keys(&left, &right);
        Ok(Arc::new(proxy))
    }

    /// Serves clients until the future is dropped.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    tokio::spawn(Arc::clone(&self).connection(stream));
                }
                // Usually too many open files: connections that end will make room.
                Err(_) => sleep(PAUSE).await,
            }
        }
    }

    /// What was found so far, for people.
    pub fn report(&self) -> String {
        self.state.lock().report.text()
    }

    async fn connection(self: Arc<Self>, stream: TcpStream) {
        let _ = stream.set_nodelay(true);
        let service = service_fn(|request| {
            let proxy = Arc::clone(&self);
            async move { Ok::<_, Infallible>(proxy.respond(request).await) }
        });
        // A connection that breaks concerns nobody but its client.
        let _ = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .await;
    }

    async fn respond(&self, request: http::Request<Incoming>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let target = head.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
        match target.as_str() {
            "/_compare/text" => return plain("text/plain", self.report()),
            "/_compare/json" => {
                let told = self.state.lock().report.json();
                return plain("application/json", told.to_string());
            }
            _ => {}
        }
        let Ok(body) = body.collect().await else {
            return broken(StatusCode::BAD_REQUEST, "the request was cut off");
        };
        let body = body.to_bytes();
        let request = Request { method: head.method, target, headers: head.headers, body };
        let template = template(&request.target);
        let compared = match treatment(&request.method, &template) {
            Treatment::Stream => return self.stream(&request).await,
            Treatment::Write => {
                let _alone = self.gate.write().await;
                self.compare(&request, &template).await
            }
            Treatment::Read => {
                let _others = self.gate.read().await;
                self.read(&request, &template).await
            }
            Treatment::Task => {
                let _others = self.gate.read().await;
                self.task(&request, &template).await
            }
        };
        let Compared { reference, candidate, differences } = compared;
        {
            let report = &mut self.state.lock().report;
            report.add(&request, &template, [&reference, &candidate], &differences);
            if candidate.headers.contains_key("x-miroir-degraded") {
                report.note("answers of the candidate that say that something is missing");
            }
        }
        match self.options.facing {
            Side::Reference => answered(reference),
            Side::Candidate => answered(candidate),
        }
    }

    /// A read, again if it differs and tasks may be why.
    async fn read(&self, request: &Request, template: &str) -> Compared {
        let first = self.compare(request, template).await;
        if first.differences.is_empty() || !self.waited().await {
            return first;
        }
        self.state.lock().report.note("answers that were asked for again after tasks had ended");
        self.compare(request, template).await
    }

    /// A task, once it has ended on both sides.
    async fn task(&self, request: &Request, template: &str) -> Compared {
        let begun = Instant::now();
        loop {
            let compared = self.compare(request, template).await;
            let answers = [&compared.reference, &compared.candidate];
            let ended = answers.into_iter().all(|answer| {
                let status =
                    answer.json().unwrap_or_default()["status"].as_str().map(str::to_owned);
                !matches!(status.as_deref(), Some("enqueued" | "processing"))
            });
            if ended {
                return compared;
            }
            if begun.elapsed() > TASKS {
                self.state.lock().report.note("tasks that did not end in time");
                return compared;
            }
            sleep(PAUSE).await;
        }
    }

    /// Waits until neither server has unfinished tasks; whether one had.
    async fn waited(&self) -> bool {
        let path = "/tasks?statuses=enqueued,processing&limit=1";
        let begun = Instant::now();
        let mut waited = false;
        loop {
            let (left, right) =
                tokio::join!(self.own(Side::Reference, path), self.own(Side::Candidate, path));
            let idle = |told: &Result<Value, String>| {
                told.as_ref().map_or(true, |told| told["total"] == 0)
            };
            if idle(&left) && idle(&right) {
                return waited;
            }
            if begun.elapsed() > TASKS {
                self.state.lock().report.note("waits for tasks that did not end in time");
                return waited;
            }
            waited = true;
            sleep(PAUSE).await;
        }
    }

    async fn compare(&self, request: &Request, template: &str) -> Compared {
        let (reference, candidate) =
            tokio::join!(self.ask(request, Side::Reference), self.ask(request, Side::Candidate));
        let (left, right) = (reference.json(), candidate.json());
        let pairs = &mut self.state.lock().pairs;
        if let (Some(left), Some(right)) = (&left, &right)
            && learns(template, reference.status)
            && reference.status == candidate.status
        {
            pairs.learn_answers(left, right);
        }
        // What is in a batch depends on time; so does which of them there are.
        let uid = request.target.trim_start_matches("/batches/");
        let facing = self.options.facing;
        if template == "/batches/{uid}" && pairs.other(facing, Kind::Batch, uid).is_none() {
            return Compared { reference, candidate, differences: Vec::new() };
        }
        let [left, right] =
            [(Side::Reference, &reference, left), (Side::Candidate, &candidate, right)].map(
                |(side, answer, body)| {
                    body.map(|body| normal(template, answer.status, &body, side, pairs))
                },
            );
        let differences = differ::answers(
            (&reference, left.as_ref()),
            (&candidate, right.as_ref()),
            self.options.key_order,
        );
        Compared { reference, candidate, differences }
    }

    /// What a side answers to a request of the client.
    async fn ask(&self, request: &Request, to: Side) -> Answer {
        let sent = self.sent(request, to);
        let asked = async {
            let answer = self.client.request(sent?).await.map_err(|error| told(&error))?;
            let (head, body) = answer.into_parts();
            let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
            Ok::<_, String>(Answer { status: head.status.as_u16(), headers: head.headers, body })
        };
        let answer: Result<Answer, String> = timeout(PATIENCE, asked)
            .await
            .unwrap_or_else(|_| Err(format!("no answer for {} s", PATIENCE.as_secs())));
        answer.unwrap_or_else(|problem| Answer { body: problem.into(), ..Answer::default() })
    }

    /// The request as a side gets it.
    fn sent(&self, request: &Request, to: Side) -> Result<http::Request<Full<Bytes>>, String> {
        let facing = self.options.facing;
        let mut headers = request.headers.clone();
        for name in OWN {
            headers.remove(name);
        }
        let mut target = request.target.clone();
        let state = &mut *self.state.lock();
        if to != facing {
            target = renamed(&target, facing, &state.pairs);
        }
        let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        if let Some(key) = bearer.and_then(|value| value.strip_prefix("Bearer ")) {
            match mapped(key, facing, to, &self.options.keys, &state.pairs) {
                Mapped::Key(key) => {
                    let value = HeaderValue::from_str(&format!("Bearer {key}"));
                    headers.insert(AUTHORIZATION, value.map_err(|error| error.to_string())?);
                }
                Mapped::AsIs(why) => state.report.note(&format!("requests with {why}")),
            }
        }
        let url = format!("{}{target}", self.base(to));
        let mut out = http::Request::builder().method(request.method.clone()).uri(url);
        if let Some(given) = out.headers_mut() {
            *given = headers;
        }
        out.body(Full::new(request.body.clone())).map_err(|error| error.to_string())
    }

    fn base(&self, side: Side) -> &str {
        let base = match side {
            Side::Reference => &self.options.reference,
            Side::Candidate => &self.options.candidate,
        };
        base.trim_end_matches('/')
    }

    /// What a side answers to a request of the proxy's own.
    async fn own(&self, side: Side, path: &str) -> Result<Value, String> {
        let url = format!("{}{path}", self.base(side));
        let key = format!("Bearer {}", self.options.keys.of(side));
        let request = http::Request::get(&url).header(AUTHORIZATION, key);
        let request = request.body(Full::default()).map_err(|error| error.to_string())?;
        let asked = async {
            let answer = self.client.request(request).await.map_err(|error| told(&error))?;
            let status = answer.status();
            let body = answer.into_body().collect().await.map_err(|error| error.to_string())?;
            let body = body.to_bytes();
            if !status.is_success() {
                return Err(format!("{status}: {}", String::from_utf8_lossy(&body)));
            }
            serde_json::from_slice(&body).map_err(|error| error.to_string())
        };
        let answer = timeout(PATIENCE, asked).await;
        let answer = answer.unwrap_or_else(|_| Err("no answer".to_owned()));
        answer.map_err(|problem| format!("{url}: {problem}"))
    }

    /// An answer that has no end, of the side that the client sees.
    async fn stream(&self, request: &Request) -> Response<Body> {
        self.state.lock().report.note("streams that were not compared");
        let sent = match self.sent(request, self.options.facing) {
            Ok(sent) => sent,
            Err(problem) => return broken(StatusCode::BAD_GATEWAY, &problem),
        };
        match self.client.request(sent).await {
            Ok(answer) => answer.map(Either::Right),
            Err(error) => broken(StatusCode::BAD_GATEWAY, &told(&error)),
        }
    }
}

/// Whether answers to a route name what each side calls by a name of its own.
fn learns(template: &str, status: u16) -> bool {
    let lists = ["/tasks", "/keys", "/webhooks"];
    status == 202 || lists.iter().any(|list| template.starts_with(list))
}

/// An error with its cause.
fn told(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

fn answered(answer: Answer) -> Response<Body> {
    let Ok(status) = StatusCode::from_u16(answer.status) else {
        return broken(StatusCode::BAD_GATEWAY, &String::from_utf8_lossy(&answer.body));
    };
    let mut headers: HeaderMap = answer.headers;
    for name in OWN {
        headers.remove(name);
    }
    let mut out = Response::new(Either::Left(Full::new(answer.body)));
    *out.status_mut() = status;
    *out.headers_mut() = headers;
    out
}

fn plain(kind: &'static str, text: String) -> Response<Body> {
    let mut out = Response::new(Either::Left(Full::new(text.into())));
    out.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    out
}

fn broken(status: StatusCode, why: &str) -> Response<Body> {
    let mut out = plain("text/plain", format!("comparing proxy: {why}"));
    *out.status_mut() = status;
    out
}
