//! Places that callers take turns at.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use miroir_core::lock::Lock;
use tokio::sync::oneshot;

/// So many places. What becomes free goes to the caller whose turn it is, and among the calls of one
/// caller to the one that came first.
#[derive(Debug)]
pub(super) struct Lane {
    state: Lock<State>,
}

#[derive(Debug, Default)]
struct State {
    free: usize,
    waiting: HashMap<u64, VecDeque<oneshot::Sender<Place>>>,
    /// Callers that wait, each once, in the order of their turns.
    turns: VecDeque<u64>,
}

impl State {
    /// The next that waits, if anybody does.
    fn next(&mut self) -> Option<oneshot::Sender<Place>> {
        let caller = self.turns.pop_front()?;
        let calls = self.waiting.get_mut(&caller)?;
        let next = calls.pop_front();
        if calls.is_empty() {
            self.waiting.remove(&caller);
        } else {
            self.turns.push_back(caller);
        }
        next
    }
}

/// A place, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place(Option<Arc<Lane>>);

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(lane) = self.0.take() {
            lane.give();
        }
    }
}

impl Lane {
    /// At least one place.
    pub(super) fn new(places: usize) -> Arc<Self> {
        let state = State { free: places.max(1), ..State::default() };
        Arc::new(Self { state: Lock::new(state) })
    }

    /// A place, if one is free.
    pub(super) fn take(self: &Arc<Self>) -> Option<Place> {
        let mut state = self.state.lock();
        // Whoever waits comes first.
        if state.free == 0 || !state.turns.is_empty() {
            return None;
        }
        state.free -= 1;
        Some(Place(Some(Arc::clone(self))))
    }

    /// Gets in line. The place comes; who drops the receiver has left the line.
    pub(super) fn wait(self: &Arc<Self>, caller: u64) -> oneshot::Receiver<Place> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.state.lock();
        let calls = state.waiting.entry(caller).or_default();
        calls.push_back(sender);
        if calls.len() == 1 {
            state.turns.push_back(caller);
        }
        // It may have become free between the look and the wait.
        let freed = state.free > 0;
        if freed {
            state.free -= 1;
        }
        drop(state);
        if freed {
            self.give();
        }
        receiver
    }

    /// Gives a place that somebody had to whoever is next.
    fn give(self: &Arc<Self>) {
        let mut place = Place(Some(Arc::clone(self)));
        loop {
            let next = {
                let mut state = self.state.lock();
                let next = state.next();
                if next.is_none() {
                    state.free += 1;
                }
                next
            };
            let Some(next) = next else {
                place.0 = None;
                return;
            };
            match next.send(place) {
                Ok(()) => return,
                // It left the line.
                Err(back) => place = back,
            }
        }
    }
}
