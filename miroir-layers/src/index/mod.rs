//! Layers of the index stage.

pub mod query_coalescing;
pub mod query_planner;
pub mod reserved_fields;
pub mod session_pinning;
pub mod tenant_affinity;

pub use query_coalescing::{QueryCoalescingLayer, QueryCoalescingOptions};
pub use query_planner::{QueryPlannerLayer, QueryPlannerOptions};
pub use reserved_fields::{ReservedFieldsLayer, ReservedFieldsOptions};
pub use session_pinning::{SessionPinningLayer, SessionPinningOptions, WaitStrategy};
pub use tenant_affinity::{TenantAffinityLayer, TenantAffinityOptions};
