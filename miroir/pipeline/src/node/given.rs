//! Which tasks of a node this process gave it, so that those of anybody else are noticed.
//!
//! A Meilisearch numbers its tasks without gaps. So each uid up to the newest was given by a call that
//! this process made, or somebody else wrote to the node: an operator, a forgotten indexer, a process
//! that lost its leadership and whose call was on the way. What an unanswered call was given is told
//! apart by waiting until every call that was open when the uid was first missed has ended. Where that
//! takes long, the tag of the task says which of them it cannot be of.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use memchr::memmem;
use miroir_api::{NodeId, ShardId};
use miroir_core::lock::Lock;
use tokio::time::Instant;

/// How long a uid is missed before open calls alone are no reason to wait: those of nodes that answer
/// have ended by then.
const PATIENCE: Duration = Duration::from_millis(500);

/// A uid that no call was given so far.
#[derive(Clone, Copy, Debug)]
struct Missed {
    /// Calls that had begun when it was first missed.
    begun: u64,
    since: Instant,
}

#[derive(Debug, Default)]
struct Account {
    /// The first uid that is not accounted for; `None`: nobody knows yet where to begin.
    next: Option<u32>,
    /// Uids below were given before this process accounted for anything.
    first: u32,
    /// Those that were shown already.
    noted: BTreeSet<u32>,
    /// Those whose replica waits for another one to be compared with, and the shards of it that do;
    /// `None`: as a whole.
    waiting: BTreeMap<u32, Option<Vec<ShardId>>>,
    /// Uids from `next` on that are.
    known: BTreeSet<u32>,
    /// Uids that are not.
    missed: BTreeMap<u32, Missed>,
    /// Calls begun so far, and those of them that have not ended, with their tags.
    begun: u64,
    open: BTreeMap<u64, Option<Box<str>>>,
    /// Calls without an answer that nobody has found the task of.
    lost: u32,
    /// Grows when the node begins to count anew.
    counts: u64,
}

impl Account {
    fn know(&mut self, uid: u32) {
        if self.next.is_none_or(|next| uid >= next) {
            self.known.insert(uid);
            self.missed.remove(&uid);
            self.noted.remove(&uid);
            self.waiting.remove(&uid);
        }
        self.advance();
    }

    /// Notes which uids up to a node's newest are missed, `limit` new ones at most.
    fn miss(&mut self, newest: u32, limit: usize) {
        let Some(next) = self.next else { return };
        let Self { known, waiting, missed, begun, .. } = self;
        let is_new = |uid: &u32| !known.contains(uid) && !waiting.contains_key(uid);
        for uid in (next..=newest).filter(is_new).take(limit) {
            missed.entry(uid).or_insert_with(|| Missed { begun: *begun, since: Instant::now() });
        }
    }

    /// Whether every call has ended that had begun when a uid was first missed.
    fn is_over(&self, missed: &Missed) -> bool {
        self.open.first_key_value().is_none_or(|(oldest, _)| *oldest > missed.begun)
    }

    fn advance(&mut self) {
        while let Some(next) = self.next.filter(|next| self.known.first() == Some(next)) {
            self.known.pop_first();
            self.next = next.checked_add(1);
        }
    }
}

/// The tasks that nodes were given, by node. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct GivenTasks(Arc<Lock<BTreeMap<NodeId, Account>>>);

/// A call that may give a node a task is under way while this lives.
#[derive(Debug)]
pub struct GivingCall {
    all: GivenTasks,
    node: NodeId,
    number: u64,
    counts: u64,
    /// Whether it does not matter that nobody knows which task it gave.
    known: bool,
}

impl GivingCall {
    /// It was answered, and the body says which task it was given, if any.
    pub fn answered(mut self, body: &Bytes) {
        self.known = true;
        let Some(uid) = task_uid(body) else { return };
        self.all.with(&self.node, |account| {
            if account.counts == self.counts {
                account.know(uid);
            }
        });
    }

    /// It certainly gave the node nothing, or its task says itself whose it is.
    pub fn needs_no_answer(&mut self) {
        self.known = true;
    }
}

impl Drop for GivingCall {
    fn drop(&mut self) {
        self.all.with(&self.node, |account| {
            account.open.remove(&self.number);
            if !self.known {
                account.lost = account.lost.saturating_add(1);
            }
        });
    }
}

impl GivenTasks {
    fn with<T>(&self, node: &NodeId, f: impl FnOnce(&mut Account) -> T) -> T {
        f(self.0.lock().entry(node.clone()).or_default())
    }

    /// A call that may give the node a task begins. Its task has this tag, or none.
    pub fn begin(&self, node: &NodeId, tag: Option<&str>) -> GivingCall {
        let (number, counts) = self.with(node, |account| {
            account.begun += 1;
            account.open.insert(account.begun, tag.map(Box::from));
            (account.begun, account.counts)
        });
        GivingCall { all: self.clone(), node: node.clone(), number, counts, known: false }
    }

