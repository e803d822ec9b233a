//! Layers of the index stage.

pub mod coalesce;
pub mod planner;
pub mod session;
pub mod stamp;
pub mod tenant;

pub use coalesce::{CoalesceLayer, CoalesceOptions};
pub use planner::{QueryPlannerLayer, QueryPlannerOptions};
pub use session::{SessionLayer, SessionOptions, WaitStrategy};
pub use stamp::{StampLayer, StampOptions};
pub use tenant::{TenantLayer, TenantOptions};
