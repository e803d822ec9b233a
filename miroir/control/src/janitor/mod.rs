//! JANITOR: removes records that are over.

mod pruning;

pub use pruning::{PruningOptions, prune};
