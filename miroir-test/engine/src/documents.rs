//! Reading documents: one by id, lists with filters, ids and sort.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::str::FromStr;

use milli_core::documents::validate_document_id_value;
use milli_core::heed::RoTxn;
use milli_core::heed::types::Bytes;
use milli_core::heed_codec::facet::{FieldDocIdFacetF64Codec, FieldDocIdFacetStringCodec};
use milli_core::{AscDesc, Error, FieldsIdsMap, Filter, Index, Member, SortError, UserError};
use serde_json::{Map, Value, json};

use super::errors::ApiError;

/// What a list of documents is asked for with.
#[derive(Debug, Default)]
pub(crate) struct Fetch {
    /// Documents to skip.
    pub(crate) offset: usize,
    /// Largest number of documents.
    pub(crate) limit: usize,
    /// Fields to show.
    pub(crate) fields: Option<Vec<String>>,
    /// Whether vectors are shown.
    pub(crate) retrieve_vectors: bool,
    /// Only these documents.
    pub(crate) ids: Option<Vec<Value>>,
    /// Only documents that match.
    pub(crate) filter: Option<Value>,
    /// Order.
    pub(crate) sort: Option<Vec<String>>,
    /// Whether the sort values are added to every document.
    pub(crate) proxy: bool,
}

/// A value to sort by; smaller comes first whatever the direction.
#[derive(Debug, Clone, PartialEq)]
enum Key {
    Number(f64),
    Text(String),
    Missing,
}

impl Key {
    fn class(&self) -> u8 {
        match self {
            Key::Number(_) => 0,
            Key::Text(_) => 1,
            Key::Missing => 2,
        }
    }

    fn compare(&self, other: &Self, ascending: bool) -> Ordering {
        let order = match (self, other) {
            (Key::Number(a), Key::Number(b)) => a.total_cmp(b),
            (Key::Text(a), Key::Text(b)) => a.cmp(b),
            _ => return self.class().cmp(&other.class()),
        };
        if ascending { order } else { order.reverse() }
    }

    fn value(&self) -> Value {
        match self {
            // Integers are shown as such, as they are in documents.
            Key::Number(number) if number.fract() == 0.0 && number.abs() < 9e15 => {
                json!(*number as i64)
            }
            Key::Number(number) => json!(number),
            Key::Text(text) => json!(text),
            Key::Missing => Value::Null,
        }
    }
}

/// Answers a list of documents.
pub(crate) fn fetch(index: &Index, query: &Fetch) -> Result<Value, ApiError> {
    let rtxn = index.read_txn()?;
    let fields = index.fields_ids_map(&rtxn)?;
    let mut candidates = index.documents_ids(&rtxn)?;
    if let Some(filter) = &query.filter {
        let code = |error: Error| {
            ApiError::from_engine(&error).with_filter_code("invalid_document_filter")
        };
        if let Some(filter) = Filter::from_json(filter).map_err(code)? {
            candidates &= filter.evaluate(&rtxn, index).map_err(|error| {
                ApiError::from_engine(&error).with_filter_code("invalid_document_filter")
            })?;
        }
    }
    if let Some(ids) = &query.ids {
        let mut wanted = roaring::RoaringBitmap::new();
        for (at, id) in ids.iter().enumerate() {
            let id = validate_document_id_value(id.clone()).map_err(|error| {
                ApiError::new("invalid_document_ids", format!("In `.ids[{at}]`: {error}"))
            })?;
            if let Some(document) = index.external_documents_ids().get(&rtxn, &id)? {
                wanted.insert(document);
            }
        }
        candidates &= wanted;
    }
    let total = candidates.len();
    let sort = query.sort.as_deref().map(|sort| parse_sort(index, &rtxn, sort)).transpose()?;
    let page: Vec<(u32, Vec<Key>)> = match &sort {
        None => candidates
            .iter()
            .skip(query.offset)
            .take(query.limit)
            .map(|id| (id, Vec::new()))
            .collect(),
        Some(sort) => {
            let mut keyed = Vec::with_capacity(candidates.len() as usize);
            let keys = SortKeys::new(index, &rtxn, &fields, sort)?;
            for id in &candidates {
                keyed.push((id, keys.of(id)?));
            }
            keyed.sort_by(|(a_id, a), (b_id, b)| {
                sort.iter()
                    .zip(a.iter().zip(b))
                    .map(|(rule, (a, b))| a.compare(b, matches!(rule, AscDesc::Asc(_))))
                    .find(|order| order.is_ne())
                    .unwrap_or_else(|| a_id.cmp(b_id))
            });
            keyed.into_iter().skip(query.offset).take(query.limit).collect()
        }
    };
    let mut results = Vec::with_capacity(page.len());
    for (id, keys) in page {
        let mut document = read_document(
            index,
            &rtxn,
            &fields,
            id,
            query.fields.as_deref(),
            query.retrieve_vectors,
        )?;
        if query.proxy {
            let values: Vec<Value> = sort
                .iter()
                .flatten()
                .zip(&keys)
                .map(|(rule, key)| {
                    let asc = matches!(rule, AscDesc::Asc(_));
                    match rule.member() {
                        Member::Field(_) => json!({ "sort": { "asc": asc, "value": key.value() } }),
                        Member::Geo(_) => {
                            json!({ "geoSort": { "asc": asc, "distance": key.value() } })
                        }
                    }
                })
                .collect();
            document.insert("_federation".into(), json!({ "weightedScoreValues": values }));
        }
        results.push(Value::Object(document));
    }
    Ok(json!({ "results": results, "offset": query.offset, "limit": query.limit, "total": total }))
}

