//! Layers of the index stage.

pub mod coalesce;
pub mod planner;
pub mod stamp;

pub use coalesce::{CoalesceLayer, CoalesceOptions};
pub use planner::{QueryPlannerLayer, QueryPlannerOptions};
pub use stamp::{StampLayer, StampOptions};
