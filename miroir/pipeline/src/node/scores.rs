//! How each node has been doing: latency, failures, requests in flight, breaker state.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use miroir_api::NodeId;
use miroir_core::lock::{Lock, ReadWriteLock};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::estimate::{CallOutcome, Estimate};
use super::latencies::Latencies;
use super::silence::Silence;
use miroir_core::routing::{Figures, Selection, Standings};
use miroir_core::topology::Topology;

/// Default half-life of what is known of a node.
const HALF_LIFE: Duration = Duration::from_secs(5);
/// A silent node is suspected after this many times what its slower calls take, within these bounds.
const UNUSUAL: u32 = 4;
const SOONEST: Duration = Duration::from_millis(500);
const LATEST: Duration = Duration::from_millis(750);

/// What a node's calls show before its health checks do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alarm {
    /// It refuses connections, and answered no call since.
    Refused,
    /// Calls are under way for much longer than usual, and none of them is answered.
    Silent,
}

impl Alarm {
    /// Its name in metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Silent => "silent",
        }
    }
}

/// How many times its usual time a node gets to answer a write that others have taken.
const GRACE_TIMES: u32 = 8;
const SHORTEST_GRACE: Duration = Duration::from_millis(100);
const LONGEST_GRACE: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
struct Past {
    estimate: Estimate,
    latencies: Latencies,
}

/// One node's figures. No method blocks for longer than it takes to add a few numbers.
#[derive(Debug)]
pub struct NodeScore {
    half_life: Duration,
    in_flight: AtomicU64,
    late: AtomicU64,
    breaker_open: AtomicBool,
    suspected: AtomicBool,
    past: Lock<Past>,
    /// Of the calls of writes that the node took.
    writes: Lock<Latencies>,
    silence: Lock<Silence>,
    /// Wakes whoever checks nodes.
    alarm: Arc<Notify>,
}

impl Default for NodeScore {
    fn default() -> Self {
        Self::new(HALF_LIFE, Arc::default())
    }
}

impl NodeScore {
    fn new(half_life: Duration, alarm: Arc<Notify>) -> Self {
        Self {
            half_life,
            in_flight: AtomicU64::new(0),
            late: AtomicU64::new(0),
            breaker_open: AtomicBool::new(false),
            suspected: AtomicBool::new(false),
            past: Lock::default(),
            writes: Lock::default(),
            silence: Lock::default(),
            alarm,
        }
    }

    fn learn(&self, took: Duration, outcome: CallOutcome, now: Instant) {
        let micros = took.as_secs_f64() * 1e6;
        let mut past = self.past.lock();
        // What failed or was given up early says nothing of how long calls take.
        if outcome == CallOutcome::Answered || micros > past.estimate.micros() {
            past.latencies.add(micros);
        }
        past.estimate.learn(micros, outcome, now, self.half_life);
        drop(past);
        self.silence.lock().ended(now);
    }

    /// The node gave a sign of life: whatever was suspected of it is wrong.
    pub fn heard(&self, now: Instant) {
        self.silence.lock().heard(self.in_flight(), now);
        self.suspected.store(false, Ordering::Relaxed);
    }

    /// A connection was refused. Whoever checks nodes is told, once until the node is heard of again.
    pub fn refused(&self) {
        if self.silence.lock().refused() {
            self.alarm.notify_one();
        }
    }

    /// Whether the node gave a sign of life after an instant.
    pub fn heard_since(&self, then: Instant) -> bool {
        self.silence.lock().heard_since(then)
    }

    /// Says that the node does not answer, until it is [heard](NodeScore::heard) of or the suspicion
    /// is [dropped](NodeScore::trust).
    pub fn suspect(&self) {
        self.suspected.store(true, Ordering::Relaxed);
    }

    /// Drops a suspicion.
    pub fn trust(&self) {
        self.suspected.store(false, Ordering::Relaxed);
    }

    /// Whether the node is suspected not to answer: reads prefer others.
    pub fn is_suspected(&self) -> bool {
        self.suspected.load(Ordering::Relaxed)
    }

