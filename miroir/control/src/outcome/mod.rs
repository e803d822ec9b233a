//! How what nodes say of their parts of a task adds up.

pub(crate) mod backups;
pub(crate) mod canceled;
mod changed_counts;
mod compaction;
pub(crate) mod details;
pub(crate) mod embedding_errors;
pub(crate) mod unreadable;
