//! What one node says of a multi-search.
//!
//! Errors of a multi-search depend on all of its queries: the first one that is wrong, positions,
//! ranking rules that do not fit together. A node is asked the whole question, about the indexes as
//! it knows them, and its answer is given in the client's names.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::Method;
use miroir_api::IndexUid;
use miroir_store::IndexEntry;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::MultiSearch;
use crate::error::{Error, ErrorKind};
use crate::index::scatter::FACETS;
use crate::node::Call;
use crate::node_errors as scrub;
use crate::node_errors::placeholder;
use crate::operation::Request;
use crate::operation::handle::Handle;
use crate::query::RawObject;

/// The indexes a request is about: what the client calls each, and what the node calls it.
#[derive(Debug, Default)]
struct Names(BTreeMap<String, (String, String)>);

impl Names {
    fn node(&mut self, resolve: &Handle, index: &str, client: &str) -> String {
        if let Some((_, known)) = self.0.get(index) {
            return known.clone();
        }
        let entry = IndexUid::new(index).ok().and_then(|uid| resolve.state().catalog.get(&uid));
        let name = match entry {
            Some(entry) => entry.physical.clone(),
            // What the client's name stands for on the node may belong to another of its names.
            None if resolve.state().catalog.all().iter().any(|other| other.physical == index) => {
                let nowhere = scrub::nowhere().trim_start_matches("/indexes/");
                format!("{nowhere}-{}", self.0.len())
            }
            None => index.to_owned(),
        };
        self.0.insert(index.to_owned(), (client.to_owned(), name.clone()));
        name
    }

    fn client(&self, text: &str) -> String {
        let mut out = text.to_owned();
        for (client, node) in self.0.values() {
            if client != node {
                out = out.replace(&format!("`{node}`"), &format!("`{client}`"));
                out = out.replace(&format!(".{node}`"), &format!(".{client}`"));
            }
        }
        out
    }
}

fn body(
    resolve: &Handle,
    names: &mut Names,
    multi: &MultiSearch,
    federation: Option<&RawObject>,
) -> Bytes {
    let mut list = Vec::with_capacity(multi.asked);
    for query in multi.queries() {
        let mut body = query.body.clone();
        body.set("indexUid", &names.node(resolve, &query.index, query.name()));
        if let Some(options) = &query.options {
            body.set_raw("federationOptions", options.clone());
        }
        list.push(body);
    }
    let mut out = RawObject::default();
    out.set("queries", &list);
    if let Some(federation) = federation {
        let mut federation = federation.clone();
        if let Ok(Some(facets)) =
            federation.read::<indexmap::IndexMap<String, Box<RawValue>>>("facetsByIndex")
        {
            let renamed: indexmap::IndexMap<String, Box<RawValue>> = facets
                .into_iter()
                .map(|(index, list)| (names.node(resolve, &index, &index), list))
                .collect();
            federation.set("facetsByIndex", &renamed);
        }
        out.set("federation", &federation);
    }
    out.to_bytes()
}

/// Stands for the index of the query that an error is about: what it displays decides what is listed.
fn about(resolve: &Handle, multi: &MultiSearch, error: &[u8]) -> IndexEntry {
    let text = String::from_utf8_lossy(error);
    let position = text.split_once(".queries[").and_then(|(_, rest)| rest.split(']').next());
    let position = position.and_then(|text| text.parse::<usize>().ok());
    let query = position.and_then(|at| multi.queries().nth(at));
    let uid = query.and_then(|query| IndexUid::new(&query.index).ok());
    let entry = uid.and_then(|uid| resolve.state().catalog.get(&uid));
    let overlay = entry.map(|entry| entry.overlay.clone()).unwrap_or_default();
    IndexEntry { overlay, ..placeholder() }
}

async fn ask(
    resolve: &Handle,
    request: &Request,
    multi: &MultiSearch,
    federation: Option<&RawObject>,
) -> Option<Error> {
    let mut names = Names::default();
    let body = body(resolve, &mut names, multi, federation);
    let mut call = Call::read(Method::POST, "replay", "/multi-search").json(body);
    scrub::hide(&mut call);
    match resolve.state().nodes.call_any(&call, &request.cx).await {
        Ok(_) => None,
        Err(error) => {
            let ErrorKind::Verbatim { status, body } = error.kind() else { return Some(error) };
            let body = scrub::body(body, &about(resolve, multi, body));
            let Ok(mut value) = serde_json::from_slice::<Value>(&body) else {
                return Some(Error::verbatim(*status, body));
            };
            if let Some(text) = value["message"].as_str() {
                value["message"] = multi.located(&names.client(text)).into();
            }
            Some(Error::verbatim(*status, Bytes::from(value.to_string())))
        }
    }
}

/// What a node says of a request that Miroir cannot read.
pub(super) async fn unreadable(resolve: &Handle, request: &Request) -> Error {
    resolve.refusal(request, "").await
}

/// What a node says of a request, if it refuses it.
pub(super) async fn refusal(
    resolve: &Handle,
    request: &Request,
    multi: &MultiSearch,
) -> Option<Error> {
    ask(resolve, request, multi, multi.federation.as_ref()).await
}

/// What a node says of a request in place of the error of one of its queries, if it refuses the request
/// too.
pub(super) async fn instead(
    resolve: &Handle,
    request: &Request,
    multi: &MultiSearch,
    error: &Error,
) -> Option<Error> {
    if !error.is_about_the_request() {
        return None;
    }
    let said = refusal(resolve, request, multi).await?;
    // It took the facets that Miroir refused, and has come to others.
    let later = matches!(error.kind(), ErrorKind::Api(_))
        && [error, &said].iter().all(|e| e.has_code(FACETS));
    (!later).then_some(said)
}

/// What a node says of how the queries of a federation fit together. It looks for no hits.
pub(super) async fn judgement(
    resolve: &Handle,
    request: &Request,
    multi: &MultiSearch,
    federation: &RawObject,
) -> Option<Error> {
    let mut federation = federation.clone();
    for key in ["offset", "page", "hitsPerPage", "showPerformanceDetails"] {
        federation.remove(key);
    }
    federation.set("limit", &json!(0));
    ask(resolve, request, multi, Some(&federation)).await
}
