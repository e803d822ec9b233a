//! What a process does about tasks that the one before left in the middle of their calls.
//!
//! Such a task is in the store with node tasks that have neither a number nor a refusal. Writes to
//! documents carry a tag of the call and are found by it; the making of an index and a proposal of
//! settings are sent again, which does no harm where they had arrived. Whoever cannot be asked
//! catches up by copying. A change of names is in the store with what is to be done, and is done once
//! more. Until that is known, the gate of the index is closed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use miroir_api::meili::{ApiError, TaskKind, TaskStatus};
use miroir_api::{NodeId, ShardId, TaskUid};
use serde_json::Value;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::broadcast::progress::proposal;
use crate::making;
use crate::naming;
use crate::node_setup::{creation_calls, node_base_settings};
use crate::node_tasks::ask;
use crate::tasks::registry;
use miroir_core::routing::ShardSet;
use miroir_core::view::CatchUp;
use miroir_pipeline::cluster::sequencer::Exclusive;
use miroir_pipeline::cluster::{ClusterState, disk_loss};
use miroir_pipeline::context::{Context, Origin};
use miroir_pipeline::error::{Error, ErrorKind, NodeFailure};
use miroir_pipeline::index::scatter::stale_marks::{self, WriteOutcome};
use miroir_pipeline::index::scatter::{Tags, catalog_sync};
use miroir_pipeline::node::Call;
use miroir_pipeline::node_errors;
use miroir_store::open_tasks::LostTask;
use miroir_store::{IndexEntry, StoreError, TaskProtocol, TaskQuery, TaskRecord, clock};

/// Tasks that a node is asked for at a time.
const PAGE: usize = 1000;

fn is_lost(record: &TaskRecord) -> bool {
    record.nodes.iter().any(|n| n.uid.is_none() && !n.dropped)
}

/// Closes the gates of the indexes that tasks with lost calls are about.
///
/// Until [`step`] has looked into them nobody knows which replicas have these writes, so a copy could
/// take the one that has not for the good one, and undo a write on the others.
///
/// # Errors
/// When the store fails.
pub(crate) async fn hold(state: &ClusterState) -> Result<BTreeMap<String, Exclusive>, StoreError> {
    state.open_tasks.clear();
    registry::read(&state.stores.tasks, &state.open_tasks).await?;
    let lost: BTreeSet<String> =
        state.open_tasks.lost().into_iter().flat_map(|task| task.gates).collect();
    let mut held = BTreeMap::new();
    for index in lost {
        let gate = state.sequencer.exclusive(&index).await;
        held.insert(index, gate);
    }
    Ok(held)
}

/// How often it is looked for tasks with lost calls.
const LOOK: Duration = Duration::from_secs(1);
/// Longest pause before a task is looked into again.
const LONGEST: Duration = Duration::from_secs(30);
/// How often nodes are asked to make an index that they refuse. About two minutes.
const TRIES: u32 = 8;
/// Longer than it takes to hear from a store.
const AGE: Duration = Duration::from_secs(30);

/// Looks into tasks with lost calls until cancelled.
pub(super) async fn run(state: &Arc<ClusterState>, stop: &CancellationToken) {
    let (mut tries, mut idle) = (Tries::default(), making::Idle::default());
    loop {
        let look = async {
            if let Err(error) = Box::pin(step(state, &mut tries)).await {
                tracing::error!(%error, "unfinished tasks could not be looked into");
            }
            if let Err(error) = making::tidy(state, &mut idle).await {
                tracing::error!(%error, "provisional indexes could not be looked at");
            }
            sleep(LOOK).await;
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = look => {}
        }
    }
}

/// Tasks with lost calls, and what was tried.
#[derive(Debug, Default)]
struct Tries(BTreeMap<TaskUid, Tried>);

/// Since when a task is known to have lost calls, how often it could not be looked into, and when
/// that is tried again.
#[derive(Debug)]
struct Tried {
    since: Instant,
    failed: u32,
    due: Instant,
}

impl Tries {
    /// Begins or goes on with these tasks, and forgets all others.
    fn keep(&mut self, lost: &[LostTask]) {
        self.0.retain(|task, _| lost.iter().any(|lost| lost.uid == *task));
        let now = Instant::now();
        for lost in lost {
            self.0.entry(lost.uid).or_insert(Tried { since: now, failed: 0, due: now });
        }
    }

    fn age(&self, task: TaskUid) -> Duration {
        self.0.get(&task).map_or(Duration::ZERO, |tried| tried.since.elapsed())
    }

