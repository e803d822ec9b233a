//! Hints of index layers about where a request goes: who gives them, and how binding they are.

use miroir_api::{GroupId, NodeId};

use crate::routing::ShardSet;

/// How binding a hint is. The higher priority wins; of equals the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// The hint is followed where that leaves nothing unanswered.
    Prefer,
    /// The hint is followed or the read fails, unless a `Must` says otherwise.
    Pin,
    /// The hint is followed or the read fails.
    Must,
}

/// One hint: a value, with the layer that gives it and how binding it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint<T> {
    /// The group to read from, or the shards to read.
    pub value: T,
    /// Name of the layer that gives the hint, as explanations show it.
    pub by: &'static str,
    /// How binding the hint is.
    pub priority: Priority,
}

/// A hint that does not count, because another one does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// What the hint was about: `group` or `shards`.
    pub what: &'static str,
    /// Name of the layer whose hint does not count.
    pub by: &'static str,
    /// Name of the layer whose hint counts instead.
    pub winner: &'static str,
}

/// All hints of one request. A `Must` beats a `Prefer` whatever the order of layers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hints {
    /// Group to read from; `None` leaves the choice to the route.
    pub group: Option<Hint<GroupId>>,
    /// The only shards that can match; `None` reads all of them.
    pub shards: Option<Hint<ShardSet>>,
    /// Nodes that are not read from, even if that leaves shards unanswered.
    pub avoid: Vec<NodeId>,
    /// Hints that lost to one of higher priority or to an earlier one, in the order of the
    /// decisions.
    pub conflicts: Vec<Conflict>,
    /// Groups that this request does not read from, because they are reserved for others. Only a
    /// `Must` still reads from one.
    pub excluded: Vec<GroupId>,
}

/// Keeps the hint of higher priority; returns which one loses.
fn keep_stronger<T>(
    slot: &mut Option<Hint<T>>,
    new: Hint<T>,
    what: &'static str,
) -> Option<Conflict> {
    let Some(old) = slot else {
        *slot = Some(new);
        return None;
    };
    let mut loser = new;
    if loser.priority > old.priority {
        std::mem::swap(old, &mut loser);
    }
    Some(Conflict { what, by: loser.by, winner: old.by })
}

impl Hints {
    /// Hints at a group. Of two hints of one priority the first stays; the loser is listed in
    /// `conflicts`.
    pub fn group(&mut self, value: GroupId, by: &'static str, priority: Priority) {
        self.conflicts.extend(keep_stronger(
            &mut self.group,
            Hint { value, by, priority },
            "group",
        ));
    }

    /// Excludes groups from this request: they are reserved for others.
    pub fn exclude(&mut self, groups: impl IntoIterator<Item = GroupId>) {
        self.excluded.extend(groups);
    }

    /// The groups that a read may use, the first choice first. `turn` says whose turn it is among
    /// those that no hint names.
    pub fn order(&self, groups: impl IntoIterator<Item = GroupId>, turn: u64) -> Vec<GroupId> {
        if let Some(hint) = &self.group
            && hint.priority > Priority::Prefer
        {
            return vec![hint.value];
        }
        let mut open: Vec<GroupId> =
            groups.into_iter().filter(|group| !self.excluded.contains(group)).collect();
        let hinted =
            self.group.as_ref().and_then(|hint| open.iter().position(|g| *g == hint.value));
        let first = hinted.unwrap_or_else(|| (turn % open.len().max(1) as u64) as usize);
        open.rotate_left(first);
        open
    }

    /// Narrows the request to some shards.
    pub fn shards(&mut self, value: ShardSet, by: &'static str, priority: Priority) {
        self.conflicts.extend(keep_stronger(
            &mut self.shards,
            Hint { value, by, priority },
            "shards",
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(ids: &[u32]) -> Vec<GroupId> {
        ids.iter().copied().map(GroupId).collect()
    }

    #[test]
    fn excluded_groups_are_read_only_by_a_must() {
        let mut hints = Hints::default();
        assert_eq!(hints.order(groups(&[0, 1, 2]), 4), groups(&[1, 2, 0]));
        hints.exclude([GroupId(0)]);
        // Turns are spread evenly over what is left.
        assert_eq!(hints.order(groups(&[0, 1, 2]), 2), groups(&[1, 2]));
        assert_eq!(hints.order(groups(&[0, 1, 2]), 3), groups(&[2, 1]));
        hints.group(GroupId(2), "tenant_affinity", Priority::Prefer);
        assert_eq!(hints.order(groups(&[0, 1, 2]), 2), groups(&[2, 1]));
        hints.group(GroupId(1), "tenant_affinity", Priority::Pin);
        assert_eq!(hints.order(groups(&[0, 1, 2]), 0), groups(&[1]));
        hints.group(GroupId(0), "session_pinning", Priority::Must);
        assert_eq!(hints.order(groups(&[0, 1, 2]), 1), groups(&[0]));
        hints.group(GroupId(1), "tenant_affinity", Priority::Pin);
        assert_eq!(hints.order(groups(&[0, 1, 2]), 1), groups(&[0]));
    }

    #[test]
    fn where_all_groups_are_excluded_none_is_left() {
        let mut hints = Hints::default();
        hints.exclude(groups(&[0, 1]));
        hints.group(GroupId(0), "tenant_affinity", Priority::Prefer);
        assert!(hints.order(groups(&[0, 1]), 7).is_empty());
        assert!(Hints::default().order([], 7).is_empty());
    }

    #[test]
    fn must_beats_prefer_in_either_order() {
        for swap in [false, true] {
            let mut hints = Hints::default();
            let mut given = [
                (GroupId(1), "tenant_affinity", Priority::Prefer),
                (GroupId(2), "session_pinning", Priority::Must),
            ];
            if swap {
                given.reverse();
            }
            for (group, by, priority) in given {
                hints.group(group, by, priority);
            }
            let hint = hints.group.unwrap();
            assert_eq!((hint.value, hint.by), (GroupId(2), "session_pinning"));
            let lost = Conflict { what: "group", by: "tenant_affinity", winner: "session_pinning" };
            assert_eq!(hints.conflicts, [lost]);
        }
    }
}
