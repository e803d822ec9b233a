//! Statistics of an index while nodes are missing: no group is whole, and those that are left hold
//! overlapping parts of it.
//!
//! What nodes with disjoint shards say is added up. Of the shards that are left over, few documents
//! are looked at one by one; of many, figures are put down in proportion to their number.

use std::sync::Arc;

use miroir_api::NodeId;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tower::ServiceExt;

use crate::api::Control;
use miroir_core::documents::is_reserved;
use miroir_core::hints::Hints;
use miroir_core::merge::{IndexStats, merge_stats};
use miroir_core::routing::{Placement, ShardSet};
use miroir_pipeline::error::Error;
use miroir_pipeline::leaf::{self, Question, Scoped, Target};
use miroir_pipeline::node::Call;
use miroir_pipeline::operation::Request;
use miroir_store::IndexEntry;

/// Documents that are looked at for exact figures.
const MOST: u64 = 2000;

#[derive(Deserialize)]
struct Fetched {
    results: Vec<Map<String, Value>>,
}

impl Control {
    /// One answer about some shards of an index, from a cover of them.
    pub(crate) async fn fetch(
        &self,
        request: &Request,
        entry: &Arc<IndexEntry>,
        shards: ShardSet,
        body: &Value,
    ) -> Result<leaf::Response, Error> {
        let topology = self.state.membership.topology();
        let route =
            self.state.reads.route(&topology, &Hints::default(), self.state.reads.next_sequence());
        let target = Target::Cover { shards, avoid: Vec::new(), chosen: None };
        let question = Question::Scoped(Arc::new(Scoped {
            path: "/documents/fetch",
            body: body.to_string().into(),
            filter: None,
            operation: "documents_fetch",
            sort_values: false,
        }));
        let stale = self.state.staleness.load();
        let cx = request.cx.clone();
        let leaf =
            leaf::Request::new(target, question, Arc::clone(entry), topology, stale, route, cx);
        self.leaves.clone().oneshot(leaf).await
    }

    /// The statistics of an index of so many documents, given those of nodes that are up to date.
    pub(crate) async fn stats_of_rest(
        &self,
        request: &Request,
        entry: &Arc<IndexEntry>,
        known: &[(&NodeId, &IndexStats)],
        documents: u64,
    ) -> IndexStats {
        let placement = self.state.membership.topology().placement(entry.shards);
        let (apart, left) = disjoint(known, &placement);
        let mut sum = merge_stats(apart.iter().copied(), 1);
        let missing = documents.saturating_sub(sum.number_of_documents);
        let exact = missing == 0 || left.is_empty() || {
            let few = missing <= MOST;
            few && self.look(request, entry, left, &mut sum).await.is_some()
        };
        let whole = in_proportion(known, documents);
        if !exact {
            return whole;
        }
        IndexStats {
            number_of_documents: documents,
            raw_document_db_size: whole.raw_document_db_size,
            avg_document_size: whole.avg_document_size,
            internal_database_sizes: whole.internal_database_sizes,
            is_indexing: whole.is_indexing,
            ..sum
        }
    }

    /// Adds what the documents of some shards have. `None` when they cannot all be seen.
    async fn look(
        &self,
        request: &Request,
        entry: &Arc<IndexEntry>,
        shards: ShardSet,
        sum: &mut IndexStats,
    ) -> Option<()> {
        let vectors = sum.number_of_embeddings > 0;
        let body = json!({"limit": MOST, "retrieveVectors": vectors});
        let answer = self.fetch(request, entry, shards, &body).await.ok()?;
        if !answer.missing.is_empty() || !answer.failed.is_empty() {
            return None;
        }
        for page in answer.pages {
            let fetched: Fetched = Call::parse(&page.node, &page.body).ok()?;
            for document in &fetched.results {
                note(document, vectors, sum);
            }
        }
        Some(())
    }
}

/// Adds what one document has.
fn note(document: &Map<String, Value>, vectors: bool, sum: &mut IndexStats) {
    for (field, value) in document {
        if is_reserved(field) {
            continue;
        }
        if vectors && field == "_vectors" {
            let embeddings = |(_, of): (&String, &Value)| {
                of.get("embeddings").and_then(Value::as_array).map_or(0, Vec::len) as u64
            };
            let count: u64 = value.as_object().into_iter().flatten().map(embeddings).sum();
            sum.number_of_embeddings += count;
            sum.number_of_embedded_documents += u64::from(count > 0);
            continue;
        }
        *sum.field_distribution.entry(field.clone()).or_default() += 1;
    }
}

