//! Wishes of index layers about where a request goes, with who asked and how strongly.

use miroir_api::{GroupId, NodeId};

use crate::routing::ShardSet;

/// How binding a wish is. A stronger one wins; of equals the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Strength {
    /// The wish is followed where that leaves nothing unanswered.
    Prefer,
    /// The wish is followed or the read fails, unless a `Must` says otherwise.
    Pin,
    /// The wish is followed or the read fails.
    Must,
}

/// One wish: a value, with the layer that has it and how binding it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask<T> {
    /// The group to read from, or the shards to read.
    pub value: T,
    /// Name of the layer that has the wish, as explanations show it.
    pub by: &'static str,
    /// How binding the wish is.
    pub strength: Strength,
}

/// A wish that does not count, because another one does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overruled {
    /// What was wished: `group` or `shards`.
    pub what: &'static str,
    /// Name of the layer whose wish does not count.
    pub by: &'static str,
    /// Name of the layer whose wish counts instead.
    pub winner: &'static str,
}

/// All wishes of one request. A `Must` beats a `Prefer` whatever the order of layers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hints {
    /// Group to read from; `None` leaves the choice to the route.
    pub group: Option<Ask<GroupId>>,
    /// The only shards that can match; `None` reads all of them.
    pub shards: Option<Ask<ShardSet>>,
    /// Nodes that are not read from, even if that leaves shards unanswered.
    pub avoid: Vec<NodeId>,
    /// Wishes that lost to a stronger or earlier one, in the order in which that was decided.
    pub overruled: Vec<Overruled>,
    /// Groups that this request does not read from, because they are reserved for others. Only a
    /// `Must` still reads from one.
    pub barred: Vec<GroupId>,
}

/// Keeps the stronger wish; returns which one loses.
fn ask<T>(slot: &mut Option<Ask<T>>, new: Ask<T>, what: &'static str) -> Option<Overruled> {
    let Some(old) = slot else {
        *slot = Some(new);
        return None;
    };
    let mut loser = new;
    if loser.strength > old.strength {
        std::mem::swap(old, &mut loser);
    }
    Some(Overruled { what, by: loser.by, winner: old.by })
}

impl Hints {
    /// Wishes for a group. The first of two equally strong wishes stays; the loser is listed in
    /// `overruled`.
    pub fn group(&mut self, value: GroupId, by: &'static str, strength: Strength) {
        self.overruled.extend(ask(&mut self.group, Ask { value, by, strength }, "group"));
    }

    /// Excludes groups from this request: they are reserved for others.
    pub fn bar(&mut self, groups: impl IntoIterator<Item = GroupId>) {
        self.barred.extend(groups);
    }

    /// The groups that a read may use, the first choice first. `turn` says whose turn it is among
    /// those nobody wished for.
    pub fn order(&self, groups: impl IntoIterator<Item = GroupId>, turn: u64) -> Vec<GroupId> {
        if let Some(ask) = &self.group
            && ask.strength > Strength::Prefer
        {
            return vec![ask.value];
        }
        let mut open: Vec<GroupId> =
            groups.into_iter().filter(|group| !self.barred.contains(group)).collect();
        let wished = self.group.as_ref().and_then(|a| open.iter().position(|g| *g == a.value));
        let first = wished.unwrap_or_else(|| (turn % open.len().max(1) as u64) as usize);
        open.rotate_left(first);
        open
    }

    /// Narrows the request to some shards.
    pub fn shards(&mut self, value: ShardSet, by: &'static str, strength: Strength) {
        self.overruled.extend(ask(&mut self.shards, Ask { value, by, strength }, "shards"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(ids: &[u32]) -> Vec<GroupId> {
        ids.iter().copied().map(GroupId).collect()
    }

    #[test]
    fn barred_groups_are_in_no_order_unless_somebody_must() {
        let mut hints = Hints::default();
        assert_eq!(hints.order(groups(&[0, 1, 2]), 4), groups(&[1, 2, 0]));
        hints.bar([GroupId(0)]);
        // Turns are spread evenly over what is left.
        assert_eq!(hints.order(groups(&[0, 1, 2]), 2), groups(&[1, 2]));
        assert_eq!(hints.order(groups(&[0, 1, 2]), 3), groups(&[2, 1]));
        hints.group(GroupId(2), "tenant_affinity", Strength::Prefer);
        assert_eq!(hints.order(groups(&[0, 1, 2]), 2), groups(&[2, 1]));
        hints.group(GroupId(1), "tenant_affinity", Strength::Pin);
        assert_eq!(hints.order(groups(&[0, 1, 2]), 0), groups(&[1]));
        hints.group(GroupId(0), "session_pinning", Strength::Must);
        assert_eq!(hints.order(groups(&[0, 1, 2]), 1), groups(&[0]));
        hints.group(GroupId(1), "tenant_affinity", Strength::Pin);
        assert_eq!(hints.order(groups(&[0, 1, 2]), 1), groups(&[0]));
    }

    #[test]
    fn where_all_are_barred_there_is_none() {
        let mut hints = Hints::default();
        hints.bar(groups(&[0, 1]));
        hints.group(GroupId(0), "tenant_affinity", Strength::Prefer);
        assert!(hints.order(groups(&[0, 1]), 7).is_empty());
        assert!(Hints::default().order([], 7).is_empty());
    }

    #[test]
    fn must_beats_prefer_in_either_order() {
        for swap in [false, true] {
            let mut hints = Hints::default();
            let mut asks = [
                (GroupId(1), "tenant_affinity", Strength::Prefer),
                (GroupId(2), "session_pinning", Strength::Must),
            ];
            if swap {
                asks.reverse();
            }
            for (group, by, strength) in asks {
                hints.group(group, by, strength);
            }
            let ask = hints.group.unwrap();
            assert_eq!((ask.value, ask.by), (GroupId(2), "session_pinning"));
            let lost =
                Overruled { what: "group", by: "tenant_affinity", winner: "session_pinning" };
            assert_eq!(hints.overruled, [lost]);
        }
    }
}
