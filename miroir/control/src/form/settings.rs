//! Settings that a client sent, as a node's task shows them.

use serde_json::{Map, Value, json};

use super::{in_order, members};

/// All settings, in the order of a node.
pub(crate) const NAMES: &[&str] = &[
    "displayedAttributes",
    "searchableAttributes",
    "filterableAttributes",
    "sortableAttributes",
    "foreignKeys",
    "rankingRules",
    "stopWords",
    "nonSeparatorTokens",
    "separatorTokens",
    "dictionary",
    "synonyms",
    "distinctAttribute",
    "proximityPrecision",
    "typoTolerance",
    "faceting",
    "pagination",
    "embedders",
    "searchCutoffMs",
    "localizedAttributes",
    "facetSearch",
    "prefixSearch",
    "chat",
];

const EMBEDDER: &[&str] = &[
    "source",
    "model",
    "revision",
    "pooling",
    "apiKey",
    "dimensions",
    "binaryQuantized",
    "documentTemplate",
    "documentTemplateMaxBytes",
    "url",
    "indexingFragments",
    "searchFragments",
    "request",
    "response",
    "headers",
    "searchEmbedder",
    "indexingEmbedder",
    "distribution",
];

/// One inside of a composite embedder.
const PART_OF_EMBEDDER: &[&str] = &[
    "source",
    "model",
    "revision",
    "pooling",
    "apiKey",
    "dimensions",
    "documentTemplate",
    "documentTemplateMaxBytes",
    "url",
    "indexingFragments",
    "searchFragments",
    "request",
    "response",
    "headers",
    "distribution",
    "binaryQuantized",
];

/// Brings settings into a node's form. What is not of the expected kind stays as it is.
pub(crate) fn normalize(settings: &mut Map<String, Value>) {
    in_order(settings, NAMES);
    for (name, value) in settings {
        match name.as_str() {
            "filterableAttributes" => rules(value),
            "sortableAttributes" | "stopWords" | "nonSeparatorTokens" | "separatorTokens"
            | "dictionary" => sorted(value),
            "synonyms" => by_name(value),
            "typoTolerance" => typos(value),
            "faceting" => {
                members(value, &["maxValuesPerFacet", "sortFacetValuesBy"]);
                inner(value, "sortFacetValuesBy", by_name);
            }
            "foreignKeys" => each(value, |key| members(key, &["foreignIndexUid", "fieldName"])),
            "localizedAttributes" => {
                each(value, |rule| members(rule, &["attributePatterns", "locales"]));
            }
            "embedders" => {
                by_name(value);
                let Value::Object(embedders) = value else { continue };
                embedders.values_mut().for_each(embedder);
            }
            "chat" => chat(value),
            _ => {}
        }
    }
}

/// A list that is a set of texts for a node.
fn sorted(value: &mut Value) {
    let Value::Array(list) = value else { return };
    if list.iter().all(Value::is_string) {
        list.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
        list.dedup();
    }
}

/// An object whose names are the client's.
fn by_name(value: &mut Value) {
    if let Value::Object(object) = value {
        object.sort_keys();
    }
}

fn each(value: &mut Value, of_one: impl Fn(&mut Value)) {
    if let Value::Array(list) = value {
        list.iter_mut().for_each(of_one);
    }
}

fn inner(value: &mut Value, name: &str, of_it: impl Fn(&mut Value)) {
    if let Some(inner) = value.get_mut(name) {
        of_it(inner);
    }
}

/// Rules of filterable attributes: features that a pattern leaves out are filled in.
fn rules(value: &mut Value) {
    each(value, |rule| {
        let Value::Object(rule) = rule else { return };
        let given = rule.get("features");
        let on = |path: &str, default: bool| {
            given.and_then(|given| given.pointer(path)).and_then(Value::as_bool).unwrap_or(default)
        };
        let features = json!({
            "facetSearch": on("/facetSearch", false),
            "filter": {
                "equality": on("/filter/equality", true),
                "comparison": on("/filter/comparison", false),
            },
        });
        rule.insert("features".to_owned(), features);
        in_order(rule, &["attributePatterns", "features"]);
    });
}

fn typos(value: &mut Value) {
    let names = [
        "enabled",
        "minWordSizeForTypos",
        "disableOnWords",
        "disableOnAttributes",
        "disableOnNumbers",
    ];
    members(value, &names);
    inner(value, "minWordSizeForTypos", |sizes| members(sizes, &["oneTypo", "twoTypos"]));
    inner(value, "disableOnWords", sorted);
    inner(value, "disableOnAttributes", sorted);
}

fn embedder(value: &mut Value) {
    members(value, EMBEDDER);
    fragments(value);
    for name in ["searchEmbedder", "indexingEmbedder"] {
        inner(value, name, |part| {
            members(part, PART_OF_EMBEDDER);
            fragments(part);
        });
    }
}

/// What embedders of both kinds have.
fn fragments(value: &mut Value) {
    for name in ["indexingFragments", "searchFragments", "headers"] {
        inner(value, name, by_name);
    }
    inner(value, "distribution", |shift| members(shift, &["mean", "sigma"]));
}

fn chat(value: &mut Value) {
    let names = ["description", "documentTemplate", "documentTemplateMaxBytes", "searchParameters"];
    members(value, &names);
    inner(value, "searchParameters", |search| {
        let names = [
            "hybrid",
            "limit",
            "sort",
            "distinct",
            "matchingStrategy",
            "attributesToSearchOn",
            "rankingScoreThreshold",
        ];
        members(search, &names);
        inner(search, "hybrid", |hybrid| members(hybrid, &["semanticRatio", "embedder"]));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(settings: Value) -> String {
        let Value::Object(mut settings) = settings else { panic!("an object") };
        normalize(&mut settings);
        serde_json::to_string(&settings).unwrap()
    }

    #[test]
    fn texts_are_those_of_a_node() {
        let rules = json!({"filterableAttributes": [
            "b", {"features": {"filter": {"equality": false}}, "attributePatterns": ["x"]},
            {"attributePatterns": []},
        ]});
        assert_eq!(
            normal(rules),
            r#"{"filterableAttributes":["b",{"attributePatterns":["x"],"features":{"facetSearch":false,"filter":{"equality":false,"comparison":false}}},{"attributePatterns":[],"features":{"facetSearch":false,"filter":{"equality":true,"comparison":false}}}]}"#
        );
        let sets = json!({
            "synonyms": {"z": ["b", "a"], "a": []}, "stopWords": ["z", "a", "z"],
            "typoTolerance": {"disableOnWords": ["b", "B"], "minWordSizeForTypos": {"twoTypos": 9, "oneTypo": 4}, "enabled": true},
            "sortableAttributes": null, "searchableAttributes": ["b", "a", "b"],
        });
        assert_eq!(
            normal(sets),
            r#"{"searchableAttributes":["b","a","b"],"sortableAttributes":null,"stopWords":["a","z"],"synonyms":{"a":[],"z":["b","a"]},"typoTolerance":{"enabled":true,"minWordSizeForTypos":{"oneTypo":4,"twoTypos":9},"disableOnWords":["B","b"]}}"#
        );
        let embedders = json!({"embedders": {
            "z": {"distribution": {"sigma": 1.0, "mean": 0.5}, "source": "userProvided"}, "a": null,
        }});
        assert_eq!(
            normal(embedders),
            r#"{"embedders":{"a":null,"z":{"source":"userProvided","distribution":{"mean":0.5,"sigma":1.0}}}}"#
        );
    }
}
