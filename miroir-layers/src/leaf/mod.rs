//! Layers of the leaf stage.

mod budget;
pub mod failover;
mod failure;
pub mod hedge;

pub use failover::{FailoverLayer, FailoverOptions};
pub use hedge::{HedgeLayer, HedgeOptions};

#[cfg(test)]
mod tests;
