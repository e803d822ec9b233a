//! One error for the three typed stages.
//!
//! An error says what happened ([`ErrorKind`]), who is at fault ([`Fault`]) and whether asking again
//! can help ([`Retry`]). What a node itself answered is passed on byte for byte.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use miroir_api::NodeId;
use miroir_api::meili::ApiError;

use crate::extension::{Extension, Extensions};
pub use crate::node_failure::NodeFailure;
use miroir_core::routing::ShardSet;

/// Any error, as tower's layers and HTTP bodies have it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Whose fault an error is: that of the request, a node, the store, or Miroir.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The request is wrong and fails again unchanged.
    Client,
    /// This node failed or did not answer.
    Node(NodeId),
    /// The store did not answer, or refused.
    Store,
    /// Miroir itself, or its limits.
    Miroir,
}

/// Whether asking again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// The same request fails again, wherever it is sent.
    Never,
    /// Another replica of the same shards may answer.
    OtherReplica,
}

/// What went wrong, and with it the status and body that a client gets.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An error in Meilisearch's shape, made by Miroir.
    Api(ApiError),
    /// An answer of a node, passed on as it came.
    Verbatim {
        /// HTTP status of the node's answer.
        status: StatusCode,
        /// Body of the node's answer, byte for byte.
        body: Bytes,
    },
    /// No group took the write for these shards.
    NoQuorum(ShardSet),
    /// No replica can answer for these shards.
    ShardsUnavailable(ShardSet),
    /// A node could not be reached, hung, or answered garbage.
    NodeFailed(NodeFailure),
    /// The request's time is over.
    DeadlineExceeded,
    /// A write was planned by what is no more. Scatter plans it anew; no client sees it.
    Outdated,
    /// Too many requests at once.
    Overloaded,
    /// Nothing: the request was only to be explained, and Dispatch stopped here.
    Explained,
    /// A wrong path; an empty 404, as Meilisearch answers.
    NotFound,
    /// A wrong method on a right path; an empty 405. The value of `Allow`.
    MethodNotAllowed(String),
    /// Anything else: `500 internal`. The source goes to the log and not to the client.
    Internal,
}

/// The error of the typed stages. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Error(Box<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    kind: ErrorKind,
    fault: Fault,
    retry: Retry,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
    label: Option<&'static str>,
    extensions: Extensions,
}

impl Error {
    fn with(kind: ErrorKind, fault: Fault, retry: Retry) -> Self {
        let (source, label, extensions) = (None, None, Extensions::default());
        Self(Box::new(Inner { kind, fault, retry, source, label, extensions }))
    }

    /// The same error under a label of its own in metrics, one of a few; see [`Error::label`].
    #[must_use]
    pub fn labelled(mut self, label: &'static str) -> Self {
        self.0.label = Some(label);
        self
    }

    /// The same error with something more to say, in headers that the capability it belongs to
    /// writes.
    #[must_use]
    pub fn and<T: Extension>(mut self, value: T) -> Self {
        self.0.extensions.insert(value);
        self
    }

    /// The extension of this type, if there is one.
    pub fn get<T: Extension>(&self) -> Option<&T> {
        self.0.extensions.get()
    }

    /// The client's mistake, in Meilisearch's shape.
    pub fn client(error: ApiError) -> Self {
        Self::with(ErrorKind::Api(error), Fault::Client, Retry::Never)
    }

    /// Short for [`Error::client`] with a new [`ApiError`].
    pub fn api(code: &'static str, message: impl Into<String>) -> Self {
        Self::client(ApiError::new(code, message))
    }

    /// `index_not_found`, in Meilisearch's words.
    pub fn index_not_found(name: &str) -> Self {
        Self::api("index_not_found", format!("Index `{name}` not found."))
    }

    /// Whether the request is refused for what it asks, by a node or by Miroir: a node may have words of
    /// its own about it. What Miroir does not serve at the moment is none of a node's business.
    pub fn is_about_the_request(&self) -> bool {
        self.0.fault == Fault::Client
            && matches!(self.0.kind, ErrorKind::Verbatim { .. } | ErrorKind::Api(_))
    }

    /// Whether Miroir's catalogue has no such index.
    pub fn is_missing_index(&self) -> bool {
        matches!(&self.0.kind, ErrorKind::Api(error) if error.code == "index_not_found")
    }

    /// A node's own answer, to be passed on.
    pub fn verbatim(status: StatusCode, body: Bytes) -> Self {
        Self::with(ErrorKind::Verbatim { status, body }, Fault::Client, Retry::Never)
    }

