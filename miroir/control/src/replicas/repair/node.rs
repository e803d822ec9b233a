//! What a repair asks nodes, and what it sends them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use miroir_api::NodeId;
use miroir_api::meili::TaskStatus;
use miroir_core::copying::{Content, Outcome, content};
use miroir_core::documents::shard_value;
use miroir_core::routing::ShardSet;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use super::{Trouble, cx};
use crate::node_tasks::{NodeTaskView, ask};
use crate::replicas::foreign;
use miroir_pipeline::cluster::sequencer::Ticket;
use miroir_pipeline::cluster::{ClusterState, disk_loss};
use miroir_pipeline::error::{Error, ErrorKind, NodeFailure};
use miroir_pipeline::node::{Call, TaskRef};
use miroir_store::IndexEntry;

/// So many bytes are sent at a time at most, unless one document is larger.
const BYTES: usize = 8 << 20;
/// A page is asked for that has so many bytes if its documents are like those of the page before. Where
/// they are larger, there is room up to [`BYTES`].
const PAGE: usize = BYTES / 4 * 3;
/// At most so many documents are read and sent at a time.
pub(in crate::replicas) const DOCUMENTS: usize = 1000;
/// Documents of the first page: nobody knows how large they are.
const FIRST: usize = 16;
/// Task uids per question.
pub(super) const UIDS: usize = 200;
/// Parsing more than so many bytes would hold up everybody else on the thread.
const LARGE: usize = 1 << 20;

/// A document as a node shows it.
#[derive(Clone, Debug)]
pub(in crate::replicas) struct Shown {
    pub(in crate::replicas) id: Arc<str>,
    pub(in crate::replicas) content: Content,
    pub(in crate::replicas) raw: Box<RawValue>,
}

/// How many documents are asked for at a time; follows their size.
#[derive(Clone, Copy, Debug)]
pub(in crate::replicas) struct PageSize {
    now: usize,
    most: usize,
}

impl Default for PageSize {
    fn default() -> Self {
        Self { now: FIRST, most: DOCUMENTS }
    }
}

impl PageSize {
    /// As many as fit, and never more than this.
    pub(in crate::replicas) fn at_most(most: usize) -> Self {
        let most = most.clamp(1, DOCUMENTS);
        Self { now: FIRST.min(most), most }
    }

    pub(super) fn get(self) -> usize {
        self.now
    }

    /// Learns from a page.
    fn learn(&mut self, documents: usize, bytes: usize) {
        if let Some(average) = bytes.checked_div(documents) {
            let fits = PAGE / average.max(1);
            self.now = fits.min(self.now * 8).clamp(1, self.most);
        }
    }

    /// A page was too large. False where it cannot get any smaller.
    fn halve(&mut self) -> bool {
        let smaller = self.now / 2;
        self.now = smaller.max(1);
        smaller > 0
    }
}

/// Which documents of some shards.
#[derive(Clone, Copy, Debug)]
pub(in crate::replicas) enum Which<'a> {
    /// Those from an offset on, one more if there is one to be seen again.
    From(usize, bool),
    /// Those with these ids.
    Ids(&'a [Arc<str>]),
}

/// Whether a body was too large, or the answer: a smaller one may do.
fn is_too_large(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::Verbatim { status, .. } => *status == StatusCode::PAYLOAD_TOO_LARGE,
        ErrorKind::NodeFailed(failure) => {
            matches!(failure, NodeFailure::TooLarge | NodeFailure::Body)
        }
        _ => false,
    }
}

fn timed_out(error: &Error) -> bool {
    error.node_failure() == Some(NodeFailure::Timeout)
}

