//! The rules of the protocol, one by one. Each test names what goes wrong without its rule.

use std::sync::Arc;

use miroir_api::{NodeId, TaskUid};

use crate::copying::{Admission, Journal, LotId, Number, Outcome, Page, Sent, Touch};
use crate::routing::ShardSet;

fn source() -> NodeId {
    NodeId::new("s").unwrap()
}

fn target() -> NodeId {
    NodeId::new("t").unwrap()
}

fn id(text: &str) -> Arc<str> {
    Arc::from(text)
}

struct Copy {
    journal: Journal,
    lot: LotId,
}

const OLD: u64 = 1;
const NEW: u64 = 2;

impl Copy {
    /// A lot whose table is begun, and has `x` as `OLD`.
    fn comparing() -> Self {
        let mut copy = Self::open();
        copy.journal.lot_mut(copy.lot).unwrap().settle_before();
        assert!(copy.journal.begin_table(copy.lot, false));
        copy.journal.lot_mut(copy.lot).unwrap().put("x", OLD);
        copy
    }

    fn open() -> Self {
        let mut journal = Journal::default();
        let lot = journal.open(source(), target(), ShardSet::full(1));
        Self { journal, lot }
    }

    fn write(&mut self, touch: &Touch) -> Number {
        let nodes = [source(), target()];
        let number = self.journal.note(touch, &ShardSet::full(1), &nodes, TaskUid(7));
        for node in nodes {
            self.journal.answered(number, &node, Sent::Queued(vec![number as u32]));
        }
        number
    }

    fn post(&mut self) -> Number {
        self.write(&Touch::Ids { ids: Arc::from([id("x")]), blind: true })
    }

    fn put(&mut self) -> Number {
        self.write(&Touch::Ids { ids: Arc::from([id("x")]), blind: false })
    }

    fn ends(&mut self, number: Number, node: NodeId, outcome: Outcome) {
        self.journal.task_ended(number, &node, number as u32, outcome);
    }

    fn succeeds(&mut self, number: Number) {
        self.ends(number, source(), Outcome::Succeeded);
        self.ends(number, target(), Outcome::Succeeded);
    }

    fn admit(&mut self, window: crate::copying::Window) -> Option<Admission> {
        self.shows(window, NEW)
    }

    /// The source shows `x` with this content.
    fn shows(&mut self, window: crate::copying::Window, content: u64) -> Option<Admission> {
        let documents = [(id("x"), content)];
        let page = Page { documents: &documents, ..Page::default() };
        self.journal.admit(self.lot, window, &page)
    }

    fn dirty(&self) -> usize {
        self.journal.lot(self.lot).unwrap().dirty().len()
    }

    fn covered(&mut self) {
        assert!(self.journal.lot_mut(self.lot).unwrap().finish_pass().is_some());
    }

    fn is_equal(&self) -> bool {
        self.journal.is_equal(self.lot, 0)
    }
}

#[test]
fn what_differs_is_written_and_equal_once_the_target_did_it() {
    let mut copy = Copy::comparing();
    let window = copy.journal.begin_read(copy.lot).unwrap();
    let admission = copy.admit(window).unwrap();
    assert_eq!(admission.write, [0]);
    copy.covered();
    assert!(!copy.is_equal(), "promised is not done");
    copy.journal.lot_mut(copy.lot).unwrap().page_ended(admission.number.unwrap(), true);
    assert!(copy.is_equal());
}

#[test]
fn what_is_equal_is_not_written() {
    let mut copy = Copy::comparing();
    let window = copy.journal.begin_read(copy.lot).unwrap();
    let admission = copy.shows(window, OLD).unwrap();
    assert_eq!(admission, Admission::default());
    copy.covered();
    assert!(copy.is_equal());
}

#[test]
fn a_page_does_not_overwrite_what_was_under_way_at_the_source_when_it_was_read() {
    let mut copy = Copy::comparing();
    let write = copy.post();
    let window = copy.journal.begin_read(copy.lot).unwrap();
    // Heard of after the read began: the page may be from before it.
    copy.succeeds(write);
    let clean = copy.admit(window).unwrap();
    assert_eq!(clean.write, [0; 0], "the client's write brought it");
    let mut copy = Copy::comparing();
    let write = copy.put();
    let window = copy.journal.begin_read(copy.lot).unwrap();
    copy.succeeds(write);
    assert_eq!(copy.admit(window).unwrap().write, [0; 0]);
    assert_eq!(copy.dirty(), 1, "read again");
}

