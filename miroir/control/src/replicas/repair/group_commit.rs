//! Group commit: copies wait for each other a little, so that a node works off in one batch what they
//! found. A batch takes it as long for ten documents as for a thousand.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use miroir_core::lock::Lock;
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

/// How long is waited until all have compared.
const ARRIVAL: Duration = Duration::from_secs(2);
/// How long is waited, with a turn at the node, until all have handed in what they write.
const ENTRIES: Duration = Duration::from_millis(200);

/// What a member handed in, and where it waits for the answer.
#[derive(Debug)]
struct Entry<T, R> {
    what: T,
    answer: oneshot::Sender<R>,
}

/// How far the members are.
#[derive(Debug)]
struct Progress<T, R> {
    /// Members that have not arrived.
    away: usize,
    /// Members that may hand in something yet.
    open: usize,
    entries: Vec<Entry<T, R>>,
}

/// Those who commit together.
#[derive(Debug)]
struct Group<T, R> {
    progress: Lock<Progress<T, R>>,
    changed: Notify,
}

impl<T, R> Group<T, R> {
    fn change(&self, change: impl FnOnce(&mut Progress<T, R>)) {
        change(&mut self.progress.lock());
        self.changed.notify_waiters();
    }

    /// Waits until it is so, at most that long.
    async fn until(&self, most: Duration, so: impl Fn(&Progress<T, R>) -> bool) {
        let holds = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if so(&self.progress.lock()) {
                    return;
                }
                changed.await;
            }
        };
        let _ = timeout(most, holds).await;
    }
}

/// One of a group. Whoever drops it is waited for no longer.
#[derive(Debug)]
pub(super) struct Member<T, R> {
    group: Arc<Group<T, R>>,
    arrived: bool,
    handed_in: bool,
}

/// The members of a new group.
pub(super) fn members<T, R>(count: usize) -> Vec<Member<T, R>> {
    let progress = Progress { away: count, open: count, entries: Vec::new() };
    let group = Arc::new(Group { progress: Lock::new(progress), changed: Notify::new() });
    let member = || Member { group: Arc::clone(&group), arrived: false, handed_in: false };
    (0..count).map(|_| member()).collect()
}

impl<T, R> Member<T, R> {
    /// Waits for the others, not for ever.
    pub(super) async fn arrive(&mut self) {
        if !std::mem::replace(&mut self.arrived, true) {
            self.group.change(|progress| progress.away -= 1);
        }
        self.group.until(ARRIVAL, |progress| progress.away == 0).await;
    }

    /// Hands in something. One of the members sends what all have, in the order in which they handed it
    /// in, and answers each. `None`: whoever did was stopped.
    pub(super) async fn hand_in<F>(mut self, what: T, send: impl FnOnce(Vec<T>) -> F) -> Option<R>
    where
        F: Future<Output = Vec<R>>,
    {
        let (answer, answered) = oneshot::channel();
        self.handed_in = true;
        self.group.change(|progress| {
            progress.open -= 1;
            progress.entries.push(Entry { what, answer });
        });
        self.group
            .until(ENTRIES, |progress| progress.open == 0 || progress.entries.is_empty())
            .await;
        let entries = std::mem::take(&mut self.group.progress.lock().entries);
        // All are taken at once: where none is left, whoever has them answers.
        if !entries.is_empty() {
            let (all, answers): (Vec<_>, Vec<_>) =
                entries.into_iter().map(|entry| (entry.what, entry.answer)).unzip();
            self.group.changed.notify_waiters();
            for (answer, result) in answers.into_iter().zip(send(all).await) {
                let _ = answer.send(result);
            }
        }
        answered.await.ok()
    }
}

impl<T, R> Drop for Member<T, R> {
    fn drop(&mut self) {
        let (arrived, handed_in) = (self.arrived, self.handed_in);
        self.group.change(|progress| {
            progress.away -= usize::from(!arrived);
            progress.open -= usize::from(!handed_in);
        });
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join;
    use tokio::time::{Instant, sleep};

    use super::*;

    const SOON: Duration = Duration::from_millis(50);

    /// Sends by answering each with everything that is sent.
    async fn send(all: Vec<u32>) -> Vec<Vec<u32>> {
        sleep(SOON).await;
        vec![all.clone(); all.len()]
    }

    fn two() -> [Member<u32, Vec<u32>>; 2] {
        members(2).try_into().unwrap()
    }

    async fn after(pause: Duration, mut member: Member<u32, Vec<u32>>, what: u32) -> Vec<u32> {
        sleep(pause).await;
        member.arrive().await;
        member.hand_in(what, send).await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn all_is_sent_at_once_in_the_order_in_which_it_was_handed_in() {
        let [one, other] = two();
        let start = Instant::now();
        let sent = join(after(Duration::ZERO, one, 1), after(Duration::from_secs(1), other, 2));
        // Who arrives last goes on first.
        assert_eq!(sent.await, (vec![2, 1], vec![2, 1]));
        assert_eq!(start.elapsed(), Duration::from_secs(1) + SOON);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_whoever_left() {
        let [one, other] = two();
        let start = Instant::now();
        drop(other);
        assert_eq!(after(Duration::ZERO, one, 1).await, [1]);
        assert_eq!(start.elapsed(), SOON);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_ever() {
        let [one, other] = two();
        let start = Instant::now();
        let long = Duration::from_mins(1);
        let first = async { (after(Duration::ZERO, one, 1).await, start.elapsed()) };
        let (first, last) = join(first, after(long, other, 2)).await;
        // The turn at the node is held for moments only.
        assert_eq!(first, (vec![1], ARRIVAL + ENTRIES + SOON));
        assert_eq!(last, [2]);
        assert_eq!(start.elapsed(), long + SOON);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_sender_that_is_stopped_is_told() {
        let [one, other] = two();
        let waits = tokio::spawn(one.hand_in(1, send));
        sleep(SOON).await;
        // The last one finds all there, and sends.
        let sends = tokio::spawn(other.hand_in(2, |_| std::future::pending::<Vec<Vec<u32>>>()));
        sleep(SOON).await;
        sends.abort();
        assert_eq!(waits.await.unwrap(), None);
    }
}
