//! Layers of the edge: plain tower layers over `http::Request<B>`.

pub mod authenticate;
pub mod forward;
pub mod rate_limit;

pub use authenticate::{AuthFailure, AuthenticateLayer, AuthenticateOptions};
pub use forward::{ForwardLayer, ForwardOptions};
pub use rate_limit::{RateLimitLayer, RateLimitOptions};
