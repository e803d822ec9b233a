//! Merging index statistics.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::scan::is_reserved;

/// `GET /indexes/{uid}/stats` of one leaf, and of the whole. Sizes are in bytes
/// (`sizeFormat=raw`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IndexStats {
    /// Number of documents.
    pub number_of_documents: u64,
    /// Bytes that all raw documents take.
    pub raw_document_db_size: u64,
    /// Bytes that a raw document takes on average.
    pub avg_document_size: u64,
    /// Whether a node is working on the index.
    pub is_indexing: bool,
    /// Sizes of the node's databases, when asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub internal_database_sizes: Option<BTreeMap<String, u64>>,
    /// Number of embeddings, over all embedders.
    pub number_of_embeddings: u64,
    /// Documents with at least one embedding.
    pub number_of_embedded_documents: u64,
    /// In how many documents each field occurs, by field name.
    pub field_distribution: BTreeMap<String, u64>,
}

/// Adds up the statistics of leaves that together hold every document `copies` times.
///
/// Counts are divided by `copies` (rounded half up, for replicas that are a moment apart), and
/// Miroir's fields are left out. A `copies` of 0 counts as 1.
#[must_use]
pub fn merge_stats<'a>(
    leaves: impl IntoIterator<Item = &'a IndexStats>,
    copies: u64,
) -> IndexStats {
    let mut sum = IndexStats::default();
    let add = |to: &mut u64, value: u64| *to = to.saturating_add(value);
    for leaf in leaves {
        add(&mut sum.number_of_documents, leaf.number_of_documents);
        add(&mut sum.raw_document_db_size, leaf.raw_document_db_size);
        add(&mut sum.number_of_embeddings, leaf.number_of_embeddings);
        add(&mut sum.number_of_embedded_documents, leaf.number_of_embedded_documents);
        sum.is_indexing |= leaf.is_indexing;
        for (field, count) in &leaf.field_distribution {
            if !is_reserved(field.as_bytes()) {
                add(sum.field_distribution.entry(field.clone()).or_default(), *count);
            }
        }
        if let Some(sizes) = &leaf.internal_database_sizes {
            let total = sum.internal_database_sizes.get_or_insert_default();
            for (database, size) in sizes {
                add(total.entry(database.clone()).or_default(), *size);
            }
        }
    }
    // The average is over all copies: dividing both sides would only lose precision.
    sum.avg_document_size =
        sum.raw_document_db_size.checked_div(sum.number_of_documents).unwrap_or_default();
    let copies = copies.max(1);
    let share = |value: &mut u64| *value = value.saturating_add(copies / 2) / copies;
    share(&mut sum.number_of_documents);
    share(&mut sum.raw_document_db_size);
    share(&mut sum.number_of_embeddings);
    share(&mut sum.number_of_embedded_documents);
    sum.field_distribution.values_mut().for_each(share);
    if let Some(sizes) = &mut sum.internal_database_sizes {
        sizes.values_mut().for_each(share);
    }
    sum
}
