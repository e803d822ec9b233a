//! Comparing two servers request by request, with a client in front that knows of one.
//!
//! Every request goes to a reference, one plain Meilisearch, and to a candidate, Miroir. The client gets
//! the answer of one of them, so that it goes on as if there was no other; what differs is counted by
//! route and kind. What may differ between two servers that are the same is put aside first
//! ([`normal`]): the uids of tasks, keys and webhooks, which are learnt from the answers and replaced in
//! what is sent ([`pairs`]), times, durations and sizes.
//!
//! [`proxy`] does the talking; nothing else here does I/O. `cargo xtask compare` runs it.

pub mod differ;
pub mod keys;
pub mod normal;
pub mod pairs;
pub mod proxy;
pub mod report;
pub mod route;
pub mod side;
