//! Every route × every caller × every form of a request, compared with one node: whether it is
//! answered, and if not, with which error.
//!
//! Rows are made from the product's route table (`samples`), so that a new route is in it or the test
//! does not run. Callers are a key for every action and set of indexes and tokens with every kind of
//! search rules (`callers`). Each request is sent to Miroir with all of its layers; the class of the
//! status and the code of the error must be those of a plain Meilisearch, and an answer must show
//! documents of the same indexes, within the same rules; but for the differences that
//! `differences` names, each with its reason. One that is met no more fails the test, too.
//!
//! With `MIROIR_TEST_MEILISEARCH` the plain node is a process of that binary, and so are Miroir's nodes.
//! Without it the verdicts are those of `verdicts.txt`, recorded from a real 1.50 with `cargo xtask
//! matrix --record`, Miroir's nodes are the in-process engine, and callers whom a route's actions do not
//! concern are asked about every fourth only (all with `MIROIR_MATRIX_ALL`).

mod callers;
mod differences;
mod samples;
mod verdicts;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use miroir::Miroir;
use miroir::http::EdgeService;
use miroir::layers::edge::catch_panic::AnswerBody;
use serde_json::{Value, json};
use tower::ServiceExt;

use self::callers::{Caller, NewKey};
use self::samples::{FORMS, Form, JSON, OTHER, SEEN, Sample};
use self::verdicts::{Row, Verdict, Verdicts, WORDS};
use crate::support::KEY;
use crate::support::real::{binary, nodes};

/// Requests under way at a time.
const IN_FLIGHT: usize = 16;
/// How long a task of the preparation may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// Who is asked: a plain node, or Miroir in this process.
#[expect(clippy::large_enum_variant, reason = "there are two")]
enum Side<S> {
    Node { base: String, client: Client<HttpConnector, Full<Bytes>> },
    Miroir(S),
}

impl<S: EdgeService<Full<Bytes>, Body = AnswerBody>> Side<S> {
    /// A plain node, to be compared with the other side.
    fn beside(_other: &Self, base: String) -> Self {
        Self::Node { base, client: Client::builder(TokioExecutor::new()).build_http() }
    }

    async fn send(
        &self,
        method: &Method,
        path: &str,
        caller: &Caller,
        content_type: Option<&str>,
        body: &str,
    ) -> (u16, Value) {
        let mut request = Request::builder().method(method);
        if let Some(authorization) = &caller.authorization {
            request = request.header("authorization", authorization);
        }
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        let body = Full::new(Bytes::copy_from_slice(body.as_bytes()));
        let (status, body) = match self {
            Self::Node { base, client } => {
                let request = request.uri(format!("{base}{path}")).body(body).unwrap();
                let answer = client.request(request).await.unwrap();
                (answer.status(), answer.into_body().collect().await.unwrap().to_bytes())
            }
            Self::Miroir(service) => {
                let answer = service.clone().oneshot(request.uri(path).body(body).unwrap()).await;
                let Ok(answer) = answer;
                let status = answer.status();
                let body = answer.into_body().collect().await;
                (status, body.map(http_body_util::Collected::to_bytes).unwrap_or_default())
            }
        };
        // Some answers are no JSON; what is wrong with a request always is.
        (status.as_u16(), serde_json::from_slice(&body).unwrap_or_default())
    }

    async fn master(&self, method: Method, path: &str, body: &Value) -> (u16, Value) {
        let authorization = Some(format!("Bearer {KEY}"));
        let master = Caller { name: "master".to_owned(), authorization };
        self.send(&method, path, &master, Some("application/json"), &body.to_string()).await
    }

    async fn succeed(&self, method: Method, path: &str, body: &Value) {
        let (status, answer) = self.master(method.clone(), path, body).await;
        assert_eq!(status, 202, "{method} {path}: {answer}");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let path = format!("/tasks/{}", answer["taskUid"]);
            let (_, task) = self.master(Method::GET, &path, &Value::Null).await;
            match task["status"].as_str() {
                Some("succeeded") => return,
                Some("enqueued" | "processing") => {
                    assert!(Instant::now() < deadline, "the task does not end: {task}");
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                _ => panic!("{task}"),
            }
        }
    }

    /// Makes two indexes with the same documents, and the keys. Answers those that are there, and how
    /// each request for one ended.
    async fn prepare(&self, keys: &[NewKey]) -> (Vec<NewKey>, Row) {
        for index in [SEEN, OTHER] {
            let body = json!({"uid": index, "primaryKey": "id"});
            self.succeed(Method::POST, "/indexes", &body).await;
            let settings = json!({"filterableAttributes": ["kind"]});
            self.succeed(Method::PATCH, &format!("/indexes/{index}/settings"), &settings).await;
            let kind =
                |id: usize| if index == OTHER { WORDS[2] } else { WORDS[usize::from(id > 1)] };
            let documents: Vec<Value> =
                (1..4).map(|id| json!({"id": id, "kind": kind(id)})).collect();
            let path = format!("/indexes/{index}/documents");
            self.succeed(Method::POST, &path, &json!(documents)).await;
        }
        let (status, answer) = self
            .master(Method::PATCH, "/experimental-features", &json!({"renderRoute": true}))
            .await;
        assert_eq!(status, 200, "{answer}");
        let (mut made, mut row) = (Vec::new(), Row::new());
        for key in keys {
            let (status, answer) = self.master(Method::POST, "/keys", &key.body).await;
            let verdict = Verdict::of(status, &answer);
            if status == 201 {
                made.push(key.clone());
            }
            row.insert(key.name.clone(), verdict);
        }
        (made, row)
    }

