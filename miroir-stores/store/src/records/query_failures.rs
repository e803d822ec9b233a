//! Queries over which nodes broke off, as pods tell each other.

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use miroir_api::NodeId;
use serde::{Deserialize, Serialize};

use super::{Signal, Typed};
use crate::{StoreError, StoreFuture};

/// The channel.
const FAILURES: &str = "query_failures";

/// A node broke off over a query, or did not answer it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryFailure {
    /// What the query is known by: the same in every pod, and nothing that shows what it asks.
    pub query: String,
    /// Which node.
    pub node: NodeId,
    /// How much that says against the query, in points.
    pub points: u32,
    /// Whether the node ran out of time, and its connection did not break.
    pub timeout: bool,
    /// Who says so: a number that each chooses for itself.
    pub by: u64,
}

/// What pods tell each other of queries that nodes do not survive. It is not kept: who does not listen
/// does not hear of it.
pub trait QueryFailures: Send + Sync + std::fmt::Debug {
    /// Tells all that listen, oneself included.
    fn say(&self, failure: QueryFailure) -> StoreFuture<'_, ()>;
    /// What is told from now on, until the stream is dropped.
    fn listen(&self) -> BoxStream<'static, QueryFailure>;
}

impl QueryFailures for Typed {
    fn say(&self, failure: QueryFailure) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            let text = serde_json::to_string(&failure);
            let text = text.map_err(|error| StoreError::Backend(error.into()))?;
            self.signals.say(FAILURES, &text).await
        })
    }

    fn listen(&self) -> BoxStream<'static, QueryFailure> {
        let heard = self.signals.listen(FAILURES).filter_map(async |signal| match signal {
            // What a pod of another version says is nothing to this one.
            Signal::Said(text) => serde_json::from_str(&text).ok(),
            Signal::Gap => None,
        });
        heard.boxed()
    }
}
