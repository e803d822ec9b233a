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

/// Who of some owners has to copy from another one after a write: all whose outcome is unlike that of
/// an authority.
///
/// The first of these that is there decides: one that has the write; one that has not, for certain,
/// and can be asked, so that whoever may have it loses it; one that may have it; one that has not.
/// `is_doubted` tells who may have got something that others have not. Such a one decides nothing where
/// another one is as it was before the write.
fn behind<'a>(
    owners: &[&'a NodeId],
    is_sound: impl Fn(&NodeId) -> bool,
    is_available: impl Fn(&NodeId) -> bool,
    is_doubted: impl Fn(&NodeId) -> bool,
    outcome_of: impl Fn(&NodeId) -> WriteOutcome,
) -> Vec<&'a NodeId> {
    use WriteOutcome::{Accepted, Rejected, Unknown};
    let all = || owners.iter().copied();
    let is_as_before =
        |node: &NodeId| outcome_of(node) == Rejected && is_sound(node) && !is_doubted(node);
    let others_decide = all().any(is_as_before);
    let is_authority = |node: &NodeId| is_sound(node) && !(others_decide && is_doubted(node));
    let sound = |wanted| {
        let sound = all().filter(|node| outcome_of(node) == wanted && is_authority(node));
        sound.collect::<Vec<_>>()
    };
    let unlike = |wanted| all().filter(|node| outcome_of(node) != wanted).collect();
    let without = sound(Rejected);
    if !sound(Accepted).is_empty() {
        unlike(Accepted)
    } else if without.iter().any(|node| is_available(node)) {
        unlike(Rejected)
    } else if let Some(authority) = sound(Unknown).first() {
        // What it has in the end is what was written.
        all().filter(|node| node != authority).collect()
    } else if !without.is_empty() {
        unlike(Rejected)
    } else {
        Vec::new()
    }
}

/// Replicas that have to copy shards after a write to documents. `is_available` tells which nodes can
/// be asked now; `is_doubted` which may have got something that others have not, none where the write
/// was acknowledged, or may have been: it stays then.
pub fn documents(
    stale: &StaleMap,
    placement: &Placement,
    index: &str,
    touched: &ShardSet,
    is_available: impl Fn(&NodeId) -> bool,
    is_doubted: impl Fn(&NodeId) -> bool,
    outcome_of: impl Fn(&NodeId) -> WriteOutcome,
) -> Vec<StaleReplica> {
    let mut rows = Vec::new();
    for shard in touched.iter() {
        let owners: Vec<&NodeId> = placement.write_targets(shard).map(|(_, node)| node).collect();
        let is_sound = |node: &NodeId| stale.is_authority(index, node, shard);
        let behind = behind(&owners, is_sound, &is_available, &is_doubted, &outcome_of);
        let row = |node| StaleReplica::new(node, index, Some(shard), CatchUp::Shard);
        rows.extend(behind.into_iter().map(row));
    }
    rows
}

/// Which of some nodes have a say in what an index's settings are: those that missed none of them, and of
/// these only the ones that are read, where there are any. A node without shards is left, removed or
/// filled anew at any time: what it alone knows is lost then.
pub fn with_a_say<'a>(
    stale: &'a StaleMap,
    placement: &'a Placement,
    index: &'a str,
    mut nodes: impl Iterator<Item = &'a NodeId>,
) -> impl Fn(&NodeId) -> bool {
    let is_sound = move |node: &NodeId| !stale.misses_index(index, node);
    let read = nodes.any(|node| is_sound(node) && placement.is_read(node));
    move |node| is_sound(node) && (!read || placement.is_read(node))
}

