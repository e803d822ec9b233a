//! OPERATION: what the client asked for, before any name is resolved.
//!
//! Variants are grouped by *how they are routed*, not by endpoint. Payloads are typed views over
//! preserved JSON: what routing needs is a field, the rest travels untouched.

mod control_plane;
mod effect;
mod explain;
pub mod foreign;
mod handle;
mod multi;
mod refusal;
mod resolve;
mod token_filters;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use serde_json::value::RawValue;

pub use control_plane::{ControlPlane, MissingIndex};
pub use multi::{Behind, MultiSearch, SubQuery};
pub use refusal::{is_about_probe, refusal, replay};
pub use resolve::Resolve;

use crate::context::Context;
use crate::effect::Effect;
use crate::index::Method;
use crate::meta::Meta;
use crate::query::{ClientRequest, FetchOne, List, RawObject, Search, SearchKind};
use crate::stage::Stage;
use miroir_store::TaskQuery;

/// Why a route behind an experimental feature is refused once the feature is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gate {
    /// The feature, as in `GET /experimental-features`.
    pub feature: &'static str,
    /// What is refused, why, and what to do instead.
    pub why: &'static str,
}

/// Meilisearch's names of the actions a key must hold, all of them; none: no key is needed.
pub type Actions = &'static [&'static str];

/// How a documents payload is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadFormat {
    /// `application/json`.
    Json,
    /// `application/x-ndjson`.
    Ndjson,
    /// `text/csv`.
    Csv,
}

impl PayloadFormat {
    /// What a `Content-Type` stands for; `None` for one that no node takes documents in.
    pub fn of(content_type: Option<&str>) -> Option<Self> {
        let text = content_type?.split(';').next()?.trim().to_ascii_lowercase();
        match text.as_str() {
            "application/json" => Some(Self::Json),
            "application/x-ndjson" => Some(Self::Ndjson),
            "text/csv" => Some(Self::Csv),
            _ => None,
        }
    }
}

/// A write as it came.
#[derive(Clone, Debug)]
pub enum Write {
    /// Add documents.
    Add {
        /// Whether documents are replaced or their fields merged.
        method: Method,
        /// Format of the body; `None` when the content type is missing or wrong.
        format: Option<PayloadFormat>,
    },
    /// Delete the document with this id, decoded from the path.
    DeleteOne(String),
    /// Delete by ids; the body is a JSON array of them.
    DeleteBatch,
    /// Delete by filter; the body is an object with `filter`.
    DeleteFilter,
    /// Delete all documents.
    Clear,
    /// Edit by function; the body has `function`, `context` and `filter`.
    Edit,
}

/// What is done to indexes as such.
#[derive(Clone, Debug)]
pub enum IndexOp {
    /// Create the index that the body names by `uid`.
    Create,
    /// List indexes, a page by `offset` and `limit`.
    List,
    /// Show the index of this name.
    Get(String),
    /// Change primary key or name of the index of this name, as the body says.
    Update(String),
    /// Delete the index of this name.
    Delete(String),
    /// Count documents, bytes and fields of the index of this name.
    Stats(String),
    /// List the fields of the index of this name, filtered as the body says.
    Fields(String),
    /// Compact the index of this name on all nodes.
    Compact(String),
    /// Exchange names of pairs of indexes, all or nothing; the body has the pairs.
    Swap,
}

/// What is done to settings.
#[derive(Clone, Debug)]
pub struct SettingsOp {
    /// Name of the index, as the client wrote it.
    pub index: String,
    /// Which setting, as in the path; `None`: all.
    pub setting: Option<&'static str>,
    /// Whether it is read or changed.
    pub effect: Effect,
}

/// What is done to tasks.
#[derive(Clone, Debug)]
pub enum TaskOp {
    /// Show the task with this uid, as it stands in the path.
    Get(String),
    /// List some. `None`: the parameters could not be read; a node says why.
    List(Option<Box<TaskQuery>>),
    /// The payload of the task with this uid.
    Documents(String),
    /// Cancel those chosen, with whether any filter was given. `None` as in [`TaskOp::List`].
    Cancel(Option<Box<(TaskQuery, bool)>>),
    /// Delete those chosen, as in [`TaskOp::Cancel`].
    Delete(Option<Box<(TaskQuery, bool)>>),
    /// List batches. `None` as in [`TaskOp::List`].
    Batches(Option<Box<TaskQuery>>),
    /// Show the batch with this uid, as it stands in the path.
    Batch(String),
}

/// What is done to search rules; they are named by their uid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleOp {
    /// `POST /dynamic-search-rules`.
    List,
    /// `GET /dynamic-search-rules/{uid}`.
    Get(String),
    /// `PATCH /dynamic-search-rules/{uid}`: makes the rule if there is none.
    Update(String),
    /// `DELETE /dynamic-search-rules/{uid}`.
    Delete(String),
    /// `DELETE /dynamic-search-rules`.
    Clear,
}

