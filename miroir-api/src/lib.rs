//! Wire types of Miroir.
//!
//! Two vocabularies meet here: Meilisearch's API as far as Miroir has to understand it in order to
//! route, and Miroir's own admin API. The crate does no I/O and builds for `wasm32`, so the server,
//! the command line and the admin console share one definition of what is on the wire.
//!
//! What Miroir does not need to understand is *not* modelled: documents, hits and most request
//! bodies travel as raw bytes and reach the other side as they came.

pub mod admin;
pub mod header;
mod hexadecimal;
pub mod meili;
mod uid;

pub use hexadecimal::hexadecimal;
pub use uid::{GroupId, IndexUid, InvalidIndexUid, InvalidNodeId, NodeId, ShardId, TaskUid};