/// Reads some documents of a node. The flag says whether there are no more after them.
pub(in crate::replicas) async fn read(
    state: &ClusterState,
    entry: &IndexEntry,
    node: &NodeId,
    shards: &ShardSet,
    which: Which<'_>,
    size: &mut PageSize,
) -> Result<(Vec<Shown>, bool), Trouble> {
    #[derive(serde::Deserialize)]
    struct Listing {
        results: Vec<Box<RawValue>>,
    }
    let key = entry.primary_key.clone().unwrap_or_default();
    let filter = filter(shards, entry);
    loop {
        let (selected, asked) = match which {
            Which::From(offset, again) => {
                (json!({"offset": offset}), size.now + usize::from(again))
            }
            Which::Ids(ids) => (json!({"ids": ids}), ids.len()),
        };
        let mut body = selected;
        body["filter"] = json!(filter);
        body["limit"] = json!(asked);
        body["retrieveVectors"] = json!(true);
        let path = format!("/indexes/{}/documents/fetch", entry.physical);
        let call = Call::read(Method::POST, "documents_fetch", path).json(body.to_string());
        let patience = state.options.scatter.call_timeout() * 6;
        let body = match state.nodes.call_within(node, &call, &cx(), patience).await {
            Ok(body) => body,
            Err(error) if is_too_large(&error) || timed_out(&error) => match which {
                Which::From(..) if size.halve() => continue,
                Which::From(offset, _) if is_too_large(&error) => {
                    let detail = format!("the document at {offset} on {node}: {error}");
                    return Err(Trouble::blocked("document_too_large", detail));
                }
                _ => return Err(error.into()),
            },
            Err(error) => return Err(error.into()),
        };
        let bytes = body.len();
        let parse = {
            let (node, key) = (node.clone(), key.clone());
            move || -> Result<Vec<Shown>, Error> {
                let listing = Call::parse::<Listing>(&node, &body)?;
                let garbage = || Error::node(&node, NodeFailure::Garbage);
                let shown = |raw: Box<RawValue>| {
                    let fields: Map<String, Value> = serde_json::from_str(raw.get()).ok()?;
                    let id = id_of(&fields, &key)?;
                    Some(Shown { id, content: content(&fields), raw })
                };
                listing.results.into_iter().map(|raw| shown(raw).ok_or_else(garbage)).collect()
            }
        };
        let shown = if bytes > LARGE {
            tokio::task::spawn_blocking(parse).await.map_err(Error::internal)??
        } else {
            parse()?
        };
        metrics::counter!("miroir_copy_documents_read_total").increment(shown.len() as u64);
        size.learn(shown.len(), bytes);
        let last = shown.len() < asked;
        return Ok((shown, last));
    }
}

fn filter(shards: &ShardSet, entry: &IndexEntry) -> String {
    let values: Vec<String> =
        shards.iter().map(|s| format!("'{}'", shard_value(s.0, entry.shards))).collect();
    format!("_miroir_shard IN [{}]", values.join(","))
}

fn id_of(fields: &Map<String, Value>, key: &str) -> Option<Arc<str>> {
    match fields.get(key)? {
        Value::String(text) => Some(Arc::from(text.as_str())),
        Value::Number(number) => Some(Arc::from(number.to_string())),
        _ => None,
    }
}

/// The ids of a page of a node's documents.
pub(in crate::replicas) async fn ids(
    state: &ClusterState,
    entry: &IndexEntry,
    node: &NodeId,
    shards: &ShardSet,
    offset: usize,
) -> Result<Vec<Arc<str>>, Trouble> {
    #[derive(serde::Deserialize)]
    struct Listing {
        results: Vec<Map<String, Value>>,
    }
    let key = entry.primary_key.clone().unwrap_or_default();
    let body = json!({
        "filter": filter(shards, entry), "fields": [key], "offset": offset, "limit": DOCUMENTS,
    });
    let path = format!("/indexes/{}/documents/fetch", entry.physical);
    let call = Call::read(Method::POST, "documents_fetch", path).json(body.to_string());
    let body = state.nodes.call(node, &call, &cx()).await?;
    let listing = Call::parse::<Listing>(node, &body)?;
    Ok(listing.results.iter().filter_map(|fields| id_of(fields, &key)).collect())
}

/// Sends a call that enqueues a task. Returns its uid.
pub(super) async fn send(state: &ClusterState, node: &NodeId, call: &Call) -> Result<u32, Trouble> {
    let before = state.membership.task_uids.highest(node);
    let patience = state.options.scatter.call_timeout() * 6;
    let body = state.nodes.call_within(node, call, &cx(), patience).await?;
    let task: TaskRef = Call::parse(node, &body)?;
    disk_loss::accept_task_uid(state, node, before, task.task_uid).await?;
    Ok(task.task_uid)
}

/// By what it is known who sent a copy, and with which call: its `customMetadata`.
fn copy_tag(state: &ClusterState) -> String {
    format!("miroir:{}:copy:{}", state.store_id, Uuid::now_v7().simple())
}