    /// What the node's calls show; `None` while they are answered.
    pub fn alarm(&self, now: Instant) -> Option<Alarm> {
        let silence = self.silence.lock();
        if silence.refuses() {
            return Some(Alarm::Refused);
        }
        let lasts = silence.lasts(now);
        drop(silence);
        if lasts < SOONEST || self.in_flight() == 0 {
            return None;
        }
        let usual = self.quantile(95).map_or(LATEST, |usual| usual * UNUSUAL);
        (lasts >= usual.clamp(SOONEST, LATEST)).then_some(Alarm::Silent)
    }

    /// A call was answered.
    pub fn answered(&self, took: Duration, now: Instant) {
        self.heard(now);
        self.learn(took, CallOutcome::Answered, now);
    }

    /// A call failed, or the node said that it cannot answer.
    pub fn failed(&self, took: Duration, now: Instant) {
        self.learn(took, CallOutcome::Failed, now);
    }

    /// A call was given up, after that long without an answer.
    pub fn given_up(&self, waited: Duration, now: Instant) {
        self.learn(waited, CallOutcome::GivenUp, now);
    }

    /// The node took a write, after that long.
    pub fn wrote(&self, took: Duration) {
        self.writes.lock().add(took.as_secs_f64() * 1e6);
    }

    /// How long a write waits for this node once its quorum is there: several times what all but one
    /// in a hundred of its writes took, from 100 ms to 1 s; 1 s before 20 of them.
    pub fn grace(&self) -> Duration {
        let usual = self.writes.lock().quantile(99);
        let grace = usual.map_or(LONGEST_GRACE, |micros| {
            Duration::from_secs_f64(micros * f64::from(GRACE_TIMES) / 1e6)
        });
        grace.clamp(SHORTEST_GRACE, LONGEST_GRACE)
    }

    /// What replicas are chosen by.
    pub fn figures(&self, now: Instant) -> Figures {
        let past = self.past.lock();
        let (latency, error_rate) = past.estimate.at(now, self.half_life);
        Figures { latency, in_flight: self.in_flight(), error_rate }
    }

    /// What `percent` of the last calls, some 256 to 512, took at most; `None` before the 20th.
    pub fn quantile(&self, percent: u32) -> Option<Duration> {
        let past = self.past.lock();
        let micros = past.latencies.quantile(percent)?;
        Some(Duration::from_secs_f64(micros / 1e6))
    }

    /// Moving average of latency; zero before the first sample.
    pub fn latency(&self) -> Duration {
        let past = self.past.lock();
        Duration::from_secs_f64(past.estimate.micros() / 1e6)
    }

    /// Requests in flight.
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Counts a request until the guard is dropped.
    pub fn begin(self: &Arc<Self>) -> Counted {
        self.silence.lock().began(self.in_flight(), Instant::now());
        Counted::new(self, |score| &score.in_flight)
    }

    /// Counts a request that takes longer than it should until the guard is dropped.
    pub fn overdue(self: &Arc<Self>) -> Counted {
        Counted::new(self, |score| &score.late)
    }

    /// Whether half of the requests in flight or more take longer than they should.
    pub fn is_late(&self) -> bool {
        let late = self.late.load(Ordering::Relaxed);
        late > 0 && 2 * late >= self.in_flight()
    }

    /// Says whether the node's breaker lets requests through. One that closes again knows nothing of
    /// how the node is now: it is cold.
    pub fn set_open(&self, open: bool) {
        let was_open = self.breaker_open.swap(open, Ordering::Relaxed);
        if was_open && !open {
            self.past.lock().estimate = Estimate::default();
        }
    }

    /// Whether the breaker refuses requests.
    pub fn is_open(&self) -> bool {
        self.breaker_open.load(Ordering::Relaxed)
    }
}

/// Counts one request of a node while it lives.
#[derive(Debug)]
#[must_use]
pub struct Counted {
    score: Arc<NodeScore>,
    among: fn(&NodeScore) -> &AtomicU64,
}

