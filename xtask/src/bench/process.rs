//! What the kernel says of a process: memory and processor time.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::{Outcome, guard};

/// Ticks per second of `/proc/<pid>/stat`: fixed at 100 on Linux, whatever the kernel's own.
const TICKS: f64 = 100.0;

/// Resident memory in bytes.
pub(crate) fn resident(pid: u32) -> Outcome<u64> {
    memory(pid, "VmRSS:")
}

/// Memory that a process asked for to write to, in bytes: what `prlimit --data` bounds.
pub(crate) fn data(pid: u32) -> Outcome<u64> {
    memory(pid, "VmData:")
}

fn memory(pid: u32, kind: &str) -> Outcome<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(kind));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").trim().parse().ok());
    let kilobytes: u64 = kilobytes.ok_or_else(|| format!("the kernel does not tell {kind}"))?;
    Ok(kilobytes * 1_024)
}

/// Processor time used so far, in user and kernel mode.
pub(crate) fn processor_time(pid: u32) -> Outcome<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let ticks = stat_ticks(&stat).ok_or("the kernel does not tell the processor time")?;
    Ok(Duration::from_secs_f64(ticks as f64 / TICKS))
}

/// Fields 14 and 15, counted after the name, which may hold spaces and parentheses.
fn stat_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

/// The largest resident memory seen until `stop`.
pub(crate) fn peak(pid: u32, stop: &AtomicBool) -> Outcome<u64> {
    let mut most = resident(pid)?;
    while !stop.load(Ordering::Relaxed) {
        guard::pause();
        most = most.max(resident(pid)?);
    }
    Ok(most)
}

/// Processor and cores of this machine, for the table's heading.
pub(crate) fn machine() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown processor", |(_, model)| model.trim());
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    format!("{model}, {cores} cores")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_this_process() {
        let pid = std::process::id();
        assert!(resident(pid).unwrap() > 100_000);
        processor_time(pid).unwrap();
        let stat = "12 (a b) c) S 1 1 1 0 -1 4 10 0 0 0 77 33 0 0 20 0";
        assert_eq!(stat_ticks(stat), Some(110));
    }
}
