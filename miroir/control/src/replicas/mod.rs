//! What nodes still have, and bringing replicas up to date.

pub mod anti_entropy;
mod discard;
pub mod disk_check;
pub mod foreign;
mod identity;
mod pending;
pub mod repair;

pub use discard::discard_disk;
