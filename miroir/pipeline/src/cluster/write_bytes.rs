//! How many bytes of writes are held for nodes that have not taken them.

use std::sync::Arc;

use miroir_api::meili::ApiError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::deadline::Deadline;
use crate::error::Error;

/// What one permit stands for, in bytes.
const UNIT: usize = 1024;
/// A node that does not answer keeps this part of all bytes waiting at most.
const SHARE: u32 = 4;

/// Bounds the bytes of writes that nodes have not answered. A write that is too large for what is
/// left waits within its deadline; one that is larger than all of it goes alone.
#[derive(Debug)]
pub struct WriteBytes {
    places: Arc<Semaphore>,
    units: u32,
}

/// Room for a write while this lives.
#[derive(Debug)]
pub struct WritePermit {
    place: OwnedSemaphorePermit,
}

fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).max(1)
}

impl WriteBytes {
    /// Room for so many bytes; at least for 1 KiB.
    pub fn new(bytes: usize) -> Self {
        let units = units(bytes);
        let places = (units as usize).min(Semaphore::MAX_PERMITS);
        Self { places: Arc::new(Semaphore::new(places)), units }
    }

    /// Waits for room for a write.
    ///
    /// # Errors
    /// `miroir_overloaded` when the deadline passes first: nothing of the write was sent.
    pub async fn take(&self, bytes: usize, deadline: Deadline) -> Result<WritePermit, Error> {
        let wanted = units(bytes).min(self.units);
        let place = Arc::clone(&self.places).acquire_many_owned(wanted);
        let place = deadline.run(place).await.map_err(|_| overloaded())?;
        let place = place.map_err(Error::internal)?;
        let permit = WritePermit { place };
        metrics::gauge!("miroir_writes_unanswered_bytes").increment(permit.bytes());
        Ok(permit)
    }

    /// Whether so many bytes are more than may wait for one node.
    pub fn is_share(&self, bytes: usize) -> bool {
        units(bytes) > self.units / SHARE && bytes > 0
    }
}

impl WritePermit {
    fn bytes(&self) -> f64 {
        (self.place.num_permits() * UNIT) as f64
    }

    /// Gives room back but for so many bytes.
    pub fn keep(&mut self, bytes: usize) {
        let spare = self.place.num_permits().saturating_sub(units(bytes) as usize);
        if let Some(spare) = self.place.split(spare) {
            metrics::gauge!("miroir_writes_unanswered_bytes")
                .decrement((spare.num_permits() * UNIT) as f64);
        }
    }
}

impl Drop for WritePermit {
    fn drop(&mut self) {
        metrics::gauge!("miroir_writes_unanswered_bytes").decrement(self.bytes());
    }
}

fn overloaded() -> Error {
    let message = "The nodes are behind with as many bytes of writes as are held for them \
                   (`server.max_unanswered_write_bytes`). Nothing was written: retry later.";
    Error::refused(ApiError::new("miroir_overloaded", message)).labelled("overloaded")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_write_waits_for_room_and_is_refused_in_time() {
        let bytes = WriteBytes::new(10 * UNIT);
        let soon = || Deadline::after(Duration::from_secs(1));
        let mut held = bytes.take(8 * UNIT, soon()).await.unwrap();
        let small = bytes.take(UNIT, soon()).await.unwrap();
        let error = bytes.take(4 * UNIT, soon()).await.unwrap_err();
        assert_eq!((error.render().0.as_u16(), error.label()), (503, "overloaded"));
        held.keep(3 * UNIT);
        let other = bytes.take(4 * UNIT, soon()).await.unwrap();
        drop((held, small, other));
        // Larger than everything: alone.
        let alone = bytes.take(100 * UNIT, soon()).await.unwrap();
        assert!(bytes.take(1, soon()).await.is_err());
        drop(alone);
        assert!(bytes.take(1, soon()).await.is_ok());
    }

    #[test]
    fn one_node_keeps_a_part_of_it_waiting() {
        let bytes = WriteBytes::new(8 * UNIT);
        assert!(!bytes.is_share(0) && !bytes.is_share(2 * UNIT) && bytes.is_share(3 * UNIT));
    }
}
