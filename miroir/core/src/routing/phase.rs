//! How far the owners of shards have changed.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How far a change has come. Ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// New nodes are members and get what every node has: indexes, settings, rules. No documents.
    Announced,
    /// Owners after the change are written, and documents are copied to them.
    Copying,
    /// Owners after the change are read, and decide on writes. Those before it are written still.
    Switched,
    /// Owners before the change are not written any more; what they have of its shards is deleted.
    Retiring,
}

impl Phase {
    /// The phase as the admin API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Announced => "announced",
            Self::Copying => "copying",
            Self::Switched => "switched",
            Self::Retiring => "retiring",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
