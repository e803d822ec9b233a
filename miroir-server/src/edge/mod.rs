//! EDGE: what surrounds the client API and the admin API, outermost first.
//!
//! | layer | what it does |
//! | --- | --- |
//! | `catch_panic` | a panic of any layer answers 500 and leaves the connection usable |
//! | `request_id` | takes or makes the id, opens the span, answers `X-Miroir-Request-Id` |
//! | `observe` | one log line and the metrics of the request |
//! | `cors` | as permissive as Meilisearch |
//! | `negotiate` | picks the answer's encoding; 406 if there is none |
//! | `compression` | gzip, deflate, br |
//! | `decompression` | of request bodies |
//! | `normalize` | `//a//` is `/a` |
//! | `admit` | 503 above `server.max_concurrent_requests`, near the limit of memory above an eighth; probes always pass |
//! | `rate_limit` | 429 above `rate_limit.per_ip`, if that is set |
//! | `authenticate` | bearer token to principal |
//! | `catch_handler` | a panic below answers 500 with everything above in place |
//! | `forward` | what changes something goes to the pod that leads |

mod admit;
mod cors;
mod negotiate;
mod normalize;
mod observe;
mod panic;
mod request_id;

use std::sync::Arc;

use axum::Router;
use bytes::Bytes;
use hyper::body::{Body, Incoming};
use miroir::Cluster;
use miroir::cluster::Leadership;
use miroir::http::TenantSource;
use miroir::http::{Decode, DecodeOptions, EdgeService};
use miroir::keyring::Keyring;
use miroir::stack::Description;
use miroir::store::{Stores, memory};
use miroir_layers::edge::{
    AuthenticateLayer, AuthenticateOptions, ForwardLayer, ForwardOptions, RateLimitLayer,
    RateLimitOptions,
};
use tower::Layer;
use tower::layer::util::{Identity, Stack as Pair};
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::SizeAbove;
use tower_http::decompression::RequestDecompressionLayer;

pub(crate) use self::admit::Admission;
use self::admit::AdmitLayer;
use self::cors::CorsLayer;
use self::negotiate::NegotiateLayer;
use self::normalize::NormalizeLayer;
use self::observe::ObserveLayer;
use self::panic::catch_panic;
use self::request_id::RequestIdLayer;
use crate::config::Config;
use crate::limiter::limiter;
use crate::mount::Mount;

/// What a listener serves: one request at a time and connection, any number of clones.
pub(crate) trait Edge:
    EdgeService<Incoming, Body: Body<Data = Bytes, Error: Into<miroir::error::BoxError>>>
{
}

impl<S> Edge for S where
    S: EdgeService<Incoming, Body: Body<Data = Bytes, Error: Into<miroir::error::BoxError>>>
{
}

/// Layers of the edge with their names: one list for the service and for `--describe-stack`.
struct Named<L> {
    layers: L,
    names: Vec<&'static str>,
}

impl<L> Named<L> {
    /// Adds a layer inside of all layers so far.
    fn push<N>(mut self, name: &'static str, layer: N) -> Named<Pair<N, L>> {
        self.names.push(name);
        Named { layers: Pair::new(layer, self.layers), names: self.names }
    }

    /// Adds a layer, by name if it does anything.
    fn push_if<N>(mut self, name: &'static str, on: bool, layer: N) -> Named<Pair<N, L>> {
        self.names.extend(on.then_some(name));
        Named { layers: Pair::new(layer, self.layers), names: self.names }
    }
}

/// THE ORDER of the edge.
macro_rules! stack {
    ($config:expr, $keyring:expr, $admission:expr, $limit:expr, $forward:expr) => {
        Named { layers: Identity::new(), names: Vec::new() }
            .push("catch_panic", catch_panic())
            .push("request_id", RequestIdLayer)
            .push("observe", ObserveLayer::new())
            .push("cors", CorsLayer)
            .push("negotiate", NegotiateLayer)
            .push("compression", CompressionLayer::new().compress_when(SizeAbove::new(1)))
            .push("decompression", RequestDecompressionLayer::new().pass_through_unaccepted(true))
            .push("normalize", NormalizeLayer)
            .push("admit", AdmitLayer::new($admission))
            .push_if("rate_limit", $limit.is_on(), $limit)
            .push(
                "authenticate",
                AuthenticateLayer::new(&AuthenticateOptions {
                    keyring: $keyring,
                    admin_key: $config.admin.api_key.get().map(str::to_owned),
                }),
            )
            .push("catch_handler", catch_panic())
            .push("forward", ForwardLayer::new($forward))
    };
}

/// Whom this pod asks to change things.
fn forward(config: &Config, leadership: Arc<Leadership>) -> ForwardOptions {
    let leader = Arc::clone(&leadership);
    ForwardOptions {
        leads: Arc::new(move || leadership.leads()),
        leader: Arc::new(move || leader.leader()),
        timeout: config.server.request_timeout,
        max_body: config.server.max_body_bytes,
    }
}

/// How requests of one address are limited, if they are.
fn limit(config: &Config, stores: &Stores) -> RateLimitLayer {
    match config.rate_limit.edge() {
        Some(limits) => {
            let limits = RateLimitOptions { secret: counted(config), ..limits };
            RateLimitLayer::new(limiter(config, stores), limits)
        }
        None => RateLimitLayer::off(),
    }
}

/// What pods show each other so that a request they pass on is counted once: a digest of what only
/// they know. Nothing where there are no others.
fn counted(config: &Config) -> Option<String> {
    let key = config.master_key.get().filter(|_| config.is_shared())?;
    Some(miroir::cluster::tenants::hash_of(format!("miroir rate_limit counted\0{key}").as_bytes()))
}

/// How tenants are told apart, if they are.
fn tenants(config: &Config, cluster: &Cluster) -> Option<TenantSource> {
    if config.tenant_affinity.is_kept() {
        let directory = Arc::clone(&cluster.state.tenants);
        let keyring = Arc::clone(&cluster.state.keyring);
        return Some(TenantSource::ApiKey { directory, keyring });
    }
    config.tenant_affinity.header().map(TenantSource::Header)
}

/// The layers, outermost first.
pub(crate) fn describe(config: &Config) -> Description {
    let keyring = Arc::new(Keyring::new(None));
    let admission = Admission::new(config.server.max_concurrent_requests);
    let forward = forward(config, Arc::default());
    let limit = limit(config, &memory::open());
    Description { stage: "edge", layers: stack!(config, keyring, admission, limit, forward).names }
}

/// The edge around the client API and the admin API.
pub(crate) fn service(
    config: &Config,
    cluster: &Cluster,
    admission: Arc<Admission>,
    admin: Router,
) -> impl Edge {
    let operations = cluster.operations.clone();
    let keyring = Arc::clone(&cluster.state.keyring);
    let decode = Decode::new(
        operations,
        DecodeOptions {
            timeout: config.server.request_timeout,
            max_body: config.server.max_body_bytes,
        },
    )
    .tenants(tenants(config, cluster));
    let forward = forward(config, Arc::clone(&cluster.state.leadership));
    let limit = limit(config, &cluster.state.stores);
    stack!(config, keyring, admission, limit, forward).layers.layer(Mount::new(admin, decode))
}
