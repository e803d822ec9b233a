//! A second look at what was written, and single documents that are mended.

use std::sync::Arc;

use miroir_core::copying::Number;

use super::Lot;
use crate::replicas::repair::Trouble;
use crate::replicas::repair::gauges::Stage;
use crate::replicas::repair::node::Pause;
use crate::replicas::repair::written::Written;

/// Times that a verification may find differences.
const VERIFICATIONS: u32 = 3;

impl Lot<'_> {
    /// Makes these documents of the target what they are at the source.
    pub(in crate::replicas) async fn mend(&mut self, ids: &[Arc<str>]) -> Result<(), Trouble> {
        let mut pause = Pause::default();
        while !self.filling.journal(|journal, lot| journal.compare_only(lot, ids)) {
            self.go_on(&mut pause).await?;
        }
        let up_to = self.filling.journal(|journal, _| journal.last());
        self.catch_up(up_to).await?;
        self.verify(up_to).await.map(drop)
    }

    /// Looks once more at what was written, until nothing of it differs. Returns the number of the last
    /// write that may have gone unseen.
    pub(super) async fn verify(&mut self, mut up_to: Number) -> Result<Number, Trouble> {
        let mut verifications = 0;
        while let Some(written) = self.written.take() {
            let before = self.filling.with(|lot| lot.counts().differences);
            up_to = match written {
                Written::Many => self.compare(true).await?,
                Written::Few(ids) => {
                    self.stage = Stage::new("verify");
                    let ids: Vec<Arc<str>> = ids.into_iter().collect();
                    self.filling.journal(|journal, lot| {
                        journal.verify(lot, &ids);
                        journal.last()
                    })
                }
            };
            let examples = self.filling.with(|lot| lot.dirty_ids(10));
            self.catch_up(up_to).await?;
            let found = self.filling.with(|lot| lot.counts().differences) - before;
            if found == 0 {
                break;
            }
            metrics::counter!("miroir_verify_differences_total").increment(found);
            verifications += 1;
            if verifications == VERIFICATIONS {
                return Err(Trouble::blocked("verify", format!("ids {}", examples.join(", "))));
            }
        }
        Ok(up_to)
    }
}
