//! What the writes of an index that are under way touch, and what became of them where.

use std::collections::BTreeMap;
use std::sync::Arc;

use miroir_api::{NodeId, TaskUid};

use super::lot::{Admission, Lot, Page, Window};
use super::write::{Number, Outcome, Sent, Touch};
use crate::routing::ShardSet;

/// Number of a lot of an index.
pub type LotId = u64;

/// Bytes of ids that a journal keeps; beyond it a write counts as one of unknown extent, which costs
/// reading again, never correctness.
const LIMIT: usize = 24 << 20;
/// Bytes that an id takes besides its text.
const PER_ID: usize = 48;

#[derive(Clone, Debug)]
enum Fate {
    Waiting,
    Queued { open: Vec<u32>, so_far: Option<Outcome> },
    Ended(Outcome),
}

#[derive(Clone, Debug)]
struct Entry {
    touch: Touch,
    fates: Vec<(NodeId, Fate)>,
    task: TaskUid,
    /// Lots that do not know both outcomes yet.
    open: Vec<LotId>,
    bytes: usize,
}

impl Entry {
    /// How it ended at a node; a node that was not called never got it.
    fn at(&self, node: &NodeId) -> Option<Outcome> {
        match self.fates.iter().find(|(other, _)| other == node) {
            Some((_, Fate::Ended(outcome))) => Some(*outcome),
            Some(_) => None,
            None => Some(Outcome::Failed),
        }
    }
}

/// The journal of an index. See [the module](super).
#[derive(Clone, Debug, Default)]
pub struct Journal {
    last: Number,
    /// Counts what happens.
    moment: u64,
    entries: BTreeMap<Number, Entry>,
    lots: BTreeMap<LotId, Lot>,
    last_lot: LotId,
    bytes: usize,
}

impl Journal {
    /// Opens a lot. From now on every write of its shards is noted. Its pages are none of them: who
    /// copies these shards from its target begins anew.
    pub fn open(&mut self, source: NodeId, target: NodeId, shards: ShardSet) -> LotId {
        let follows =
            |lot: &&mut Lot| lot.source == target && !lot.shards.intersection(&shards).is_empty();
        self.lots.values_mut().filter(follows).for_each(Lot::interrupt);
        self.last_lot += 1;
        self.lots.insert(self.last_lot, Lot::new(source, target, shards));
        self.last_lot
    }

    /// Forgets a lot.
    pub fn close(&mut self, lot: LotId) {
        self.lots.remove(&lot);
        for entry in self.entries.values_mut() {
            entry.open.retain(|other| *other != lot);
        }
        self.forget();
    }

    /// Whether no lot is open.
    pub fn is_idle(&self) -> bool {
        self.lots.is_empty()
    }

    /// A lot, unless it was closed.
    pub fn lot(&self, lot: LotId) -> Option<&Lot> {
        self.lots.get(&lot)
    }

    /// As [`Journal::lot`], to be changed.
    pub fn lot_mut(&mut self, lot: LotId) -> Option<&mut Lot> {
        self.lots.get_mut(&lot)
    }

    /// Gives the next write its number. `nodes` are those that are called; whoever else has shards of
    /// it misses it.
    pub fn note(
        &mut self,
        touch: &Touch,
        shards: &ShardSet,
        nodes: &[NodeId],
        task: TaskUid,
    ) -> Number {
        self.last += 1;
        self.moment += 1;
        let number = self.last;
        let concerned: Vec<LotId> = self
            .lots
            .iter()
            .filter(|(_, lot)| !lot.shards.intersection(shards).is_empty())
            .map(|(id, _)| *id)
            .collect();
        if concerned.is_empty() {
            return number;
        }
        let bytes = match touch {
            Touch::Ids { ids, .. } => ids.iter().map(|id| id.len() + PER_ID).sum(),
            Touch::Any => 0,
        };
        let (touch, bytes) =
            if self.bytes + bytes > LIMIT { (&Touch::Any, 0) } else { (touch, bytes) };
        for id in &concerned {
            if let Some(lot) = self.lots.get_mut(id) {
                lot.noted(number, touch, self.moment);
            }
        }
        self.bytes += bytes;
        let fates = nodes.iter().map(|node| (node.clone(), Fate::Waiting)).collect();
        let entry = Entry { touch: touch.clone(), fates, task, open: concerned, bytes };
        self.entries.insert(number, entry);
        self.resolve(number);
        number
    }

    /// What became of a write's calls to a node.
    pub fn answered(&mut self, number: Number, node: &NodeId, sent: Sent) {
        let fate = match sent {
            Sent::Queued(open) if !open.is_empty() => Fate::Queued { open, so_far: None },
            Sent::Queued(_) | Sent::Missed => Fate::Ended(Outcome::Failed),
            Sent::Unknown => Fate::Ended(Outcome::Late),
        };
        self.set(number, node, fate);
    }

    /// The node's tasks, in order, whose end is not known: at most so many, each with its write.
    pub fn unfinished_at(&self, node: &NodeId, limit: usize) -> Vec<(Number, u32)> {
        let of = |(number, entry): (&Number, &Entry)| {
            let fate = entry.fates.iter().find(|(other, _)| other == node);
            match fate {
                Some((_, Fate::Queued { open, .. })) => {
                    open.iter().map(|uid| (*number, *uid)).collect::<Vec<_>>()
                }
                _ => Vec::new(),
            }
        };
        self.entries.iter().flat_map(of).take(limit).collect()
    }

