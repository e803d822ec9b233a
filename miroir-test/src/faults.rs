//! Faults, the schedule they come in, and the random numbers both are made from.
//!
//! Everything follows from one seed, so that a failing run can be repeated from its seed alone.

use std::fmt;
use std::time::Duration;

/// SplitMix64 (Steele, Lea and Flood, 2014): small, and the same on every platform.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// Numbers that follow from a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// An independent stream of numbers, for a part that must not disturb the others.
    pub fn fork(&mut self) -> Self {
        Self(self.next())
    }

    /// The next 64 bits.
    #[allow(clippy::should_implement_trait, reason = "the usual name; it never ends")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 if that is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next().checked_rem(bound).unwrap_or(0)
    }

    /// True this many times in a thousand.
    pub fn per_mille(&mut self, chance: u32) -> bool {
        self.below(1000) < u64::from(chance)
    }

    /// A time between two others.
    pub fn between(&mut self, from: Duration, to: Duration) -> Duration {
        let span = to.saturating_sub(from).as_micros() as u64;
        from + Duration::from_micros(self.below(span + 1))
    }
}

/// What a node does to single requests, each in so many of a thousand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flaky {
    /// The connection breaks before the request arrives.
    pub reset_before: u32,
    /// The request takes effect, but its answer is lost.
    pub reset_after: u32,
    /// The node answers 500 without doing anything.
    pub server_error: u32,
    /// The request takes effect, but the answer is no JSON.
    pub garbage: u32,
    /// The answer takes up to two seconds longer.
    pub slow: u32,
}

/// What happens to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process ends: connections are refused, queued tasks wait, the disk keeps everything.
    Crash,
    /// The process stops answering. A request that arrives may still be worked on once it resumes.
    Hang,
    /// The node is well but cannot be reached.
    Partition,
    /// Single requests go wrong.
    Flaky(Flaky),
    /// It answers again as it should. What its tasks do is left as it is.
    Heal,
    /// So many of a thousand tasks that become due fail with this error code, for a reason of the
    /// node's own: `no_space_left_on_device`, say. Those that wait in its queue as well.
    FailsTasks {
        /// Of a thousand.
        per_mille: u32,
        /// The code of the task's error.
        code: &'static str,
    },
    /// Somebody deletes its finished tasks all the time, as a cron job with `DELETE /tasks` does:
    /// what was is not known any more, the newest number stays.
    ForgetsTasks {
        /// Time between two clean-ups; zero: a task is gone as soon as it ends.
        every: Duration,
    },
    /// Tasks that come from now on take longer than the usual 2 to 60 ms.
    SlowTasks {
        /// The shortest time.
        from: Duration,
        /// The longest time.
        to: Duration,
    },
    /// Bodies above so many bytes are refused with `payload_too_large`.
    BodyLimit(usize),
    /// Tasks and bodies are treated as usual again: the four above are over.
    Mend,
    /// Somebody takes a copy of its disk, for [`Fault::OldDisk`].
    KeepCopy,
    /// The copy that was taken last takes the place of its disk. Nothing, if there is none.
    OldDisk,
    /// Its disk and another node's are exchanged. Only a cluster can do that:
    /// [`SimCluster::suffer`](crate::cluster::SimCluster::suffer).
    SwapDisks {
        /// The other node.
        with: usize,
    },
}

impl Fault {
    /// The kind of fault, in words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::Hang => "hang",
            Self::Partition => "partition",
            Self::Flaky(_) => "flaky",
            Self::Heal => "heal",
            Self::FailsTasks { .. } => "fails tasks",
            Self::ForgetsTasks { .. } => "forgets tasks",
            Self::SlowTasks { .. } => "slow tasks",
            Self::BodyLimit(_) => "body limit",
            Self::Mend => "mend",
            Self::KeepCopy => "keep copy",
            Self::OldDisk => "old disk",
            Self::SwapDisks { .. } => "swap disks",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flaky(flaky) => write!(
                f,
                "flaky(reset_before={} reset_after={} 5xx={} garbage={} slow={})",
                flaky.reset_before,
                flaky.reset_after,
                flaky.server_error,
                flaky.garbage,
                flaky.slow
            ),
            Self::FailsTasks { per_mille, code } => write!(f, "fails tasks({per_mille} {code})"),
            Self::ForgetsTasks { every } => write!(f, "forgets tasks(every {every:?})"),
            Self::SlowTasks { from, to } => write!(f, "slow tasks({from:?} to {to:?})"),
            Self::BodyLimit(bytes) => write!(f, "body limit({bytes})"),
            Self::SwapDisks { with } => write!(f, "swap disks(with n{with})"),
            other => f.write_str(other.name()),
        }
    }
}

