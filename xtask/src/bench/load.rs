//! The load generator: keep-alive connections, one thread each, requests written out beforehand.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::process;
use crate::http::Client;
use crate::{Failure, Outcome, guard};

/// The value that `share` (0 to 1) of all stay below or at. They are in order.
pub(crate) fn quantile<T: Copy + Default>(sorted: &[T], share: f64) -> T {
    let at = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(at.saturating_sub(1)).copied().unwrap_or_default()
}

/// What one contender did, pooled over rounds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    /// Answer times in nanoseconds.
    times: Vec<u64>,
    /// Time spent measuring.
    wall: Duration,
    /// Processor time of the target's processes, warm-up included.
    processor: Duration,
    /// Requests sent, warm-up included.
    sent: usize,
}

impl Sample {
    /// The answer time that `share` (0 to 1) of all requests stayed below or at.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        let mut times = self.times.clone();
        times.sort_unstable();
        Duration::from_nanos(quantile(&times, share))
    }

    /// The median.
    pub(crate) fn p50(&self) -> Duration {
        self.quantile(0.50)
    }

    /// The 99th percentile.
    pub(crate) fn p99(&self) -> Duration {
        self.quantile(0.99)
    }

    /// Requests per second.
    pub(crate) fn throughput(&self) -> f64 {
        self.times.len() as f64 / self.wall.as_secs_f64().max(f64::EPSILON)
    }

    /// Processor time of one request, over all of the target's processes.
    pub(crate) fn processor(&self) -> Duration {
        self.processor / u32::try_from(self.sent.max(1)).unwrap_or(u32::MAX)
    }

    /// Adds another round.
    pub(crate) fn merge(&mut self, other: Self) {
        self.times.extend(other.times);
        self.wall += other.wall;
        self.processor += other.processor;
        self.sent += other.sent;
    }
}

/// Somebody to send requests to.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// Name in the tables.
    pub(crate) name: String,
    /// Base addresses. Where there are several, every request goes to all of them at once, and takes
    /// as long as the slowest.
    pub(crate) urls: Vec<String>,
    /// The requests, sent in turn.
    pub(crate) requests: Vec<Vec<u8>>,
    /// Its processes, whose processor time is counted.
    pub(crate) processes: Vec<u32>,
}

impl Target {
    fn processor_time(&self) -> Outcome<Duration> {
        self.processes.iter().map(|pid| process::processor_time(*pid)).sum()
    }
}

/// Measures one target for `time`, after a short warm-up that is not counted.
pub(crate) fn measure(target: &Target, connections: usize, time: Duration) -> Outcome<Sample> {
    let warm_up = (time / 10).min(Duration::from_secs(1));
    let stop = AtomicBool::new(false);
    let before = target.processor_time()?;
    let start = Instant::now();
    let parts = thread::scope(|scope| {
        let stop = &stop;
        let workers: Vec<_> = (0..connections)
            .map(|number| {
                let place = (number, connections);
                scope.spawn(move || worker(target, place, start + warm_up, stop))
            })
            .collect();
        while start.elapsed() < warm_up + time && !guard::stopping() {
            guard::pause();
        }
        stop.store(true, Ordering::Relaxed);
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|_| Err("a client panicked".into())))
            .collect::<Outcome<Vec<_>>>()
    })?;
    guard::check_stop()?;
    let wall = start.elapsed().saturating_sub(warm_up);
    let processor = target.processor_time()?.saturating_sub(before);
    let sent = parts.iter().map(|(_, sent)| sent).sum();
    let times = parts.into_iter().flat_map(|(times, _)| times).collect();
    Ok(Sample { times, wall, processor, sent })
}

/// Measures all targets in turn, several rounds, so that what slows the machine for a while slows
/// all of them.
pub(crate) fn compare(
    targets: &[Target],
    connections: usize,
    time: Duration,
) -> Outcome<Vec<Sample>> {
    const ROUNDS: u32 = 3;
    let mut out = vec![Sample::default(); targets.len()];
    for _ in 0..ROUNDS {
        for (target, sample) in targets.iter().zip(&mut out) {
            sample.merge(measure(target, connections, time / ROUNDS)?);
        }
    }
    Ok(out)
}

/// Answer times after `from`, and how many requests were sent in all, over one of several connections.
fn worker(
    target: &Target,
    (number, connections): (usize, usize),
    from: Instant,
    stop: &AtomicBool,
) -> Outcome<(Vec<u64>, usize)> {
    let mut sent = 0;
    let mut clients: Vec<Client> = target.urls.iter().map(|url| Client::new(url, "")).collect();
    let mut times = Vec::with_capacity(65_536);
    // Connections share the requests out, or all would ask the same at the same time.
    for request in target.requests.iter().cycle().skip(number).step_by(connections) {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let start = Instant::now();
        let replies = match clients.as_mut_slice() {
            [one] => vec![one.exchange(request)?],
            all => {
                all.iter_mut().try_for_each(|client| client.begin(request))?;
                all.iter_mut().map(Client::finish).collect::<Result<_, _>>()?
            }
        };
        let time = start.elapsed();
        if let Some(reply) = replies.iter().find(|reply| !(200..300).contains(&reply.status)) {
            let text = format!("{} answered {}: {}", target.name, reply.status, reply.text());
            return Err(Failure::Message(text));
        }
        sent += 1;
        if start >= from {
            times.push(time.as_nanos() as u64);
        }
    }
    Ok((times, sent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_and_throughput() {
        let mut sample = Sample {
            times: (1..=100).rev().collect(),
            wall: Duration::from_secs(2),
            processor: Duration::from_secs(1),
            sent: 125,
        };
        assert_eq!(sample.processor(), Duration::from_millis(8));
        assert_eq!(sample.p50(), Duration::from_nanos(50));
        assert_eq!(sample.p99(), Duration::from_nanos(99));
        assert_eq!(sample.quantile(1.0), Duration::from_nanos(100));
        assert!((sample.throughput() - 50.0).abs() < 1e-9);
        sample.merge(Sample {
            times: vec![1_000; 100],
            wall: Duration::from_secs(2),
            ..Sample::default()
        });
        assert_eq!(sample.p50(), Duration::from_nanos(100));
        assert!((sample.throughput() - 50.0).abs() < 1e-9);
        assert_eq!(Sample::default().p99(), Duration::ZERO);
    }
}