/// What is done to webhooks.
#[derive(Clone, Debug)]
pub enum WebhookOp {
    /// `GET /webhooks`.
    List,
    /// `POST /webhooks`.
    Create,
    /// `GET /webhooks/{uuid}`.
    Get(String),
    /// `PATCH /webhooks/{uuid}`.
    Update(String),
    /// `DELETE /webhooks/{uuid}`.
    Delete(String),
}

/// What is done to API keys. A key is named by its uid or by itself.
#[derive(Clone)]
pub enum KeyOp {
    /// `GET /keys`, newest first.
    List,
    /// `POST /keys`.
    Create,
    /// `GET /keys/{uid or key}`.
    Get(String),
    /// `PATCH /keys/{uid or key}`: changes name and description.
    Update(String),
    /// `DELETE /keys/{uid or key}`.
    Delete(String),
}

impl fmt::Debug for KeyOp {
    /// Without the name, which may be the key itself.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::List => "List",
            Self::Create => "Create",
            Self::Get(_) => "Get",
            Self::Update(_) => "Update",
            Self::Delete(_) => "Delete",
        })
    }
}

/// Everything else.
#[derive(Clone, Debug)]
pub enum SystemOp {
    /// `GET /health`.
    Health,
    /// `GET /`.
    Root,
    /// `GET /version`.
    Version,
    /// `GET /stats`.
    Stats,
    /// `GET` or `PATCH /experimental-features`.
    Features(Effect),
    /// A request to `/webhooks`.
    Webhook(WebhookOp),
    /// A request to `/dynamic-search-rules`.
    Rule(RuleOp),
    /// `POST /dumps`.
    Dump,
    /// `POST /snapshots`.
    Snapshot,
    /// `POST /export`.
    Export,
    /// `POST /render-template`; refused so when it names an index.
    Render(&'static Gate),
    /// A route that no cluster serves, behind an experimental feature.
    Gated(&'static Gate),
    /// A route this version does not serve.
    Unsupported(&'static str),
}

/// What was asked.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Operation {
    /// A ranked read.
    Search {
        /// Name of the index, as the client wrote it: an alias, or none that there is.
        index: String,
        /// Which kind of search, and its parameters.
        search: Arc<Search>,
    },
    /// Several ranked reads at once.
    MultiSearch(Arc<MultiSearch>),
    /// A search, or several, that is to be explained.
    Explain(Box<Operation>),
    /// One document.
    FetchOne {
        /// Name of the index, as the client wrote it.
        index: String,
        /// Its id, and which fields are shown.
        fetch: Arc<FetchOne>,
    },
    /// A list of documents.
    List {
        /// Name of the index, as the client wrote it.
        index: String,
        /// Filter, page and fields.
        list: Arc<List>,
    },
    /// A write to documents.
    Write {
        /// Name of the index, as the client wrote it; it may be made by the write.
        index: String,
        /// What is done; the documents are in the body of [`Request::original`].
        write: Write,
    },
    /// A request about indexes, not about what is in them.
    Index(IndexOp),
    /// Reads or changes settings of one index.
    Settings(SettingsOp),
    /// Reads, cancels or deletes tasks and batches.
    Task(TaskOp),
    /// A request to `/keys`.
    Key(KeyOp),
    /// Everything else.
    System(SystemOp),
}

impl Operation {
    /// A bounded name for logs and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Search { search, .. } => match search.kind {
                SearchKind::Hits | SearchKind::Part => "search",
                SearchKind::FacetValues => "facet_search",
                SearchKind::Similar => "similar",
            },
            Self::MultiSearch(_) => "multi_search",
            Self::Explain(_) => "explain",
            Self::FetchOne { .. } => "document_get",
            Self::List { .. } => "documents_list",
            Self::Write { .. } => "documents_write",
            Self::Index(_) => "index",
            Self::Settings(_) => "settings",
            Self::Task(_) => "tasks",
            Self::Key(_) => "keys",
            Self::System(_) => "system",
        }
    }

    /// The index the client named, if any.
    pub fn index(&self) -> Option<&str> {
        match self {
            Self::Search { index, .. }
            | Self::FetchOne { index, .. }
            | Self::List { index, .. }
            | Self::Write { index, .. } => Some(index),
            Self::Index(
                IndexOp::Get(index)
                | IndexOp::Update(index)
                | IndexOp::Delete(index)
                | IndexOp::Stats(index)
                | IndexOp::Fields(index)
                | IndexOp::Compact(index),
            ) => Some(index),
            Self::Settings(settings) => Some(&settings.index),
            Self::Explain(op) => op.index(),
            _ => None,
        }
    }

    /// Whether Miroir understood what a read asks for. What it did not, a node refuses in its own words.
    pub fn was_read(&self) -> bool {
        match self {
            Self::Search { search, .. } => search.body.is_some(),
            Self::List { list, .. } => list.body.is_some(),
            Self::MultiSearch(multi) => multi.queries().next().is_some(),
            Self::Explain(op) => op.was_read(),
            _ => true,
        }
    }

    /// The indexes the client searches, one per query of a multi-search, in order.
    pub fn searched(&self) -> Vec<&str> {
        match self {
            Self::Search { index, .. } => vec![index],
            Self::MultiSearch(multi) => multi.queries().map(|query| query.index.as_str()).collect(),
            Self::Explain(op) => op.searched(),
            _ => Vec::new(),
        }
    }

    /// The indexes whose documents the client reads by filter, as in [`Operation::searched`].
    fn names(&self) -> Vec<&str> {
        match self {
            Self::List { index, .. } => vec![index],
            // The search that is explained comes through by itself.
            Self::Explain(_) => Vec::new(),
            Self::MultiSearch(multi) => multi.queries().map(SubQuery::of_one).collect(),
            _ => self.searched(),
        }
    }

    /// Restricts a search to what matches a filter, which is JSON in the form of the `filter`
    /// parameter. `position` is that of the query within [`Operation::searched`]. Queries that could
    /// not be read stay as they are: they find nothing.
    pub fn restrict(&mut self, position: usize, rules: &RawValue) {
        match self {
            Self::Search { search, .. } if position == 0 => Arc::make_mut(search).restrict(rules),
            Self::MultiSearch(multi) => Arc::make_mut(multi).restrict(position, rules),
            Self::Explain(op) => op.restrict(position, rules),
            _ => {}
        }
    }

    /// Whether anybody may ask without a key.
    pub fn is_public(&self) -> bool {
        matches!(self, Self::System(SystemOp::Health | SystemOp::Root))
    }
}

