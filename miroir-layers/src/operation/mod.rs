//! Layers of the operation stage.

pub mod alias;
pub mod authorize;
pub mod idempotency;
pub mod shadow;
pub mod rate_limit;

pub use alias::AliasLayer;
pub use authorize::{AuthorizeLayer, AuthorizeOptions};
pub use idempotency::{IdempotencyLayer, IdempotencyOptions};
pub use shadow::{Shadow, ShadowLayer, ShadowLog, ShadowOptions};
pub use rate_limit::{OperationLimitLayer, OperationLimitOptions};
