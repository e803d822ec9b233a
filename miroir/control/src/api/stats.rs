//! Counting documents, each once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::api::Control;
use crate::api::tasks::all_of;
use miroir_api::meili::TaskStatus;
use miroir_core::merge::{IndexStats, merge_stats};
use miroir_core::routing::ShardSet;
use miroir_pipeline::error::Error;
use miroir_pipeline::leaf::lacks_index;
use miroir_pipeline::node::Call;
use miroir_pipeline::node_errors;
use miroir_pipeline::operation::{Request, Response};
use miroir_store::{IndexEntry, TaskQuery, clock};

/// Indexes that are counted at one time.
const AT_ONCE: usize = 16;

/// Figures of a node that describe the machine rather than documents.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct NodeStats {
    database_size: u64,
    used_database_size: u64,
    indexes: BTreeMap<String, IndexStats>,
}

/// Whether a node refuses because it has not come to the making of the index, or to what prepares it
/// for being asked about shards: nothing is in it there, since documents come after that. (A node
/// that lost an index is not asked: its copy is known to be stale.)
fn holds_nothing(error: &Error) -> bool {
    lacks_index(error) || node_errors::is_unprepared(error)
}

impl Control {
    /// How many documents an index has, counted exactly over a cover.
    pub(crate) async fn count(
        &self,
        request: &Request,
        entry: &Arc<IndexEntry>,
    ) -> Result<u64, Error> {
        self.counted(request, entry, |_| false).await
    }

    /// The same, where some failures of a node mean that it has no document of the index.
    async fn counted(
        &self,
        request: &Request,
        entry: &Arc<IndexEntry>,
        empty: fn(&Error) -> bool,
    ) -> Result<u64, Error> {
        let all = ShardSet::full(entry.shards);
        let mut answer = self.fetch(request, entry, all, &json!({"limit": 0})).await?;
        answer.failed.retain(|failed| !empty(&failed.error));
        if !answer.missing.is_empty() || !answer.failed.is_empty() {
            let mut missing = answer.missing;
            answer.failed.iter().for_each(|f| missing.union_with(&f.shards));
            return Err(Error::shards_unavailable(missing));
        }
        let mut total = 0;
        for page in answer.pages {
            let value: Value = Call::parse(&page.node, &page.body)?;
            total += value["total"].as_u64().unwrap_or(0);
        }
        Ok(total)
    }

    /// One index's statistics: from a group whose nodes are all well and up to date, where every
    /// document is there RF times; from what is left otherwise.
    async fn stats_of(
        &self,
        request: &Request,
        entry: &Arc<IndexEntry>,
        nodes: &BTreeMap<miroir_api::NodeId, NodeStats>,
    ) -> Result<IndexStats, Error> {
        let topology = self.state.membership.topology();
        let stale = self.state.staleness.load();
        let touched = |node: &miroir_api::NodeId| stale.touches(&entry.physical, node);
        let copies = u64::from(topology.replication_factor());
        let mut sound: Vec<(&miroir_api::NodeId, &IndexStats)> = Vec::new();
        // While the layout changes not every document is there as often.
        let even = !topology.placement(entry.shards).changes();
        for group in topology.complete_groups() {
            let known: Vec<_> = group
                .nodes
                .iter()
                .filter(|node| !touched(&node.id))
                .filter_map(|node| {
                    Some((&node.id, nodes.get(&node.id)?.indexes.get(&entry.physical)?))
                })
                .collect();
            if even && known.len() == group.nodes.len() {
                return Ok(merge_stats(known.into_iter().map(|(_, stats)| stats), copies));
            }
            sound.extend(known);
        }
        let documents = match self.counted(request, entry, holds_nothing).await {
            Ok(count) => count,
            // Not made yet anywhere.
            Err(error)
                if matches!(error.kind(), miroir_pipeline::error::ErrorKind::Verbatim { .. }) =>
            {
                0
            }
            Err(error) => return Err(error),
        };
        Ok(self.stats_of_rest(request, entry, &sound, documents).await)
    }

    /// Indexes, by their names on the nodes, with a task under way: nodes that were asked may have done
    /// their part of it.
    async fn busy_indexes(&self) -> Result<BTreeSet<String>, Error> {
        let query =
            TaskQuery { statuses: Some(vec![TaskStatus::Processing]), ..TaskQuery::default() };
        let physical = all_of(&self.state.stores.tasks, query, |task| task.physical).await?;
        Ok(physical.into_iter().collect())
    }

