//! What a node is for, how it is doing, and what both come to.

use std::fmt;

use miroir_api::NodeId;
use serde::{Deserialize, Serialize};

/// What a node is for. Operators decide it, and no health check changes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Intent {
    /// New: takes writes while its shards are copied to it, answers no reads.
    Joining,
    /// Takes reads and writes.
    #[default]
    Active,
    /// In use until its shards have been copied elsewhere.
    Draining,
    /// Without shards: it can be removed.
    Drained,
}

/// How a node is doing, as this process sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Health {
    /// It answers.
    #[default]
    Well,
    /// It answers slowly, or not always.
    Degraded,
    /// It does not answer: reads and writes plan around it.
    Failed,
}

/// Intent and health in one word, as operators see it. The first that holds: `failed`, `joining`,
/// `draining` or `drained`, `degraded`, `active`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeStatus {
    /// [`Intent::Joining`], and not failed.
    Joining,
    /// [`Intent::Active`] and [`Health::Well`].
    Active,
    /// [`Intent::Active`] and [`Health::Degraded`].
    Degraded,
    /// [`Intent::Draining`], and not failed.
    Draining,
    /// [`Intent::Drained`], and not failed.
    Drained,
    /// [`Health::Failed`].
    Failed,
}

/// What health checks find out about a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeEvent {
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
    /// What intent and health come to.
    #[must_use]
    pub fn of(intent: Intent, health: Health) -> Self {
        match (intent, health) {
            (_, Health::Failed) => Self::Failed,
            (Intent::Joining, _) => Self::Joining,
            (Intent::Draining, _) => Self::Draining,
            (Intent::Drained, _) => Self::Drained,
            (Intent::Active, Health::Degraded) => Self::Degraded,
            (Intent::Active, Health::Well) => Self::Active,
        }
    }

    /// The status as the admin API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Joining => "joining",
            Self::Active => "active",
            Self::Degraded => "degraded",
            Self::Draining => "draining",
            Self::Failed => "failed",
            Self::Drained => "drained",
        }
    }
}

impl Health {
    /// The health after an event; `None` if the event is refused.
    ///
    /// | from | event | to |
    /// | --- | --- | --- |
    /// | well, failed | suspect | degraded |
    /// | well, degraded | fail | failed |
    /// | failed, degraded | recover | well |
    pub(super) fn after(self, event: NodeEvent) -> Option<Self> {
        match (self, event) {
            (Self::Well | Self::Failed, NodeEvent::Suspect) => Some(Self::Degraded),
            (Self::Well | Self::Degraded, NodeEvent::Fail) => Some(Self::Failed),
            (Self::Failed | Self::Degraded, NodeEvent::Recover) => Some(Self::Well),
            _ => None,
        }
    }
}

impl fmt::Display for NodeStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl NodeEvent {
    /// The event as log lines and errors write it.
    pub fn as_str(self) -> &'static str {
        match self {
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
