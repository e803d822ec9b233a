//! Decode, the boundary from HTTP to operations, and back.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Collected, Full};
use miroir_api::header as names;
use tower::{Service, ServiceExt};

use super::RequestId;
use super::body::Payload;
use super::operations::operation;
use super::reserved;
use super::respond::{refuse, render};
use super::router::Router;
use crate::cluster::FilterLimits;
use crate::codec::Codecs;
use crate::context::{Context, Principal, Unread};
use crate::deadline::Deadline;
use crate::error::{BoxError, Error};
use crate::node_errors;
use crate::operation;
use crate::query::{ClientRequest, decode};
use crate::refused::Refused;

/// Limits of the client API.
#[derive(Clone, Copy, Debug)]
pub struct DecodeOptions {
    /// Time from the end of a request to the end of its answer, and most time between two pieces of its
    /// body; then `504 miroir_deadline_exceeded`.
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
        let mut hides = false;
        let result = self.answer(request, &mut answered, &mut hides).await;
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
        if hides {
            response = shown(response).await;
        }
        response.extensions_mut().insert(answered);
        response
    }

    async fn answer<B>(
        &self,
        request: Request<B>,
        answered: &mut Answered,
        hides: &mut bool,
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
            documents: route.takes_documents(),
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
        let mut cx = cx.with_http(std::mem::take(&mut parts.extensions));
        if !unread {
            let read = payload.read(body, self.options.max_body, self.options.timeout).await;
            original.body = if route.reads_body(original.content_type.as_deref()) {
                read?
            } else {
                read.unwrap_or_default()
            };
            // What it takes to send a body is the client's time.
            cx.deadline = Deadline::after(self.options.timeout);
        }
        if !payload.documents {
            if is_escaped(&original.body) {
                original = original.made_anew();
            }
            self.options.filters.fit(path, !route.changes(), &mut original)?;
        }
        *hides = reserved::hide(&route, &mut original);
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
}

/// An answer with reserved names as the client wrote them.
async fn shown(response: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    let (parts, body) = response.into_parts();
    let body = body.collect().await.map(Collected::to_bytes).unwrap_or_default();
    Response::from_parts(parts, Full::new(node_errors::shown(&body)))
}

/// Whether JSON spells characters that need it not, by which a name can look like another one: it is
/// written anew then, so that whoever looks for a name finds it.
fn is_escaped(body: &[u8]) -> bool {
    memchr::memmem::find(body, br"\u00").is_some()
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
