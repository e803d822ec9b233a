//! Layers of the leaf stage.

pub mod failover;

pub use failover::{FailoverLayer, FailoverOptions};
