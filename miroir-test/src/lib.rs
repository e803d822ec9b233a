//! Test kit for Miroir: fake nodes, faults, a simulated cluster, store suites, a comparing proxy.
pub mod certificates;
pub mod cluster;
pub mod compare;
pub mod contract;
pub mod faults;
pub mod history;
pub mod invariants;
pub mod mock;
pub mod node;
pub mod oracle;
pub mod redis;
pub mod stores;
mod switch;
pub mod trace;

pub use mock::layered;
