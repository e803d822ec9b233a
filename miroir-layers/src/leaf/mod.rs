//! Layers of the leaf stage.

mod budget;
pub mod failover;
mod failure;
pub mod hedge;
pub mod query_quarantine;

pub use failover::{FailoverLayer, FailoverOptions};
pub use hedge::{HedgeLayer, HedgeOptions};
pub use query_quarantine::{Quarantine, QueryQuarantineLayer, QueryQuarantineOptions};

#[cfg(test)]
mod tests;
