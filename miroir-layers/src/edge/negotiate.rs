//! Picks the encoding of the answer as Meilisearch does, and leaves the request with an
//! `Accept-Encoding` that says just that, or none.
//!
//! Highest `q` wins, then br before gzip before deflate. `*` alone asks for nothing special. Who
//! refuses the plain text and every encoding there is gets 406 *before* anything is done.
//!
//! # Stage
//! Edge. Any `http::Request<B>`; the body is not looked at.
//!
//! # Order
//! Outside of `compression`, which does what is picked here. Inside of `cors`, which adds a `Vary` of
//! its own: this layer removes that of an answer that is not encoded.
//!
//! # Context
//! Reads nothing.
//!
//! # Errors
//! 406, with the encodings there are as plain text.
//!
//! # Metrics
//! None.
//!
//! # Example
//! ```
//! use miroir_layers::edge::NegotiateLayer;
//! use tower::{ServiceBuilder, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let service = ServiceBuilder::new().layer(NegotiateLayer::new()).service_fn(
//!     |request: http::Request<()>| async move {
//!         assert_eq!(request.headers()["accept-encoding"], "br");
//!         Ok::<_, std::convert::Infallible>(http::Response::new(String::new()))
//!     },
//! );
//! let request = http::Request::get("/indexes").header("accept-encoding", "gzip, br");
//! assert_eq!(service.oneshot(request.body(()).unwrap()).await.unwrap().status(), 200);
//! # }
//! ```

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, VARY};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{Either, Full};
use miroir_pipeline::Placed;
use miroir_pipeline::http::{EdgeFuture, EdgeMiddleware, EdgeReady, EdgeService};
use miroir_pipeline::stack::LayerName;

use super::cors::CorsLayer;

/// Encodings of answers, best first.
const KNOWN: [&str; 3] = ["br", "gzip", "deflate"];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Choice {
    Plain,
    Encoded(&'static str),
    Nothing,
}

/// Quality from 0 to 1000; `None` for what is not one.
fn quality(text: &str) -> Option<u16> {
    let q: f32 = text.trim().parse().ok()?;
    (0.0..=1.0).contains(&q).then_some((q * 1_000.0) as u16)
}

fn choose(headers: &HeaderMap) -> Choice {
    let mut plain = None;
    let mut others = None;
    let mut best: Option<(u16, usize)> = None;
    let lists = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    for item in lists.flat_map(|list| list.split(',')) {
        let (name, parameters) = item.split_once(';').unwrap_or((item, ""));
        let name = name.trim().to_ascii_lowercase();
        let given = parameters.trim().strip_prefix("q=").or(parameters.trim().strip_prefix("Q="));
        let Some(q) = given.map_or(Some(1_000), quality) else { continue };
        match (name.as_str(), KNOWN.iter().position(|known| *known == name)) {
            ("identity", _) => plain = Some(q),
            ("*", _) => others = Some(q),
            (_, Some(at)) if q > 0 => {
                let better = best.is_none_or(|(top, first)| q > top || (q == top && at < first));
                if better {
                    best = Some((q, at));
                }
            }
            _ => {}
        }
    }
    match (best, plain, others) {
        (Some((q, at)), ..) if plain.is_none_or(|plain| q >= plain) => Choice::Encoded(KNOWN[at]),
        (None, Some(0), _) | (None, None, Some(0)) => Choice::Nothing,
        _ => Choice::Plain,
    }
}

/// See the [module's documentation](self).
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
pub struct NegotiateLayer(());

impl NegotiateLayer {
    /// As Meilisearch: there is nothing to choose.
    pub fn new() -> Self {
        Self(())
    }
}

impl Placed for NegotiateLayer {
    const NAME: &'static str = "negotiate";
    const INSIDE_OF: &'static [LayerName] = &[LayerName::of::<CorsLayer>()];
}

miroir_pipeline::edge_layer!(NegotiateLayer);

fn not_acceptable() -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from("br, gzip, deflate"));
    *response.status_mut() = StatusCode::NOT_ACCEPTABLE;
    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    response
}

impl EdgeMiddleware for NegotiateLayer {
    type Body<C: Send + 'static> = Either<Full<Bytes>, C>;

    fn call<B: Send + 'static, S: EdgeService<B>>(
        &self,
        mut request: Request<B>,
        next: EdgeReady<'_, S>,
    ) -> EdgeFuture<Self::Body<S::Body>> {
        match choose(request.headers()) {
            Choice::Nothing => {
                return Box::pin(std::future::ready(Ok(not_acceptable().map(Either::Left))));
            }
            Choice::Plain => drop(request.headers_mut().remove(ACCEPT_ENCODING)),
            Choice::Encoded(name) => {
                request.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static(name));
            }
        }
        let answer = next.call(request);
        Box::pin(async move {
            let mut response = answer.await?;
            // Meilisearch names the header only on answers that are encoded.
            if !response.headers().contains_key(CONTENT_ENCODING) {
                response.headers_mut().remove(VARY);
            }
            Ok(response.map(Either::Right))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_meilisearch_chooses() {
        let cases = [
            ("gzip", Choice::Encoded("gzip")),
            ("gzip, br, deflate", Choice::Encoded("br")),
            ("br, zstd", Choice::Encoded("br")),
            ("zstd", Choice::Plain),
            ("deflate;q=1.0, gzip;q=0.5", Choice::Encoded("deflate")),
            ("br;q=0.1, deflate;q=0.5, gzip;q=0.2", Choice::Encoded("deflate")),
            ("gzip;q=0", Choice::Plain),
            ("", Choice::Plain),
            ("identity", Choice::Plain),
            ("*", Choice::Plain),
            ("gzip, *;q=0", Choice::Encoded("gzip")),
            ("zstd, *;q=0", Choice::Nothing),
            ("identity;q=0", Choice::Nothing),
            ("identity;q=1, gzip;q=0.5", Choice::Plain),
        ];
        for (text, expected) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(text));
            assert_eq!(choose(&headers), expected, "{text}");
        }
        assert_eq!(choose(&HeaderMap::new()), Choice::Plain);
    }
}
