//! One order of writes per index on every node.
//!
//! Nodes process their tasks in the order in which they were enqueued, so replicas agree if their
//! enqueueing calls agree. A write takes a [`Ticket`] for each node it goes to, all in one step
//! under a lock; a call waits for its predecessor on *that* node only. Two writes thus reach every
//! node they share in the same order, while different nodes proceed independently. In the same step
//! a write gets its number, and is noted where a replica is being copied: see
//! [`miroir_core::copying`].
//!
//! Exclusive work (making, changing, deleting an index) closes the index's gate: it waits for the
//! writes before it and holds back those after it.

mod filling;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use miroir_api::{NodeId, TaskUid};
use miroir_core::copying::{Journal, Number, Sent, Touch};
use miroir_core::lock::Lock;
use miroir_core::routing::ShardSet;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{Notify, OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock, oneshot};

pub use filling::{Filling, Hold, Holding};

/// The end of the turn before: closed then, or what that one waited for itself when it was dropped
/// before its turn.
#[derive(Debug)]
struct Before(oneshot::Receiver<Before>);

impl Before {
    /// Whether it is not over yet. One that is over is not to be waited for.
    fn is_open(&mut self) -> bool {
        loop {
            match self.0.try_recv() {
                Ok(passed_on) => *self = passed_on,
                Err(error) => return error == TryRecvError::Empty,
            }
        }
    }
}

/// What has to change in one step.
#[derive(Debug, Default)]
struct Order {
    tails: HashMap<NodeId, Before>,
    journal: Journal,
    hold: Option<filling::Held>,
}

impl Order {
    fn ticket(&mut self, node: &NodeId) -> Ticket {
        let (done, after) = oneshot::channel();
        let before = self.tails.insert(node.clone(), Before(after));
        Ticket { before, done: Some(done), note: None }
    }

    /// Whether nobody has a turn. Turns that are over are forgotten.
    fn is_over(&mut self) -> bool {
        self.tails.retain(|_, tail| tail.is_open());
        self.tails.is_empty()
    }
}

/// Lanes below which none is forgotten.
const IDLE_LANES: usize = 64;

#[derive(Debug, Default)]
struct Lane {
    gate: Arc<RwLock<()>>,
    order: Lock<Order>,
    /// Wakes writes that a copy held back.
    released: Notify,
}

impl Lane {
    /// Whether somebody holds the gate, waits for it, has a turn or copies; `lane` is the one that
    /// the sequencer has.
    fn is_used(lane: &Arc<Self>) -> bool {
        let mut order = lane.order.lock();
        Arc::strong_count(lane) > 1
            || Arc::strong_count(&lane.gate) > 1
            || !order.journal.is_idle()
            || !order.is_over()
    }
}

/// Hands out tickets. See the module's documentation.
#[derive(Debug, Default)]
pub struct Sequencer {
    lanes: Lock<BTreeMap<String, Arc<Lane>>>,
    /// Copies that are under way, of all indexes.
    copies: Arc<AtomicUsize>,
}

/// Where a journal is told what became of a write at a node.
#[derive(Debug)]
struct Note {
    lane: Arc<Lane>,
    number: Number,
    node: NodeId,
    told: bool,
}

impl Note {
    fn tell(&mut self, sent: Sent) {
        self.told = true;
        self.lane.order.lock().journal.answered(self.number, &self.node, sent);
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        if !self.told {
            self.tell(Sent::Unknown);
        }
    }
}

/// A turn at one node. Dropping it lets the successor go, whatever happened; before its turn, the
/// successor takes its place.
#[derive(Debug)]
pub struct Ticket {
    before: Option<Before>,
    done: Option<oneshot::Sender<Before>>,
    note: Option<Note>,
}

impl Ticket {
    /// Waits until everything before it was sent.
    pub async fn turn(&mut self) {
        while let Some(Before(end)) = &mut self.before {
            // An error means the predecessor was dropped in its turn: it is done.
            let passed_on = end.await.ok();
            self.before = passed_on;
        }
    }

