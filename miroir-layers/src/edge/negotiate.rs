//! Picks the encoding of the answer as Meilisearch does, and leaves the request with an
//! `Accept-Encoding` that says just that, or none.
//!
//! Highest `q` wins, then br before gzip before deflate. `*` alone asks for nothing special. Who
//! refuses the plain text and every encoding there is gets 406 *before* anything is done.

use std::convert::Infallible;
use std::task::{self, Poll};

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, VARY};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{Either, Full};
use miroir::http::{EdgeFuture, EdgeService};
use miroir::stage::take_ready;
use tower::{Layer, Service};

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

#[derive(Clone, Copy, Debug)]
pub(super) struct NegotiateLayer;

impl<S> Layer<S> for NegotiateLayer {
    type Service = Negotiate<S>;
    fn layer(&self, inner: S) -> Negotiate<S> {
        Negotiate { inner }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Negotiate<S> {
    inner: S,
}

fn not_acceptable() -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from("br, gzip, deflate"));
    *response.status_mut() = StatusCode::NOT_ACCEPTABLE;
    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    response
}

impl<S: EdgeService<B>, B: Send + 'static> Service<Request<B>> for Negotiate<S> {
    type Response = Response<Either<Full<Bytes>, S::Body>>;
    type Error = Infallible;
    type Future = EdgeFuture<Either<Full<Bytes>, S::Body>>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        match choose(request.headers()) {
            Choice::Nothing => {
                return Box::pin(std::future::ready(Ok(not_acceptable().map(Either::Left))));
            }
            Choice::Plain => drop(request.headers_mut().remove(ACCEPT_ENCODING)),
            Choice::Encoded(name) => {
                request.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static(name));
            }
        }
        let mut inner = take_ready(&mut self.inner);
        Box::pin(async move {
            let mut response = inner.call(request).await?;
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
