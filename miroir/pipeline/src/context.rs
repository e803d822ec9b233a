//! What travels down with every request.
//!
//! | field | comes from | written by | read by |
//! | --- | --- | --- | --- |
//! | `request_id` | `X-Request-Id` | edge | spans, logs, node layer |
//! | `deadline` | config | edge | every wait |
//! | `principal` | `Authorization` | edge `authenticate` | `authorize`; calls to nodes (`limit`) |
//! | `scope` | the principal | `authorize` | Resolve and the control plane |
//! | `origin`, `class` | never a header | whoever starts the request | node limit, metrics |
//! | `explain` | the route | the operation `explain` | whoever decides something: Scatter, `hedge`, Dispatch; see [`crate::explain`] |
//! | `http` | extensions of the HTTP request | the edge | anybody |
//! | `extensions` | headers, layers | codecs and layers of capabilities | whoever knows the type |
//!
//! The resolved index, its settings version and the topology are *not* context: they are fields of
//! [`crate::index::Request`]. Group, shards and nodes to avoid are [`miroir_core::hints::Hints`].
//! What a capability lets travel, such as the name of a session, is an [`Extension`] of its own:
//!
//! | extension | comes from | read by |
//! | --- | --- | --- |
//! | [`MinSettingsVersion`](crate::index::scatter::MinSettingsVersion) | `X-Miroir-Min-Settings-Version` | Scatter |
//! | [`OverFetch`](crate::index::scatter::OverFetch) | `X-Miroir-Over-Fetch` | Scatter |
//! | [`TaskKey`] | the layer `idempotency` | whoever makes a task |
//! | [`Facts`](crate::explain::Facts) | layers outside of Resolve | the operation `explain` |
//!
//! Those of layers stand in the documentation of the layer.

use std::sync::Arc;
use std::time::Duration;

use crate::deadline::Deadline;
use crate::explain::Explain;
use crate::extension::{Extension, Extensions};
use miroir_core::keys::Scope;

pub use crate::principal::{Operator, Principal, Unread};

/// The key by which the task that a change makes can be found again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskKey(pub Arc<str>);

impl Extension for TaskKey {}

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
    /// Where stages and layers note what they decide; `None` unless the request is explained.
    pub explain: Option<Arc<Explain>>,
    /// Behind a pointer: a context is copied for every call to a node.
    http: Arc<::http::Extensions>,
    extensions: Extensions,
}

impl Context {
    /// The context of a client's request that ends `timeout` from now: anonymous, interactive,
    /// without any extension.
    pub fn client(request_id: impl Into<Arc<str>>, timeout: Duration) -> Self {
        Self {
            request_id: request_id.into(),
            deadline: Deadline::after(timeout),
            principal: Principal::Anonymous,
            scope: Scope::default(),
            origin: Origin::Client,
            class: Class::Interactive,
            explain: None,
            http: Arc::default(),
            extensions: Extensions::default(),
        }
    }

    /// What the edge left in the extensions of the HTTP request. Copies of a context share it.
    pub fn http(&self) -> &::http::Extensions {
        &self.http
    }

    /// The same context with these extensions of an HTTP request, in place of any others.
    #[must_use]
    pub fn with_http(self, extensions: ::http::Extensions) -> Self {
        Self { http: Arc::new(extensions), ..self }
    }

    /// What capabilities have left here.
    pub fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// The extension of this type, if there is one.
    pub fn get<T: Extension>(&self) -> Option<&T> {
        self.extensions.get()
    }

    /// Leaves a value for all layers and stages inside of this one. A copy of the context that was
    /// made before does not see it.
    pub fn insert<T: Extension>(&mut self, value: T) {
        self.extensions.insert(value);
    }

    /// The key by which the task of this change is found again; `None` without one.
    pub fn task_key(&self) -> Option<String> {
        self.get::<TaskKey>().map(|key| key.0.as_ref().to_owned())
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
