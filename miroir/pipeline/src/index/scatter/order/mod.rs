//! What a write does to the order of documents: see [`miroir_core::documents::Stamp`].
//!
//! A document that exists keeps its stamp, so owners are asked for it while the write is on its way. Who
//! does not answer in time knows nothing: the document then gets another place among ties, and is the same
//! document all the same.

mod lookup;

use bytes::BytesMut;
use miroir_api::TaskUid;
use miroir_core::documents::{Arrivals, Slot, Stamp};
use miroir_store::IndexEntry;

pub(super) use lookup::Lookup;

use crate::cluster::ClusterState;
use crate::cluster::document_order::Found;
use crate::node::Call;

/// What a write does to the order of an index's documents.
#[derive(Debug)]
#[non_exhaustive]
pub enum OrderChange {
    /// It brings documents.
    Added(Added),
    /// It deletes the documents with these ids, by their hashes.
    Deleted(Vec<u64>),
    /// It deletes all documents.
    Emptied,
}

/// Documents that a write brings.
#[derive(Debug)]
pub struct Added {
    /// Hashes of their ids, in the order of the payload.
    pub(super) ids: Vec<u64>,
    /// Looks for those that exist already.
    pub(super) lookup: Lookup,
    /// Whether those that do not exist are made.
    pub(super) creates: bool,
    /// Where their stamps go: of each batch, of each call.
    pub(super) slots: Vec<Vec<Vec<Slot>>>,
}

impl OrderChange {
    /// Of a deletion by ids.
    pub(super) fn deleted<'a>(ids: impl Iterator<Item = &'a str>) -> Self {
        Self::Deleted(ids.map(Arrivals::hash).collect())
    }

    /// How many documents it brings.
    pub(super) fn documents(&self) -> usize {
        match self {
            Self::Added(added) => added.ids.len(),
            _ => 0,
        }
    }

    /// The stamps of documents that owners have, once they have answered or had their time.
    pub(super) async fn found(&mut self) -> Found {
        match self {
            Self::Added(added) => added.lookup.found().await,
            _ => Found::default(),
        }
    }

    /// Gives the documents of tasks their stamps, and remembers what nodes will only know later. `tasks`
    /// says how many of the documents each brings, in their order; `calls` are those of each batch.
    pub(super) fn settle<'a>(
        self,
        state: &ClusterState,
        index: &IndexEntry,
        tasks: impl Iterator<Item = (TaskUid, usize)>,
        found: &Found,
        calls: impl Iterator<Item = &'a mut Vec<Call>>,
    ) {
        let mut tasks = tasks.peekable();
        let Some(first) = tasks.peek().map(|(task, _)| *task) else { return };
        let is_open = |task| state.open_tasks.contains(task);
        let added = state.document_order.with(index.incarnation, is_open, |arrivals| match self {
            Self::Added(added) => {
                let (mut stamps, mut new) = (Vec::with_capacity(added.ids.len()), 0);
                for (task, documents) in tasks {
                    let ids = added.ids.iter().skip(stamps.len()).take(documents);
                    let ids: Vec<u64> = ids.copied().collect();
                    let own = arrivals.assign(task, &ids, found, added.creates);
                    new += own.iter().filter(|stamp| stamp.task() == task).count();
                    stamps.extend(own);
                }
                Some((stamps, new, added.slots))
            }
            Self::Deleted(ids) => {
                arrivals.deleted(first, &ids);
                None
            }
            Self::Emptied => {
                arrivals.emptied(first);
                None
            }
        });
        let Some((stamps, new, slots)) = added else { return };
        count("new", new);
        count("kept", stamps.len() - new);
        for (calls, slots) in calls.zip(slots) {
            for (call, slots) in calls.iter_mut().zip(slots) {
                fill(call, &slots, &stamps);
            }
        }
    }
}

fn count(stamp: &'static str, documents: usize) {
    metrics::counter!("miroir_document_order_stamps_total", "stamp" => stamp)
        .increment(documents as u64);
}

/// Writes stamps into the body of a call that nobody else has seen.
fn fill(call: &mut Call, slots: &[Slot], stamps: &[Stamp]) {
    let mut body = BytesMut::from(std::mem::take(&mut call.body));
    for slot in slots {
        if let Some(place) = body.get_mut(slot.at..slot.at + Stamp::BYTES) {
            place.copy_from_slice(&stamps[slot.document].text());
        }
    }
    call.body = body.freeze();
}
