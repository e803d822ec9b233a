//! What reads and writes need of an index's settings.

use std::collections::BTreeMap;
use std::sync::Arc;

use indexmap::IndexMap;
use serde_json::{Map, Value};
use uuid::Uuid;

use miroir_core::documents::Embedder;
use miroir_core::format::WordRules;
use miroir_core::lock::Lock;
use miroir_core::merge::{FacetOrder, RankingInfo};
use miroir_core::routing::ShardSet;
use miroir_store::IndexEntry;

use super::broadcasts::Broadcasts;
use super::filterable::{self, Filterable, strings};
use super::membership::Membership;
use super::nodes::Nodes;
use super::staleness::Staleness;
use crate::context::Context;
use crate::error::{Error, ErrorKind};
use crate::node::Call;

/// Settings as far as routing and merging depend on them.
#[derive(Clone, Debug, Default)]
pub struct IndexSettings {
    /// `distinctAttribute`; `None` if unset.
    pub distinct: Option<String>,
    /// What of the ranking rules recovering absolute costs needs.
    pub ranking: RankingInfo,
    /// Whether words are cut as the tokenizer cuts them by itself: no separators or dictionary.
    pub plain_words: bool,
    /// What decides about words, and the marks on them.
    pub words: WordRules,
    /// Whether no rule comes before the number of matching words.
    pub words_first: bool,
    /// Whether a ranking rule of the client's sorts by an attribute.
    pub sorts_by_rule: bool,
    /// `faceting.sortFacetValuesBy`.
    pub sort_facets: IndexMap<String, FacetOrder>,
    /// The client's `faceting.maxValuesPerFacet`.
    pub max_values: usize,
    /// The nodes' `faceting.maxValuesPerFacet`.
    pub node_max_values: usize,
    /// The client's `pagination.maxTotalHits`.
    pub max_total_hits: usize,
    /// The client's `displayedAttributes`, if not everything.
    pub displayed: Option<Vec<String>>,
    /// Whether nodes look at `_geo`.
    pub geo: bool,
    /// Whether nodes look at `_geojson`.
    pub geojson: bool,
    /// Which attributes equality filters look at.
    filters: Vec<Filterable>,
    /// Embedders documents can violate.
    pub embedders: Vec<Embedder>,
}

fn number(overlay: &Map<String, Value>, key: &str, default: u64) -> usize {
    overlay.get(key).and_then(Value::as_u64).unwrap_or(default) as usize
}

impl IndexSettings {
    /// Whether a filter may ask for values of an attribute, and facets count them.
    #[must_use]
    pub fn filters(&self, attribute: &str) -> bool {
        let rule = self.filters.iter().find(|rule| rule.matches(attribute));
        rule.is_some_and(|rule| rule.equality)
    }

    /// Whether a filter may compare values of an attribute with others.
    #[must_use]
    pub fn compares(&self, attribute: &str) -> bool {
        let rule = self.filters.iter().find(|rule| rule.matches(attribute));
        rule.is_some_and(|rule| rule.comparison)
    }

    /// Whether a filter may name an attribute at all.
    #[must_use]
    pub fn is_filterable(&self, attribute: &str) -> bool {
        self.filters.iter().any(|rule| rule.matches(attribute))
    }

    /// Whether one node would count a facet, or the attributes that a pattern stands for.
    #[must_use]
    pub fn takes_facet(&self, facet: &str) -> bool {
        filterable::takes_facet(&self.filters, facet)
    }

    /// What one node says of facets that nodes take for reserved attributes alone. `None` where it
    /// takes them, or where nodes refuse them as it does.
    #[must_use]
    pub fn refuses_facets(&self, facets: &[String]) -> Option<String> {
        filterable::refusal(&self.filters, facets)
    }

    /// Reads a node's settings and the client's overlay.
    pub fn read(node: &Value, overlay: &Map<String, Value>) -> Self {
        let searchable = strings(&node["searchableAttributes"]);
        let max_weight = if searchable.iter().any(|s| s == "*") {
            0
        } else {
            searchable.len().saturating_sub(1) as u32
        };
        let orders = node.pointer("/faceting/sortFacetValuesBy").and_then(Value::as_object);
        let sort_facets = orders
            .into_iter()
            .flatten()
            .map(|(facet, order)| {
                let count = order.as_str() == Some("count");
                (facet.clone(), if count { FacetOrder::Count } else { FacetOrder::Alpha })
            })
            .collect();
        let displayed = overlay.get("displayedAttributes").map(strings);
        let named = |list: &Value, wanted: &str| {
            list.as_array().into_iter().flatten().any(|v| match v {
                Value::String(name) => name == wanted,
                other => strings(&other["attributePatterns"]).iter().any(|p| p == wanted),
            })
        };
        let filterable = &node["filterableAttributes"];
        let embedders = node["embedders"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, embedder)| Embedder {
                name: name.clone(),
                dimensions: embedder["dimensions"].as_u64().map(|n| n as usize),
            })
            .collect();
        Self {
            distinct: node["distinctAttribute"].as_str().map(str::to_owned),
            ranking: RankingInfo { max_weight, ..RankingInfo::default() },
            plain_words: ["separatorTokens", "nonSeparatorTokens", "dictionary"]
                .iter()
                .all(|key| strings(&node[*key]).is_empty()),
            words: WordRules::read(node),
            words_first: strings(&node["rankingRules"])
                .first()
                .is_none_or(|rule| rule != "sort" && !rule.contains(':')),
            sorts_by_rule: strings(&node["rankingRules"]).iter().any(|rule| rule.contains(':')),
            sort_facets,
            max_values: number(overlay, "maxValuesPerFacet", 100),
            node_max_values: node
                .pointer("/faceting/maxValuesPerFacet")
                .and_then(Value::as_u64)
                .unwrap_or(100) as usize,
            max_total_hits: number(overlay, "maxTotalHits", 1000),
            displayed: displayed.filter(|list| !list.iter().any(|name| name == "*")),
            geo: named(filterable, "_geo") || named(&node["sortableAttributes"], "_geo"),
            filters: filterable.as_array().into_iter().flatten().map(Filterable::read).collect(),
            geojson: named(filterable, "_geojson"),
            embedders,
        }
    }
}

