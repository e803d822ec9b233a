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

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use http::Method;
use miroir_api::meili::TaskStatus;
use miroir_api::{NodeId, ShardId, TaskUid};
use miroir_core::documents::shard_value;
use miroir_core::routing::ShardSet;
use miroir_core::topology::{Health, Node};
use miroir_core::view::{CatchUp, StaleMap, StaleReplica};
use miroir_pipeline::cluster::ClusterState;
use miroir_pipeline::context::{Context, Origin};
use miroir_pipeline::error::Error;
use miroir_pipeline::node::Call;
use miroir_store::IndexEntry;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::node_setup::SHARD;
use crate::node_tasks::{NodeTaskView, ask};

/// How often it is looked.
const LOOK: Duration = Duration::from_secs(1);
/// How long one look at a node may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Tasks of a node that are looked up at a time.
const BATCH: usize = 200;
/// What the tags of Miroir's own calls begin with.
const TAG: &str = "miroir:";

/// Looks for such tasks until cancelled.
pub async fn run(state: Arc<ClusterState>, stop: CancellationToken) {
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = sleep(LOOK) => round(&state, PATIENCE).await,
        }
    }
}

/// Looks once at every node that counts, each for so long at most, and puts in doubt what was
/// changed.
pub(crate) async fn round(state: &ClusterState, patience: Duration) {
    let topology = state.membership.topology();
    let counts =
        |node: &&Node| node.health != Health::Failed && state.lives.foreign(&node.id).is_none();
    let nodes = topology.nodes().filter(counts);
    let looks = nodes.map(|node| async {
        let found = timeout(patience, look(state, &node.id)).await;
        (node.id.clone(), found.ok().and_then(Result::ok).unwrap_or_default())
    });
    let found: Vec<(NodeId, Vec<NodeTaskView>)> = join_all(looks).await;
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
            for task in tasks {
                settle(state, &node, &task, false).await;
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
        let mut left = true;
        for task in look(state, node).await? {
            left &= !settle(state, node, &task, true).await;
        }
        if left {
            return Ok(());
        }
    }
}

