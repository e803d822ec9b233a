//! Other names and another primary key for an index: `PATCH /indexes/{uid}`, `POST /swap-indexes`.
//!
//! A change of names takes its turn ([`crate::naming::deferred`]), one of the primary key does not wait.
//!
//! Both run detached from the client, behind the gates of all names, so that they come before or
//! after everything else that is done to these indexes, as on one node.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use miroir_api::meili::{ApiError, TaskKind};
use miroir_api::{IndexUid, NodeId, TaskUid};
use miroir_core::quorum::{self, QuorumDecision};
use miroir_core::routing::ShardSet;
use miroir_pipeline::context::{Context, Origin};
use miroir_pipeline::error::{Error, ErrorKind, Fault};
use miroir_pipeline::node::Call;
use miroir_pipeline::operation::{Request, Response};
use miroir_pipeline::query::RawObject;
use miroir_store::task_state::{Move, Renaming};
use miroir_store::{IndexEntry, NewTask, NodeTask, TaskRecord, TaskState, clock};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::time::{Instant, sleep};

use crate::api::indexes::{already_exists, object};
use crate::api::keys::forbidden;
use crate::api::{Control, tasks};
use crate::naming::{self, all_not_found, deferred, not_found, quoted};

/// How long a change of the primary key waits for documents that were enqueued before it: they decide
/// whether the index is empty. Writes to the index wait as long.
const SETTLING: Duration = Duration::from_secs(2);
/// What decides whether an index has documents.
const DECISIVE: [TaskKind; 4] = [
    TaskKind::DocumentAdditionOrUpdate,
    TaskKind::DocumentDeletion,
    TaskKind::DocumentEdition,
    TaskKind::IndexCreation,
];
/// Pause between two looks at them.
const LOOK: Duration = Duration::from_millis(50);
/// Pause before a store that failed is asked again to carry out what it has on record.
const STORE_PAUSE: Duration = Duration::from_millis(200);

/// Two names that are exchanged, or a name for another one.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Swap {
    indexes: Vec<String>,
    #[serde(default)]
    rename: bool,
}

/// What a client wants of an index.
#[derive(Debug)]
struct Update {
    name: IndexUid,
    new: Option<IndexUid>,
    key: Option<String>,
}

fn moved(entry: &IndexEntry, to: &IndexUid) -> Move {
    Move {
        incarnation: entry.incarnation,
        physical: entry.physical.clone(),
        from: entry.name.clone(),
        to: to.clone(),
    }
}

impl Control {
    pub(crate) async fn update(&self, request: &Request, name: &str) -> Result<Response, Error> {
        let uid =
            IndexUid::new(name).map_err(|e| Error::api("invalid_index_uid", e.to_string()))?;
        let body = RawObject::parse(&request.original.body).filter(|_| request.original.is_json());
        let parsed =
            body.filter(|o| o.keys().all(|k| matches!(k, "uid" | "primaryKey"))).and_then(|o| {
                let new = match o.read::<String>("uid").ok()? {
                    Some(text) => Some(IndexUid::new(&text).ok()?),
                    None => None,
                };
                Some((new, o.read::<String>("primaryKey").ok()?))
            });
        let Some((new, key)) = parsed else {
            return Err(self.refusal(request, miroir_pipeline::node_errors::nowhere()).await);
        };
        let update = Update { name: uid, new, key };
        let (this, cx) = (self.clone(), request.cx.clone());
        let job = self.state.tracker.spawn(async move { this.update_now(update, &cx).await });
        job.await.map_err(Error::internal)?
    }

    async fn update_now(&self, update: Update, cx: &Context) -> Result<Response, Error> {
        let _guard = self.state.leadership.begin_change();
        let Update { name, new, key } = update;
        let mut details = json!({"primaryKey": key});
        if let Some(new) = &new {
            details["oldIndexUid"] = json!(name);
            details["newIndexUid"] = json!(new);
        }
        let details = object(details);
        let refuse = |error| {
            let (details, kind) = (details.clone(), TaskKind::IndexUpdate);
            self.decided(Some(name.as_str()), kind, details, None, Err(error))
        };
        let others: Vec<&IndexUid> = new.iter().collect();
        let gate = cx.deadline.run(Box::pin(naming::close(&self.state, &name, &others))).await??;
        let Some(entry) = self.state.catalog.get(&name) else {
            return refuse(not_found(name.as_str())).await;
        };
        let to = new.as_ref().unwrap_or(&name);
        if *to != name && self.is_taken(to) {
            return refuse(already_exists(to.as_str())).await;
        }
        let asked = key.clone();
        let key = key.filter(|key| entry.primary_key.as_ref() != Some(key));
        let mut task = NewTask {
            details: details.clone(),
            idempotency: cx.task_key(),
            ..NewTask::about(&entry, TaskKind::IndexUpdate, clock::now())
        };
        let mut primary_key = None;
        if let (Some(key), Some(known)) = (&key, &entry.primary_key) {
            if self.is_empty(&entry).await? {
                task.nodes = self.nodes_to_rekey(&entry)?;
                primary_key = Some(key.clone());
            } else {
                // One node has given the index its new name by the time it notices.
                let error = ApiError::new(
                    "index_primary_key_already_exists",
                    format!("Index `{to}`: Index already has a primary key: `{known}`."),
                );
                if *to == name {
                    return refuse(error).await;
                }
                task.error = Some(error);
            }
        } else {
            // Nodes have none: they get it with the first documents. Or it is theirs already, and stays
            // though these documents may be canceled.
            primary_key.clone_from(&asked);
        }
        let intent = Renaming { moves: vec![moved(&entry, to)], primary_key };
        let alone = asked.is_none() && task.error.is_none();
        let awaits = if alone { deferred::awaited(&self.state, &intent) } else { Vec::new() };
        task.protocol = TaskState::Rename { awaits, intent: Some(intent) }.into();
        let record = self.carry_out(task).await;
        drop(gate);
        Ok(tasks::accepted(&record?))
    }

