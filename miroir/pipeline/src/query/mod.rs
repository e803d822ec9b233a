//! Payloads that several stages share: what was asked, as a view over the client's own JSON.

mod raw;
mod url;

use std::fmt;

use bytes::Bytes;
use serde_json::Value;
use serde_json::value::RawValue;

pub use raw::RawObject;
pub use url::{decode, encode, index_path, query_pairs};

use crate::node::Call;

/// A member that no route of a node knows: a node that complains of it has nothing else to say.
pub const PROBE: &str = "unknownToEveryNode";

/// A request as it came, relative to its index. Debug output has nothing of it that may be a secret:
/// bodies hold keys of embedders and headers of webhooks, the path of an API key the key.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientRequest {
    /// HTTP method.
    pub method: http::Method,
    /// What follows `/indexes/{uid}`, or the whole path where there is no index.
    pub path: String,
    /// Query string, without `?`.
    pub query: Option<String>,
    /// The body as it came, decompressed; empty for none.
    pub body: Bytes,
    /// `Content-Type` with its parameters, as it came.
    pub content_type: Option<String>,
    /// Whether the client asked for the `metadata` object.
    pub metadata: bool,
}

impl fmt::Debug for ClientRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path.starts_with("/keys/") { "/keys/…" } else { &self.path };
        f.debug_struct("ClientRequest")
            .field("method", &self.method)
            .field("path", &path)
            .field("body", &format_args!("{} bytes", self.body.len()))
            .finish_non_exhaustive()
    }
}

impl ClientRequest {
    /// A request without a query, a body and headers. `path` is relative to the index, if there is one.
    pub fn new(method: http::Method, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            query: None,
            body: Bytes::new(),
            content_type: None,
            metadata: false,
        }
    }

    /// Whether a node reads the body as JSON: its media type is `json` or ends in `+json`, whatever
    /// comes before the slash, and its parameters, if any, are some.
    pub fn is_json(&self) -> bool {
        is_json(self.content_type.as_deref())
    }

    /// The same request with a body that no node carries out: what it has to say of the rest it says
    /// all the same. Members of objects are read as a node reads them, the last one wins. `None` where
    /// no such body can be made.
    pub fn inert(&self) -> Option<Self> {
        let Ok(mut body) = serde_json::from_slice::<Value>(&self.body) else {
            // A node cannot read it either.
            return Some(self.clone());
        };
        let mark = |value: &mut Value| {
            // Anything else is not what any route takes.
            if let Value::Object(object) = value {
                object.insert(PROBE.to_owned(), true.into());
            }
        };
        match &mut body {
            Value::Array(list) if list.is_empty() => return None,
            Value::Array(list) => list.iter_mut().for_each(mark),
            other => mark(other),
        }
        Some(Self { body: body.to_string().into(), ..self.clone() })
    }

    /// The same request with its JSON body written anew from what a node reads of it.
    #[must_use]
    pub fn made_anew(&self) -> Self {
        let read = serde_json::from_slice::<Value>(&self.body);
        let body = read.map_or_else(|_| self.body.clone(), |body| body.to_string().into());
        Self { body, ..self.clone() }
    }

    /// The request to a node that stands for this one, for the node's own words about it.
    pub fn to_node_call(&self, prefix: &str) -> Call {
        let mut path = format!("{prefix}{}", self.path);
        if let Some(query) = &self.query {
            path.push('?');
            path.push_str(query);
        }
        // Asked where it has no effect; and a pod that does not lead has nothing else to replay.
        let mut call = Call::read(self.method.clone(), "replay", path);
        call.body = self.body.clone();
        call.content_type = self.content_type.clone().map(Into::into);
        call
    }
}

/// Whether a node reads a body of this `Content-Type` as JSON.
pub fn is_json(content_type: Option<&str>) -> bool {
    content_type.is_some_and(|text| {
        let mut parts = text.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
        let json = kind.split_once('/').is_some_and(|(top, sub)| {
            !top.is_empty()
                && (sub == "json" || sub.rsplit_once('+').is_some_and(|s| s.1 == "json"))
        });
        json && parts.all(|part| part.is_empty() || part.contains('='))
    })
}

/// Which of the ranked reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SearchKind {
    /// Documents that match (`/search`).
    #[default]
    Hits,
    /// Values of one facet (`/facet-search`).
    FacetValues,
    /// Documents like one document (`/similar`).
    Similar,
    /// A query of a federated search: hits with everything the federation is merged by. What the
    /// client did not ask for is named in [`Part`](crate::index::scatter::Part).
    Part,
}

/// A ranked read.
#[derive(Clone, Debug, Default)]
pub struct Search {
    /// What is searched for.
    pub kind: SearchKind,
    /// The query in its `POST` form. `None`: the request could not be read; a node says why.
    pub body: Option<RawObject>,
    /// A filter that also decides which document one may ask similar ones of.
    pub rules: Option<Box<RawValue>>,
}

impl Search {
    /// Restricts the search to what matches a filter.
    pub fn restrict(&mut self, rules: &RawValue) {
        if let Some(body) = &mut self.body {
            body.and_filter(rules);
        }
        if self.kind == SearchKind::Similar {
            self.rules = raw::conjunction(self.rules.take(), rules);
        }
    }
}

/// One document by id.
#[derive(Clone, Debug)]
pub struct FetchOne {
    /// The id, decoded.
    pub id: String,
    /// The query string as it came.
    pub query: Option<String>,
}

/// A list of documents. `None`: the request could not be read; a node says why.
#[derive(Clone, Debug)]
pub struct List {
    /// The request in its `POST …/fetch` form.
    pub body: Option<RawObject>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_a_secret_shows_in_no_debug_output() {
        let mut request = ClientRequest::new(http::Method::PATCH, "/keys/hidden");
        request.body = Bytes::from_static(b"hidden");
        request.query = Some("hidden".to_owned());
        let text = format!("{request:?} {:?}", crate::operation::KeyOp::Update("hidden".into()));
        assert!(text.contains("6 bytes") && !text.contains("hidden"), "{text}");
    }
}