/// Whether the client's list of displayed attributes shows a field: itself or a parent is named.
pub fn is_displayed(list: Option<&Value>, field: &str) -> bool {
    let Some(list) = list.and_then(Value::as_array) else { return true };
    list.iter().filter_map(Value::as_str).any(|shown| {
        shown == "*"
            || field
                .strip_prefix(shown)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })
}

/// Which settings these are: of which incarnation of an index, and which version. An index made again
/// under its old name starts at version 0 again.
type Version = (Uuid, u64);

/// The settings of indexes, asked of nodes and kept by version.
#[derive(Debug)]
pub struct SettingsCache {
    nodes: Arc<Nodes>,
    membership: Arc<Membership>,
    staleness: Arc<Staleness>,
    broadcasts: Arc<Broadcasts>,
    /// Least `maxValuesPerFacet` of nodes that have an index's own base settings.
    node_max_values: u32,
    /// By the index's name on the nodes.
    known: Lock<BTreeMap<String, (Version, Arc<IndexSettings>)>>,
}

impl SettingsCache {
    /// An empty cache over these nodes. A node whose `maxValuesPerFacet` is below `node_max_values`
    /// has not seen the base settings of its index yet: what it says is not kept.
    pub fn new(
        nodes: Arc<Nodes>,
        membership: Arc<Membership>,
        staleness: Arc<Staleness>,
        broadcasts: Arc<Broadcasts>,
        node_max_values: u32,
    ) -> Self {
        Self { nodes, membership, staleness, broadcasts, node_max_values, known: Lock::default() }
    }

    /// What reads and writes need of an index's settings: those of the entry's version, from memory
    /// or from a node.
    ///
    /// # Errors
    /// When no node can say.
    pub async fn get(&self, index: &IndexEntry, cx: &Context) -> Result<Arc<IndexSettings>, Error> {
        let busy = self.broadcasts.is_in_flight(&index.physical);
        let wanted = (index.incarnation, index.settings_version);
        {
            let known = self.known.lock();
            if let Some((version, settings)) = known.get(&index.physical) {
                // While settings are in flight a node may already have the next ones.
                if *version == wanted && !busy {
                    return Ok(Arc::clone(settings));
                }
            }
        }
        let call = Call::get("settings_get", format!("/indexes/{}/settings", index.physical));
        let topology = self.membership.topology();
        let stale = self.staleness.load();
        let mut last = Error::shards_unavailable(ShardSet::full(index.shards));
        for node in topology.nodes() {
            if !node.is_readable()
                || self.nodes.scores.is_open(&node.id)
                || stale.misses_index(&index.physical, &node.id)
            {
                continue;
            }
            match self.nodes.call(&node.id, &call, cx).await {
                Ok(body) => {
                    let value: Value = Call::parse(&node.id, &body)?;
                    let settings = Arc::new(IndexSettings::read(&value, &index.overlay));
                    // A node that has not yet seen the index's own base settings is not cached.
                    let settled = settings.node_max_values >= self.node_max_values as usize;
                    if !busy && settled {
                        self.known
                            .lock()
                            .insert(index.physical.clone(), (wanted, Arc::clone(&settings)));
                    }
                    return Ok(settings);
                }
                // The index was accepted but not made yet: its settings are the defaults.
                Err(error) if matches!(error.kind(), ErrorKind::Verbatim { .. }) => {
                    return Ok(Arc::new(IndexSettings::read(&Value::Null, &index.overlay)));
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_first_matching_entry_says_whether_an_attribute_can_be_filtered_by() {
        let node = json!({"filterableAttributes": [
            "details",
            {"attributePatterns": ["no_*"], "features": {"filter": {"equality": false}}},
            {"attributePatterns": ["*_at", "no_way", "*mid*", "exact"]},
            "_miroir_shard",
        ]});
        let settings = IndexSettings::read(&node, &Map::new());
        for name in ["details", "details.maker", "made_at", "amidst", "exact"] {
            assert!(settings.filters(name), "{name}");
            assert_eq!(settings.compares(name), name.starts_with("details"), "{name}");
        }
        for name in ["detail", "detailsx", "no_way", "exact.below", "made_at_all", "other"] {
            assert!(!settings.filters(name), "{name}");
        }
        let read = |filterable| {
            IndexSettings::read(&json!({"filterableAttributes": [filterable]}), &Map::new())
        };
        assert!(read(json!({"attributePatterns": ["*"]})).filters("any.thing"));
        assert!(!read(json!("*")).filters("any.thing"), "a name is no pattern");
    }

    #[test]
    fn a_displayed_parent_shows_its_children() {
        let list = json!(["a.b", "c"]);
        for (field, shown) in
            [("a", false), ("a.b", true), ("a.b.c", true), ("a.bc", false), ("c.d", true)]
        {
            assert_eq!(is_displayed(Some(&list), field), shown, "{field}");
        }
        assert!(is_displayed(Some(&json!(["*"])), "x") && is_displayed(None, "x"));
        assert!(!is_displayed(Some(&json!([])), "x"));
    }
}
