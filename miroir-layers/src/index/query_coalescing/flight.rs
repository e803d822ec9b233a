//! Questions in flight: who asks, who waits, and who takes over.
//!
//! No clock and no I/O: callers say what time it is. Whoever holds a [`Lead`] is the one who asks;
//! there is one for a flight, and when it is dropped without an answer it goes to the next follower
//! that is still there. A flight is listed while it can be joined.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::hash::Hash;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::QueryCoalescingOptions;
use super::sync::{Arc, Mutex};

/// All flights. `K` is the question, `V` the answer.
pub(super) struct Flights<K: Eq + Hash + Clone, V: Clone> {
    options: QueryCoalescingOptions,
    listed: Mutex<Listed<K, V>>,
}

type Listed<K, V> = HashMap<K, Arc<Flight<K, V>>>;

struct Flight<K: Eq + Hash + Clone, V: Clone> {
    key: K,
    state: Mutex<State<K, V>>,
}

struct State<K: Eq + Hash + Clone, V: Clone> {
    started: Instant,
    /// Those who ever joined.
    joined: usize,
    waiting: VecDeque<oneshot::Sender<Turn<K, V>>>,
    /// Whether a leader failed already.
    failed: bool,
}

/// What a follower gets.
pub(super) enum Turn<K: Eq + Hash + Clone, V: Clone> {
    /// The answer.
    Landed(V),
    /// It is the leader now.
    Lead(Lead<K, V>),
}

/// How a question is answered.
pub(super) enum Seat<K: Eq + Hash + Clone, V: Clone> {
    /// By asking, for others too.
    Leader(Lead<K, V>),
    /// By waiting.
    Follower(oneshot::Receiver<Turn<K, V>>),
    /// By asking, for oneself: there are too many flights.
    Alone,
}

/// The right and the duty to ask.
pub(super) struct Lead<K: Eq + Hash + Clone, V: Clone> {
    /// `None` once it is over.
    flight: Option<Arc<Flight<K, V>>>,
    flights: Arc<Flights<K, V>>,
}

impl<K: Eq + Hash + Clone, V: Clone> fmt::Debug for Flights<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flights").field("options", &self.options).finish_non_exhaustive()
    }
}

/// Nobody can join the flight any more.
fn unlist<K: Eq + Hash + Clone, V: Clone>(listed: &mut Listed<K, V>, flight: &Arc<Flight<K, V>>) {
    // Another one may have taken its place.
    if let Entry::Occupied(entry) = listed.entry(flight.key.clone())
        && Arc::ptr_eq(entry.get(), flight)
    {
        entry.remove();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> impl std::ops::DerefMut<Target = T> + '_ {
    mutex.lock().expect("no panic holds this lock")
}

impl<K: Eq + Hash + Clone, V: Clone> Flights<K, V> {
    pub(super) fn new(options: QueryCoalescingOptions) -> Self {
        Self { options, listed: Mutex::new(HashMap::new()) }
    }

    /// Joins a flight that began within the window, or begins one.
    pub(super) fn join(flights: &Arc<Self>, key: K, now: Instant) -> Seat<K, V> {
        let mut listed = lock(&flights.listed);
        let full = listed.len() >= flights.options.max_pending_queries;
        let place = listed.entry(key);
        match &place {
            Entry::Occupied(flight) => {
                let mut state = lock(&flight.get().state);
                let age = now.saturating_duration_since(state.started);
                if age <= flights.options.window && state.joined < flights.options.max_subscribers {
                    let (sender, receiver) = oneshot::channel();
                    state.joined += 1;
                    state.waiting.push_back(sender);
                    return Seat::Follower(receiver);
                }
            }
            Entry::Vacant(_) if full => return Seat::Alone,
            Entry::Vacant(_) => {}
        }
        let state = State { started: now, joined: 0, waiting: VecDeque::new(), failed: false };
        let flight = Arc::new(Flight { key: place.key().clone(), state: Mutex::new(state) });
        place.insert_entry(Arc::clone(&flight));
        drop(listed);
        Seat::Leader(Lead { flight: Some(flight), flights: Arc::clone(flights) })
    }

    /// Flights that can be joined.
    #[cfg(test)]
    #[allow(dead_code, reason = "only the copy under loom is asked")]
    pub(super) fn len(&self) -> usize {
        lock(&self.listed).len()
    }
}

impl<K: Eq + Hash + Clone, V: Clone> Lead<K, V> {
    /// The leader asks now: those who join later join this.
    pub(super) fn begin(&self, now: Instant) {
        if let Some(flight) = &self.flight {
            lock(&flight.state).started = now;
        }
    }

    /// Gives everybody the answer.
    pub(super) fn land(mut self, answer: &V) {
        let Some(flight) = self.flight.take() else { return };
        unlist(&mut lock(&self.flights.listed), &flight);
        let waiting = std::mem::take(&mut lock(&flight.state).waiting);
        for follower in waiting {
            // Who went does not need it.
            let _ = follower.send(Turn::Landed(answer.clone()));
        }
    }

    /// Hands over for the first time, and gives everybody the error the second time.
    pub(super) fn fail(self, error: &V) {
        let again = self
            .flight
            .as_ref()
            .is_some_and(|flight| std::mem::replace(&mut lock(&flight.state).failed, true));
        if again {
            self.land(error);
        }
    }

    /// The next follower, or `None`: then the flight is over, and nobody can join it.
    fn next(&self, flight: &Arc<Flight<K, V>>) -> Option<oneshot::Sender<Turn<K, V>>> {
        // Nobody joins in between: joining takes the same lock first.
        let mut listed = lock(&self.flights.listed);
        let next = lock(&flight.state).waiting.pop_front();
        if next.is_none() {
            unlist(&mut listed, flight);
        }
        next
    }
}

impl<K: Eq + Hash + Clone, V: Clone> Drop for Lead<K, V> {
    fn drop(&mut self) {
        let Some(flight) = self.flight.take() else { return };
        while let Some(follower) = self.next(&flight) {
            let flights = Arc::clone(&self.flights);
            let lead = Lead { flight: Some(Arc::clone(&flight)), flights };
            match follower.send(Turn::Lead(lead)) {
                // If the follower goes without a look at it, this runs again.
                Ok(()) => return,
                Err(Turn::Lead(mut back)) => back.flight = None,
                Err(Turn::Landed(_)) => {}
            }
        }
    }
}
