//! A change of the layout: from one list of nodes to another, in phases of which each is safe by itself.
//!
//! Shards that both layouts place alike are not touched. For all others, phase by phase:
//!
//! | phase | written | read, and counted for quorum | may have documents |
//! | --- | --- | --- | --- |
//! | announced | before | before | both |
//! | copying | both | both | both |
//! | switched | both | after | both |
//! | retiring | after | after | both |
//!
//! *Before* and *after* are the owners by the layouts. Owners that are new are on record as stale when
//! copying begins, so they are neither read nor counted before they have everything: a replica that
//! moves is one that missed writes, and is repaired like any other.
//!
//! A phase begins when every pod knows it and no request of the phase before it is under way: so
//! documents come to a node only when everybody narrows what it asks of it, and owners before the change
//! stop being written only when nobody reads them any more, and whatever was acknowledged is on those
//! after it. The layout that a change comes from is complete until the change retires. So it is taken
//! back from any phase before that by going on from `switched` with both layouts exchanged, and nothing
//! has to be copied.
//!
//! A phase is one of the whole change, not of each shard: a change is complete at one moment, which
//! leaves no mixture of layouts for a roll-back to sort out. Both owners keep a moving shard until then,
//! which takes no more disk than the sources have already and the targets will need.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Layout;

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

/// A change of the layout that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The layout that is to be.
    pub to: Layout,
    /// How far it has come.
    pub phase: Phase,
}
