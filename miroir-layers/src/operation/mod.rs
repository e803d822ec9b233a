//! Layers of the operation stage.

pub mod authorize;

pub use authorize::{AuthorizeLayer, AuthorizeOptions};
