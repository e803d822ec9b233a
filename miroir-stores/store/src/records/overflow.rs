//! Changes that a sink has not taken while it was away.

use super::{Bound, Log, Size, Typed};
use crate::StoreFuture;

/// Changes that wait for a sink.
pub type Overflowed = Vec<(u64, String)>;

/// Lists of changes that wait for their sinks, bounded in bytes.
pub trait Overflow: Send + Sync + std::fmt::Debug {
    /// Adds a change; the oldest go where there are more than `bytes`. Returns how many went.
    fn push(&self, sink: &str, change: String, bytes: u64) -> StoreFuture<'_, u64>;
    /// The oldest changes, with their numbers.
    fn waiting(&self, sink: &str, limit: usize) -> StoreFuture<'_, Overflowed>;
    /// Forgets those up to and with a number, once the sink has them. Returns how many.
    fn taken(&self, sink: &str, number: u64) -> StoreFuture<'_, u64>;
    /// How much waits.
    fn size(&self, sink: &str) -> StoreFuture<'_, Size>;
}

impl Overflow for Typed {
    fn push(&self, sink: &str, change: String, bytes: u64) -> StoreFuture<'_, u64> {
        self.logs.append(Log::CdcOverflow, sink, change, Bound { entries: u64::MAX, bytes })
    }

    fn waiting(&self, sink: &str, limit: usize) -> StoreFuture<'_, Overflowed> {
        self.logs.after(Log::CdcOverflow, sink, 0, limit)
    }

    fn taken(&self, sink: &str, number: u64) -> StoreFuture<'_, u64> {
        self.logs.trim(Log::CdcOverflow, sink, number)
    }

    fn size(&self, sink: &str) -> StoreFuture<'_, Size> {
        self.logs.size(Log::CdcOverflow, sink)
    }
}
