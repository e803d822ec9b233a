//! What comparisons of replicas found, and what is still to be looked into. `anti_entropy` in a
//! configuration; who compares and mends is the control plane's business.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use miroir_api::{NodeId, ShardId};
use miroir_core::lock::Lock;
use miroir_core::options::{Capability, Faults, Validate, every, seconds};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use time::OffsetDateTime;
use tokio::sync::Notify;

/// `anti_entropy`: comparing replicas that should be equal, and mending what differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AntiEntropyOptions {
    /// Whether replicas are compared. They are by default.
    pub enabled: bool,
    /// Time between the begins of two passes over all documents: `"every 6h"` by default.
    #[serde(with = "every")]
    pub schedule: Duration,
    /// Time between two counts of the documents of each shard. 1 min by default.
    #[serde(rename = "count_interval_s", with = "seconds")]
    pub count_interval: Duration,
    /// Shards that a pass compares at most, going on with the next ones in the pass after it; 0, the
    /// default, for all.
    pub shards_per_pass: usize,
    /// Replicas that are read at one time. 2 by default.
    pub max_read_concurrency: usize,
    /// Documents that a node is asked for at a time, at most 1,000, the default.
    pub fingerprint_batch_size: usize,
    /// How much of its time a node may spend on questions of a pass, in percent. 2 by default.
    pub node_time_percent: u32,
    /// Whether what differs is mended. It is by default; otherwise it is only reported.
    pub auto_repair: bool,
}

impl Default for AntiEntropyOptions {
    fn default() -> Self {
        Self {
            enabled: true,
            schedule: Duration::from_hours(6),
            count_interval: Duration::from_mins(1),
            shards_per_pass: 0,
            max_read_concurrency: 2,
            fingerprint_batch_size: 1000,
            node_time_percent: 2,
            auto_repair: true,
        }
    }
}

impl Validate for AntiEntropyOptions {
    fn validate(&self, faults: &mut Faults) {
        faults.positive(&[
            ("schedule", self.schedule.is_zero()),
            ("count_interval_s", self.count_interval.is_zero()),
            ("max_read_concurrency", self.max_read_concurrency == 0),
            ("fingerprint_batch_size", self.fingerprint_batch_size == 0),
            ("node_time_percent", self.node_time_percent == 0),
        ]);
        faults.when(
            self.node_time_percent > 100,
            &["node_time_percent"],
            "a node has no more than 100 percent of its time",
            "use 1 to 100",
        );
    }
}

impl Capability for AntiEntropyOptions {
    fn enabled(&self) -> bool {
        self.enabled
    }
}

/// Differences that are remembered.
const DIFFERENCES: usize = 200;
/// Documents that are kept, and their bytes, at most.
const KEPT: (usize, usize) = (1000, 64 << 20);
/// How long they are kept.
const KEPT_FOR: Duration = Duration::from_hours(24);
/// Ids that wait to be looked into; what is beyond is found again by a later pass.
const WAITING: usize = 10_000;

/// Ids of a shard whose replicas seemed to differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspicion {
    /// The index, by its name on the nodes.
    pub index: String,
    /// The shard.
    pub shard: ShardId,
    /// The ids.
    pub ids: Vec<Arc<str>>,
}

/// What became of a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Became {
    /// The wrong replicas have what the right ones have.
    Mended,
    /// It was only reported.
    Reported,
    /// Nobody can tell which replica is right: it stays until somebody writes the document.
    Ambiguous,
}

impl Became {
    /// The word as the admin API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mended => "mended",
            Self::Reported => "reported",
            Self::Ambiguous => "ambiguous",
        }
    }
}

/// A document of which replicas had different versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// When it was found.
    pub at: OffsetDateTime,
    /// The index, by the name that clients use.
    pub index: String,
    /// The shard.
    pub shard: ShardId,
    /// The document's id.
    pub id: Arc<str>,
    /// The nodes that were right; empty where nobody can tell.
    pub right: Vec<NodeId>,
    /// The others.
    pub wrong: Vec<NodeId>,
    /// What became of it.
    pub became: Became,
}

/// A version of a document that was overwritten or deleted by a repair.
#[derive(Clone, Debug)]
pub struct Kept {
    /// When.
    pub at: OffsetDateTime,
    /// The index, by the name that clients use.
    pub index: String,
    /// The node that had it.
    pub node: NodeId,
    /// The document as the node showed it.
    pub document: Arc<RawValue>,
}

/// A pass over all documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pass {
    /// When it began.
    pub began_at: OffsetDateTime,
    /// When it ended; `None` while it lasts.
    pub ended_at: Option<OffsetDateTime>,
    /// Shards that were compared.
    pub shards: u64,
    /// Shards that were not, for a replica was away, copied to, or busy.
    pub skipped: u64,
    /// Documents that were read, on all replicas.
    pub documents: u64,
}

#[derive(Debug, Default)]
struct Inner {
    pass: Option<Pass>,
    last: Option<Pass>,
    found: BTreeMap<&'static str, u64>,
    differences: VecDeque<Difference>,
    kept: VecDeque<Kept>,
    kept_bytes: usize,
    waiting: VecDeque<Suspicion>,
    waiting_ids: usize,
}

/// What comparisons of this process found. Nothing of it is stored.
#[derive(Debug, Default)]
pub struct Comparisons {
    inner: Lock<Inner>,
    asked: Notify,
    suspected: Notify,
}

impl Comparisons {
    /// Asks for a pass now.
    pub fn ask(&self) {
        self.asked.notify_one();
    }

    /// Waits until a pass is asked for.
    pub async fn asked(&self) {
        self.asked.notified().await;
    }