    /// Stores a task with what it intends, and carries it out unless it is to wait. The caller holds
    /// the gates.
    async fn carry_out(&self, task: NewTask) -> Result<TaskRecord, Error> {
        let stored = self.state.stores.tasks.insert(task).await?;
        if stored.is_deferred() {
            return Ok(stored);
        }
        let _in_flight = self.state.writes_in_flight.begin(stored.uid);
        let mut again = false;
        loop {
            match naming::carry_out(&self.state, stored.clone(), again).await {
                // It is on record, so it is not left half done.
                Err(error) if *error.fault() == Fault::Store && !self.state.stop.is_cancelled() => {
                    tracing::warn!(task = %stored.uid, %error, "names are changed later");
                    sleep(STORE_PAUSE).await;
                    again = true;
                }
                done => return done,
            }
        }
    }

    /// Whether an index has no documents, once what was enqueued about them before has ended.
    /// Documents that are still on their way after a while count as there. The caller holds the gate.
    async fn is_empty(&self, entry: &IndexEntry) -> Result<bool, Error> {
        let until = Instant::now() + SETTLING;
        loop {
            let kinds = self.decisive(entry).await?;
            if kinds.is_empty() {
                break;
            }
            if Instant::now() >= until {
                if kinds.contains(&TaskKind::DocumentAdditionOrUpdate) {
                    return Ok(false);
                }
                break;
            }
            sleep(LOOK).await;
        }
        let topology = self.state.membership.topology();
        let cx = Context::internal(Origin::Settings, self.state.options.scatter.call_timeout());
        let call = Call::get("index_stats", format!("/indexes/{}/stats", entry.physical));
        let asked = join_all(topology.nodes().map(|node| async {
            let count = match self.state.nodes.call(&node.id, &call, &cx).await {
                Ok(body) => Call::parse::<Value>(&node.id, &body)?["numberOfDocuments"].as_u64(),
                // It is about to make the index.
                Err(error) if matches!(error.kind(), ErrorKind::Verbatim { .. }) => Some(0),
                Err(error) => return Err(error),
            };
            Ok::<_, Error>((node.id.clone(), count.unwrap_or(0)))
        }))
        .await;
        let known: Vec<(NodeId, u64)> = asked.into_iter().filter_map(Result::ok).collect();
        if known.iter().any(|(_, count)| *count > 0) {
            return Ok(false);
        }
        // Those who do not answer may have some that nobody else has.
        let (stale, placement) = (self.state.staleness.load(), topology.placement(entry.shards));
        let mut open = ShardSet::empty(entry.shards);
        for shard in ShardSet::full(entry.shards).iter() {
            let seen = |node: &NodeId| {
                known.iter().any(|(asked, _)| asked == node)
                    && stale.is_authority(&entry.physical, node, shard)
            };
            if !placement.write_targets(shard).any(|(_, node)| seen(node)) {
                open.insert(shard);
            }
        }
        if open.is_empty() { Ok(true) } else { Err(Error::shards_unavailable(open)) }
    }

    /// Kinds of unfinished tasks that decide whether an index has documents. Those of an index that had
    /// its name on the nodes before do not.
    async fn decisive(&self, entry: &IndexEntry) -> Result<Vec<TaskKind>, Error> {
        let last = |kind| self.state.open_tasks.last_of(&entry.physical, kind);
        let uids: Vec<TaskUid> = DECISIVE.into_iter().filter_map(last).collect();
        let tasks = self.state.stores.tasks.get_many(uids).await?;
        let own = |task: &&TaskRecord| {
            !task.status.is_terminal()
                && task.incarnation.is_none_or(|seen| entry.is_incarnation(seen))
        };
        Ok(tasks.iter().filter(own).map(|task| task.kind).collect())
    }

    /// The node tasks of another primary key, those of nodes that cannot be reached dropped.
    fn nodes_to_rekey(&self, entry: &IndexEntry) -> Result<Vec<NodeTask>, Error> {
        let topology = self.state.membership.topology();
        let stale = self.state.staleness.load();
        let there = |node: &NodeId| self.state.is_available(node);
        let verdict = quorum::evaluate(
            &topology.placement(entry.shards),
            topology.replication_factor(),
            self.state.options.write_quorum,
            &ShardSet::full(entry.shards),
            |node, _| there(node) && !stale.lacks_index(&entry.physical, node),
        );
        if let QuorumDecision::NoQuorum { shards, .. } = verdict {
            return Err(Error::no_quorum(shards));
        }
        let task =
            |id: &NodeId| NodeTask { dropped: !there(id), ..NodeTask::new(id.clone(), None) };
        Ok(topology.nodes().map(|node| task(&node.id)).collect())
    }

