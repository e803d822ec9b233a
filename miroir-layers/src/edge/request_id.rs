//! Gives every request an id: the client's where it is sane, one of its own otherwise.
//!
//! Every answer has it as `X-Miroir-Request-Id`. `X-Request-Id` comes back only to those who sent
//! one: Meilisearch does not send that header, and an answer has no headers beyond Meilisearch's
//! but `X-Miroir-*`.
//!
//! # Stage
//! Edge. Any `http::Request<B>`; the body is not looked at.
//!
//! # Order
//! Outside of all that logs or answers; inside of the outer `catch_panic`.
//!
//! # Context
//! Inserts [`RequestId`] into the request's extensions, and opens the span `request` with it. `Decode`
//! turns it into `Context::request_id`.
//!
//! # Errors
//! None.
//!
//! # Metrics
//! None.
//!
//! # Example
//! ```
//! use miroir_layers::edge::RequestIdLayer;
//! use tower::{ServiceBuilder, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let service = ServiceBuilder::new().layer(RequestIdLayer::new()).service_fn(
//!     |_: http::Request<()>| async move {
//!         Ok::<_, std::convert::Infallible>(http::Response::new(String::new()))
//!     },
//! );
//! let request = http::Request::get("/indexes").header("x-request-id", "abc-1").body(()).unwrap();
//! let response = service.oneshot(request).await.unwrap();
//! assert_eq!(response.headers()["x-miroir-request-id"], "abc-1");
//! # }
//! ```

use std::sync::Arc;

use http::{HeaderValue, Request};
use miroir_api::header::{MIROIR_REQUEST_ID, REQUEST_ID};
use miroir_pipeline::Placed;
use miroir_pipeline::http::{EdgeFuture, EdgeMiddleware, EdgeReady, EdgeService, RequestId};
use miroir_pipeline::stack::LayerName;
use tracing::Instrument;
use uuid::Uuid;

use super::catch_panic::CatchPanicLayer;

/// Longest id taken from a client, in bytes.
const LONGEST: usize = 128;

/// An id: a 64-bit hash of a `UUIDv7`, in hexadecimal. Short to read, and random enough that two
/// pods do not meet (the uuid has 74 random bits).
fn make() -> String {
    let (high, low) = Uuid::now_v7().as_u64_pair();
    // One round of a finaliser: every bit of the uuid reaches every bit of the id.
    let mut hash = high.rotate_left(32) ^ low;
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    format!("{:016x}", hash ^ (hash >> 33))
}

/// The client's id, if it can stand in a header, a log line and a shell without quoting.
fn taken(value: &HeaderValue) -> Option<&str> {
    let sane = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:+/=@".contains(&byte);
    let text = value.to_str().ok()?;
    (!text.is_empty() && text.len() <= LONGEST && text.bytes().all(sane)).then_some(text)
}

/// See the [module's documentation](self).
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
pub struct RequestIdLayer(());

impl RequestIdLayer {
    /// There is nothing to choose.
    pub fn new() -> Self {
        Self(())
    }
}

impl Placed for RequestIdLayer {
    const NAME: &'static str = "request_id";
    const INSIDE_OF: &'static [LayerName] = &[LayerName::of::<CatchPanicLayer>()];
}

miroir_pipeline::edge_layer!(RequestIdLayer);

impl EdgeMiddleware for RequestIdLayer {
    type Body<C: Send + 'static> = C;

    fn call<B: Send + 'static, S: EdgeService<B>>(
        &self,
        mut request: Request<B>,
        next: EdgeReady<'_, S>,
    ) -> EdgeFuture<S::Body> {
        let given = request.headers().get(REQUEST_ID);
        let asked = given.is_some();
        let id: Arc<str> = given.and_then(taken).map_or_else(make, str::to_owned).into();
        request.extensions_mut().insert(RequestId(Arc::clone(&id)));
        let span = tracing::info_span!("request", request_id = %id);
        let answer = span.in_scope(|| next.call(request));
        let named = async move {
            let mut response = answer.await?;
            if let Ok(value) = HeaderValue::from_str(&id) {
                if asked {
                    response.headers_mut().insert(REQUEST_ID, value.clone());
                }
                response.headers_mut().insert(MIROIR_REQUEST_ID, value);
            }
            Ok(response)
        };
        Box::pin(named.instrument(span))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ids_are_short_and_do_not_repeat() {
        let ids: BTreeSet<String> = (0..10_000).map(|_| make()).collect();
        assert_eq!(ids.len(), 10_000);
        assert!(ids.iter().all(|id| id.len() == 16 && id.bytes().all(|b| b.is_ascii_hexdigit())));
    }

    #[test]
    fn only_short_printable_ids_are_taken() {
        let take = |bytes: &[u8]| {
            let value = HeaderValue::from_bytes(bytes).unwrap();
            taken(&value).map(str::to_owned)
        };
        assert_eq!(take(b"abc-123_4.5:6").as_deref(), Some("abc-123_4.5:6"));
        assert_eq!(take(b""), None);
        assert_eq!(take(b"two words"), None);
        assert_eq!(take(b"\"quoted\""), None);
        assert_eq!(take(b"caf\xc3\xa9"), None);
        assert!(take(&[b'a'; LONGEST]).is_some());
        assert_eq!(take(&[b'a'; LONGEST + 1]), None);
    }
}
