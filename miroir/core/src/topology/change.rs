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
//! back from any phase before that by going on from `copying` with both layouts exchanged, and hardly
//! anything has to be copied.
//!
//! A phase is one of the whole change, not of each shard: a change is complete at one moment, which
//! leaves no mixture of layouts for a roll-back to sort out. Both owners keep a moving shard until then,
//! which takes no more disk than the sources have already and the targets will need.

use serde::{Deserialize, Serialize};

use super::Layout;
use crate::routing::Phase;

/// A change of the layout that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The layout that is to be.
    pub to: Layout,
    /// How far it has come.
    pub phase: Phase,
}
