//! Changes under way in this process, and the last answers.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use miroir_core::lock::Lock;
use miroir_pipeline::Error;
use miroir_pipeline::operation::Response;
use tokio::sync::watch;
use tokio::time::Instant;

/// What became of a change: nothing yet, or its answer.
pub(super) type Landing = Option<Result<Response, Error>>;

#[derive(Debug)]
enum Slot {
    /// It is under way.
    Flying { fingerprint: String, landing: watch::Receiver<Landing> },
    /// It was answered, and that is known until then.
    Landed { fingerprint: String, answer: Box<Response>, until: Instant },
}

#[derive(Debug, Default)]
struct Slots {
    by_key: HashMap<String, Slot>,
    /// Keys of what has landed, oldest first.
    landed: VecDeque<String>,
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Flights(Arc<Lock<Slots>>);

/// What a caller finds.
pub(super) enum Found {
    /// Nothing: the change is the caller's.
    Mine(Flight),
    /// It is under way.
    Flying(watch::Receiver<Landing>),
    /// It was answered.
    Landed(Box<Response>),
    /// Something else has this key.
    Other,
}

/// One's own change. Whoever waits for it asks again if it is dropped before it landed.
pub(super) struct Flight {
    flights: Flights,
    key: String,
    fingerprint: String,
    landing: watch::Sender<Landing>,
    cached: usize,
}

impl Flights {
    fn lock(&self) -> std::sync::MutexGuard<'_, Slots> {
        self.0.lock()
    }

    /// Looks for a change, and takes it on if nobody has. `cached` answers are kept.
    pub(super) fn find(&self, key: &str, fingerprint: &str, cached: usize) -> Found {
        let mut slots = self.lock();
        match slots.by_key.get(key) {
            Some(Slot::Flying { fingerprint: theirs, landing }) => {
                if theirs == fingerprint {
                    return Found::Flying(landing.clone());
                }
                return Found::Other;
            }
            Some(Slot::Landed { fingerprint: theirs, answer, until })
                if *until > Instant::now() =>
            {
                if theirs == fingerprint {
                    return Found::Landed(answer.clone());
                }
                return Found::Other;
            }
            Some(Slot::Landed { .. }) | None => {}
        }
        let (sender, landing) = watch::channel(None);
        let slot = Slot::Flying { fingerprint: fingerprint.to_owned(), landing };
        if slots.by_key.insert(key.to_owned(), slot).is_some() {
            // It had landed, and is too old.
            slots.landed.retain(|landed| landed != key);
        }
        Found::Mine(Flight {
            flights: self.clone(),
            key: key.to_owned(),
            fingerprint: fingerprint.to_owned(),
            landing: sender,
            cached,
        })
    }
}

impl Flight {
    /// Tells whoever waits, and remembers an answer until then.
    pub(super) fn land(self, outcome: &Result<Response, Error>, until: Instant) {
        {
            let mut slots = self.flights.lock();
            slots.by_key.remove(&self.key);
            if let Ok(answer) = outcome {
                let fingerprint = self.fingerprint.clone();
                let slot = Slot::Landed { fingerprint, answer: Box::new(answer.clone()), until };
                slots.by_key.insert(self.key.clone(), slot);
                slots.landed.push_back(self.key.clone());
                while slots.landed.len() > self.cached {
                    if let Some(oldest) = slots.landed.pop_front() {
                        slots.by_key.remove(&oldest);
                    }
                }
            }
        }
        // Nobody may be waiting.
        let _ = self.landing.send(Some(outcome.clone()));
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if self.landing.borrow().is_none() {
            let mut slots = self.flights.lock();
            if matches!(slots.by_key.get(&self.key), Some(Slot::Flying { .. })) {
                slots.by_key.remove(&self.key);
            }
        }
    }
}
