//! Writes: documents to shards, shards to nodes, acknowledgements to a quorum.
//!
//! The task is stored before any node is called and the calls run detached from the client, so
//! neither a crash nor a disconnect leaves a write that nobody remembers. A replica that did not
//! acknowledge is recorded as stale *before* the client is answered.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Method as Verb, StatusCode};
use miroir_api::meili::{ApiError, SummarizedTask, TaskKind, TaskStatus};
use miroir_api::{GroupId, NodeId, ShardId};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use tower::ServiceExt;

use super::missed::{self, Fate};
use super::{Scatter, words};
use crate::clock;
use crate::cluster::{Shared, StaleMap};
use crate::context::Context;
use crate::documents::{self, Checks, RawDocument};
use crate::error::{Error, ErrorKind};
use crate::index::sequencer::Exclusive;
use crate::index::settings::IndexSettings;
use crate::index::{Deletion, Method, Request, Response, Write};
use crate::leaf::{self, Ask, Route, Target};
use crate::meta::Meta;
use crate::node::{Call, TaskRef};
use crate::quorum::{self, Verdict};
use crate::routing::{ShardSet, shard_of};
use crate::store::{IndexEntry, NewTask, NodeTask, StaleKind, TaskRecord};
use crate::topology::Topology;

/// What one node has to be told, in order.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The node.
    pub node: NodeId,
    /// Shards it is about.
    pub shards: ShardSet,
    /// The calls, each of which enqueues a task.
    pub calls: Vec<Call>,
}

/// An accepted write.
#[derive(Debug)]
pub struct Outcome {
    /// The task.
    pub record: TaskRecord,
    /// Groups in which a replica missed it.
    pub degraded: Vec<GroupId>,
}

/// What a write is about.
#[derive(Debug)]
pub struct Plan {
    /// The index.
    pub index: Arc<IndexEntry>,
    /// The topology it is planned under.
    pub topology: Arc<Topology>,
    /// Shards whose quorum decides.
    pub touched: ShardSet,
    /// What a replica that misses it needs.
    pub missed: StaleKind,
    /// Calls, one entry a node.
    pub batches: Vec<Batch>,
    /// Held until all calls are sent, if the write excludes others.
    pub exclusive: Option<Exclusive>,
    /// Whether one node judges the request before anything is stored: what it refuses leaves no task.
    pub preflight: bool,
}

/// The shape of a node's answer to a call of a batch.
type Sent = Vec<Result<u32, Error>>;

async fn send_batch(
    leaves: leaf::BoxService,
    plan: &Plan,
    shared: &Shared,
    batch: &Batch,
    tag: &str,
    cx: &Context,
) -> Sent {
    let mut sent = Sent::new();
    for call in &batch.calls {
        let mut call = call.clone();
        if call.path.contains("/documents") {
            call.path.push(if call.path.contains('?') { '&' } else { '?' });
            call.path.push_str("customMetadata=");
            call.path.push_str(tag);
        }
        let request = leaf::Request {
            target: Target::Exactly(batch.node.clone()),
            ask: Ask::Plain(Arc::new(call)),
            index: Arc::clone(&plan.index),
            topology: Arc::clone(&plan.topology),
            stale: shared.stale(),
            route: Route { groups: Vec::new(), rotation: 0 },
            cx: cx.clone(),
        };
        let answer = leaves.clone().oneshot(request).await.and_then(|answer| {
            let page = answer.pages.first().ok_or_else(|| Error::node(&batch.node, "garbage"))?;
            Ok(Call::parse::<TaskRef>(&batch.node, &page.body)?.task_uid)
        });
        let failed = answer.is_err();
        sent.push(answer);
        if failed {
            break;
        }
    }
    sent
}

fn writable(shared: &Shared, plan: &Plan, node: &NodeId) -> bool {
    plan.topology.node(node).is_some_and(|n| n.status.is_writable())
        && !shared.scores.is_open(node)
        && (plan.missed != StaleKind::Shard
            || !shared.stale().lacks_index(&plan.index.physical, node))
}

