//! The resources this process has: how much of its memory is used, and how often it had to wait
//! for the processor. Near the limit fewer requests are admitted, before the kernel ends the process.
//!
//! | `miroir_memory_pressure` | memory in use | what happens |
//! | --- | --- | --- |
//! | 0 | up to 75 % of the limit | nothing |
//! | 1 | above 75 % | nothing yet: the sign to add pods |
//! | 2 | above 90 % | an eighth of `server.max_concurrent_requests` is admitted, until 85 % |
//!
//! Without a limit, or without control groups, the pressure is 0.

mod cgroup;

use std::sync::Arc;
use std::time::Duration;

use miroir_layers::edge::Admission;
use tokio_util::sync::CancellationToken;

use self::cgroup::{Cgroup, Memory};

/// Time between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// Shares of the limit, in percent.
const WARN: u64 = 75;
const CRITICAL: u64 = 90;
/// What is critical stays critical until here, so that it does not flap.
const RELIEF: u64 = 85;

/// How close to its limit the process is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Pressure {
    #[default]
    None = 0,
    Warn = 1,
    Critical = 2,
}

impl Pressure {
    /// The pressure now, given the one before.
    fn next(self, memory: Option<Memory>) -> Self {
        let Some(Memory { used, limit }) = memory else { return Self::None };
        let above = |percent: u64| u128::from(used) * 100 > u128::from(limit) * u128::from(percent);
        if above(CRITICAL) || (self == Self::Critical && above(RELIEF)) {
            Self::Critical
        } else if above(WARN) {
            Self::Warn
        } else {
            Self::None
        }
    }
}

/// Looks until cancelled.
pub(crate) async fn run(admission: Arc<Admission>, stop: CancellationToken) {
    let group = Cgroup::of_this_process();
    let mut pressure = Pressure::default();
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        // Files of the kernel: they do not block.
        let memory = group.memory();
        let before = pressure;
        pressure = pressure.next(memory);
        if (pressure == Pressure::Critical) != (before == Pressure::Critical) {
            let percent = memory.map_or(0, |m| m.used * 100 / m.limit.max(1));
            tracing::warn!(
                percent,
                tight = pressure == Pressure::Critical,
                "memory near its limit changes how many requests are admitted"
            );
        }
        admission.tighten(pressure == Pressure::Critical);
        publish(pressure, memory, group.throttled());
    }
}

fn publish(pressure: Pressure, memory: Option<Memory>, throttled: Option<Duration>) {
    metrics::gauge!("miroir_memory_pressure").set(pressure as u8);
    if let Some(memory) = memory {
        metrics::gauge!("miroir_memory_used_bytes").set(memory.used as f64);
        metrics::gauge!("miroir_memory_limit_bytes").set(memory.limit as f64);
    }
    if let Some(throttled) = throttled {
        metrics::counter!("miroir_cpu_throttled_seconds_total").absolute(throttled.as_secs());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_follows_memory_and_does_not_flap() {
        let at = |before: Pressure, used| before.next(Some(Memory { used, limit: 1000 }));
        let (none, warn, critical) = (Pressure::None, Pressure::Warn, Pressure::Critical);
        for (before, used, after) in [
            (none, 750, none),
            (none, 751, warn),
            (warn, 900, warn),
            (warn, 901, critical),
            (critical, 851, critical),
            (critical, 850, warn),
            (critical, 100, none),
        ] {
            assert_eq!(at(before, used), after, "{before:?} {used}");
        }
        assert_eq!(critical.next(None), none);
    }
}
