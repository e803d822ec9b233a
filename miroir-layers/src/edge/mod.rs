//! Layers of the edge: plain tower layers over `http::Request<B>`.

pub mod authenticate;

pub use authenticate::{AuthFailure, AuthenticateLayer, AuthenticateOptions};
