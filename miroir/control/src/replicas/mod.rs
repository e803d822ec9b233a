//! What nodes still have, and bringing replicas up to date.

pub mod disk_check;
pub mod repair;
