//! What travels down with every request.
//!
//! | field | comes from | written by | read by |
//! | --- | --- | --- | --- |
//! | `request_id` | `X-Request-Id` | edge | spans, logs, node layer |
//! | `deadline` | config | edge | every wait |
//! | `principal` | `Authorization` | edge `authenticate` | `authorize` |
//! | `scope` | the principal | `authorize` | Resolve and the control plane |
//! | `origin`, `class` | never a header | whoever starts the request | node limit, metrics |
//! | `min_settings_version` | `X-Miroir-Min-Settings-Version` | Decode | Scatter |
//! | `tenant` | `X-Miroir-Tenant`, or the API key | Decode | `tenant_affinity`, `rate_limit` |
//! | `over_fetch` | `X-Miroir-Over-Fetch` | Decode | Scatter |
//! | `session` | `X-Miroir-Session` | Decode | `session_pinning` |
//! | `idempotency` | `Idempotency-Key` | Decode | `idempotency`, whoever makes a task |
//! | `alias` | the catalogue | `alias` | explanations |
//! | `explain` | the route | the operation `explain` | whoever decides something: Scatter, `hedge`, Dispatch; see [`crate::explain`] |
//! | `extensions` | layers of third parties | anybody | anybody |
//!
//! The resolved index, its settings version and the topology are *not* context: they are fields of
//! [`crate::index::Request`]. Group, shards and nodes to avoid are [`crate::hints::Hints`].

use std::sync::Arc;
use std::time::Duration;

use crate::deadline::Deadline;
use crate::explain::Explain;
use crate::keys::{ApiKey, Scope, Tenant};
use crate::tenants::NamedTenant;

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Principal {
    /// Nobody presented anything.
    Anonymous,
    /// The holder of the master key, or anybody when no master key is configured.
    MasterKey,
    /// The holder of an API key; it may have expired.
    ApiKey(Arc<ApiKey>),
    /// The holder of a tenant token.
    Tenant(Arc<Tenant>),
    /// The operator, by admin key.
    Admin,
    /// Miroir itself.
    Internal,
}

/// Why the request exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Origin {
    /// A client sent it.
    Client,
    /// A replica is being repaired.
    Repair,
    /// Settings are being broadcast or verified.
    Settings,
    /// A client's request is repeated elsewhere, to compare the answers.
    Shadow,
}

/// How urgent it is. Each class has its own lane at the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Somebody is waiting.
    Interactive,
    /// Nobody is.
    Background,
}

/// See the table in the module's documentation.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Context {
    /// Id for logs and traces.
    pub request_id: Arc<str>,
    /// When to give up.
    pub deadline: Deadline,
    /// Who asks.
    pub principal: Principal,
    /// Which indexes they may see and change.
    pub scope: Scope,
    /// Why.
    pub origin: Origin,
    /// How urgently.
    pub class: Class,
    /// Oldest settings version the client accepts.
    pub min_settings_version: Option<u64>,
    /// Each leaf is asked for this many times the hits a search by vector needs.
    pub over_fetch: Option<u32>,
    /// The session whose writes its reads must show.
    pub session: Option<Arc<str>>,
    /// What makes a change the same as one before.
    pub idempotency: Option<Arc<str>>,
    /// The alias by which the client named the index.
    pub alias: Option<Arc<str>>,
    /// Where to note what is decided, if somebody wants to know.
    pub explain: Option<Arc<Explain>>,
    /// The tenant the request is of, where tenants are told apart.
    pub tenant: Option<NamedTenant>,
    /// Behind a pointer: a context is copied for every call to a node.
    extensions: Arc<::http::Extensions>,
}

impl Context {
    /// The context of a client's request.
    pub fn client(request_id: impl Into<Arc<str>>, timeout: Duration) -> Self {
        Self {
            request_id: request_id.into(),
            deadline: Deadline::after(timeout),
            principal: Principal::Anonymous,
            scope: Scope::default(),
            origin: Origin::Client,
            class: Class::Interactive,
            min_settings_version: None,
            over_fetch: None,
            session: None,
            idempotency: None,
            alias: None,
            explain: None,
            tenant: None,
            extensions: Arc::default(),
        }
    }

    /// What layers of third parties have left, and what came with an HTTP request.
    pub fn extensions(&self) -> &::http::Extensions {
        &self.extensions
    }

    /// For layers of third parties: what they leave is there for all layers inside.
    pub fn extensions_mut(&mut self) -> &mut ::http::Extensions {
        Arc::make_mut(&mut self.extensions)
    }

    /// The context of a request that Miroir sends on its own account.
    pub fn internal(origin: Origin, timeout: Duration) -> Self {
        Self {
            principal: Principal::Internal,
            origin,
            class: Class::Background,
            ..Self::client("internal", timeout)
        }
    }
}
