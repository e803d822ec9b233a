//! Tasks that go on: with what a node said of its parts of them, or because something that they
//! waited for is there.
//!
//! All tasks of a page go on together: one reading, one decision about replicas, one writing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use miroir_api::meili::{TaskKind, TaskStatus};
use miroir_api::{NodeId, TaskUid};
use miroir_core::view::{CatchUp, StaleMap};
use miroir_pipeline::cluster::{ClusterState, disk_loss, provisional};
use miroir_pipeline::context::{Context, Origin};
use miroir_pipeline::error::Error;
use miroir_pipeline::leaf;
use miroir_pipeline::node::Call;
use miroir_store::open_tasks::OpenPart;
use miroir_store::{TaskProtocol, TaskRecord, TaskState, clock};
use serde_json::Value;

use crate::broadcast::{progress, verify};
use crate::making;
use crate::naming::deferred;
use crate::node_tasks::NodeTaskView;
use crate::outcome::{backups, canceled, unreadable};
use crate::tasks::cancel;
use crate::tasks::finish::finish;
use crate::tasks::parts::{self, Loss, others_make};

/// Tasks that go on in one step.
const STEP: usize = 200;

/// What a node said about parts of tasks.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// The life of the node in which it was given them.
    life: u64,
    /// The tasks it says something new about.
    tasks: BTreeSet<TaskUid>,
    seen: BTreeMap<u32, NodeTaskView>,
    /// What it does not list.
    missing: BTreeSet<(u32, TaskUid)>,
    lost: BTreeMap<u32, Loss>,
}

impl Page {
    /// A page on which nothing is yet, about what a node was given in one of its lives.
    pub(super) fn new(life: u64) -> Self {
        Self { life, ..Self::default() }
    }

    /// The life of the node in which it was given the parts.
    pub(super) fn life(&self) -> u64 {
        self.life
    }

    /// Parts that nobody learns more about.
    pub(super) fn lost(life: u64, parts: &[OpenPart], loss: Loss) -> Self {
        let tasks = parts.iter().map(|part| part.task).collect();
        let lost = parts.iter().map(|part| (part.uid, loss)).collect();
        Self { tasks, lost, ..Self::new(life) }
    }

    /// Notes the answer to a question for these parts. Returns whether the node ended them all.
    pub(super) fn note(&mut self, parts: &[OpenPart], seen: Vec<NodeTaskView>) -> bool {
        let seen: BTreeMap<u32, NodeTaskView> =
            seen.into_iter().map(|task| (task.uid, task)).collect();
        let (mut ended, mut news) = (true, BTreeSet::new());
        for part in parts {
            let Some(view) = seen.get(&part.uid) else {
                self.missing.insert((part.uid, part.task));
                continue;
            };
            ended &= view.status.is_terminal();
            if view.status != part.status {
                self.tasks.insert(part.task);
                news.insert(part.uid);
            }
        }
        self.seen.extend(seen.into_iter().filter(|(uid, _)| news.contains(uid)));
        ended
    }

    /// Whether the node does not list everything.
    pub(super) fn misses(&self) -> bool {
        !self.missing.is_empty()
    }

    /// Judges what the node does not list. Up to the newest uid of a node that is known to have its
    /// disk it has ended and forgotten it; otherwise nobody knows yet.
    pub(super) fn judge(&mut self, newest: Option<u32>) {
        for (uid, task) in std::mem::take(&mut self.missing) {
            if newest.is_some_and(|newest| newest >= uid) {
                self.lost.insert(uid, Loss::Forgotten);
                self.tasks.insert(task);
            }
        }
    }

    /// The tasks it says something new about.
    pub(super) fn tasks(&self) -> BTreeSet<TaskUid> {
        self.tasks.clone()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }
}

/// What going on achieved.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    /// Whether the record of some task changed.
    pub(super) changed: bool,
    /// Whether some task ended.
    pub(super) ended: bool,
}

impl Progress {
    pub(super) fn join(&mut self, other: Self) {
        self.changed |= other.changed;
        self.ended |= other.ended;
    }
}

