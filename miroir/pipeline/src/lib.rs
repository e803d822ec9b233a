//! Miroir's data plane: five *stages*, each with one request type and a [`Stack`] of tower layers,
//! joined by four *boundaries*. `ARCHITECTURE.md` in the repository has the picture of them.
//!
//! | stage | request | boundary to the next |
//! | --- | --- | --- |
//! | edge | `::http::Request<B>` | [`http::Decode`] |
//! | operation | [`operation::Request`] | [`operation::Resolve`] |
//! | index | [`index::Request`] | [`index::Scatter`] |
//! | leaf | [`leaf::Request`] | [`leaf::Dispatch`] |
//! | node | `::http::Request<Full<Bytes>>` | none: [`node::Client`] sends it |
//!
//! What decides takes values and returns values and stands in `miroir-core`; what answers operations
//! that are not about one index's documents stands in `miroir-control`.

pub mod cluster;
pub mod codec;
pub mod context;
pub mod deadline;
pub mod effect;
pub mod error;
pub mod explain;
pub mod extension;
pub mod gather;
pub mod http;
pub mod index;
pub mod keyring;
pub mod leaf;
pub mod meta;
pub mod node;
pub mod node_errors;
mod node_failure;
pub mod operation;
pub mod principal;
pub mod query;
pub mod refused;
pub mod stack;
pub mod stage;
pub mod tls;
pub mod wiring;
pub use cluster::{
    AntiEntropyOptions, BroadcastStrategy, ClusterOptions, ClusterState, DocumentOrderOptions,
    ExplainOptions, FacetingOptions, FilterLimits, MultiSearchOptions, OnDifference,
    RestoreOptions, ScatterOptions, SettingsBroadcastOptions, TopologyOptions,
    UnavailableShardPolicy, VectorSearchOptions, WebhookOptions, WriteCombiningOptions,
};
pub use context::Context;
pub use effect::Effect;
pub use error::{Error, Fault, NodeFailure, Retry};
pub use miroir_store::clock;
pub use stack::{OrderError, Placed, Stack};
pub use stage::{BoxService, Stage, StageService};
