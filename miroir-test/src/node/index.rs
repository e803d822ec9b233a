//! An index of a fake node: its settings and documents.

use serde_json::{Map, Value, json};

use super::documents::Documents;
use super::errors::error;
use super::filter;

/// An index of a node.
#[derive(Clone, Debug, PartialEq)]
pub struct Index {
    /// Primary key, once known.
    pub primary_key: Option<String>,
    /// All settings.
    pub settings: Value,
    /// Its documents.
    pub documents: Documents,
}

impl Default for Index {
    fn default() -> Self {
        Self { primary_key: None, settings: default_settings(), documents: Documents::default() }
    }
}

impl Index {
    /// Whether the settings allow a filter.
    ///
    /// # Errors
    /// The node's words if they do not.
    pub fn filterable(&self, filter: &Value) -> Result<(), Value> {
        let known = self.settings["filterableAttributes"].as_array();
        let known = known.map(Vec::as_slice).unwrap_or_default();
        for name in filter::attributes(filter) {
            if !known.iter().any(|value| value.as_str() == Some(&name)) {
                let text = format!("Attribute `{name}` is not filterable.");
                return Err(error("invalid_search_filter", &text));
            }
        }
        Ok(())
    }
}

/// Settings of a new index.
pub fn default_settings() -> Value {
    json!({
        "displayedAttributes": ["*"],
        "searchableAttributes": ["*"],
        "filterableAttributes": [],
        "sortableAttributes": [],
        "rankingRules": ["words", "typo", "proximity", "attribute", "sort", "exactness"],
        "stopWords": [],
        "synonyms": {},
        "distinctAttribute": null,
        "faceting": {"maxValuesPerFacet": 100, "sortFacetValuesBy": {"*": "alpha"}},
        "pagination": {"maxTotalHits": 1000},
        "embedders": {},
    })
}

/// Applies a settings patch: `null` resets, two blocks are merged, all else is replaced.
pub(super) fn patch_settings(settings: &mut Value, patch: &Map<String, Value>) {
    let defaults = default_settings();
    for (key, value) in patch {
        let default = &defaults[key];
        settings[key] = match (key.as_str(), value) {
            (_, Value::Null) => default.clone(),
            ("faceting" | "pagination", Value::Object(fields)) => {
                let mut block = settings[key].clone();
                for (name, field) in fields {
                    block[name] =
                        if field.is_null() { default[name].clone() } else { field.clone() };
                }
                block
            }
            ("filterableAttributes" | "sortableAttributes" | "stopWords", Value::Array(list)) => {
                // Sets, which a node prints in order.
                let mut list = list.clone();
                list.sort_by_key(Value::to_string);
                list.dedup();
                Value::Array(list)
            }
            (_, other) => other.clone(),
        };
    }
}
