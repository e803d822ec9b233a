//! Layers of the edge: plain tower layers over `http::Request<B>`.
//!
//! They stand in an [`EdgeStack`](miroir_pipeline::http::EdgeStack); the recommended order is
//! `miroir::order`'s.

pub mod admission;
pub mod audit;
pub mod authenticate;
pub mod catch_panic;
pub mod compression;
pub mod cors;
pub mod decompression;
pub mod forward;
pub mod negotiate;
pub mod normalize;
pub mod observe;
mod paths;
pub mod pod_auth;
pub mod rate_limit;
pub mod request_id;

pub use admission::{Admission, AdmissionLayer, AdmissionOptions};
pub use audit::{AuditLayer, AuditOptions};
pub use authenticate::{AuthFailure, AuthenticateLayer, AuthenticateOptions};
pub use catch_panic::CatchPanicLayer;
pub use compression::CompressionLayer;
pub use cors::CorsLayer;
pub use decompression::DecompressionLayer;
pub use forward::{ForwardLayer, ForwardOptions};
pub use negotiate::NegotiateLayer;
pub use normalize::NormalizeLayer;
pub use observe::{ObserveLayer, ObserveOptions};
pub use pod_auth::{PodAuthLayer, PodProof};
pub use rate_limit::{RateLimitLayer, RateLimitOptions};
pub use request_id::RequestIdLayer;
