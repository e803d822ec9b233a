//! Decodes bodies of requests that are encoded with gzip, deflate or br.
//!
//! What a node does not read is not read: of gzip there has to be one member, and nothing behind it. The
//! others are decoded by tower-http's `RequestDecompressionLayer`.
//!
//! A body in another encoding goes on as it is: Decode refuses it in Meilisearch's words.
//!
//! # Stage
//! Edge. Any `http::Request<B>` with a body of bytes; the body is decoded while it is read, so what
//! bounds its size inside of this layer bounds the decoded size.
//!
//! # Order
//! Outside of what reads bodies: `forward` and Decode.
//!
//! # Context
//! Reads nothing. Removes `Content-Encoding` of what it decodes.
//!
//! # Errors
//! None of its own: a body that is not what it says is one that ends too early.
//!
//! # Metrics
//! None.
//!
//! # Example
//! ```
//! use bytes::Bytes;
//! use http_body_util::Full;
//! use miroir_layers::edge::decompression::{Decompressed, DecompressionLayer};
//! use tower::{ServiceBuilder, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let service = ServiceBuilder::new().layer(DecompressionLayer::new()).service_fn(
//!     |request: http::Request<Decompressed<Full<Bytes>>>| async move {
//!         assert!(!request.headers().contains_key("content-encoding"));
//!         Ok::<_, std::convert::Infallible>(http::Response::new(Full::<Bytes>::default()))
//!     },
//! );
//! let request = http::Request::post("/indexes").header("content-encoding", "gzip");
//! let request = request.body(Full::<Bytes>::default()).unwrap();
//! assert_eq!(service.oneshot(request).await.unwrap().status(), 200);
//! # }
//! ```

use std::io::{self, Write as _};
use std::pin::Pin;
use std::task::{self, Context, Poll, ready};

use bytes::Bytes;
use flate2::write::GzDecoder;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use http::{HeaderMap, HeaderValue, Request};
use http_body::{Body, Frame, SizeHint};
use miroir_pipeline::Placed;
use miroir_pipeline::error::BoxError;
use pin_project_lite::pin_project;
use tower::{Layer, Service};
use tower_http::decompression::{
    DecompressionBody, RequestDecompression, RequestDecompressionLayer,
};

/// The body of a request inside of this layer, where outside it is `B`.
pub type Decompressed<B> = DecompressionBody<Unzipped<B>>;

/// Bytes decoded at a time: gzip makes at most a thousand times as many of them.
const PIECE: usize = 4096;

/// See the [module's documentation](self).
#[derive(Clone, Debug)]
#[must_use]
pub struct DecompressionLayer(RequestDecompressionLayer);

impl DecompressionLayer {
    /// Decodes every encoding it knows.
    pub fn new() -> Self {
        Self(RequestDecompressionLayer::new().no_gzip().pass_through_unaccepted(true))
    }
}

impl Default for DecompressionLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl Placed for DecompressionLayer {
    const NAME: &'static str = "decompression";
}

impl<S> Layer<S> for DecompressionLayer {
    type Service = Decompression<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Decompression(self.0.layer(inner))
    }
}

/// See the [module's documentation](self).
#[derive(Clone, Debug)]
pub struct Decompression<S>(RequestDecompression<S>);

impl<S, B> Service<Request<B>> for Decompression<S>
where
    RequestDecompression<S>: Service<Request<Unzipped<B>>>,
{
    type Response = <RequestDecompression<S> as Service<Request<Unzipped<B>>>>::Response;
    type Error = <RequestDecompression<S> as Service<Request<Unzipped<B>>>>::Error;
    type Future = <RequestDecompression<S> as Service<Request<Unzipped<B>>>>::Future;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let gzip = take_gzip(request.headers_mut());
        self.0.call(request.map(|body| Unzipped { body, gzip }))
    }
}

/// Whether a body is encoded with gzip, and from now on is not said to be. Encodings are written as
/// tower-http knows them.
fn take_gzip(headers: &mut HeaderMap) -> Option<Gzip> {
    let encoding = headers.get(CONTENT_ENCODING)?.to_str().ok()?;
    let known = ["gzip", "deflate", "br"];
    let known = known.into_iter().find(|known| encoding.eq_ignore_ascii_case(known))?;
    if known != "gzip" {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(known));
        return None;
    }
    headers.remove(CONTENT_ENCODING);
    headers.remove(CONTENT_LENGTH);
    Some(Gzip { decoder: GzDecoder::new(Vec::new()), rest: Bytes::new(), ended: false })
}

#[derive(Debug)]
struct Gzip {
    decoder: GzDecoder<Vec<u8>>,
    /// What has come and is not decoded.
    rest: Bytes,
    /// Nothing more comes.
    ended: bool,
}

