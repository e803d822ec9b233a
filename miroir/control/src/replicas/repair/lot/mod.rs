//! Copies of some shards of an index from one node to another while writes go on.
//!
//! What may be written when, and when both are equal, is decided by [`miroir_core::copying`]; here
//! is what has to be asked and sent for it. Nothing is kept that would have to survive this process:
//! whoever begins again compares again, and writes only what differs.

mod verify;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use miroir_api::NodeId;
use miroir_core::copying::{self, Content, Number, Outcome, Window, id_hash};
use miroir_core::routing::ShardSet;
use miroir_core::view::StaleReplica;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::gauges::{Dirty, Stage};
use super::group_commit::Member;
use super::node::{self, DOCUMENTS, PageSize, Pause, Shown, UIDS, Which};
use super::pages::{Next, Pages};
use super::written::Written;
use super::{Trouble, clear, rows, sources};
use miroir_pipeline::cluster::ClusterState;
use miroir_pipeline::cluster::sequencer::{Filling, Hold, Ticket};
use miroir_store::IndexEntry;

/// Copy tasks that a target has not ended yet.
const TASKS: usize = 4;
/// Times that a target may fail what is copied.
const FAILURES: u32 = 3;
/// Comparisons discarded in a row, and rounds without progress, before writes are held back.
const STARVED: u32 = 5;
/// Time between two holds.
const BETWEEN_HOLDS: Duration = Duration::from_secs(20);
/// Open writes at which it is worth holding others back: more do not end in two seconds.
const FEW: usize = 50;

/// What is sent under a number, until the target has ended it.
#[derive(Debug)]
struct Page {
    open: Vec<u32>,
    failed: bool,
}

/// What one copy writes, and its turn at the target.
#[derive(Debug)]
pub(super) struct Parcel {
    number: Number,
    turn: Ticket,
    documents: Vec<Shown>,
}

/// How a lot takes part in what lots of one target write together.
pub(super) type Together = Member<Parcel, Result<Vec<u32>, Trouble>>;

/// A copy of some shards from one node to another.
pub(in crate::replicas) struct Lot<'a> {
    state: &'a Arc<ClusterState>,
    entry: &'a Arc<IndexEntry>,
    source: NodeId,
    target: NodeId,
    shards: ShardSet,
    filling: Arc<Filling>,
    size: PageSize,
    pages: BTreeMap<Number, Page>,
    failures: u32,
    written: Option<Written>,
    together: Option<Together>,
    held: Option<Instant>,
    stage: Stage,
    dirty: Dirty,
    purpose: Purpose,
}

/// What a copy is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::replicas) enum Purpose {
    /// To bring a replica up to date that missed something, as rows say.
    CatchUp,
    /// To mend single documents of a replica that missed nothing.
    Mend,
}

impl<'a> Lot<'a> {
    /// Opens a lot, and waits until source and target have ended what came before it.
    pub(in crate::replicas) async fn open(
        state: &'a Arc<ClusterState>,
        entry: &'a Arc<IndexEntry>,
        (source, target): (NodeId, NodeId),
        shards: ShardSet,
        purpose: Purpose,
    ) -> Result<Self, Trouble> {
        let index = &entry.physical;
        let (filling, turns) = state.sequencer.open_lot(index, &source, &target, shards.clone());
        let size = PageSize::default();
        let mut lot = Self {
            state,
            entry,
            source,
            target,
            shards,
            filling: Arc::new(filling),
            size,
            pages: BTreeMap::new(),
            failures: 0,
            written: None,
            together: None,
            held: None,
            stage: Stage::new("open"),
            dirty: Dirty::default(),
            purpose,
        };
        let nodes = [&lot.source, &lot.target];
        node::settle_before(state, index, nodes, turns, || lot.check()).await?;
        lot.filling.with(copying::Lot::settle_before);
        lot.hear().await?;
        Ok(lot)
    }

    /// Whether there is still something to copy, and from there.
    fn check(&self) -> Result<(), Trouble> {
        if !self.state.is_available(&self.target) {
            return Err(Trouble::blocked("node_away", self.target.to_string()));
        }
        let listed = self.state.catalog.is_listed(self.entry);
        let interrupted = self.filling.with(|lot| lot.is_interrupted());
        if !listed
            || interrupted
            || !sources::is_source(self.state, self.entry, &self.source, &self.shards)
            || self.state.staleness.load().lacks_index(&self.entry.physical, &self.target)
            || self.rows().is_empty() == (self.purpose == Purpose::CatchUp)
        {
            return Err(Trouble::Changed);
        }
        Ok(())
    }

