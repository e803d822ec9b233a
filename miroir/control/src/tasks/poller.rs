//! The task poller: learns from nodes how their tasks went.
//!
//! A node is asked for the oldest of what it has to end, a page of uids in one request, since nodes
//! work in the order of uids. What it says of a page is applied to all tasks of the page together,
//! with one reading and one writing of the store. So a look at a node costs the same however many
//! tasks are unfinished, and a queue is followed as fast as it is worked off. Every node is asked by
//! itself: one that does not answer delays nobody.
//!
//! A task ends when every node that counts has ended its part. One that is down counts no more where
//! others can speak for it, and neither does one that has had nothing new to say for a minute while
//! others were done: a node whose disk is full tries the same task for ever. Its replicas are read
//! again when it has caught up.
//!
//! The pause between two looks at a node starts at a few milliseconds after a write and doubles up
//! to 250 ms while nothing changes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use miroir_api::{NodeId, TaskUid};
use miroir_core::topology::Health;
use miroir_pipeline::cluster::ClusterState;
use miroir_pipeline::error::Error;
use miroir_store::clock;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::node_tasks::ask;
use crate::tasks::advance::{Page, Progress, advance};
use crate::tasks::parts::Loss;
use crate::tasks::{late, recover, registry};

/// Uids per request.
const BATCH: usize = 200;
/// Requests in a row while a node has ended all of a page.
const PAGES: usize = 5;
/// Tasks looked at in one go for which no node is asked.
const OWN: usize = 200;
const FASTEST: Duration = Duration::from_millis(4);
const SLOWEST: Duration = Duration::from_millis(250);
/// Pause before what a node that is down took is gone through again.
const AGAIN: Duration = Duration::from_secs(1);
/// How long a node may say nothing new of a task that others have done, before it is left behind.
const STUCK: Duration = Duration::from_mins(1);
/// How often it is written down when indexes were last updated, and how far nodes have counted.
const TOUCH: Duration = Duration::from_secs(1);

/// When something is looked at next.
#[derive(Clone, Copy, Debug)]
struct Pace {
    due: Instant,
    pause: Duration,
}

impl Pace {
    fn now() -> Self {
        Self { due: Instant::now(), pause: FASTEST }
    }

    fn is_due(self) -> bool {
        self.due <= Instant::now()
    }

    /// After a look that brought something new, or not.
    fn step(&mut self, changed: bool) {
        self.pause = if changed { FASTEST } else { (self.pause * 2).min(SLOWEST) };
        self.due = Instant::now() + self.pause;
    }

    fn wake(&mut self) {
        self.pause = FASTEST;
        self.due = self.due.min(Instant::now() + FASTEST);
    }
}

/// What is known of following one node.
#[derive(Debug)]
struct Follow {
    pace: Pace,
    asking: bool,
    /// Where the next page of what it took begins, while it is down.
    from: u32,
    /// When it last had something new to say.
    news: Instant,
    /// When it is looked next for parts that it is left behind with.
    behind: Instant,
}

/// Follows the unfinished tasks of the registry.
#[derive(Debug)]
struct Poller {
    state: Arc<ClusterState>,
    asks: JoinSet<(NodeId, Page)>,
    nodes: BTreeMap<NodeId, Follow>,
    /// Of tasks for which no node is asked.
    own: Pace,
    after: Option<TaskUid>,
    touch: Instant,
    /// After a failure of the store.
    not_before: Instant,
}

/// Polls until cancelled.
pub async fn run(state: Arc<ClusterState>, stop: CancellationToken) {
    // Looked into beside the others: nodes that do not say what became of a call hold up nothing else.
    tokio::join!(follow(&state, &stop), recover::run(&state, &stop));
}

async fn follow(state: &Arc<ClusterState>, stop: &CancellationToken) {
    let mut poller = Poller::new(Arc::clone(state));
    loop {
        poller.begin().await;
        let next = poller.next();
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(said) = poller.asks.join_next() => poller.take(said).await,
            () = state.signals.tasks.notified() => poller.wake(),
            () = sleep_until(next), if poller.has_work() => {}
        }
    }
    if let Err(error) = write_down(state).await {
        tracing::debug!(%error, "when indexes were updated is not written");
    }
}

/// What one round achieved.
#[derive(Clone, Copy, Debug)]
pub struct PollRound {
    /// Whether the record of some task changed.
    pub changed: bool,
    /// Whether some task is not terminal.
    pub outstanding: bool,
}

/// One look at every node that has something outstanding, waiting for all of them.
///
/// # Errors
/// When the store fails. Nodes that fail are asked again in the next round.
pub async fn round(state: &Arc<ClusterState>) -> Result<PollRound, Error> {
    let mut poller = Poller::new(Arc::clone(state));
    let mut progress = poller.look().await?;
    while let Some(Ok((node, page))) = poller.asks.join_next().await {
        progress.join(poller.apply(&node, page).await?);
    }
    progress.join(poller.look_at_own().await?);
    write_down(state).await?;
    Ok(PollRound { changed: progress.changed, outstanding: !state.open_tasks.is_empty() })
}

