//! What Resolve asks of the control plane besides whole operations.

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use miroir_api::IndexUid;
use miroir_api::meili::TaskKind;
use miroir_store::IndexEntry;
use serde_json::{Map, Value};

use super::Response;
use crate::cluster::sequencer::Handover;
use crate::context::Context;
use crate::error::Error;
use crate::index::Write;

/// A change of an index that does not exist.
#[derive(Clone, Debug)]
pub struct MissingIndex {
    /// The name the client used.
    pub name: String,
    /// The kind of the task it becomes.
    pub kind: TaskKind,
    /// The details its task shows.
    pub details: Option<Map<String, Value>>,
    /// The client's `customMetadata`.
    pub metadata: Option<String>,
}

/// The part of the control plane that writes to documents need. Whole operations reach it as a
/// [`BoxService`](super::BoxService).
pub trait ControlPlane: Send + Sync + fmt::Debug {
    /// The entry of an index, made on all nodes if there is none: then with its gates, which stay
    /// closed until the write has its task, so that nobody comes before the write that makes it.
    ///
    /// # Errors
    /// As of a write: no quorum, or the store failed.
    fn ensure_index<'a>(
        &'a self,
        name: &'a IndexUid,
        cx: &'a Context,
    ) -> BoxFuture<'a, Result<(Arc<IndexEntry>, Option<Handover>), Error>>;

    /// Takes back an index that [`ControlPlane::ensure_index`] made, for a write that was not accepted;
    /// it stays if another one was meanwhile. What fails is tried again later.
    fn take_back<'a>(&'a self, entry: &'a Arc<IndexEntry>) -> BoxFuture<'a, ()>;

    /// Makes changes of names that wait for their turn and have this name in them: the task that comes
    /// next is about the index which has the name then.
    ///
    /// # Errors
    /// When the store fails.
    fn settle_names<'a>(&'a self, name: &'a IndexUid) -> BoxFuture<'a, Result<(), Error>>;

    /// Accepts a change of an index that does not exist and is not to be made: a task that failed
    /// with `index_not_found`, as on one node.
    ///
    /// # Errors
    /// When the store fails.
    fn missing_index(&self, change: MissingIndex) -> BoxFuture<'_, Result<Response, Error>>;
}

impl MissingIndex {
    /// A write to documents; `metadata` is the client's `customMetadata`. The details are those one
    /// node shows.
    pub fn write(name: &str, write: &Write, metadata: Option<String>) -> Self {
        let (kind, details) = write.missing_index_details();
        Self { name: name.to_owned(), kind, details: details.as_object().cloned(), metadata }
    }
}
