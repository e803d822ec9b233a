//! The states of a node and what moves it between them.

use std::fmt;

use miroir_api::NodeId;
use serde::{Deserialize, Serialize};

/// What a node is used for.
///
/// | from | event | to |
/// | --- | --- | --- |
/// | joining | joined | active |
/// | active | drain | draining |
/// | draining | migration done | removed |
/// | active, failed | suspect | degraded |
/// | joining, active, degraded, draining | fail | failed |
/// | failed, degraded | recover | active |
///
/// Everything else is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeStatus {
    /// New; takes writes while its shards are copied to it, answers no reads.
    Joining,
    /// Takes reads and writes.
    Active,
    /// Answers, but slowly or not always.
    Degraded,
    /// In use until its shards have been copied elsewhere.
    Draining,
    /// Does not answer: reads and writes plan around it.
    Failed,
    /// Gone for good; stays listed until the topology is built without it.
    Removed,
}

/// What can happen to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeEvent {
    /// A new node holds everything it owns.
    Joined,
    /// An operator wants the node gone.
    Drain,
    /// A draining node's shards are all elsewhere.
    MigrationDone,
    /// Partial health: timeouts, but not a full disconnect.
    Suspect,
    /// The node does not answer.
    Fail,
    /// The node is healthy again.
    Recover,
}

/// An event that a node cannot take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IllegalTransition {
    /// The event means nothing in this state.
    #[error("a node that is {from} cannot take the event {event}")]
    Refused {
        /// The state the node is and stays in.
        from: NodeStatus,
        /// The event.
        event: NodeEvent,
    },
    /// The topology has no such node.
    #[error("there is no node {node} to take the event {event}")]
    UnknownNode {
        /// Id that no node of the topology has.
        node: NodeId,
        /// The event.
        event: NodeEvent,
    },
}

impl NodeStatus {
    /// The status as the admin API and the store write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Joining => "joining",
            Self::Active => "active",
            Self::Degraded => "degraded",
            Self::Draining => "draining",
            Self::Failed => "failed",
            Self::Removed => "removed",
        }
    }

    /// The status after an event; see the table above.
    ///
    /// # Errors
    /// [`IllegalTransition::Refused`] when the table has no such line.
    pub fn apply(self, event: NodeEvent) -> Result<Self, IllegalTransition> {
        use NodeEvent as On;
        match (self, event) {
            (Self::Joining, On::Joined) => Ok(Self::Active),
            (Self::Active, On::Drain) => Ok(Self::Draining),
            (Self::Draining, On::MigrationDone) => Ok(Self::Removed),
            (Self::Active | Self::Failed, On::Suspect) => Ok(Self::Degraded),
            (Self::Joining | Self::Active | Self::Degraded | Self::Draining, On::Fail) => {
                Ok(Self::Failed)
            }
            (Self::Failed | Self::Degraded, On::Recover) => Ok(Self::Active),
            (from, event) => Err(IllegalTransition::Refused { from, event }),
        }
    }

    /// Whether reads may go to the node. Whether a shard on it is up to date is another question.
    pub fn is_readable(self) -> bool {
        matches!(self, Self::Active | Self::Degraded | Self::Draining)
    }

    /// Whether writes go to the node. A draining node still owns its shards and takes their
    /// writes. A failed node gets none: each write it misses is recorded and caught up before the
    /// node is read again.
    pub fn is_writable(self) -> bool {
        self == Self::Joining || self.is_readable()
    }
}

impl fmt::Display for NodeStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl NodeEvent {
    /// The event as the admin API and the store write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Joined => "joined",
            Self::Drain => "drain",
            Self::MigrationDone => "migration_done",
            Self::Suspect => "suspect",
            Self::Fail => "fail",
            Self::Recover => "recover",
        }
    }
}

impl fmt::Display for NodeEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
