//! The admin API (`/_miroir`).

mod tenants;
mod topology;

pub use tenants::{NewTenantMapping, TenantMappingView, TenantMappingsView};
pub use topology::{NodeView, ShardPlacement, ShardsView, TopologyView};
