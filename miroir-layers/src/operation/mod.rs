//! Layers of the operation stage.

pub mod authorize;
pub mod rate_limit;

pub use authorize::{AuthorizeLayer, AuthorizeOptions};
pub use rate_limit::{OperationLimitLayer, OperationLimitOptions};