    /// Says what became of the calls. A ticket that is dropped without leaves that unknown.
    pub fn answered(&mut self, sent: Sent) {
        if let Some(note) = &mut self.note {
            note.tell(sent);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let (Some(done), Some(before)) = (self.done.take(), self.before.take()) {
            let _ = done.send(before);
        }
    }
}

/// A write's turns at its nodes.
#[derive(Debug)]
pub struct Tickets {
    /// Keeps exclusive work out while the write is being sent.
    pub gate: Arc<OwnedRwLockReadGuard<()>>,
    /// One ticket per node, in the order asked for.
    pub tickets: Vec<Ticket>,
}

/// While this lives, nobody else writes to the index.
#[derive(Debug)]
pub struct Exclusive(Vec<OwnedRwLockWriteGuard<()>>);

/// The gates of exclusive work that a write is to take over, by whoever comes to it first.
#[derive(Clone, Debug)]
pub struct Handover(Arc<Lock<Option<Exclusive>>>);

impl Handover {
    /// These gates, to be taken over.
    pub fn new(held: Exclusive) -> Self {
        Self(Arc::new(Lock::new(Some(held))))
    }

    /// Takes them over; `None` if somebody has.
    pub fn take(&self) -> Option<Exclusive> {
        self.0.lock().take()
    }
}

/// While this lives, exclusive work on the index waits.
#[derive(Clone, Debug)]
pub struct SharedGate {
    lane: Arc<Lane>,
    gate: Arc<OwnedRwLockReadGuard<()>>,
}

impl Sequencer {
    fn lane(&self, index: &str) -> Arc<Lane> {
        let mut lanes = self.lanes.lock();
        if let Some(lane) = lanes.get(index) {
            return Arc::clone(lane);
        }
        if lanes.len() >= IDLE_LANES && lanes.len().is_power_of_two() {
            lanes.retain(|_, lane| Lane::is_used(lane));
        }
        let lane = Arc::<Lane>::default();
        lanes.insert(index.to_owned(), Arc::clone(&lane));
        lane
    }

    /// Waits for exclusive work on the index to end, and keeps more of it out.
    pub async fn enter(&self, index: &str) -> SharedGate {
        let lane = self.lane(index);
        let gate = Arc::new(Arc::clone(&lane.gate).read_owned().await);
        SharedGate { lane, gate }
    }

    /// Takes a turn at each of these nodes.
    pub async fn tickets(&self, index: &str, nodes: &[NodeId]) -> Tickets {
        self.enter(index).await.tickets(nodes)
    }

    /// Takes a turn at each of these nodes for exclusive work, whose gate the caller holds: calls of
    /// writes before it that a node has not answered come first.
    pub fn turns(&self, index: &str, nodes: &[NodeId]) -> Vec<Ticket> {
        let lane = self.lane(index);
        let mut order = lane.order.lock();
        nodes.iter().map(|node| order.ticket(node)).collect()
    }

    /// Waits until no write is being sent, and holds back new ones.
    pub async fn exclusive(&self, index: &str) -> Exclusive {
        Exclusive(vec![self.close(index).await])
    }

    /// As [`Sequencer::exclusive`], for one index more, unless the caller has it already. Indexes are
    /// taken in alphabetical order by everybody who takes two.
    pub async fn exclusive_too(&self, held: &mut Exclusive, index: &str) {
        if !held.0.iter().any(self.is_gate_of(index)) {
            held.0.push(self.close(index).await);
        }
    }

    fn is_gate_of(&self, index: &str) -> impl Fn(&OwnedRwLockWriteGuard<()>) -> bool {
        let lane = self.lane(index);
        move |guard| Arc::ptr_eq(OwnedRwLockWriteGuard::rwlock(guard), &lane.gate)
    }

    /// Lets others write to an index again, but nobody have it to himself before the caller has
    /// entered: he has, with what is returned. `None` if its gate is not among those that he held.
    pub fn enter_from(&self, held: Exclusive, index: &str) -> Option<SharedGate> {
        let guard = held.0.into_iter().find(self.is_gate_of(index))?;
        let lane = self.lane(index);
        Some(SharedGate { gate: Arc::new(guard.downgrade()), lane })
    }

    async fn close(&self, index: &str) -> OwnedRwLockWriteGuard<()> {
        let lane = self.lane(index);
        let guard = Arc::clone(&lane.gate).write_owned().await;
        lane.order.lock().journal.interrupt();
        guard
    }

