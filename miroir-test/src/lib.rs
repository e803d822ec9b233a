//! Test kit for Miroir: fake nodes, faults, a simulated cluster, store suites, an engine node.
pub mod cluster;
pub mod contract;
#[cfg(feature = "engine")]
pub mod engine;
pub mod faults;
pub mod history;
pub mod mock;
pub mod node;
pub mod redis;
pub mod stores;

pub use mock::layered;
