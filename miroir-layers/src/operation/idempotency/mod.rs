//! Does a change that is sent twice once.
//!
//! Networks lose answers, and clients send again what they got no answer to. A change that comes
//! with an `Idempotency-Key` is done once: whoever sends it again with the same key gets the answer
//! that the first one got, with the same task. One who sends something else with that key is
//! refused. While the first is under way the others wait for it.
//!
//! Keys belong to who sends them: the same key of two callers is two keys. They are in the store, so
//! that another process knows them after a crash. If a process ended in the middle of a change, the
//! task tells whether the change was made; if there is none, it is made then.
//!
//! The store has no API key in the clear: where an answer shows one (`POST` and `PATCH /keys`), it is
//! taken out, and derived anew from its uid for whoever sends the change again.
//!
//! A change that failed leaves no key behind: to send it again is to try again.
//!
//! # Stage
//! Operation: whatever changes something. Reads pass untouched.
//!
//! # Order
//! Inside of `authorize`, which knows the caller; outside of `alias`: a name may stand for something
//! else when the change is sent again.
//!
//! # Context
//! Reads [`IdempotencyKey`], which its codec takes from `Idempotency-Key`, `principal`, and the
//! extensions that are [part of the answer](miroir_pipeline::extension::Extension::answer_key): a
//! request that differs in one is another request. Writes
//! [`TaskKey`](miroir_pipeline::context::TaskKey), the key as the store knows it, so that tasks carry
//! it; [`Replayed`] in the `Meta`, which the codec shows as `X-Miroir-Idempotency-Replayed`.
//!
//! # Errors
//! 409 `miroir_idempotency_key_reused`, and the store's own: what cannot be remembered is not done.
//!
//! # Metrics
//! `miroir_idempotency_hits_total{outcome}`: `miss` for the first, `dedup` for one sent again,
//! `conflict` for another request with a used key.
//!
//! # Example
//! ```
//! use std::sync::Arc;
//! use miroir_pipeline::Stack;
//! use miroir_pipeline::keyring::Keyring;
//! use miroir_store::memory;
//! use miroir_layers::operation::{AuthorizeLayer, IdempotencyLayer, IdempotencyOptions};
//!
//! let (stores, keyring) = (memory::open(), Arc::new(Keyring::new(None)));
//! let stack = Stack::<miroir_pipeline::operation::Request>::new()
//!     .push(AuthorizeLayer::default())
//!     .push(IdempotencyLayer::new(&stores, keyring, IdempotencyOptions::default()));
//! assert_eq!(stack.describe().layers, ["authorize", "idempotency"]);
//! ```

mod flights;
mod headers;
mod key;
mod layer;
mod secret;
#[cfg(test)]
mod tests;

use std::time::Duration;

use miroir_core::options::{Capability, Faults, Validate, seconds};
use serde::{Deserialize, Serialize};

pub use headers::{IdempotencyKey, Replayed};
pub use layer::IdempotencyLayer;

/// `idempotency`: how long keys are known, and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IdempotencyOptions {
    /// Whether `Idempotency-Key` has an effect. True by default.
    pub enabled: bool,
    /// How long a key is known. A day by default.
    #[serde(rename = "ttl_seconds", with = "seconds")]
    pub ttl: Duration,
    /// Keys remembered; beyond that the oldest are forgotten.
    #[serde(rename = "max_cached_keys")]
    pub max_keys: usize,
    /// How many answers are kept in this process, beside the store. 10,000 by default.
    #[serde(skip)]
    pub cached: usize,
}

impl Default for IdempotencyOptions {
    /// A million keys for a day, 10,000 of them in memory.
    fn default() -> Self {
        Self { enabled: true, ttl: Duration::from_hours(24), max_keys: 1_000_000, cached: 10_000 }
    }
}

impl Validate for IdempotencyOptions {
    fn validate(&self, faults: &mut Faults) {
        faults.positive(&[
            ("ttl_seconds", self.ttl.is_zero()),
            ("max_cached_keys", self.max_keys == 0),
        ]);
    }
}

impl Capability for IdempotencyOptions {
    fn enabled(&self) -> bool {
        self.enabled
    }
}
