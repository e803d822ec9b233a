//! Limits how many requests come from one address, before anything is done for them.
//!
//! Requests are counted in token buckets ([`Buckets`](miroir_store::records::Buckets)), in memory or
//! in a store that all pods share. Health checks and the admin API are never limited.
//!
//! The address is that of the connection, in the request's extensions as
//! [`Peer`](miroir_pipeline::http::Peer); or, where that is a proxy that is believed, the last address in
//! `X-Forwarded-For` that is not one. IPv6 addresses count by their /64.
//!
//! # Stage
//! Edge. Any `http::Request<B>`; the body is not looked at.
//!
//! # Order
//! Outside of `authenticate`: guessing keys counts. Inside of `admission`, and of `pod_auth`: what
//! another pod has counted and passed on is not counted for that pod.
//!
//! # Context
//! Reads `Peer` from the request's extensions; a request without is not limited.
//!
//! # Errors
//! 429 `miroir_rate_limited`, with `Retry-After`. Every answer to a request that was counted says how
//! much is left (`RateLimit-Limit`, `RateLimit-Remaining`, `RateLimit-Reset`).
//!
//! # Metrics
//! `miroir_rate_limited_total{limit}`: refused; here `ip`. `miroir_rate_limit_errors_total`: not
//! counted because the store did not answer, and let in.
//!
//! # Example
//! ```
//! use std::net::Ipv4Addr;
//! use miroir_pipeline::http::Peer;
//! use miroir_store::memory;
//! use miroir_layers::edge::rate_limit::{Limiter, RateLimitLayer, RateLimitOptions};
//! use tower::{Service, ServiceBuilder, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let options = RateLimitOptions::new("2/hour".parse().unwrap());
//! let mut service = ServiceBuilder::new()
//!     .layer(RateLimitLayer::new(Limiter::new(memory::buckets()), options))
//!     .service_fn(|_: http::Request<()>| async move {
//!         let body = http_body_util::Empty::<bytes::Bytes>::new();
//!         Ok::<_, std::convert::Infallible>(http::Response::new(body))
//!     });
//! for (left, status) in [("1", 200), ("0", 200), ("0", 429)] {
//!     let mut request = http::Request::get("/indexes").body(()).unwrap();
//!     request.extensions_mut().insert(Peer(Ipv4Addr::LOCALHOST.into()));
//!     let response = service.ready().await.unwrap().call(request).await.unwrap();
//!     assert_eq!(response.status(), status);
//!     assert_eq!(response.headers()["ratelimit-remaining"], left);
//! }
//! # }
//! ```

pub(super) mod address;
mod layer;
mod limiter;
mod quota;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use ipnet::IpNet;

pub use layer::RateLimitLayer;
pub use limiter::{Limiter, Rate, Span, Whose};
pub use quota::Quota;
pub(crate) use quota::codec;

/// What is limited, and whom to believe: [`RateLimits::edge`](crate::RateLimits::edge).
#[derive(Clone, Debug)]
pub struct RateLimitOptions {
    /// Requests that one address may make.
    pub per_ip: Rate,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Addresses without a limit.
    pub exempt: Vec<IpNet>,
}

impl RateLimitOptions {
    /// Believes nobody and exempts nobody.
    #[must_use]
    pub fn new(per_ip: Rate) -> Self {
        Self { per_ip, trusted_proxies: Vec::new(), exempt: Vec::new() }
    }

    fn is_exempt(&self, ip: IpAddr) -> bool {
        self.exempt.iter().any(|network| network.contains(&ip))
    }
}
