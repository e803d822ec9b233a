//! Names that stand for indexes.
//!
//! A client that asks for an alias is served by the index the alias stands for, reads and writes
//! alike. Flipping it is one step: a request goes to what the name stood for when it came, and one
//! that comes after the flip to what it stands for then.
//!
//! An alias may stand for several indexes. Then it is for reading: a search asks all of them and
//! merges what they find as a federated search does, a document is looked for in one after the
//! other, a list of documents goes through them in order. What cannot be asked of several indexes is
//! refused, and so are changes.
//!
//! Answers name what the client named, where they repeat it (the queries of a multi-search);
//! tasks and documents name the index.
//!
//! # Stage
//! Operation: whatever names an index, and lists of tasks that are chosen by index. Making,
//! renaming, swapping and deleting indexes is about indexes: there an alias is not one.
//!
//! # Order
//! Inside of `authorize`: keys and tenant tokens are about the names that clients use. Inside of
//! `idempotency`.
//!
//! # Context
//! Adds to a search the filter that the search rules of `scope` have for the index behind an alias.
//! Widens `scope`: who may see an alias may see what it stands for, in answers that name it. Writes
//! [`Facts`](miroir_pipeline::explain::Facts) of a search that is to be explained: `alias_resolution`.
//!
//! # Errors
//! 409 `miroir_multi_alias_not_writable`, 400 `miroir_multi_alias_unsupported`.
//!
//! # Metrics
//! `miroir_alias_resolutions_total{alias}`.
//!
//! # Example
//! ```
//! use std::sync::Arc;
//! use miroir_pipeline::Stack;
//! use miroir_pipeline::cluster::aliases::AliasTable;
//! use miroir_layers::operation::{AliasLayer, AuthorizeLayer};
//!
//! let table = Arc::new(AliasTable::default());
//! let stack = Stack::<miroir_pipeline::operation::Request>::new()
//!     .push(AuthorizeLayer::default())
//!     .push(AliasLayer::new(table));
//! assert_eq!(stack.describe().layers, ["authorize", "alias"]);
//! ```

mod layer;
mod many;
mod names;
#[cfg(test)]
mod tests;

use miroir_core::options::{Capability, Validate};
use serde::{Deserialize, Serialize};

pub use layer::AliasLayer;

/// `aliases`: whether there are any, and what may be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AliasOptions {
    /// Whether names are looked up among aliases. True by default.
    pub enabled: bool,
    /// How many of the things an alias stood for before are kept. 10 by default.
    pub history_retention: usize,
    /// Whether an alias may only stand for indexes that exist. True by default.
    pub require_target_exists: bool,
}

impl Default for AliasOptions {
    fn default() -> Self {
        Self { enabled: true, history_retention: 10, require_target_exists: true }
    }
}

impl Validate for AliasOptions {}

impl Capability for AliasOptions {
    fn enabled(&self) -> bool {
        self.enabled
    }
}
