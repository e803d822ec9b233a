//! Which replicas have to catch up after a write.
//!
//! One rule holds over all of it: every shard keeps a replica that missed nothing, its *authority*,
//! because a replica catches up by copying. So what nobody took for certain, but somebody may have
//! taken, makes one of those who may have taken it the authority, and the others follow.

use miroir_api::NodeId;

use crate::error::{Error, ErrorKind};
use miroir_core::copying::Sent;
use miroir_core::routing::{Placement, ShardSet};
use miroir_core::view::{CatchUp, StaleMap, StaleReplica};

/// What became of a write on one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteOutcome {
    /// It has the write in its queue.
    Accepted,
    /// It never saw the write, or refused it.
    Rejected,
    /// The answer was lost.
    Unknown,
}

impl WriteOutcome {
    /// What the answers to all calls of a write say.
    pub fn of(sent: &[Result<u32, Error>]) -> Self {
        match sent {
            [] => Self::Rejected,
            all if all.iter().all(Result::is_ok) => Self::Accepted,
            // It was not sent any more.
            [Err(error)] if error.is_deposed() => Self::Rejected,
            [Err(error)] => match error.kind() {
                ErrorKind::Verbatim { .. } => Self::Rejected,
                ErrorKind::NodeFailed(failure) if !failure.was_sent() => Self::Rejected,
                _ => Self::Unknown,
            },
            _ => Self::Unknown,
        }
    }

    /// The same for two calls of a write: what came of one alone is of both unknown.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        if self == other { self } else { Self::Unknown }
    }

    /// The same, as copies of the index want to know it.
    pub fn for_journal(sent: &[Result<u32, Error>]) -> Sent {
        match Self::of(sent) {
            Self::Accepted => Sent::Queued(sent.iter().flatten().copied().collect()),
            Self::Rejected => Sent::Missed,
            Self::Unknown => Sent::Unknown,
        }
    }
}

/// Replicas that have to copy shards after a write to documents.
pub fn documents(
    stale: &StaleMap,
    placement: &Placement,
    index: &str,
    touched: &ShardSet,
    outcome_of: impl Fn(&NodeId) -> WriteOutcome,
) -> Vec<StaleReplica> {
    let mut rows = Vec::new();
    for shard in touched.iter() {
        let owners: Vec<&NodeId> = placement.write_targets(shard).map(|(_, node)| node).collect();
        let sound = |wanted| {
            owners
                .iter()
                .copied()
                .find(|node| outcome_of(node) == wanted && stale.is_authority(index, node, shard))
        };
        let behind: Vec<&NodeId> = if sound(WriteOutcome::Accepted).is_some() {
            owners
                .iter()
                .copied()
                .filter(|node| outcome_of(node) != WriteOutcome::Accepted)
                .collect()
        } else if let Some(authority) = sound(WriteOutcome::Unknown) {
            owners.iter().copied().filter(|node| *node != authority).collect()
        } else if sound(WriteOutcome::Rejected).is_some() {
            // It did not happen: whoever has it has to lose it.
            owners
                .iter()
                .copied()
                .filter(|node| outcome_of(node) != WriteOutcome::Rejected)
                .collect()
        } else {
            Vec::new()
        };
        rows.extend(
            behind
                .into_iter()
                .map(|node| StaleReplica::new(node, index, Some(shard), CatchUp::Shard)),
        );
    }
    rows
}

/// Nodes that have to copy settings after a change of settings.
pub fn settings<'a>(
    stale: &StaleMap,
    index: &str,
    nodes: impl Iterator<Item = &'a NodeId>,
    outcome_of: impl Fn(&NodeId) -> WriteOutcome,
) -> Vec<StaleReplica> {
    let nodes: Vec<&NodeId> = nodes.collect();
    let sound = |wanted| {
        nodes
            .iter()
            .copied()
            .find(|node| outcome_of(node) == wanted && !stale.misses_index(index, node))
    };
    let behind: Vec<&NodeId> = if sound(WriteOutcome::Accepted).is_some() {
        nodes.iter().copied().filter(|node| outcome_of(node) != WriteOutcome::Accepted).collect()
    } else if let Some(authority) = sound(WriteOutcome::Unknown) {
        nodes.iter().copied().filter(|node| *node != authority).collect()
    } else if sound(WriteOutcome::Rejected).is_some() {
        nodes.iter().copied().filter(|node| outcome_of(node) != WriteOutcome::Rejected).collect()
    } else {
        Vec::new()
    };
    behind.into_iter().map(|node| StaleReplica::new(node, index, None, CatchUp::Shard)).collect()
}

/// Nodes that have to make or delete the index as a whole: all that did not for certain.
pub fn whole<'a>(
    index: &str,
    kind: CatchUp,
    nodes: impl Iterator<Item = &'a NodeId>,
    outcome_of: impl Fn(&NodeId) -> WriteOutcome,
) -> Vec<StaleReplica> {
    nodes
        .filter(|node| outcome_of(node) != WriteOutcome::Accepted)
        .map(|node| StaleReplica::new(node, index, None, kind))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::NodeFailure as F;

    #[test]
    fn a_write_is_rejected_only_where_it_certainly_did_not_arrive() {
        let node = NodeId::new("a").unwrap();
        let never = [
            F::Connect,
            F::Overloaded,
            F::RefusedKey,
            F::UnknownNode,
            F::BreakerOpen,
            F::Expired,
            F::Injected,
            F::NotSent,
            F::NoPeer,
        ];
        for failure in F::ALL {
            let expected = if never.contains(&failure) {
                WriteOutcome::Rejected
            } else {
                WriteOutcome::Unknown
            };
            assert_eq!(
                WriteOutcome::of(&[Err(Error::node(&node, failure))]),
                expected,
                "{failure}"
            );
            // An index is made by several calls: what one of them failed at is not known.
            assert_eq!(
                WriteOutcome::of(&[Ok(1), Err(Error::node(&node, failure))]),
                WriteOutcome::Unknown
            );
        }
    }
}
