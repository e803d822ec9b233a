//! How nodes are doing.

pub mod founding;
pub mod health;
pub mod operations;
mod rebuild;
mod versions;

pub use rebuild::{Rebuilt, rebuild};
pub use versions::accept_store;
