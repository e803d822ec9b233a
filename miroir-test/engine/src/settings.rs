//! Index settings in Meilisearch's JSON forms.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::str::FromStr;

use milli_core::index::PrefixSearch;
use milli_core::order_by_map::OrderByMap;
use milli_core::proximity::ProximityPrecision;
use milli_core::tokenizer::Language;
use milli_core::update::{IndexerConfig, Setting, Settings};
use milli_core::vector::settings::EmbeddingSettings;
use milli_core::{
    Criterion, Error, FilterableAttributesRule, Index, LocalizedAttributesRule, OrderBy, UserError,
};
use serde_json::{Map, Value, json};

use super::errors::ApiError;
use super::params::{describe, quoted, string_list, wrong_type};

/// Key in the JSON object, name of the sub-route, method of the sub-route.
pub(crate) const FIELDS: [(&str, &str, &str); 20] = [
    ("displayedAttributes", "displayed-attributes", "PUT"),
    ("searchableAttributes", "searchable-attributes", "PUT"),
    ("filterableAttributes", "filterable-attributes", "PUT"),
    ("sortableAttributes", "sortable-attributes", "PUT"),
    ("rankingRules", "ranking-rules", "PUT"),
    ("stopWords", "stop-words", "PUT"),
    ("nonSeparatorTokens", "non-separator-tokens", "PUT"),
    ("separatorTokens", "separator-tokens", "PUT"),
    ("dictionary", "dictionary", "PUT"),
    ("synonyms", "synonyms", "PUT"),
    ("distinctAttribute", "distinct-attribute", "PUT"),
    ("proximityPrecision", "proximity-precision", "PUT"),
    ("typoTolerance", "typo-tolerance", "PATCH"),
    ("faceting", "faceting", "PATCH"),
    ("pagination", "pagination", "PATCH"),
    ("embedders", "embedders", "PATCH"),
    ("searchCutoffMs", "search-cutoff-ms", "PUT"),
    ("localizedAttributes", "localized-attributes", "PUT"),
    ("facetSearch", "facet-search", "PUT"),
    ("prefixSearch", "prefix-search", "PUT"),
];

fn known() -> impl Iterator<Item = &'static str> {
    FIELDS.iter().map(|(key, _, _)| *key)
}

/// The error code of a setting.
fn code(key: &str) -> String {
    let snake: String = key
        .chars()
        .flat_map(|c| if c.is_uppercase() { vec!['_', c.to_ascii_lowercase()] } else { vec![c] })
        .collect();
    format!("invalid_settings_{snake}")
}

/// Checks submitted settings and puts them into their canonical order, as task details show them.
pub(crate) fn validate(mut submitted: Map<String, Value>) -> Result<Map<String, Value>, ApiError> {
    // Settings of experimental features. A reset changes nothing, and foreign keys have no effect.
    let is_key = |key: &Value| key["foreignIndexUid"].is_string() && key["fieldName"].is_string();
    let fine = |key: &str, value: &Value| match key {
        "foreignKeys" => value.as_array().is_some_and(|keys| keys.iter().all(is_key)),
        _ => false,
    };
    for key in ["chat", "foreignKeys"] {
        if submitted.get(key).is_some_and(|value| value.is_null() || fine(key, value)) {
            submitted.shift_remove(key);
        }
    }
    let names: Vec<&str> = known().collect();
    if let Some(key) = submitted.keys().find(|key| !names.contains(&key.as_str())) {
        return Err(ApiError::new(
            "bad_request",
            format!("Unknown field `{key}`: expected one of {}", quoted(&names)),
        ));
    }
    let mut out = Map::new();
    for key in names {
        if let Some(value) = submitted.get(key) {
            let checked = match (key, value) {
                // These two are shown as what their reset means.
                ("displayedAttributes" | "searchableAttributes", Value::Null) => json!(["*"]),
                (_, Value::Null) => Value::Null,
                _ => validate_one(key, value)?,
            };
            out.insert(key.to_owned(), checked);
        }
    }
    Ok(out)
}