impl Counted {
    fn new(score: &Arc<NodeScore>, among: fn(&NodeScore) -> &AtomicU64) -> Self {
        among(score).fetch_add(1, Ordering::Relaxed);
        Self { score: Arc::clone(score), among }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.among)(&self.score).fetch_sub(1, Ordering::Relaxed);
    }
}

/// The figures of all nodes.
#[derive(Debug)]
pub struct Scores {
    half_life: Duration,
    alarm: Arc<Notify>,
    nodes: ReadWriteLock<BTreeMap<NodeId, Arc<NodeScore>>>,
}

impl Default for Scores {
    fn default() -> Self {
        Self::new(HALF_LIFE)
    }
}

impl Scores {
    /// No figures yet; what is learned loses half of its weight every `half_life`.
    pub fn new(half_life: Duration) -> Self {
        Self { half_life, alarm: Arc::default(), nodes: ReadWriteLock::default() }
    }

    /// Half-life of what is known.
    pub fn half_life(&self) -> Duration {
        self.half_life
    }

    /// How the nodes that can be asked compare: readable, and with a closed breaker.
    pub fn standings(&self, topology: &Topology, selection: &Selection, now: Instant) -> Standings {
        let scores = self.nodes.read();
        let figures = topology.nodes().filter(|node| node.is_readable()).filter_map(|node| {
            let score = scores.get(&node.id);
            let closed = score.is_none_or(|score| !score.is_open());
            let figures = || score.map_or_else(Figures::default, |score| score.figures(now));
            closed.then(|| (node.id.clone(), figures()))
        });
        Standings::new(figures, selection)
    }

    /// A node's figures, created at first sight.
    pub fn node(&self, id: &NodeId) -> Arc<NodeScore> {
        if let Some(score) = self.nodes.read().get(id) {
            return Arc::clone(score);
        }
        let mut nodes = self.nodes.write();
        let new = || Arc::new(NodeScore::new(self.half_life, Arc::clone(&self.alarm)));
        Arc::clone(nodes.entry(id.clone()).or_insert_with(new))
    }

    /// How long to wait for a node before another one is asked: what `percent` of its own last calls
    /// took at most, or of those of the median node if that is less. A node that has become slow is
    /// judged by the others, not by how slow it has become. `None` while nothing is known.
    pub fn patience(&self, id: &NodeId, percent: u32) -> Option<Duration> {
        let nodes = self.nodes.read();
        let own = nodes.get(id)?.quantile(percent)?;
        let mut all: Vec<Duration> =
            nodes.values().filter_map(|score| score.quantile(percent)).collect();
        all.sort_unstable();
        Some(own.min(all[(all.len() - 1) / 2]))
    }

    fn those(&self, are: fn(&NodeScore) -> bool) -> Vec<NodeId> {
        let nodes = self.nodes.read();
        nodes.iter().filter(|(_, score)| are(score)).map(|(id, _)| id.clone()).collect()
    }

    /// The nodes of which half of the requests in flight or more take longer than they should.
    pub fn late(&self) -> Vec<NodeId> {
        self.those(NodeScore::is_late)
    }

    /// The nodes that are asked only where nobody else can be: their breakers refuse requests right
    /// now, or they are suspected not to answer.
    pub fn shunned(&self) -> Vec<NodeId> {
        self.those(|score| score.is_open() || score.is_suspected())
    }

    /// What calls show of nodes before health checks do.
    pub fn alarms(&self, now: Instant) -> Vec<(NodeId, Alarm)> {
        let nodes = self.nodes.read();
        nodes.iter().filter_map(|(id, score)| Some((id.clone(), score.alarm(now)?))).collect()
    }

    /// Waits until a node that was heard of refuses a connection.
    pub async fn refusal(&self) {
        self.alarm.notified().await;
    }

    /// The nodes whose breakers refuse requests right now.
    pub fn open(&self) -> Vec<NodeId> {
        self.those(NodeScore::is_open)
    }

    /// Whether requests to a node are refused by its breaker right now.
    pub fn is_open(&self, id: &NodeId) -> bool {
        self.nodes.read().get(id).is_some_and(|score| score.is_open())
    }
}
