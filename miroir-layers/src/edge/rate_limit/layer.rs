//! The layer.

use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use http_body_util::{Either, Full};
use miroir_pipeline::Placed;
use miroir_pipeline::http::{EdgeFuture, EdgeMiddleware, EdgeReady, EdgeService, Peer, refuse};
use miroir_pipeline::stack::LayerName;

use super::{Limiter, Quota, RateLimitOptions, Whose, address};
use crate::edge::admission::AdmissionLayer;
use crate::edge::paths::is_admin;
use crate::edge::pod_auth::{PodAuthLayer, Vouched};

#[derive(Debug)]
struct Shared {
    limiter: Limiter,
    options: RateLimitOptions,
}

/// See the [module's documentation](super).
#[derive(Clone, Debug)]
#[must_use]
pub struct RateLimitLayer {
    shared: Option<Arc<Shared>>,
}

impl RateLimitLayer {
    /// Limits with these options.
    pub fn new(limiter: Limiter, options: RateLimitOptions) -> Self {
        Self { shared: Some(Arc::new(Shared { limiter, options })) }
    }

    /// Limits nothing: answers have the same type with and without a limit.
    pub fn off() -> Self {
        Self { shared: None }
    }

    /// Whether it limits anything.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.shared.is_some()
    }
}

impl Placed for RateLimitLayer {
    const NAME: &'static str = "rate_limit";
    const INSIDE_OF: &'static [LayerName] =
        &[LayerName::of::<AdmissionLayer>(), LayerName::of::<PodAuthLayer>()];
}

miroir_pipeline::edge_layer!(RateLimitLayer);

impl Shared {
    /// The bucket of a request that is to be counted.
    fn bucket<B>(&self, request: &Request<B>) -> Option<String> {
        let options = &self.options;
        if request.extensions().get::<Vouched>().is_some() {
            return None;
        }
        let path = request.uri().path();
        if path == "/health" || is_admin(path) {
            return None;
        }
        let peer = request.extensions().get::<Peer>()?.0;
        let client = address::client(peer, request.headers(), &options.trusted_proxies);
        (!options.is_exempt(client)).then(|| address::bucket(client))
    }
}

impl EdgeMiddleware for RateLimitLayer {
    type Body<C: Send + 'static> = Either<Full<Bytes>, C>;

    fn call<B: Send + 'static, S: EdgeService<B>>(
        &self,
        request: Request<B>,
        next: EdgeReady<'_, S>,
    ) -> EdgeFuture<Self::Body<S::Body>> {
        let Some(shared) = self.shared.clone() else {
            let answer = next.call(request);
            return Box::pin(async move { Ok(answer.await?.map(Either::Right)) });
        };
        let next = next.take();
        Box::pin(async move {
            let mut quota: Option<Quota> = None;
            if let Some(bucket) = shared.bucket(&request) {
                let rate = shared.options.per_ip;
                quota = shared.limiter.take(Whose::Ip, &bucket, rate).await;
                if let Some(quota) = quota.filter(|quota| quota.retry_after.is_some()) {
                    let error = Limiter::refusal(Whose::Ip, rate, quota);
                    let mut refusal = refuse(&error);
                    quota.tell(refusal.headers_mut());
                    return Ok(refusal.map(Either::Left));
                }
            }
            let mut response = next.run(request).await?;
            if let Some(quota) = quota {
                quota.tell(response.headers_mut());
            }
            Ok(response.map(Either::Right))
        })
    }
}
