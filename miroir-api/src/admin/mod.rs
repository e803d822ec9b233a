//! The admin API (`/_miroir`).

mod alias;
mod topology;

pub use alias::{AliasFlip, AliasKind, AliasList, AliasRequest, AliasView};
pub use topology::{NodeView, ShardPlacement, ShardsView, TopologyView};
