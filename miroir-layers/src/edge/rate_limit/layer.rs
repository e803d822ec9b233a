//! The layer and its service.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{self, Poll};

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body_util::{Either, Full};
use miroir_pipeline::Placed;
use miroir_pipeline::http::{EdgeFuture, EdgeService, Peer, refuse};
use miroir_pipeline::stage::take_ready;
use subtle::ConstantTimeEq;
use tower::{Layer, Service};

use super::{COUNTED, Limiter, Quota, RateLimitOptions, Whose, address};

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
}

impl<S> Layer<S> for RateLimitLayer {
    type Service = RateLimit<S>;
    fn layer(&self, inner: S) -> RateLimit<S> {
        RateLimit { inner, shared: self.shared.clone() }
    }
}

/// See the [module's documentation](super).
#[derive(Clone, Debug)]
pub struct RateLimit<S> {
    inner: S,
    shared: Option<Arc<Shared>>,
}

/// What probes and operators ask.
fn is_free(path: &str) -> bool {
    path == "/health"
        || path
            .strip_prefix("/_miroir")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl Shared {
    /// The bucket of a request that is to be counted. Takes the mark of another pod off it.
    fn bucket<B>(&self, request: &mut Request<B>) -> Option<String> {
        let options = &self.options;
        let mark = request.headers_mut().remove(COUNTED);
        if let (Some(mark), Some(secret)) = (&mark, &options.secret)
            && bool::from(mark.as_bytes().ct_eq(secret.as_bytes()))
        {
            return None;
        }
        if is_free(request.uri().path()) {
            return None;
        }
        let peer = request.extensions().get::<Peer>()?.0;
        let client = address::client(peer, request.headers(), &options.trusted_proxies);
        (!options.is_exempt(client)).then(|| address::bucket(client))
    }

    fn mark<B>(&self, request: &mut Request<B>) {
        let secret = self.options.secret.as_deref();
        if let Some(mut value) = secret.and_then(|secret| HeaderValue::from_str(secret).ok()) {
            value.set_sensitive(true);
            request.headers_mut().insert(COUNTED, value);
        }
    }
}

impl<S: EdgeService<B>, B: Send + 'static> Service<Request<B>> for RateLimit<S> {
    type Response = Response<Either<Full<Bytes>, S::Body>>;
    type Error = Infallible;
    type Future = EdgeFuture<Either<Full<Bytes>, S::Body>>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let mut inner = take_ready(&mut self.inner);
        let Some(shared) = self.shared.clone() else {
            return Box::pin(async move { Ok(inner.call(request).await?.map(Either::Right)) });
        };
        Box::pin(async move {
            let mut quota: Option<Quota> = None;
            if let Some(bucket) = shared.bucket(&mut request) {
                let rate = shared.options.per_ip;
                quota = shared.limiter.take(Whose::Ip, &bucket, rate).await;
                if let Some(quota) = quota.filter(|quota| quota.retry_after.is_some()) {
                    let error = Limiter::refusal(Whose::Ip, rate, quota);
                    let mut refusal = refuse(&error);
                    quota.tell(refusal.headers_mut());
                    return Ok(refusal.map(Either::Left));
                }
            }
            shared.mark(&mut request);
            let mut response = inner.call(request).await?;
            if let Some(quota) = quota {
                quota.tell(response.headers_mut());
            }
            Ok(response.map(Either::Right))
        })
    }
}
