//! Tasks that nobody here gave a node: somebody writes to it past Miroir, or a call arrived that its
//! sender had given up, perhaps a process that leads no more.
//!
//! Nodes number their tasks without gaps, so each uid that no call of this process was given is looked
//! up. A task that may have changed an index of the catalogue puts that replica in doubt: it is not
//! read before it was compared with one that is not. Where no other replica is complete it waits for
//! one, and stays read meanwhile; where there is none at all, nothing can be compared.
//!
//! # Metrics
//! `miroir_foreign_tasks_total`.

mod changed;
mod doubt;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _, join_all};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use miroir_api::meili::TaskStatus;
use miroir_api::{NodeId, ShardId, TaskUid};
use miroir_core::topology::{Health, Node};
use miroir_pipeline::cluster::ClusterState;
use miroir_pipeline::error::Error;
use miroir_pipeline::index::scatter::Tags;
use miroir_store::{NodeTask, TaskRecord};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::node_tasks::{NodeTaskView, ask};
use changed::Changed;
use doubt::{Left, Swept};

/// How often it is looked whether there are such tasks, which asks nobody anything.
const TICK: Duration = Duration::from_millis(100);
/// How often a node is asked again about the same tasks.
const LOOK: Duration = Duration::from_secs(1);
/// Looks that end within this time are judged together, so that one node keeps the others waiting no
/// longer.
const TOGETHER: Duration = Duration::from_millis(250);
/// How long one look at a node may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Tasks of a node that are looked up at a time.
const BATCH: usize = 200;
/// What the tags of Miroir's own calls begin with.
const TAG: &str = "miroir:";

/// A node, and its tasks that nobody here gave it.
type Found = (NodeId, Vec<NodeTaskView>);

/// Looks for such tasks until cancelled.
pub async fn run(state: Arc<ClusterState>, stop: CancellationToken) {
    let mut looks = Looks::default();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = looks.go_on(&state) => {}
        }
    }
}

/// When a node was looked at, and the newest of the tasks that it was asked about.
#[derive(Debug)]
struct Looked {
    at: Instant,
    newest: u32,
    open: bool,
}

/// The looks that are under way, and those that were.
#[derive(Default)]
struct Looks {
    open: FuturesUnordered<BoxFuture<'static, Found>>,
    nodes: BTreeMap<NodeId, Looked>,
}

impl Looks {
    /// Begins looks where they are due, and puts in doubt what was changed by what those found that
    /// have ended.
    async fn go_on(&mut self, state: &Arc<ClusterState>) {
        sleep(TICK).await;
        for node in nodes(state) {
            if let Some(newest) = self.is_due(state, &node) {
                let looked = Looked { at: Instant::now(), newest, open: true };
                self.nodes.insert(node.clone(), looked);
                let state = Arc::clone(state);
                let look = async move { found(&state, node, PATIENCE).await };
                self.open.push(look.boxed());
            }
        }
        let end = Instant::now() + TOGETHER;
        let mut ended = Vec::new();
        while let Ok(Some(found)) = timeout_at(end, self.open.next()).await {
            if let Some(looked) = self.nodes.get_mut(&found.0) {
                looked.open = false;
            }
            ended.push(found);
        }
        settle_all(state, ended).await;
    }

    /// The newest task to ask a node about, if it was not asked yet, or is to be asked again.
    fn is_due(&self, state: &ClusterState, node: &NodeId) -> Option<u32> {
        let (over, open) = unexplained(state, node);
        let newest = over.last().into_iter().chain(open.last()).copied().max()?;
        let before = self.nodes.get(node);
        let again = |looked: &Looked| newest > looked.newest || looked.at.elapsed() >= LOOK;
        before.is_none_or(|looked| !looked.open && again(looked)).then_some(newest)
    }
}

/// The nodes that are looked at.
fn nodes(state: &ClusterState) -> Vec<NodeId> {
    let counts =
        |node: &&Node| node.health != Health::Failed && state.lives.foreign(&node.id).is_none();
    state.membership.topology().nodes().filter(counts).map(|node| node.id.clone()).collect()
}

async fn found(state: &ClusterState, node: NodeId, patience: Duration) -> Found {
    let found = timeout(patience, look(state, &node)).await;
    (node, found.ok().and_then(Result::ok).unwrap_or_default())
}