/// A task on its way from one state in the store to the next.
struct Step {
    before: TaskRecord,
    record: TaskRecord,
    lost: Vec<(usize, Loss)>,
    /// Whether it was done, once all parts have ended.
    done: Option<bool>,
}

impl Step {
    fn waits(&self) -> bool {
        let open = |status: TaskStatus| !status.is_terminal();
        self.record.nodes.iter().any(|t| !t.dropped && (t.uid.is_none() || open(t.status)))
    }
}

/// Has tasks go on with what a node said, if any did.
///
/// # Errors
/// When the store fails. The tasks are as they were, and go on another time.
pub(super) async fn advance(
    state: &Arc<ClusterState>,
    tasks: BTreeSet<TaskUid>,
    said: Option<(&NodeId, &Page)>,
) -> Result<Progress, Error> {
    let mut progress = Progress::default();
    let tasks: Vec<TaskUid> =
        tasks.into_iter().filter(|uid| !state.verifying.contains(*uid)).collect();
    for chunk in tasks.chunks(STEP) {
        progress.join(step(state, chunk, said).await?);
    }
    Ok(progress)
}

async fn step(
    state: &Arc<ClusterState>,
    tasks: &[TaskUid],
    said: Option<(&NodeId, &Page)>,
) -> Result<Progress, Error> {
    let mut gone: BTreeSet<TaskUid> = tasks.iter().copied().collect();
    let mut steps = Vec::new();
    for record in state.stores.tasks.get_many(tasks.to_vec()).await? {
        if record.status.is_terminal() {
            continue;
        }
        gone.remove(&record.uid);
        if record.is_deferred() {
            deferred::begin_if_due(state, &record);
            continue;
        }
        if record.intent().is_some() {
            // Whoever carries it out, or the next process, sees to it.
            continue;
        }
        let mut step = Step { before: record.clone(), record, lost: Vec::new(), done: None };
        disk_loss::drop_former(state, &mut step.record);
        own_work(state, &mut step.record).await?;
        if let Some((node, page)) = said {
            hear(state, &mut step, node, page).await;
        }
        steps.push(step);
    }
    for uid in gone {
        state.open_tasks.forget(uid);
    }
    decide(state, &mut steps).await?;
    let (mut settings, mut touched, mut unmade) = (Vec::new(), Vec::new(), Vec::new());
    for step in steps.iter_mut().filter(|step| !step.record.status.is_terminal()) {
        match conclude(state, step).await? {
            Next::Verify => settings.push(step.record.uid),
            Next::Touch => {
                let index = state.catalog.of_task(&step.record).map(|entry| entry.physical.clone());
                let makes = provisional::makes(step.record.kind);
                touched.extend(index.zip(step.record.finished_at).map(|(i, at)| (i, at, makes)));
            }
            Next::TakeBack(ended) => unmade.push(*ended),
            Next::Nothing => {}
        }
    }
    let changed: Vec<TaskRecord> =
        steps.into_iter().filter(|step| step.record != step.before).map(|s| s.record).collect();
    let progress = Progress {
        changed: !changed.is_empty(),
        ended: changed.iter().any(|record| record.status.is_terminal()),
    };
    // In this order: who sees that a task has made an index asks its nodes for what they have.
    for (index, at, makes) in touched {
        state.catalog.note_update(&index, at, makes);
    }
    if progress.changed {
        state.stores.tasks.update_many(changed).await?;
    }
    for ended in unmade {
        making::end(state, ended);
    }
    for uid in settings {
        verify::settle(state, uid);
    }
    Ok(progress)
}

/// The indexes whose tasks before it a task waits for, and does nothing else.
fn awaited(record: &TaskRecord) -> Option<&[String]> {
    match &record.protocol.state {
        Some(TaskState::Rename { awaits, intent: None }) => Some(awaits),
        _ => None,
    }
}

/// What a task does by itself, without nodes or before they are asked.
async fn own_work(state: &Arc<ClusterState>, record: &mut TaskRecord) -> Result<(), Error> {
    if let Some(indexes) = awaited(record) {
        if !state.open_tasks.has_before(indexes, record.uid) {
            record.end(TaskStatus::Succeeded, clock::now());
            record.protocol = TaskProtocol::default();
        }
        return Ok(());
    }
    if unreadable::broken(record).is_some() {
        return Ok(());
    }
    match record.kind {
        TaskKind::TaskDeletion => cancel::forget(state, record).await,
        TaskKind::TaskCancelation if !cancel::is_passed_on(record) => {
            cancel::pass_on(state, record).await
        }
        _ => Ok(()),
    }
}

