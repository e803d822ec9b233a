//! The settings of an index as `GET` shows them.

use std::collections::{BTreeMap, BTreeSet};

use milli_core::heed::RoTxn;
use milli_core::vector::settings::EmbeddingSettings;
use milli_core::{Error, Index, OrderBy};
use serde_json::{Map, Value, json};

/// All settings of an index.
pub(crate) fn read(index: &Index, rtxn: &RoTxn<'_>) -> Result<Map<String, Value>, Error> {
    let sorted = |set: Option<BTreeSet<String>>| json!(set.unwrap_or_default());
    let words = |set: Option<Vec<String>>| json!(set.unwrap_or_default());
    let sortable: BTreeSet<String> = index.sortable_fields(rtxn)?.into_iter().collect();
    let rules: Vec<String> = index.criteria(rtxn)?.iter().map(ToString::to_string).collect();
    let stop_words = index.stop_words(rtxn)?.and_then(|set| set.stream().into_strs().ok());
    let exact_words = index.exact_words(rtxn)?.and_then(|set| set.stream().into_strs().ok());
    let exact_attributes: BTreeSet<&str> = index.exact_attributes(rtxn)?.into_iter().collect();
    let orders: BTreeMap<String, &str> = index
        .sort_facet_values_by(rtxn)?
        .into_iter()
        .map(|(field, order)| (field, if order == OrderBy::Count { "count" } else { "alpha" }))
        .collect();
    let mut embedders = BTreeMap::new();
    for config in index.embedding_configs(rtxn)? {
        embedders.insert(config.name, EmbeddingSettings::from(config.config));
    }
    let localized = index.localized_attributes_rules(rtxn)?.map(|rules| {
        rules
            .iter()
            .map(|rule| {
                let locales: Vec<&str> =
                    rule.locales().iter().map(|language| language.code()).collect();
                json!({ "attributePatterns": rule.attribute_patterns.patterns, "locales": locales })
            })
            .collect::<Vec<_>>()
    });
    let all = vec!["*"];
    let settings = json!({
        "displayedAttributes": index.displayed_fields(rtxn)?.unwrap_or_else(|| all.clone()),
        "searchableAttributes": index.user_defined_searchable_fields(rtxn)?.unwrap_or(all),
        "filterableAttributes": index.filterable_attributes_rules(rtxn)?,
        "sortableAttributes": sortable,
        "rankingRules": rules,
        "stopWords": words(stop_words),
        "nonSeparatorTokens": sorted(index.non_separator_tokens(rtxn)?),
        "separatorTokens": sorted(index.separator_tokens(rtxn)?),
        "dictionary": sorted(index.dictionary(rtxn)?),
        "synonyms": index.user_defined_synonyms(rtxn)?,
        "distinctAttribute": index.distinct_field(rtxn)?,
        "proximityPrecision": index.proximity_precision(rtxn)?.unwrap_or_default(),
        "typoTolerance": {
            "enabled": index.authorize_typos(rtxn)?,
            "minWordSizeForTypos": {
                "oneTypo": index.min_word_len_one_typo(rtxn)?,
                "twoTypos": index.min_word_len_two_typos(rtxn)?,
            },
            "disableOnWords": words(exact_words),
            "disableOnAttributes": exact_attributes,
            "disableOnNumbers": index.disabled_typos_terms(rtxn)?.disable_on_numbers,
        },
        "faceting": {
            "maxValuesPerFacet": index.max_values_per_facet(rtxn)?.unwrap_or(100),
            "sortFacetValuesBy": orders,
        },
        "pagination": { "maxTotalHits": index.pagination_max_total_hits(rtxn)?.unwrap_or(1000) },
        "embedders": embedders,
        "searchCutoffMs": index.search_cutoff(rtxn)?,
        "localizedAttributes": localized,
        "facetSearch": index.facet_search(rtxn)?,
        "prefixSearch": index.prefix_search(rtxn)?.unwrap_or_default(),
    });
    match settings {
        Value::Object(map) => Ok(map),
        _ => Ok(Map::new()),
    }
}
