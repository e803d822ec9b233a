//! Writes that wait for the one before them, and go together.
//!
//! Whoever comes first has a runner started; whoever comes while [`RUNNERS`] are at work waits, and the next
//! of them that is done takes all that wait at once. So nobody waits for company: a write that comes alone
//! goes alone.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::Arc;

use miroir_core::lock::Lock;
use tokio::sync::oneshot;

/// Writes that may wait for a key; whoever comes then goes alone.
const MOST_WAITING: usize = 1_000;
/// Runners of one key: while nodes have what the one sent, the other stores what comes next.
const RUNNERS: usize = 2;

/// A write that waits, and who is told of it.
#[derive(Debug)]
pub(super) struct Waiting<W, A> {
    /// The write.
    pub(super) write: W,
    /// Its bytes.
    pub(super) bytes: usize,
    ticket: u64,
    answer: oneshot::Sender<A>,
}

impl<W, A> Waiting<W, A> {
    /// The write, and where its answer goes.
    pub(super) fn into_parts(self) -> (W, oneshot::Sender<A>) {
        (self.write, self.answer)
    }
}

#[derive(Debug)]
struct Lane<W, A> {
    waiting: VecDeque<Waiting<W, A>>,
    next: u64,
    runners: usize,
}

impl<W, A> Default for Lane<W, A> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), next: 0, runners: 0 }
    }
}

type Lanes<K, W, A> = Arc<Lock<HashMap<K, Lane<W, A>>>>;

/// The queues of all keys: what has one key can go together.
#[derive(Debug)]
pub(super) struct Queue<K, W, A>(Lanes<K, W, A>);

impl<K, W, A> Default for Queue<K, W, A> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

/// How much goes together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Writes.
    pub(super) writes: usize,
    /// Bytes of all of them; one that is larger goes alone.
    pub(super) bytes: usize,
}

/// The right to take what waits for a key, until it is dropped. Who waits when the last of them goes is not
/// answered.
#[derive(Debug)]
pub(super) struct Runner<K: Eq + Hash, W, A> {
    lanes: Lanes<K, W, A>,
    key: K,
    /// Nobody waited any more: it counts no longer.
    over: bool,
}

/// A place in the queue.
#[derive(Debug)]
pub(super) struct Place<K: Eq + Hash, W, A> {
    lanes: Lanes<K, W, A>,
    key: K,
    ticket: u64,
    /// Where the answer comes.
    pub(super) answer: oneshot::Receiver<A>,
}

impl<K: Clone + Eq + Hash, W, A> Queue<K, W, A> {
    /// Puts a write in. The caller runs what it is given to run, if anything. Gives the write back if
    /// too many wait.
    pub(super) fn put(
        &self,
        key: K,
        write: W,
        bytes: usize,
    ) -> Result<(Place<K, W, A>, Option<Runner<K, W, A>>), W> {
        let mut lanes = self.0.lock();
        let lane = lanes.entry(key.clone()).or_default();
        if lane.waiting.len() >= MOST_WAITING {
            return Err(write);
        }
        let runs = lane.runners < RUNNERS;
        lane.runners += usize::from(runs);
        let (answer, receiver) = oneshot::channel();
        let ticket = lane.next;
        lane.next += 1;
        lane.waiting.push_back(Waiting { write, bytes, ticket, answer });
        drop(lanes);
        let lanes = || Arc::clone(&self.0);
        let place = Place { lanes: lanes(), key: key.clone(), ticket, answer: receiver };
        Ok((place, runs.then(|| Runner { lanes: lanes(), key, over: false })))
    }
}

/// A runner is at its end: what waits is forgotten with the last of them.
fn end<K: Eq + Hash, W, A>(lanes: &mut HashMap<K, Lane<W, A>>, key: &K) {
    let Some(lane) = lanes.get_mut(key) else { return };
    lane.runners -= 1;
    if lane.runners == 0 {
        lanes.remove(key);
    }
}

impl<K: Eq + Hash, W, A> Runner<K, W, A> {
    /// The next writes that go together, oldest first: the first, and those after it that are `alike`.
    /// `None` when nobody waits: the runner is at its end.
    pub(super) fn next(
        &mut self,
        limits: Limits,
        alike: impl Fn(&W, &W) -> bool,
    ) -> Option<Vec<Waiting<W, A>>> {
        let mut lanes = self.lanes.lock();
        let waiting = &mut lanes.get_mut(&self.key)?.waiting;
        let Some(first) = waiting.pop_front() else {
            self.over = true;
            // In one step with the look: whoever comes from here on starts another one.
            end(&mut lanes, &self.key);
            return None;
        };
        let mut bytes = first.bytes;
        let mut together = vec![first];
        while let Some(next) = waiting.front()
            && together.len() < limits.writes
            && bytes + next.bytes <= limits.bytes
            && alike(&together[0].write, &next.write)
        {
            bytes += next.bytes;
            together.extend(waiting.pop_front());
        }
        Some(together)
    }
}

