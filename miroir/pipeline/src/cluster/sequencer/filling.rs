//! A copy's side of a lane: what it is told of writes, and what it puts between them.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use miroir_api::NodeId;
use miroir_core::copying::{Admission, Journal, Lot, LotId, Page, Touch, Window};
use miroir_core::routing::ShardSet;
use tokio::time::Instant;

use super::{Lane, Sequencer, SharedGate, Ticket};

/// Longest time that a copy holds back a write.
const LONGEST: Duration = Duration::from_secs(2);

/// Which writes a copy holds back.
#[derive(Clone, Debug)]
pub enum Hold {
    /// Those that touch ids nobody knows beforehand.
    Any,
    /// Those to these ids whose effect depends on what is there.
    Ids(HashSet<Arc<str>>),
}

impl Hold {
    fn concerns(&self, touch: &Touch) -> bool {
        match (self, touch) {
            (Self::Any, Touch::Any) => true,
            (Self::Ids(held), Touch::Ids { ids, blind: false }) => {
                ids.iter().any(|id| held.contains(id))
            }
            _ => false,
        }
    }
}

#[derive(Debug)]
pub(super) struct Held {
    hold: Hold,
    until: Instant,
}

/// An open lot of an index. Dropping it closes the lot.
#[derive(Debug)]
pub struct Filling {
    lane: Arc<Lane>,
    lot: LotId,
    copies: Arc<AtomicUsize>,
}

/// Writes are held back while this lives, or until [`Filling::hold`]'s time is over.
#[derive(Debug)]
pub struct Holding<'a>(&'a Lane);

impl Drop for Holding<'_> {
    fn drop(&mut self) {
        self.0.order.lock().hold = None;
        self.0.released.notify_waiters();
    }
}

impl Sequencer {
    /// Opens a lot: from now on the writes of its shards are noted. Returns with it a turn at the
    /// source and one at the target, behind everything that was written before.
    pub fn open_lot(
        &self,
        index: &str,
        source: &NodeId,
        target: &NodeId,
        shards: ShardSet,
    ) -> (Filling, [Ticket; 2]) {
        let lane = self.lane(index);
        // Raised first: a write that looks and sees nothing takes its number before the lot opens,
        // or says that it touches any id.
        self.copies.fetch_add(1, Ordering::AcqRel);
        let (lot, turns) = {
            let mut order = lane.order.lock();
            let lot = order.journal.open(source.clone(), target.clone(), shards);
            (lot, [order.ticket(source), order.ticket(target)])
        };
        (Filling { lane, lot, copies: Arc::clone(&self.copies) }, turns)
    }
}

impl Filling {
    /// The lot's number in its journal.
    pub fn lot(&self) -> LotId {
        self.lot
    }

    /// Looks at the journal, or changes it.
    pub fn journal<T>(&self, act: impl FnOnce(&mut Journal, LotId) -> T) -> T {
        act(&mut self.lane.order.lock().journal, self.lot)
    }

    /// Looks at the lot, or changes it.
    pub fn with<T>(&self, act: impl FnOnce(&mut Lot) -> T) -> T {
        let mut order = self.lane.order.lock();
        act(order.journal.lot_mut(self.lot).expect("the lot is open while this lives"))
    }

    /// Admits what the source showed, and takes a turn at the target in the same step; see
    /// [`Journal::admit`]. `None` if the page has to be read again.
    pub fn admit(
        &self,
        _gate: &SharedGate,
        target: &NodeId,
        window: Window,
        page: &Page<'_>,
    ) -> Option<(Admission, Ticket)> {
        let mut order = self.lane.order.lock();
        let admission = order.journal.admit(self.lot, window, page)?;
        let ticket = order.ticket(target);
        Some((admission, ticket))
    }

    /// Holds back writes of a kind for at most two seconds.
    pub fn hold(&self, hold: Hold) -> Holding<'_> {
        self.lane.order.lock().hold = Some(Held { hold, until: Instant::now() + LONGEST });
        Holding(&self.lane)
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        self.lane.order.lock().journal.close(self.lot);
        self.copies.fetch_sub(1, Ordering::AcqRel);
    }
}

impl SharedGate {
    /// Waits while a copy holds back writes like this one, at most two seconds.
    pub async fn held_back(&self, touch: &Touch) {
        let began = Instant::now();
        let mut held_back = false;
        loop {
            let released = self.lane.released.notified();
            tokio::pin!(released);
            released.as_mut().enable();
            let until = match &self.lane.order.lock().hold {
                Some(held) if held.hold.concerns(touch) && held.until > Instant::now() => {
                    held.until
                }
                _ => break,
            };
            held_back = true;
            let _ = tokio::time::timeout_at(until, released).await;
        }
        if held_back {
            metrics::counter!("miroir_held_writes_total").increment(1);
            metrics::histogram!("miroir_hold_seconds").record(began.elapsed().as_secs_f64());
        }
    }
}

#[cfg(test)]
mod tests {
    use miroir_api::{ShardId, TaskUid};
    use miroir_core::copying::{Outcome, Sent};

    use super::*;

    fn node(name: &str) -> NodeId {
        NodeId::new(name).unwrap()
    }

    fn put(id: &str) -> Touch {
        Touch::Ids { ids: Arc::from([Arc::from(id)]), blind: false }
    }

    #[tokio::test]
    async fn writes_are_noted_while_a_lot_is_open_and_their_ends_are_told() {
        let sequencer = Sequencer::default();
        let (source, target) = (node("a"), node("b"));
        assert!(!sequencer.is_filling("i"));
        let shards = ShardSet::single(ShardId(0), 1);
        let (filling, turns) = sequencer.open_lot("i", &source, &target, shards.clone());
        drop(turns);
        assert!(sequencer.is_filling("i") && !sequencer.is_filling("j"));
        let nodes = [source.clone(), target.clone()];
        let gate = sequencer.enter("i").await;
        let mut tickets = gate.write(&nodes, &put("x"), &shards, TaskUid(1));
        tickets.tickets[0].answered(Sent::Queued(vec![5]));
        assert_eq!(filling.journal(|journal, _| journal.unfinished_at(&source, 9)), [(1, 5)]);
        // Nobody says what became of it at the target.
        drop(tickets);
        filling.journal(|journal, _| journal.task_ended(1, &source, 5, Outcome::Succeeded));
        assert_eq!(filling.with(|lot| lot.dirty().len()), 1);
        drop(filling);
        assert!(!sequencer.is_filling("i"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_hold_keeps_back_what_it_is_about_and_for_two_seconds() {
        let sequencer = Sequencer::default();
        let (filling, _turns) = sequencer.open_lot("i", &node("a"), &node("b"), ShardSet::full(1));
        let gate = sequencer.enter("i").await;
        let holding = filling.hold(Hold::Ids([Arc::from("x")].into()));
        gate.held_back(&put("y")).await;
        gate.held_back(&Touch::Any).await;
        let hot = put("x");
        let mut held = tokio_test::task::spawn(gate.held_back(&hot));
        assert!(held.poll().is_pending());
        drop(holding);
        held.await;
        let began = Instant::now();
        let _holding = filling.hold(Hold::Any);
        gate.held_back(&Touch::Any).await;
        assert_eq!(began.elapsed(), LONGEST);
    }
}