    fn of(&self, task: TaskUid) -> u32 {
        self.0.get(&task).map_or(0, |tried| tried.failed)
    }

    fn is_due(&self, task: TaskUid) -> bool {
        self.0.get(&task).is_none_or(|tried| tried.due <= Instant::now())
    }

    fn failed(&mut self, task: TaskUid) {
        let Some(tried) = self.0.get_mut(&task) else { return };
        let pause = LOOK.saturating_mul(1 << tried.failed.min(5)).min(LONGEST);
        tried.failed = tried.failed.saturating_add(1);
        tried.due = Instant::now() + pause;
    }
}

/// Finds out what became of calls whose acknowledgement was lost, with a process or on the way to
/// the store, carries out changes of names that were cut off, and opens the gates that [`hold`]
/// closed. Where no node can say what became of a task, the gate of its index stays closed, and what
/// comes after it in this index waits; the others go on.
async fn step(state: &Arc<ClusterState>, tries: &mut Tries) -> Result<(), Error> {
    let mut closed = BTreeSet::new();
    let lost = state.open_tasks.lost();
    tries.keep(&lost);
    for LostTask { uid, gates } in lost {
        // What this process itself has under way is not lost, but for a task of which it was told
        // that it could not be stored: then nobody makes its calls.
        let own = state.recovery.is_own(uid);
        let under_way = own && (state.writes_in_flight.contains(uid) || tries.age(uid) <= AGE);
        if under_way {
            continue;
        }
        let mut done = tries.is_due(uid) && closed.is_disjoint(&gates);
        if done && let Some(record) = state.stores.tasks.get(uid).await? {
            if record.status.is_terminal() {
                state.open_tasks.forget(uid);
            } else if let Err(error) = look_into(state, record, own, tries.of(uid)).await {
                tracing::warn!(task = %uid, %error, "a task is looked into again later");
                tries.failed(uid);
                done = false;
            }
        }
        if !done && !own {
            closed.extend(gates);
        }
    }
    state.recovery.open_all_but(|index| closed.contains(index));
    Ok(())
}

async fn look_into(
    state: &Arc<ClusterState>,
    mut record: TaskRecord,
    own: bool,
    tries: u32,
) -> Result<(), Error> {
    if record.intent().is_some() {
        if !own {
            return naming::carry_out(state, record, true).await.map(|_| ());
        }
        // Its client was told that it could not be stored, and may have sent it again.
        record.end(TaskStatus::Failed, clock::now());
        record.error = Some(ApiError::new("internal", "It was not known to be stored. Retry."));
        record.protocol = TaskProtocol::default();
        return Ok(state.stores.tasks.update(record).await?);
    }
    if is_lost(&record) && !(own && record.kind == TaskKind::IndexCompaction) {
        one(state, record, tries).await?;
    }
    Ok(())
}