    /// From which uid on the tasks of a node have to be accounted for, unless that is known. Those
    /// below `first` were given before this process gave any.
    pub fn begin_at(&self, node: &NodeId, next: u32, first: u32) {
        self.with(node, |account| {
            if account.next.is_none() {
                account.next = Some(next);
                account.first = first;
                account.known = account.known.split_off(&next);
                account.advance();
            }
        });
    }

    /// The first uid of a node that is not accounted for; `None` before that is known.
    pub fn next(&self, node: &NodeId) -> Option<u32> {
        self.0.lock().get(node)?.next
    }

    /// Whether a task was given before this process gave the node any.
    pub fn is_former(&self, node: &NodeId, uid: u32) -> bool {
        self.0.lock().get(node).is_some_and(|account| uid < account.first)
    }

    /// Notes that a task was shown. Returns whether that is news.
    pub fn note(&self, node: &NodeId, uid: u32) -> bool {
        self.with(node, |account| account.noted.insert(uid))
    }

    /// Notes that what a task changed cannot be compared yet in these shards, or as a whole.
    pub fn wait(&self, node: &NodeId, uid: u32, shards: Option<Vec<ShardId>>) {
        self.with(node, |account| _ = account.waiting.insert(uid, shards));
    }

    /// The shards of what a task changed that could not be compared yet when it was looked at.
    pub fn left(&self, node: &NodeId, uid: u32) -> Option<Vec<ShardId>> {
        self.0.lock().get(node)?.waiting.get(&uid)?.clone()
    }

    /// Whether what a task changed could not be compared when it was looked at.
    pub fn waits(&self, node: &NodeId, uid: u32) -> bool {
        self.0.lock().get(node).is_some_and(|account| account.waiting.contains_key(&uid))
    }

    /// Whether it is known of every task of a node up to one whose it is, or that what it changed
    /// cannot be compared yet. True before it is known where to begin.
    pub fn is_accounted(&self, node: &NodeId, up_to: u32) -> bool {
        self.with(node, |account| {
            let Some(next) = account.next else { return true };
            let is = |uid: &u32| account.known.contains(uid) || account.waiting.contains_key(uid);
            (next..=up_to).all(|uid| is(&uid))
        })
    }

    /// The node counts from the beginning again, or something else is behind its address.
    pub fn forget(&self, node: &NodeId) {
        self.with(node, |account| {
            account.next = None;
            account.known.clear();
            account.missed.clear();
            account.noted.clear();
            account.waiting.clear();
            account.lost = 0;
            account.counts += 1;
        });
    }

    /// Forgets what all nodes were given: somebody else gave them tasks meanwhile.
    pub fn clear(&self) {
        let nodes: Vec<NodeId> = self.0.lock().keys().cloned().collect();
        for node in &nodes {
            self.forget(node);
        }
    }

    /// Uids of a node up to its newest that no call was given which had begun when they were first
    /// missed, oldest first, at most `limit`: of those that wait no more than the others leave room for.
    pub fn unexplained(&self, node: &NodeId, newest: u32, limit: usize) -> Vec<u32> {
        self.with(node, |account| {
            account.miss(newest, limit);
            if account.next.is_none() {
                return Vec::new();
            }
            let over = account.missed.iter().filter(|(_, missed)| account.is_over(missed));
            let (waits, new): (Vec<u32>, Vec<u32>) =
                over.map(|(uid, _)| *uid).partition(|uid| account.waiting.contains_key(uid));
            let mut some: Vec<u32> = new.into_iter().chain(waits).take(limit).collect();
            some.sort_unstable();
            some
        })
    }

    /// Uids of a node up to its newest that a call may have been given which is open for long, oldest
    /// first, at most `limit`. Their tags tell: see [`GivenTasks::may_be_of_open_call`].
    pub fn suspects(&self, node: &NodeId, newest: u32, limit: usize) -> Vec<u32> {
        self.with(node, |account| {
            account.miss(newest, limit);
            let open = account.missed.iter().filter(|(uid, missed)| {
                !account.is_over(missed)
                    && !account.waiting.contains_key(uid)
                    && missed.since.elapsed() >= PATIENCE
            });
            open.map(|(uid, _)| *uid).take(limit).collect()
        })
    }

    /// Whether a call that has not ended may have given the node a task with this tag.
    pub fn may_be_of_open_call(&self, node: &NodeId, uid: u32, tag: Option<&str>) -> bool {
        self.with(node, |account| {
            let begun = account.missed.get(&uid).map_or(account.begun, |missed| missed.begun);
            account.open.range(..=begun).any(|(_, of)| of.as_deref() == tag)
        })
    }

    /// It is known what became of a task of the node.
    pub fn explained(&self, node: &NodeId, uid: u32) {
        self.with(node, |account| account.know(uid));
    }

