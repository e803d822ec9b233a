//! Layers of the operation stage.

pub mod authorize;
pub mod shadow;

pub use authorize::{AuthorizeLayer, AuthorizeOptions};
pub use shadow::{Shadow, ShadowLayer, ShadowLog, ShadowOptions};
