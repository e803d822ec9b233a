//! What nodes still have, and bringing replicas up to date.

pub mod disk_check;
mod pending;
pub mod repair;