/// One document by its external id.
pub(crate) fn get(
    index: &Index,
    id: &str,
    fields: Option<&[String]>,
    retrieve_vectors: bool,
) -> Result<Map<String, Value>, ApiError> {
    let rtxn = index.read_txn()?;
    let map = index.fields_ids_map(&rtxn)?;
    // Keys of the store are neither empty nor longer than an id may be.
    let known = !id.is_empty() && id.len() <= 511;
    let internal = if known { index.external_documents_ids().get(&rtxn, id)? } else { None };
    let Some(internal) = internal else { return Err(ApiError::document_not_found(id)) };
    Ok(read_document(index, &rtxn, &map, internal, fields, retrieve_vectors)?)
}

/// Reads one stored document.
pub(crate) fn read_document(
    index: &Index,
    rtxn: &RoTxn<'_>,
    map: &FieldsIdsMap,
    id: u32,
    fields: Option<&[String]>,
    retrieve_vectors: bool,
) -> Result<Map<String, Value>, Error> {
    let stored = index.document(rtxn, id)?;
    let mut document = milli_core::all_obkv_to_json(stored, map)?;
    let vectors = document.shift_remove("_vectors");
    if let Some(fields) = fields.filter(|fields| !fields.iter().any(|name| name == "*")) {
        let names: Vec<&str> = fields.iter().map(String::as_str).collect();
        document = select(&document, &names);
    }
    if retrieve_vectors {
        document.insert("_vectors".into(), read_vectors(index, rtxn, id, vectors)?);
    }
    Ok(document)
}

/// The `_vectors` object of a document.
pub(crate) fn read_vectors(
    index: &Index,
    rtxn: &RoTxn<'_>,
    id: u32,
    stored: Option<Value>,
) -> Result<Value, Error> {
    let mut vectors = match stored {
        Some(Value::Object(map)) => map,
        _ => Map::new(),
    };
    let provided: BTreeSet<String> = index
        .embedding_configs(rtxn)?
        .into_iter()
        .filter(|config| config.user_provided.contains(id))
        .map(|config| config.name)
        .collect();
    for (name, embeddings) in index.embeddings(rtxn, id)? {
        let regenerate = !provided.contains(&name);
        vectors.insert(name, json!({ "embeddings": embeddings, "regenerate": regenerate }));
    }
    Ok(Value::Object(vectors))
}

/// Keeps the named fields; a name may be a path with dots and then selects inside of objects.
pub(crate) fn select(document: &Map<String, Value>, names: &[&str]) -> Map<String, Value> {
    select_below(document, names, "")
}

