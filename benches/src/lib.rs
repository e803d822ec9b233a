//! See the files beside this crate.