/// A request of the operation stage.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Request {
    /// What the client asks for, indexes under the names it gave.
    pub op: Operation,
    /// Meilisearch's names of the actions a key must hold for it; none: no key is needed.
    pub actions: Actions,
    /// The request as it came, shown to a node where a node has to judge it.
    pub original: Arc<ClientRequest>,
    /// Who asks, until when, and what layers know of it.
    pub cx: Context,
}

/// An answer of the operation stage.
#[derive(Clone, Debug)]
pub struct Response {
    /// HTTP status.
    pub status: StatusCode,
    /// A JSON value; empty where the answer has no body.
    pub body: Bytes,
    /// What the headers of the answer say: missing shards, versions, uids.
    pub meta: Meta,
}

impl Response {
    /// An answer with a JSON body.
    pub fn json(status: StatusCode, body: &impl serde::Serialize) -> Self {
        let body = serde_json::to_vec(body).unwrap_or_default();
        Self { status, body: Bytes::from(body), meta: Meta::default() }
    }

    /// `200` with a JSON body.
    pub fn ok(body: &impl serde::Serialize) -> Self {
        Self::json(StatusCode::OK, body)
    }
}

impl Request {
    /// A request that asks for `op` on behalf of the principal in `cx`, who needs a key with one of
    /// `actions`. `original` is what nodes are shown when they have to judge it.
    pub fn new(
        op: Operation,
        actions: Actions,
        original: impl Into<Arc<ClientRequest>>,
        cx: Context,
    ) -> Self {
        Self { op, actions, original: original.into(), cx }
    }

    /// The same request as if the client had sent `original`.
    #[must_use]
    pub fn with_original(mut self, original: impl Into<Arc<ClientRequest>>) -> Self {
        self.original = original.into();
        self
    }

    /// A search of an index, as `POST /indexes/{index}/search` with this body: the parameters of
    /// Meilisearch's search, a JSON object. It has ten seconds and no principal: set
    /// [`Context::principal`] where keys are judged, and the rest of [`Request::cx`] as needed.
    pub fn search(index: impl Into<String>, body: &serde_json::Value) -> Self {
        let text = body.to_string();
        let search = Search { body: RawObject::parse(text.as_bytes()), ..Search::default() };
        let original = ClientRequest {
            method: http::Method::POST,
            path: "/search".to_owned(),
            query: None,
            body: text.into(),
            content_type: Some("application/json".to_owned()),
            metadata: false,
        };
        Self {
            op: Operation::Search { index: index.into(), search: Arc::new(search) },
            actions: &["search"],
            original: Arc::new(original),
            cx: Context::client("search", Duration::from_secs(10)),
        }
    }
}

impl Stage for Request {
    type Response = Response;
    const NAME: &'static str = "operation";
}

/// A boxed service of this stage.
pub type BoxService = crate::stage::BoxService<Request>;