#[test]
fn a_page_does_not_overwrite_what_came_after_its_read_began() {
    let mut copy = Copy::comparing();
    let window = copy.journal.begin_read(copy.lot).unwrap();
    copy.put();
    assert_eq!(copy.admit(window).unwrap().write, [0; 0]);
    assert_eq!(copy.dirty(), 1);
}

#[test]
fn a_write_of_unknown_extent_discards_the_page_that_is_being_read() {
    let mut copy = Copy::comparing();
    copy.covered();
    let window = copy.journal.begin_read(copy.lot).unwrap();
    let any = copy.write(&Touch::Any);
    assert_eq!(copy.journal.begin_read(copy.lot), None, "nor is another begun");
    assert_eq!(copy.admit(window), None);
    copy.succeeds(any);
    assert_eq!(copy.admit(window), None);
    assert!(copy.journal.begin_read(copy.lot).is_some());
}

#[test]
fn a_write_of_unknown_extent_voids_the_table() {
    let mut copy = Copy::comparing();
    let any = copy.write(&Touch::Any);
    copy.succeeds(any);
    let window = copy.journal.begin_read(copy.lot).unwrap();
    assert!(!copy.journal.lot(copy.lot).unwrap().is_comparing());
    assert_eq!(copy.admit(window), None);
    assert_eq!(copy.journal.lot_mut(copy.lot).unwrap().finish_pass(), None);
}

#[test]
fn the_table_is_not_begun_before_the_target_is_settled() {
    let mut copy = Copy::open();
    assert!(!copy.journal.begin_table(copy.lot, false), "what came before is under way");
    copy.journal.lot_mut(copy.lot).unwrap().settle_before();
    let any = copy.write(&Touch::Any);
    assert!(!copy.journal.begin_table(copy.lot, false));
    copy.succeeds(any);
    assert!(copy.journal.begin_table(copy.lot, false));
}

#[test]
fn the_table_says_nothing_of_ids_that_were_under_way_when_it_was_read() {
    let mut copy = Copy::open();
    copy.journal.lot_mut(copy.lot).unwrap().settle_before();
    let write = copy.put();
    assert!(copy.journal.begin_table(copy.lot, false));
    copy.journal.lot_mut(copy.lot).unwrap().put("x", OLD);
    copy.succeeds(write);
    let window = copy.journal.begin_read(copy.lot).unwrap();
    let admission = copy.shows(window, OLD).unwrap();
    assert_eq!(admission.write, [0], "equal by chance");
}

#[test]
fn a_write_that_depends_on_what_was_there_makes_nothing_equal() {
    let mut copy = Copy::comparing();
    copy.covered();
    copy.journal.suspect(copy.lot, &[id("x")], false);
    for _ in 0..2 {
        let put = copy.put();
        copy.succeeds(put);
        assert_eq!(copy.dirty(), 1);
        assert!(!copy.is_equal());
    }
    let post = copy.post();
    assert_eq!(copy.dirty(), 1, "not before it succeeded");
    copy.succeeds(post);
    assert!(copy.is_equal());
}

#[test]
fn a_write_that_one_side_failed_or_may_have_failed_makes_its_ids_dirty() {
    use Outcome::{Failed, Late, Succeeded, Unknown};
    for (at_source, at_target) in [
        (Succeeded, Failed),
        (Failed, Succeeded),
        (Succeeded, Unknown),
        (Unknown, Succeeded),
        (Unknown, Unknown),
        (Succeeded, Late),
        (Late, Succeeded),
    ] {
        let mut copy = Copy::comparing();
        copy.covered();
        let post = copy.post();
        copy.ends(post, source(), at_source);
        copy.ends(post, target(), at_target);
        assert_eq!(copy.dirty(), 1, "{at_source:?} {at_target:?}");
        // Whether the source may still be copied from is known when the client's task is over.
        let doubts = copy.journal.lot(copy.lot).unwrap().doubts().len();
        assert_eq!(doubts, usize::from(at_source != Succeeded), "{at_source:?} {at_target:?}");
        let anew = copy.journal.lot(copy.lot).unwrap().is_interrupted();
        assert_eq!(anew, at_source == Late, "it may still come to the source");
    }
    let mut copy = Copy::comparing();
    copy.covered();
    let post = copy.post();
    copy.ends(post, source(), Failed);
    copy.ends(post, target(), Failed);
    assert!(copy.is_equal(), "neither did it");
}

