//! Meilisearch requests: what a call is, independent of the node it goes to.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, header};
use http_body_util::Full;
use miroir_api::NodeId;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{Request, Response};
use crate::context::{Class, Context};
use crate::deadline::Deadline;
use crate::effect::Effect;
use crate::error::{Error, NodeFailure};

/// What node layers know about a call. Found in the request's extensions.
#[derive(Clone, Copy, Debug)]
pub struct NodeCall {
    /// Bounded name for metrics: `search`, `documents_post`, …
    pub operation: &'static str,
    /// What it does to the node, as its maker says.
    pub effect: Effect,
    /// When the caller gives up; a layer gives the call no more time than is left.
    pub deadline: Deadline,
    /// Which lane of the concurrency limit it takes.
    pub class: Class,
    /// Who it is made for: [`Principal::caller`](crate::context::Principal::caller).
    pub caller: u64,
    /// A health probe passes an open breaker, and closes it when it succeeds.
    pub probe: bool,
    /// Whether it is sent to whoever answers at the node's address, as it asks who that is. Other
    /// calls are sent to nobody who has not shown that its disk is the node's.
    pub to_whoever: bool,
}

/// One request to Meilisearch, before it is addressed.
#[derive(Clone, Debug)]
pub struct Call {
    /// HTTP method.
    pub method: Method,
    /// Path and query, from the first `/`.
    pub path: String,
    /// Bytes of the body; empty for none.
    pub body: Bytes,
    /// `Content-Type`, if there is a body.
    pub content_type: Option<Cow<'static, str>>,
    /// Bounded name for metrics.
    pub operation: &'static str,
    effect: Effect,
    /// Asks for sort values on fetched documents.
    pub proxy_search: bool,
    to_whoever: bool,
}

/// JSON.
const JSON: &str = "application/json";

impl Call {
    fn new(
        effect: Effect,
        method: Method,
        operation: &'static str,
        path: impl Into<String>,
    ) -> Self {
        Self {
            method,
            path: path.into(),
            body: Bytes::new(),
            content_type: None,
            operation,
            effect,
            proxy_search: false,
            to_whoever: false,
        }
    }

    /// A `GET`. It has no body.
    pub fn get(operation: &'static str, path: impl Into<String>) -> Self {
        Self::read(Method::GET, operation, path)
    }

    /// A call that changes nothing on the node, whatever its method. It has no body yet.
    pub fn read(method: Method, operation: &'static str, path: impl Into<String>) -> Self {
        Self::new(Effect::Read, method, operation, path)
    }

    /// A call that changes something on the node: only a pod that leads may send it. It has no body
    /// yet.
    pub fn change(method: Method, operation: &'static str, path: impl Into<String>) -> Self {
        Self::new(Effect::Change, method, operation, path)
    }

    /// What its maker says that it does to the node.
    pub fn effect(&self) -> Effect {
        self.effect
    }

    /// Adds a JSON body.
    #[must_use]
    pub fn json(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self.content_type = Some(Cow::Borrowed(JSON));
        self
    }

    /// Asks for sort values on fetched documents.
    #[must_use]
    pub fn with_sort_values(mut self) -> Self {
        self.proxy_search = true;
        self
    }

    /// Sends it to whoever answers: see [`NodeCall::to_whoever`].
    #[must_use]
    pub fn to_whoever(mut self) -> Self {
        self.to_whoever = true;
        self
    }

    /// The HTTP request. Scheme, host and credentials are added by the node's stack.
    ///
    /// # Errors
    /// When the path is no URI; cannot happen for percent-encoded paths.
    pub fn request(&self, cx: &Context, timeout: Duration) -> Result<Request, Error> {
        let mut builder = http::Request::builder().method(self.method.clone()).uri(&self.path);
        if let Some(content_type) = &self.content_type {
            builder = builder.header(header::CONTENT_TYPE, content_type.as_ref());
        }
        if self.proxy_search {
            builder = builder.header(miroir_api::header::PROXY_SEARCH, "true");
        }
        let mut request = builder.body(Full::new(self.body.clone())).map_err(Error::internal)?;
        request.extensions_mut().insert(NodeCall {
            operation: self.operation,
            effect: self.effect,
            deadline: cx.deadline.min(timeout),
            class: cx.class,
            caller: cx.principal.caller(),
            probe: false,
            to_whoever: self.to_whoever,
        });
        Ok(request)
    }

    /// Judges an answer: 2xx passes, 4xx becomes the client's error as it came, anything else is
    /// the node's fault.
    ///
    /// # Errors
    /// As described.
    pub fn accept(node: &NodeId, response: Response) -> Result<Bytes, Error> {
        let status = response.status();
        if status.is_success() {
            return Ok(response.into_body());
        }
        match NodeFailure::of_answer(&response) {
            Some(failure) => Err(Error::node(node, failure)),
            None if status.is_client_error() => Err(Error::verbatim(status, response.into_body())),
            None => Err(Error::node(node, NodeFailure::ServerError)),
        }
    }

    /// Reads a JSON answer.
    ///
    /// # Errors
    /// Garbage is the node's fault.
    pub fn parse<T: DeserializeOwned>(node: &NodeId, body: &[u8]) -> Result<T, Error> {
        Self::parse_borrowed(node, body)
    }

    /// As [`Call::parse`], into what borrows from the answer.
    ///
    /// # Errors
    /// Garbage is the node's fault.
    pub fn parse_borrowed<'a, T: Deserialize<'a>>(
        node: &NodeId,
        body: &'a [u8],
    ) -> Result<T, Error> {
        serde_json::from_slice(body).map_err(|_| Error::node(node, NodeFailure::Garbage))
    }
}

/// The part of a node's `202` that Miroir needs.
#[derive(Clone, Copy, Debug, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskRef {
    /// The node's own task uid.
    pub task_uid: u32,
}