    fn rows(&self) -> Vec<StaleReplica> {
        let mut rows = rows(self.state, &self.entry.physical, &self.target);
        rows.retain(|row| row.shard.is_some_and(|shard| self.shards.contains(shard)));
        rows
    }

    /// Copies until the target misses nothing, and clears the rows that say so. Compares when nobody
    /// else does who shares `comparing`, and writes what differs together with others.
    pub(super) async fn run(
        &mut self,
        comparing: &Semaphore,
        mut together: Option<Together>,
    ) -> Result<(), Trouble> {
        let turn = comparing.acquire().await;
        let mut up_to = self.compare(false).await?;
        drop(turn);
        if let Some(together) = &mut together {
            together.arrive().await;
        }
        self.together = together;
        self.catch_up(up_to).await?;
        self.together = None;
        up_to = self.verify(up_to).await?;
        loop {
            // Misses that are on record by now are of writes up to this number.
            let rows = self.rows();
            up_to = up_to.max(self.filling.journal(|journal, _| journal.last()));
            self.catch_up(up_to).await?;
            let nodes = [&self.source, &self.target];
            node::account_for(self.state, nodes, || self.check()).await?;
            if clear(self.state, rows).await? {
                let equal = self.filling.with(|lot| lot.counts().equal);
                metrics::counter!("miroir_copy_documents_equal_total").increment(equal);
                return Ok(());
            }
        }
    }

    /// Compares what both have, and writes what differs; or, to verify, only notes it. Returns the
    /// number of the last write that may have gone unseen.
    async fn compare(&mut self, verifies: bool) -> Result<Number, Trouble> {
        self.stage = Stage::new(if verifies { "verify" } else { "compare" });
        let mut discarded = 0;
        loop {
            // Writes of unknown extent that never stop would keep it from ever ending.
            let holds = discarded >= STARVED && self.may_hold();
            let filling = Arc::clone(&self.filling);
            let _holding = holds.then(|| filling.hold(Hold::Any));
            if self.compare_once(verifies).await? {
                return Ok(self.filling.journal(|journal, _| journal.last()));
            }
            metrics::counter!("miroir_copy_pages_discarded_total").increment(1);
            discarded += 1;
        }
    }

    /// As [`Lot::compare`]. False if a write of unknown extent came between.
    async fn compare_once(&mut self, verifies: bool) -> Result<bool, Trouble> {
        let mut pause = Pause::default();
        while !self.filling.journal(|journal, lot| journal.begin_table(lot, verifies)) {
            self.go_on(&mut pause).await?;
        }
        let mut pages = self.pages_of(&self.target);
        while let Next::Page((), page) = pages.next(|| Some(())).await? {
            self.check()?;
            self.filling
                .with(|lot| page.iter().for_each(|shown| lot.put(&shown.id, shown.content)));
        }
        self.size = pages.size();
        let mut pages = self.pages_of(&self.source);
        let filling = Arc::clone(&self.filling);
        let begin = || filling.journal(|journal, lot| journal.begin_read(lot));
        loop {
            self.room().await?;
            self.check()?;
            let (window, page) = match pages.next(begin).await? {
                Next::Page(window, page) => (window, page),
                Next::Disturbed => return Ok(false),
                Next::End => break,
            };
            if !self.admit(window, &page, &[], None).await? {
                return Ok(false);
            }
        }
        self.size = pages.size();
        let rest = self.filling.with(copying::Lot::finish_pass);
        let Some(rest) = rest else { return Ok(false) };
        self.look_for(rest.into_iter().collect(), verifies).await?;
        Ok(true)
    }

