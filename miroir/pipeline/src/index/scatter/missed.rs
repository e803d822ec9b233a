//! Which replicas have to catch up after a write.
//!
//! One rule holds over all of it: every shard keeps a replica that missed nothing, its *authority*,
//! because a replica catches up by copying. So what nobody took for certain, but somebody may have
//! taken, makes one of those who may have taken it the authority, and the others follow.

use miroir_api::{NodeId, ShardId};

use crate::error::{Error, ErrorKind};
use miroir_core::routing::{Placement, ShardSet};
use miroir_core::view::{Stale, StaleKind, StaleMap};

/// What became of a write on one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It has the write in its queue.
    Took,
    /// It never saw the write, or refused it.
    Refused,
    /// The answer was lost.
    Unknown,
}

impl Fate {
    /// What the answers to all calls of a write say.
    pub fn of(sent: &[Result<u32, Error>]) -> Self {
        match sent {
            [] => Self::Refused,
            all if all.iter().all(Result::is_ok) => Self::Took,
            // It was not sent any more.
            [Err(error)] if error.is_deposed() => Self::Refused,
            [Err(error)] => match error.kind() {
                ErrorKind::Verbatim { .. } => Self::Refused,
                ErrorKind::NodeFailed(failure) if !failure.was_sent() => Self::Refused,
                _ => Self::Unknown,
            },
            _ => Self::Unknown,
        }
    }
}

fn row(node: &NodeId, index: &str, shard: Option<ShardId>, kind: StaleKind) -> Stale {
    Stale { node: node.clone(), index: index.to_owned(), shard, kind, generation: 0 }
}

/// Replicas that have to copy shards after a write to documents.
pub fn documents(
    stale: &StaleMap,
    placement: &Placement,
    index: &str,
    touched: &ShardSet,
    fate: impl Fn(&NodeId) -> Fate,
) -> Vec<Stale> {
    let mut rows = Vec::new();
    for shard in touched.iter() {
        let owners: Vec<&NodeId> = placement.write_targets(shard).map(|(_, node)| node).collect();
        let sound = |wanted| {
            owners
                .iter()
                .copied()
                .find(|node| fate(node) == wanted && stale.is_authority(index, node, shard))
        };
        let behind: Vec<&NodeId> = if sound(Fate::Took).is_some() {
            owners.iter().copied().filter(|node| fate(node) != Fate::Took).collect()
        } else if let Some(authority) = sound(Fate::Unknown) {
            owners.iter().copied().filter(|node| *node != authority).collect()
        } else if sound(Fate::Refused).is_some() {
            // It did not happen: whoever has it has to lose it.
            owners.iter().copied().filter(|node| fate(node) != Fate::Refused).collect()
        } else {
            Vec::new()
        };
        rows.extend(behind.into_iter().map(|node| row(node, index, Some(shard), StaleKind::Shard)));
    }
    rows
}

/// Nodes that have to copy settings after a change of settings.
pub fn settings<'a>(
    stale: &StaleMap,
    index: &str,
    nodes: impl Iterator<Item = &'a NodeId>,
    fate: impl Fn(&NodeId) -> Fate,
) -> Vec<Stale> {
    let nodes: Vec<&NodeId> = nodes.collect();
    let sound = |wanted| {
        nodes.iter().copied().find(|node| fate(node) == wanted && !stale.misses_index(index, node))
    };
    let behind: Vec<&NodeId> = if sound(Fate::Took).is_some() {
        nodes.iter().copied().filter(|node| fate(node) != Fate::Took).collect()
    } else if let Some(authority) = sound(Fate::Unknown) {
        nodes.iter().copied().filter(|node| *node != authority).collect()
    } else if sound(Fate::Refused).is_some() {
        nodes.iter().copied().filter(|node| fate(node) != Fate::Refused).collect()
    } else {
        Vec::new()
    };
    behind.into_iter().map(|node| row(node, index, None, StaleKind::Shard)).collect()
}

/// Nodes that have to make or delete the index as a whole: all that did not for certain.
pub fn whole<'a>(
    index: &str,
    kind: StaleKind,
    nodes: impl Iterator<Item = &'a NodeId>,
    fate: impl Fn(&NodeId) -> Fate,
) -> Vec<Stale> {
    nodes.filter(|node| fate(node) != Fate::Took).map(|node| row(node, index, None, kind)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::NodeFailure as F;

    #[test]
    fn a_write_is_refused_only_where_it_certainly_did_not_arrive() {
        let node = NodeId::new("a").unwrap();
        let never = [
            F::Connect,
            F::Overloaded,
            F::RefusedKey,
            F::UnknownNode,
            F::BreakerOpen,
            F::Injected,
            F::NotSent,
            F::NoPeer,
        ];
        for failure in F::ALL {
            let expected = if never.contains(&failure) { Fate::Refused } else { Fate::Unknown };
            assert_eq!(Fate::of(&[Err(Error::node(&node, failure))]), expected, "{failure}");
            // An index is made by several calls: what one of them failed at is not known.
            assert_eq!(Fate::of(&[Ok(1), Err(Error::node(&node, failure))]), Fate::Unknown);
        }
    }
}