/// A fault, when it happens, and to whom.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// Time since the run began.
    pub at: Duration,
    /// Which node.
    pub node: usize,
    /// What.
    pub fault: Fault,
}

/// Faults over time.
#[derive(Clone, Debug, Default)]
pub struct Schedule {
    /// In the order in which they happen.
    pub events: Vec<Event>,
}

impl Schedule {
    /// Something that happens to a node after some time.
    pub fn add(&mut self, at: Duration, node: usize, fault: Fault) {
        self.events.push(Event { at, node, fault });
    }

    /// Puts what was added in order; what happens at the same time keeps its order.
    pub fn sort(&mut self) {
        self.events.sort_by_key(|event| event.at);
    }

    /// A node is away for some seconds, again and again, between two times.
    pub fn away(&mut self, rng: &mut Rng, node: usize, from: Duration, until: Duration) {
        let mut at = from;
        while at < until {
            self.add(at, node, Fault::Crash);
            at += rng.between(Duration::from_millis(200), Duration::from_secs(5));
            self.add(at, node, Fault::Heal);
            at += rng.between(Duration::from_secs(2), Duration::from_secs(7));
        }
    }

    /// Two nodes stop, their disks are exchanged, both start again, and stay for some seconds: when
    /// that is over. They are away for longer than the time between two checks, as whoever exchanges
    /// disks needs: what was written to two disks before either was looked at is on none of them for
    /// certain, and only an operator can tell.
    pub fn swap(&mut self, rng: &mut Rng, node: usize, with: usize, at: Duration) -> Duration {
        self.add(at, node, Fault::Crash);
        self.add(at, with, Fault::Crash);
        let at = at + rng.between(Duration::from_millis(1_200), Duration::from_secs(4));
        self.add(at, node, Fault::SwapDisks { with });
        self.add(at, node, Fault::Heal);
        self.add(at, with, Fault::Heal);
        at + rng.between(Duration::from_secs(2), Duration::from_secs(6))
    }

    /// A random schedule: now and then something happens to some node and ends a while later.
    /// Faults of several nodes overlap.
    pub fn random(rng: &mut Rng, nodes: usize, length: Duration) -> Self {
        let mut events = Vec::new();
        for node in 0..nodes {
            let mut at = rng.between(Duration::ZERO, Duration::from_secs(6));
            while at < length {
                let fault = match rng.below(8) {
                    0 | 1 => Fault::Crash,
                    2 => Fault::Hang,
                    3 => Fault::Partition,
                    _ => Fault::Flaky(Flaky {
                        reset_before: rng.below(200) as u32,
                        reset_after: rng.below(200) as u32,
                        server_error: rng.below(100) as u32,
                        garbage: rng.below(60) as u32,
                        slow: rng.below(150) as u32,
                    }),
                };
                events.push(Event { at, node, fault });
                at += rng.between(Duration::from_millis(50), Duration::from_secs(5));
                events.push(Event { at, node, fault: Fault::Heal });
                at += rng.between(Duration::from_millis(200), Duration::from_secs(9));
            }
        }
        events.sort_by_key(|event| event.at);
        Self { events }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for event in &self.events {
            writeln!(f, "  {:>9.3} s  n{}  {}", event.at.as_secs_f64(), event.node, event.fault)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_decides_everything() {
        // The first numbers of the reference implementation for seed 1234567.
        let mut rng = Rng::new(1_234_567);
        assert_eq!(rng.next(), 6_457_827_717_110_365_317);
        assert_eq!(rng.next(), 3_203_168_211_198_807_973);
        let text =
            |seed| Schedule::random(&mut Rng::new(seed), 3, Duration::from_mins(1)).to_string();
        assert_eq!(text(7), text(7));
        assert_ne!(text(7), text(8));
    }
}
