//! Limits how many requests one API key and one tenant may make.
//!
//! Counted as at the [edge](crate::edge::rate_limit), after the key was judged: a wrong key counts
//! for nobody here. A tenant token counts for the key that signed it. The master key has no limit: it
//! is the deployment's own.
//!
//! A request counts once, whatever it asks for: a multi-search is one request.
//!
//! # Stage
//! Operation, requests of clients. What needs no key passes untouched.
//!
//! # Order
//! Inside of `authorize`. Whatever answers from memory belongs inside.
//!
//! # Context
//! Reads `origin`, `principal` and [`NamedTenant`].
//!
//! # Errors
//! 429 `miroir_rate_limited`. A [`Quota`] in the `Meta` of an answer says what is left of the tighter
//! limit; its codec writes `RateLimit-Limit`, `-Remaining`, `-Reset`, and `Retry-After`.
//!
//! # Metrics
//! `miroir_rate_limited_total{limit}`: refused, `key` or `tenant`. `miroir_rate_limit_errors_total`:
//! not counted because the store did not answer, and let in.
//!
//! # Example
//! ```
//! use miroir_pipeline::Stack;
//! use miroir_store::memory;
//! use miroir_layers::edge::rate_limit::Limiter;
//! use miroir_layers::operation::{AuthorizeLayer, RateLimitLayer, RateLimitOptions};
//!
//! let options = RateLimitOptions {
//!     per_key: Some("100/second".parse().unwrap()),
//!     per_tenant: None,
//! };
//! let stack = Stack::<miroir_pipeline::operation::Request>::new()
//!     .push(AuthorizeLayer::default())
//!     .push(RateLimitLayer::new(Limiter::new(memory::buckets()), options));
//! assert_eq!(stack.describe().layers, ["authorize", "rate_limit"]);
//! ```

#[cfg(test)]
mod tests;

use std::sync::Arc;

use miroir_pipeline::codec::HeaderCodec;
use miroir_pipeline::context::{Origin, Principal};
use miroir_pipeline::operation::Request;
use miroir_pipeline::stack::LayerName;
use miroir_pipeline::stage::{Middleware, Ready, Reply};
use miroir_pipeline::{Error, Placed, StageService};

use crate::edge::rate_limit::{Limiter, Quota, Rate, Whose, codec};
use crate::index::tenant_affinity::NamedTenant;
use crate::operation::AuthorizeLayer;

/// What is limited: [`RateLimits::operation`](crate::RateLimits::operation).
#[derive(Clone, Copy, Debug, Default)]
pub struct RateLimitOptions {
    /// Requests with one API key and the tokens it signed; `None` for no limit.
    pub per_key: Option<Rate>,
    /// Requests of one tenant of tenant affinity; `None` for no limit.
    pub per_tenant: Option<Rate>,
}

/// See the [module's documentation](self).
#[derive(Clone, Debug)]
#[must_use]
pub struct RateLimitLayer {
    limiter: Limiter,
    options: RateLimitOptions,
}

impl RateLimitLayer {
    /// Limits with these options.
    pub fn new(limiter: Limiter, options: RateLimitOptions) -> Self {
        Self { limiter, options }
    }
}

impl Placed for RateLimitLayer {
    const NAME: &'static str = "rate_limit";
    const INSIDE_OF: &'static [LayerName] = &[LayerName::of::<AuthorizeLayer>()];

    fn codec(&self) -> Option<Arc<dyn HeaderCodec>> {
        Some(codec())
    }
}

miroir_pipeline::layer!(RateLimitLayer);

impl RateLimitLayer {
    /// The buckets of a request.
    fn buckets(&self, request: &Request) -> Vec<(Whose, String, Rate)> {
        let mut buckets = Vec::new();
        if request.cx.origin != Origin::Client || request.op.is_public() {
            return buckets;
        }
        let key = match &request.cx.principal {
            Principal::ApiKey(key) => Some(key.uid),
            Principal::Tenant(token) => Some(token.key.uid),
            _ => None,
        };
        if let (Some(uid), Some(rate)) = (key, self.options.per_key) {
            buckets.push((Whose::Key, uid.to_string(), rate));
        }
        if let (Some(tenant), Some(rate)) =
            (request.cx.get::<NamedTenant>(), self.options.per_tenant)
        {
            buckets.push((Whose::Tenant, tenant.name.to_string(), rate));
        }
        buckets
    }

    /// Counts a request, and says what is left.
    async fn count(&self, buckets: Vec<(Whose, String, Rate)>) -> Result<Option<Quota>, Error> {
        let mut tightest: Option<Quota> = None;
        for (whose, name, rate) in buckets {
            let Some(quota) = self.limiter.take(whose, &name, rate).await else { continue };
            if quota.retry_after.is_some() {
                return Err(Limiter::refusal(whose, rate, quota));
            }
            tightest = Some(tightest.map_or(quota, |other| other.tighter(quota)));
        }
        Ok(tightest)
    }
}

impl Middleware<Request> for RateLimitLayer {
    fn call<S: StageService<Request>>(
        &self,
        request: Request,
        next: Ready<'_, S>,
    ) -> Reply<Request, S> {
        let buckets = self.buckets(&request);
        if buckets.is_empty() {
            return next.pass(request);
        }
        let (next, layer) = (next.take(), self.clone());
        Reply::boxed(async move {
            let quota = layer.count(buckets).await?;
            let mut response = next.run(request).await?;
            if let Some(quota) = quota {
                response.meta.insert(quota);
            }
            Ok(response)
        })
    }
}