/// Looks once at every node that counts, each for so long at most, and puts in doubt what was
/// changed.
pub(crate) async fn round(state: &ClusterState, patience: Duration) {
    let looks = nodes(state).into_iter().map(|node| found(state, node, patience));
    settle_all(state, join_all(looks).await).await;
}

/// Looks into what was found at the same time.
async fn settle_all(state: &ClusterState, found: Vec<Found>) {
    let given = state.nodes.pool.given();
    // What waits for another replica that is complete is compared with none that is in doubt itself
    // since this look.
    let waits = |node: &NodeId, task: &NodeTaskView| given.waits(node, task.uid);
    let (mut late, mut fresh) = (Vec::new(), Vec::new());
    for (node, tasks) in found {
        let (old, new): (Vec<_>, Vec<_>) = tasks.into_iter().partition(|task| waits(&node, task));
        late.push((node.clone(), old));
        fresh.push((node, new));
    }
    for mut found in [fresh, late] {
        // Of two replicas in doubt the one that got less is compared with the other.
        found.sort_by_key(|(_, tasks)| tasks.len());
        for (node, tasks) in found {
            let mut swept = Swept::default();
            for task in tasks {
                settle(state, &node, &task, &mut swept).await;
            }
        }
    }
}

/// Accounts for the tasks of a node that was away, before it is read again: a call that nobody waited
/// for any more may have arrived before it went. What cannot be decided yet is left to later rounds.
///
/// # Errors
/// When the node does not show its tasks.
pub(crate) async fn account_for(state: &ClusterState, node: &NodeId) -> Result<(), Error> {
    loop {
        let (mut left, mut swept) = (true, Swept::default());
        for task in look(state, node).await? {
            left &= !settle(state, node, &task, &mut swept).await;
        }
        if left {
            return Ok(());
        }
    }
}

/// The newest task of a node.
///
/// # Errors
/// When the node does not show it.
pub(crate) async fn newest(state: &ClusterState, node: &NodeId) -> Result<Option<u32>, Error> {
    let newest = ask(state, node, "limit=1").await?.first().map(|task| task.uid);
    if let Some(uid) = newest {
        state.membership.task_uids.saw(node, uid);
    }
    Ok(newest)
}

/// Whether it is known of all tasks of a node up to one whose they are, or that what they changed cannot
/// be compared yet; looks into those of which it is not.
///
/// # Errors
/// When the node does not show its tasks.
pub(crate) async fn has_accounted(
    state: &ClusterState,
    node: &NodeId,
    up_to: u32,
) -> Result<bool, Error> {
    let given = state.nodes.pool.given();
    if !given.is_accounted(node, up_to) {
        let mut swept = Swept::default();
        for task in look(state, node).await? {
            settle(state, node, &task, &mut swept).await;
        }
    }
    Ok(given.is_accounted(node, up_to))
}

/// Looks into one task, again in a later round where it has to be. Returns whether nothing is left to do
/// about it.
async fn settle(
    state: &ClusterState,
    node: &NodeId,
    task: &NodeTaskView,
    swept: &mut Swept,
) -> bool {
    let done = judge(state, node, task, swept).await.unwrap_or_else(|error| {
        tracing::warn!(%node, task = task.uid, %error, "a task is looked into again");
        false
    });
    if done {
        state.nodes.pool.given().explained(node, task.uid);
    }
    done
}

/// The tasks of a node that nobody here gave it. What the node does not know any more is left alone.
async fn look(state: &ClusterState, node: &NodeId) -> Result<Vec<NodeTaskView>, Error> {
    let given = state.nodes.pool.given();
    let (over, open) = unexplained(state, node);
    let list: Vec<String> = over.iter().chain(&open).map(u32::to_string).collect();
    if list.is_empty() {
        return Ok(Vec::new());
    }
    let query = format!("uids={}&limit={}", list.join(","), list.len());
    let mut tasks = ask(state, node, &query).await?;
    for uid in over {
        if !tasks.iter().any(|task| task.uid == uid) {
            given.explained(node, uid);
        }
    }
    let may_be_of_open_call = |task: &NodeTaskView| {
        given.may_be_of_open_call(node, task.uid, task.custom_metadata.as_deref())
    };
    tasks.retain(|task| !open.contains(&task.uid) || !may_be_of_open_call(task));
    tasks.sort_by_key(|task| task.uid);
    Ok(tasks)
}

