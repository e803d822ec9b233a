//! Which nodes there are, and how they are doing.

pub mod founding;
pub mod health;
pub mod operations;
mod rebuild;
pub mod restore;
mod versions;

pub use rebuild::{Rebuilt, rebuild};
pub use versions::accept_store;
