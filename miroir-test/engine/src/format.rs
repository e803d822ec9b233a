//! Search hits: attribute selection, `_formatted`, `_matchesPosition`, vectors and distances.

use std::collections::{BTreeMap, BTreeSet};

use milli_core::heed::RoTxn;
use milli_core::score_details::ScoreDetails;
use milli_core::tokenizer::Language;
use milli_core::{
    Error, FieldsIdsMap, FormatOptions, Index, LocalizedAttributesRule, MatchBounds,
    MatcherBuilder, PatternMatch,
};
use serde_json::{Map, Value, json};

use super::documents::{is_within, read_vectors, select};
use super::query::SearchQuery;

/// Turns internal documents into hits for one query.
pub(crate) struct HitMaker<'a> {
    index: &'a Index,
    rtxn: &'a RoTxn<'a>,
    fields: &'a FieldsIdsMap,
    query: &'a SearchQuery,
    displayed: BTreeSet<u16>,
    retrieved: BTreeSet<u16>,
    retrieve_vectors: bool,
    options: BTreeMap<u16, FormatOptions>,
    matcher: MatcherBuilder<'a>,
    localized: Vec<LocalizedAttributesRule>,
    geo_target: Option<[f64; 2]>,
}

impl std::fmt::Debug for HitMaker<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HitMaker").field("query", &self.query).finish_non_exhaustive()
    }
}

impl<'a> HitMaker<'a> {
    /// Resolves the attribute lists of a query against an index.
    pub(crate) fn new(
        index: &'a Index,
        rtxn: &'a RoTxn<'a>,
        fields: &'a FieldsIdsMap,
        query: &'a SearchQuery,
        mut matcher: MatcherBuilder<'a>,
        geo_target: Option<[f64; 2]>,
    ) -> Result<Self, Error> {
        matcher.crop_marker(query.crop_marker.clone());
        matcher.highlight_prefix(query.highlight_pre_tag.clone());
        matcher.highlight_suffix(query.highlight_post_tag.clone());
        let all = || fields.iter().map(|(id, _)| id).collect::<BTreeSet<_>>();
        let displayed_names = index.displayed_fields(rtxn)?;
        let displayed = match &displayed_names {
            None => all(),
            Some(names) => names.iter().filter_map(|name| fields.id(name)).collect(),
        };
        let vectors_shown = displayed_names.is_none_or(|names| names.contains(&"_vectors"));
        let retrieved = match &query.attributes_to_retrieve {
            Some(names) if !names.iter().any(|name| name == "*") => names
                .iter()
                .filter_map(|name| fields.id(name))
                .filter(|id| displayed.contains(id))
                .collect(),
            _ => displayed.clone(),
        };
        let options = format_options(query, fields, &displayed, &retrieved);
        Ok(Self {
            index,
            rtxn,
            fields,
            query,
            displayed,
            retrieved,
            retrieve_vectors: query.retrieve_vectors && vectors_shown,
            options,
            matcher,
            localized: index.localized_attributes_rules(rtxn)?.unwrap_or_default(),
            geo_target,
        })
    }

    fn names<'s>(&'s self, ids: impl IntoIterator<Item = &'s u16>) -> Vec<&'s str> {
        ids.into_iter().filter_map(|id| self.fields.name(*id)).collect()
    }

    /// Builds one hit.
    pub(crate) fn hit(&self, id: u32, scores: &[ScoreDetails]) -> Result<Value, Error> {
        let mut full =
            milli_core::all_obkv_to_json(self.index.document(self.rtxn, id)?, self.fields)?;
        let vectors = full.shift_remove("_vectors");
        let mut hit = select(&full, &self.names(&self.retrieved));
        if self.retrieve_vectors {
            hit.insert("_vectors".into(), read_vectors(self.index, self.rtxn, id, vectors)?);
        }
        if let Some(target) = &self.geo_target
            && let Some(point) = hit.get("_geo").and_then(geo_point)
        {
            let distance = milli_core::distance_between_two_points(target, &point).round();
            hit.insert("_geoDistance".into(), json!(distance as u64));
        }
        if self.query.show_matches_position || !self.options.is_empty() {
            let (formatted, positions) = self.format(&full);
            if !formatted.is_empty() {
                hit.insert("_formatted".into(), Value::Object(formatted));
            }
            if self.query.show_matches_position {
                hit.insert("_matchesPosition".into(), json!(positions));
            }
        }
        if self.query.show_ranking_score {
            hit.insert("_rankingScore".into(), json!(ScoreDetails::global_score(scores.iter())));
        }
        if self.query.show_ranking_score_details {
            let details = ScoreDetails::to_json_map(scores.iter());
            hit.insert("_rankingScoreDetails".into(), Value::Object(details));
        }
        Ok(Value::Object(hit))
    }

