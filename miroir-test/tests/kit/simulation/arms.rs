//! Which faults and actors a run may have.
//!
//! Each is an *arm*. All are on; `MIROIR_SIM_ARMS=only:late send,at once` leaves those that it names.

use std::collections::BTreeSet;

/// A fault or an actor, by name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arm {
    /// Its name.
    pub(super) name: &'static str,
    /// What it is there to find.
    pub(super) finds: &'static str,
}

const fn arm(name: &'static str, finds: &'static str) -> Arm {
    Arm { name, finds }
}

/// Arms of node faults, at most one in a run, so that it is clear what may be expected of it.
pub(super) static NODES: [Arm; 8] = [
    arm("full disk", "tasks that fail on one replica alone, which is read all the same"),
    arm("forgotten tasks", "tasks that are unknown and taken for lost or failed"),
    arm("slow tasks", "writes that expire behind a repair, unsent, and demote replicas"),
    arm("body limit", "copies whose pages no node takes"),
    arm("hung node", "writes that wait for the slowest replica"),
    arm("swapped disks", "a node with another node's disk"),
    arm("old disk", "a node with an older copy of its disk"),
    arm("foreign writer", "a node that somebody else writes to"),
];

/// Arms of the process, or of several pods.
pub(super) static PROCESSES: [Arm; 4] = [
    arm("late send", "a call of a process that has ended, which arrives after others"),
    arm("clock skew", "rules that compare the times of two processes"),
    arm("store goes back", "a store that is older than its nodes"),
    arm("moves", "shards that are read, or not written, before or after their time"),
];

/// Arms of actors.
pub(super) static ACTORS: [Arm; 3] = [
    arm("in turn", "operations on indexes, one after the other"),
    arm("at once", "operations on one index that overlap"),
    arm("cancelations", "names that changed before what they come after was canceled"),
];

/// The arms of a list that are on now.
pub(super) fn on(all: &'static [Arm]) -> impl Iterator<Item = &'static Arm> {
    let told = std::env::var("MIROIR_SIM_ARMS").unwrap_or_default();
    let only = told.strip_prefix("only:").map(|names| names.split(',').map(str::trim).collect());
    let only: Option<BTreeSet<&str>> = only;
    let on = |arm: &&Arm| only.as_ref().is_none_or(|names| names.contains(arm.name));
    all.iter().filter(on).collect::<Vec<_>>().into_iter()
}