#[test]
fn an_older_success_does_not_clear_what_became_dirty_later() {
    let mut copy = Copy::comparing();
    copy.covered();
    let first = copy.post();
    let second = copy.put();
    copy.ends(second, source(), Outcome::Succeeded);
    copy.ends(second, target(), Outcome::Failed);
    copy.succeeds(first);
    assert_eq!(copy.dirty(), 1);
}

#[test]
fn a_page_that_the_target_failed_is_dirty_again() {
    let mut copy = Copy::comparing();
    let window = copy.journal.begin_read(copy.lot).unwrap();
    let number = copy.admit(window).unwrap().number.unwrap();
    copy.covered();
    copy.journal.lot_mut(copy.lot).unwrap().page_ended(number, false);
    assert_eq!(copy.dirty(), 1);
}

#[test]
fn nothing_is_equal_while_writes_before_the_last_page_are_open() {
    let mut copy = Copy::comparing();
    copy.covered();
    copy.journal.suspect(copy.lot, &[id("x")], false);
    let other = copy.write(&Touch::Ids { ids: Arc::from([id("y")]), blind: true });
    let window = copy.journal.begin_read(copy.lot).unwrap();
    let number = copy.admit(window).unwrap().number.unwrap();
    copy.journal.lot_mut(copy.lot).unwrap().page_ended(number, true);
    assert!(!copy.is_equal());
    copy.succeeds(other);
    assert!(copy.is_equal());
}

#[test]
fn whoever_had_the_index_to_himself_makes_lots_begin_anew() {
    let mut copy = Copy::comparing();
    let window = copy.journal.begin_read(copy.lot).unwrap();
    copy.journal.interrupt();
    assert_eq!(copy.admit(window), None);
    assert!(copy.journal.lot(copy.lot).unwrap().is_interrupted());
}

#[test]
fn a_copy_to_the_source_makes_lots_of_its_shards_begin_anew() {
    let mut copy = Copy::comparing();
    assert!(copy.shows(copy.journal.begin_read(copy.lot).unwrap(), OLD).is_some());
    copy.covered();
    let number = copy.post();
    copy.ends(number, source(), Outcome::Failed);
    copy.ends(number, target(), Outcome::Failed);
    assert!(copy.is_equal(), "neither has it");
    let other = NodeId::new("o").unwrap();
    copy.journal.open(other.clone(), target(), ShardSet::full(1));
    copy.journal.open(other.clone(), source(), ShardSet::empty(1));
    assert!(copy.is_equal(), "the source is given none of these shards");
    copy.journal.open(other, source(), ShardSet::full(1));
    assert!(!copy.is_equal(), "the source is given what only another node has");
}

#[test]
fn a_journal_that_is_full_takes_writes_for_any() {
    let mut copy = Copy::comparing();
    let ids: Arc<[Arc<str>]> = (0..400_000).map(|n| id(&n.to_string())).collect();
    copy.write(&Touch::Ids { ids: Arc::clone(&ids), blind: true });
    assert!(copy.journal.bytes() > 10 << 20);
    assert_eq!(copy.journal.lot(copy.lot).unwrap().anys(), 0);
    copy.write(&Touch::Ids { ids, blind: true });
    assert_eq!(copy.journal.lot(copy.lot).unwrap().anys(), 1);
    assert!(copy.journal.bytes() < 25 << 20);
}

#[test]
fn a_journal_without_lots_keeps_nothing() {
    let mut copy = Copy::comparing();
    copy.post();
    assert!(copy.journal.bytes() > 0);
    copy.journal.close(copy.lot);
    assert_eq!(copy.journal.bytes(), 0);
    copy.post();
    assert_eq!((copy.journal.bytes(), copy.journal.last()), (0, 2));
}

