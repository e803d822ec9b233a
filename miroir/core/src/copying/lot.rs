//! One copy: which ids are known to be equal at source and target, and which are not.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use miroir_api::{NodeId, TaskUid};

use super::content::{Content, id_hash};
use super::write::{Number, Outcome, Touch};
use crate::routing::{ShardSet, shard_of};

/// Ids that writes touched, kept for one copy; beyond it the pass begins anew.
const TOUCHED: usize = 500_000;
/// Ids that are to be read again, kept for one copy; beyond it the pass begins anew.
const DIRTY: usize = 200_000;
/// Documents of a page of which those that differ are only noted, if they are at most one of [`FEW`].
const LARGE: usize = 100;
const FEW: usize = 10;

/// What writes did to an id since the pass began.
#[derive(Clone, Debug, Default)]
struct Touched {
    /// Writes whose outcome at source or target is open.
    pending: u32,
    /// The last write.
    last: Number,
    /// Whether the last write does not depend on what was there.
    blind: bool,
    /// When the last of them ended on both sides; moments of the journal.
    ended: u64,
    /// A blind write succeeded on both sides, and nothing unlike happened since.
    clean: bool,
}

impl Touched {
    /// Whether nothing happened to the id since a moment, and nothing was under way then.
    fn quiet_since(&self, moment: u64) -> bool {
        self.pending == 0 && self.ended <= moment
    }
}

/// A read of the source that began at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window(u64);

#[derive(Clone, Debug)]
enum Pass {
    /// Nothing is known of the target.
    Before,
    /// The target's documents are being read, or compared with the source's.
    Comparing { began: u64, verifies: bool, table: HashMap<u64, Content> },
    /// Every id was compared, written, or is dirty.
    Covered,
}

/// What was read since a window began.
#[derive(Clone, Copy, Debug, Default)]
pub struct Page<'a> {
    /// Documents of the source.
    pub documents: &'a [(Arc<str>, Content)],
    /// Ids that the source was asked for and does not have.
    pub absent: &'a [Arc<str>],
    /// What the target has under these ids, if it was asked as well: `None` for nothing. Else only
    /// the table says what it has.
    pub target: Option<&'a HashMap<Arc<str>, Content>>,
}

/// What became of a page of the source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admission {
    /// Lane number of what is written; `None` if nothing is.
    pub number: Option<Number>,
    /// Which of the documents are written, by their places.
    pub write: Vec<usize>,
    /// Which of the absent ids are deleted, by their places.
    pub delete: Vec<usize>,
}

/// What a copy has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LotCounts {
    /// Documents that were equal, or became so by a write of a client.
    pub equal: u64,
    /// Differences that a verification found: documents that should have been equal.
    pub differences: u64,
}

/// A copy of shards from one node to another. See [the module](super).
#[derive(Clone, Debug)]
pub struct Lot {
    pub(super) source: NodeId,
    pub(super) target: NodeId,
    pub(super) shards: ShardSet,
    touched: HashMap<Arc<str>, Touched>,
    /// Ids that may differ, each with the lane number from which on a blind write makes it equal.
    dirty: BTreeMap<Arc<str>, Number>,
    promised: BTreeMap<Number, Vec<Arc<str>>>,
    /// Writes to an unknown set of ids whose outcome is open.
    anys: u32,
    /// When the last of them came or ended.
    any_at: u64,
    pass: Pass,
    /// What was written before the lot opened has ended on both sides.
    settled: bool,
    interrupted: bool,
    last_page: Number,
    doubts: Vec<TaskUid>,
    /// Ids that were written and are looked at once more.
    suspects: HashSet<Arc<str>>,
    counts: LotCounts,
}

impl Lot {
    pub(super) fn new(source: NodeId, target: NodeId, shards: ShardSet) -> Self {
        Self {
            source,
            target,
            shards,
            touched: HashMap::new(),
            dirty: BTreeMap::new(),
            promised: BTreeMap::new(),
            anys: 0,
            any_at: 0,
            pass: Pass::Before,
            settled: false,
            interrupted: false,
            last_page: 0,
            doubts: Vec::new(),
            suspects: HashSet::new(),
            counts: LotCounts::default(),
        }
    }

