//! The admin API (`/_miroir`).

mod alias;
mod anti_entropy;
mod operations;
mod pods;
mod replicas;
mod shadow;
mod stack;
mod tenants;
mod topology;

pub use alias::{AliasFlip, AliasKind, AliasList, AliasRequest, AliasView};
pub use anti_entropy::{AntiEntropyView, DifferenceView, KeptDocumentView, KeptView, PassView};
pub use operations::{
    GroupRequest, MoveView, NodeRequest, OperationView, OperationsView, PlanView, ReasonView,
    ReplacementRequest, ReplicationFactorRequest, StartedView,
};
pub use pods::{PodView, PodsView};
pub use replicas::{ReplicasView, StaleView};
pub use shadow::{
    ShadowCounts, ShadowDiff, ShadowDiffs, ShadowHits, ShadowKind, ShadowRequest, ShadowSide,
    ShadowTarget,
};
pub use stack::{StackView, StageView};
pub use tenants::{NewTenantMapping, TenantMappingView, TenantMappingsView};
pub use topology::{
    AcceptedStoreView, DiscardedView, NodeView, RebuiltView, ShardPlacement, ShardsView,
    TopologyView,
};
