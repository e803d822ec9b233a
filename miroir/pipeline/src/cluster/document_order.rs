//! In which order documents came first, as far as no node can tell yet.
//!
//! See [`miroir_core::documents::Arrivals`]. Here is what is shared by the writes of this process: what
//! is remembered of each index, which ids it may have, the questions about one index that wait to be asked
//! as one, and the nodes that did not answer the last of them. Nothing of it is stored: who forgets it gives a document another
//! place among ties.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use miroir_api::{NodeId, TaskUid};
use miroir_core::documents::{Arrivals, Seen, Stamp};
use miroir_core::lock::Lock;
use miroir_store::{IndexEntry, clock};
use time::OffsetDateTime;
use tokio::sync::oneshot;
use tokio::time::Instant;
use uuid::Uuid;

/// Stamps of documents that exist, by the hash of their ids.
pub type Found = Arc<HashMap<u64, Stamp>>;

/// How long a node is not asked again that left a question unanswered.
const SILENCE: Duration = Duration::from_secs(1);
/// Questions about one index that are under way at once: writes that come meanwhile are asked for together. With
/// two, single documents of 64 connections cost half as many calls as the writes themselves.
const ASKING: usize = 1;
/// Bytes by which it is remembered which ids an index may have; of a larger one every id is asked for.
const SEEN_OF_ONE: usize = if cfg!(test) { 64 << 10 } else { 2 << 20 };
/// The same of all indexes.
const SEEN_OF_ALL: usize = 16 << 20;
/// Ids of a question.
pub const IDS: usize = 1_000;

/// A write that waits for its answer.
#[derive(Debug)]
struct Waiting {
    ids: Vec<String>,
    answer: oneshot::Sender<Found>,
}

#[derive(Debug, Default)]
struct Questions {
    waiting: Vec<Waiting>,
    asking: usize,
}

/// The ids of indexes that were made since this process leads.
#[derive(Debug, Default)]
struct SeenIds {
    /// Since when this process leads; `None`: it never began.
    since: Option<OffsetDateTime>,
    /// By incarnation; `None`: they are too many.
    indexes: HashMap<Uuid, Option<Seen>>,
    bytes: usize,
}

/// See the module's documentation. Indexes go by their incarnation.
#[derive(Debug, Default)]
pub struct DocumentOrder {
    seen: Lock<SeenIds>,
    arrivals: Lock<HashMap<Uuid, Arc<Lock<Arrivals>>>>,
    questions: Lock<HashMap<Uuid, Questions>>,
    silent: Lock<HashMap<NodeId, Instant>>,
}

/// The right to ask questions about an index, until it is dropped.
#[derive(Debug)]
pub struct Asking {
    order: Arc<DocumentOrder>,
    index: Uuid,
}

/// Ids to ask for at once, and who is told.
#[derive(Debug)]
pub struct Batch {
    /// Ids of documents, some more than once.
    pub ids: Vec<String>,
    tell: Vec<oneshot::Sender<Found>>,
}

impl Batch {
    /// Tells all that wait. Whoever is not told takes it that nothing was found.
    pub fn answer(self, found: &Found) {
        for answer in self.tell {
            // Who has gone needs no answer.
            let _ = answer.send(Arc::clone(found));
        }
    }
}

impl Asking {
    /// The next ids to ask for; `None` when nobody waits.
    pub fn next(&self) -> Option<Batch> {
        let mut all = self.order.questions.lock();
        let waiting = &mut all.get_mut(&self.index)?.waiting;
        let mut batch = Batch { ids: Vec::new(), tell: Vec::new() };
        while let Some(first) = waiting.first()
            && (batch.ids.is_empty() || batch.ids.len() + first.ids.len() <= IDS)
        {
            let Waiting { ids, answer } = waiting.remove(0);
            batch.ids.extend(ids);
            batch.tell.push(answer);
        }
        (!batch.ids.is_empty()).then_some(batch)
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        let mut all = self.order.questions.lock();
        if let Some(questions) = all.get_mut(&self.index) {
            questions.asking -= 1;
            if questions.asking == 0 {
                // Whoever waits still is not told.
                all.remove(&self.index);
            }
        }
    }
}

impl DocumentOrder {
    /// Has the stamps of these ids asked for, together with those that others want. The answer never comes
    /// if the caller does not ask where it is told to.
    pub fn want(
        self: &Arc<Self>,
        index: Uuid,
        ids: Vec<String>,
    ) -> (oneshot::Receiver<Found>, Option<Asking>) {
        let (answer, found) = oneshot::channel();
        let mut all = self.questions.lock();
        let questions = all.entry(index).or_default();
        questions.waiting.push(Waiting { ids, answer });
        let asks = questions.asking < ASKING;
        questions.asking += usize::from(asks);
        (found, asks.then(|| Asking { order: Arc::clone(self), index }))
    }

    /// Has what is remembered of an index looked at and changed, once what owners know by now is
    /// forgotten.
    pub fn with<T>(
        &self,
        index: Uuid,
        is_open: impl Fn(TaskUid) -> bool,
        change: impl FnOnce(&mut Arrivals) -> T,
    ) -> T {
        let arrivals = Arc::clone(self.arrivals.lock().entry(index).or_default());
        let changed = {
            let mut arrivals = arrivals.lock();
            arrivals.forget(is_open);
            change(&mut arrivals)
        };
        let mut all = self.arrivals.lock();
        // Nobody else has it in hand.
        if Arc::strong_count(&arrivals) == 2 && arrivals.lock().is_empty() {
            all.remove(&index);
        }
        changed
    }

