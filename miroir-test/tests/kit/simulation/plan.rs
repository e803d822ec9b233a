//! What a run is like: the cluster's shape, who is there, and which faults come when.

use std::time::Duration;

use miroir_core::quorum::WriteQuorum;
use miroir_test::cluster::Shape;
use miroir_test::faults::{Fault, Rng, Schedule};

use super::run::{CLIENTS, FULL};
use super::workshop::Workshop;

/// Time for which clients are there.
pub(super) const LENGTH: Duration = Duration::from_secs(40);
/// Time a client waits for an answer.
const PATIENCE: Duration = Duration::from_mins(1);

/// A shape, by the seed.
pub(super) fn shape(seed: u64) -> Shape {
    let (groups, rf, nodes_per_group, quorum) = match seed % 4 {
        0 => (1, 2, 3, WriteQuorum::Auto),
        1 => (2, 1, 2, WriteQuorum::Auto),
        2 => (1, 3, 3, WriteQuorum::Majority),
        _ => (2, 2, 2, WriteQuorum::Auto),
    };
    Shape { shards: 6, groups, rf, nodes_per_group, quorum }
}

/// One run.
pub(super) struct Options {
    pub(super) shape: Shape,
    pub(super) schedule: Schedule,
    pub(super) restarts: bool,
    pub(super) broken: bool,
    /// Several pods, which are killed and held up; 0: one process.
    pub(super) pods: usize,
    /// Clients that write documents.
    pub(super) clients: usize,
    /// Time they wait for an answer.
    pub(super) patience: Duration,
    pub(super) workshop: Option<Workshop>,
    /// Whether what must always hold is looked at all the time.
    pub(super) watched: bool,
    pub(super) arm: &'static str,
}

/// What has to have had an effect in the runs of an arm.
pub(super) fn effects(arm: &str) -> &'static [&'static str] {
    match arm {
        "full disk" => &["fails tasks"],
        "forgotten tasks" => &["forgets tasks"],
        "slow tasks" => &["slow tasks"],
        "body limit" => &["body limit"],
        "hung node" => &["hang"],
        "swapped disks" => &["swap disks"],
        "old disk" => &["old disk"],
        "foreign writer" => &["foreign writer"],
        "late send" => &["late send"],
        "clock skew" => &["clock skew"],
        "store goes back" => &["store goes back"],
        "moves" => &["operation", "operation taken back", "operation committed"],
        "in turn" | "at once" => &["swap", "rename", "index deletion", "workshop compared"],
        "cancelations" => &["cancelation", "workshop compared"],
        _ => &[],
    }
}

impl Options {
    /// A run of one process over nodes that crash, hang and so on.
    pub(super) fn new(seed: u64) -> Self {
        let shape = shape(seed);
        let nodes = (shape.groups * shape.nodes_per_group) as usize;
        let schedule = Schedule::random(&mut Rng::new(seed ^ 0xFA17), nodes, LENGTH);
        let restarts = seed.is_multiple_of(3);
        Self {
            shape,
            schedule,
            restarts,
            broken: false,
            pods: 0,
            clients: CLIENTS,
            patience: PATIENCE,
            workshop: None,
            watched: seed % 2 == 1,
            arm: "",
        }
    }

    /// Three pods. In every other run nodes are well.
    pub(super) fn pods(seed: u64) -> Self {
        let mut options = Self { pods: 3, restarts: false, ..Self::new(seed) };
        if seed.is_multiple_of(2) {
            options.schedule = Schedule::default();
        }
        options
    }

    /// Whether this is a run of an arm.
    pub(super) fn has(&self, arm: &str) -> bool {
        self.arm == arm
    }

