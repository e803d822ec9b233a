//! Sharding and replication for Meilisearch as composable tower services.
//!
//! Miroir turns unmodified Meilisearch nodes into one search cluster behind one
//! Meilisearch-compatible endpoint. This crate is what to depend on: [`Miroir::builder`] assembles
//! the pipeline that the server runs, authentication and authorization included.
//!
//! ```no_run
//! use bytes::Bytes;
//! use http_body_util::Full;
//! use miroir::Miroir;
//! use tower::ServiceExt;
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let miroir = Miroir::builder()
//!         .node("a", "http://10.0.0.1:7700", 0)
//!         .node("b", "http://10.0.0.2:7700", 0)
//!         .replication_factor(2)
//!         .node_key(std::env::var("MIROIR_NODE_MASTER_KEY")?)
//!         .master_key(std::env::var("MIROIR_MASTER_KEY")?)
//!         .build()
//!         .await?;
//!     miroir.spawn_workers();
//!     let request = http::Request::get("/indexes").body(Full::<Bytes>::default())?;
//!     let answer = miroir.client_api().oneshot(request).await?;
//!     assert_eq!(answer.status(), 401); // it has no key
//!     miroir.shutdown().await;
//!     Ok(())
//! }
//! ```
//!
//! # Where to start
//!
//! - To serve a cluster from a program of your own: [`Miroir::client_api`], a tower service.
//! - To search without HTTP: [`Miroir::cluster`], and a [`operation::Request`].
//! - To switch a capability off, or to change what it does: [`Options`]; [`order`] says where each
//!   stands.
//! - To write a layer: [`prelude`], [`stage::Middleware`], and `docs/write-a-layer.md` in the
//!   repository. [`Builder::bare`] takes any stack.
//! - To keep state elsewhere: [`store`], and [`Builder::stores`].
//!
//! # Stages
//!
//! Five *stages*, each with one request type and a [`Stack`] of tower layers, are joined by four
//! *boundaries*. `ARCHITECTURE.md` in the repository has the picture of them.
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

mod builder;
mod miroir;
mod mount;
pub mod order;
mod parts;
mod pod;
pub mod prelude;
#[cfg(test)]
mod tests;
mod workers;

pub use crate::builder::{BuildError, Builder};
pub use crate::miroir::Miroir;
pub use crate::mount::{Layers, Mount};
pub use crate::order::Options;
pub use crate::parts::Parts;
pub use crate::pod::Pod;
pub use miroir_control::Cluster;
pub use miroir_control::topology::{self as founding, health, operations};
pub use miroir_control::{api, broadcast, janitor, pods, replicas, runtime, tasks, webhooks};
pub use miroir_core::{
    documents, filter, hints, keys, merge, options, quorum, routing, topology, view,
};
pub use miroir_layers as layers;
pub use miroir_pipeline::*;
pub use miroir_store as store;

/// The builder without layers: what [`Builder::bare`] gives, and what it builds.
pub mod bare {
    pub use miroir_control::{BuildError, Builder, Miroir};
}