fn validate_one(key: &str, value: &Value) -> Result<Value, ApiError> {
    let code = code(key);
    let invalid =
        |text: String| ApiError::new(code.clone(), format!("Invalid value at `.{key}`: {text}"));
    let sorted = |value: &Value| {
        let set: BTreeSet<String> = string_list(value, key, &code)?.into_iter().collect();
        Ok(json!(set))
    };
    match key {
        "displayedAttributes" | "searchableAttributes" => {
            string_list(value, key, &code).map(|list| json!(list))
        }
        "sortableAttributes" | "stopWords" | "nonSeparatorTokens" | "separatorTokens"
        | "dictionary" => sorted(value),
        "filterableAttributes" => {
            match serde_json::from_value::<Vec<FilterableAttributesRule>>(value.clone()) {
                Ok(_) => Ok(value.clone()),
                Err(error) => Err(invalid(error.to_string())),
            }
        }
        "rankingRules" => {
            let rules = string_list(value, key, &code)?;
            for (at, rule) in rules.iter().enumerate() {
                Criterion::from_str(rule).map_err(|error| {
                    ApiError::new(code.clone(), format!("Invalid value at `.{key}[{at}]`: {error}"))
                })?;
            }
            Ok(json!(rules))
        }
        "synonyms" => {
            match serde_json::from_value::<BTreeMap<String, Vec<String>>>(value.clone()) {
                Ok(map) => Ok(json!(map)),
                Err(error) => Err(invalid(error.to_string())),
            }
        }
        "distinctAttribute" if !value.is_string() => Err(wrong_type(&code, key, "a string", value)),
        "proximityPrecision"
            if !["byWord", "byAttribute"].contains(&value.as_str().unwrap_or_default()) =>
        {
            Err(invalid(format!(
                "expected one of `byWord`, `byAttribute`, but found {}",
                describe(value)
            )))
        }
        "prefixSearch"
            if !["indexingTime", "disabled"].contains(&value.as_str().unwrap_or_default()) =>
        {
            Err(invalid(format!(
                "expected one of `indexingTime`, `disabled`, but found {}",
                describe(value)
            )))
        }
        "facetSearch" if !value.is_boolean() => Err(wrong_type(&code, key, "a boolean", value)),
        "searchCutoffMs" if !value.is_u64() => {
            Err(wrong_type(&code, key, "a positive integer", value))
        }
        "typoTolerance" => {
            object(
                key,
                &code,
                value,
                &[
                    "enabled",
                    "minWordSizeForTypos",
                    "disableOnWords",
                    "disableOnAttributes",
                    "disableOnNumbers",
                ],
            )?;
            if let Some(sizes) = value.get("minWordSizeForTypos").and_then(Value::as_object) {
                let size = |name: &str, default: u64| {
                    sizes.get(name).and_then(Value::as_u64).unwrap_or(default)
                };
                let (one, two) = (size("oneTypo", 5), size("twoTypos", 9));
                if one > two {
                    return Err(ApiError::new(
                        code,
                        format!(
                            "Invalid value at `.typoTolerance.minWordSizeForTypos`: `minWordSizeForTypos` setting is invalid. `oneTypo` and `twoTypos` fields should be between `0` and `255`, and `twoTypos` should be greater or equals to `oneTypo` but found `oneTypo: {one}` and twoTypos: {two}`."
                        ),
                    ));
                }
            }
            Ok(value.clone())
        }
        "faceting" => object(key, &code, value, &["maxValuesPerFacet", "sortFacetValuesBy"]),
        "pagination" => object(key, &code, value, &["maxTotalHits"]),
        "embedders" => {
            let Some(map) = value.as_object() else {
                return Err(wrong_type(&code, key, "an object", value));
            };
            for (name, settings) in map.iter().filter(|(_, settings)| !settings.is_null()) {
                embedder(settings).map_err(|text| {
                    ApiError::new(
                        code.clone(),
                        format!("Invalid value at `.embedders.{name}`: {text}"),
                    )
                })?;
            }
            Ok(value.clone())
        }
        "localizedAttributes" => localized(value).map(|_| value.clone()).map_err(invalid),
        _ => Ok(value.clone()),
    }
}

fn object(key: &str, code: &str, value: &Value, allowed: &[&str]) -> Result<Value, ApiError> {
    let Some(map) = value.as_object() else {
        return Err(wrong_type(code, key, "an object", value));
    };
    if let Some(unknown) = map.keys().find(|name| !allowed.contains(&name.as_str())) {
        return Err(ApiError::new(
            code,
            format!(
                "Unknown field `{unknown}` inside `.{key}`: expected one of {}",
                quoted(allowed)
            ),
        ));
    }
    Ok(value.clone())
}

fn embedder(value: &Value) -> Result<EmbeddingSettings, String> {
    if value.get("source").and_then(Value::as_str).is_some_and(|source| source != "userProvided") {
        return Err("only the source `userProvided` is supported by this engine node".to_owned());
    }
    serde_json::from_value(value.clone()).map_err(|error| error.to_string())
}