impl Poller {
    fn new(state: Arc<ClusterState>) -> Self {
        Self {
            state,
            asks: JoinSet::new(),
            nodes: BTreeMap::new(),
            own: Pace::now(),
            after: None,
            touch: Instant::now(),
            not_before: Instant::now(),
        }
    }

    /// Does what is due, and asks the nodes that are.
    async fn begin(&mut self) {
        publish(&self.state);
        if let Err(error) = self.read().await {
            tracing::error!(%error, "unfinished tasks could not be read");
        }
        if let Err(error) = self.look().await {
            tracing::error!(%error, "task poll failed");
            self.not_before = Instant::now() + SLOWEST;
        }
        if self.touch <= Instant::now() {
            self.touch = Instant::now() + TOUCH;
            if let Err(error) = write_down(&self.state).await {
                tracing::error!(%error, "when indexes were updated is written later");
            }
        }
    }

    /// Reads what the store may have otherwise than it is known here.
    async fn read(&self) -> Result<(), Error> {
        let open = &self.state.open_tasks;
        if !open.take_doubt() {
            return Ok(());
        }
        let read = registry::read(&self.state.stores.tasks, open).await;
        if read.is_err() {
            open.doubt();
        }
        Ok(read?)
    }

    async fn look(&mut self) -> Result<Progress, Error> {
        late::record(&self.state).await?;
        let mut progress = Progress::default();
        if self.own.is_due() {
            progress.join(self.look_at_own().await?);
        }
        let topology = self.state.membership.topology();
        let nodes = self.state.open_tasks.nodes();
        self.nodes.retain(|node, follow| follow.asking || nodes.contains(node));
        for node in nodes {
            progress.join(self.bury(&node).await?);
            let follow = self.nodes.entry(node.clone()).or_insert_with(|| Follow {
                pace: Pace::now(),
                asking: false,
                from: 0,
                news: Instant::now(),
                behind: Instant::now() + AGAIN,
            });
            if follow.asking || !follow.pace.is_due() {
                continue;
            }
            if topology.node(&node).is_none_or(|known| known.health == Health::Failed) {
                progress.join(self.leave(&node).await?);
                continue;
            }
            follow.from = 0;
            if follow.behind <= Instant::now() {
                follow.behind = Instant::now() + AGAIN;
                let quiet = follow.news.elapsed() >= STUCK;
                progress.join(self.overtake(&node, quiet).await?);
            }
            if let Some(follow) = self.nodes.get_mut(&node) {
                follow.asking = true;
            }
            let (state, node) = (Arc::clone(&self.state), node.clone());
            self.asks.spawn(async move {
                let page = head(&state, &node).await;
                (node, page)
            });
        }
        Ok(progress)
    }

    /// Drops what a node was given in lives that are over, which it is not asked for: its uids are
    /// others' by now.
    async fn bury(&self, node: &NodeId) -> Result<Progress, Error> {
        let mut progress = Progress::default();
        loop {
            let life = self.state.lives.of(node);
            let tasks = self.state.open_tasks.of_other_lives(node, life, BATCH);
            let step = advance(&self.state, tasks, None).await?;
            progress.join(step);
            if !step.changed {
                return Ok(progress);
            }
        }
    }

    /// Goes on with tasks for which no node is asked: they wait for others, or all nodes are done.
    async fn look_at_own(&mut self) -> Result<Progress, Error> {
        let tasks = self.state.open_tasks.idle(self.after, OWN);
        self.after = tasks.last().copied().filter(|_| tasks.len() == OWN);
        self.own.due = Instant::now() + SLOWEST;
        let progress = advance(&self.state, tasks.into_iter().collect(), None).await?;
        if progress.changed || self.after.is_some() {
            self.own.wake();
        }
        Ok(progress)
    }

    /// A node that is down stops counting for what others can speak for.
    async fn leave(&mut self, node: &NodeId) -> Result<Progress, Error> {
        let Some(follow) = self.nodes.get_mut(node) else { return Ok(Progress::default()) };
        let life = self.state.lives.of(node);
        let parts = self.state.open_tasks.head(node, life, follow.from, BATCH);
        let Some(last) = parts.last() else {
            follow.from = 0;
            follow.pace.due = Instant::now() + AGAIN;
            return Ok(Progress::default());
        };
        let next = last.uid.saturating_add(1);
        let page = Page::lost(life, &parts, Loss::Down);
        let progress =
            advance(&self.state, parts.iter().map(|part| part.task).collect(), Some((node, &page)))
                .await?;
        follow.from = next;
        follow.pace = Pace::now();
        Ok(progress)
    }