    /// A pass begins.
    pub fn begin(&self, at: OffsetDateTime) {
        let pass = Pass { began_at: at, ended_at: None, shards: 0, skipped: 0, documents: 0 };
        self.inner.lock().pass = Some(pass);
    }

    /// A shard was compared; its replicas showed so many documents. `None`: it could not be.
    pub fn compared(&self, documents: Option<u64>) {
        let mut inner = self.inner.lock();
        let Some(pass) = &mut inner.pass else { return };
        match documents {
            Some(documents) => {
                pass.shards += 1;
                pass.documents += documents;
            }
            None => pass.skipped += 1,
        }
    }

    /// The pass is over.
    pub fn end(&self, at: OffsetDateTime) {
        let mut inner = self.inner.lock();
        if let Some(pass) = inner.pass.take() {
            inner.last = Some(Pass { ended_at: Some(at), ..pass });
        }
    }

    /// The pass that is under way, and the last one that ended.
    pub fn passes(&self) -> (Option<Pass>, Option<Pass>) {
        let inner = self.inner.lock();
        (inner.pass, inner.last)
    }

    /// Ids are to be looked into.
    pub fn suspect(&self, suspicion: Suspicion) {
        let mut inner = self.inner.lock();
        if inner.waiting_ids + suspicion.ids.len() > WAITING {
            return;
        }
        inner.waiting_ids += suspicion.ids.len();
        inner.waiting.push_back(suspicion);
        drop(inner);
        self.suspected.notify_one();
    }

    /// Waits for ids to look into.
    pub async fn suspicion(&self) -> Suspicion {
        loop {
            let notified = self.suspected.notified();
            {
                let mut inner = self.inner.lock();
                if let Some(next) = inner.waiting.pop_front() {
                    inner.waiting_ids -= next.ids.len();
                    return next;
                }
            }
            notified.await;
        }
    }

    /// Whether nothing waits to be looked into.
    pub fn is_idle(&self) -> bool {
        self.inner.lock().waiting.is_empty()
    }

    /// A difference was found.
    pub fn found(&self, difference: Difference) {
        let mut inner = self.inner.lock();
        *inner.found.entry(difference.became.as_str()).or_default() += 1;
        if inner.differences.len() == DIFFERENCES {
            inner.differences.pop_front();
        }
        inner.differences.push_back(difference);
    }

    /// The latest differences, the newest first.
    pub fn differences(&self) -> Vec<Difference> {
        self.inner.lock().differences.iter().rev().cloned().collect()
    }

    /// How many differences were found, by what became of them: `mended`, `reported`, `ambiguous`.
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.inner.lock().found.clone()
    }

    /// Keeps a version that is about to be overwritten or deleted.
    pub fn keep(&self, kept: Kept) {
        let mut inner = self.inner.lock();
        inner.kept_bytes += kept.document.get().len();
        inner.kept.push_back(kept);
        while inner.kept.len() > KEPT.0 || inner.kept_bytes > KEPT.1 {
            let Some(gone) = inner.kept.pop_front() else { break };
            inner.kept_bytes -= gone.document.get().len();
        }
    }

    /// The versions that are kept at a time, the newest first.
    pub fn kept(&self, now: OffsetDateTime) -> Vec<Kept> {
        let inner = self.inner.lock();
        inner.kept.iter().rev().filter(|kept| now - kept.at <= KEPT_FOR).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(at: OffsetDateTime, bytes: usize) -> Kept {
        let text = format!("\"{}\"", "x".repeat(bytes.saturating_sub(2)));
        let document = Arc::from(RawValue::from_string(text).unwrap());
        let node = NodeId::new("a").unwrap();
        Kept { at, index: "main".to_owned(), node, document }
    }

    #[test]
    fn what_is_kept_is_bounded_in_number_bytes_and_time() {
        let now = OffsetDateTime::UNIX_EPOCH + Duration::from_hours(100);
        let all = Comparisons::default();
        for n in 0..1100_u64 {
            all.keep(kept(now + Duration::from_secs(n), 10));
        }
        let found = all.kept(now + Duration::from_secs(1100));
        assert_eq!(found.len(), 1000);
        assert_eq!(found[0].at, now + Duration::from_secs(1099));
        assert_eq!(all.kept(now + Duration::from_hours(24) + Duration::from_mins(10)).len(), 500);
        all.keep(kept(now, KEPT.1 - 50));
        assert_eq!(all.kept(now).len(), 6);
    }

    #[tokio::test]
    async fn what_waits_to_be_looked_into_is_bounded() {
        let all = Comparisons::default();
        let of = |count: usize| Suspicion {
            index: "main".to_owned(),
            shard: ShardId(1),
            ids: (0..count).map(|n| Arc::from(n.to_string())).collect(),
        };
        all.suspect(of(WAITING));
        all.suspect(of(1));
        assert_eq!(all.suspicion().await.ids.len(), WAITING);
        assert!(all.is_idle());
        all.suspect(of(1));
        assert_eq!(all.suspicion().await, of(1));
    }

    #[test]
    fn a_pass_counts_what_it_compared() {
        let (all, at) = (Comparisons::default(), OffsetDateTime::UNIX_EPOCH);
        all.compared(Some(5));
        assert_eq!(all.passes(), (None, None), "counts are no pass");
        all.begin(at);
        all.compared(Some(5));
        all.compared(None);
        assert_eq!(all.passes().0.unwrap().documents, 5);
        all.end(at + Duration::from_secs(3));
        let last = all.passes().1.unwrap();
        assert_eq!((last.shards, last.skipped, last.documents), (1, 1, 5));
        assert_eq!(last.ended_at, Some(at + Duration::from_secs(3)));
    }
}
