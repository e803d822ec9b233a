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

    /// The stamps of documents that owners have, once they have answered or had their time.
    pub(super) async fn found(&mut self) -> Found {
        match self {
            Self::Added(added) => added.lookup.found().await,
            _ => Found::default(),
        }
    }

    /// Gives the documents of a task their stamps, and remembers what nodes will only know later. `calls` are
    /// those of each batch.
    pub(super) fn settle<'a>(
        self,
        state: &ClusterState,
        index: &IndexEntry,
        task: TaskUid,
        found: &Found,
        calls: impl Iterator<Item = &'a mut Vec<Call>>,
    ) {
        let is_open = |task| state.open_tasks.contains(task);
        let added = state.document_order.with(index.incarnation, is_open, |arrivals| match self {
            Self::Added(added) => {
                let stamps = arrivals.assign(task, &added.ids, found, added.creates);
                Some((stamps, added.slots))
            }
            Self::Deleted(ids) => {
                arrivals.deleted(task, &ids);
                None
            }
            Self::Emptied => {
                arrivals.emptied(task);
                None
            }
        });
        let Some((stamps, slots)) = added else { return };
        let new = stamps.iter().filter(|stamp| stamp.task() == task).count();
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