/// Whether `path` is `ancestor` or lies below it.
pub(crate) fn is_within(path: &str, ancestor: &str) -> bool {
    path.strip_prefix(ancestor).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn select_below(document: &Map<String, Value>, names: &[&str], base: &str) -> Map<String, Value> {
    let mut out = Map::new();
    for (key, value) in document {
        let path = if base.is_empty() { key.clone() } else { format!("{base}.{key}") };
        if names.iter().any(|name| is_within(&path, name)) {
            out.insert(key.clone(), value.clone());
        } else if names.iter().any(|name| is_within(name, &path)) {
            match value {
                Value::Object(inner) => {
                    let kept = select_below(inner, names, &path);
                    if !kept.is_empty() {
                        out.insert(key.clone(), Value::Object(kept));
                    }
                }
                Value::Array(items) => {
                    let kept: Vec<Value> = items
                        .iter()
                        .filter_map(Value::as_object)
                        .map(|inner| select_below(inner, names, &path))
                        .filter(|kept| !kept.is_empty())
                        .map(Value::Object)
                        .collect();
                    if !kept.is_empty() {
                        out.insert(key.clone(), Value::Array(kept));
                    }
                }
                _ => {}
            }
        }
    }
    out
}

fn parse_sort(index: &Index, rtxn: &RoTxn<'_>, sort: &[String]) -> Result<Vec<AscDesc>, ApiError> {
    let sortable: BTreeSet<String> = index.sortable_fields(rtxn)?.into_iter().collect();
    let invalid = |error: UserError| ApiError::new("invalid_document_sort", error.to_string());
    sort.iter()
        .map(|text| {
            let rule =
                AscDesc::from_str(text).map_err(|error| invalid(SortError::from(error).into()))?;
            let field = rule.field().unwrap_or("_geo");
            if sortable.iter().any(|name| is_within(field, name)) {
                Ok(rule)
            } else {
                Err(invalid(UserError::InvalidSortableAttribute {
                    field: field.to_owned(),
                    valid_fields: sortable.clone(),
                    hidden_fields: false,
                }))
            }
        })
        .collect()
}

/// Reads sort values from the engine's facet databases.
struct SortKeys<'t> {
    index: &'t Index,
    rtxn: &'t RoTxn<'t>,
    rules: Vec<(Rule, bool)>,
}

enum Rule {
    Field(Option<u16>),
    Geo([f64; 2], std::collections::HashMap<u32, [f64; 2]>),
}

impl<'t> SortKeys<'t> {
    fn new(
        index: &'t Index,
        rtxn: &'t RoTxn<'t>,
        fields: &FieldsIdsMap,
        sort: &[AscDesc],
    ) -> Result<Self, Error> {
        let mut rules = Vec::with_capacity(sort.len());
        for rule in sort {
            let resolved = match rule.member() {
                Member::Field(name) => Rule::Field(fields.id(name)),
                Member::Geo(target) => {
                    let points = index.geo_rtree(rtxn)?;
                    let points = points
                        .iter()
                        .flat_map(|tree| tree.iter())
                        .map(|point| point.data)
                        .collect();
                    Rule::Geo(*target, points)
                }
            };
            rules.push((resolved, matches!(rule, AscDesc::Asc(_))));
        }
        Ok(Self { index, rtxn, rules })
    }

    fn of(&self, document: u32) -> Result<Vec<Key>, Error> {
        self.rules.iter().map(|(rule, ascending)| self.key(rule, *ascending, document)).collect()
    }

    fn key(&self, rule: &Rule, ascending: bool, document: u32) -> Result<Key, Error> {
        let field = match rule {
            Rule::Field(Some(field)) => field,
            Rule::Field(None) => return Ok(Key::Missing),
            Rule::Geo(target, points) => {
                return Ok(points.get(&document).map_or(Key::Missing, |point| {
                    Key::Number(milli_core::distance_between_two_points(target, point))
                }));
            }
        };
        let mut prefix = field.to_be_bytes().to_vec();
        prefix.extend_from_slice(&document.to_be_bytes());
        let numbers = self
            .index
            .field_id_docid_facet_f64s
            .remap_key_type::<Bytes>()
            .prefix_iter(self.rtxn, &prefix)?
            .remap_key_type::<FieldDocIdFacetF64Codec>();
        let mut best: Option<f64> = None;
        for entry in numbers {
            let ((_, _, number), ()) = entry?;
            best = Some(match best {
                None => number,
                Some(best) if ascending => best.min(number),
                Some(best) => best.max(number),
            });
        }
        if let Some(best) = best {
            return Ok(Key::Number(best));
        }
        let texts = self
            .index
            .field_id_docid_facet_strings
            .remap_key_type::<Bytes>()
            .prefix_iter(self.rtxn, &prefix)?
            .remap_key_type::<FieldDocIdFacetStringCodec>();
        let mut best: Option<String> = None;
        for entry in texts {
            let ((_, _, text), _) = entry?;
            // Entries come in ascending order.
            if best.is_none() || !ascending {
                best = Some(text.to_owned());
            }
        }
        Ok(best.map_or(Key::Missing, Key::Text))
    }
}
