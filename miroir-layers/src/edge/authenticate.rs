//! Says who is asking; what they may do is decided later, by
//! [`authorize`](crate::operation::authorize).
//!
//! The *master key*, the *API keys* derived from it and the *tenant tokens* signed with those open
//! the client API exactly as they open a Meilisearch node, down to which malformed headers are
//! refused as missing and which as invalid. The *admin key* opens what lies under `/_miroir/` and
//! nothing else, so that neither is worth anything in the other's place. Nodes have keys of their
//! own, which no client ever sees.
//!
//! | path | header | principal |
//! | --- | --- | --- |
//! | `/_miroir…` | `Authorization: Bearer` or `X-Admin-Key` with the admin key | `Admin` |
//! | `/_miroir…` | anything else, or no admin key configured | `Anonymous` |
//! | others | `Authorization` of another scheme | `Anonymous`, missing |
//! | others | `Bearer` without a token | `Anonymous`, invalid |
//! | others | none, or a bearer token; no master key configured | `MasterKey` |
//! | others | none | `Anonymous`, missing |
//! | others | the master key | `MasterKey` |
//! | others | an API key | `ApiKey`, also when it has expired |
//! | others | a tenant token that is signed and in time | `Tenant` |
//! | others | a faulty tenant token | `Anonymous`, with the fault |
//! | others | any other token, the admin key included | `Anonymous`, invalid |
//!
//! What another pod passed on has no key, but that pod's word ([`pod_auth`](super::pod_auth)): it is
//! on behalf of whom that pod names. Whether an API key that it names still exists is found out here.
//!
//! Where searches are explained the admin key makes its holder `Admin`, too. In `X-Admin-Key` beside a
//! client's key it leaves the principal to that key, and [`Operator`] says that it was there.
//!
//! Keys are compared as SHA-256 digests in constant time: neither length nor content shows in how
//! long a refusal takes. A token whose issuer is `miroir` is a session of the search page and opens
//! nothing here.
//!
//! # Stage
//! Edge. Any `http::Request<B>`; the body is not looked at.
//!
//! # Order
//! Inside of `normalize`, by whose paths it knows the admin API, and of `rate_limit`: guessing keys
//! counts. Outside of `Decode`.
//!
//! # Context
//! Inserts [`Principal`] into the request's extensions, [`Operator`] where the admin key came beside a
//! client's, and for `Anonymous` an [`AuthFailure`] that
//! says why. `Decode` turns the first into `Context::principal` and hands the second on in
//! `Context::extensions`.
//!
//! # Errors
//! None: a request without a valid key goes on as `Anonymous`.
//!
//! # Metrics
//! `miroir_auth_failures_total{reason}`: `missing`, `invalid` or `token`.
//!
//! # Example
//! ```
//! use std::sync::Arc;
//! use miroir_pipeline::context::Principal;
//! use miroir_core::keys::MasterKey;
//! use miroir_pipeline::keyring::Keyring;
//! use miroir_layers::edge::{AuthenticateLayer, AuthenticateOptions};
//! use tower::{ServiceBuilder, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let service = ServiceBuilder::new()
//!     .layer(AuthenticateLayer::new(&AuthenticateOptions {
//!         keyring: Arc::new(Keyring::new(MasterKey::new("a master key"))),
//!         admin_key: None,
//!     }))
//!     .service_fn(|request: http::Request<()>| async move {
//!         Ok::<_, std::convert::Infallible>(request.extensions().get::<Principal>().cloned())
//!     });
//! let request = http::Request::get("/indexes")
//!     .header("authorization", "Bearer a master key")
//!     .body(())
//!     .unwrap();
//! assert_eq!(service.oneshot(request).await.unwrap(), Some(Principal::MasterKey));
//! # }
//! ```

use std::fmt;
use std::sync::Arc;
use std::task::{self, Poll};

use http::{HeaderMap, Request, header};
use miroir_pipeline::Placed;
use miroir_pipeline::context::{Operator, Principal};
use miroir_pipeline::keyring::{Keyring, Unknown};
use miroir_pipeline::stack::LayerName;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tower::{Layer, Service};

