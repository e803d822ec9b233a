//! Sharding and replication for Meilisearch as composable tower services.
//!
//! Miroir turns unmodified Meilisearch nodes into one search cluster behind one
//! Meilisearch-compatible endpoint. This crate is the library: five *stages*, each with one request
//! type and a [`Stack`] of tower layers, joined by four *boundaries*. `ARCHITECTURE.md` in the
//! repository has the picture of them.
//!
//! | stage | request | boundary to the next |
//! | --- | --- | --- |
//! | edge | `::http::Request<B>` | [`http::Decode`] |
//! | operation | [`operation::Request`] | [`operation::Resolve`] |
//! | index | [`index::Request`] | [`index::Scatter`] |
//! | leaf | [`leaf::Request`] | [`leaf::Dispatch`] |
//! | node | `::http::Request<Full<Bytes>>` | none: [`node::Client`] sends it |
//!
//! The pure core ([`topology`], [`routing`], [`filter`], [`documents`], [`merge`], [`quorum`]) takes values and
//! returns values: no I/O, no clock, no randomness.

pub use miroir_control::topology::health;
pub use miroir_control::{BuildError, Builder, Cluster, Miroir, Wrap};
pub use miroir_control::{api, broadcast, pods, replicas, runtime, tasks};
pub use miroir_core::{
    documents, filter, hints, keys, merge, options, quorum, routing, topology, view,
};
pub use miroir_pipeline::*;
pub use miroir_store as store;
