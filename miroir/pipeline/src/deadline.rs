//! Absolute deadlines.

use std::time::Duration;

use tokio::time::Instant;

use crate::error::Error;

/// The instant after which nobody waits for the answer any more. Inner waits use
/// `min(own, remaining)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    /// A deadline this far from now.
    pub fn after(wait: Duration) -> Self {
        Self(Instant::now() + wait)
    }

    /// What is left; zero when it has passed.
    pub fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// The earlier of this and a deadline that far from now.
    pub fn min(self, wait: Duration) -> Self {
        Self(self.0.min(Instant::now() + wait))
    }

    /// The later of two.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self(self.0.max(other.0))
    }

    /// Waits for a future, but not past the deadline.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::DeadlineExceeded`].
    pub async fn run<T>(self, future: impl Future<Output = T>) -> Result<T, Error> {
        tokio::time::timeout_at(self.0, future).await.map_err(|_| Error::deadline())
    }
}