fn judge(
    shared: &Shared,
    plan: &Plan,
    kind: TaskKind,
    stale: &StaleMap,
    acked: impl Fn(&NodeId) -> bool,
) -> Verdict {
    let placement = plan.topology.placement(plan.index.shards);
    let index = &plan.index.physical;
    quorum::evaluate(
        &placement,
        plan.topology.replication_factor(),
        shared.tuning.write_quorum,
        &plan.touched,
        |node, shard| {
            // A replica that is to be replaced by a copy keeps nothing for sure.
            acked(node)
                && match (plan.missed, kind) {
                    (StaleKind::Deleted, _) => true,
                    (StaleKind::Shard, _) => stale.is_authority(index, node, shard),
                    (_, TaskKind::SettingsUpdate) => !stale.misses_index(index, node),
                    _ => !stale.lacks_index(index, node),
                }
        },
    )
}

/// Stores the task, sends the batches in the index's order, counts the quorum and remembers who
/// missed it. Runs to its end even if the caller goes away.
///
/// # Errors
/// `miroir_no_quorum`, a node's own refusal when no node took the write, or a store error.
pub async fn dispatch_write(
    leaves: leaf::BoxService,
    shared: Arc<Shared>,
    plan: Plan,
    task: NewTask,
    cx: Context,
) -> Result<Outcome, Error> {
    let tracker = shared.tracker.clone();
    let job = tracker.spawn(run_write(leaves, shared, plan, task, cx));
    job.await.map_err(Error::internal)?
}

async fn run_write(
    leaves: leaf::BoxService,
    shared: Arc<Shared>,
    mut plan: Plan,
    mut task: NewTask,
    cx: Context,
) -> Result<Outcome, Error> {
    let reachable: Vec<NodeId> = plan
        .batches
        .iter()
        .filter(|batch| writable(&shared, &plan, &batch.node))
        .map(|batch| batch.node.clone())
        .collect();
    let stale = shared.stale();
    if let Verdict::NoQuorum { shards, .. } =
        judge(&shared, &plan, task.kind, &stale, |node| reachable.contains(node))
    {
        return Err(Error::no_quorum(shards));
    }
    task.nodes = plan
        .batches
        .iter()
        .flat_map(|batch| {
            let shards: Vec<ShardId> = if plan.missed == StaleKind::Shard {
                batch.shards.iter().collect()
            } else {
                Vec::new()
            };
            let dropped = !reachable.contains(&batch.node);
            batch.calls.iter().map(move |_| NodeTask {
                node: batch.node.clone(),
                uid: None,
                status: TaskStatus::Enqueued,
                deleted: None,
                error: None,
                dropped,
                shards: shards.clone(),
            })
        })
        .collect();
    let exclusive = plan.exclusive.take();
    let mut first = None;
    if plan.preflight {
        for batch in plan.batches.iter().filter(|batch| reachable.contains(&batch.node)) {
            let sent = send_batch(leaves.clone(), &plan, &shared, batch, "preflight", &cx).await;
            match sent.iter().find_map(|r| r.as_ref().err()) {
                Some(error) if matches!(error.kind(), ErrorKind::Verbatim { .. }) => {
                    return Err(words::scrub(error.clone(), &plan.index, false));
                }
                // This node does not count; let another one judge.
                Some(_) => {}
                None => {
                    first = Some((batch.node.clone(), sent));
                    break;
                }
            }
        }
    }
    let mut record = shared.stores.tasks.insert(task).await?;
    let tag = format!("miroir:{}", record.uid);

    // The gate stays closed to repairs until it is on record who missed the write.
    let gate;
    let answers: BTreeMap<NodeId, Sent> = {
        let mut turns = match &exclusive {
            Some(_) => None,
            None => Some(shared.sequencer.turns(&plan.index.physical, &reachable).await),
        };
        let tickets = turns.as_mut().map(|t| std::mem::take(&mut t.tickets)).unwrap_or_default();
        let mut tickets = tickets.into_iter();
        gate = turns.map(|turns| turns.gate);
        let calls = plan
            .batches
            .iter()
            .filter(|batch| reachable.contains(&batch.node))
            .filter(|batch| first.as_ref().is_none_or(|(node, _)| *node != batch.node))
            .map(|batch| {
                let ticket = tickets.next();
                let (leaves, plan, shared, cx, tag) = (leaves.clone(), &plan, &shared, &cx, &tag);
                async move {
                    let mut ticket = ticket;
                    if let Some(ticket) = &mut ticket {
                        ticket.turn().await;
                    }
                    let sent = send_batch(leaves, plan, shared, batch, tag, cx).await;
                    (batch.node.clone(), sent)
                }
            })
            .collect::<Vec<_>>();
        join_all(calls).await.into_iter().chain(first).collect()
    };
    let outcome = settle(&shared, &plan, &mut record, &answers).await;
    drop((gate, exclusive));
    outcome
}