/// Notes what a node said of its parts of a task.
async fn hear(state: &ClusterState, step: &mut Step, node: &NodeId, page: &Page) {
    for at in 0..step.record.nodes.len() {
        let record = &mut step.record;
        let task = &mut record.nodes[at];
        let other = task.node != *node || task.life != page.life;
        let over = task.dropped || task.status.is_terminal() || other;
        let Some(uid) = task.uid.filter(|_| !over) else { continue };
        if let Some(view) = page.seen.get(&uid) {
            task.status = view.status;
            task.error.clone_from(&view.error);
            let deleted = view.details.as_ref().and_then(|d| d.get("deletedDocuments"));
            task.deleted = deleted.and_then(Value::as_u64);
            if matches!(record.kind, TaskKind::DocumentEdition | TaskKind::IndexCompaction) {
                task.details.clone_from(&view.details);
            }
            note_times(&mut record.started_at, &mut record.finished_at, view);
            if record.kind == TaskKind::DumpCreation {
                backups::note(&mut record.protocol.state, node, view.details.as_ref());
            }
            verify::note_details(record, view.details.as_ref());
        }
        match page.lost.get(&uid) {
            Some(Loss::Forgotten) => match is_evident(state, record, node).await {
                Some(true) => record.nodes[at].status = TaskStatus::Succeeded,
                // Canceling is the first thing a node does: it was done.
                None if record.kind == TaskKind::TaskCancelation => {
                    record.nodes[at].status = TaskStatus::Succeeded;
                }
                _ => step.lost.push((at, Loss::Forgotten)),
            },
            Some(loss) => step.lost.push((at, *loss)),
            None => {}
        }
    }
}

/// What an index shows of a forgotten task that made it or deleted it: whether it was done. `None`
/// where nobody can tell.
async fn is_evident(state: &ClusterState, record: &TaskRecord, node: &NodeId) -> Option<bool> {
    let wanted = match record.kind {
        TaskKind::IndexCreation => true,
        TaskKind::IndexDeletion => false,
        _ => return None,
    };
    let cx = Context::internal(Origin::Settings, state.options.scatter.call_timeout());
    let call = Call::get("indexes_get", format!("/indexes/{}", record.physical.as_ref()?));
    match state.nodes.call(node, &call, &cx).await {
        Ok(_) => Some(wanted),
        Err(error) if leaf::lacks_index(&error) => Some(!wanted),
        Err(_) => None,
    }
}

/// Whether a task deletes an index whose name on the nodes the next one has by now.
fn is_replaced(state: &ClusterState, record: &TaskRecord) -> bool {
    record.kind == TaskKind::IndexDeletion
        && record.physical.as_deref().is_some_and(|n| state.catalog.by_physical(n).is_some())
}

