//! Which indexes have settings on their way to nodes.

use std::collections::BTreeMap;

use miroir_core::lock::Lock;

/// Settings broadcasts in flight, counted by the index's name on the nodes.
#[derive(Debug, Default)]
pub struct Broadcasts(Lock<BTreeMap<String, u32>>);

impl Broadcasts {
    /// One more is in flight.
    pub fn begin(&self, physical: &str) {
        let mut counts = self.0.lock();
        *counts.entry(physical.to_owned()).or_default() += 1;
    }

    /// One has ended. Nothing happens if none was in flight.
    pub fn end(&self, physical: &str) {
        let mut counts = self.0.lock();
        if let Some(count) = counts.get_mut(physical) {
            *count -= 1;
            if *count == 0 {
                counts.remove(physical);
            }
        }
    }

    /// Whether one is in flight: a node may have settings that others have not yet.
    pub fn is_in_flight(&self, physical: &str) -> bool {
        self.0.lock().contains_key(physical)
    }

    /// Whether none is in flight.
    pub fn is_idle(&self) -> bool {
        self.0.lock().is_empty()
    }

    /// Forgets all: what a former term left is told by the stores.
    pub fn clear(&self) {
        self.0.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_in_flight_until_the_last_broadcast_ends() {
        let broadcasts = Broadcasts::default();
        broadcasts.begin("films");
        broadcasts.begin("films");
        broadcasts.end("films");
        assert!(broadcasts.is_in_flight("films") && !broadcasts.is_in_flight("books"));
        broadcasts.end("films");
        broadcasts.end("films");
        assert!(broadcasts.is_idle());
    }
}