async fn settle(
    shared: &Shared,
    plan: &Plan,
    record: &mut TaskRecord,
    answers: &BTreeMap<NodeId, Sent>,
) -> Result<Outcome, Error> {
    let mut at: BTreeMap<NodeId, usize> = BTreeMap::new();
    for node_task in &mut record.nodes {
        let position = at.entry(node_task.node.clone()).or_default();
        match answers.get(&node_task.node).and_then(|sent| sent.get(*position)) {
            Some(Ok(uid)) => node_task.uid = Some(*uid),
            _ => node_task.dropped = true,
        }
        *position += 1;
    }
    let fate = |node: &NodeId| answers.get(node).map_or(Fate::Refused, |sent| Fate::of(sent));
    let acked = |node: &NodeId| fate(node) == Fate::Took;
    let kind = record.kind;
    let placement = plan.topology.placement(plan.index.shards);
    let physical = &plan.index.physical;
    let nodes = || plan.batches.iter().map(|batch| &batch.node);
    let outcome = shared
        .mark_stale_by(|stale| {
            let verdict = judge(shared, plan, kind, stale, acked);
            let met = matches!(verdict, Verdict::Met { .. });
            let rows = match (plan.missed, kind) {
                (StaleKind::Shard, _) => {
                    missed::documents(stale, &placement, physical, &plan.touched, fate)
                }
                (_, TaskKind::SettingsUpdate) => missed::settings(stale, physical, nodes(), fate),
                // Where one node may have deleted the index, all have to.
                (StaleKind::Deleted, _) if nodes().any(|node| fate(node) != Fate::Refused) => {
                    missed::whole(physical, plan.missed, nodes(), fate)
                }
                // Without a quorum the caller takes it back.
                (kind, _) if met => missed::whole(physical, kind, nodes(), fate),
                _ => Vec::new(),
            };
            (rows, verdict)
        })
        .await?;
    let outcome = match outcome {
        Verdict::Met { degraded_groups, .. } => Ok(degraded_groups),
        Verdict::NoQuorum { .. }
            if plan.missed == StaleKind::Deleted
                && nodes().any(|node| fate(node) != Fate::Refused) =>
        {
            if !nodes().any(acked) {
                // Nobody is left to wait for: the repairer sees to it.
                record.status = TaskStatus::Succeeded;
                record.finished_at = Some(clock::now());
            }
            Ok(plan.topology.groups().iter().map(|group| group.id).collect())
        }
        Verdict::NoQuorum { shards, .. } => Err(Error::no_quorum(shards)),
    };
    match outcome {
        Ok(degraded) => {
            shared.stores.tasks.update(record.clone()).await?;
            shared.tasks_changed.notify_one();
            if !degraded.is_empty() {
                metrics::counter!("miroir_writes_degraded_total").increment(1);
            }
            Ok(Outcome { record: record.clone(), degraded })
        }
        Err(no_quorum) => {
            let refused = answers
                .values()
                .flatten()
                .filter_map(|r| r.as_ref().err())
                .find(|e| matches!(e.kind(), ErrorKind::Verbatim { .. }));
            let error = match refused {
                Some(error) if !answers.keys().any(acked) => {
                    words::scrub(error.clone(), &plan.index, false)
                }
                _ => no_quorum,
            };
            let text = error.render().1.unwrap_or_default();
            record.status = TaskStatus::Failed;
            record.error = serde_json::from_slice(&text).ok();
            record.finished_at = Some(clock::now());
            shared.stores.tasks.update(record.clone()).await?;
            Err(error)
        }
    }
}

