//! Tests of the protocol: each rule by itself, and all interleavings of a small world.

mod rules;
mod world;