    fn format(
        &self,
        full: &Map<String, Value>,
    ) -> (Map<String, Value>, BTreeMap<String, Vec<MatchBounds>>) {
        let mut positions = BTreeMap::new();
        let active: Vec<(&str, FormatOptions)> = self
            .options
            .iter()
            .filter(|(_, option)| option.should_format())
            .filter_map(|(id, option)| self.fields.name(*id).map(|name| (name, *option)))
            .collect();
        let displayed = self.names(&self.displayed);
        let mut document = select(full, &displayed);
        let mut visit = |path: &str, indices: &[usize], value: &mut Value| {
            let option = active
                .iter()
                .filter(|(name, _)| is_within(name, path) || is_within(path, name))
                .map(|(_, option)| *option)
                .reduce(FormatOptions::merge);
            let locales = self.query.locales.as_deref().or_else(|| {
                self.localized
                    .iter()
                    .find(|rule| rule.match_str(path) == PatternMatch::Match)
                    .map(LocalizedAttributesRule::locales)
            });
            let bounds = self.format_leaf(value, option, indices, locales);
            if self.query.show_matches_position && !bounds.is_empty() {
                positions.insert(path.to_owned(), bounds);
            }
        };
        visit_leaves(&mut document, "", &[], &mut visit);
        let shown: Vec<&str> = self.names(self.options.keys());
        (select(&document, &shown), positions)
    }

    fn format_leaf(
        &self,
        value: &mut Value,
        option: Option<FormatOptions>,
        indices: &[usize],
        locales: Option<&[Language]>,
    ) -> Vec<MatchBounds> {
        let text = match &*value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => return Vec::new(),
        };
        let mut matcher = self.matcher.build(&text, locales);
        let bounds =
            if self.query.show_matches_position { matcher.matches(indices) } else { Vec::new() };
        let formatted = option.map(|option| matcher.format(option).into_owned());
        drop(matcher);
        *value = Value::String(formatted.unwrap_or(text));
        bounds
    }
}

/// Calls `visit` with every value that is neither an object nor an array.
fn visit_leaves(
    map: &mut Map<String, Value>,
    base: &str,
    indices: &[usize],
    visit: &mut impl FnMut(&str, &[usize], &mut Value),
) {
    for (key, value) in map.iter_mut() {
        let path = if base.is_empty() { key.clone() } else { format!("{base}.{key}") };
        visit_value(value, &path, indices, visit);
    }
}

fn visit_value(
    value: &mut Value,
    path: &str,
    indices: &[usize],
    visit: &mut impl FnMut(&str, &[usize], &mut Value),
) {
    match value {
        Value::Object(inner) => visit_leaves(inner, path, indices, visit),
        Value::Array(items) => {
            for (at, item) in items.iter_mut().enumerate() {
                let mut below = indices.to_vec();
                below.push(at);
                visit_value(item, path, &below, visit);
            }
        }
        leaf => visit(path, indices, leaf),
    }
}

fn format_options(
    query: &SearchQuery,
    fields: &FieldsIdsMap,
    displayed: &BTreeSet<u16>,
    retrieved: &BTreeSet<u16>,
) -> BTreeMap<u16, FormatOptions> {
    let mut options: BTreeMap<u16, FormatOptions> = BTreeMap::new();
    let resolve = |name: &str| -> Vec<u16> {
        if name == "*" {
            displayed.iter().copied().collect()
        } else {
            fields.id(name).filter(|id| displayed.contains(id)).into_iter().collect()
        }
    };
    for name in query.attributes_to_highlight.iter().flatten() {
        for id in resolve(name) {
            options.insert(id, FormatOptions { highlight: true, crop: None });
        }
    }
    for entry in query.attributes_to_crop.iter().flatten() {
        let (name, length) = match entry.rsplit_once(':') {
            Some((name, length)) => (name, length.parse().unwrap_or(query.crop_length)),
            None => (entry.as_str(), query.crop_length),
        };
        for id in resolve(name) {
            options.entry(id).or_insert(FormatOptions { highlight: false, crop: None }).crop =
                Some(length);
        }
    }
    if !options.is_empty() {
        for id in retrieved {
            options.entry(*id).or_insert(FormatOptions { highlight: false, crop: None });
        }
    }
    options
}

fn geo_point(value: &Value) -> Option<[f64; 2]> {
    let coordinate = |name: &str| match value.get(name)? {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    Some([coordinate("lat")?, coordinate("lng")?])
}
