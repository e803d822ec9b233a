//! The admin API (`/_miroir`).

mod pods;
mod replicas;
mod shadow;
mod stack;
mod topology;

pub use pods::{PodView, PodsView};
pub use replicas::{ReplicasView, StaleView};
pub use shadow::{
    ShadowCounts, ShadowDiff, ShadowDiffs, ShadowHits, ShadowKind, ShadowRequest, ShadowSide,
    ShadowTarget,
};
pub use stack::{StackView, StageView};
pub use topology::{NodeView, ShardPlacement, ShardsView, TopologyView};