    /// Forgets everything: another process has led meanwhile, and this one does from now on.
    pub fn begin(&self) {
        self.arrivals.lock().clear();
        *self.seen.lock() = SeenIds { since: Some(clock::now()), ..SeenIds::default() };
    }

    /// Leaves those of some ids that the index may have: all, unless it was made since this process leads.
    /// From now on it may have all of them.
    pub fn may_exist(&self, index: &IndexEntry, mut ids: Vec<String>) -> Vec<String> {
        let mut all = self.seen.lock();
        let SeenIds { since, indexes, bytes } = &mut *all;
        if since.is_none_or(|since| index.created_at <= since) {
            return ids;
        }
        let known = indexes.entry(index.incarnation).or_insert_with(|| Some(Seen::default()));
        let Some(seen) = known else { return ids };
        let before = seen.bytes();
        ids.retain(|id| seen.put(Arrivals::hash(id)));
        let now = seen.bytes();
        *bytes = *bytes + now - before;
        if now > SEEN_OF_ONE || *bytes > SEEN_OF_ALL {
            *bytes -= now;
            *known = None;
        }
        ids
    }

    /// Forgets an index that is deleted.
    pub fn forget(&self, index: Uuid) {
        let mut all = self.seen.lock();
        if let Some(seen) = all.indexes.remove(&index).flatten() {
            all.bytes -= seen.bytes();
        }
    }

    /// A node has left a question unanswered.
    pub fn silence(&self, node: &NodeId) {
        self.silent.lock().insert(node.clone(), Instant::now() + SILENCE);
    }

    /// Whether a node is not to be asked for now.
    pub fn is_silent(&self, node: &NodeId) -> bool {
        let mut silent = self.silent.lock();
        if silent.get(node).is_some_and(|until| *until <= Instant::now()) {
            silent.remove(node);
        }
        silent.contains_key(node)
    }
}

#[cfg(test)]
mod tests {
    use miroir_api::IndexUid;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn questions_wait_and_are_asked_together() {
        let order = Arc::new(DocumentOrder::default());
        let index = Uuid::from_u128(1);
        let ids = |n: usize| (0..n).map(|id| id.to_string()).collect::<Vec<_>>();
        let (first, asks) = order.want(index, ids(2));
        let asks = asks.unwrap();
        let batch = asks.next().unwrap();
        let (second, none) = order.want(index, ids(1));
        assert!(none.is_none());
        let (third, _) = order.want(index, ids(3));
        let (fourth, _) = order.want(index, ids(IDS));
        batch.answer(&Found::default());
        assert!(first.await.is_ok());
        // What fits into one question goes together.
        let together = asks.next().unwrap();
        assert_eq!(together.ids.len(), 4);
        together.answer(&Found::default());
        assert!(second.await.is_ok() && third.await.is_ok());
        // Who stops asking without an answer leaves nobody waiting.
        drop(asks);
        assert!(fourth.await.is_err());
        assert!(order.questions.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_was_silent_is_asked_again_after_a_while() {
        let order = DocumentOrder::default();
        let node = NodeId::new("n0").unwrap();
        order.silence(&node);
        assert!(order.is_silent(&node));
        tokio::time::advance(SILENCE).await;
        assert!(!order.is_silent(&node));
    }

    #[test]
    fn ids_of_a_new_index_are_not_asked_for_and_those_of_an_old_one_are() {
        let order = DocumentOrder::default();
        let entry = |name: &str, created| {
            IndexEntry::new(IndexUid::new(name).unwrap(), name.to_owned(), 1, created)
        };
        let ids = || vec!["a".to_owned(), "b".to_owned()];
        let (hour, now) = (time::Duration::hours(1), clock::now());
        // Who never led knows nothing.
        assert_eq!(order.may_exist(&entry("new", now + hour), ids()), ids());
        order.begin();
        let (new, old) = (entry("new", now + hour), entry("old", now - hour));
        assert_eq!(order.may_exist(&old, ids()), ids());
        assert!(order.may_exist(&new, vec!["a".to_owned()]).is_empty());
        assert_eq!(order.may_exist(&new, ids()), ["a"]);
        assert_eq!(order.may_exist(&new, ids()), ids());
        order.forget(new.incarnation);
        assert!(order.seen.lock().indexes.is_empty() && order.seen.lock().bytes == 0);
        // More than is remembered: all may be there.
        order.may_exist(&new, (0..60_000).map(|n| n.to_string()).collect());
        assert_eq!(order.may_exist(&new, vec!["z".to_owned()]), ["z"]);
        assert_eq!(order.seen.lock().bytes, 0);
    }

    #[test]
    fn an_index_of_which_nothing_is_remembered_takes_no_room() {
        let order = DocumentOrder::default();
        let (index, task) = (Uuid::from_u128(1), TaskUid(1));
        order.with(index, |_| true, |arrivals| arrivals.deleted(task, &[1]));
        assert_eq!(order.arrivals.lock().len(), 1);
        order.with(index, |_| false, |_| ());
        assert!(order.arrivals.lock().is_empty());
    }
}
