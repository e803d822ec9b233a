//! Settings on their way to all nodes: proposed, verified, and committed or taken back; and the check
//! for nodes that drifted apart since.

pub(crate) mod conclude;
pub mod drift;
pub(crate) mod primary_keys;
pub(crate) mod progress;
pub mod verify;