    /// A node that goes on without ending anything, or whose replicas are waited for already, stops
    /// counting for what others have done.
    async fn overtake(&self, node: &NodeId, quiet: bool) -> Result<Progress, Error> {
        let (age, loss) = if quiet { (STUCK, Loss::Stuck) } else { (Duration::ZERO, Loss::Behind) };
        if !quiet && !self.state.staleness.load().rows().any(|row| row.node == *node) {
            return Ok(Progress::default());
        }
        let life = self.state.lives.of(node);
        let parts = self.state.open_tasks.outdone(node, life, BATCH, age);
        if parts.is_empty() {
            return Ok(Progress::default());
        }
        if quiet {
            tracing::warn!(%node, tasks = parts.len(), "a node ends nothing: nobody waits for it");
        }
        let page = Page::lost(life, &parts, loss);
        advance(&self.state, page.tasks(), Some((node, &page))).await
    }

    /// Applies what a node said.
    async fn take(&mut self, said: Result<(NodeId, Page), JoinError>) {
        match said {
            Ok((node, page)) => {
                if let Err(error) = self.apply(&node, page).await {
                    tracing::error!(%error, "task poll failed");
                }
            }
            Err(error) => {
                // Nobody knows which: all are asked anew.
                tracing::error!(%error, "a node could not be asked");
                self.asks.abort_all();
                self.asks = JoinSet::new();
                self.nodes.clear();
                self.not_before = Instant::now() + SLOWEST;
            }
        }
    }

    async fn apply(&mut self, node: &NodeId, page: Page) -> Result<Progress, Error> {
        // What a node said in a life that is over is not about what it was given since.
        let progress = if page.is_empty() || page.life() != self.state.lives.of(node) {
            Ok(Progress::default())
        } else {
            advance(&self.state, page.tasks(), Some((node, &page))).await
        };
        let changed = progress.as_ref().is_ok_and(|progress| progress.changed);
        if let Some(follow) = self.nodes.get_mut(node) {
            follow.asking = false;
            follow.pace.step(changed);
            if changed {
                follow.news = Instant::now();
            }
        }
        if progress.as_ref().is_ok_and(|progress| progress.ended) {
            // Something may have waited for it.
            self.own.wake();
        }
        progress
    }

    /// There is something new to follow.
    fn wake(&mut self) {
        self.own.wake();
        for follow in self.nodes.values_mut() {
            follow.pace.wake();
        }
    }

    /// Whether anything will be due that nobody has to tell of.
    fn has_work(&self) -> bool {
        !self.state.open_tasks.is_empty() || self.state.catalog.has_updates()
    }

    /// When something is due next.
    fn next(&self) -> Instant {
        let nodes = self.nodes.values().filter(|follow| !follow.asking);
        let next = nodes.map(|follow| follow.pace.due).min();
        let next = next.map_or(self.own.due, |next| next.min(self.own.due)).min(self.touch);
        next.max(self.not_before)
    }
}

/// Asks a node for the oldest of what it has to end.
async fn head(state: &ClusterState, node: &NodeId) -> Page {
    let life = state.lives.of(node);
    let mut page = Page::new(life);
    let mut from = 0;
    for _ in 0..PAGES {
        let parts = state.open_tasks.head(node, life, from, BATCH);
        let Some(last) = parts.last() else { break };
        from = last.uid.saturating_add(1);
        // Several tasks may wait for one of the node's.
        let mut uids: Vec<u32> = parts.iter().map(|part| part.uid).collect();
        uids.dedup();
        let uids: Vec<String> = uids.iter().map(u32::to_string).collect();
        let query = format!("uids={}&limit={}", uids.join(","), uids.len());
        let Ok(seen) = ask(state, node, &query).await else { break };
        let ended = page.note(&parts, seen);
        // What it works on is on this page, or there is nothing after it.
        if !ended || parts.len() < BATCH {
            break;
        }
    }
    if page.misses() {
        let newest = newest(state, node).await;
        page.judge(newest);
    }
    page
}

/// The newest uid of a node, unless it may have lost its disk: then its health check finds out.
async fn newest(state: &ClusterState, node: &NodeId) -> Option<u32> {
    let newest = ask(state, node, "limit=1").await.ok()?.first()?.uid;
    state.membership.task_uids.is_verified(node).then_some(newest)
}

/// Writes down what may be a second old: when indexes were last updated, and how far nodes have
/// counted, so that an older copy of a disk is known by it after a restart.
async fn write_down(state: &ClusterState) -> Result<(), Error> {
    state.catalog.flush_updates().await?;
    Ok(state.lives.store_highest(&state.membership.task_uids, state.nodes.pool.given()).await?)
}

fn publish(state: &ClusterState) {
    let age = state.open_tasks.oldest().map_or(0.0, |at| (clock::now() - at).as_seconds_f64());
    metrics::gauge!("miroir_task_processing_age_seconds").set(age.max(0.0));
    metrics::gauge!("miroir_task_registry_size").set(state.open_tasks.len() as f64);
}
