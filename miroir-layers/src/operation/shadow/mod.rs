//! Repeats a share of the reads at another cluster, and compares the answers.
//!
//! A change of settings, of an engine's version or of this configuration can be tried on the traffic
//! that it is for, with nobody depending on the outcome. The client gets the primary's answer, and
//! only then is the request given to the shadows. What they answer is compared: which hits, in which
//! order (Kendall's tau of those that both have), how long it took, and who failed.
//!
//! Nothing a shadow does reaches the client. It is called in a task of its own that ends after
//! [`ShadowOptions::max_shadow_latency`]; there are [`ShadowOptions::max_in_flight`] of them for each
//! shadow, and what would be one more is dropped and counted. So what a shadow that hangs can hold is
//! so many answers of [`ShadowOptions::max_body`] bytes. Differences are kept in a ring of
//! [`ShadowOptions::diff_buffer_size`], each with the first few ids and the beginning of the request.
//!
//! A shadow is any service of this stage: one that sends [`Request::repeat`] to a server, or another
//! pipeline of this library.
//!
//! Equal hits, which no ranking rule tells apart, may come in another order from another engine, and
//! at the end of a page they may be others: that is a difference like any.
//!
//! [`Request::repeat`]: miroir_pipeline::operation::Request::repeat
//!
//! # Stage
//! Operation. Reads of clients only, those of [`Shadow::operations`]; a request that changes
//! something is never repeated, whatever the options say.
//!
//! # Order
//! Inside of `authorize`: what is refused is not repeated, and what a tenant token demands holds at
//! the shadow too. Inside of `rate_limit` and `idempotency` for the same reason.
//!
//! # Context
//! Reads `origin`. What it sends has the origin `Shadow`, the background class and a deadline of its
//! own.
//!
//! # Errors
//! Adds none.
//!
//! # Metrics
//! `miroir_shadow_diff_total{kind}`, `miroir_shadow_kendall_tau`,
//! `miroir_shadow_latency_delta_seconds` (shadow less primary),
//! `miroir_shadow_errors_total{target,side}`, `miroir_shadow_dropped_total{target,reason}`
//! (`in_flight`: too many are under way; `too_large`: the request or the primary's answer is).
//!
//! # Example
//! ```
//! use std::{sync::Arc, time::Duration};
//! use bytes::Bytes;
//! use http::StatusCode;
//! use miroir_pipeline::Context;
//! use miroir_pipeline::operation::{Operation, Request, Response};
//! use miroir_pipeline::query::{FetchOne, ClientRequest};
//! use miroir_layers::operation::shadow::{Shadow, ShadowLayer, ShadowOptions, Wanted};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! // A shadow with another price in its only document.
//! let other = tower::service_fn(|_: Request| async {
//!     let mut answer = Response::json(StatusCode::OK, &());
//!     answer.body = Bytes::from(r#"{"id":1,"price":3}"#);
//!     Ok::<_, miroir_pipeline::Error>(answer)
//! });
//! let shadow = Shadow::new("staging", other).operations(["document_get"]);
//! let key = Arc::new(|_: &str| Some("id".to_owned()));
//! let (layer, log) = ShadowLayer::new(vec![shadow], key, ShadowOptions::default());
//!
//! let original = ClientRequest::new(http::Method::GET, "/documents/1");
//! let fetch = Arc::new(FetchOne { id: "1".into(), query: None });
//! let op = Operation::FetchOne { index: "shoes".into(), fetch };
//! let cx = Context::client("1", Duration::from_secs(1));
//! let request = Request::new(op, &["documents.get"], original, cx);
//! let (mut service, mut primary) = miroir_test::layered(layer);
//! let call = service.spawn_call(request);
//! let mut answer = Response::json(StatusCode::OK, &());
//! answer.body = Bytes::from(r#"{"id":1,"price":2}"#);
//! primary.next_request().await.respond(answer);
//! assert_eq!(call.await.unwrap().body, r#"{"id":1,"price":2}"#);
//!
//! while log.read(&Wanted::default()).targets[0].compared == 0 {
//!     tokio::task::yield_now().await;
//! }
//! let found = log.read(&Wanted { limit: 10, ..Wanted::default() });
//! assert_eq!(found.diffs[0].hits.as_ref().unwrap().changed, ["1"]);
//! # }
//! ```

pub mod diff;
mod layer;
mod log;
mod options;
mod sample;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use miroir_pipeline::StageService;
use miroir_pipeline::operation::{BoxService, Request};

pub use layer::ShadowLayer;
pub use log::{ShadowLog, Wanted};
pub use options::{ShadowOperation, ShadowOptions, ShadowTargetOptions, base_address};

/// The primary key of an index, by the name clients use; `None` where it is not known. Documents are
/// then known by their contents.
pub type PrimaryKeys = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// What is repeated unless [`Shadow::operations`] says otherwise.
pub const DEFAULT_OPERATIONS: [&str; 3] = ["search", "multi_search", "explain"];

/// One shadow, and what it gets.
#[derive(Clone)]
#[must_use]
pub struct Shadow {
    name: Arc<str>,
    service: BoxService,
    sample_rate: f64,
    operations: Vec<String>,
}

impl fmt::Debug for Shadow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shadow")
            .field("name", &self.name)
            .field("sample_rate", &self.sample_rate)
            .field("operations", &self.operations)
            .finish_non_exhaustive()
    }
}

impl Shadow {
    /// A shadow that gets all searches. The name is a label of metrics.
    pub fn new(name: impl Into<Arc<str>>, service: impl StageService<Request>) -> Self {
        Self {
            name: name.into(),
            service: BoxService::new(service),
            sample_rate: 1.0,
            operations: DEFAULT_OPERATIONS.map(str::to_owned).into(),
        }
    }

    /// What a configuration calls a target, with the service that asks it.
    pub fn of(target: &ShadowTargetOptions, service: impl StageService<Request>) -> Self {
        Self::new(target.name.as_str(), service)
            .sample_rate(target.sample_rate)
            .operations(target.operations.iter().map(|operation| operation.name()))
    }

    /// Which share it gets, from 0 to 1.
    pub fn sample_rate(mut self, rate: f64) -> Self {
        self.sample_rate = rate;
        self
    }

    /// Which operations it gets, as [`Operation::name`](miroir_pipeline::operation::Operation::name) calls
    /// them. Those that change something are not repeated even so.
    pub fn operations<T: Into<String>>(mut self, names: impl IntoIterator<Item = T>) -> Self {
        self.operations = names.into_iter().map(Into::into).collect();
        self
    }
}