/// Decides which replicas have to catch up because of what was said, and has it on record.
async fn decide(state: &ClusterState, steps: &mut [Step]) -> Result<(), Error> {
    let decide = |stale: &StaleMap| {
        let mut rows = Vec::new();
        for step in steps.iter_mut().filter(|step| !step.record.status.is_terminal()) {
            let creates = step.record.kind == TaskKind::IndexCreation;
            let entry = state.catalog.of_task(&step.record);
            let gone = step.record.physical.is_some() && entry.is_none();
            let owners = entry.map(|entry| state.membership.topology().placement(entry.shards));
            let placement = owners.as_ref().filter(|_| creates);
            for (at, loss) in std::mem::take(&mut step.lost) {
                let alone = placement.is_some_and(|p| !others_make(&step.record, stale, at, p));
                if alone && loss.is_queued() {
                    continue;
                }
                let lost = parts::lose(&mut step.record, stale, at, loss, owners.as_deref());
                // It will be carried out before the making of the next index of the name, which the node
                // took behind it, or is on record to lack.
                if !(loss.is_queued() && is_replaced(state, &step.record)) {
                    rows.extend(lost);
                }
            }
            if !step.waits() {
                if let Some(owners) = owners.as_deref()
                    && step.record.kind == TaskKind::SettingsUpdate
                {
                    let topology = state.membership.topology();
                    let behind = parts::settings(&mut step.record, stale, owners).into_iter();
                    rows.extend(behind.filter(|row| topology.node(&row.node).is_some()));
                }
                let record = &step.record;
                // Whose index is gone has nobody to catch up with it, and what was marked since is of
                // the deletion, or of the next index of the name.
                let none = StaleMap::default();
                let stale = if gone { &none } else { stale };
                let ending = match placement {
                    Some(placement) => parts::creation(record, stale, placement),
                    // Whoever makes an index of this name anew rebuilds what is left of it.
                    None if record.kind == TaskKind::IndexDeletion
                        && !is_replaced(state, record) =>
                    {
                        parts::deletion(record)
                    }
                    None => parts::ending(record, stale, owners.as_deref()),
                };
                rows.extend(
                    ending.behind.into_iter().filter(|row| !gone || row.kind == CatchUp::Deleted),
                );
                step.done = Some(ending.done);
            }
        }
        (rows, ())
    };
    Ok(state.staleness.mark_by(decide).await?)
}

/// What follows once the state of a task is in the store.
enum Next {
    Nothing,
    /// Its settings are verified.
    Verify,
    /// It is the last update of its index.
    Touch,
    /// It ends like this, once an index is gone that it did not make.
    TakeBack(Box<TaskRecord>),
}

/// Ends a task whose parts have all ended.
async fn conclude(state: &Arc<ClusterState>, step: &mut Step) -> Result<Next, Error> {
    let Some(done) = step.done else {
        let record = &mut step.record;
        let begun = record.nodes.iter().any(|task| task.status != TaskStatus::Enqueued);
        if begun && record.status == TaskStatus::Enqueued {
            record.status = TaskStatus::Processing;
            record.started_at.get_or_insert_with(clock::now);
        }
        return Ok(Next::Nothing);
    };
    let record = &mut step.record;
    let end_broadcast = |record: &TaskRecord| {
        if record.kind == TaskKind::SettingsUpdate {
            state.broadcasts.end(record.physical.as_deref().unwrap_or_default());
        }
    };
    if let Some(error) = unreadable::broken(record) {
        tracing::error!(task = %record.uid, %error, "a task is given up");
        finish(state, record, done);
        end_broadcast(record);
        return Ok(Next::Touch);
    }
    match record.kind {
        // Waits for tasks of other indexes.
        _ if awaited(record).is_some() => {}
        TaskKind::TaskCancelation => cancel::conclude(state, record).await?,
        // Done by itself, or it waits.
        TaskKind::TaskDeletion => {}
        _ if canceled::is_canceled(record) => {
            let mut ended = record.clone();
            canceled::become_canceled(&mut ended);
            end_broadcast(&ended);
            if making::takes_back(state, &ended) {
                return Ok(Next::TakeBack(Box::new(ended)));
            }
            *record = ended;
        }
        _ if progress::proposal(record).is_some() => return Ok(Next::Verify),
        TaskKind::DumpCreation | TaskKind::SnapshotCreation => {
            backups::conclude(record, |nodes| backups::suffice(state, nodes));
        }
        _ => {
            let mut ended = record.clone();
            finish(state, &mut ended, done);
            if making::takes_back(state, &ended) {
                return Ok(Next::TakeBack(Box::new(ended)));
            }
            *record = ended;
            return Ok(Next::Touch);
        }
    }
    Ok(Next::Nothing)
}

fn note_times(
    started: &mut Option<time::OffsetDateTime>,
    finished: &mut Option<time::OffsetDateTime>,
    view: &NodeTaskView,
) {
    if let Some(at) = view.started_at.as_deref().and_then(clock::parse) {
        *started = Some(started.map_or(at, |old| old.min(at)));
    }
    if let Some(at) = view.finished_at.as_deref().and_then(clock::parse) {
        *finished = Some(finished.map_or(at, |old| old.max(at)));
    }
}
