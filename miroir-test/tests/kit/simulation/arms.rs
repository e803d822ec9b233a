//! Which faults and actors a run may have.
//!
//! Each is an *arm*. An arm is on by default once the cluster keeps its promises under it; one that is
//! off finds a fault that is still there, named beside it. `MIROIR_SIM_ARMS` names arms that are on as
//! well, separated by commas, or `all`; with `only:` before them nothing else is special.

/// A fault or an actor, by name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arm {
    /// Its name.
    pub(super) name: &'static str,
    /// Whether it is on by default.
    pub(super) on: bool,
    /// What it is there to find.
    pub(super) finds: &'static str,
}

const fn arm(name: &'static str, on: bool, finds: &'static str) -> Arm {
    Arm { name, on, finds }
}

/// Arms of node faults, at most one in a run, so that it is clear what may be expected of it.
pub(super) static NODES: [Arm; 8] = [
    arm("full disk", true, "tasks that fail on one replica alone, which is read all the same"),
    arm("forgotten tasks", true, "tasks that are unknown and taken for lost or failed"),
    arm("slow tasks", true, "writes that expire behind a repair, unsent, and demote replicas"),
    arm("body limit", true, "copies whose pages no node takes"),
    arm("hung node", true, "writes that wait for the slowest replica"),
    arm("swapped disks", true, "a node with another node's disk"),
    arm("old disk", true, "a node with an older copy of its disk"),
    arm("foreign writer", true, "a node that somebody else writes to"),
];

/// Arms of the process, or of several pods.
pub(super) static PROCESSES: [Arm; 3] = [
    arm("late send", true, "a call of a process that has ended, which arrives after others"),
    arm("clock skew", true, "rules that compare the times of two processes"),
    arm("store goes back", true, "a store that is older than its nodes"),
];

/// Arms of actors.
pub(super) static ACTORS: [Arm; 3] = [
    arm("in turn", true, "operations on indexes, one after the other"),
    arm("at once", true, "operations on one index that overlap"),
    arm("cancelations", true, "names that changed before what they come after was canceled"),
];

/// The arms of a list that are on now.
pub(super) fn on(all: &'static [Arm]) -> impl Iterator<Item = &'static Arm> {
    let told = std::env::var("MIROIR_SIM_ARMS").unwrap_or_default();
    let (only, told) = match told.strip_prefix("only:") {
        Some(rest) => (true, rest),
        None => (false, told.as_str()),
    };
    let named = |name: &str| told == "all" || told.split(',').any(|one| one.trim() == name);
    let on = |arm: &&Arm| named(arm.name) || (arm.on && !only);
    all.iter().filter(on).collect::<Vec<_>>().into_iter()
}
