//! The admin API (`/_miroir`).

mod topology;

pub use topology::{NodeView, ShardPlacement, ShardsView, TopologyView};
