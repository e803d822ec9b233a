//! Sharding and replication for Meilisearch as composable tower services.

pub use miroir_control::topology::health;
pub use miroir_control::{BuildError, Builder, Cluster, Miroir, Wrap};
pub use miroir_control::{api, broadcast, pods, replicas, runtime, tasks};
pub use miroir_core::{documents, filter, hints, keys, merge, quorum, routing, topology, view};
pub use miroir_pipeline::*;
pub use miroir_store as store;