    async fn node_stats(&self, request: &Request) -> BTreeMap<miroir_api::NodeId, NodeStats> {
        let topology = self.state.membership.topology();
        let path =
            if wants_sizes(request) { "/stats?showInternalDatabaseSizes=true" } else { "/stats" };
        let call = Call::get("stats_get", path);
        let answers = join_all(topology.nodes().filter(|n| n.is_readable()).map(|node| {
            let call = &call;
            async move {
                let body = self.state.nodes.call(&node.id, call, &request.cx).await.ok()?;
                Some((node.id.clone(), Call::parse::<NodeStats>(&node.id, &body).ok()?))
            }
        }))
        .await;
        answers.into_iter().flatten().collect()
    }

    pub(crate) async fn index_stats(
        &self,
        request: &Request,
        entry: &Arc<IndexEntry>,
    ) -> Result<Response, Error> {
        if request.original.query.is_some() {
            // Sizes in words and database sizes differ per node; a node at least checks the request.
            let error = self.refusal(request, &format!("/indexes/{}", entry.physical)).await;
            if matches!(error.kind(), miroir_pipeline::error::ErrorKind::Verbatim { .. }) {
                return Err(error);
            }
        }
        let nodes = self.node_stats(request).await;
        let mut stats = self.stats_of(request, entry, &nodes).await?;
        stats.is_indexing |= self.busy_indexes().await?.contains(&entry.physical);
        let mut value = serde_json::to_value(stats).map_err(Error::internal)?;
        adapt(&mut value, request);
        Ok(Response::ok(&value))
    }

    pub(crate) async fn instance_stats(&self, request: &Request) -> Result<Response, Error> {
        if request.original.query.is_some() {
            let error = self.refusal(request, "").await;
            if matches!(error.kind(), miroir_pipeline::error::ErrorKind::Verbatim { .. }) {
                return Err(error);
            }
        }
        let nodes = self.node_stats(request).await;
        let mut indexes = serde_json::Map::new();
        let mut last = None;
        let mut entries = self.state.catalog.all();
        entries.retain(|entry| request.cx.scope.sees(entry.name.as_str()));
        let busy = self.busy_indexes().await?;
        // While a node is down, each index takes calls of its own.
        for entries in entries.chunks(AT_ONCE) {
            let stats = entries.iter().map(|entry| self.stats_of(request, entry, &nodes));
            for (entry, stats) in entries.iter().zip(join_all(stats).await) {
                let mut stats = stats?;
                stats.is_indexing |= busy.contains(&entry.physical);
                let mut value = serde_json::to_value(stats).map_err(Error::internal)?;
                adapt(&mut value, request);
                indexes.insert(entry.name.to_string(), value);
                last = last.max(Some(self.state.catalog.updated_at(entry)));
            }
        }
        let sum = |read: fn(&NodeStats) -> u64| nodes.values().map(read).sum::<u64>();
        let (size, used) = (sum(|s| s.database_size), sum(|s| s.used_database_size));
        let (size, used) = if human(request) {
            (json!(in_words(size)), json!(in_words(used)))
        } else {
            (json!(size), json!(used))
        };
        Ok(Response::ok(&json!({
            "databaseSize": size, "usedDatabaseSize": used,
            "lastUpdate": last.map(clock::rfc3339), "indexes": indexes,
        })))
    }
}

fn human(request: &Request) -> bool {
    request.original.query.as_deref().is_some_and(|query| query.contains("sizeFormat=human"))
}

/// Sizes as Meilisearch puts them into words.
fn in_words(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    // Two digits at most, and no zeros at the end.
    format!("{} {}", (value * 100.0).round() / 100.0, UNITS[unit])
}

fn wants_sizes(request: &Request) -> bool {
    let query = request.original.query.as_deref().unwrap_or_default();
    query.contains("showInternalDatabaseSizes=true")
}

/// Says sizes as the request wants them.
fn adapt(value: &mut Value, request: &Request) {
    if human(request) {
        say_in_words(value);
    }
}

fn say_in_words(value: &mut Value) {
    for key in ["rawDocumentDbSize", "avgDocumentSize"] {
        let bytes = value[key].as_u64().unwrap_or(0);
        value[key] = in_words(bytes).into();
    }
    let sizes = value.get_mut("internalDatabaseSizes").and_then(Value::as_object_mut);
    for size in sizes.into_iter().flat_map(|sizes| sizes.values_mut()) {
        *size = in_words(size.as_u64().unwrap_or(0)).into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_is_put_into_words() {
        let mut stats = json!({
            "rawDocumentDbSize": 512, "avgDocumentSize": 0,
            "internalDatabaseSizes": {"main": 16384, "documents": 2_621_440, "words": 1234},
        });
        say_in_words(&mut stats);
        assert_eq!(
            stats,
            json!({
                "rawDocumentDbSize": "512 B", "avgDocumentSize": "0 B",
                "internalDatabaseSizes": {"main": "16 KiB", "documents": "2.5 MiB", "words": "1.21 KiB"},
            })
        );
    }
}