/// The `202` of an accepted task.
pub fn accepted(record: &TaskRecord, degraded: Vec<GroupId>) -> Response {
    let body = SummarizedTask {
        task_uid: record.uid,
        index_uid: record.index.clone(),
        status: TaskStatus::Enqueued,
        kind: record.kind,
        enqueued_at: clock::rfc3339(record.enqueued_at),
        custom_metadata: record.custom_metadata.clone(),
    };
    let meta = Meta { degraded_groups: degraded, nodes: record.nodes.len(), ..Meta::default() };
    Response {
        status: StatusCode::ACCEPTED,
        body: Bytes::from(serde_json::to_vec(&body).unwrap_or_default()),
        meta,
    }
}

/// A filter as tasks show it: JSON without insignificant white space.
pub(crate) fn compact(filter: &RawValue) -> String {
    serde_json::from_str::<Value>(filter.get())
        .map_or_else(|_| filter.get().to_owned(), |value| value.to_string())
}

/// Details as an ordered map.
pub(super) fn details(value: Value) -> Option<Map<String, Value>> {
    match value {
        Value::Object(map) => Some(map),
        _ => None,
    }
}

fn new_task(request: &Request, kind: TaskKind, metadata: Option<String>, fields: Value) -> NewTask {
    NewTask {
        index: Some(request.index.name.to_string()),
        physical: Some(request.index.physical.clone()),
        kind,
        status: TaskStatus::Enqueued,
        details: details(fields),
        error: None,
        enqueued_at: clock::now(),
        custom_metadata: metadata,
        nodes: Vec::new(),
        protocol: None,
    }
}

async fn decided(
    scatter: &Scatter,
    mut task: NewTask,
    result: Result<(), ApiError>,
    cx: &Context,
) -> Result<Response, Error> {
    match result {
        Ok(()) => task.status = TaskStatus::Succeeded,
        Err(error) => {
            task.status = TaskStatus::Failed;
            task.error = Some(error);
        }
    }
    // The task is over at once: so must be the creation of the index it may have caused.
    if let Some(physical) = &task.physical {
        scatter.shared.await_index(physical, cx).await;
    }
    let record = scatter.shared.stores.tasks.insert(task).await?;
    Ok(accepted(&record, Vec::new()))
}

pub(super) async fn run(
    scatter: Scatter,
    request: Request,
    write: Write,
    metadata: Option<String>,
) -> Result<Response, Error> {
    if let Some(why) = &request.index.frozen {
        return Err(Error::api(
            "miroir_index_frozen",
            format!("Index `{}` takes no writes: {why}", request.index.name),
        ));
    }
    match write {
        Write::Add { method, documents, primary_key, skip_creation } => {
            add(scatter, request, method, documents, primary_key, skip_creation, metadata).await
        }
        Write::Delete(deletion) => delete(scatter, request, deletion, metadata).await,
    }
}

/// Decides the primary key and checks the whole payload. The inner error fails the task.
fn prepare(
    index: &IndexEntry,
    settings: &IndexSettings,
    documents: &[RawDocument],
    method: Method,
    given: Option<&str>,
) -> Result<(String, documents::Prepared), ApiError> {
    let key = match (&index.primary_key, given) {
        (Some(known), Some(given)) if known != given => {
            return Err(ApiError::new(
                "index_primary_key_already_exists",
                format!("Index already has a primary key: `{known}`."),
            ));
        }
        (Some(known), _) => known.clone(),
        (None, Some(given)) => given.to_owned(),
        (None, None) => documents::infer(&documents[0]).into_result()?,
    };
    let checks = Checks {
        index: index.name.as_str(),
        method: match method {
            Method::Replace => documents::Method::Replace,
            Method::Update => documents::Method::Update,
        },
        geo: settings.geo,
        geojson: settings.geojson,
        embedders: &settings.embedders,
    };
    let shards = index.shards;
    let prepared =
        documents::prepare(documents.to_vec(), &key, &checks, |id| shard_of(id, shards))?;
    Ok((key, prepared))
}

