//! Who asks.

use std::sync::Arc;

use miroir_core::keys::{ApiKey, Tenant};

/// Who sent the request, as its credentials show.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Principal {
    /// Somebody without credentials.
    Anonymous,
    /// The holder of the master key, or anybody when no master key is configured.
    MasterKey,
    /// The holder of an API key; it may have expired.
    ApiKey(Arc<ApiKey>),
    /// The holder of a tenant token.
    Tenant(Arc<Tenant>),
    /// The operator, by admin key.
    Admin,
    /// Miroir itself, for work of its own; `authorize` lets it pass.
    Internal,
}

/// In the extensions of a request whose body was not read, as it came without a key that is known.
/// `authorize` refuses it; whoever carries out requests does not take it.
#[derive(Clone, Copy, Debug)]
pub struct Unread;