    /// How a task of a node ended.
    pub fn task_ended(&mut self, number: Number, node: &NodeId, uid: u32, outcome: Outcome) {
        let Some(entry) = self.entries.get_mut(&number) else { return };
        let Some((_, fate)) = entry.fates.iter_mut().find(|(other, _)| other == node) else {
            return;
        };
        let Fate::Queued { open, so_far } = fate else { return };
        open.retain(|other| *other != uid);
        let all = match so_far {
            None => outcome,
            Some(before) if *before == outcome => outcome,
            Some(_) => Outcome::Unknown,
        };
        if open.is_empty() {
            self.set(number, node, Fate::Ended(all));
        } else {
            *so_far = Some(all);
        }
    }

    fn set(&mut self, number: Number, node: &NodeId, fate: Fate) {
        let Some(entry) = self.entries.get_mut(&number) else { return };
        if let Some((_, known)) = entry.fates.iter_mut().find(|(other, _)| other == node) {
            *known = fate;
        }
        self.resolve(number);
    }

    /// Tells lots that know both outcomes now.
    fn resolve(&mut self, number: Number) {
        let Some(entry) = self.entries.get_mut(&number) else { return };
        self.moment += 1;
        let mut open = std::mem::take(&mut entry.open);
        open.retain(|id| {
            let Some(lot) = self.lots.get_mut(id) else { return false };
            let (Some(source), Some(target)) = (entry.at(&lot.source), entry.at(&lot.target))
            else {
                return true;
            };
            lot.ended(number, &entry.touch, (source, target), entry.task, self.moment);
            false
        });
        entry.open = open;
        if entry.open.is_empty() {
            self.bytes -= entry.bytes;
            self.entries.remove(&number);
        }
    }

    fn forget(&mut self) {
        self.entries.retain(|_, entry| !entry.open.is_empty());
        self.bytes = self.entries.values().map(|entry| entry.bytes).sum();
    }

    /// Somebody had the index to himself: what he did is on no record here.
    pub fn interrupt(&mut self) {
        self.lots.values_mut().for_each(Lot::interrupt);
    }

    /// Somebody changed a node past everybody who takes numbers: copies to it begin anew.
    pub fn interrupt_to(&mut self, node: &NodeId) {
        self.lots.values_mut().filter(|lot| lot.target == *node).for_each(Lot::interrupt);
    }

    /// The number of the last write or page.
    pub fn last(&self) -> Number {
        self.last
    }

    /// Bytes of ids kept.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Begins to compare; `verifies` if every id was judged before. False where that has to wait:
    /// something that came before the lot, a page, or a write of unknown extent is under way.
    pub fn begin_table(&mut self, lot: LotId, verifies: bool) -> bool {
        let moment = self.moment;
        self.lots.get_mut(&lot).is_some_and(|lot| lot.begin_table(moment, verifies))
    }

    /// Begins to read the source; `None` while a write of unknown extent is under way.
    pub fn begin_read(&self, lot: LotId) -> Option<Window> {
        self.lots.get(&lot).and_then(|lot| lot.begin_read(self.moment))
    }

    /// Judges what the source showed since a window began. What goes on takes a number, and has to be
    /// sent in the order of numbers. `None` if the page is worth nothing and has to be read again.
    pub fn admit(&mut self, lot: LotId, window: Window, page: &Page<'_>) -> Option<Admission> {
        let next = self.last + 1;
        let admission = self.lots.get_mut(&lot)?.admit(window, page, next)?;
        if admission.number.is_some() {
            self.last = next;
        }
        Some(admission)
    }

    /// Ids that only the target showed: they are looked for at the source.
    pub fn suspect(&mut self, lot: LotId, ids: &[Arc<str>], verifies: bool) {
        let next = self.last + 1;
        if let Some(lot) = self.lots.get_mut(&lot) {
            lot.suspect(ids, next, verifies);
        }
    }

    /// Has ids read and compared once more that were written.
    pub fn verify(&mut self, lot: LotId, ids: &[Arc<str>]) {
        let next = self.last + 1;
        if let Some(lot) = self.lots.get_mut(&lot) {
            lot.verify(ids, next);
        }
    }

    /// Has ids compared, and takes all others for equal: both sides got the same writes all along. False
    /// where that has to wait, see [`Journal::begin_table`].
    pub fn compare_only(&mut self, lot: LotId, ids: &[Arc<str>]) -> bool {
        let next = self.last + 1;
        self.lots.get_mut(&lot).is_some_and(|lot| lot.compare_only(ids, next))
    }

    /// Whether the target has what the source has, counting writes up to a number; all of them have
    /// ended on both sides.
    pub fn is_equal(&self, lot: LotId, up_to: Number) -> bool {
        let Some(state) = self.lots.get(&lot) else { return false };
        let up_to = up_to.max(state.last_page());
        let mut before = self.entries.range(..=up_to);
        state.is_clean() && before.all(|(_, entry)| !entry.open.contains(&lot))
    }
}