    /// The same error, where another replica may do better.
    #[must_use]
    pub fn retryable(mut self) -> Self {
        self.0.retry = Retry::OtherReplica;
        self
    }

    /// A node failed; another replica may do better.
    pub fn node(node: &NodeId, failure: NodeFailure) -> Self {
        Self::with(ErrorKind::NodeFailed(failure), Fault::Node(node.clone()), Retry::OtherReplica)
    }

    /// The index or its placement changed before it was the write's turn: it is to be planned anew.
    pub fn outdated() -> Self {
        Self::with(ErrorKind::Outdated, Fault::Miroir, Retry::Never)
    }

    /// Whether the error is that a write has to be planned anew.
    pub fn is_outdated(&self) -> bool {
        matches!(self.0.kind, ErrorKind::Outdated)
    }

    /// The request's time is over.
    pub fn deadline() -> Self {
        Self::with(ErrorKind::DeadlineExceeded, Fault::Miroir, Retry::Never)
    }

    /// Too many requests at once.
    pub fn overloaded() -> Self {
        Self::with(ErrorKind::Overloaded, Fault::Miroir, Retry::Never)
    }

    /// No group took the write for these shards.
    pub fn no_quorum(shards: ShardSet) -> Self {
        Self::with(ErrorKind::NoQuorum(shards), Fault::Miroir, Retry::Never)
    }

    /// No replica can answer for these shards.
    pub fn shards_unavailable(shards: ShardSet) -> Self {
        Self::with(ErrorKind::ShardsUnavailable(shards), Fault::Miroir, Retry::Never)
    }

    /// Miroir's own refusal, by its limits or its state: not the client's mistake.
    pub fn refused(error: ApiError) -> Self {
        Self::with(ErrorKind::Api(error), Fault::Miroir, Retry::Never)
    }

    /// This pod does not lead, or no longer: `miroir_no_leader`.
    pub fn no_leader() -> Self {
        let message = "No pod of this deployment can change anything at the moment: none leads, or \
                       the one that does cannot be reached. Retry in a few seconds.";
        Self::with(
            ErrorKind::Api(ApiError::new("miroir_no_leader", message)),
            Fault::Miroir,
            Retry::Never,
        )
    }

    /// The pod that made a change stopped, so that nobody knows whether it was made:
    /// `miroir_leader_lost`.
    pub fn leader_lost() -> Self {
        let message = "The pod that had this change in hand broke off: it may have been carried out. \
                       Look, or send it again where that is safe, as with documents.";
        Self::with(
            ErrorKind::Api(ApiError::new("miroir_leader_lost", message)),
            Fault::Miroir,
            Retry::Never,
        )
    }

    /// Whether the error is that this pod does not lead, or no longer.
    pub fn is_deposed(&self) -> bool {
        matches!(&self.0.kind, ErrorKind::Api(error)
            if matches!(&*error.code, "miroir_no_leader" | "miroir_leader_lost"))
    }

    /// Whether this is the code that clients see, be it of Miroir's own words or of a node's.
    pub(crate) fn has_code(&self, code: &str) -> bool {
        match &self.0.kind {
            ErrorKind::Api(error) => error.code == code,
            ErrorKind::Verbatim { body, .. } => serde_json::from_slice::<serde_json::Value>(body)
                .is_ok_and(|body| body["code"] == code),
            _ => false,
        }
    }

    /// The request was only to be explained, and is not carried out from here on.
    pub fn explained() -> Self {
        Self::with(ErrorKind::Explained, Fault::Miroir, Retry::Never)
    }

    /// An unknown path: an empty 404.
    pub fn not_found() -> Self {
        Self::with(ErrorKind::NotFound, Fault::Client, Retry::Never)
    }

    /// A known path with a wrong method: an empty 405 with `allow` as its `Allow` header.
    pub fn method_not_allowed(allow: String) -> Self {
        Self::with(ErrorKind::MethodNotAllowed(allow), Fault::Client, Retry::Never)
    }

    /// A failure inside of Miroir: `500 internal`, with `source` for the log.
    pub fn internal(source: impl Into<BoxError>) -> Self {
        let mut error = Self::with(ErrorKind::Internal, Fault::Miroir, Retry::Never);
        error.0.source = Some(Arc::from(source.into()));
        error
    }

    /// Why a node failed, if one did.
    pub fn node_failure(&self) -> Option<NodeFailure> {
        match self.0.kind {
            ErrorKind::NodeFailed(failure) => Some(failure),
            _ => None,
        }
    }

