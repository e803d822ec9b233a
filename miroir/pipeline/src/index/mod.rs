//! INDEX: one concrete index, with snapshots of what the request is judged by.
//!
//! [`Request`] holds the index, the topology and the stale replicas as they were when the request
//! was resolved: "one request sees one topology and one index" is a property of the type.

pub mod scatter;

use std::sync::Arc;

use bytes::Bytes;
use miroir_api::meili::TaskKind;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use uuid::Uuid;

pub use scatter::Scatter;

use crate::cluster::ClusterState;
use crate::cluster::sequencer::Handover;
use crate::context::Context;
use crate::meta::Meta;
use crate::query::{ClientRequest, FetchOne, List, RawObject, Search};
use crate::stage::Stage;
use miroir_core::documents::RawDocument;
use miroir_core::hints::Hints;
use miroir_core::topology::Topology;
use miroir_core::view::StaleMap;
use miroir_store::IndexEntry;

/// How added documents meet existing ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// Replace whole documents (`POST`).
    Replace,
    /// Merge top-level fields (`PUT`).
    Update,
}

/// Which documents to delete.
#[derive(Clone, Debug)]
pub enum Deletion {
    /// The document with this id, decoded from the path.
    One(String),
    /// The documents with these ids.
    Ids {
        /// The ids.
        ids: Vec<String>,
    },
    /// All that match a filter, as JSON.
    Filter(Box<RawValue>),
    /// Every document of the index.
    All,
}

/// A write to documents.
#[derive(Clone, Debug)]
pub enum Write {
    /// Add documents, or change those of the same id.
    Add {
        /// Whether documents are replaced or their fields merged.
        method: Method,
        /// The documents, split but untouched.
        documents: Arc<Vec<RawDocument>>,
        /// `?primaryKey=`: the primary key that an index without one gets.
        primary_key: Option<String>,
        /// `?skipCreation=`: documents of unknown ids are left out.
        skip_creation: bool,
    },
    /// Delete documents; what is not there is no fault.
    Delete(Deletion),
    /// Change or delete documents by a function.
    Edit(Arc<EditByFunction>),
}

impl Write {
    /// The kind and the details of the task it becomes where its index does not exist, as one node
    /// shows them.
    pub fn missing_index_details(&self) -> (TaskKind, Value) {
        match self {
            Self::Add { documents, .. } => (
                TaskKind::DocumentAdditionOrUpdate,
                json!({"receivedDocuments": documents.len(), "indexedDocuments": 0}),
            ),
            Self::Edit(edit) => (
                TaskKind::DocumentEdition,
                json!({
                    "deletedDocuments": null, "editedDocuments": 0, "context": edit.context,
                    "function": edit.function,
                    "originalFilter": edit.filter.as_ref().map(Value::to_string),
                }),
            ),
            Self::Delete(deletion) => {
                (TaskKind::DocumentDeletion, deletion.missing_index_details())
            }
        }
    }
}

impl Deletion {
    fn missing_index_details(&self) -> Value {
        let (ids, filter) = match self {
            Self::All => return json!({"deletedDocuments": 0}),
            Self::One(_) => (1, None),
            Self::Ids { ids } => (ids.len(), None),
            Self::Filter(filter) => (0, Some(scatter::compact(filter))),
        };
        json!({"providedIds": ids, "deletedDocuments": 0, "originalFilter": filter})
    }
}

/// An edit of documents by a function, as the client wrote it.
#[derive(Clone, Debug)]
pub struct EditByFunction {
    /// Text of the function, in the nodes' language (Rhai).
    pub function: String,
    /// What the function sees as `context`: an object, or `null`.
    pub context: Value,
    /// Filter of the documents it is applied to; all of the index without one.
    pub filter: Option<Value>,
}

/// What several searches of one index find together.
#[derive(Clone, Debug)]
pub struct Union {
    /// The searches in their `POST` form, without paging and facets.
    pub queries: Vec<RawObject>,
    /// How many hits are shown at most: what one node would have looked at.
    pub depth: usize,
    /// Whether hits are counted exhaustively.
    pub exhaustive: bool,
    /// The federation's distinct attribute.
    pub distinct: Option<String>,
    /// Facets to count over all that is found.
    pub facets: Option<Vec<String>>,
}

/// What is done to the index.
#[derive(Clone, Debug)]
pub enum Operation {
    /// A ranked read: hits, facet values or similar documents.
    Search(Arc<Search>),
    /// How much several searches find together, and its facets: a search answer without hits.
    Union(Arc<Union>),
    /// Fetches one document by its id, from a replica that holds its shard.
    FetchOne(Arc<FetchOne>),
    /// Lists documents by filter and page.
    List(Arc<List>),
    /// Changes documents, as one task.
    Write {
        /// What is done to which documents.
        write: Write,
        /// `?customMetadata=`: the client's own text, shown with the task.
        custom_metadata: Option<String>,
    },
}