/// Reads a locale: ISO 639-3, or the ISO 639-1 codes of frequent languages.
pub(crate) fn locale(text: &str) -> Option<Language> {
    let long = match text {
        "en" => "eng",
        "fr" => "fra",
        "de" => "deu",
        "es" => "spa",
        "it" => "ita",
        "pt" => "por",
        "nl" => "nld",
        "sv" => "swe",
        "ru" => "rus",
        "ja" => "jpn",
        "zh" => "cmn",
        "ko" => "kor",
        "he" => "heb",
        "ar" => "ara",
        "th" => "tha",
        "tr" => "tur",
        "vi" => "vie",
        other => other,
    };
    Language::from_code(long)
}

fn localized(value: &Value) -> Result<Vec<LocalizedAttributesRule>, String> {
    let rules = value.as_array().ok_or("expected an array")?;
    rules
        .iter()
        .map(|rule| {
            let list = |name: &str| -> Result<Vec<String>, String> {
                serde_json::from_value(rule.get(name).cloned().unwrap_or_else(|| json!([])))
                    .map_err(|error| error.to_string())
            };
            let locales = list("locales")?
                .iter()
                .map(|code| {
                    locale(code).ok_or_else(|| format!("Unknown value `{code}` for a locale"))
                })
                .collect::<Result<_, _>>()?;
            Ok(LocalizedAttributesRule::new(list("attributePatterns")?, locales))
        })
        .collect()
}

/// Applies validated settings in one transaction.
pub(crate) fn apply(
    index: &Index,
    config: &IndexerConfig,
    settings: &Map<String, Value>,
    must_stop: &(dyn Fn() -> bool + Sync),
) -> Result<(), Error> {
    let mut wtxn = index.write_txn()?;
    let mut builder = Settings::new(&mut wtxn, index, config);
    for (key, value) in settings {
        set(&mut builder, key, value).map_err(|error| {
            Error::UserError(UserError::InvalidSettingsEmbedder {
                embedder_name: key.clone(),
                message: error.to_string(),
            })
        })?;
    }
    builder.execute(|_| (), must_stop)?;
    wtxn.commit()?;
    Ok(())
}

/// Sets the primary key of an index.
pub(crate) fn set_primary_key(
    index: &Index,
    config: &IndexerConfig,
    key: &str,
) -> Result<(), Error> {
    let mut wtxn = index.write_txn()?;
    let mut builder = Settings::new(&mut wtxn, index, config);
    builder.set_primary_key(key.to_owned());
    builder.execute(|_| (), || false)?;
    wtxn.commit()?;
    Ok(())
}

fn set(
    builder: &mut Settings<'_, '_, '_>,
    key: &str,
    value: &Value,
) -> Result<(), serde_json::Error> {
    let wildcard = |list: &[String]| list.iter().any(|name| name == "*");
    macro_rules! set_or_reset {
        ($reset:ident, $set:ident, $ty:ty) => {
            match value {
                Value::Null => builder.$reset(),
                value => builder.$set(<$ty as serde::Deserialize>::deserialize(value)?),
            }
        };
    }
    match key {
        "displayedAttributes" => match Option::<Vec<String>>::deserialize_from(value)? {
            Some(list) if !wildcard(&list) => builder.set_displayed_fields(list),
            _ => builder.reset_displayed_fields(),
        },
        "searchableAttributes" => match Option::<Vec<String>>::deserialize_from(value)? {
            Some(list) if !wildcard(&list) => builder.set_searchable_fields(list),
            _ => builder.reset_searchable_fields(),
        },
        "filterableAttributes" => {
            set_or_reset!(
                reset_filterable_fields,
                set_filterable_fields,
                Vec<FilterableAttributesRule>
            );
        }
        "sortableAttributes" => {
            set_or_reset!(reset_sortable_fields, set_sortable_fields, HashSet<String>);
        }
        "rankingRules" => match Option::<Vec<String>>::deserialize_from(value)? {
            Some(rules) => {
                builder.set_criteria(
                    rules.iter().filter_map(|rule| Criterion::from_str(rule).ok()).collect(),
                );
            }
            None => builder.reset_criteria(),
        },
        "stopWords" => set_or_reset!(reset_stop_words, set_stop_words, BTreeSet<String>),
        "nonSeparatorTokens" => {
            set_or_reset!(reset_non_separator_tokens, set_non_separator_tokens, BTreeSet<String>);
        }
        "separatorTokens" => {
            set_or_reset!(reset_separator_tokens, set_separator_tokens, BTreeSet<String>);
        }
        "dictionary" => set_or_reset!(reset_dictionary, set_dictionary, BTreeSet<String>),
        "synonyms" => set_or_reset!(reset_synonyms, set_synonyms, BTreeMap<String, Vec<String>>),
        "distinctAttribute" => set_or_reset!(reset_distinct_field, set_distinct_field, String),
        "proximityPrecision" => {
            set_or_reset!(reset_proximity_precision, set_proximity_precision, ProximityPrecision);
        }
        "typoTolerance" => set_typo_tolerance(builder, value)?,
        "faceting" => set_faceting(builder, value)?,
        "pagination" => match (value, value.get("maxTotalHits")) {
            (Value::Null, _) | (_, Some(Value::Null)) => builder.reset_pagination_max_total_hits(),
            (_, Some(max)) => builder.set_pagination_max_total_hits(usize::deserialize_from(max)?),
            (_, None) => {}
        },
        "embedders" => match value {
            Value::Null => builder.reset_embedder_settings(),
            value => builder.set_embedder_settings(
                BTreeMap::<String, Setting<EmbeddingSettings>>::deserialize_from(value)?,
            ),
        },
        "searchCutoffMs" => set_or_reset!(reset_search_cutoff, set_search_cutoff, u64),
        "localizedAttributes" => match value {
            Value::Null => builder.reset_localized_attributes_rules(),
            value => builder.set_localized_attributes_rules(localized(value).unwrap_or_default()),
        },
        "facetSearch" => set_or_reset!(reset_facet_search, set_facet_search, bool),
        "prefixSearch" => set_or_reset!(reset_prefix_search, set_prefix_search, PrefixSearch),
        _ => {}
    }
    Ok(())
}