    /// What went wrong.
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// Whose fault it is.
    pub fn fault(&self) -> &Fault {
        &self.0.fault
    }

    /// Whether another replica may do better.
    pub fn retry(&self) -> Retry {
        self.0.retry
    }

    /// The body and status a client gets. `None` means an empty body.
    pub fn render(&self) -> (StatusCode, Option<Bytes>) {
        let body = |error: &ApiError| {
            let status = StatusCode::from_u16(error.status());
            let text = serde_json::to_vec(error).unwrap_or_default();
            (status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), Some(Bytes::from(text)))
        };
        match &self.0.kind {
            ErrorKind::Api(error) => body(error),
            ErrorKind::Verbatim { status, body } => (*status, Some(body.clone())),
            ErrorKind::NotFound => (StatusCode::NOT_FOUND, None),
            ErrorKind::MethodNotAllowed(_) => (StatusCode::METHOD_NOT_ALLOWED, None),
            ErrorKind::NoQuorum(shards) => body(&ApiError::new(
                "miroir_no_quorum",
                format!(
                    "No replica group acknowledged the write for shards {}. Nothing was acknowledged: \
                     retry once enough nodes are back.",
                    list(shards)
                ),
            )),
            ErrorKind::ShardsUnavailable(shards) => body(&ApiError::new(
                "miroir_shard_unavailable",
                format!(
                    "No up-to-date replica of shards {} is reachable. Retry later.",
                    list(shards)
                ),
            )),
            ErrorKind::NodeFailed(failure) => body(&ApiError::new(
                "miroir_node_failed",
                format!("A Meilisearch node failed to answer ({failure}). Retry later."),
            )),
            ErrorKind::DeadlineExceeded => body(&ApiError::new(
                "miroir_deadline_exceeded",
                "The request took longer than `server.request_timeout_ms`. Retry later, or raise it.",
            )),
            ErrorKind::Overloaded => body(&ApiError::new(
                "miroir_overloaded",
                "Too many requests at the same time (`server.max_concurrent_requests`). Retry later.",
            )),
            ErrorKind::Internal | ErrorKind::Explained | ErrorKind::Outdated => {
                body(&ApiError::new("internal", "An internal error has occurred."))
            }
        }
    }

    /// A bounded label for metrics: that of its kind, unless it was given another one.
    pub fn label(&self) -> &'static str {
        if let Some(label) = self.0.label {
            return label;
        }
        match &self.0.kind {
            ErrorKind::Api(_) => "api",
            ErrorKind::Verbatim { .. } => "node_answer",
            ErrorKind::NoQuorum(_) => "no_quorum",
            ErrorKind::ShardsUnavailable(_) => "shard_unavailable",
            ErrorKind::NodeFailed(failure) => failure.label(),
            ErrorKind::DeadlineExceeded => "deadline",
            ErrorKind::Outdated => "outdated",
            ErrorKind::Overloaded => "overloaded",
            ErrorKind::Explained => "explained",
            ErrorKind::NotFound => "not_found",
            ErrorKind::MethodNotAllowed(_) => "method_not_allowed",
            ErrorKind::Internal => "internal",
        }
    }
}

/// Shards as a comma-separated list, for messages and the `X-Miroir-Degraded` header.
pub fn list(shards: &ShardSet) -> String {
    let parts: Vec<String> = shards.iter().map(|s| s.to_string()).collect();
    parts.join(",")
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.kind {
            ErrorKind::Api(error) => error.fmt(f),
            _ => write!(f, "{} (fault: {:?})", self.label(), self.0.fault),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|e| e as _)
    }
}

/// The single place that knows errors of foreign layers.
impl From<BoxError> for Error {
    fn from(error: BoxError) -> Self {
        let error = match error.downcast::<Error>() {
            Ok(own) => return *own,
            Err(other) => other,
        };
        if error.is::<tower::timeout::error::Elapsed>() {
            return Self::deadline();
        }
        if error.is::<tower::load_shed::error::Overloaded>() {
            return Self::overloaded();
        }
        Self::internal(error)
    }
}

impl From<miroir_store::StoreError> for Error {
    fn from(error: miroir_store::StoreError) -> Self {
        if matches!(error, miroir_store::StoreError::Deposed) {
            return Self::leader_lost();
        }
        let mut out = Self::with(
            ErrorKind::Api(ApiError::new(
                "miroir_store_failed",
                "Miroir's store did not answer. Nothing was acknowledged: retry later.",
            )),
            Fault::Store,
            Retry::Never,
        );
        out.0.source = Some(Arc::new(error));
        out
    }
}
