//! Layers of the operation stage.

pub mod alias;
pub mod authorize;
pub mod idempotency;
pub mod rate_limit;
pub mod shadow;

pub use alias::{AliasLayer, AliasOptions};
pub use authorize::{AuthorizeLayer, AuthorizeOptions};
pub use idempotency::{IdempotencyLayer, IdempotencyOptions};
pub use rate_limit::{RateLimitLayer, RateLimitOptions};
pub use shadow::{Shadow, ShadowLayer, ShadowLog, ShadowOptions, ShadowTargetOptions};