/// Looks into one task, of which that failed so many times before.
async fn one(state: &Arc<ClusterState>, mut record: TaskRecord, tries: u32) -> Result<(), Error> {
    disk_loss::drop_former(state, &mut record);
    let tags = tags(state, &record);
    let index = record.physical.clone().unwrap_or_default();
    let mut entry = state.catalog.of_task(&record);
    if record.incarnation.is_none() {
        // Of a version that had nothing else to tell them apart by.
        entry.take_if(|entry| entry.created_at > record.enqueued_at);
    }
    // The name on the nodes may be another index's by now: what the task missed is not its business.
    let replaced = entry.is_none() && state.catalog.by_physical(&index).is_some();
    // A creation that was being taken back when the process died is taken back now. Nobody can
    // have written to the index: its gate was closed all the time.
    let unmade = record.kind == TaskKind::IndexCreation
        && state
            .staleness
            .load()
            .rows()
            .any(|row| row.index == index && row.kind == CatchUp::Deleted);
    if let Some(gone) = entry.take_if(|_| unmade || record.kind == TaskKind::IndexDeletion) {
        if unmade {
            let topology = state.membership.topology();
            catalog_sync::unmake(state, &gone, topology.nodes().map(|node| &node.id)).await?;
        } else {
            state.catalog.remove(&gone).await?;
        }
    }
    let proposal = open_proposal(state, &record).await?;
    let mut refused: Option<ApiError> = None;
    // Of each call.
    let mut answers: Vec<WriteOutcome> = Vec::new();
    for (node_task, tag) in record.nodes.iter_mut().zip(&tags) {
        if node_task.dropped || node_task.uid.is_some() {
            let took =
                if node_task.dropped { WriteOutcome::Rejected } else { WriteOutcome::Accepted };
            answers.push(took);
            continue;
        }
        let node = &node_task.node;
        let (uid, outcome) = match record.kind {
            TaskKind::DocumentAdditionOrUpdate
            | TaskKind::DocumentDeletion
            | TaskKind::DocumentEdition => match find(state, node, &index, tag).await {
                Ok(Some(uid)) => (Some(uid), WriteOutcome::Accepted),
                Ok(None) => (None, WriteOutcome::Rejected),
                Err(_) => (None, WriteOutcome::Unknown),
            },
            // Made again, which does no harm where it was made.
            TaskKind::IndexCreation => match &entry {
                Some(entry) => match remake(state, node, entry).await {
                    Ok(uid) => (Some(uid), WriteOutcome::Accepted),
                    Err(error) => {
                        refused = refused.or_else(|| words(error, entry));
                        (None, WriteOutcome::Unknown)
                    }
                },
                None => (None, WriteOutcome::Unknown),
            },
            // Proposed again, which does no harm where it was taken.
            TaskKind::SettingsUpdate => match (&entry, &proposal) {
                (Some(entry), Some(patch)) => {
                    match propose(state, node, &entry.physical, patch).await {
                        Ok(uid) => (Some(uid), WriteOutcome::Accepted),
                        Err(_) => (None, WriteOutcome::Unknown),
                    }
                }
                _ => (None, WriteOutcome::Unknown),
            },
            _ => (None, WriteOutcome::Unknown),
        };
        node_task.uid = uid;
        node_task.life = state.lives.of(node);
        node_task.dropped = uid.is_none();
        answers.push(outcome);
    }
    let mut outcomes: BTreeMap<NodeId, WriteOutcome> = BTreeMap::new();
    for (task, outcome) in record.nodes.iter().zip(&answers) {
        let all = outcomes.entry(task.node.clone()).or_insert(*outcome);
        *all = all.and(*outcome);
    }
    let outcome_of = |node: &NodeId| outcomes.get(node).copied().unwrap_or(WriteOutcome::Rejected);
    let well = |node: &NodeId| state.is_available(node);
    // It may have been acknowledged.
    let doubted = |_: &NodeId| false;
    let took = outcomes.values().any(|outcome| *outcome == WriteOutcome::Accepted);
    if record.kind == TaskKind::IndexCreation
        && !took
        && let Some(entry) = &entry
    {
        if refused.is_none() || tries < TRIES {
            return Err(Error::internal("no node makes the index of an unfinished task"));
        }
        // Nobody can have written to it: its gate was closed all the time.
        catalog_sync::unmake(state, entry, outcomes.keys()).await?;
        record.error = refused;
        record.end(TaskStatus::Failed, clock::now());
        return Ok(state.stores.tasks.update(record).await?);
    }
    let touched: Vec<_> = record.nodes.iter().flat_map(|n| n.shards.iter().copied()).collect();
    state
        .staleness
        .mark_by(|stale| {
            let rows = match (record.kind, &entry) {
                (
                    TaskKind::DocumentAdditionOrUpdate
                    | TaskKind::DocumentDeletion
                    | TaskKind::DocumentEdition,
                    Some(entry),
                ) => {
                    let placement = state.membership.topology().placement(entry.shards);
                    // A node may have got one call of several, each of which has its own shards.
                    let in_shard = |shard: ShardId| {
                        let calls = record.nodes.iter().zip(&answers);
                        let about = calls.filter(move |(task, _)| task.shards.contains(&shard));
                        move |node: &NodeId| {
                            let own = about.clone().filter(|(task, _)| task.node == *node);
                            own.map(|(_, outcome)| *outcome)
                                .reduce(WriteOutcome::and)
                                .unwrap_or(WriteOutcome::Rejected)
                        }
                    };
                    let touched = ShardSet::from_iter(touched, entry.shards);
                    let rows = touched.iter().flat_map(|shard| {
                        let one = ShardSet::single(shard, entry.shards);
                        stale_marks::documents(
                            stale,
                            &placement,
                            &index,
                            &one,
                            well,
                            doubted,
                            in_shard(shard),
                        )
                    });
                    rows.collect()
                }
                (TaskKind::SettingsUpdate, Some(entry)) => {
                    let placement = state.membership.topology().placement(entry.shards);
                    let nodes = outcomes.keys();
                    stale_marks::settings(
                        stale, &placement, &index, nodes, well, doubted, outcome_of,
                    )
                }
                (TaskKind::IndexCreation, Some(_)) => {
                    stale_marks::whole(&index, CatchUp::Index, outcomes.keys(), outcome_of)
                }
                (TaskKind::IndexDeletion, None) if !replaced => {
                    stale_marks::whole(&index, CatchUp::Deleted, outcomes.keys(), outcome_of)
                }
                _ => Vec::new(),
            };
            (rows, ())
        })
        .await?;
    if record.kind == TaskKind::IndexDeletion && !took {
        // The catalogue has it already; the repairer sees to the nodes.
        record.end(TaskStatus::Succeeded, clock::now());
    }
    Ok(state.stores.tasks.update(record).await?)
}

