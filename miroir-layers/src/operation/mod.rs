//! Layers of the operation stage.

pub mod alias;
pub mod authorize;
pub mod idempotency;

pub use alias::AliasLayer;
pub use authorize::{AuthorizeLayer, AuthorizeOptions};
pub use idempotency::{IdempotencyLayer, IdempotencyOptions};
