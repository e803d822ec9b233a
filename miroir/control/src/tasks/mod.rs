//! The task engine: follows what nodes do with their parts of a task until the task has ended.

pub(crate) mod cancel;
pub mod late;
mod parts;
pub mod poller;
pub mod recover;
