//! Layers of the index stage.

pub mod stamp;
pub mod tenant;

pub use stamp::{StampLayer, StampOptions};
pub use tenant::{TenantLayer, TenantOptions};
