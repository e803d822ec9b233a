//! What a copy shows of itself while it lasts.

/// What a copy is at.
#[derive(Debug)]
pub(super) struct Stage(&'static str);

impl Stage {
    pub(super) fn new(stage: &'static str) -> Self {
        metrics::gauge!("miroir_lots", "stage" => stage).increment(1.0);
        Self(stage)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        metrics::gauge!("miroir_lots", "stage" => self.0).decrement(1.0);
    }
}

/// How many ids a copy has to read again; all copies share one gauge.
#[derive(Debug, Default)]
pub(super) struct Dirty(usize);

impl Dirty {
    pub(super) fn set(&mut self, ids: usize) {
        if ids != self.0 {
            metrics::gauge!("miroir_copy_dirty_ids").increment(ids as f64 - self.0 as f64);
            self.0 = ids;
        }
    }
}

impl Drop for Dirty {
    fn drop(&mut self) {
        self.set(0);
    }
}
