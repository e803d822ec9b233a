//! What a copy keeps of the documents that it writes.

use std::collections::HashSet;
use std::sync::Arc;

/// Ids beyond which everything is verified, and not what was written.
const MANY: usize = 20_000;

/// What was written since it was last looked at.
#[derive(Debug)]
pub(super) enum Written {
    /// These ids: they are read once more.
    Few(HashSet<Arc<str>>),
    /// More than are worth keeping: everything is.
    Many,
}

impl Written {
    /// These and others.
    pub(super) fn and(self, ids: impl Iterator<Item = Arc<str>>) -> Self {
        let Self::Few(mut all) = self else { return Self::Many };
        all.extend(ids);
        if all.len() > MANY { Self::Many } else { Self::Few(all) }
    }
}
