//! What makes two reads the same question.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use miroir_core::hints::{Hints, Priority};
use miroir_core::topology::Topology;
use miroir_core::view::StaleMap;
use miroir_pipeline::context::Class;
use miroir_pipeline::index::{Operation, Request};
use miroir_pipeline::query::{RawObject, SearchKind};
use miroir_store::IndexEntry;

/// Everything an answer depends on. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Key(Arc<Question>);

#[derive(Debug)]
struct Question {
    /// The operation, with the keys of its body in order.
    words: Vec<u8>,
    index: Arc<IndexEntry>,
    // One snapshot is one thing: another one may be equal, but who would compare them.
    topology: Arc<Topology>,
    stale: Arc<StaleMap>,
    hints: Hints,
    /// What capabilities say is part of the answer.
    parts: Vec<Vec<u8>>,
    metadata: bool,
}

impl Key {
    /// Whether a request is one of those that are shared, were it not to be explained.
    pub(super) fn would_be(request: &Request) -> bool {
        request.cx.extensions().answer_parts().is_some() && Self::is_plain(request)
    }

    /// Whether everything but its extensions allows a request to be shared.
    fn is_plain(request: &Request) -> bool {
        let must = |hints: &Hints| {
            hints.group.as_ref().is_some_and(|group| group.priority == Priority::Must)
        };
        request.cx.class == Class::Interactive
            && !must(&request.hints)
            && !matches!(request.op, Operation::Write { .. })
    }

    /// `None` for what is not shared.
    pub(super) fn of(request: &Request) -> Option<Self> {
        // An explanation is about one request.
        if request.cx.explain.is_some() || !Self::is_plain(request) {
            return None;
        }
        let parts = request.cx.extensions().answer_parts()?;
        Some(Self(Arc::new(Question {
            words: words(&request.op)?,
            index: Arc::clone(&request.index),
            topology: Arc::clone(&request.topology),
            stale: Arc::clone(&request.stale),
            hints: request.hints.clone(),
            parts,
            metadata: request.original.metadata,
        })))
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        let (a, b) = (&*self.0, &*other.0);
        a.words == b.words
            && Arc::ptr_eq(&a.topology, &b.topology)
            && Arc::ptr_eq(&a.stale, &b.stale)
            && a.hints == b.hints
            && a.parts == b.parts
            && a.metadata == b.metadata
            && (Arc::ptr_eq(&a.index, &b.index) || a.index == b.index)
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.words.hash(state);
        self.0.index.physical.hash(state);
        self.0.index.version.hash(state);
    }
}

/// The operation as bytes: equal bytes mean the same.
fn words(op: &Operation) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(256);
    match op {
        Operation::Search(search) => {
            out.push(match search.kind {
                SearchKind::Hits => b'h',
                SearchKind::FacetValues => b'f',
                SearchKind::Similar => b's',
                SearchKind::Part => b'p',
            });
            object(search.body.as_ref()?, &mut out);
            if let Some(rules) = &search.rules {
                text(rules.get(), &mut out);
            }
        }
        Operation::List(list) => {
            out.push(b'l');
            object(list.body.as_ref()?, &mut out);
        }
        Operation::FetchOne(fetch) => {
            out.push(b'o');
            text(&fetch.id, &mut out);
            if let Some(query) = &fetch.query {
                text(query, &mut out);
            }
        }
        Operation::Union(union) => {
            out.push(b'u');
            out.extend_from_slice(&(union.queries.len() as u64).to_le_bytes());
            for query in &union.queries {
                object(query, &mut out);
            }
            let rest = (&union.depth, union.exhaustive, &union.distinct, &union.facets);
            text(&serde_json::to_string(&rest).ok()?, &mut out);
        }
        Operation::Write { .. } => return None,
    }
    Some(out)
}

/// A text after its length: what follows cannot be taken for a part of it.
fn text(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(&(text.len() as u64).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn object(object: &RawObject, out: &mut Vec<u8>) {
    let mut keys: Vec<&str> = object.keys().collect();
    keys.sort_unstable();
    out.extend_from_slice(&(keys.len() as u64).to_le_bytes());
    for key in keys {
        text(key, out);
        compact(object.raw(key).unwrap_or_default(), out);
    }
}

/// JSON without the blanks that mean nothing, after its length as in [`text`].
fn compact(json: &str, out: &mut Vec<u8>) {
    let at = out.len();
    out.extend_from_slice(&[0; 8]);
    let (mut quoted, mut escaped) = (false, false);
    // What is looked for is never a part of a longer character.
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = quoted,
            b'"' => quoted = !quoted,
            b' ' | b'\t' | b'\n' | b'\r' if !quoted => continue,
            _ => {}
        }
        out.push(byte);
    }
    let length = (out.len() - at - 8) as u64;
    out[at..at + 8].copy_from_slice(&length.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_the_same_whatever_their_order_and_blanks() {
        let words = |json: &str| {
            let mut out = Vec::new();
            object(&RawObject::parse(json.as_bytes()).unwrap(), &mut out);
            out
        };
        let one = words(r#"{"q":"a \" b","filter":["x = 1",["y = 2"]]}"#);
        assert_eq!(one, words("{ \"filter\" : [ \"x = 1\",\n[\"y = 2\"]], \"q\":\"a \\\" b\" }"));
        for other in [
            r#"{"q":"a \"  b","filter":["x = 1",["y = 2"]]}"#,
            r#"{"q":"a \" b","filter":["x = 1","y = 2"]}"#,
            r#"{"q":"a \" b","filter":["x = 1",["y  = 2"]]}"#,
            r#"{"q":"a \" b","filter":["x = 1",["y = 2"]],"limit":1}"#,
            r#"{"q":"a \" b"}"#,
        ] {
            assert_ne!(one, words(other), "{other}");
        }
    }
}
