//! The fencing token that changes carry.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::StoreError;

const OPEN: u64 = 0;
const CLOSED: u64 = u64::MAX;

/// What a process may change, as a number that its store checks.
///
/// A backend that several processes share sends the number of the leader's lease along with every
/// change, and refuses one that is lower than the highest it has given out ([`super::Leases`]), or as
/// high and not the holder's: a leader that was held up and acts late changes nothing, even where the
/// backend forgot its last writes and gave one number twice. A process that does not lead changes
/// nothing either. Leases, pods and the pruning of old tasks are everybody's.
#[derive(Debug, Default)]
pub struct Fence {
    number: AtomicU64,
    holder: OnceLock<String>,
}

impl Fence {
    /// The scope of the lease whose fence it is.
    pub const SCOPE: &str = "leader";

    /// Says what the process calls itself as the holder of leases. The first name stays.
    pub fn name(&self, holder: &str) {
        let _ = self.holder.set(holder.to_owned());
    }

    /// The name of the process; empty where it has none.
    pub fn holder(&self) -> &str {
        self.holder.get().map_or("", String::as_str)
    }

    /// Changes carry this number from now on.
    pub fn carry(&self, fence: u64) {
        self.number.store(fence, Ordering::Release);
    }

    /// Changes are refused from now on.
    pub fn close(&self) {
        self.number.store(CLOSED, Ordering::Release);
    }

    /// What a change carries; `None` where nobody is elected.
    ///
    /// # Errors
    /// [`StoreError::Deposed`] if this process may change nothing.
    pub fn current(&self) -> Result<Option<u64>, StoreError> {
        match self.number.load(Ordering::Acquire) {
            OPEN => Ok(None),
            CLOSED => Err(StoreError::Deposed),
            fence => Ok(Some(fence)),
        }
    }
}
