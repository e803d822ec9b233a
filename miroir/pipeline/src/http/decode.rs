//! Decode, the boundary from HTTP to operations, and back.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use miroir_api::header as names;
use tower::{Service, ServiceExt};

use super::RequestId;
use super::operations::operation;
use super::respond::{refuse, render};
use super::router::Router;
use super::routes::Action;
use crate::cluster::FilterLimits;
use crate::codec::Codecs;
use crate::context::{Context, Principal, Unread};
use crate::error::{BoxError, Error};
use crate::operation;
use crate::query::{ClientRequest, decode};
use crate::refused::Refused;

/// Limits of the client API.
#[derive(Clone, Copy, Debug)]
pub struct DecodeOptions {
    /// Time from the head of a request to the end of its answer; then `504
    /// miroir_deadline_exceeded`.
    pub timeout: Duration,
    /// Largest body after decompression, in bytes; a larger one is `413 payload_too_large`.
    pub max_body: usize,
    /// Largest filters.
    pub filters: FilterLimits,
}

/// What a request turned out to be; in the response's extensions, for logs and metrics.
#[derive(Clone, Debug)]
pub struct Answered {
    /// Template of the path, for example `/indexes/{uid}/search`; `unknown` if no route has it.
    pub route: &'static str,
    /// Index uid or alias in the path; `None` where the path has none.
    pub index: Option<String>,
    /// Whether the answer lacks shards, or a write missed a group.
    pub degraded: bool,
    /// Number of nodes that were asked; 0 for errors.
    pub nodes: usize,
    /// What went wrong, as one of a few labels for metrics; `None` if nothing did.
    pub label: Option<&'static str>,
}

/// The client API as a service. Cheap to clone.
#[derive(Clone)]
pub struct Decode {
    operations: operation::BoxService,
    options: DecodeOptions,
    router: Arc<Router>,
    codecs: Arc<Codecs>,
}

impl fmt::Debug for Decode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decode").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Decode {
    /// The client API over `operations`, the service of the operation stage, without headers of
    /// capabilities.
    pub fn new(operations: operation::BoxService, options: DecodeOptions) -> Self {
        Self { operations, options, router: Arc::default(), codecs: Arc::default() }
    }

    /// The same with these headers, beside any it has: those of the
    /// [stages](crate::index::scatter::codecs) and of every [stack](crate::Stack::codecs).
    #[must_use]
    pub fn codecs(mut self, codecs: Codecs) -> Self {
        Arc::make_mut(&mut self.codecs).extend(codecs);
        self
    }

    async fn run<B>(self, request: Request<B>) -> Response<Full<Bytes>>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let mut answered =
            Answered { route: "unknown", index: None, degraded: false, nodes: 0, label: None };
        let result = self.answer(request, &mut answered).await;
        let mut response = match result {
            Ok(answer) => {
                answered.degraded = answer.meta.degraded().is_some();
                answered.nodes = answer.meta.nodes;
                let mut response = render(&answer);
                for codec in self.codecs.iter() {
                    codec.encode(&answer.meta, response.headers_mut());
                }
                response
            }
            Err(error) => {
                answered.label = Some(error.label());
                let mut response = refuse(&error);
                for codec in self.codecs.iter() {
                    codec.encode_error(&error, response.headers_mut());
                }
                response
            }
        };
        response.extensions_mut().insert(answered);
        response
    }

    async fn answer<B>(
        &self,
        request: Request<B>,
        answered: &mut Answered,
    ) -> Result<operation::Response, Error>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let (mut parts, body) = request.into_parts();
        let full = parts.uri.path();
        let path = if full.len() > 1 { full.trim_end_matches('/') } else { full };
        let matched = self.router.find(path).ok_or_else(Error::not_found)?;
        answered.route = matched.routes[0].path;
        let route =
            matched.routes.iter().find(|route| route.method == parts.method).cloned().ok_or_else(
                || {
                    let allow: Vec<&str> =
                        matched.routes.iter().map(|r| r.method.as_str()).collect();
                    Error::method_not_allowed(allow.join(", "))
                },
            )?;
        let parameters: Vec<String> = matched.parameters.iter().map(|p| decode(p, false)).collect();
        let named = route.path.starts_with("/indexes/{uid}");
        answered.index = named.then(|| parameters[0].clone());

        let id = parts
            .extensions
            .get::<RequestId>()
            .map_or_else(|| Arc::from("-"), |id| Arc::clone(&id.0));
        let mut cx = Context::client(id, self.options.timeout);
        cx.principal = parts.extensions.get::<Principal>().cloned().unwrap_or(Principal::Anonymous);
        for codec in self.codecs.iter() {
            codec.decode(&parts.headers, &mut cx)?;
        }
        let suffix = if named {
            let skip = path.match_indices('/').nth(2).map_or(path.len(), |(at, _)| at);
            path[skip..].to_owned()
        } else {
            path.to_owned()
        };
        let text = |name| parts.headers.get(name).and_then(|v: &HeaderValue| v.to_str().ok());
        let mut original = ClientRequest {
            method: parts.method.clone(),
            path: suffix,
            query: parts.uri.query().map(str::to_owned),
            body: Bytes::new(),
            content_type: text(header::CONTENT_TYPE.as_str()).map(str::to_owned),
            metadata: matches!(text(names::INCLUDE_METADATA), Some("true" | "1")),
        };
        let payload = Payload {
            documents: matches!(route.action, Action::Replace | Action::Update),
            length: text(header::CONTENT_LENGTH.as_str()).and_then(|text| text.parse().ok()),
        };
        // Nobody in particular may not do this, so what he sent is neither read nor unpacked.
        let unread = parts.extensions.get::<Principal>() == Some(&Principal::Anonymous)
            && !route.actions.is_empty();
        if unread {
            parts.extensions.insert(Unread);
        }
        let sent = payload.length.is_some_and(|length| length > 0)
            || parts.headers.contains_key(header::TRANSFER_ENCODING);
        let cx = cx.with_http(std::mem::take(&mut parts.extensions));
        if !unread {
            original.body = self.collect(body, &payload, cx.clone()).await?;
        }
        if !payload.documents {
            if is_escaped(&original.body) {
                original = original.made_anew();
            }
            self.options.filters.judge(path, original.query.as_deref(), &original.body)?;
        }
        let op = operation(route.action, parameters, &original);
        let request =
            operation::Request { op, actions: route.actions, original: Arc::new(original), cx };
        let deadline = request.cx.deadline;
        let answer = deadline.run(self.operations.clone().oneshot(request)).await?;
        answer.map_err(|error| match Refused::of(&error) {
            Some(Refused::Authentication) if unread && sent => error.and(Refused::Unread),
            _ => error,
        })
    }

    async fn collect<B>(&self, body: B, payload: &Payload, cx: Context) -> Result<Bytes, Error>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let limited = Limited::new(body, self.options.max_body);
        match cx.deadline.run(limited.collect()).await? {
            Ok(collected) => Ok(collected.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => {
                Err(Error::api("payload_too_large", payload.too_large(self.options.max_body)))
            }
            Err(_) => Err(Error::api(
                "bad_request",
                "The provided payload is incomplete and cannot be parsed",
            )),
        }
    }
}