    fn own<'a>(&self, ids: &'a [Arc<str>]) -> impl Iterator<Item = &'a Arc<str>> + use<'a> {
        let shards = self.shards.clone();
        ids.iter().filter(move |id| shards.contains(shard_of(id.as_bytes(), shards.universe())))
    }

    /// A write took a lane number.
    pub(super) fn noted(&mut self, number: Number, touch: &Touch, moment: u64) {
        let Touch::Ids { ids, blind } = touch else {
            self.anys += 1;
            self.any_at = moment;
            return;
        };
        let covered = matches!(self.pass, Pass::Covered);
        for id in self.own(ids) {
            let touched = self.touched.entry(Arc::clone(id)).or_default();
            touched.pending += 1;
            touched.last = number;
            touched.blind = *blind;
            // What the target makes of it is anybody's guess while its base is unknown.
            if !blind && !covered && !touched.clean {
                self.make_dirty(id, number);
            }
        }
        if self.touched.len() > TOUCHED || self.dirty.len() > DIRTY {
            self.interrupted = true;
        }
    }

    /// A write ended on both sides.
    pub(super) fn ended(
        &mut self,
        number: Number,
        touch: &Touch,
        (source, target): (Outcome, Outcome),
        task: TaskUid,
        moment: u64,
    ) {
        let alike = source == target && matches!(source, Outcome::Succeeded | Outcome::Failed);
        // The source may not be the one to copy from any more: who is, is known when the task is over.
        if !alike && source != Outcome::Succeeded {
            self.doubts.push(task);
        }
        // It may still come, and what is read before says nothing.
        self.interrupted |= source == Outcome::Late;
        let Touch::Ids { ids, blind } = touch else {
            self.anys -= 1;
            self.any_at = moment;
            self.interrupted |= !alike;
            return;
        };
        for id in self.own(ids) {
            let touched = self.touched.entry(Arc::clone(id)).or_default();
            touched.pending = touched.pending.saturating_sub(1);
            touched.ended = moment;
            if !alike {
                self.make_dirty(id, number);
            } else if *blind && source == Outcome::Succeeded {
                if self.dirty.get(id).is_some_and(|since| *since < number) {
                    self.dirty.remove(id);
                }
                touched.clean = !self.dirty.contains_key(id);
            }
        }
    }

    /// From now on the id may differ; a blind write above `since` makes it equal.
    fn make_dirty(&mut self, id: &Arc<str>, since: Number) {
        if let Some(touched) = self.touched.get_mut(id) {
            touched.clean = false;
        }
        let known = self.dirty.entry(Arc::clone(id)).or_insert(since);
        *known = since.max(*known);
    }

    /// What was sent to source and target before the lot opened has ended on both.
    pub fn settle_before(&mut self) {
        self.settled = true;
    }

    /// Whether all has to begin anew: a write of unknown extent had unlike outcomes, or somebody had
    /// the index to himself.
    pub fn is_interrupted(&self) -> bool {
        self.interrupted
    }

    pub(super) fn interrupt(&mut self) {
        self.interrupted = true;
    }

    pub(super) fn begin_table(&mut self, moment: u64, verifies: bool) -> bool {
        if !self.settled || self.anys > 0 || !self.promised.is_empty() || self.interrupted {
            return false;
        }
        self.touched.retain(|_, touched| touched.pending > 0 || touched.clean);
        self.pass = Pass::Comparing { began: moment, verifies, table: HashMap::new() };
        true
    }

    /// Notes what the target has under an id, read since [`Journal::begin_table`].
    ///
    /// [`Journal::begin_table`]: super::Journal::begin_table
    pub fn put(&mut self, id: &str, content: Content) {
        if let Pass::Comparing { table, .. } = &mut self.pass {
            table.insert(id_hash(id), content);
        }
    }

    pub(super) fn begin_read(&self, moment: u64) -> Option<Window> {
        (self.anys == 0 && !self.interrupted).then_some(Window(moment))
    }

    /// Whether no write of unknown extent came since a moment.
    fn undisturbed_since(&self, moment: u64) -> bool {
        self.anys == 0 && self.any_at <= moment
    }

    /// Whether the comparison that is under way is still worth going on with.
    pub fn is_comparing(&self) -> bool {
        match &self.pass {
            Pass::Comparing { began, .. } => self.undisturbed_since(*began) && !self.interrupted,
            _ => false,
        }
    }

    /// Drops an id of a page that is not quiet: it comes by a client's write, or is read again.
    fn drop_id(&mut self, id: &Arc<str>, next: Number) {
        let since = match self.touched.get(id) {
            Some(touched) if touched.pending > 0 && touched.blind => touched.last - 1,
            _ => next,
        };
        if !self.dirty.contains_key(id) {
            self.make_dirty(id, since);
        }
    }

    /// Judges a page of the source. Those that go on are promised to the target under the number
    /// `next`.
    pub(super) fn admit(
        &mut self,
        window: Window,
        page: &Page<'_>,
        next: Number,
    ) -> Option<Admission> {
        if self.interrupted || !self.undisturbed_since(window.0) {
            return None;
        }
        let (began, verifies) = match &self.pass {
            Pass::Comparing { began, verifies, .. } if self.is_comparing() => {
                (Some(*began), *verifies)
            }
            Pass::Covered => (None, false),
            _ => return None,
        };
        let mut admission = Admission::default();
        let mut promised = Vec::new();
        for (place, (id, content)) in page.documents.iter().enumerate() {
            let known = match &mut self.pass {
                Pass::Comparing { table, .. } => table.remove(&id_hash(id)),
                _ => page.target.and_then(|target| target.get(id).copied()),
            };
            let touched = self.touched.get(id);
            let dirty = self.dirty.contains_key(id);
            let quiet_since = |moment| touched.is_none_or(|t| t.quiet_since(moment));
            let comparable = match began {
                Some(began) => quiet_since(began),
                None => page.target.is_some() && !self.is_promised(id),
            };
            if touched.is_some_and(|t| t.clean) && !dirty {
                self.counts.equal += 1;
            } else if !quiet_since(window.0) {
                if !verifies {
                    self.drop_id(id, next);
                }
            } else if comparable && known == Some(*content) {
                self.counts.equal += 1;
                self.dirty.remove(id);
                self.suspects.remove(id);
            } else if verifies {
                // Where the target's was not comparable, the pass before this one has judged it.
                if comparable {
                    self.counts.differences += 1;
                    self.make_dirty(id, next);
                }
            } else {
                self.counts.differences += u64::from(self.suspects.remove(id) && comparable);
                admission.write.push(place);
                promised.push(Arc::clone(id));
            }
        }
        // A write of its own for each page that hardly differs would take the time of a full copy.
        if began.is_some()
            && page.documents.len() >= LARGE
            && promised.len() * FEW <= page.documents.len()
        {
            for id in promised.drain(..) {
                self.make_dirty(&id, next);
            }
            admission.write.clear();
        }
        for (place, id) in page.absent.iter().enumerate() {
            let comparable = page.target.is_some() && !self.is_promised(id);
            if !self.touched.get(id).is_none_or(|t| t.quiet_since(window.0)) {
                self.drop_id(id, next);
            } else if comparable && page.target.is_some_and(|target| !target.contains_key(id)) {
                self.dirty.remove(id);
                self.suspects.remove(id);
            } else {
                self.counts.differences += u64::from(self.suspects.remove(id) && comparable);
                admission.delete.push(place);
                promised.push(Arc::clone(id));
            }
        }
        if !promised.is_empty() {
            for id in &promised {
                self.dirty.remove(id);
            }
            self.promised.insert(next, promised);
            self.last_page = next;
            admission.number = Some(next);
        }
        Some(admission)
    }

    fn is_promised(&self, id: &Arc<str>) -> bool {
        self.promised.values().any(|ids| ids.contains(id))
    }

    /// The target ended what was admitted under a number.
    pub fn page_ended(&mut self, number: Number, succeeded: bool) {
        let ids = self.promised.remove(&number).unwrap_or_default();
        if !succeeded {
            for id in &ids {
                self.make_dirty(id, number);
            }
        }
    }

    /// Ends the comparison: the source showed all it has. Returns hashes of the ids that only the
    /// target has; `None` if the comparison came to nothing.
    pub fn finish_pass(&mut self) -> Option<Vec<u64>> {
        if !self.is_comparing() {
            return None;
        }
        match std::mem::replace(&mut self.pass, Pass::Covered) {
            Pass::Comparing { table, .. } => Some(table.into_keys().collect()),
            _ => None,
        }
    }

    pub(super) fn suspect(&mut self, ids: &[Arc<str>], next: Number, verifies: bool) {
        for id in ids {
            match self.touched.get(id) {
                Some(touched) if touched.clean && !self.dirty.contains_key(id) => {}
                Some(touched) if touched.pending > 0 => self.drop_id(id, next),
                _ => {
                    self.counts.differences += u64::from(verifies);
                    self.make_dirty(id, next);
                }
            }
        }
    }

    pub(super) fn verify(&mut self, ids: &[Arc<str>], next: Number) {
        for id in ids {
            self.suspects.insert(Arc::clone(id));
            self.make_dirty(id, next);
        }
    }

    pub(super) fn compare_only(&mut self, ids: &[Arc<str>], next: Number) -> bool {
        if !self.settled || self.anys > 0 || self.interrupted {
            return false;
        }
        self.pass = Pass::Covered;
        for id in ids {
            self.make_dirty(id, next);
        }
        true
    }

    /// Ids that are to be read from the source again and that no write is under way to, at most so
    /// many.
    pub fn dirty_ids(&self, limit: usize) -> Vec<Arc<str>> {
        let free = |id: &Arc<str>| self.touched.get(id).is_none_or(|t| t.pending == 0);
        self.dirty.keys().filter(|id| free(id)).take(limit).cloned().collect()
    }

    /// Ids that may differ, whether or not a write to them is under way.
    pub fn dirty(&self) -> impl ExactSizeIterator<Item = &Arc<str>> {
        self.dirty.keys()
    }

    /// Tasks of clients that decide whether the source is still the one to copy from.
    pub fn doubts(&self) -> &[TaskUid] {
        &self.doubts
    }

    /// Such a task is over.
    pub fn no_doubt(&mut self, task: TaskUid) {
        self.doubts.retain(|other| *other != task);
    }

    /// Writes of unknown extent that are under way.
    pub fn anys(&self) -> u32 {
        self.anys
    }

    /// Lane number of the last page that was admitted; 0 without any.
    pub fn last_page(&self) -> Number {
        self.last_page
    }

    /// What it has done so far.
    pub fn counts(&self) -> LotCounts {
        self.counts
    }

    /// Whether nothing is known to differ. What is under way may still make a difference: see
    /// [`Journal::is_equal`].
    ///
    /// [`Journal::is_equal`]: super::Journal::is_equal
    pub(super) fn is_clean(&self) -> bool {
        matches!(self.pass, Pass::Covered)
            && !self.interrupted
            && self.dirty.is_empty()
            && self.promised.is_empty()
            && self.doubts.is_empty()
    }
}
