//! A write as copies see it: its place in the lane, the ids it touches, and how it ended at a node.

use std::sync::Arc;

/// Place of a write in the one order of the writes of an index; the first is 1.
pub type Number = u64;

/// Which ids a write touches.
#[derive(Clone, Debug)]
pub enum Touch {
    /// These.
    Ids {
        /// The ids.
        ids: Arc<[Arc<str>]>,
        /// Whether what the write leaves does not depend on what was there.
        blind: bool,
    },
    /// Any id of the shards it touches.
    Any,
}

/// What became of the calls of a write at a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sent {
    /// They are in its queue under these uids.
    Queued(Vec<u32>),
    /// It never got them, or refused them.
    Missed,
    /// The answer was lost, or a part was refused.
    Unknown,
}

/// How a write ended at a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It took effect.
    Succeeded,
    /// It certainly had no effect.
    Failed,
    /// Either; it is over.
    Unknown,
    /// Either; it may still come.
    Late,
}