    fn pages_of<W>(&self, node: &NodeId) -> Pages<'a, W> {
        Pages::new(self.state, self.entry, node.clone(), self.shards.clone(), self.size)
    }

    /// Looks up what ids are behind hashes that only the target has, to ask the source for them.
    async fn look_for(&self, hashes: HashSet<u64>, verifies: bool) -> Result<(), Trouble> {
        let (mut offset, mut more) = (0, !hashes.is_empty());
        while more {
            let page =
                node::ids(self.state, self.entry, &self.target, &self.shards, offset).await?;
            offset += page.len();
            more = page.len() == DOCUMENTS;
            let found: Vec<Arc<str>> =
                page.into_iter().filter(|id| hashes.contains(&id_hash(id))).collect();
            self.filling.journal(|journal, lot| journal.suspect(lot, &found, verifies));
        }
        Ok(())
    }

    /// Reads ids that may differ again, until the target has what the source has, counting writes up
    /// to a number.
    async fn catch_up(&mut self, up_to: Number) -> Result<(), Trouble> {
        self.stage = Stage::new("catch_up");
        let (mut pause, mut starved) = (Pause::default(), 0);
        let filling = Arc::clone(&self.filling);
        let mut holding = None;
        loop {
            self.check()?;
            let heard = self.hear().await?;
            self.judge_doubts().await?;
            if self.filling.journal(|journal, lot| journal.is_equal(lot, up_to)) {
                self.dirty.set(0);
                return Ok(());
            }
            // A document is as large as those seen so far.
            let most = self.size.get();
            let (ids, dirty) = self.filling.with(|lot| (lot.dirty_ids(most), lot.dirty().len()));
            self.dirty.set(dirty);
            let admitted = !ids.is_empty() && self.read_again(&ids).await?;
            starved = if admitted || dirty == 0 { 0 } else { starved + 1 };
            if starved >= STARVED && holding.is_none() && self.may_hold() {
                // Writes that depend on what is there come faster than they end.
                let hot = self.filling.with(|lot| lot.dirty().take(DOCUMENTS).cloned().collect());
                holding = Some(filling.hold(Hold::Ids(hot)));
            } else if admitted {
                holding = None;
            }
            if admitted || heard {
                pause = Pause::default();
            } else {
                pause.wait().await;
            }
        }
    }

    async fn read_again(&mut self, ids: &[Arc<str>]) -> Result<bool, Trouble> {
        self.room().await?;
        let window = self.filling.journal(|journal, lot| journal.begin_read(lot));
        let Some(window) = window else { return Ok(false) };
        let (state, entry, source) = (self.state, self.entry, self.source.clone());
        let which = Which::Ids(ids);
        let (page, _) =
            node::read(state, entry, &source, &self.shards, which, &mut self.size).await?;
        let target = self.target.clone();
        let (has, _) =
            node::read(state, entry, &target, &self.shards, which, &mut self.size).await?;
        let has = has.into_iter().map(|shown| (shown.id, shown.content)).collect();
        let found: HashSet<&str> = page.iter().map(|shown| &*shown.id).collect();
        let absent: Vec<Arc<str>> =
            ids.iter().filter(|id| !found.contains(&***id)).cloned().collect();
        self.admit(window, &page, &absent, Some(&has)).await
    }

    /// Writes what of a page may be written. False if the page is worth nothing.
    async fn admit(
        &mut self,
        window: Window,
        page: &[Shown],
        absent: &[Arc<str>],
        target: Option<&HashMap<Arc<str>, Content>>,
    ) -> Result<bool, Trouble> {
        // Whoever has the index to himself may be deleting it, and a write would make it anew.
        let gate = self.state.sequencer.enter(&self.entry.physical).await;
        self.check()?;
        let documents: Vec<_> =
            page.iter().map(|shown| (Arc::clone(&shown.id), shown.content)).collect();
        let judged = copying::Page { documents: &documents, absent, target };
        let admitted = self.filling.admit(&gate, &self.target, window, &judged);
        let Some((admission, mut ticket)) = admitted else { return Ok(false) };
        let Some(number) = admission.number else { return Ok(true) };
        let write: Vec<&Shown> = admission.write.iter().map(|at| &page[*at]).collect();
        let delete: Vec<&Arc<str>> = admission.delete.iter().map(|at| &absent[*at]).collect();
        let ids = write.iter().map(|shown| &shown.id).chain(delete.iter().copied()).cloned();
        let written = self.written.take().unwrap_or(Written::Few(HashSet::new()));
        self.written = Some(written.and(ids));
        let together = self.together.take().filter(|_| delete.is_empty());
        let open = if let Some(together) = together {
            let documents = write.into_iter().cloned().collect();
            let parcel = Parcel { number, turn: ticket, documents };
            together.hand_in(parcel, |all| self.send(all)).await.ok_or(Trouble::Changed)??
        } else {
            ticket.turn().await;
            let (state, entry, target) = (self.state, self.entry, &self.target);
            let mut uids = node::write(state, entry, target, &write).await?;
            if !delete.is_empty() {
                uids.extend(node::delete(state, entry, target, &delete).await?);
            }
            drop(ticket);
            uids
        };
        drop(gate);
        self.pages.insert(number, Page { open, failed: false });
        Ok(true)
    }

    /// Writes what several copies found with one call, and answers each.
    async fn send(&self, mut parcels: Vec<Parcel>) -> Vec<Result<Vec<u32>, Trouble>> {
        parcels.sort_by_key(|parcel| parcel.number);
        // Those in between touch none of the ids of the ones behind them: they were not admitted else.
        if let Some(first) = parcels.first_mut() {
            first.turn.turn().await;
        }
        let all: Vec<&Shown> = parcels.iter().flat_map(|parcel| &parcel.documents).collect();
        let mut sent = node::write(self.state, self.entry, &self.target, &all).await;
        let answer = |_| match &mut sent {
            Ok(uids) => Ok(uids.clone()),
            Err(trouble) => Err(std::mem::replace(trouble, Trouble::Changed)),
        };
        parcels.iter().map(answer).collect()
    }

    /// Waits until the target may be given another page.
    async fn room(&mut self) -> Result<(), Trouble> {
        let mut pause = Pause::default();
        while self.pages.len() >= TASKS {
            self.go_on(&mut pause).await?;
        }
        Ok(())
    }

    /// Waits a little for what is under way.
    async fn go_on(&mut self, pause: &mut Pause) -> Result<(), Trouble> {
        self.check()?;
        if self.hear().await? {
            *pause = Pause::default();
        } else {
            pause.wait().await;
        }
        Ok(())
    }

    /// Asks both nodes how writes and pages ended. Returns whether some did.
    async fn hear(&mut self) -> Result<bool, Trouble> {
        let mut any = false;
        for node in [self.source.clone(), self.target.clone()] {
            loop {
                let open = self.filling.journal(|journal, _| journal.unfinished_at(&node, UIDS));
                let uids: Vec<u32> = open.iter().map(|(_, uid)| *uid).collect();
                if uids.is_empty() {
                    break;
                }
                let ends = node::ends(self.state, &node, &uids).await?;
                self.filling.journal(|journal, _| {
                    for (number, uid) in &open {
                        if let Some(outcome) = ends.get(uid) {
                            journal.task_ended(*number, &node, *uid, *outcome);
                        }
                    }
                });
                any |= !ends.is_empty();
                if ends.len() < UIDS {
                    break;
                }
            }
        }
        any |= self.hear_pages().await?;
        Ok(any)
    }

    async fn hear_pages(&mut self) -> Result<bool, Trouble> {
        let uids: Vec<u32> = self.pages.values().flat_map(|page| page.open.clone()).collect();
        if uids.is_empty() {
            return Ok(false);
        }
        let ends = node::ends(self.state, &self.target, &uids).await?;
        for page in self.pages.values_mut() {
            page.failed |= page
                .open
                .iter()
                .any(|uid| ends.get(uid).is_some_and(|end| *end != Outcome::Succeeded));
            page.open.retain(|uid| !ends.contains_key(uid));
        }
        let done: Vec<(Number, bool)> = self
            .pages
            .iter()
            .filter(|(_, page)| page.open.is_empty())
            .map(|(number, page)| (*number, page.failed))
            .collect();
        for (number, failed) in done {
            self.pages.remove(&number);
            self.filling.with(|lot| lot.page_ended(number, !failed));
            self.failures += u32::from(failed);
        }
        if self.failures == FAILURES {
            return Err(Trouble::blocked("target_refuses", "it fails what is copied to it"));
        }
        Ok(!ends.is_empty())
    }

    /// A write that the source failed and the target did: which of them is right is known when the
    /// client's task is over.
    async fn judge_doubts(&self) -> Result<(), Trouble> {
        for task in self.filling.with(|lot| lot.doubts().to_vec()) {
            let record = self.state.stores.tasks.get(task).await?;
            if record.is_none_or(|record| record.status.is_terminal()) {
                self.filling.with(|lot| lot.no_doubt(task));
            }
        }
        Ok(())
    }

    /// Waits until it is known of every write that only the source failed which of both is right.
    pub(super) async fn end_doubts(&self) -> Result<(), Trouble> {
        let mut pause = Pause::default();
        while self.filling.with(|lot| !lot.doubts().is_empty()) {
            self.judge_doubts().await?;
            pause.wait().await;
        }
        Ok(())
    }

    /// Whether writes may be held back: not too often, and only if those before them end soon.
    fn may_hold(&mut self) -> bool {
        let few = [&self.source, &self.target].into_iter().all(|node| {
            self.filling.journal(|journal, _| journal.unfinished_at(node, FEW).len()) < FEW
        });
        let rested = self.held.is_none_or(|at| at.elapsed() >= BETWEEN_HOLDS);
        if few && rested {
            self.held = Some(Instant::now());
        }
        few && rested
    }
}
