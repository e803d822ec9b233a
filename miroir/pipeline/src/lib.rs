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

pub mod cluster;
pub mod context;
pub mod deadline;
pub mod effect;
pub mod error;
pub mod explain;
pub mod gather;
pub mod http;
pub mod index;
pub mod keyring;
pub mod leaf;
pub mod meta;
pub mod node;
pub mod node_errors;
pub mod operation;
pub mod principal;
pub mod query;
pub mod quota;
pub mod stack;
pub mod stage;
pub use cluster::{
    BroadcastStrategy, ClusterOptions, ClusterState, ExplainOptions, FacetingOptions,
    MultiSearchOptions, ScatterOptions, SettingsBroadcastOptions, UnavailableShardPolicy,
    VectorSearchOptions,
};
pub use context::Context;
pub use effect::Effect;
pub use error::{Error, Fault, NodeFailure, Retry};
pub use miroir_store::clock;
pub use stack::{OrderError, Placed, Stack};
pub use stage::{BoxService, Stage, StageService};