/// Nodes that have to copy settings after a change of settings; see [`documents`] and [`with_a_say`].
pub fn settings<'a>(
    stale: &StaleMap,
    placement: &Placement,
    index: &str,
    nodes: impl Iterator<Item = &'a NodeId>,
    is_available: impl Fn(&NodeId) -> bool,
    is_doubted: impl Fn(&NodeId) -> bool,
    outcome_of: impl Fn(&NodeId) -> WriteOutcome,
) -> Vec<StaleReplica> {
    let nodes: Vec<&NodeId> = nodes.collect();
    let is_sound = with_a_say(stale, placement, index, nodes.iter().copied());
    behind(&nodes, is_sound, is_available, is_doubted, outcome_of)
        .into_iter()
        .map(|node| StaleReplica::new(node, index, None, CatchUp::Shard))
        .collect()
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
    use miroir_api::ShardId;

    use super::*;
    use crate::error::NodeFailure as F;

    #[test]
    fn a_write_is_rejected_only_where_it_certainly_did_not_arrive() {
        let node = NodeId::new("a").unwrap();
        let never = [
            F::Connect,
            F::Unproven,
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
            let expected = if never.contains(&failure) || matches!(failure, F::Tls(_)) {
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

    #[test]
    fn who_may_have_a_write_that_nobody_took_copies_from_one_that_has_not_and_can_be_asked() {
        use WriteOutcome::{Accepted, Rejected, Unknown};
        let names = ["a", "b", "c"].map(|name| NodeId::new(name).unwrap());
        let behind = |outcomes: [WriteOutcome; 3], sound: &str, available: &str| {
            let at = |node: &NodeId| names.iter().position(|name| name == node).unwrap();
            let owners: Vec<&NodeId> = names.iter().collect();
            let (is_sound, is_there) = (
                |node: &NodeId| sound.contains(node.as_str()),
                |node: &NodeId| available.contains(node.as_str()),
            );
            let found = behind(&owners, is_sound, is_there, |_| false, |node| outcomes[at(node)]);
            found.into_iter().map(NodeId::as_str).collect::<String>()
        };
        assert_eq!(behind([Accepted, Unknown, Rejected], "abc", "abc"), "bc");
        assert_eq!(behind([Unknown, Rejected, Rejected], "abc", "bc"), "a");
        // None that has not can be asked: what the other one has decides.
        assert_eq!(behind([Unknown, Rejected, Rejected], "abc", "a"), "bc");
        assert_eq!(behind([Unknown, Rejected, Unknown], "b", ""), "ac");
        // An authority never copies from one that missed something before.
        assert_eq!(behind([Accepted, Unknown, Rejected], "b", "abc"), "ac");
        assert_eq!(behind([Accepted, Unknown, Rejected], "", "abc"), "");
    }

    #[test]
    fn who_is_in_doubt_does_not_decide_where_a_sound_one_is_as_it_was() {
        use WriteOutcome::{Accepted, Rejected};
        let names = ["a", "b", "c"].map(|name| NodeId::new(name).unwrap());
        let (placement, all) = (Placement::new(&[names.to_vec()], 3, 1), ShardSet::full(1));
        let behind = |outcomes: [WriteOutcome; 3], missed: &[usize], doubted: &str| {
            let in_shard = |shard: Option<ShardId>| {
                let row =
                    |at: &usize| StaleReplica::new(&names[*at], "films", shard, CatchUp::Shard);
                StaleMap::new(missed.iter().map(row).collect())
            };
            let is_doubted = |node: &NodeId| doubted.contains(node.as_str());
            let outcome_of =
                |node: &NodeId| outcomes[names.iter().position(|name| name == node).unwrap()];
            let nodes = |rows: Vec<StaleReplica>| {
                let mut nodes: Vec<String> = rows.iter().map(|row| row.node.to_string()).collect();
                nodes.sort_unstable();
                nodes.concat()
            };
            let (of_shard, of_index) = (in_shard(Some(ShardId(0))), in_shard(None));
            let away = |_: &NodeId| false;
            let documents = nodes(documents(
                &of_shard, &placement, "films", &all, away, is_doubted, outcome_of,
            ));
            let settings = nodes(settings(
                &of_index,
                &placement,
                "films",
                names.iter(),
                away,
                is_doubted,
                outcome_of,
            ));
            assert_eq!(documents, settings);
            documents
        };
        let outcomes = [Rejected, Accepted, Accepted];
        assert_eq!(behind(outcomes, &[1], ""), "a");
        assert_eq!(behind(outcomes, &[1], "c"), "bc");
        // Where others took it, these decide; where nobody else is sound, it does.
        assert_eq!(behind([Accepted; 3], &[], "c"), "");
        assert_eq!(behind(outcomes, &[0, 1], "c"), "a");
        assert_eq!(behind(outcomes, &[1], "ac"), "a");
        assert_eq!(behind(outcomes, &[], "c"), "a");
    }

    #[test]
    fn who_is_not_read_has_no_say_in_settings_while_somebody_who_is_missed_none() {
        use WriteOutcome::{Accepted, Rejected, Unknown};
        let names = ["a", "b", "c"].map(|name| NodeId::new(name).unwrap());
        // `c` has no shards.
        let placement = Placement::new(&[names[..2].to_vec()], 2, 6);
        let behind = |outcomes: [WriteOutcome; 3], missed: &[usize], available: &str| {
            let row = |at: &usize| StaleReplica::new(&names[*at], "films", None, CatchUp::Shard);
            let stale = StaleMap::new(missed.iter().map(row).collect());
            let is_there = |node: &NodeId| available.contains(node.as_str());
            let outcome_of =
                |node: &NodeId| outcomes[names.iter().position(|name| name == node).unwrap()];
            let nodes = names.iter();
            let rows =
                settings(&stale, &placement, "films", nodes, is_there, |_| false, outcome_of);
            rows.iter().map(|row| row.node.as_str()).collect::<String>()
        };
        assert_eq!(behind([Rejected, Rejected, Accepted], &[], "abc"), "c");
        assert_eq!(behind([Unknown, Rejected, Accepted], &[], "ac"), "bc");
        assert_eq!(behind([Accepted, Rejected, Rejected], &[], "abc"), "bc");
        assert_eq!(behind([Rejected, Accepted, Accepted], &[1], "abc"), "bc");
        // Nobody else is left to copy from.
        assert_eq!(behind([Rejected, Accepted, Accepted], &[0, 1], "abc"), "a");
    }
}
