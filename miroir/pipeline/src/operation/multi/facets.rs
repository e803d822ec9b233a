//! Facets of a federation: by index, or all together.

use std::collections::BTreeMap;
use std::sync::Arc;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::federation::MergeFacets;
use crate::cluster::settings::IndexSettings;
use miroir_core::merge::FacetOrder;

/// Bounds of a numeric facet.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq)]
pub(super) struct Bounds {
    min: f64,
    max: f64,
}

/// What one index's hits have.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
pub(super) struct IndexFacets {
    /// Values and counts, in the index's order.
    #[serde(rename(deserialize = "facetDistribution"), default)]
    pub(super) distribution: BTreeMap<String, IndexMap<String, u64>>,
    /// Bounds of numeric facets.
    #[serde(rename(deserialize = "facetStats"), default)]
    pub(super) stats: BTreeMap<String, Bounds>,
}

/// Facets by index.
pub(super) type ByIndex = BTreeMap<String, IndexFacets>;
/// Settings by index.
pub(super) type Settings = BTreeMap<String, Arc<IndexSettings>>;

/// The order of a facet's values that an index's settings ask for.
fn order(settings: &IndexSettings, facet: &str) -> FacetOrder {
    let named = settings.sort_facets.get(facet).or_else(|| settings.sort_facets.get("*"));
    named.copied().unwrap_or_default()
}

/// Adds the facets of all indexes up, as one node does: by the value as it is shown, ordered anew.
pub(super) fn merge(
    indexes: ByIndex,
    settings: &Settings,
    options: MergeFacets,
) -> Option<IndexFacets> {
    if indexes.is_empty() {
        return None;
    }
    let mut out = IndexFacets::default();
    let mut orders: BTreeMap<String, FacetOrder> = BTreeMap::new();
    for (index, facets) in indexes {
        for (facet, values) in facets.distribution {
            if let Some(settings) = settings.get(&index) {
                orders.entry(facet.clone()).or_insert_with(|| order(settings, &facet));
            }
            let sums = out.distribution.entry(facet).or_default();
            for (value, count) in values {
                *sums.entry(value).or_insert(0) += count;
            }
        }
        for (facet, bounds) in facets.stats {
            let all = out.stats.entry(facet).or_insert(bounds);
            *all = Bounds { min: all.min.min(bounds.min), max: all.max.max(bounds.max) };
        }
    }
    for (facet, values) in &mut out.distribution {
        match orders.get(facet).copied().unwrap_or_default() {
            FacetOrder::Alpha => values.sort_by(|a, _, b, _| a.cmp(b)),
            FacetOrder::Count => values.sort_by(|_, a, _, b| b.cmp(a)),
        }
        if let Some(limit) = options.max_values_per_facet {
            values.truncate(limit);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facets(text: &str) -> IndexFacets {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn counts_add_up_and_are_ordered_anew() {
        let a = facets(
            "{\"facetDistribution\":{\"c\":{\"red\":2,\"blue\":1},\"n\":{\"1\":3}},
              \"facetStats\":{\"n\":{\"min\":1.0,\"max\":1.0}}}",
        );
        let b = facets(
            "{\"facetDistribution\":{\"c\":{\"blue\":4},\"n\":{\"10\":1,\"2\":1}},
              \"facetStats\":{\"n\":{\"min\":2.0,\"max\":10.0}}}",
        );
        let all = BTreeMap::from([("a".to_owned(), a), ("b".to_owned(), b)]);
        let mut settings = IndexSettings::default();
        settings.sort_facets.insert("c".to_owned(), FacetOrder::Count);
        let settings = BTreeMap::from([("a".to_owned(), Arc::new(settings))]);
        let merged = merge(all.clone(), &settings, MergeFacets::default()).unwrap();
        assert_eq!(
            serde_json::to_string(&merged).unwrap(),
            "{\"distribution\":{\"c\":{\"blue\":5,\"red\":2},\"n\":{\"1\":3,\"10\":1,\"2\":1}},\
             \"stats\":{\"n\":{\"min\":1.0,\"max\":10.0}}}"
        );
        let cut = MergeFacets { max_values_per_facet: Some(1) };
        let merged = merge(all, &settings, cut).unwrap();
        assert_eq!(merged.distribution["c"], IndexMap::from([("blue".to_owned(), 5)]));
        assert_eq!(merge(BTreeMap::new(), &settings, cut), None);
    }
}