#[test]
fn what_is_read_again_is_compared_with_the_target_unless_a_page_is_under_way() {
    let mut copy = Copy::comparing();
    copy.covered();
    let documents = [(id("x"), NEW)];
    let target = [(id("x"), NEW)].into();
    let page = Page { documents: &documents, target: Some(&target), ..Page::default() };
    copy.journal.suspect(copy.lot, &[id("x")], false);
    let window = copy.journal.begin_read(copy.lot).unwrap();
    assert_eq!(copy.journal.admit(copy.lot, window, &page).unwrap(), Admission::default());
    assert!(copy.is_equal());
    // The target is about to get something else.
    copy.journal.suspect(copy.lot, &[id("x")], false);
    let number = copy.shows(window, OLD).unwrap().number.unwrap();
    copy.journal.suspect(copy.lot, &[id("x")], false);
    assert_eq!(copy.journal.admit(copy.lot, window, &page).unwrap().write, [0]);
    assert!(!copy.is_equal() && number > 0);
}

/// A page of many documents of which this one differs.
fn page_of_many() -> Vec<(Arc<str>, u64)> {
    let others = (1..200).map(|n| (id(&format!("y{n}")), OLD));
    std::iter::once((id("x"), NEW)).chain(others).collect()
}

#[test]
fn the_few_of_a_large_page_that_differ_are_written_together_with_those_of_others() {
    let mut copy = Copy::comparing();
    let documents = page_of_many();
    for (other, content) in &documents[1..] {
        copy.journal.lot_mut(copy.lot).unwrap().put(other, *content);
    }
    let window = copy.journal.begin_read(copy.lot).unwrap();
    let page = Page { documents: &documents, ..Page::default() };
    assert_eq!(copy.journal.admit(copy.lot, window, &page), Some(Admission::default()));
    copy.covered();
    assert_eq!(copy.dirty(), 1);
    assert!(!copy.is_equal());
    let window = copy.journal.begin_read(copy.lot).unwrap();
    let number = copy.admit(window).unwrap().number.unwrap();
    copy.journal.lot_mut(copy.lot).unwrap().page_ended(number, true);
    assert!(copy.is_equal());
}

#[test]
fn what_was_written_is_looked_at_once_more_and_counts_if_it_differs_then() {
    let mut copy = Copy::comparing();
    copy.covered();
    for (has, differences) in [(NEW, 0), (OLD, 1)] {
        copy.journal.verify(copy.lot, &[id("x")]);
        assert_eq!(copy.dirty(), 1);
        let window = copy.journal.begin_read(copy.lot).unwrap();
        let target = [(id("x"), has)].into();
        let documents = [(id("x"), NEW)];
        let page = Page { documents: &documents, target: Some(&target), ..Page::default() };
        let admission = copy.journal.admit(copy.lot, window, &page).unwrap();
        assert_eq!(admission.write.len() as u64, differences);
        assert_eq!(copy.journal.lot(copy.lot).unwrap().counts().differences, differences);
    }
}

/// Where both sides got the same writes, what is known to differ is compared and all else is not.
#[test]
fn a_copy_of_some_ids_reads_them_and_writes_what_differs() {
    let mut copy = Copy::open();
    assert!(!copy.journal.compare_only(copy.lot, &[id("x")]), "what came before it is not over");
    copy.journal.lot_mut(copy.lot).unwrap().settle_before();
    let any = copy.write(&Touch::Any);
    assert!(!copy.journal.compare_only(copy.lot, &[id("x")]), "a write may touch any id");
    copy.succeeds(any);
    assert!(copy.journal.compare_only(copy.lot, &[id("x")]));
    assert!(!copy.is_equal());
    let window = copy.journal.begin_read(copy.lot).unwrap();
    let documents = [(id("x"), NEW)];
    let has = std::collections::HashMap::from([(id("x"), OLD)]);
    let page = Page { documents: &documents, absent: &[], target: Some(&has) };
    let admission = copy.journal.admit(copy.lot, window, &page).unwrap();
    assert_eq!(admission.write, [0]);
    copy.journal.lot_mut(copy.lot).unwrap().page_ended(admission.number.unwrap(), true);
    assert!(copy.is_equal());
    // A write that depends on what is there has the same base on both sides.
    let put = copy.write(&Touch::Ids { ids: Arc::from([id("y")]), blind: false });
    copy.succeeds(put);
    assert!(copy.is_equal());
}