impl<K: Eq + Hash, W, A> Drop for Runner<K, W, A> {
    fn drop(&mut self) {
        if !self.over {
            end(&mut self.lanes.lock(), &self.key);
        }
    }
}

impl<K: Eq + Hash, W, A> Place<K, W, A> {
    /// Takes the write back, unless it was taken to be made.
    pub(super) fn leave(&self) -> Option<W> {
        let mut lanes = self.lanes.lock();
        let waiting = &mut lanes.get_mut(&self.key)?.waiting;
        let at = waiting.iter().position(|waiting| waiting.ticket == self.ticket)?;
        waiting.remove(at).map(|waiting| waiting.write)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Writes = Queue<&'static str, u32, u32>;

    const LIMITS: Limits = Limits { writes: 3, bytes: 10 };

    fn put(
        queue: &Writes,
        write: u32,
        bytes: usize,
    ) -> (Place<&'static str, u32, u32>, Option<Runner<&'static str, u32, u32>>) {
        queue.put("films", write, bytes).unwrap()
    }

    fn next(runner: &mut Runner<&'static str, u32, u32>) -> Option<Vec<u32>> {
        let together = runner.next(LIMITS, |first, next| first / 10 == next / 10)?;
        let answered = together.into_iter().map(|waiting| {
            let (write, answer) = waiting.into_parts();
            let _ = answer.send(write);
            write
        });
        Some(answered.collect())
    }

    #[tokio::test]
    async fn what_comes_meanwhile_goes_together() {
        let queue = Writes::default();
        let (first, runner) = put(&queue, 1, 1);
        let mut runner = runner.unwrap();
        assert_eq!(next(&mut runner).unwrap(), [1]);
        let (_second, other) = put(&queue, 20, 1);
        let mut other = other.unwrap();
        assert_eq!(next(&mut other).unwrap(), [20]);
        let waiting: Vec<_> = [2, 3, 4, 5, 11].map(|write| put(&queue, write, 1)).into();
        assert!(waiting.iter().all(|(_, runner)| runner.is_none()));
        assert_eq!(next(&mut runner).unwrap(), [2, 3, 4], "no more than the limit");
        assert_eq!(next(&mut other).unwrap(), [5], "and none that is unlike");
        assert_eq!(next(&mut runner).unwrap(), [11]);
        assert_eq!((next(&mut runner), next(&mut other)), (None, None));
        assert_eq!(first.answer.await, Ok(1));
        for (place, _) in waiting {
            assert!(place.answer.await.is_ok());
        }
        // The next one runs, and the runners before it have no say any more.
        let (_place, again) = put(&queue, 6, 1);
        drop((runner, other));
        assert_eq!(next(&mut again.unwrap()).unwrap(), [6]);
        assert!(queue.0.lock().is_empty());
    }

    #[test]
    fn no_more_bytes_go_together_than_the_limit_but_for_one_alone() {
        let queue = Writes::default();
        let (_first, runner) = put(&queue, 1, 99);
        let _others = [put(&queue, 2, 5), put(&queue, 3, 5), put(&queue, 4, 1)];
        let mut runner = runner.unwrap();
        assert_eq!(next(&mut runner).unwrap(), [1]);
        assert_eq!(next(&mut runner).unwrap(), [2, 3]);
        assert_eq!(next(&mut runner).unwrap(), [4]);
    }

    #[tokio::test]
    async fn who_has_waited_long_enough_leaves_unless_it_was_taken() {
        let queue = Writes::default();
        let (first, runner) = put(&queue, 1, 1);
        let (second, _) = put(&queue, 2, 1);
        let mut runner = runner.unwrap();
        assert_eq!(second.leave(), Some(2));
        assert_eq!(second.leave(), None);
        assert_eq!(next(&mut runner).unwrap(), [1]);
        assert_eq!(first.leave(), None);
        assert_eq!(next(&mut runner), None);
    }

    #[tokio::test]
    async fn nobody_waits_for_a_runner_that_is_gone() {
        let queue = Writes::default();
        let (first, runner) = put(&queue, 1, 1);
        let (second, other) = put(&queue, 2, 1);
        drop(runner);
        assert_eq!(next(&mut other.unwrap()).unwrap(), [1, 2], "the other one takes them");
        assert!(first.answer.await.is_ok() && second.answer.await.is_ok());
        let (third, runner) = put(&queue, 3, 1);
        drop(runner);
        assert!(third.answer.await.is_err());
        assert!(put(&queue, 4, 1).1.is_some());
    }

    #[test]
    fn only_so_many_wait() {
        let queue = Writes::default();
        let kept: Vec<_> = (0..1_000).map(|write| put(&queue, write, 1)).collect();
        assert_eq!(kept.iter().filter(|(_, runner)| runner.is_some()).count(), RUNNERS);
        assert_eq!(queue.put("films", 7, 1).err(), Some(7));
        assert!(queue.put("books", 7, 1).is_ok());
    }
}
