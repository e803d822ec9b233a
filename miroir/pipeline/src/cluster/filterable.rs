//! `filterableAttributes`: what filters and facets may name, and how one node refuses facets.

use std::collections::BTreeSet;

use miroir_core::documents::is_reserved;
use serde_json::Value;

use crate::node_errors::{is_within_reserved, shown_text};

/// The texts in a list of JSON.
pub(super) fn strings(value: &Value) -> Vec<String> {
    let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect()
}

/// One entry of `filterableAttributes`: the first that matches an attribute decides.
#[derive(Clone, Debug)]
pub(super) struct Filterable {
    patterns: Vec<String>,
    /// Whether a pattern is a name, and matches what is below it too.
    name: bool,
    /// Whether the entry is Miroir's, so that clients have none.
    own: bool,
    pub(super) equality: bool,
    pub(super) comparison: bool,
}

/// Whether a name is another one, or looks into it.
fn is_within(name: &str, outer: &str) -> bool {
    name.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Whether a text fits a pattern: stars stand at its ends only.
fn fits(pattern: &str, text: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(rest), Some(_)) => text.contains(rest.strip_suffix('*').unwrap_or_default()),
        (Some(end), None) => text.ends_with(end),
        (None, Some(start)) => text.starts_with(start),
        (None, None) => text == pattern,
    }
}

impl Filterable {
    pub(super) fn read(value: &Value) -> Self {
        let feature = |name: &str, default| {
            let set = value.pointer(&format!("/features/filter/{name}"));
            set.and_then(Value::as_bool).unwrap_or(default)
        };
        let (patterns, name, equality, comparison) = match value {
            Value::String(name) => (vec![name.clone()], true, true, true),
            rule => {
                let patterns = strings(&rule["attributePatterns"]);
                (patterns, false, feature("equality", true), feature("comparison", false))
            }
        };
        let own = !patterns.is_empty() && patterns.iter().all(|pattern| is_reserved(pattern));
        Self { patterns, name, own, equality, comparison }
    }

    pub(super) fn matches(&self, attribute: &str) -> bool {
        let matches = if self.name { |p: &str, a: &str| is_within(a, p) } else { fits };
        self.patterns.iter().any(|pattern| matches(pattern, attribute))
    }

    /// The patterns as whoever set them knows them.
    fn shown(&self) -> impl Iterator<Item = String> {
        self.patterns.iter().cloned().map(|name| if self.own { name } else { shown_text(name) })
    }

    fn is_filterable(&self) -> bool {
        self.equality || self.comparison
    }

    /// Whether a facet, which may be a pattern too, is about anything that the entry is about.
    fn meets(&self, facet: &str) -> bool {
        self.shown().any(|pattern| {
            fits(facet, &pattern)
                || is_within(facet, &pattern)
                || is_within(&pattern, facet)
                || !self.name && fits(&pattern, facet)
        })
    }
}

/// Whether one node with a client's entries takes a facet. If not, with the number of the entry that
/// forbids it, where one does.
fn judged(rules: &[Filterable], facet: &str) -> Result<(), Option<usize>> {
    for (at, rule) in rules.iter().filter(|rule| !rule.own).enumerate() {
        if rule.is_filterable() {
            if rule.meets(facet) {
                return Ok(());
            }
        } else if rule.shown().any(|pattern| fits(&pattern, facet)) {
            return Err(Some(at));
        }
    }
    Err(None)
}

pub(super) fn takes_facet(rules: &[Filterable], facet: &str) -> bool {
    judged(rules, &shown_text(facet.to_owned())).is_ok()
}

/// What one node says of facets that nodes take for Miroir's own attributes alone. `None`: it takes
/// them, or nodes say themselves what is wrong with the first that it would not take.
pub(super) fn refusal(rules: &[Filterable], facets: &[String]) -> Option<String> {
    for facet in facets {
        let facet = &shown_text(facet.clone());
        let Err(forbidden) = judged(rules, facet) else { continue };
        let taken = rules.iter().any(|rule| rule.own && rule.is_filterable() && rule.meets(facet));
        // A reserved name reaches nodes under another one, and no entry has that.
        return (taken && !is_within_reserved(facet)).then(|| words(rules, facet, forbidden));
    }
    None
}