use super::normalize::NormalizeLayer;
use super::paths::is_admin;
use super::pod_auth::{Claim, PodAuthLayer, Vouched};
use super::rate_limit::RateLimitLayer;

/// Why a request is anonymous.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AuthFailure {
    /// It carries no key.
    Missing,
    /// It carries a wrong one.
    Invalid,
    /// It carries a tenant token with this fault, in Meilisearch's words. Where tenant tokens open
    /// nothing, it is a wrong key like any other.
    Token(Arc<str>),
}

impl AuthFailure {
    /// A bounded label for metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Invalid => "invalid",
            Self::Token(_) => "token",
        }
    }
}

impl From<Unknown> for AuthFailure {
    fn from(unknown: Unknown) -> Self {
        match unknown {
            Unknown::Invalid => Self::Invalid,
            Unknown::Token(message) => Self::Token(message),
        }
    }
}

/// The keys.
#[derive(Clone)]
pub struct AuthenticateOptions {
    /// Opens the client API: the ring of the cluster (`ClusterState::keyring`), or one with a master key
    /// alone. Without a master key the client API is open to everybody, as on a node.
    pub keyring: Arc<Keyring>,
    /// Opens the admin API. `None` or empty: the admin API is closed to everybody.
    pub admin_key: Option<String>,
}

impl fmt::Debug for AuthenticateOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthenticateOptions")
            .field("keyring", &self.keyring)
            .field("admin_key", &self.admin_key.is_some())
            .finish()
    }
}

/// A key, as its digest.
struct Key([u8; 32]);

impl Key {
    fn of(text: &[u8]) -> Self {
        Self(Sha256::digest(text).into())
    }

    fn configured(key: Option<&String>) -> Option<Self> {
        key.filter(|key| !key.is_empty()).map(|key| Self::of(key.as_bytes()))
    }

    /// Whether this text is the key, in a time that depends on the length of the text alone.
    fn opens(&self, text: &[u8]) -> bool {
        self.0.ct_eq(&Self::of(text).0).into()
    }
}

struct Keys {
    clients: Arc<Keyring>,
    admin: Option<Key>,
}

/// What Meilisearch reads in an `Authorization` header.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, AuthFailure> {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    match text.split_once(' ') {
        Some(("Bearer", token)) => Ok(Some(token)),
        None if text == "Bearer" => Err(AuthFailure::Invalid),
        _ => Err(AuthFailure::Missing),
    }
}

/// Whether searches are explained there.
fn is_explain_path(path: &str) -> bool {
    let mut segments = path.trim_end_matches('/').split('/').skip(1);
    matches!(
        (segments.next(), segments.next(), segments.next(), segments.next()),
        (Some("indexes"), Some(_), Some("explain"), None)
            | (Some("multi-search"), Some("explain"), None, _)
    )
}

/// Somebody, and whether the admin key came beside their own.
type Caller = (Principal, Option<Operator>);

impl Keys {
    /// Who asks by another pod's word.
    fn by_word(&self, claim: Claim) -> Result<Principal, AuthFailure> {
        match claim {
            Claim::Master => Ok(Principal::MasterKey),
            Claim::Admin if self.admin.is_some() => Ok(Principal::Admin),
            Claim::Admin => Err(AuthFailure::Invalid),
            Claim::Key(uid) => {
                self.clients.get(uid).map(Principal::ApiKey).ok_or(AuthFailure::Invalid)
            }
        }
    }

    fn identify(&self, path: &str, headers: &HeaderMap) -> Result<Caller, AuthFailure> {
        if is_admin(path) {
            return Ok((self.operator(headers)?, None));
        }
        let client = self.client(headers);
        // Operators are told more than others who may search; documents are for clients.
        if is_explain_path(path)
            && let Ok(operator) = self.operator(headers)
        {
            return Ok(match client {
                Ok(client) => (client, Some(Operator)),
                Err(_) => (operator, None),
            });
        }
        Ok((client?, None))
    }

