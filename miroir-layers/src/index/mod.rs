//! Layers of the index stage.

pub mod session;
pub mod stamp;

pub use session::{SessionLayer, SessionOptions, WaitStrategy};
pub use stamp::{StampLayer, StampOptions};