impl Gzip {
    /// Decodes a piece of what has come, or ends.
    fn step(&mut self) -> io::Result<Bytes> {
        let done = if self.rest.is_empty() {
            self.ended = true;
            // However it is not whole, a node says this.
            let incomplete = "corrupt gzip stream does not have a matching checksum";
            let said = |_| io::Error::new(io::ErrorKind::InvalidInput, incomplete);
            self.decoder.try_finish().map_err(said)
        } else {
            let piece = self.rest.split_to(self.rest.len().min(PIECE));
            self.decoder.write_all(&piece)
        };
        if let Err(error) = done {
            (self.rest, self.ended) = (Bytes::new(), true);
            return Err(error);
        }
        Ok(std::mem::take(self.decoder.get_mut()).into())
    }
}

pin_project! {
    /// A body whose gzip is decoded, if it had any.
    #[derive(Debug)]
    pub struct Unzipped<B> {
        #[pin]
        body: B,
        gzip: Option<Gzip>,
    }
}

impl<B: Body<Data = Bytes, Error: Into<BoxError>>> Body for Unzipped<B> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut this = self.project();
        let Some(gzip) = this.gzip else {
            return this.body.poll_frame(cx).map_err(Into::into);
        };
        while !gzip.ended {
            if gzip.rest.is_empty() {
                match ready!(this.body.as_mut().poll_frame(cx)) {
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(data) if data.is_empty() => continue,
                        Ok(data) => gzip.rest = data,
                        Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                    },
                    Some(Err(error)) => {
                        gzip.ended = true;
                        return Poll::Ready(Some(Err(error.into())));
                    }
                    None => {}
                }
            }
            match gzip.step() {
                Ok(decoded) if decoded.is_empty() => {}
                Ok(decoded) => return Poll::Ready(Some(Ok(Frame::data(decoded)))),
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            }
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.gzip.as_ref().map_or_else(|| self.body.is_end_stream(), |gzip| gzip.ended)
    }

    fn size_hint(&self) -> SizeHint {
        if self.gzip.is_some() { SizeHint::default() } else { self.body.size_hint() }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use futures_util::stream;
    use http_body_util::{BodyExt, StreamBody};
    use tower::ServiceExt;

    use super::*;

    fn zipped(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    /// What a body that comes in pieces of a size is inside of the layer.
    async fn read(encoding: &str, sent: &[u8], piece: usize) -> Result<Bytes, String> {
        let inner = tower::service_fn(|request: Request<Decompressed<_>>| async move {
            let body: Decompressed<StreamBody<_>> = request.into_body();
            let read = body.collect().await;
            let body = match read {
                Ok(body) => body.to_bytes(),
                Err(error) => Bytes::from(format!("error: {error}")),
            };
            Ok::<_, Infallible>(http::Response::new(http_body_util::Full::new(body)))
        });
        let pieces: Vec<_> = sent
            .chunks(piece)
            .map(|piece| Ok::<_, Infallible>(Frame::data(Bytes::copy_from_slice(piece))))
            .collect();
        let request = Request::post("/indexes").header(CONTENT_ENCODING, encoding);
        let request = request.body(StreamBody::new(stream::iter(pieces))).unwrap();
        let answer = DecompressionLayer::new().layer(inner).oneshot(request).await.unwrap();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        match body.strip_prefix(b"error: ") {
            Some(error) => Err(String::from_utf8_lossy(error).into_owned()),
            None => Ok(body),
        }
    }

    #[tokio::test]
    async fn one_member_of_gzip_is_read_and_nothing_behind_it() {
        let text = b"twice the same, ".repeat(9_000);
        let one = zipped(&text);
        for piece in [1, 7, 5_000, usize::MAX] {
            for encoding in ["gzip", "GZIP", "Gzip"] {
                assert_eq!(read(encoding, &one, piece).await.unwrap(), text, "{encoding} {piece}");
            }
            for more in [zipped(b"x"), zipped(b""), b"x".to_vec(), vec![0; 10]] {
                let sent = [&one[..], &more].concat();
                let error = read("gzip", &sent, piece).await.unwrap_err();
                assert_eq!(error, "failed to write whole buffer", "{piece}");
            }
        }
    }

    #[tokio::test]
    async fn what_is_not_whole_is_an_error_and_no_body_is_none_of_gzip() {
        let one = zipped(b"some text");
        for sent in [&one[..0], &one[..5], &one[..10], &one[..one.len() - 8], &one[..one.len() - 1]]
        {
            assert!(read("gzip", sent, 64).await.is_err(), "{}", sent.len());
        }
        let mut damaged = one.clone();
        damaged[one.len() - 6] ^= 1;
        assert!(read("gzip", &damaged, 64).await.is_err());
        assert_eq!(read("gzip", &zipped(b""), 64).await.unwrap(), "");
        for encoding in ["identity", "x-gzip", "gzip, gzip", "zstd"] {
            assert_eq!(read(encoding, &one, 64).await.unwrap(), one, "{encoding}");
        }
    }
}