    /// A run in which one kind of fault is all that happens, or nearly.
    pub(super) fn arm(seed: u64, arm: &'static str) -> Self {
        let plain = Self { arm, watched: true, ..Self::new(seed) };
        let nodes = (plain.shape.groups * plain.shape.nodes_per_group) as usize;
        let mut rng = Rng::new(seed ^ 0xA12);
        let one = rng.below(nodes as u64) as usize;
        let mut schedule = Schedule::default();
        let mut options = match arm {
            "late send" | "store goes back" => Self { restarts: true, ..plain },
            "clock skew" => Self { pods: 3, restarts: false, ..plain },
            // Over nodes that are well, or not; by one process, which may be killed, or several.
            "moves" if seed.is_multiple_of(5) => Self { pods: 3, restarts: false, ..plain },
            "moves" => return Self { restarts: seed.is_multiple_of(3), ..plain },
            _ => Self { restarts: seed.is_multiple_of(3), ..plain },
        };
        let mut at = rng.between(Duration::ZERO, Duration::from_secs(4));
        match arm {
            "full disk" => {
                while at < LENGTH {
                    // Half of the time it is away first, with tasks in its queue.
                    let away = rng.between(Duration::from_secs(1), Duration::from_secs(5));
                    let is_away = rng.below(2) == 0;
                    if is_away {
                        let (from, to) = (Duration::from_millis(200), Duration::from_secs(1));
                        schedule.add(at, one, Fault::SlowTasks { from, to });
                        at += Duration::from_secs(1);
                        schedule.add(at, one, Fault::Crash);
                    }
                    let per_mille = 300 + rng.below(700) as u32;
                    schedule.add(at + away / 2, one, Fault::FailsTasks { per_mille, code: FULL });
                    if is_away {
                        schedule.add(at + away, one, Fault::Heal);
                    }
                    at += away + rng.between(Duration::from_millis(500), Duration::from_secs(5));
                    schedule.add(at, one, Fault::Mend);
                    at += rng.between(Duration::from_secs(1), Duration::from_secs(5));
                }
            }
            "forgotten tasks" => {
                let every = rng.between(Duration::ZERO, Duration::from_secs(1));
                let all = rng.below(2) == 0;
                for node in (0..nodes).filter(|node| all || *node == one) {
                    schedule.add(at, node, Fault::ForgetsTasks { every });
                }
            }
            "slow tasks" => {
                options.patience = Duration::from_secs(5);
                let (from, to) = (Duration::from_millis(500), Duration::from_secs(3));
                for node in 0..nodes {
                    schedule.add(at, node, Fault::SlowTasks { from, to });
                }
                schedule.away(&mut rng, one, at, LENGTH / 2);
                for node in 0..nodes {
                    schedule.add(LENGTH / 2, node, Fault::Mend);
                }
            }
            "body limit" => {
                for node in 0..nodes {
                    schedule.add(Duration::ZERO, node, Fault::BodyLimit(1_600));
                }
                schedule.away(&mut rng, one, at, LENGTH);
            }
            "hung node" => {
                options.patience = Duration::from_secs(4);
                while at < LENGTH {
                    schedule.add(at, one, Fault::Hang);
                    at += rng.between(Duration::from_secs(5), Duration::from_secs(15));
                    schedule.add(at, one, Fault::Heal);
                    at += rng.between(Duration::from_secs(1), Duration::from_secs(6));
                }
            }
            "swapped disks" => {
                let other = (one + 1 + rng.below(nodes as u64 - 1) as usize) % nodes;
                while at < LENGTH {
                    at = schedule.swap(&mut rng, one, other, at);
                    at = schedule.swap(&mut rng, one, other, at);
                    at += rng.between(Duration::from_secs(4), Duration::from_secs(9));
                }
            }
            "old disk" => {
                schedule.add(at, one, Fault::KeepCopy);
                at += rng.between(Duration::from_secs(1), Duration::from_secs(12));
                schedule.add(at, one, Fault::Crash);
                schedule.add(at + Duration::from_millis(100), one, Fault::OldDisk);
                at += rng.between(Duration::from_millis(150), Duration::from_secs(6));
                schedule.add(at, one, Fault::Heal);
            }
            _ => {}
        }
        // What a replaced disk lacks is found by looking, not known at once.
        options.watched &= !matches!(arm, "old disk" | "swapped disks" | "foreign writer");
        if options.has("late send") {
            return options;
        }
        schedule.sort();
        Self { schedule, ..options }
    }

    /// A run of an actor over nodes that are well, or, every third, are not.
    pub(super) fn actor(seed: u64, arm: &'static str) -> Self {
        let strict = seed % 3 != 2;
        let workshop = Workshop {
            family: if seed % 4 == 3 { 24 } else { 4 },
            burst: if seed % 4 == 3 { 60 } else { 8 },
            strict,
            overlaps: arm != "in turn",
            cancels: arm == "cancelations",
        };
        let mut options = Self {
            arm,
            workshop: Some(workshop),
            restarts: false,
            clients: 1,
            watched: false,
            ..Self::new(seed)
        };
        if strict {
            options.schedule = Schedule::default();
        }
        options
    }
}
