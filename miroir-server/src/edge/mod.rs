//! EDGE: what surrounds the client API and the admin API. Its order is the library's,
//! [`miroir::order::EDGE`]; a test compares the two.

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
use miroir::Miroir;
use miroir::http::EdgeService;
use miroir::stack::Description;
use miroir::store::memory;
use miroir_layers::edge::RateLimitLayer;
use miroir_layers::edge::rate_limit::Limiter;
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

/// The layers of the edge, outermost first.
macro_rules! stack {
    ($admission:expr, $limit:expr, $authenticate:expr, $forward:expr) => {
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
            .push("authenticate", $authenticate)
            .push("catch_handler", catch_panic())
            .push("forward", $forward)
    };
}

/// The layers, outermost first.
pub(crate) fn describe(config: &Config) -> Description {
    let admission = Admission::new(config.server.max_concurrent_requests);
    let limit = match config.rate_limit.edge() {
        Some(limits) => RateLimitLayer::new(Limiter::new(memory::buckets()), limits),
        None => RateLimitLayer::off(),
    };
    // Layers of nobody: only their names are looked at.
    let nobody = Identity::new;
    Description { stage: "edge", layers: stack!(admission, limit, nobody(), nobody()).names }
}

/// The edge around the client API and the admin API.
pub(crate) fn service(miroir: &Miroir, admission: Arc<Admission>, admin: Router) -> impl Edge {
    let limit = miroir.rate_limit();
    stack!(admission, limit, miroir.authenticate(), miroir.forward())
        .layers
        .layer(Mount::new(admin, miroir.decode()))
}