    pub(crate) async fn swap(&self, request: &Request) -> Result<Response, Error> {
        // As nodes read it: the last of two members of one name counts, and the media type comes first.
        let body = Some(&request.original.body).filter(|_| request.original.is_json());
        let body = body.and_then(|body| serde_json::from_slice::<Value>(body).ok());
        let parsed: Option<Vec<Swap>> = body.and_then(|body| serde_json::from_value(body).ok());
        let pairs = parsed.iter().flatten().take_while(|swap| swap.indexes.len() == 2);
        let mut named = pairs.flat_map(|swap| &swap.indexes);
        let readable = named.clone().all(|name| IndexUid::new(name).is_ok());
        if readable && named.any(|name| !request.cx.scope.allows(name)) {
            return Err(forbidden());
        }
        let valid = parsed.filter(|swaps| {
            let mut seen = BTreeSet::new();
            swaps.iter().all(|s| s.indexes.len() == 2)
                && swaps
                    .iter()
                    .flat_map(|s| &s.indexes)
                    .all(|n| IndexUid::new(n).is_ok() && seen.insert(n.clone()))
        });
        let Some(swaps) = valid else { return Err(self.refusal(request, "").await) };
        let (this, cx) = (self.clone(), request.cx.clone());
        let job = self.state.tracker.spawn(async move { this.swap_now(swaps, &cx).await });
        job.await.map_err(Error::internal)?
    }

    async fn swap_now(&self, swaps: Vec<Swap>, cx: &Context) -> Result<Response, Error> {
        let _guard = self.state.leadership.begin_change();
        let shown: Vec<Value> =
            swaps.iter().map(|s| json!({"indexes": s.indexes, "rename": s.rename})).collect();
        let details: Option<Map<String, Value>> = object(json!({"swaps": shown}));
        let decide =
            |result| self.decided(None, TaskKind::IndexSwap, details.clone(), None, result);
        let names: Vec<IndexUid> =
            swaps.iter().flat_map(|s| &s.indexes).filter_map(|n| IndexUid::new(n).ok()).collect();
        let Some((first, others)) = names.split_first() else { return decide(Ok(())).await };
        let others: Vec<&IndexUid> = others.iter().collect();
        let gate = cx.deadline.run(Box::pin(naming::close(&self.state, first, &others))).await??;
        let pairs = swaps.iter().zip(names.chunks(2));
        let moves = match self.exchanged(pairs.map(|(swap, names)| (names, swap.rename))) {
            Ok(moves) => moves,
            Err(error) => return decide(Err(error)).await,
        };
        let intent = Renaming { moves, primary_key: None };
        let awaits = deferred::awaited(&self.state, &intent);
        let task = NewTask {
            details: details.clone(),
            idempotency: cx.task_key(),
            protocol: TaskState::Rename { awaits, intent: Some(intent) }.into(),
            ..NewTask::new(TaskKind::IndexSwap, clock::now())
        };
        let record = self.carry_out(task).await;
        drop(gate);
        Ok(tasks::accepted(&record?))
    }

    /// The moves of the pairs of a swap. All indexes that are missing are named, once and sorted, before
    /// names that are taken.
    fn exchanged<'a>(
        &self,
        pairs: impl Iterator<Item = (&'a [IndexUid], bool)>,
    ) -> Result<Vec<Move>, ApiError> {
        let (mut moves, mut gone) = (Vec::new(), BTreeSet::new());
        let mut taken: BTreeSet<(&IndexUid, &IndexUid)> = BTreeSet::new();
        for (names, rename) in pairs {
            let [a, b] = names else { continue };
            let (first, second) = (self.state.catalog.get(a), self.state.catalog.get(b));
            if first.is_none() {
                gone.insert(a.as_str());
            }
            if rename && self.is_taken(b) {
                taken.insert((a, b));
            } else if !rename && second.is_none() {
                gone.insert(b.as_str());
            }
            moves.extend(first.map(|first| moved(&first, b)));
            moves.extend(second.filter(|_| !rename).map(|second| moved(&second, a)));
        }
        if !gone.is_empty() {
            return Err(all_not_found(&gone));
        }
        let message = match taken.iter().next() {
            None => return Ok(moves),
            Some((a, b)) if taken.len() == 1 => format!(
                "Cannot rename `{a}` to `{b}` as the index already exists. Hint: You can remove \
                 `{b}` first and then do your remove."
            ),
            Some(_) => format!(
                "The following indexes are being renamed but cannot because their new name \
                 conflicts with an already existing index: {}. Renaming doesn't overwrite the other \
                 index name.",
                quoted(taken.iter().map(|(_, b)| b.as_str())),
            ),
        };
        Err(ApiError::new("index_already_exists", message))
    }
}