    /// Has all copies of an index to a node begin anew: somebody wrote to it what took no number here.
    /// What is marked after this is not cleared by a copy that compared before.
    pub fn interrupt_copies(&self, index: &str, node: &NodeId) {
        let lane = self.lanes.lock().get(index).map(Arc::clone);
        if let Some(lane) = lane {
            lane.order.lock().journal.interrupt_to(node);
        }
    }

    /// Whether a replica of the index is being copied, so that it matters which ids a write touches.
    pub fn is_filling(&self, index: &str) -> bool {
        if self.copies.load(Ordering::Acquire) == 0 {
            return false;
        }
        let lane = self.lanes.lock().get(index).map(Arc::clone);
        lane.is_some_and(|lane| !lane.order.lock().journal.is_idle())
    }
}

impl SharedGate {
    /// Takes a turn at each of these nodes, for what changes no documents.
    pub fn tickets(&self, nodes: &[NodeId]) -> Tickets {
        let mut order = self.lane.order.lock();
        let tickets = nodes.iter().map(|node| order.ticket(node)).collect();
        Tickets { gate: Arc::clone(&self.gate), tickets }
    }

    /// Takes a number, and a turn at each of these nodes, for a write to documents: which ids it
    /// touches, which shards, and the task it belongs to.
    pub fn write(
        &self,
        nodes: &[NodeId],
        touch: &Touch,
        shards: &ShardSet,
        task: TaskUid,
    ) -> Tickets {
        let mut order = self.lane.order.lock();
        let number = order.journal.note(touch, shards, nodes, task);
        let noted = !order.journal.is_idle();
        let mut tickets: Vec<Ticket> = nodes.iter().map(|node| order.ticket(node)).collect();
        if noted {
            for (ticket, node) in tickets.iter_mut().zip(nodes) {
                let (lane, node) = (Arc::clone(&self.lane), node.clone());
                ticket.note = Some(Note { lane, number, node, told: false });
            }
        }
        Tickets { gate: Arc::clone(&self.gate), tickets }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> NodeId {
        NodeId::new(name).unwrap()
    }

    #[tokio::test]
    async fn two_writes_keep_their_order_on_a_shared_node() {
        let sequencer = Sequencer::default();
        let mut first = sequencer.tickets("i", &[node("a"), node("b")]).await;
        let mut second = sequencer.tickets("i", &[node("b"), node("c")]).await;
        second.tickets[1].turn().await; // nobody before it at c
        let mut waiting = Box::pin(second.tickets[0].turn());
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        first.tickets[1].turn().await;
        drop(first);
        waiting.await;
    }

    #[tokio::test]
    async fn nobody_overtakes_by_a_turn_that_was_given_up() {
        let sequencer = Sequencer::default();
        let mut tickets = Vec::new();
        for _ in 0..5 {
            tickets.extend(sequencer.tickets("i", &[node("a")]).await.tickets);
        }
        let mut last = tickets.pop().unwrap();
        let first = tickets.remove(0);
        // One is given up before anybody looks, one while it waits, the third after the others.
        let mut third = tickets.pop().unwrap();
        let mut waiting = Box::pin(async move { third.turn().await });
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        drop(tickets);
        drop(waiting);
        assert!(Lane::is_used(&sequencer.lane("i")));
        let mut turn = Box::pin(last.turn());
        assert!(futures_util::poll!(turn.as_mut()).is_pending());
        drop(first);
        turn.await;
    }

    #[tokio::test]
    async fn a_call_that_is_late_is_before_exclusive_work() {
        let sequencer = Sequencer::default();
        let mut write = sequencer.tickets("i", &[node("a")]).await;
        let late = write.tickets.remove(0);
        drop(write);
        let held = sequencer.exclusive("i").await;
        let mut turns = sequencer.turns("i", &[node("a")]);
        let mut turn = Box::pin(turns[0].turn());
        assert!(futures_util::poll!(turn.as_mut()).is_pending());
        drop(late);
        turn.await;
        drop(held);
    }

    #[test]
    fn copies_begin_anew_after_what_took_no_number() {
        let sequencer = Sequencer::default();
        let (a, b) = (node("a"), node("b"));
        let (filling, _) = sequencer.open_lot("i", &a, &b, ShardSet::full(4));
        sequencer.interrupt_copies("other", &b);
        sequencer.interrupt_copies("i", &a);
        assert!(!filling.with(|lot| lot.is_interrupted()));
        sequencer.interrupt_copies("i", &b);
        assert!(filling.with(|lot| lot.is_interrupted()));
    }

    #[tokio::test]
    async fn lanes_that_nobody_uses_are_forgotten() {
        let sequencer = Sequencer::default();
        let gate = sequencer.exclusive("gate").await;
        let mut ticket = sequencer.tickets("ticket", &[node("a")]).await;
        let mut last = sequencer.tickets("ticket", &[node("a")]).await;
        for n in 0..10 * IDLE_LANES {
            drop(sequencer.enter(&format!("i{n}")).await);
        }
        assert!(sequencer.lanes.lock().len() <= IDLE_LANES);
        // Those that are used are the same still.
        assert!(futures_util::poll!(Box::pin(sequencer.enter("gate"))).is_pending());
        let mut turn = Box::pin(last.tickets[0].turn());
        assert!(futures_util::poll!(turn.as_mut()).is_pending());
        ticket.tickets.clear();
        turn.await;
        drop(gate);
    }

    #[tokio::test]
    async fn a_turn_that_was_looked_at_can_be_waited_for() {
        let sequencer = Sequencer::default();
        let nodes: Vec<NodeId> = (0..16).map(|n| node(&format!("n{n}"))).collect();
        let mut first = sequencer.tickets("i", &nodes).await;
        // All are over but one, wherever that is looked at.
        let open = first.tickets.swap_remove(7);
        drop(first);
        for n in 0..2 * IDLE_LANES {
            drop(sequencer.enter(&format!("i{n}")).await);
        }
        let mut next = sequencer.tickets("i", &nodes).await;
        let mut held = next.tickets.remove(7);
        for ticket in &mut next.tickets {
            ticket.turn().await;
        }
        let mut turn = Box::pin(held.turn());
        assert!(futures_util::poll!(turn.as_mut()).is_pending());
        drop(open);
        turn.await;
    }

    #[tokio::test]
    async fn nobody_comes_between_exclusive_work_and_the_write_after_it() {
        let sequencer = Sequencer::default();
        let mut held = sequencer.exclusive("a").await;
        sequencer.exclusive_too(&mut held, "b").await;
        let mut next = Box::pin(sequencer.exclusive("b"));
        assert!(futures_util::poll!(next.as_mut()).is_pending());
        let entered = sequencer.enter_from(held, "b").unwrap();
        assert!(futures_util::poll!(next.as_mut()).is_pending());
        drop(sequencer.exclusive("a").await);
        let tickets = entered.tickets(&[node("n")]);
        drop(entered);
        assert!(futures_util::poll!(next.as_mut()).is_pending());
        drop(tickets);
        let held = next.await;
        assert!(sequencer.enter_from(held, "a").is_none());
    }

    #[tokio::test]
    async fn exclusive_work_does_not_wait_for_what_it_has() {
        let sequencer = Sequencer::default();
        let mut held = sequencer.exclusive("a").await;
        sequencer.exclusive_too(&mut held, "a--2").await;
        let again = sequencer.exclusive_too(&mut held, "a--2");
        assert!(futures_util::poll!(Box::pin(again)).is_ready());
        drop(held);
        sequencer.exclusive("a--2").await;
    }

    #[tokio::test]
    async fn exclusive_work_waits_and_holds_back() {
        let sequencer = Sequencer::default();
        let write = sequencer.tickets("i", &[node("a")]).await;
        let mut exclusive = Box::pin(sequencer.exclusive("i"));
        assert!(futures_util::poll!(exclusive.as_mut()).is_pending());
        drop(write);
        let held = exclusive.await;
        let nodes = [node("a")];
        let mut next = Box::pin(sequencer.tickets("i", &nodes));
        assert!(futures_util::poll!(next.as_mut()).is_pending());
        drop(sequencer.exclusive("other").await);
        drop(held);
        next.await.tickets[0].turn().await;
    }
}