fn words(rules: &[Filterable], facet: &str, forbidden: Option<usize>) -> String {
    let what = match forbidden {
        Some(at) => format!(
            "Attribute `{facet}` matched rule #{at} in filterableAttributes, but this rule does not \
             enable filtering.\nHint: enable filtering in rule #{at} by modifying the \
             features.filter object\nHint: prepend another rule matching `{facet}` with appropriate \
             filter features before rule #{at}"
        ),
        None => {
            let open = rules.iter().filter(|rule| !rule.own && rule.is_filterable());
            let open: BTreeSet<String> = open.flat_map(Filterable::shown).collect();
            let open: Vec<String> = open.into_iter().collect();
            let available = if open.is_empty() {
                "This index does not have configured filterable attributes.".to_owned()
            } else {
                format!("Available filterable attributes patterns are: `{}`.", open.join(", "))
            };
            format!("Pattern `{facet}` is not filterable. {available}")
        }
    };
    format!("Invalid facet distribution: {what}")
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::super::settings::IndexSettings;

    /// What is said of facets of an index with a client's entries, as they are on nodes.
    fn said(client: &[Value], facets: &[&str]) -> Option<String> {
        let own = json!("_miroir_shard");
        let rules: Vec<Value> = if client.iter().any(Value::is_object) {
            let closed = json!({"equality": false, "comparison": false});
            let order =
                json!({"attributePatterns": ["_miroir_order"], "features": {"filter": closed}});
            [own, order].into_iter().chain(client.to_vec()).collect()
        } else {
            client.iter().cloned().chain([own]).collect()
        };
        let settings = IndexSettings::read(&json!({"filterableAttributes": rules}), &Map::new());
        let facets: Vec<String> = facets.iter().map(|&facet| facet.to_owned()).collect();
        settings.refuses_facets(&facets)
    }

    #[test]
    fn patterns_that_only_reserved_attributes_fit_are_refused_in_a_nodes_words() {
        let names = [json!("brand"), json!("b"), json!("color.x")];
        for pattern in ["_miroir*", "*_shard", "_*", "_miroir_shard*", "*iroi*", "_m*"] {
            let text = format!(
                "Invalid facet distribution: Pattern `{pattern}` is not filterable. Available \
                 filterable attributes patterns are: `b, brand, color.x`."
            );
            assert_eq!(said(&names, &[pattern]), Some(text.clone()));
            assert_eq!(said(&names, &["b*", "color", pattern, "zz"]), Some(text));
            let none = format!(
                "Invalid facet distribution: Pattern `{pattern}` is not filterable. This index does \
                 not have configured filterable attributes."
            );
            assert_eq!(said(&[], &[pattern]), Some(none));
        }
        assert_eq!(
            said(&[], &["*", "zz"]).as_deref(),
            Some(
                "Invalid facet distribution: Pattern `*` is not filterable. This index does not have \
                 configured filterable attributes."
            )
        );
    }

    #[test]
    fn patterns_that_an_attribute_of_the_clients_fits_are_taken() {
        let own = [json!("_mir0ir_shard"), json!("_miroir_own")];
        for facets in [&["_miroir_shard*"][..], &["_miroir*"], &["*_own"], &["*"], &["**"]] {
            assert_eq!(said(&own, facets), None, "{facets:?}");
        }
        let patterns = [json!({"attributePatterns": ["*d*"]})];
        assert_eq!(said(&patterns, &["_miroir_shard*"]), None);
    }

    #[test]
    fn nodes_say_themselves_what_is_wrong_with_other_facets() {
        let names = [json!("brand")];
        for facets in [&["zz", "_miroir*"][..], &["_mir0ir_shard", "_miroir*"], &["_miroir_x"]] {
            assert_eq!(said(&names, facets), None, "{facets:?}");
        }
    }

    #[test]
    fn an_entry_that_forbids_filters_forbids_facets_by_its_own_number() {
        let closed = json!({"filter": {"equality": false, "comparison": false}});
        let rules = [
            json!({"attributePatterns": ["a"]}),
            json!({"attributePatterns": ["_mir*"], "features": closed}),
            json!("q"),
        ];
        let text = said(&rules, &["_miroir*"]).unwrap();
        assert!(text.contains("Attribute `_miroir*` matched rule #1 in"), "{text}");
        // Wider than the entry.
        let text = said(&rules, &["_*"]).unwrap();
        assert!(text.ends_with("Available filterable attributes patterns are: `a, q`."), "{text}");
        assert_eq!(said(&rules, &["*"]), None);
        let text = said(&rules[1..2], &["*"]).unwrap();
        assert!(text.ends_with("does not have configured filterable attributes."), "{text}");
    }
}
