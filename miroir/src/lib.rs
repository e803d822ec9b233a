//! Sharding and replication for Meilisearch as composable tower services.
//!
//! Miroir turns unmodified Meilisearch nodes into one search cluster behind one
//! Meilisearch-compatible endpoint. This crate is the library: five *stages*, each with one request
//! type and a [`Stack`] of tower layers, joined by four *boundaries*.
//!
//! ```text
//!  client ─ http::Request
//!    EDGE       bytes            http::Request<B>
//!      └ Decode                  route table, JSON, headers -> Context
//!    OPERATION  what was asked   operation::Request
//!      └ Resolve                 name -> index, snapshots; control plane beside it
//!    INDEX      one index        index::Request
//!      └ Scatter                 plan -> leaves -> merge | quorum
//!    LEAF       a set of shards  leaf::Request
//!      └ Dispatch                shards -> nodes
//!    NODE       one Meilisearch  http::Request<Full<Bytes>>
//! ```
//!
//! The pure core ([`topology`], [`routing`], [`filter`], [`documents`], [`merge`], [`quorum`]) takes values and
//! returns values: no I/O, no clock, no randomness.

pub mod clock;
pub mod context;
pub mod deadline;
pub mod documents;
pub mod effect;
pub mod error;
pub mod explain;
pub mod filter;
pub mod gather;
pub mod hints;
pub mod http;
pub mod index;
pub mod keys;
pub mod leaf;
pub mod merge;
pub mod meta;
pub mod node;
pub mod operation;
pub mod pods;
pub mod quorum;
pub mod routing;
pub mod stack;
pub mod stage;
pub mod store;
pub mod tenants;
pub mod topology;
pub mod worker;

mod builder;
pub mod cluster;

pub use builder::{BuildError, Builder, Miroir, Wrap};
pub use cluster::{
    BroadcastStrategy, Cluster, ExplainTuning, MultiSearchTuning, Shared, StaleMap, Tuning,
    UnavailableShards, VectorSearchTuning,
};
pub use context::Context;
pub use effect::Effect;
pub use error::{Error, Fault, NodeFailure, Retry};
pub use stack::{OrderError, Placed, Stack};
pub use stage::{BoxService, Stage, StageService};