async fn add(
    scatter: Scatter,
    request: Request,
    method: Method,
    documents: Arc<Vec<RawDocument>>,
    given: Option<String>,
    skip_creation: bool,
    metadata: Option<String>,
) -> Result<Response, Error> {
    let received = documents.len() as u64;
    let task = |indexed: Value| {
        let fields = json!({"receivedDocuments": received, "indexedDocuments": indexed});
        new_task(&request, TaskKind::DocumentAdditionOrUpdate, metadata.clone(), fields)
    };
    if documents.is_empty() {
        return decided(&scatter, task(json!(0)), Ok(()), &request.cx).await;
    }
    let mut index = Arc::clone(&request.index);
    let (key, prepared) = loop {
        let settings = scatter.shared.settings(&index, &request.cx).await?;
        let (entry, docs, wanted) = (Arc::clone(&index), Arc::clone(&documents), given.clone());
        let work = move || prepare(&entry, &settings, &docs, method, wanted.as_deref());
        // Large payloads would hold up everybody else on this thread.
        let result = if documents.len() > 256 {
            tokio::task::spawn_blocking(work).await.map_err(Error::internal)?
        } else {
            work()
        };
        let (key, prepared) = match result {
            Ok(done) => done,
            Err(error) => {
                let task = task(json!(0));
                return decided(&scatter, task, Err(error), &request.cx).await;
            }
        };
        if index.primary_key.as_deref() == Some(key.as_str()) {
            break (key, prepared);
        }
        let name = index.name.clone();
        let entry = scatter
            .shared
            .change_index(&name, |entry| {
                let mut entry = entry?.clone();
                entry.primary_key.get_or_insert_with(|| key.clone());
                Some(entry)
            })
            .await?;
        // Somebody else's key may have won: prepare again under it.
        index = entry.ok_or_else(|| Error::index_not_found(name.as_str()))?;
    };
    let mut query = format!("?primaryKey={}", crate::http::encode(&key));
    if skip_creation {
        query.push_str("&skipCreation=true");
    }
    let verb = if method == Method::Replace { Verb::POST } else { Verb::PUT };
    let path = format!("/indexes/{}/documents{query}", index.physical);
    let touched =
        ShardSet::from_iter(prepared.documents.iter().map(|document| document.shard), index.shards);
    let placement = request.topology.placement(index.shards);
    let mut batches = Vec::new();
    for node in request.topology.nodes() {
        let shards = placement.owned_by(&node.id).intersection(&touched);
        if shards.is_empty() {
            continue;
        }
        let body = documents::payload_for(&prepared, index.shards, &[], |s| shards.contains(s));
        let call = Call::new(verb.clone(), "documents_post", path.clone()).json(body);
        batches.push(Batch { node: node.id.clone(), shards, calls: vec![call] });
    }
    let mut new = task(Value::Null);
    // Known now, shown when the task is done.
    new.protocol = Some(json!({"indexed": prepared.unique_ids}));
    finish(scatter, request, index, touched, batches, new).await
}

async fn finish(
    scatter: Scatter,
    request: Request,
    index: Arc<IndexEntry>,
    touched: ShardSet,
    batches: Vec<Batch>,
    task: NewTask,
) -> Result<Response, Error> {
    let plan = Plan {
        index,
        topology: Arc::clone(&request.topology),
        touched,
        missed: StaleKind::Shard,
        batches,
        exclusive: None,
        preflight: false,
    };
    let outcome =
        dispatch_write(scatter.leaves, scatter.shared, plan, task, request.cx.clone()).await?;
    Ok(accepted(&outcome.record, outcome.degraded))
}