trait DeserializeFrom: Sized {
    fn deserialize_from(value: &Value) -> Result<Self, serde_json::Error>;
}

impl<T: serde::de::DeserializeOwned> DeserializeFrom for T {
    fn deserialize_from(value: &Value) -> Result<Self, serde_json::Error> {
        T::deserialize(value)
    }
}

fn set_typo_tolerance(
    builder: &mut Settings<'_, '_, '_>,
    value: &Value,
) -> Result<(), serde_json::Error> {
    // Null for the whole object resets every part of it.
    let part = |name: &str| if value.is_null() { Some(&Value::Null) } else { value.get(name) };
    match part("enabled") {
        Some(Value::Null) => builder.reset_authorize_typos(),
        Some(flag) => builder.set_autorize_typos(bool::deserialize_from(flag)?),
        None => {}
    }
    let sizes = part("minWordSizeForTypos");
    let size = |name: &str| match sizes {
        Some(Value::Null) => Some(&Value::Null),
        Some(sizes) => sizes.get(name),
        None => None,
    };
    match size("oneTypo") {
        Some(Value::Null) => builder.reset_min_word_len_one_typo(),
        Some(length) => builder.set_min_word_len_one_typo(u8::deserialize_from(length)?),
        None => {}
    }
    match size("twoTypos") {
        Some(Value::Null) => builder.reset_min_word_len_two_typos(),
        Some(length) => builder.set_min_word_len_two_typos(u8::deserialize_from(length)?),
        None => {}
    }
    match part("disableOnWords") {
        Some(Value::Null) => builder.reset_exact_words(),
        Some(words) => builder.set_exact_words(BTreeSet::deserialize_from(words)?),
        None => {}
    }
    match part("disableOnAttributes") {
        Some(Value::Null) => builder.reset_exact_attributes(),
        Some(names) => builder.set_exact_attributes(HashSet::deserialize_from(names)?),
        None => {}
    }
    match part("disableOnNumbers") {
        Some(Value::Null) => builder.reset_disable_on_numbers(),
        Some(flag) => builder.set_disable_on_numbers(bool::deserialize_from(flag)?),
        None => {}
    }
    Ok(())
}

fn set_faceting(
    builder: &mut Settings<'_, '_, '_>,
    value: &Value,
) -> Result<(), serde_json::Error> {
    let part = |name: &str| if value.is_null() { Some(&Value::Null) } else { value.get(name) };
    match part("maxValuesPerFacet") {
        Some(Value::Null) => builder.reset_max_values_per_facet(),
        Some(max) => builder.set_max_values_per_facet(usize::deserialize_from(max)?),
        None => {}
    }
    match part("sortFacetValuesBy") {
        Some(Value::Null) => builder.reset_sort_facet_values_by(),
        Some(orders) => {
            let orders = BTreeMap::<String, String>::deserialize_from(orders)?;
            let order =
                |name: &str| if name == "count" { OrderBy::Count } else { OrderBy::Lexicographic };
            let map: OrderByMap =
                orders.into_iter().map(|(field, name)| (field, order(&name))).collect();
            builder.set_sort_facet_values_by(map);
        }
        None => {}
    }
    Ok(())
}