/// Statistics of nodes whose shards are disjoint, those with the most first, and the shards that
/// are left over.
fn disjoint<'a>(
    known: &[(&NodeId, &'a IndexStats)],
    placement: &Placement,
) -> (Vec<&'a IndexStats>, ShardSet) {
    // What a node may have of other shards, or not yet of its own, is in its figures as well.
    let settled = |node: &NodeId| placement.owned_by(node) == placement.held_by(node);
    let known = known.iter().filter(|(node, _)| settled(node));
    let mut owned: Vec<(ShardSet, &IndexStats)> =
        known.map(|(node, stats)| (placement.owned_by(node), *stats)).collect();
    owned.sort_by_key(|(shards, _)| std::cmp::Reverse(shards.len()));
    let mut left = ShardSet::full(placement.shards());
    let mut apart = Vec::new();
    for (shards, stats) in owned {
        if !shards.is_empty() && left.is_superset(&shards) {
            left = left.difference(&shards);
            apart.push(stats);
        }
    }
    (apart, left)
}

/// The figures of all nodes together, as so many documents would have them.
fn in_proportion(known: &[(&NodeId, &IndexStats)], documents: u64) -> IndexStats {
    let mut sum = merge_stats(known.iter().map(|(_, stats)| *stats), 1);
    let seen = u128::from(sum.number_of_documents.max(1));
    let share = |value: &mut u64| {
        let scaled = (u128::from(*value) * u128::from(documents) + seen / 2) / seen;
        *value = u64::try_from(scaled).unwrap_or(u64::MAX);
    };
    share(&mut sum.raw_document_db_size);
    share(&mut sum.number_of_embeddings);
    share(&mut sum.number_of_embedded_documents);
    sum.field_distribution.values_mut().for_each(share);
    sum.internal_database_sizes.iter_mut().flatten().for_each(|(_, size)| share(size));
    sum.number_of_documents = documents;
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(documents: u64, field: u64) -> IndexStats {
        IndexStats {
            number_of_documents: documents,
            number_of_embeddings: 2 * field,
            field_distribution: [("a".to_owned(), field)].into(),
            ..IndexStats::default()
        }
    }

    #[test]
    fn overlapping_nodes_are_left_out() {
        let nodes = ["a", "b", "c"].map(|id| NodeId::new(id).unwrap());
        let placement = Placement::new(&[nodes.to_vec()], 2, 16);
        let (one, two) = (stats(10, 5), stats(11, 6));
        let (apart, left) = disjoint(&[(&nodes[0], &one), (&nodes[1], &two)], &placement);
        assert_eq!(apart.len(), 1);
        let most = nodes[..2].iter().map(|node| placement.owned_by(node).len()).max().unwrap();
        assert_eq!(left.len(), 16 - most);
        // One replica each: nothing overlaps.
        let placement = Placement::new(&[nodes.to_vec()], 1, 16);
        let (apart, left) = disjoint(&[(&nodes[0], &one), (&nodes[1], &two)], &placement);
        assert_eq!((apart.len(), left), (2, placement.owned_by(&nodes[2])));
    }

    #[test]
    fn many_documents_are_put_down_in_proportion() {
        let node = NodeId::new("a").unwrap();
        let (one, two) = (stats(10, 5), stats(20, 10));
        let whole = in_proportion(&[(&node, &one), (&node, &two)], 20);
        assert_eq!((whole.number_of_documents, whole.field_distribution["a"]), (20, 10));
        assert_eq!(whole.number_of_embeddings, 20);
    }

    #[test]
    fn a_document_says_which_fields_and_vectors_it_has() {
        let mut sum = IndexStats::default();
        let document = json!({
            "id": 1, "_miroir_shard": "x",
            "_vectors": {"a": {"embeddings": [[0.1], [0.2]]}, "b": {"embeddings": []}},
        });
        note(document.as_object().unwrap(), true, &mut sum);
        note(json!({"id": 2, "_vectors": {}}).as_object().unwrap(), true, &mut sum);
        assert_eq!((sum.number_of_embeddings, sum.number_of_embedded_documents), (2, 1));
        assert_eq!(sum.field_distribution, [("id".to_owned(), 2)].into());
        note(json!({"_vectors": 1}).as_object().unwrap(), false, &mut sum);
        assert_eq!(sum.field_distribution["_vectors"], 1);
    }
}
