//! Work in progress.
pub mod stores;
#[cfg(feature = "engine")]
pub mod engine;
