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
//! [`crate::index::Request`]. Group, shards and nodes to avoid are [`miroir_core::hints::Hints`].

use std::sync::Arc;
use std::time::Duration;

use crate::deadline::Deadline;
use crate::explain::Explain;
use miroir_api::GroupId;
use miroir_core::keys::Scope;

pub use crate::principal::Principal;

/// The tenant of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedTenant {
    /// Its name.
    pub name: Arc<str>,
    /// Whether the operator named it for this key; a header is whatever the client wrote.
    pub listed: bool,
    /// The group its reads go to, where the operator said which.
    pub group: Option<GroupId>,
}

/// Why a request was made: for a client, or for work of Miroir's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Origin {
    /// A client sent it, and waits for the answer.
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
    /// Somebody waits for the answer.
    Interactive,
    /// Nobody waits: repairs, broadcasts, checks. Interactive calls go first.
    Background,
}

/// What travels down with one request; see the table in the [module's documentation](self).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Context {
    /// Id of the request in logs, traces and calls to nodes; `internal` for work of Miroir's own.
    pub request_id: Arc<str>,
    /// Instant after which nobody waits for an answer any more. Every wait ends there.
    pub deadline: Deadline,
    /// Who sent the request; [`Principal::Anonymous`] until `authenticate` says otherwise.
    pub principal: Principal,
    /// The indexes that the principal may see and change; every index until `authorize` narrows it.
    pub scope: Scope,
    /// Why the request was made; [`Origin::Client`] for what comes through Decode.
    pub origin: Origin,
    /// Which lane of the node limit its calls take.
    pub class: Class,
    /// Oldest settings version the client accepts answers under; `None` accepts any.
    pub min_settings_version: Option<u64>,
    /// Factor, from 1 to 100, by which a search by vector asks every leaf for more hits than it
    /// needs; `None` takes `vector_search.over_fetch_factor`.
    pub over_fetch: Option<u32>,
    /// Name of the session whose writes its reads must show; `None` without one.
    pub session: Option<Arc<str>>,
    /// The `Idempotency-Key`: a change with a key that was used before is not made again. `None`
    /// without one.
    pub idempotency: Option<Arc<str>>,
    /// Alias by which the client named the index; `None` where it named the index itself.
    pub alias: Option<Arc<str>>,
    /// Where stages and layers note what they decide; `None` unless the request is explained.
    pub explain: Option<Arc<Explain>>,
    /// Tenant the request belongs to; `None` where tenants are not told apart, or it belongs to
    /// none.
    pub tenant: Option<NamedTenant>,
    /// Behind a pointer: a context is copied for every call to a node.
    extensions: Arc<::http::Extensions>,
}

impl Context {
    /// The context of a client's request that ends `timeout` from now: anonymous, interactive,
    /// without any of the optional headers.
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

    /// What layers of third parties have left here, and what came in the extensions of the HTTP
    /// request. Copies of a context share it.
    pub fn extensions(&self) -> &::http::Extensions {
        &self.extensions
    }

    /// For layers of third parties: what they leave here reaches all layers inside of them. A copy
    /// that was made before does not see it.
    pub fn extensions_mut(&mut self) -> &mut ::http::Extensions {
        Arc::make_mut(&mut self.extensions)
    }

    /// The context of a request that Miroir sends on its own account and that ends `timeout` from
    /// now: principal `Internal`, in the background.
    pub fn internal(origin: Origin, timeout: Duration) -> Self {
        Self {
            principal: Principal::Internal,
            origin,
            class: Class::Background,
            ..Self::client("internal", timeout)
        }
    }
}