/// Writes documents to a node, in bodies of bounded size. Returns the uids of the tasks.
pub(super) async fn write(
    state: &ClusterState,
    entry: &IndexEntry,
    node: &NodeId,
    documents: &[&Shown],
) -> Result<Vec<u32>, Trouble> {
    let key = entry.primary_key.as_deref().unwrap_or_default();
    let key = miroir_pipeline::query::encode(key);
    let path = format!("/indexes/{}/documents?primaryKey={key}&customMetadata=", entry.physical);
    let mut uids = Vec::new();
    let (mut at, mut most) = (0, BYTES);
    while at < documents.len() {
        let mut payload = Vec::new();
        let mut next = at;
        while let Some(document) = documents.get(next) {
            let text = document.raw.get().as_bytes();
            if next > at && payload.len() + text.len() > most {
                break;
            }
            payload.push(if next == at { b'[' } else { b',' });
            payload.extend_from_slice(text);
            next += 1;
        }
        payload.push(b']');
        let length = payload.len();
        let path = format!("{path}{}", copy_tag(state));
        let call = Call::change(Method::POST, "documents_post", path).json(Bytes::from(payload));
        match send(state, node, &call).await {
            Ok(uid) => {
                uids.push(uid);
                let count = (next - at) as u64;
                metrics::counter!("miroir_copy_documents_written_total").increment(count);
                if state.committed.load().change.is_some() {
                    metrics::counter!("miroir_rebalance_documents_migrated_total").increment(count);
                }
                at = next;
            }
            Err(Trouble::Failed(error)) if is_too_large(&error) => {
                if next == at + 1 {
                    let detail = format!("document `{}` on {node}: {error}", documents[at].id);
                    return Err(Trouble::blocked("document_too_large", detail));
                }
                most = length / 2;
            }
            Err(trouble) => return Err(trouble),
        }
    }
    Ok(uids)
}

/// Deletes documents of a node by their ids. Returns the uids of the tasks.
pub(super) async fn delete(
    state: &ClusterState,
    entry: &IndexEntry,
    node: &NodeId,
    ids: &[&Arc<str>],
) -> Result<Vec<u32>, Trouble> {
    let path = format!("/indexes/{}/documents/delete-batch?customMetadata=", entry.physical);
    let mut uids = Vec::new();
    for some in ids.chunks(DOCUMENTS) {
        let body = serde_json::to_vec(some).map_err(Error::internal)?;
        let path = format!("{path}{}", copy_tag(state));
        let call = Call::change(Method::POST, "documents_delete", path).json(body);
        uids.push(send(state, node, &call).await?);
        metrics::counter!("miroir_copy_documents_written_total").increment(some.len() as u64);
    }
    Ok(uids)
}

/// How tasks of a node ended: those that have. One that the node does not know any more may have
/// ended in any way.
pub(super) async fn ends(
    state: &ClusterState,
    node: &NodeId,
    uids: &[u32],
) -> Result<BTreeMap<u32, Outcome>, Trouble> {
    let list: Vec<String> = uids.iter().map(u32::to_string).collect();
    let seen = ask(state, node, &format!("uids={}&limit={}", list.join(","), list.len())).await?;
    let seen: BTreeMap<u32, NodeTaskView> = seen.into_iter().map(|task| (task.uid, task)).collect();
    let end = |uid: &u32| match seen.get(uid) {
        None => Some((*uid, Outcome::Unknown)),
        Some(task) if task.status == TaskStatus::Succeeded => Some((*uid, Outcome::Succeeded)),
        Some(task) if task.status.is_terminal() => Some((*uid, Outcome::Failed)),
        Some(_) => None,
    };
    Ok(uids.iter().filter_map(end).collect())
}

/// The newest task of an index on a node.
async fn newest(state: &ClusterState, node: &NodeId, index: &str) -> Result<Option<u32>, Trouble> {
    let tasks = ask(state, node, &format!("indexUids={index}&limit=1")).await?;
    Ok(tasks.first().map(|task| task.uid))
}

/// The oldest task of an index that a node has not ended. Nodes work off the tasks of one index in
/// the order of their uids.
pub(super) async fn oldest_unfinished(
    state: &ClusterState,
    node: &NodeId,
    index: &str,
) -> Result<Option<u32>, Trouble> {
    let query = format!("indexUids={index}&statuses=enqueued,processing&limit=1&reverse=true");
    Ok(ask(state, node, &query).await?.first().map(|task| task.uid))
}

