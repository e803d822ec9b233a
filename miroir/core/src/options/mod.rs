//! What all options have in common: how a configuration writes them, what is wrong with them, and
//! how a capability is switched off.
//!
//! Options stand beside what they configure. They derive serde with `default` and
//! `deny_unknown_fields` and have the names of the configuration, so a configuration is a struct of
//! them, and a program that embeds Miroir sets the same fields as an operator. Fields that no
//! configuration has are `#[serde(skip)]`.
//!
//! ```
//! use std::time::Duration;
//! use miroir_core::options::{Capability, Faults, Validate, milliseconds};
//! use serde::{Deserialize, Serialize};
//!
//! /// `greeting`: says hello.
//! #[derive(Clone, Debug, Serialize, Deserialize)]
//! #[serde(default, deny_unknown_fields)]
//! struct GreetingOptions {
//!     enabled: bool,
//!     #[serde(rename = "patience_ms", with = "milliseconds")]
//!     patience: Duration,
//! }
//!
//! impl Default for GreetingOptions {
//!     fn default() -> Self {
//!         Self { enabled: true, patience: Duration::from_millis(50) }
//!     }
//! }
//!
//! impl Validate for GreetingOptions {
//!     fn validate(&self, faults: &mut Faults) {
//!         faults.positive(&[("patience_ms", self.patience.is_zero())]);
//!     }
//! }
//!
//! impl Capability for GreetingOptions {
//!     fn enabled(&self) -> bool {
//!         self.enabled
//!     }
//! }
//!
//! let options: GreetingOptions = serde_json::from_str(r#"{"patience_ms": "2s"}"#).unwrap();
//! assert_eq!(options.layer(|options| options.patience), Some(Duration::from_secs(2)));
//!
//! let wrong: GreetingOptions = serde_json::from_str(r#"{"patience_ms": 0}"#).unwrap();
//! let mut faults = Faults::default();
//! faults.block("greeting", &wrong);
//! let fault = faults.into_vec().remove(0).to_string();
//! assert_eq!(fault, "`greeting.patience_ms`: must not be 0; use at least 1, or remove the key");
//! ```

mod auto_bool;
mod duration;
pub mod every;
mod faults;
pub mod networks;
mod secret;

pub use auto_bool::AutoBool;
pub use duration::{hours, milliseconds, seconds};
pub use faults::{ConfigError, Faults};
pub use secret::{REDACTED, Secret};

/// Options that can hold values which are of the right type and cannot be used all the same.
pub trait Validate {
    /// Reports every such value by its key inside of the block. There is none by default.
    fn validate(&self, faults: &mut Faults) {
        let _ = faults;
    }
}

/// Options of a capability that can be switched off.
///
/// Constructors of layers do not look at `enabled`: whoever assembles a stack does, with
/// `stack.push_if(options.layer(…))`.
pub trait Capability: Clone {
    /// Whether the capability is wanted.
    fn enabled(&self) -> bool;

    /// What `make` makes of these options; `None`, without calling it, while switched off.
    fn layer<L>(&self, make: impl FnOnce(Self) -> L) -> Option<L> {
        self.enabled().then(|| make(self.clone()))
    }
}
