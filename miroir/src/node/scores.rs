//! How each node has been doing: EWMA latency, requests in flight, breaker state.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use miroir_api::NodeId;

use super::latencies::Latencies;

/// Weight of a new latency sample.
const ALPHA: f64 = 0.1;

/// One node's figures. No method blocks for longer than it takes to add a few numbers.
#[derive(Debug, Default)]
pub struct NodeScore {
    /// EWMA of latency in microseconds, as bits of an f64; 0 before the first sample.
    latency: AtomicU64,
    in_flight: AtomicU64,
    closed_out: AtomicBool,
    latencies: Mutex<Latencies>,
}

impl NodeScore {
    /// Adds a sample.
    pub fn observe(&self, latency: Duration) {
        let sample = latency.as_secs_f64() * 1e6;
        // A lost race loses one sample of a moving average.
        let old = f64::from_bits(self.latency.load(Ordering::Relaxed));
        let new = if old == 0.0 { sample } else { old + ALPHA * (sample - old) };
        self.latency.store(new.to_bits(), Ordering::Relaxed);
        self.latencies.lock().expect("no panic holds this lock").add(sample);
    }

    /// What `percent` of the last calls, some 256 to 512, took at most; `None` before the 20th.
    pub fn quantile(&self, percent: u32) -> Option<Duration> {
        let micros = self.latencies.lock().expect("no panic holds this lock").quantile(percent)?;
        Some(Duration::from_secs_f64(micros / 1e6))
    }

    /// EWMA of latency; zero before the first sample.
    pub fn latency(&self) -> Duration {
        Duration::from_secs_f64(f64::from_bits(self.latency.load(Ordering::Relaxed)) / 1e6)
    }

    /// Requests in flight.
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Counts a request until the guard is dropped.
    pub fn begin(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(Arc::clone(self))
    }

    /// Says whether the node's breaker lets requests through.
    pub fn set_open(&self, open: bool) {
        self.closed_out.store(open, Ordering::Relaxed);
    }

    /// Whether the breaker refuses requests.
    pub fn is_open(&self) -> bool {
        self.closed_out.load(Ordering::Relaxed)
    }
}

/// Counts one request in flight while it lives.
#[derive(Debug)]
pub struct InFlight(Arc<NodeScore>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The figures of all nodes.
#[derive(Debug, Default)]
pub struct Scores {
    nodes: RwLock<BTreeMap<NodeId, Arc<NodeScore>>>,
}

impl Scores {
    /// A node's figures, created at first sight.
    pub fn node(&self, id: &NodeId) -> Arc<NodeScore> {
        if let Some(score) = self.nodes.read().expect("no panic holds this lock").get(id) {
            return Arc::clone(score);
        }
        let mut nodes = self.nodes.write().expect("no panic holds this lock");
        Arc::clone(nodes.entry(id.clone()).or_default())
    }

    /// How long to wait for a node before another one is asked: what `percent` of its own last calls
    /// took at most, or of those of the median node if that is less. A node that has become slow is
    /// judged by the others, not by how slow it has become. `None` while nothing is known.
    pub fn patience(&self, id: &NodeId, percent: u32) -> Option<Duration> {
        let nodes = self.nodes.read().expect("no panic holds this lock");
        let own = nodes.get(id)?.quantile(percent)?;
        let mut all: Vec<Duration> =
            nodes.values().filter_map(|score| score.quantile(percent)).collect();
        all.sort_unstable();
        Some(own.min(all[(all.len() - 1) / 2]))
    }

    /// Whether requests to a node are refused by its breaker right now.
    pub fn is_open(&self, id: &NodeId) -> bool {
        self.nodes
            .read()
            .expect("no panic holds this lock")
            .get(id)
            .is_some_and(|score| score.is_open())
    }
}
