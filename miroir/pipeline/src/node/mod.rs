//! NODE: one Meilisearch, behind one stack of layers.
//!
//! The node stage is plain HTTP: [`Request`] in, [`Response`] out. [`NodeCall`] travels in the
//! request's extensions and tells layers what the call is, how long it may take and how urgent it
//! is. [`Pool`] keeps one stack per node; it is not a `Service` on purpose, because it cannot know
//! which stack to ask for readiness before it sees the request.

mod call;
mod client;
mod connections;
mod estimate;
mod given;
mod health;
mod latencies;
mod link;
mod pool;
mod scores;
mod silence;
mod task_uids;

use bytes::Bytes;
use http_body_util::Full;

pub use call::{Call, NodeCall, TaskRef};
pub use client::{Client, ClientOptions, is_https};
pub use connections::Connections;
pub use given::{GivenTasks, GivingCall};
pub use health::{CheckFailure, HealthBoard, HealthOptions, NodeHealth};
pub use link::{KnownDisk, KnownDisks};
pub use pool::{Factory, Pool};
pub use scores::{Alarm, Counted, NodeScore, Scores};
pub use task_uids::TaskUidTracker;

use crate::stage::Stage;

/// A request to one node.
pub type Request = http::Request<Full<Bytes>>;
/// Its answer, collected.
pub type Response = http::Response<Bytes>;
/// A boxed service of this stage.
pub type BoxService = crate::stage::BoxService<Request>;

impl Stage for Request {
    type Response = Response;
    const NAME: &'static str = "node";
}