    fn operator(&self, headers: &HeaderMap) -> Result<Principal, AuthFailure> {
        let own = headers.get(miroir_api::header::ADMIN_KEY).map(|value| value.as_bytes());
        let bearer = bearer(headers);
        let given = [own, bearer.as_ref().ok().copied().flatten().map(str::as_bytes)];
        let mut failure = bearer.err().unwrap_or(AuthFailure::Missing);
        for key in given.into_iter().flatten() {
            if self.admin.as_ref().is_some_and(|admin| admin.opens(key)) {
                return Ok(Principal::Admin);
            }
            failure = AuthFailure::Invalid;
        }
        Err(failure)
    }

    fn client(&self, headers: &HeaderMap) -> Result<Principal, AuthFailure> {
        // A malformed header is refused even where no key is needed, as a node does.
        match bearer(headers)? {
            Some(token) => Ok(self.clients.identify(token)?),
            None if self.clients.master().is_none() => Ok(Principal::MasterKey),
            None => Err(AuthFailure::Missing),
        }
    }
}

/// See the [module's documentation](self).
#[derive(Clone)]
#[must_use]
pub struct AuthenticateLayer {
    keys: Arc<Keys>,
}

impl fmt::Debug for AuthenticateLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthenticateLayer").finish_non_exhaustive()
    }
}

impl AuthenticateLayer {
    /// Knows these keys.
    pub fn new(options: &AuthenticateOptions) -> Self {
        let clients = Arc::clone(&options.keyring);
        let admin = Key::configured(options.admin_key.as_ref());
        Self { keys: Arc::new(Keys { clients, admin }) }
    }
}

impl Placed for AuthenticateLayer {
    const NAME: &'static str = "authenticate";
    const INSIDE_OF: &'static [LayerName] = &[
        LayerName::of::<RateLimitLayer>(),
        LayerName::of::<NormalizeLayer>(),
        LayerName::of::<PodAuthLayer>(),
    ];
}

impl<S> Layer<S> for AuthenticateLayer {
    type Service = Authenticate<S>;
    fn layer(&self, inner: S) -> Authenticate<S> {
        Authenticate { inner, layer: self.clone() }
    }
}

/// See the [module's documentation](self).
#[derive(Clone, Debug)]
pub struct Authenticate<S> {
    inner: S,
    layer: AuthenticateLayer,
}

impl<S: Service<Request<B>>, B> Service<Request<B>> for Authenticate<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        let keys = &self.layer.keys;
        let judged = match request.extensions().get::<Vouched>() {
            Some(Vouched(statement)) => {
                keys.by_word(statement.claim).map(|principal| (principal, None))
            }
            None => keys.identify(request.uri().path(), request.headers()),
        };
        match judged {
            Ok((principal, operator)) => {
                request.extensions_mut().insert(principal);
                if let Some(operator) = operator {
                    request.extensions_mut().insert(operator);
                }
            }
            Err(failure) => {
                metrics::counter!("miroir_auth_failures_total", "reason" => failure.as_str())
                    .increment(1);
                request.extensions_mut().insert(Principal::Anonymous);
                request.extensions_mut().insert(failure);
            }
        }
        self.inner.call(request)
    }
}

#[cfg(test)]
mod tests {
    use miroir_core::keys::MasterKey;
    use tower::ServiceExt;

    use super::*;

    const MASTER: &str = "masterkey1234567890";
    const ADMIN: &str = "adminkey1234567890";

    fn keys(master: Option<&str>, admin: Option<&str>) -> AuthenticateLayer {
        AuthenticateLayer::new(&AuthenticateOptions {
            keyring: Arc::new(Keyring::new(master.and_then(MasterKey::new))),
            admin_key: admin.map(str::to_owned),
        })
    }