/// Uids of a node's tasks that nobody here gave it, as far as that is known by now, and those that a
/// call may have been given which is open for long.
fn unexplained(state: &ClusterState, node: &NodeId) -> (Vec<u32>, Vec<u32>) {
    let Some(newest) = state.membership.task_uids.highest(node) else {
        return (Vec::new(), Vec::new());
    };
    let given = state.nodes.pool.given();
    (given.unexplained(node, newest, BATCH), given.suspects(node, newest, BATCH))
}

/// Whether a tag is of a call for this store.
fn is_own(tag: &str, store: Uuid) -> bool {
    let Some(rest) = tag.strip_prefix(TAG) else { return false };
    let first = rest.split(':').next().unwrap_or_default();
    Uuid::parse_str(first).map_or(true, |of| of == store)
}

/// The task of Miroir that a tag is about.
fn task_of(tag: &str) -> Option<TaskUid> {
    tag.strip_prefix(TAG)?.split(':').find_map(|part| part.parse().ok()).map(TaskUid)
}

/// Looks into one task. Returns whether nothing is left to do about it. Documents are in doubt before
/// the task has ended: a copy waits for that.
async fn judge(
    state: &ClusterState,
    node: &NodeId,
    task: &NodeTaskView,
    swept: &mut Swept,
) -> Result<bool, Error> {
    let given = state.nodes.pool.given();
    let changed = Changed::by(task);
    let tag = task.custom_metadata.as_deref().unwrap_or_default();
    let own = is_own(tag, state.store_id.0);
    let known = |name: &&str| state.catalog.by_physical(name).is_some();
    if !changed.indexes().iter().any(known) {
        return gone(state, node, task, &changed).await.map(|()| true);
    }
    let mut shards = None;
    if own {
        match recorded(state, node, task, tag).await? {
            Recorded::Yes => return Ok(true),
            Recorded::Later => return Ok(false),
            Recorded::No(of) => shards = of,
        }
    } else if !matches!(changed, Changed::Documents { .. })
        // Of these nobody can say whose they are, and nodes are looked at when a process begins.
        && (given.is_former(node, task.uid) || given.take_lost(node))
    {
        return Ok(true);
    }
    if given.note(node, task.uid) {
        tell(node, task, own);
    }
    if !task.status.is_terminal() {
        if !matches!(changed, Changed::Documents { .. }) {
            return Ok(false);
        }
    } else if task.status != TaskStatus::Succeeded {
        return Ok(true);
    }
    let shards = given.left(node, task.uid).or(shards);
    let left = doubt::put(state, node, &changed, shards, swept).await?;
    let done = left == Left::Nothing;
    match left {
        Left::Nothing => {}
        Left::Shards(shards) => given.wait(node, task.uid, Some(shards)),
        Left::All => given.wait(node, task.uid, None),
    }
    Ok(done)
}

/// A late call made an index anew on a node that is deleted: it is deleted there once more. What was
/// never Miroir's is left alone.
async fn gone(
    state: &ClusterState,
    node: &NodeId,
    task: &NodeTaskView,
    changed: &Changed,
) -> Result<(), Error> {
    let Some(index) = changed::makes(task) else { return Ok(()) };
    if task.status.is_terminal() && task.status != TaskStatus::Succeeded {
        return Ok(());
    }
    let tag = task.custom_metadata.as_deref().unwrap_or_default();
    let own = is_own(tag, state.store_id.0);
    let ours = match task_of(tag).filter(|_| own) {
        Some(uid) => {
            let records = of_call(state, uid).await?;
            let is = |record: &TaskRecord| {
                record.physical.as_deref() == Some(index)
                    && are_of_one_task(tag, &Tags::new(state.store_id, record).of(0))
            };
            let given = |on: &NodeTask| on.node == *node && on.uid == Some(task.uid);
            records.first().is_some_and(is)
                && !records.iter().flat_map(|record| &record.nodes).any(given)
        }
        // Calls to documents have a tag, that of copies names no task.
        None => {
            (own || !matches!(changed, Changed::Documents { .. })) && state.catalog.is_gone(index)
        }
    };
    if ours {
        tracing::warn!(%node, task = task.uid, index, "a late call made a deleted index anew");
        doubt::take_away(state, node, index).await?;
    }
    Ok(())
}