/// Whether a node has nothing left to do for an index.
pub(crate) async fn idle(state: &ClusterState, node: &NodeId, index: &str) -> Result<bool, Error> {
    let query = format!("indexUids={index}&statuses=enqueued,processing&limit=1");
    Ok(ask(state, node, &query).await?.is_empty())
}

/// Whether a node has done every change of an index's settings that it took.
pub(crate) async fn has_all_settings(
    state: &ClusterState,
    node: &NodeId,
    index: &str,
) -> Result<bool, Error> {
    let open = "types=settingsUpdate&statuses=enqueued,processing&limit=1";
    Ok(ask(state, node, &format!("indexUids={index}&{open}")).await?.is_empty())
}

/// Waits until a node has ended tasks, as long as it answers.
pub(super) async fn wait(
    state: &ClusterState,
    node: &NodeId,
    uids: &[u32],
) -> Result<BTreeMap<u32, Outcome>, Trouble> {
    let mut pause = Pause::default();
    loop {
        let ends = ends(state, node, uids).await?;
        if ends.len() == uids.len() {
            return Ok(ends);
        }
        pause.wait().await;
    }
}

/// Waits that get longer while nothing changes: an eighth of what was waited, from 5 to 400 ms, so that
/// little is asked of a node whose queue is long.
#[derive(Debug)]
pub(super) struct Pause(Instant);

impl Default for Pause {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Pause {
    pub(super) async fn wait(&mut self) {
        let eighth = self.0.elapsed() / 8;
        tokio::time::sleep(eighth.clamp(Duration::from_millis(5), Duration::from_millis(400)))
            .await;
    }
}

/// Waits until a node has ended what it has been given for an index by now.
pub(in crate::replicas) async fn work_off(
    state: &ClusterState,
    index: &str,
    node: &NodeId,
    check: impl Fn() -> Result<(), Trouble>,
) -> Result<(), Trouble> {
    let Some(newest) = newest(state, node, index).await? else { return Ok(()) };
    let mut pause = Pause::default();
    while oldest_unfinished(state, node, index).await?.is_some_and(|uid| uid <= newest) {
        check()?;
        pause.wait().await;
    }
    Ok(())
}

/// Waits until two nodes, the first of which is to be copied from, have ended what was written to an
/// index before, and until it is on record what of that the first one is without. `turns` are behind
/// all of it.
pub(super) async fn settle_before(
    state: &ClusterState,
    index: &str,
    nodes: [&NodeId; 2],
    turns: [Ticket; 2],
    check: impl Fn() -> Result<(), Trouble>,
) -> Result<(), Trouble> {
    let written = state.open_tasks.newest_of(index);
    for mut turn in turns {
        turn.turn().await;
    }
    for node in nodes {
        work_off(state, index, node, &check).await?;
    }
    // A call that failed, or a task, is not on record yet: until then its node looks as sound as those
    // that have the write.
    if let Some(written) = written {
        let mut pause = Pause::default();
        while state.open_tasks.is_in_doubt(index, nodes[0], written) {
            check()?;
            pause.wait().await;
        }
    }
    Ok(())
}

/// Waits until it is known of all that a copy's nodes have taken whose it is. A call that comes late has
/// no place among the others: what was read at the source after it says nothing.
pub(super) async fn account_for(
    state: &ClusterState,
    nodes: [&NodeId; 2],
    check: impl Fn() -> Result<(), Trouble>,
) -> Result<(), Trouble> {
    for node in nodes {
        let Some(newest) = foreign::newest(state, node).await? else { continue };
        let mut pause = Pause::default();
        while !foreign::has_accounted(state, node, newest).await? {
            check()?;
            pause.wait().await;
        }
    }
    check()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_room_for_documents_that_are_a_third_larger_than_those_before() {
        let mut size = PageSize::default();
        for _ in 0..4 {
            size.learn(size.get(), size.get() * 100_000);
        }
        assert_eq!(size.get(), PAGE / 100_000);
        assert!(size.get() * 133_000 <= BYTES);
        // A document that is larger than a page is one all the same, and thousands are no more.
        size.learn(1, 2 * BYTES);
        assert_eq!(size.get(), 1);
        for _ in 0..9 {
            size.learn(size.get(), size.get());
        }
        assert_eq!(size.get(), DOCUMENTS);
    }
}