    /// Who the inner service sees.
    async fn seen(
        layer: &AuthenticateLayer,
        path: &str,
        headers: &[(&str, &[u8])],
    ) -> (Principal, Option<AuthFailure>) {
        let mut request = Request::get(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let inner = tower::service_fn(|request: Request<()>| async move {
            let extensions = request.extensions();
            Ok::<_, std::convert::Infallible>((
                extensions.get::<Principal>().cloned().unwrap(),
                extensions.get::<AuthFailure>().cloned(),
            ))
        });
        layer.layer(inner).oneshot(request.body(()).unwrap()).await.unwrap()
    }

    const MISSING: (Principal, Option<AuthFailure>) =
        (Principal::Anonymous, Some(AuthFailure::Missing));
    const INVALID: (Principal, Option<AuthFailure>) =
        (Principal::Anonymous, Some(AuthFailure::Invalid));

    /// Recorded from Meilisearch 1.50.0, with and without a master key.
    #[tokio::test]
    async fn clients_are_judged_as_a_node_judges_them() {
        let master = (Principal::MasterKey, None);
        let with = keys(Some(MASTER), Some(ADMIN));
        let without = keys(None, Some(ADMIN));
        for (header, closed, open) in [
            (None, &MISSING, &master),
            (Some("Basic x"), &MISSING, &MISSING),
            (Some("Bearer"), &INVALID, &INVALID),
            (Some("Bearer zz"), &INVALID, &master),
            (Some("bearer masterkey1234567890"), &MISSING, &MISSING),
            (Some("BearerX masterkey1234567890"), &MISSING, &MISSING),
            (Some("Bearer masterkey1234567890"), &master, &master),
            (Some("Bearer  masterkey1234567890"), &INVALID, &master),
            (Some("Bearer masterkey123456789"), &INVALID, &master),
            (Some("Bearer adminkey1234567890"), &INVALID, &master),
            (Some("Bearer \u{e9}"), &MISSING, &MISSING),
        ] {
            let headers: Vec<_> =
                header.iter().map(|text| ("authorization", text.as_bytes())).collect();
            assert_eq!(seen(&with, "/tasks", &headers).await, *closed, "{header:?}");
            assert_eq!(seen(&without, "/tasks", &headers).await, *open, "{header:?}");
        }
    }

    #[tokio::test]
    async fn the_admin_key_opens_the_admin_api_and_nothing_else() {
        let layer = keys(Some(MASTER), Some(ADMIN));
        let admin = (Principal::Admin, None);
        let bearer = |key: &str| format!("Bearer {key}").into_bytes();
        let (own, master) = (bearer(ADMIN), bearer(MASTER));
        for path in ["/_miroir", "/_miroir/topology"] {
            assert_eq!(seen(&layer, path, &[("authorization", &own)]).await, admin);
            assert_eq!(seen(&layer, path, &[("x-admin-key", ADMIN.as_bytes())]).await, admin);
            let both: [(&str, &[u8]); 2] =
                [("authorization", &master), ("x-admin-key", ADMIN.as_bytes())];
            assert_eq!(seen(&layer, path, &both).await, admin);
            assert_eq!(seen(&layer, path, &[("authorization", &master)]).await, INVALID);
            assert_eq!(seen(&layer, path, &[("x-admin-key", MASTER.as_bytes())]).await, INVALID);
            assert_eq!(seen(&layer, path, &[("authorization", b"Basic x")]).await, MISSING);
            assert_eq!(seen(&layer, path, &[]).await, MISSING);
        }
        // Where searches are explained, operators are told apart; clients are clients there.
        let client = (Principal::MasterKey, None);
        for path in ["/indexes/a/explain", "/multi-search/explain", "/indexes/a/explain/"] {
            assert_eq!(seen(&layer, path, &[("authorization", &own)]).await, admin, "{path}");
            assert_eq!(seen(&layer, path, &[("x-admin-key", ADMIN.as_bytes())]).await, admin);
            assert_eq!(seen(&layer, path, &[("authorization", &master)]).await, client);
            assert_eq!(seen(&layer, path, &[]).await, MISSING);
        }
        for path in ["/indexes/a/documents/explain", "/indexes/explain", "/explain", "/tasks"] {
            assert_eq!(seen(&layer, path, &[("authorization", &own)]).await, INVALID, "{path}");
        }
        for path in ["/_miroirs", "/tasks", "/", "/%5Fmiroir/topology"] {
            assert_eq!(seen(&layer, path, &[("x-admin-key", ADMIN.as_bytes())]).await, MISSING);
        }
    }

    /// Whose documents are found is the client's business also where an operator looks on.
    #[tokio::test]
    async fn the_admin_key_beside_a_clients_leaves_the_client_who_it_is() {
        let layer = keys(Some(MASTER), Some(ADMIN));
        let both = |path: &str, bearer: &str| {
            let request = Request::get(path)
                .header("authorization", format!("Bearer {bearer}"))
                .header("x-admin-key", ADMIN);
            let inner = tower::service_fn(|request: Request<()>| async move {
                let extensions = request.extensions();
                let principal = extensions.get::<Principal>().cloned().unwrap();
                Ok::<_, std::convert::Infallible>((
                    principal,
                    extensions.get::<Operator>().copied(),
                ))
            });
            layer.layer(inner).oneshot(request.body(()).unwrap())
        };
        let explain = "/indexes/a/explain";
        assert_eq!(both(explain, MASTER).await.unwrap(), (Principal::MasterKey, Some(Operator)));
        for other in [ADMIN, "another-key"] {
            assert_eq!(both(explain, other).await.unwrap(), (Principal::Admin, None));
        }
        assert_eq!(both("/_miroir/topology", MASTER).await.unwrap(), (Principal::Admin, None));
        assert_eq!(both("/indexes/a/search", MASTER).await.unwrap(), (Principal::MasterKey, None));
    }

    #[tokio::test]
    async fn the_word_of_another_pod_is_for_whom_it_names() {
        let ring = Keyring::new(MasterKey::new(MASTER));
        let uids = std::array::from_fn(|at| uuid::Uuid::from_u128(at as u128));
        let key =
            miroir_core::keys::ApiKey::defaults(miroir_store::clock::now(), uids).swap_remove(2);
        ring.insert(key.clone()).await.unwrap();
        let keyring = Arc::new(ring);
        let with = |admin_key: Option<&str>| {
            AuthenticateLayer::new(&AuthenticateOptions {
                keyring: Arc::clone(&keyring),
                admin_key: admin_key.map(str::to_owned),
            })
            .keys
        };
        let keys = with(Some(ADMIN));
        assert_eq!(keys.by_word(Claim::Master), Ok(Principal::MasterKey));
        assert_eq!(keys.by_word(Claim::Admin), Ok(Principal::Admin));
        let word = Claim::Key(key.uid);
        assert_eq!(keys.by_word(word), Ok(Principal::ApiKey(Arc::new(key.clone()))));
        // Deleted meanwhile.
        keyring.delete(key.uid).await.unwrap();
        assert_eq!(keys.by_word(word), Err(AuthFailure::Invalid));
        assert_eq!(with(None).by_word(Claim::Admin), Err(AuthFailure::Invalid));
    }

    #[tokio::test]
    async fn without_an_admin_key_the_admin_api_is_closed() {
        for layer in [keys(None, None), keys(Some(""), Some(""))] {
            for key in ["", ADMIN] {
                let headers = [("x-admin-key", key.as_bytes())];
                assert_eq!(seen(&layer, "/_miroir/topology", &headers).await, INVALID);
            }
            assert_eq!(seen(&layer, "/_miroir/topology", &[]).await, MISSING);
            // An empty master key is none.
            assert_eq!(seen(&layer, "/tasks", &[]).await, (Principal::MasterKey, None));
        }
    }

    #[test]
    fn keys_do_not_show_in_debug_output() {
        let options = AuthenticateOptions {
            keyring: Arc::new(Keyring::new(MasterKey::new(MASTER))),
            admin_key: Some(ADMIN.into()),
        };
        let text = format!("{options:?} {:?}", AuthenticateLayer::new(&options));
        assert!(!text.contains(MASTER) && !text.contains(ADMIN), "{text}");
    }
}
