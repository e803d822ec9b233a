//! How nodes are doing.

pub mod health;
