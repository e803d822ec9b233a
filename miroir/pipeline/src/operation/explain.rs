//! `POST /indexes/{uid}/explain` and `POST /multi-search/explain`: the search goes through the
//! pipeline as any other, and what it decided is the answer.
//!
//! The admin key alone opens no documents: what a search that is executed for its holder finds is
//! left out. Whoever sends a client's key with it is shown what that key finds.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::handle::Handle;
use super::token_filters::rewritten;
use super::{MultiSearch, Operation, Request, Response, multi};
use crate::cluster::ExplainOptions;
use crate::context::{Context, Operator, Principal};
use crate::error::{Error, ErrorKind};
use crate::explain::{Explain, Facts, Record, SettingsPending, Viewer, render};
use crate::meta::Meta;
use crate::query::ClientRequest;

/// Whether the search is to be executed.
fn executes(request: &Request, tuning: &ExplainOptions) -> Result<bool, Error> {
    let mut execute = false;
    for (key, value) in
        crate::query::query_pairs(request.original.query.as_deref().unwrap_or_default())
    {
        execute = match (key.as_str(), value.as_str()) {
            ("execute", "true" | "") => true,
            ("execute", "false") => false,
            ("execute", _) => {
                return Err(Error::api("bad_request", "`execute` must be `true` or `false`."));
            }
            _ => {
                let text = format!("Unknown parameter `{key}`: expected one of `execute`");
                return Err(Error::api("bad_request", text));
            }
        };
    }
    if execute && !tuning.allow_execute_parameter {
        return Err(Error::api(
            "miroir_not_supported",
            "Explained searches are not executed (`explain.allow_execute_parameter`).",
        ));
    }
    Ok(execute)
}

/// What an operator without a client's key is told in place of a result.
const WITHHELD: &str = "`result` is left out: the admin key opens no documents; send a client's key \
                        with it (`Authorization: Bearer`) to see what that key finds";

impl Viewer {
    fn of(cx: &Context) -> Self {
        let operates = cx.http().get::<Operator>().is_some();
        if operates {
            return Self::Operator;
        }
        match cx.principal {
            Principal::Admin => Self::Operator,
            Principal::Tenant(_) => Self::Tenant,
            _ => Self::Client,
        }
    }
}

/// Answers a request to explain `op`, a search or a multi-search.
pub(super) async fn run(
    resolve: &Handle,
    request: &Request,
    op: &Operation,
) -> Result<Response, Error> {
    let tuning = resolve.state().options.explain;
    if !tuning.enabled {
        return Err(Error::api(
            "miroir_not_supported",
            "Searches are not explained (`explain.enabled`).",
        ));
    }
    let execute = executes(request, &tuning)?;
    metrics::counter!("miroir_explain_requests_total").increment(1);
    if execute {
        metrics::counter!("miroir_explain_execute_total").increment(1);
    }
    let show = Show {
        viewer: Viewer::of(&request.cx),
        execute,
        withholds: request.cx.principal == Principal::Admin,
        max_warnings: tuning.max_warnings,
    };
    let explain = Explain::new(execute);
    if let Some(Facts(facts)) = request.cx.get() {
        explain.note(|record| record.facts.extend(facts.clone()));
    }
    let mut inner = Request { op: op.clone(), ..request.clone() };
    if let Operation::MultiSearch(several) = &mut inner.op {
        Arc::make_mut(several).spread();
    }
    inner.cx.explain = Some(Arc::clone(&explain));
    inner.original = original(request, op);
    let begun = Instant::now();
    match inner.op.clone() {
        Operation::MultiSearch(several) if !execute => {
            show.planned(resolve, &inner, &several).await
        }
        Operation::MultiSearch(several) => {
            let answer = resolve.clone().joined(inner).await;
            show.several(&several, &explain, answer, begun)
        }
        _ => {
            let answer = resolve.clone().joined(inner).await;
            show.one(&explain.record(), answer, begun)
        }
    }
}

/// The request as it would have come without the wish to have it explained.
fn original(request: &Request, op: &Operation) -> Arc<ClientRequest> {
    let plain = match op {
        Operation::Search { search, .. } => {
            let with_rules = search.body.as_ref().map(|body| rewritten(&request.original, body));
            with_rules.unwrap_or_else(|| Arc::clone(&request.original))
        }
        _ => Arc::clone(&request.original),
    };
    let path = if matches!(op, Operation::MultiSearch(_)) { "/multi-search" } else { "/search" };
    Arc::new(ClientRequest { path: path.to_owned(), query: None, ..ClientRequest::clone(&plain) })
}

