//! Examples of embedding Miroir; see the files beside this crate.
//!
//! `cargo run -p miroir-examples --example quickstart` starts a few engine nodes in its own
//! process. To use real ones, name them and their master key:
//! `MIROIR_NODE_MASTER_KEY=… cargo run … --example quickstart -- http://host:7701 http://host:7702`.