    /// Takes one of the calls to the node that were never answered for the one that gave a task which
    /// does not say whose it is. Returns whether there was any.
    pub fn take_lost(&self, node: &NodeId) -> bool {
        self.with(node, |account| {
            let any = account.lost > 0;
            account.lost = account.lost.saturating_sub(1);
            any
        })
    }
}

/// The task that an answer is about.
fn task_uid(body: &[u8]) -> Option<u32> {
    const FIELD: &[u8] = b"\"taskUid\":";
    let at = memmem::find(body, FIELD)? + FIELD.len();
    let digits = body[at..].iter().skip_while(|byte| **byte == b' ');
    let digits: Vec<u8> = digits.copied().take_while(u8::is_ascii_digit).collect();
    std::str::from_utf8(&digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(uid: u32) -> Bytes {
        format!("{{\"taskUid\": {uid},\"status\":\"enqueued\"}}").into()
    }

    #[test]
    fn a_uid_that_no_call_was_given_is_missed_once_the_open_calls_have_ended() {
        let (given, node) = (GivenTasks::default(), NodeId::new("a").unwrap());
        // Nothing is missed before it is known where to begin.
        assert!(given.unexplained(&node, 9, 9).is_empty());
        given.begin(&node, None).answered(&answer(4));
        given.begin(&node, None).answered(&answer(6));
        given.begin_at(&node, 5, 6);
        given.begin_at(&node, 0, 0);
        assert!(given.is_former(&node, 5) && !given.is_former(&node, 6));
        assert_eq!(given.next(&node), Some(5));
        let (slow, quick) = (given.begin(&node, None), given.begin(&node, None));
        quick.answered(&answer(9));
        assert!(given.unexplained(&node, 9, 9).is_empty(), "a call is open");
        let later = given.begin(&node, None);
        slow.answered(&answer(7));
        assert_eq!(given.unexplained(&node, 9, 9), [5, 8], "what began later does not count");
        drop(later);
        assert_eq!(given.unexplained(&node, 9, 1), [5]);
        assert!(given.note(&node, 5) && !given.note(&node, 5));
        assert!(given.is_accounted(&node, 4) && !given.is_accounted(&node, 5));
        given.wait(&node, 5, Some(vec![ShardId(1)]));
        assert_eq!(given.left(&node, 5), Some(vec![ShardId(1)]));
        assert!(given.is_accounted(&node, 7) && !given.is_accounted(&node, 8));
        assert_eq!(given.unexplained(&node, 9, 1), [8], "what waits keeps nothing else waiting");
        assert_eq!(given.unexplained(&node, 9, 2), [5, 8]);
        given.explained(&node, 5);
        assert_eq!((given.next(&node), given.unexplained(&node, 9, 9)), (Some(8), vec![8]));
        given.explained(&node, 8);
        assert_eq!(given.next(&node), Some(10));
    }

    #[test]
    fn a_call_without_an_answer_may_have_given_a_task() {
        let (given, node) = (GivenTasks::default(), NodeId::new("a").unwrap());
        given.begin_at(&node, 0, 0);
        drop(given.begin(&node, None));
        assert_eq!(given.unexplained(&node, 0, 9), [0]);
        assert!(given.take_lost(&node) && !given.take_lost(&node));
        // Of a life that is over nothing is known in the next.
        let old = given.begin(&node, None);
        given.forget(&node);
        old.answered(&answer(0));
        assert_eq!(given.next(&node), None);
        given.begin_at(&node, 0, 0);
        assert_eq!(given.unexplained(&node, 0, 9), [0]);
        given.clear();
        assert_eq!(given.next(&node), None);
        assert_eq!(task_uid(b"{\"uid\":\"x\"}"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_stays_open_hides_no_task_with_another_tag() {
        let (given, node) = (GivenTasks::default(), NodeId::new("a").unwrap());
        given.begin_at(&node, 0, 0);
        let _untagged = given.begin(&node, None);
        let tagged = given.begin(&node, Some("miroir:a:1"));
        assert!(given.unexplained(&node, 0, 9).is_empty());
        assert!(given.suspects(&node, 0, 9).is_empty(), "calls take a little");
        tokio::time::advance(PATIENCE).await;
        assert_eq!(given.suspects(&node, 0, 9), [0]);
        let may = |tag| given.may_be_of_open_call(&node, 0, tag);
        assert!(may(None) && may(Some("miroir:a:1")) && !may(Some("miroir:a:2")));
        let _later = given.begin(&node, Some("miroir:a:2"));
        assert!(!may(Some("miroir:a:2")), "what began later does not count");
        drop(tagged);
        assert!(!may(Some("miroir:a:1")));
        given.wait(&node, 0, None);
        assert!(given.suspects(&node, 0, 9).is_empty(), "it was looked at");
        given.explained(&node, 0);
        assert!(given.suspects(&node, 0, 9).is_empty());
    }
}
