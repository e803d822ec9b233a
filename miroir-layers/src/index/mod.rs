//! Layers of the index stage.

pub mod stamp;

pub use stamp::{StampLayer, StampOptions};