/// What is shown of what was noted.
#[derive(Clone, Copy)]
struct Show {
    viewer: Viewer,
    execute: bool,
    /// Whether documents are none of the viewer's business.
    withholds: bool,
    max_warnings: usize,
}

impl Show {
    fn explanation(self, record: &Record) -> Value {
        let out = render(record, self.viewer, self.execute, self.max_warnings);
        for warning in &record.warnings {
            let kind = warning.kind.as_str();
            metrics::counter!("miroir_explain_warnings_total", "warning_type" => kind).increment(1);
        }
        out
    }

    /// Without nodes: every query goes its way up to them.
    async fn planned(
        self,
        resolve: &Handle,
        request: &Request,
        several: &MultiSearch,
    ) -> Result<Response, Error> {
        let mut results = Vec::new();
        let mut meta = Meta::default();
        for (query, (record, answer)) in
            several.queries().zip(multi::planned(resolve, request, several).await?)
        {
            let failed = not_asked(answer)?;
            let mut out = self.explanation(&record);
            out["indexUid"] = query.name().into();
            if let Some(error) = failed {
                out["error"] = error;
            }
            meta = meta.mark(pending(&record), SettingsPending);
            results.push(out);
        }
        let body = json!({"results": results}).to_string();
        Ok(Response { status: StatusCode::OK, body: Bytes::from(body), meta })
    }

    fn several(
        self,
        several: &MultiSearch,
        explain: &Explain,
        answer: Result<Response, Error>,
        begun: Instant,
    ) -> Result<Response, Error> {
        let records: Vec<Record> = explain.parts().iter().map(|part| part.record()).collect();
        if records.iter().all(|record| record.plan.is_none()) {
            answer.as_ref().map_err(Clone::clone)?;
        }
        let mut results = Vec::new();
        for (query, record) in several.queries().zip(&records) {
            let mut out = self.explanation(record);
            out["indexUid"] = query.name().into();
            results.push(out);
        }
        let in_flight = records.iter().any(pending);
        Ok(self.with_result(json!({"results": results}), answer, begun, in_flight))
    }

    fn one(
        self,
        record: &Record,
        answer: Result<Response, Error>,
        begun: Instant,
    ) -> Result<Response, Error> {
        if self.execute {
            if record.plan.is_none() {
                answer.as_ref().map_err(Clone::clone)?;
            }
            return Ok(self.with_result(self.explanation(record), answer, begun, pending(record)));
        }
        if let Err(error) = answer
            && !matches!(error.kind(), ErrorKind::Explained)
        {
            return Err(error);
        }
        let body = Bytes::from(self.explanation(record).to_string());
        let meta = Meta::default().mark(pending(record), SettingsPending);
        Ok(Response { status: StatusCode::OK, body, meta })
    }

    /// An explanation with `result`, the answer byte for byte, or with `error`.
    fn with_result(
        self,
        mut explanation: Value,
        answer: Result<Response, Error>,
        begun: Instant,
        settings_pending: bool,
    ) -> Response {
        explanation["took_ms"] = json!(begun.elapsed().as_secs_f64() * 1e3);
        let nothing = Bytes::from_static(b"null");
        let (result, meta) = match answer {
            Ok(answer) if self.withholds => {
                explanation["withheld"] = WITHHELD.into();
                (nothing, answer.meta)
            }
            Ok(answer) => (answer.body, answer.meta),
            Err(error) => {
                explanation["error"] = error_json(&error).unwrap_or_default();
                (nothing, Meta::default())
            }
        };
        let meta = meta.mark(settings_pending, SettingsPending);
        let mut body = explanation.to_string().into_bytes();
        body.pop();
        body.extend_from_slice(b",\"result\":");
        body.extend_from_slice(&result);
        body.push(b'}');
        Response { status: StatusCode::OK, body: Bytes::from(body), meta }
    }
}

fn pending(record: &Record) -> bool {
    record.plan.as_ref().is_some_and(|plan| plan.broadcast_pending)
}

/// What went wrong before nodes would have been asked, as JSON.
fn not_asked(answer: Result<Response, Error>) -> Result<Option<Value>, Error> {
    match answer {
        Ok(_) => Ok(None),
        Err(error) if matches!(error.kind(), ErrorKind::Explained) => Ok(None),
        Err(error) => error_json(&error).map(Some),
    }
}

fn error_json(error: &Error) -> Result<Value, Error> {
    let (_, body) = error.render();
    serde_json::from_slice(&body.unwrap_or_default()).map_err(|_| error.clone())
}
