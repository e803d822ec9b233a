//! The task engine: follows what nodes do with their parts of a task until the task has ended.

mod advance;
pub(crate) mod cancel;
mod finish;
pub mod late;
mod parts;
pub mod poller;
pub mod recover;
pub(crate) mod registry;
