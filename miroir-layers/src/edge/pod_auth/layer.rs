//! The layer.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response};
use http_body_util::{Either, Full};
use miroir_pipeline::Placed;
use miroir_pipeline::error::Error;
use miroir_pipeline::http::{Answered, EdgeFuture, EdgeMiddleware, EdgeReady, EdgeService, refuse};
use miroir_pipeline::stack::LayerName;

use super::proof::{Statement, Unproven, bytes};
use super::{CHALLENGE, FORWARDED, HELLO, PROOF, PodProof, Vouched};
use crate::edge::admission::AdmissionLayer;
use crate::edge::normalize::NormalizeLayer;

/// See the [module's documentation](super).
#[derive(Clone, Debug)]
#[must_use]
pub struct PodAuthLayer {
    proof: Arc<PodProof>,
    address: Option<Arc<str>>,
}

impl PodAuthLayer {
    /// Of a pod that others reach at `address`, exactly as the store names it to them; `None` for
    /// one that is alone, which believes nobody.
    pub fn new(proof: Arc<PodProof>, address: Option<Arc<str>>) -> Self {
        Self { proof, address }
    }

    /// The answer to a challenge.
    fn hello<B>(&self, address: &str, request: &Request<B>) -> Option<Response<Full<Bytes>>> {
        if request.uri().path() != HELLO || request.method() != Method::GET {
            return None;
        }
        let challenge = bytes(request.headers().get(CHALLENGE)?.to_str().ok()?)?;
        let mut response = Response::new(Full::default());
        response.headers_mut().insert(PROOF, self.proof.hello(address, &challenge));
        response.extensions_mut().insert(Answered {
            route: HELLO,
            index: None,
            degraded: false,
            nodes: 0,
            label: None,
        });
        Some(response)
    }

    /// What another pod says of a request.
    fn judge<B>(
        &self,
        mark: &HeaderValue,
        request: &Request<B>,
    ) -> Option<Result<Statement, Unproven>> {
        self.proof.judge(mark, request.method(), request.uri(), request.headers())
    }
}

impl Placed for PodAuthLayer {
    const NAME: &'static str = "pod_auth";
    const INSIDE_OF: &'static [LayerName] =
        &[LayerName::of::<NormalizeLayer>(), LayerName::of::<AdmissionLayer>()];
}

miroir_pipeline::edge_layer!(PodAuthLayer);

impl EdgeMiddleware for PodAuthLayer {
    type Body<C: Send + 'static> = Either<Full<Bytes>, C>;

    fn call<B: Send + 'static, S: EdgeService<B>>(
        &self,
        mut request: Request<B>,
        next: EdgeReady<'_, S>,
    ) -> EdgeFuture<Self::Body<S::Body>> {
        let mark = request.headers_mut().remove(FORWARDED);
        if let Some(address) = self.address.as_deref() {
            if let Some(answer) = self.hello(address, &request) {
                return Box::pin(async move { Ok(answer.map(Either::Left)) });
            }
            match mark.and_then(|mark| self.judge(&mark, &request)) {
                None => {}
                Some(Ok(statement)) => {
                    request.extensions_mut().insert(Vouched(statement));
                }
                Some(Err(Unproven)) => {
                    metrics::counter!("miroir_pod_proofs_failed_total", "of" => "statement")
                        .increment(1);
                    let refusal = refuse(&Error::no_leader());
                    return Box::pin(async move { Ok(refusal.map(Either::Left)) });
                }
            }
        }
        let answer = next.call(request);
        Box::pin(async move { Ok(answer.await?.map(Either::Right)) })
    }
}
