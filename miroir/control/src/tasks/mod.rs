//! The task engine: follows what nodes do with their parts of a task until the task has ended.

pub(crate) mod cancel;
pub(crate) mod changed_counts;
pub(crate) mod details;
pub(crate) mod embedding_errors;
pub mod poller;
pub mod recover;
mod state;