/// Whether JSON spells characters that need it not, by which a name can look like another one: it is
/// written anew then, so that whoever looks for a name finds it.
fn is_escaped(body: &[u8]) -> bool {
    memchr::memmem::find(body, br"\u00").is_some()
}

/// What matters of a body that is too large.
struct Payload {
    /// It is a payload of documents, not the JSON of another request.
    documents: bool,
    /// Its length, if the client said so and nothing had to be decompressed.
    length: Option<usize>,
}

impl Payload {
    /// What a node says. (Of a JSON body whose length it knows it says so with the code `internal`.)
    fn too_large(&self, limit: usize) -> String {
        match (self.documents, self.length) {
            (true, _) => format!(
                "The provided payload reached the size limit. The maximum accepted payload size is \
                 {}.",
                human(limit)
            ),
            (false, Some(length)) => format!(
                "JSON payload ({length} bytes) is larger than allowed (limit: {limit} bytes)."
            ),
            (false, None) => format!("JSON payload has exceeded limit ({limit} bytes)."),
        }
    }
}

/// A size as Meilisearch prints its limit: in binary units if it is a whole number of KiB.
fn human(bytes: usize) -> String {
    let (base, units) = if bytes.is_multiple_of(1024) {
        (1024.0, ["B", "KiB", "MiB", "GiB", "TiB"])
    } else {
        (1000.0, ["B", "KB", "MB", "GB", "TB"])
    };
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= base && unit + 1 < units.len() {
        value /= base;
        unit += 1;
    }
    format!("{value} {}", units[unit])
}

impl<B> Service<Request<B>> for Decode
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move { Ok(this.run(request).await) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_printed_as_a_node_prints_them() {
        for (bytes, text) in [
            (3, "3 B"),
            (1024, "1 KiB"),
            (1536, "1.536 KB"),
            (2_000_000, "2 MB"),
            (104_857_600, "100 MiB"),
            (1_610_612_736, "1.5 GiB"),
        ] {
            assert_eq!(human(bytes), text);
        }
    }
}