/// What a node says against the making of an index, if it says anything.
fn words(error: Error, entry: &IndexEntry) -> Option<ApiError> {
    if !matches!(error.kind(), ErrorKind::Verbatim { .. }) {
        return None;
    }
    serde_json::from_slice(&node_errors::scrub(error, entry).render().1?).ok()
}

/// The tag of each of a task's calls, in the order of its nodes.
fn tags(state: &ClusterState, record: &TaskRecord) -> Vec<String> {
    let tags = Tags::new(state.store_id, record);
    let mut calls: BTreeMap<&NodeId, usize> = BTreeMap::new();
    let tags = record.nodes.iter().map(|task| {
        let call = calls.entry(&task.node).or_default();
        *call += 1;
        tags.of(*call - 1)
    });
    tags.collect()
}

/// The newest task of a node about an index that has a tag; `None` if it has none.
async fn find(
    state: &ClusterState,
    node: &NodeId,
    index: &str,
    tag: &str,
) -> Result<Option<u32>, Error> {
    let mut from = String::new();
    loop {
        let query = format!("indexUids={index}&limit={PAGE}{from}");
        let tasks = ask(state, node, &query).await?;
        if let Some(task) = tasks.iter().find(|t| t.custom_metadata.as_deref() == Some(tag)) {
            return Ok(Some(task.uid));
        }
        let below = tasks.last().and_then(|last| last.uid.checked_sub(1));
        match below {
            Some(uid) if tasks.len() == PAGE => from = format!("&from={uid}"),
            _ => return Ok(None),
        }
    }
}

/// The settings of an unfinished proposal, unless newer ones were proposed since.
async fn open_proposal(state: &ClusterState, record: &TaskRecord) -> Result<Option<Value>, Error> {
    let (Some(proposal), Some(index)) = (proposal(record), &record.index) else { return Ok(None) };
    let patch = Value::Object(proposal.patch.clone());
    let query = TaskQuery {
        limit: 1,
        kinds: Some(vec![TaskKind::SettingsUpdate]),
        indexes: Some([index.clone()].into()),
        ..TaskQuery::default()
    };
    let newest = state.stores.tasks.list(query).await?.tasks;
    Ok(newest.first().is_some_and(|newest| newest.uid == record.uid).then_some(patch))
}

/// Sends a settings proposal once more; answers its uid.
async fn propose(
    state: &ClusterState,
    node: &NodeId,
    physical: &str,
    patch: &Value,
) -> Result<u32, Error> {
    let cx = Context::internal(Origin::Settings, state.options.scatter.call_timeout());
    let path = format!("/indexes/{physical}/settings");
    let call = Call::change(http::Method::PATCH, "settings_patch", path).json(patch.to_string());
    let before = state.membership.task_uids.highest(node);
    let body = state.nodes.call(node, &call, &cx).await?;
    let uid = Call::parse::<miroir_pipeline::node::TaskRef>(node, &body)?.task_uid;
    disk_loss::accept_task_uid(state, node, before, uid).await?;
    Ok(uid)
}

/// Sends the calls that make an index once more; answers the uid of the last.
async fn remake(state: &ClusterState, node: &NodeId, entry: &IndexEntry) -> Result<u32, Error> {
    let cx = Context::internal(Origin::Settings, state.options.scatter.call_timeout());
    let base = node_base_settings(&state.options);
    let mut last = Err(Error::node(node, NodeFailure::Garbage));
    for call in creation_calls(&entry.physical, entry.primary_key.as_deref(), &base) {
        let body = state.nodes.call(node, &call, &cx).await?;
        last = Ok(Call::parse::<miroir_pipeline::node::TaskRef>(node, &body)?.task_uid);
    }
    last
}
