//! The documents of a node, page by page. Pages are asked for before the one before them was looked
//! at, so that the node and this process work at the same time.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use miroir_api::NodeId;
use miroir_core::copying::id_hash;
use miroir_core::routing::ShardSet;
use miroir_pipeline::cluster::ClusterState;
use miroir_pipeline::error::Error;
use miroir_store::IndexEntry;
use tokio_util::task::AbortOnDropHandle;

use super::Trouble;
use super::node::{self, DOCUMENTS, PageSize, Shown, Which};

/// Pages that are asked for ahead of the one that is waited for.
const AHEAD: usize = 2;
/// Times that a listing steps back.
const STEPS_BACK: u32 = 5;

/// What [`Pages::next`] found.
#[derive(Debug)]
pub(in crate::replicas) enum Next<W> {
    /// Documents that were not seen before, and what `begin` said when they were asked for.
    Page(W, Vec<Shown>),
    /// `begin` said no: nothing can be read now.
    Disturbed,
    /// There are no more.
    End,
}

type Answer = Result<(Vec<Shown>, bool, PageSize), Trouble>;

/// A page that was asked for.
#[derive(Debug)]
struct Asked<W> {
    from: usize,
    /// Documents that it has, unless it is the last.
    count: usize,
    began: W,
    answer: AbortOnDropHandle<Answer>,
}

/// A listing of a node's documents. Documents keep their places while they live; a new one may take
/// the place of one that is gone. So each page begins with the last document of the one before it,
/// which has to be there still.
#[derive(Debug)]
pub(in crate::replicas) struct Pages<'a, W> {
    state: &'a Arc<ClusterState>,
    entry: &'a Arc<IndexEntry>,
    node: NodeId,
    shards: ShardSet,
    size: PageSize,
    offset: usize,
    anchor: Option<Arc<str>>,
    seen: HashSet<u64>,
    steps_back: u32,
    ended: bool,
    /// Whether the last page was as long as the next will be: it is known where that one begins.
    steady: bool,
    ahead: VecDeque<Asked<W>>,
    most_ahead: usize,
}

impl<'a, W> Pages<'a, W> {
    /// The documents of some shards, from the first on.
    pub(in crate::replicas) fn new(
        state: &'a Arc<ClusterState>,
        entry: &'a Arc<IndexEntry>,
        node: NodeId,
        shards: ShardSet,
        size: PageSize,
    ) -> Self {
        Self {
            state,
            entry,
            node,
            shards,
            size,
            offset: 0,
            anchor: None,
            seen: HashSet::new(),
            steps_back: 0,
            ended: false,
            steady: false,
            ahead: VecDeque::new(),
            most_ahead: AHEAD,
        }
    }

    /// Asks for no page before the one before it was looked at.
    pub(in crate::replicas) fn one_by_one(mut self) -> Self {
        self.most_ahead = 0;
        self
    }

    /// How many documents fit into a page, as far as is known.
    pub(super) fn size(&self) -> PageSize {
        self.size
    }

    /// The next page, without documents seen before. `begin` is called when a page is asked for.
    pub(in crate::replicas) async fn next(
        &mut self,
        begin: impl Fn() -> Option<W>,
    ) -> Result<Next<W>, Trouble> {
        while !self.ended {
            let from = self.offset - usize::from(self.anchor.is_some());
            let asked = match self.ahead.pop_front() {
                Some(asked) if asked.from == from => asked,
                _ => {
                    self.ahead.clear();
                    let Some(began) = begin() else { return Ok(Next::Disturbed) };
                    self.ask(from, began)
                }
            };
            self.ask_ahead(&asked, &begin);
            let Asked { began, answer, count, .. } = asked;
            let (mut page, last, size) = answer.await.map_err(Error::internal)??;
            self.steady = !last && page.len() == count && size.get() == self.size.get();
            self.size = size;
            if let Some(anchor) = self.anchor.take()
                && self.steps_back < STEPS_BACK
                && !page.iter().any(|shown| shown.id == anchor)
            {
                // Something before it was deleted: what came after is where nobody would look.
                self.steps_back += 1;
                self.offset = self.offset.saturating_sub(DOCUMENTS);
                continue;
            }
            self.offset = from + page.len();
            self.ended = last;
            self.anchor = page.last().map(|shown| Arc::clone(&shown.id));
            page.retain(|shown| self.seen.insert(id_hash(&shown.id)));
            return Ok(Next::Page(began, page));
        }
        Ok(Next::End)
    }

    fn ask(&self, from: usize, began: W) -> Asked<W> {
        let again = from > 0;
        let (state, entry) = (Arc::clone(self.state), Arc::clone(self.entry));
        let (node, shards, mut size) = (self.node.clone(), self.shards.clone(), self.size);
        let answer = tokio::spawn(async move {
            let which = Which::From(from, again);
            let (page, last) = node::read(&state, &entry, &node, &shards, which, &mut size).await?;
            Ok((page, last, size))
        });
        let count = self.size.get() + usize::from(again);
        Asked { from, count, began, answer: AbortOnDropHandle::new(answer) }
    }

    /// Asks for the pages after this one, if it is known where they begin.
    fn ask_ahead(&mut self, asked: &Asked<W>, begin: impl Fn() -> Option<W>) {
        while self.steady && self.ahead.len() < self.most_ahead {
            let before = self.ahead.back().unwrap_or(asked);
            let from = before.from + before.count - 1;
            let Some(began) = begin() else { return };
            let asked = self.ask(from, began);
            self.ahead.push_back(asked);
        }
    }
}