/// A request of the index stage.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Request {
    /// What is done to the index.
    pub op: Operation,
    /// The request as it came, to be asked again of one node when nodes refuse it.
    pub original: Arc<ClientRequest>,
    /// Snapshot of the index's entry in the catalogue.
    pub index: Arc<IndexEntry>,
    /// Snapshot of the topology by which shards are placed.
    pub topology: Arc<Topology>,
    /// Snapshot of the replicas that must not be read.
    pub stale: Arc<StaleMap>,
    /// Hints of the layers so far about where to read.
    pub hints: Hints,
    /// Who asks, until when, and what layers know of it.
    pub cx: Context,
    /// Where its snapshots come from; `None` for one that keeps those it was made with.
    state: Option<Arc<ClusterState>>,
    /// Gates that a write takes over: those of the index it has made.
    pub(crate) gate: Option<Handover>,
}

/// An answer of the index stage.
#[derive(Clone, Debug)]
pub struct Response {
    /// Status: 200, or 202 for accepted writes.
    pub status: http::StatusCode,
    /// The answer as JSON.
    pub body: Bytes,
    /// What the headers of the answer say: missing shards, versions, uids.
    pub meta: Meta,
}

impl Response {
    /// The same answer to another request: with uids of its own.
    #[must_use]
    pub fn with_fresh_uids(&self) -> Self {
        if self.meta.uids.is_empty() {
            return self.clone();
        }
        let mut out = self.clone();
        let mut body = self.body.to_vec();
        for uid in &mut out.meta.uids {
            let other = Uuid::now_v7();
            // They are at the end, behind the hits.
            if let Some(at) = memchr::memmem::rfind(&body, uid.to_string().as_bytes()) {
                other.hyphenated().encode_lower(&mut body[at..]);
            }
            *uid = other;
        }
        out.body = Bytes::from(body);
        out
    }
}

impl Request {
    /// A request without hints. `index`, `topology` and `stale` are what it is judged by from now
    /// on:
    /// replicas that are not in `stale` are read.
    pub fn new(
        op: Operation,
        original: impl Into<Arc<ClientRequest>>,
        index: impl Into<Arc<IndexEntry>>,
        topology: impl Into<Arc<Topology>>,
        stale: Arc<StaleMap>,
        cx: Context,
    ) -> Self {
        Self {
            op,
            original: original.into(),
            index: index.into(),
            topology: topology.into(),
            stale,
            hints: Hints::default(),
            cx,
            state: None,
            gate: None,
        }
    }

    /// The same request, whose snapshots can be [renewed](Request::renew) from this state.
    #[must_use]
    pub fn of(mut self, state: &Arc<ClusterState>) -> Self {
        self.state = Some(Arc::clone(state));
        self
    }

    /// The same request, of a write that takes over these gates.
    #[must_use]
    pub fn taking_over(mut self, gate: Option<Handover>) -> Self {
        self.gate = gate;
        self
    }

    /// Takes the snapshots anew, all of them: for whoever waited, as a replica may have missed a
    /// write meanwhile, or a node may have come back without it. The index stays the same one: where
    /// it is gone or has another name, its entry stays as it was.
    pub fn renew(&mut self) {
        let Some(state) = &self.state else { return };
        let entry = state.catalog.current(&self.index);
        if let Some(entry) = entry.filter(|entry| entry.name == self.index.name) {
            self.index = entry;
        }
        // In this order: a node that is well again has its misses on record before that.
        self.topology = state.membership.topology();
        self.stale = state.staleness.load();
    }
}

impl Stage for Request {
    type Response = Response;
    const NAME: &'static str = "index";
}

/// A boxed service of this stage.
pub type BoxService = crate::stage::BoxService<Request>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_given_again_has_other_uids() {
        let (one, two) = (Uuid::now_v7(), Uuid::now_v7());
        let body = format!("{{\"hits\":[\"é\"],\"requestUid\":\"{one}\",\"queryUid\":\"{two}\"}}");
        let meta = Meta { uids: vec![one, two], ..Meta::default() };
        let answer = Response { status: http::StatusCode::OK, body: body.clone().into(), meta };
        let again = answer.with_fresh_uids();
        let [first, second] = again.meta.uids[..] else { panic!("two uids") };
        assert!([first, second].iter().all(|uid| ![one, two].contains(uid)) && first != second);
        let back = body.replace(&one.to_string(), &first.to_string());
        assert_eq!(again.body, back.replace(&two.to_string(), &second.to_string()));
    }
}
