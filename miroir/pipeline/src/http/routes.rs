//! The client API's routes: what a row of the table is, and which row a path belongs to.

use http::Method;

use crate::effect::Effect;
use crate::operation::PayloadFormat;
pub use crate::operation::{Actions, Gate};
use crate::query::is_json;

/// What a route does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// `POST …/search`.
    Search,
    /// `GET …/search`.
    SearchGet,
    /// `POST …/facet-search`.
    FacetSearch,
    /// `POST …/similar`.
    Similar,
    /// `GET …/similar`.
    SimilarGet,
    /// `POST /multi-search`.
    MultiSearch,
    /// `POST …/explain`.
    Explain,
    /// `POST /multi-search/explain`.
    ExplainMulti,
    /// `POST …/documents/fetch`.
    Fetch,
    /// `GET …/documents`.
    FetchGet,
    /// `GET …/documents/{id}`.
    FetchOne,
    /// `POST …/documents`.
    Replace,
    /// `PUT …/documents`.
    Update,
    /// `DELETE …/documents/{id}`.
    DeleteOne,
    /// `POST …/documents/delete-batch`.
    DeleteBatch,
    /// `POST …/documents/delete`.
    DeleteFilter,
    /// `DELETE …/documents`.
    Clear,
    /// `POST …/documents/edit`.
    Edit,
    /// Create an index.
    IndexCreate,
    /// List indexes.
    IndexList,
    /// Show an index.
    IndexGet,
    /// Change an index.
    IndexUpdate,
    /// Delete an index.
    IndexDelete,
    /// Count an index's documents.
    IndexStats,
    /// List an index's fields.
    IndexFields,
    /// Compact an index.
    IndexCompact,
    /// Swap indexes.
    Swap,
    /// Read settings; the setting's name in the whole object, or `None` for all.
    SettingsGet(Option<&'static str>),
    /// Change settings.
    SettingsChange(Option<&'static str>),
    /// List tasks.
    TaskList,
    /// Show a task.
    TaskGet,
    /// List API keys.
    KeyList,
    /// Make an API key.
    KeyCreate,
    /// Show an API key.
    KeyGet,
    /// Change what an API key is called.
    KeyUpdate,
    /// Delete an API key.
    KeyDelete,
    /// The payload of a task.
    TaskDocuments,
    /// Cancel tasks.
    TaskCancel,
    /// Delete tasks.
    TaskDelete,
    /// List batches.
    BatchList,
    /// Show a batch.
    BatchGet,
    /// List search rules.
    RuleList,
    /// Show a search rule.
    RuleGet,
    /// Make or change a search rule.
    RuleUpdate,
    /// Delete a search rule.
    RuleDelete,
    /// Delete all search rules.
    RuleClear,
    /// List webhooks.
    WebhookList,
    /// Make a webhook.
    WebhookCreate,
    /// Show a webhook.
    WebhookGet,
    /// Change a webhook.
    WebhookUpdate,
    /// Delete a webhook.
    WebhookDelete,
    /// Dump every node.
    Dump,
    /// Make a snapshot of every node.
    Snapshot,
    /// Export to another instance.
    Export,
    /// A template rendered without an index.
    Render(&'static Gate),
    /// Served by no cluster: while the feature is off, answered as by one node; refused after.
    Gated(&'static Gate),
    /// `GET /`: the status of the instance.
    Root,
    /// `GET /health`.
    Health,
    /// `GET /version`: that of the nodes.
    Version,
    /// `GET /stats`: counts and sizes of all indexes.
    Stats,
    /// Show or change experimental features.
    Features(Effect),
    /// Known to Meilisearch and refused with `501 miroir_not_supported`, for this reason.
    Unsupported(&'static str),
}

/// How a cluster serves a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// Asked of a set of nodes that covers every shard; the answers become one.
    Merged,
    /// Sent to the nodes that hold the documents it names.
    Routed,
    /// Sent to every node.
    Broadcast,
    /// Answered from what Miroir itself knows, or what any one node knows.
    Own,
    /// Refused; the note says why.
    Refused,
}

impl Treatment {
    /// The name in `docs/api-compatibility.md`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Merged => "merged",
            Self::Routed => "routed",
            Self::Broadcast => "broadcast",
            Self::Own => "Miroir's own",
            Self::Refused => "refused",
        }
    }
}

/// One row of the route table: a method and a path, and what they mean.
#[derive(Clone, Debug)]
pub struct Route {
    /// HTTP method.
    pub method: Method,
    /// Path from the root, with `{name}` for a segment that is a parameter.
    pub path: &'static str,
    /// The operation that the route stands for.
    pub action: Action,
    /// Key actions the caller must hold, all of them; none for a route that needs no key.
    pub actions: Actions,
    /// How a cluster serves the route, for the documentation.
    pub treatment: Treatment,
    /// What differs from one node, for the documentation; empty if nothing does.
    pub note: &'static str,
    /// What its operation does to the stores and nodes.
    pub(super) effect: Effect,
}

impl Route {
    /// Whether it changes anything, in the stores or on nodes: whether its operation does.
    pub fn changes(&self) -> bool {
        self.effect == Effect::Change
    }

    /// Whether a node reads the body of a request of this `Content-Type`: one that nobody reads may be
    /// anything.
    pub fn reads_body(&self, content_type: Option<&str>) -> bool {
        let known = if self.takes_documents() {
            PayloadFormat::of(content_type).is_some()
        } else {
            is_json(content_type)
        };
        let reads = [Method::POST, Method::PUT, Method::PATCH].contains(&self.method);
        known
            && reads
            && !matches!(
                self.action,
                Action::TaskCancel | Action::IndexCompact | Action::Dump | Action::Snapshot
            )
    }

    /// Whether the body is a payload of documents.
    pub fn takes_documents(&self) -> bool {
        matches!(self.action, Action::Replace | Action::Update)
    }
}