/// Whether two tags are of calls of one task, and not of two that had the same number.
fn are_of_one_task(tag: &str, other: &str) -> bool {
    let task = |tag: &str| tag.rsplit_once(':').map(|(task, _)| task.to_owned());
    task(tag) == task(other)
}

/// The task that a tag is about, and those that have its calls as well.
async fn of_call(state: &ClusterState, task: TaskUid) -> Result<Vec<TaskRecord>, Error> {
    let Some(first) = state.stores.tasks.get(task).await? else { return Ok(Vec::new()) };
    let others: Vec<_> = first.calls_of().map(TaskUid).filter(|uid| *uid != task).collect();
    let mut records = vec![first];
    if !others.is_empty() {
        records.extend(state.stores.tasks.get_many(others).await?);
    }
    Ok(records)
}

/// What the registry has of a node's task.
enum Recorded {
    /// This very task.
    Yes,
    /// A task whose acknowledgement is outstanding: it is known soon.
    Later,
    /// Not this task. The shards that its call was about, where that is known.
    No(Option<Vec<ShardId>>),
}

async fn recorded(
    state: &ClusterState,
    node: &NodeId,
    task: &NodeTaskView,
    tag: &str,
) -> Result<Recorded, Error> {
    let Some(uid) = task_of(tag) else { return Ok(Recorded::No(None)) };
    let records = of_call(state, uid).await?;
    if records.first().is_none_or(|record| record.physical != task.index_uid) {
        return Ok(Recorded::No(None));
    }
    let mut shards = BTreeSet::new();
    let life = state.lives.of(node);
    for record in &records {
        for on_node in record.nodes.iter().filter(|on| on.node == *node) {
            if on_node.uid == Some(task.uid) && on_node.life == life && !on_node.dropped {
                return Ok(Recorded::Yes);
            }
            if on_node.uid.is_none() && !on_node.dropped && !record.status.is_terminal() {
                return Ok(Recorded::Later);
            }
            shards.extend(on_node.shards.iter().copied());
        }
    }
    let shards: Vec<ShardId> = shards.into_iter().collect();
    Ok(Recorded::No(Some(shards).filter(|shards| !shards.is_empty())))
}

fn tell(node: &NodeId, task: &NodeTaskView, own: bool) {
    let index = task.index_uid.as_deref().unwrap_or_default();
    if own {
        tracing::warn!(
            %node, task = task.uid, kind = task.kind, index,
            "a call arrived at the node that nobody waited for any more: its replica is compared"
        );
        return;
    }
    metrics::counter!(
        "miroir_foreign_tasks_total", "node_id" => node.to_string(), "kind" => task.kind.clone()
    )
    .increment(1);
    tracing::warn!(
        %node, task = task.uid, kind = task.kind, index,
        "somebody writes to the node past Miroir, and its replica is compared: have them use Miroir's \
         address, and give nobody else the node's keys"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_tells_whose_a_call_is() {
        let store = Uuid::new_v4();
        let other = Uuid::new_v4();
        assert!(is_own("miroir:7", store) && is_own(&format!("miroir:{store}:7:n:0"), store));
        for foreign in ["", "mine", &format!("miroir:{other}:7")] {
            assert!(!is_own(foreign, store), "{foreign}");
        }
        assert_eq!(task_of("miroir:7"), Some(TaskUid(7)));
        assert_eq!(task_of(&format!("miroir:{store}:7:n:0")), Some(TaskUid(7)));
        assert_eq!(task_of(&format!("miroir:{store}:copy")), None);
        let tag = |nonce: &str, call: u32| format!("miroir:{store}:7:{nonce}:{call}");
        assert!(are_of_one_task(&tag("n", 2), &tag("n", 0)));
        assert!(!are_of_one_task(&tag("n", 0), &tag("m", 0)));
    }
}