/// Looks into one task, again in a later round where it has to be. Returns whether nothing is left to do
/// about it.
async fn settle(state: &ClusterState, node: &NodeId, task: &NodeTaskView, returns: bool) -> bool {
    let done = judge(state, node, task, returns).await.unwrap_or_else(|error| {
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
    let Some(newest) = state.membership.task_uids.highest(node) else { return Ok(Vec::new()) };
    let uids = given.unexplained(node, newest, BATCH);
    if uids.is_empty() {
        return Ok(Vec::new());
    }
    let list: Vec<String> = uids.iter().map(u32::to_string).collect();
    let query = format!("uids={}&limit={}", list.join(","), list.len());
    let mut tasks = ask(state, node, &query).await?;
    for uid in uids {
        if !tasks.iter().any(|task| task.uid == uid) {
            given.explained(node, uid);
        }
    }
    tasks.sort_by_key(|task| task.uid);
    Ok(tasks)
}

/// What a task may have changed.
#[derive(Debug, PartialEq, Eq)]
enum Changed {
    /// Nothing that Miroir keeps.
    Nothing,
    /// Documents of an index. `adds`: some may be there now that the node is not to have.
    Documents { index: String, adds: bool },
    /// Settings of an index.
    Settings(String),
    /// Indexes as a whole.
    Indexes(Vec<String>),
}

impl Changed {
    fn by(task: &NodeTaskView) -> Self {
        let index = task.index_uid.clone();
        match (task.kind.as_str(), index) {
            ("documentAdditionOrUpdate" | "documentEdition", Some(index)) => {
                Self::Documents { index, adds: true }
            }
            ("documentDeletion", Some(index)) => Self::Documents { index, adds: false },
            ("settingsUpdate", Some(index)) => Self::Settings(index),
            ("indexCreation" | "indexUpdate" | "indexDeletion", index) => {
                let new = task.details.as_ref().and_then(|details| details.get("newIndexUid"));
                let new = new.and_then(Value::as_str).map(str::to_owned);
                Self::Indexes(index.into_iter().chain(new).collect())
            }
            ("indexSwap", _) => {
                let swaps = task.details.as_ref().and_then(|details| details.get("swaps"));
                let swaps = swaps.and_then(Value::as_array).into_iter().flatten();
                let names = swaps.filter_map(|swap| swap["indexes"].as_array()).flatten();
                Self::Indexes(names.filter_map(Value::as_str).map(str::to_owned).collect())
            }
            _ => Self::Nothing,
        }
    }

    fn indexes(&self) -> Vec<&str> {
        match self {
            Self::Nothing => Vec::new(),
            Self::Documents { index, .. } | Self::Settings(index) => vec![index],
            Self::Indexes(all) => all.iter().map(String::as_str).collect(),
        }
    }
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

/// Looks into one task. Returns whether nothing is left to do about it. Of a node that `returns` a
/// replica is in doubt before the task has ended: a copy waits for that.
async fn judge(
    state: &ClusterState,
    node: &NodeId,
    task: &NodeTaskView,
    returns: bool,
) -> Result<bool, Error> {
    let given = state.nodes.pool.given();
    let changed = Changed::by(task);
    let known = |name: &&str| state.catalog.by_physical(name).is_some();
    if !changed.indexes().iter().any(known) {
        return Ok(true);
    }
    let tag = task.custom_metadata.as_deref().unwrap_or_default();
    let own = is_own(tag, state.store_id.0);
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
        if !returns || !matches!(changed, Changed::Documents { .. }) {
            return Ok(false);
        }
    } else if task.status != TaskStatus::Succeeded {
        return Ok(true);
    }
    let done = doubt(state, node, &changed, shards).await?;
    if !done {
        given.wait(node, task.uid);
    }
    Ok(done)
}

/// Puts in doubt what a task has changed. Returns whether that can be compared, or never will be.
async fn doubt(
    state: &ClusterState,
    node: &NodeId,
    changed: &Changed,
    shards: Option<Vec<ShardId>>,
) -> Result<bool, Error> {
    let entry = |name: &str| state.catalog.by_physical(name);
    match changed {
        Changed::Nothing => Ok(true),
        Changed::Documents { index, adds } => {
            let Some(entry) = entry(index) else { return Ok(true) };
            // A call that was meant for another node brings what this one is not to have.
            if *adds && shards.is_none() {
                remove_strangers(state, node, &entry).await?;
            }
            doubt_documents(state, node, &entry, shards).await
        }
        Changed::Settings(index) => {
            let Some(entry) = entry(index) else { return Ok(true) };
            doubt_whole(state, node, &entry, CatchUp::Shard).await
        }
        Changed::Indexes(names) => {
            let mut done = true;
            for entry in names.iter().filter_map(|name| entry(name)) {
                done &= !entry.making && doubt_whole(state, node, &entry, CatchUp::Index).await?;
            }
            Ok(done)
        }
    }
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
    let Some(record) = state.stores.tasks.get(uid).await? else { return Ok(Recorded::No(None)) };
    if record.physical != task.index_uid {
        return Ok(Recorded::No(None));
    }
    let mut shards = None;
    let life = state.lives.of(node);
    for on_node in record.nodes.iter().filter(|on| on.node == *node) {
        if on_node.uid == Some(task.uid) && on_node.life == life && !on_node.dropped {
            return Ok(Recorded::Yes);
        }
        if on_node.uid.is_none() && !on_node.dropped && !record.status.is_terminal() {
            return Ok(Recorded::Later);
        }
        shards.get_or_insert_with(Vec::new).extend_from_slice(&on_node.shards);
    }
    Ok(Recorded::No(shards.filter(|shards| !shards.is_empty())))
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

/// Whether a shard has another owner, and whether one of those is complete.
fn others(
    state: &ClusterState,
    stale: &StaleMap,
    node: &NodeId,
    entry: &IndexEntry,
    shard: ShardId,
) -> (bool, bool) {
    let placement = state.membership.topology().placement(entry.shards);
    let mut any = false;
    let mut complete = false;
    for (_, owner) in placement.write_targets(shard).filter(|(_, owner)| *owner != node) {
        any = true;
        complete |= stale.is_authority(&entry.physical, owner, shard);
    }
    (any, complete)
}

/// Has shards of a node compared, all it owns where nobody says which. Returns whether all of them
/// are.
async fn doubt_documents(
    state: &ClusterState,
    node: &NodeId,
    entry: &IndexEntry,
    shards: Option<Vec<ShardId>>,
) -> Result<bool, Error> {
    let owned = state.membership.topology().placement(entry.shards).owned_by(node);
    let mut touched = ShardSet::empty(entry.shards);
    for shard in owned.iter().filter(|s| shards.as_ref().is_none_or(|all| all.contains(s))) {
        touched.insert(shard);
    }
    let decide = |stale: &StaleMap| {
        let (mut rows, mut all) = (Vec::new(), true);
        for shard in touched.iter() {
            let (any, complete) = others(state, stale, node, entry, shard);
            let doubted = !stale.is_authority(&entry.physical, node, shard);
            if complete || doubted {
                rows.push(StaleReplica::new(node, &entry.physical, Some(shard), CatchUp::Shard));
            } else {
                all &= !any;
            }
        }
        (rows, all)
    };
    Ok(state.staleness.mark_by(decide).await?)
}

/// Has an index of a node compared as a whole: its settings, or all there is of it. Returns whether
/// it is.
async fn doubt_whole(
    state: &ClusterState,
    node: &NodeId,
    entry: &IndexEntry,
    kind: CatchUp,
) -> Result<bool, Error> {
    let owned = state.membership.topology().placement(entry.shards).owned_by(node);
    let nodes: Vec<NodeId> =
        state.membership.topology().nodes().map(|other| other.id.clone()).collect();
    let decide = |stale: &StaleMap| {
        let fine = match kind {
            CatchUp::Index => owned.iter().all(|shard| others(state, stale, node, entry, shard).1),
            _ => nodes.iter().any(|n| n != node && !stale.misses_index(&entry.physical, n)),
        };
        let alone = match kind {
            CatchUp::Index => owned.iter().all(|shard| !others(state, stale, node, entry, shard).0),
            _ => nodes.len() == 1,
        };
        let rows = fine
            .then(|| StaleReplica::new(node, &entry.physical, None, kind))
            .into_iter()
            .collect();
        (rows, fine || alone)
    };
    Ok(state.staleness.mark_by(decide).await?)
}

/// Deletes documents of a node that are of no shard it owns: they were not written by Miroir, and no
/// other replica tells about them.
async fn remove_strangers(
    state: &ClusterState,
    node: &NodeId,
    entry: &IndexEntry,
) -> Result<(), Error> {
    let owned = state.membership.topology().placement(entry.shards).owned_by(node);
    let values: Vec<String> =
        owned.iter().map(|s| format!("'{}'", shard_value(s.0, entry.shards))).collect();
    let filter = format!("{SHARD} NOT IN [{}]", values.join(","));
    let path = format!(
        "/indexes/{}/documents/delete?customMetadata={TAG}{}:strangers",
        entry.physical, state.store_id
    );
    let call = Call::change(Method::POST, "documents_delete", path);
    let call = call.json(json!({ "filter": filter }).to_string());
    let cx = Context::internal(Origin::Repair, PATIENCE);
    state.nodes.call(node, &call, &cx).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(value: Value) -> NodeTaskView {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_task_says_what_it_may_have_changed() {
        let by = |kind: &str, index: Value, details: Value| {
            let task = json!({
                "uid": 1, "status": "succeeded", "type": kind, "indexUid": index,
                "details": details,
            });
            Changed::by(&self::task(task))
        };
        let indexes = |names: &[&str]| {
            Changed::Indexes(names.iter().map(|name| (*name).to_owned()).collect())
        };
        let x = || "x".to_owned();
        assert_eq!(
            by("documentEdition", json!("x"), Value::Null),
            Changed::Documents { index: x(), adds: true }
        );
        assert_eq!(
            by("documentDeletion", json!("x"), Value::Null),
            Changed::Documents { index: x(), adds: false }
        );
        assert_eq!(by("settingsUpdate", json!("x"), Value::Null), Changed::Settings(x()));
        assert_eq!(by("indexDeletion", json!("x"), Value::Null), indexes(&["x"]));
        assert_eq!(
            by("indexUpdate", json!("x"), json!({"newIndexUid": "y"})),
            indexes(&["x", "y"])
        );
        let swaps = json!({"swaps": [{"indexes": ["x", "y"]}, {"indexes": ["z", "x"]}]});
        assert_eq!(by("indexSwap", Value::Null, swaps), indexes(&["x", "y", "z", "x"]));
        for kind in ["snapshotCreation", "dumpCreation", "taskDeletion", "upgradeDatabase"] {
            assert_eq!(by(kind, Value::Null, Value::Null), Changed::Nothing);
        }
    }

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
    }
}
