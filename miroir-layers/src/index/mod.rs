//! Layers of the index stage.

pub mod planner;
pub mod stamp;

pub use planner::{QueryPlannerLayer, QueryPlannerOptions};
pub use stamp::{StampLayer, StampOptions};
