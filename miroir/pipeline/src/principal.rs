//! Who asks.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
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
    /// The operator, by admin key alone: sees how things are done, and nobody's documents.
    Admin,
    /// Miroir itself, for work of its own; `authorize` lets it pass.
    Internal,
}

impl Principal {
    /// A number that tells callers apart who share what there is: each API key and each tenant is one.
    /// The same for every request of a caller within this process; meaningless outside of it.
    #[must_use]
    pub fn caller(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        std::mem::discriminant(self).hash(&mut hasher);
        match self {
            Self::ApiKey(key) => key.uid.hash(&mut hasher),
            Self::Tenant(tenant) => {
                tenant.key.uid.hash(&mut hasher);
                // Tenants differ in their rules.
                format!("{:?}", tenant.rules).hash(&mut hasher);
            }
            Self::Anonymous | Self::MasterKey | Self::Admin | Self::Internal => {}
        }
        hasher.finish()
    }
}

/// In the extensions of a request that is to be explained and carries the admin key beside a
/// client's: what it may find is the client's business, what is told of the way there the operator's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operator;

/// In the extensions of a request whose body was not read, as it came without a key that is known.
/// `authorize` refuses it; whoever carries out requests does not take it.
#[derive(Clone, Copy, Debug)]
pub struct Unread;