    /// Everybody's verdicts on one request. `node`: it is asked as a node knows it.
    async fn row(&self, sample: &Sample, form: Form, callers: &[&Caller]) -> Row {
        let body = form.body(sample).unwrap_or_default();
        let node = matches!(self, Self::Node { .. });
        let path = sample.at_node.as_ref().filter(|_| node).unwrap_or(&sample.path);
        let mut path = path.clone();
        if !form.query.is_empty() {
            path.push(if path.contains('?') { '&' } else { '?' });
            path.push_str(form.query);
        }
        let content_type = form.content_type.filter(|_| sample.body.is_some());
        let asked = callers.iter().map(|caller| {
            let (path, body) = (&path, &body);
            async move {
                let answer = self.send(&sample.method, path, caller, content_type, body).await;
                (caller.name.clone(), Verdict::of(answer.0, &answer.1))
            }
        });
        stream::iter(asked).buffered(IN_FLIGHT).collect().await
    }

    /// All verdicts; `thin`: not of everybody on everything.
    async fn verdicts(&self, thin: bool) -> Verdicts {
        let samples = samples::samples();
        let (made, keys) = self.prepare(&callers::keys(&samples)).await;
        let all = callers::callers(&made, KEY);
        let everybody: Vec<&Caller> = all.iter().collect();
        let mut out = Verdicts::from([("POST /keys · made · json".to_owned(), keys)]);
        for (turn, sample) in samples.iter().enumerate() {
            let name = |form: Form| format!("{} · {} · {}", sample.route, sample.what, form.name);
            let thinned = thin.then(|| callers::thinned(&all, sample, turn));
            let who = thinned.as_ref().unwrap_or(&everybody);
            out.insert(name(JSON), self.row(sample, JSON, who).await);
            let few = callers::few(&all, sample);
            for form in FORMS.iter().filter(|form| form.body(sample).is_some()) {
                out.insert(name(*form), self.row(sample, *form, &few).await);
            }
        }
        out
    }
}

/// Cells whose verdicts differ, by what differs.
#[derive(Default)]
struct Differing {
    met: BTreeMap<usize, usize>,
    unknown: BTreeMap<(String, String), Vec<String>>,
    cells: usize,
}

fn compare(node: &Verdicts, miroir: &Verdicts, real: bool) -> Differing {
    let mut out = Differing::default();
    let all = differences::differences();
    for (request, row) in miroir {
        let expected =
            node.get(request).unwrap_or_else(|| panic!("nothing is recorded of {request}"));
        for (caller, got) in row {
            out.cells += 1;
            let wanted = expected.get(caller);
            let wanted = wanted.unwrap_or_else(|| panic!("{request} by {caller}: record it anew"));
            if wanted.is(got) {
                continue;
            }
            let cell = differences::Cell { request, node: wanted, miroir: got };
            let known = all.iter().position(|it| it.nodes.are(real) && (it.is)(&cell));
            match known {
                Some(at) => *out.met.entry(at).or_default() += 1,
                None => {
                    let what = format!("{wanted}, and Miroir {got}");
                    out.unknown.entry((request.clone(), what)).or_default().push(caller.clone());
                }
            }
        }
    }
    out
}

/// Says what differs, with a few of those who see it.
fn report(differing: &Differing) -> String {
    let mut text = String::new();
    for ((request, what), callers) in &differing.unknown {
        let some = callers.iter().take(4).cloned().collect::<Vec<_>>().join(", ");
        writeln!(text, "{request}: a node says {what}, to {} callers: {some}", callers.len())
            .unwrap();
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_is_judged_as_one_node_judges_them() {
    let real = binary().is_some();
    let all = nodes(if real { 3 } else { 2 }).await;
    let mut builder = Miroir::builder().node_key(KEY).master_key(KEY).shards(4);
    for (at, node) in all.iter().take(2).enumerate() {
        builder = builder.node(&format!("node-{at}"), &node.url(), 0);
    }
    let miroir = builder.build().await.unwrap();
    miroir.spawn_workers();
    let begun = Instant::now();
    let side = Side::Miroir(miroir.client_api::<Full<Bytes>>());
    let recorded = verdicts::recorded();
    let expected = match all.get(2) {
        None => recorded,
        Some(plain) => {
            let live = Side::beside(&side, plain.url()).verdicts(false).await;
            if std::env::var_os("MIROIR_MATRIX_RECORD").is_some() {
                verdicts::record(&live);
            } else {
                let changed = live.iter().filter(|(name, row)| recorded.get(*name) != Some(row));
                let changed: Vec<&String> = changed.map(|(name, _)| name).collect();
                assert!(
                    changed.is_empty(),
                    "recorded otherwise (`cargo xtask matrix --record`): {changed:?}"
                );
            }
            live
        }
    };
    let thin = !real && std::env::var_os("MIROIR_MATRIX_ALL").is_none();
    let found = side.verdicts(thin).await;
    miroir.shutdown().await;
    let differing = compare(&expected, &found, real);
    println!(
        "authorization matrix: {} cells of {} requests, {} allowed differences, in {:.0?}",
        differing.cells,
        found.len(),
        differing.met.values().sum::<usize>(),
        begun.elapsed()
    );
    let unknown = report(&differing);
    assert!(unknown.is_empty(), "{unknown}");
    let all = differences::differences();
    let stale = all
        .iter()
        .enumerate()
        .filter(|(at, difference)| difference.nodes.are(real) && !differing.met.contains_key(at));
    let stale: Vec<&str> = stale.map(|(_, difference)| difference.why).collect();
    assert!(stale.is_empty(), "these differences are no more: {stale:#?}");
}
