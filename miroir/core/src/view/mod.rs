//! Views: which replicas a request may read, and which come first.

mod route;
mod staleness;

pub use route::{Reason, Route};
pub use staleness::{CatchUp, StaleMap, StaleReplica};
