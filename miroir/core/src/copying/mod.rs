//! Copies of shards from one replica to another while writes go on: what may be written to the
//! target, and when the target is equal to its source.
//!
//! Every write of an index has a *lane number*: the one order in which all nodes get the writes they
//! share. A [`Lot`] is a copy of some shards from one node, the *source*, to another, the *target*;
//! both get the writes that touch them. The [`Journal`] of an index remembers which ids the writes
//! under way touch, and what became of them at the source and at the target.
//!
//! What is read from the source is an instant somewhere in the lane. A document of it is admitted,
//! that is given a lane number of its own and written to the target, only if no write touched it
//! from before the read until then: it is *quiet*. Whatever else happens to it has a higher number
//! and reaches the target later. An id that is not quiet is *dirty*: it is read again, unless a write
//! that does not depend on what was there succeeds at both sides. So is an id for which the two
//! sides' outcomes differ or are not known. Nothing of this depends on how long anything takes, and
//! nobody has to hold back writes.
//!
//! What the target has is read first: what is equal there is not written.

mod content;
mod journal;
mod lot;
#[cfg(test)]
mod tests;
mod write;

pub use content::{Content, content, id_hash};
pub use journal::{Journal, LotId};
pub use lot::{Admission, Lot, LotCounts, Page, Window};
pub use write::{Number, Outcome, Sent, Touch};