async fn delete(
    scatter: Scatter,
    request: Request,
    deletion: Deletion,
    metadata: Option<String>,
) -> Result<Response, Error> {
    let index = Arc::clone(&request.index);
    let base = format!("/indexes/{}/documents", index.physical);
    let placement = request.topology.placement(index.shards);
    let task = |fields| new_task(&request, TaskKind::DocumentDeletion, metadata.clone(), fields);
    let by_id = |provided: usize| json!({"providedIds": provided, "deletedDocuments": null, "originalFilter": null});
    let everywhere = |call: Call| -> Vec<Batch> {
        request
            .topology
            .nodes()
            .map(|node| Batch {
                node: node.id.clone(),
                shards: placement.owned_by(&node.id),
                calls: vec![call.clone()],
            })
            .collect()
    };
    let (touched, batches, task) = match deletion {
        Deletion::All => {
            let call = Call::new(Verb::DELETE, "documents_clear", base);
            let all = ShardSet::full(index.shards);
            (all, everywhere(call), task(json!({"deletedDocuments": null})))
        }
        Deletion::Filter(filter) => {
            // A body that no node would take must not reach some of them: an index that does not
            // exist checks it without effect.
            if let Some(node) = scatter.shared.any_node() {
                let mut probe = request.original.replay("/indexes/miroir-filter-check");
                words::hide(&mut probe);
                if let Err(error) = scatter.shared.call(&node, &probe, &request.cx).await {
                    return Err(words::scrub(error, &index, true));
                }
            }
            let body = format!("{{\"filter\":{}}}", filter.get());
            let call = Call::new(Verb::POST, "documents_delete", format!("{base}/delete"));
            let fields = json!({
                "providedIds": 0, "deletedDocuments": null, "originalFilter": compact(&filter),
            });
            (ShardSet::full(index.shards), everywhere(call.json(body)), task(fields))
        }
        Deletion::One(id) => {
            let shard = shard_of(id.as_bytes(), index.shards);
            let path = format!("{base}/{}", crate::http::encode(&id));
            let call = Call::new(Verb::DELETE, "documents_delete", path);
            let touched = ShardSet::single(shard, index.shards);
            let batches = placement
                .write_targets(shard)
                .map(|(_, node)| Batch {
                    node: node.clone(),
                    shards: touched.clone(),
                    calls: vec![call.clone()],
                })
                .collect();
            (touched, batches, task(by_id(1)))
        }
        Deletion::Ids { ids } => {
            let provided = ids.len();
            let placed: Vec<(ShardId, String)> =
                ids.into_iter().map(|id| (shard_of(id.as_bytes(), index.shards), id)).collect();
            let mut touched = ShardSet::empty(index.shards);
            for (shard, _) in &placed {
                touched.insert(*shard);
            }
            if placed.is_empty() {
                let fields =
                    json!({"providedIds": 0, "deletedDocuments": 0, "originalFilter": null});
                return decided(&scatter, task(fields), Ok(()), &request.cx).await;
            }
            let path = format!("{base}/delete-batch");
            let mut batches = Vec::new();
            for node in request.topology.nodes() {
                let shards = placement.owned_by(&node.id).intersection(&touched);
                let mine: Vec<&str> = placed
                    .iter()
                    .filter(|(shard, _)| shards.contains(*shard))
                    .map(|(_, id)| id.as_str())
                    .collect();
                if mine.is_empty() {
                    continue;
                }
                let body = serde_json::to_vec(&mine).unwrap_or_default();
                let call = Call::new(Verb::POST, "documents_delete", path.clone()).json(body);
                batches.push(Batch { node: node.id.clone(), shards, calls: vec![call] });
            }
            (touched, batches, task(by_id(provided)))
        }
    };
    finish(scatter, request.clone(), index, touched, batches, task).await
}
