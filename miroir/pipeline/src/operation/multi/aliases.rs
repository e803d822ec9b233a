//! Names that stand for other indexes.
//!
//! A query of a name that stands for one index is a query of that index, and has the name back in
//! the answer. One that stands for several is, in a federation, a query of each of them; else it is
//! a federation of its own, whose answer has the shape of a search.

use std::sync::Arc;

use bytes::Bytes;
use indexmap::IndexMap;
use serde_json::json;
use serde_json::value::RawValue;

use super::facets::{self, ByIndex, Settings};
use super::federation::MergeFacets;
use super::{Behind, MultiSearch, SubQuery};
use crate::query::{ClientRequest, RawObject};

/// Parameters of a search that are about its hits as a whole.
const WHOLE: &[&str] = &["offset", "limit", "page", "hitsPerPage", "distinct"];

impl Behind {
    /// The body of a search of this index.
    fn body(&self, body: &RawObject) -> RawObject {
        let mut body = body.clone();
        if let Some(rule) = &self.rule {
            body.and_filter(rule);
        }
        body
    }
}

impl MultiSearch {
    /// Asks queries of the indexes that `names` answers for the one they name, where it answers any.
    /// Limits, answers and errors stay about the queries and names of the client.
    ///
    /// # Errors
    /// Those of `names`; the request is not to be answered then.
    pub fn resolve_aliases<E>(
        &mut self,
        names: impl Fn(&str) -> Result<Option<Vec<Behind>>, E>,
    ) -> Result<(), E> {
        let federated = self.is_federated();
        for query in self.queries.iter_mut().flatten() {
            let Some(indexes) = names(&query.index)? else { continue };
            let Some(first) = indexes.first() else { continue };
            query.alias = Some(Arc::from(std::mem::replace(&mut query.index, first.index.clone())));
            if indexes.len() > 1 {
                query.indexes = indexes;
            } else {
                query.body = first.body(&query.body);
            }
        }
        if federated {
            self.spread();
        }
        if let Some(federation) = &mut self.federation
            && let Ok(Some(asked)) =
                federation.read::<IndexMap<String, Box<RawValue>>>("facetsByIndex")
        {
            let mut all = IndexMap::new();
            for (name, facets) in asked {
                let indexes: Vec<String> = match names(&name)? {
                    Some(indexes) => indexes.into_iter().map(|behind| behind.index).collect(),
                    None => vec![name.clone()],
                };
                all.extend(indexes.iter().map(|index| (index.clone(), facets.clone())));
                self.facets.push((name, indexes));
            }
            federation.set("facetsByIndex", &all);
        }
        Ok(())
    }

    /// Makes queries of several indexes queries of one each.
    pub(in crate::operation) fn spread(&mut self) {
        let Some(queries) = self.queries.take() else { return };
        let mut all = Vec::with_capacity(queries.len());
        for mut query in queries {
            match std::mem::take(&mut query.indexes) {
                none if none.is_empty() => all.push(query),
                indexes => {
                    all.extend(indexes.into_iter().map(|behind| SubQuery {
                        body: behind.body(&query.body),
                        index: behind.index,
                        ..query.clone()
                    }));
                }
            }
        }
        self.queries = Some(all);
    }

    /// One search of what a name stands for, several indexes. The answer has the shape of a search.
    pub fn of_one_search(name: &str, mut body: RawObject, indexes: &[Behind]) -> Self {
        let mut federation = RawObject::default();
        for key in WHOLE {
            if let Some(value) = body.remove(key) {
                federation.set_raw(key, value);
            }
        }
        if let Some(facets) = body.remove("facets").filter(|facets| facets.get() != "null") {
            let by_index: IndexMap<&str, &RawValue> =
                indexes.iter().map(|behind| (behind.index.as_str(), &*facets)).collect();
            federation.set("facetsByIndex", &by_index);
            federation.set("mergeFacets", &json!({}));
        }
        let alias: Arc<str> = Arc::from(name);
        let queries = indexes.iter().map(|behind| SubQuery {
            index: behind.index.clone(),
            body: behind.body(&body),
            options: None,
            alias: Some(Arc::clone(&alias)),
            indexes: Vec::new(),
            position: 0,
        });
        Self {
            queries: Some(queries.collect()),
            federation: Some(federation),
            asked: 1,
            is_search: true,
            facets: Vec::new(),
        }
    }

    /// The request it would be if it had come by itself.
    pub fn original(&self, metadata: bool) -> ClientRequest {
        ClientRequest {
            method: http::Method::POST,
            path: "/multi-search".to_owned(),
            query: None,
            body: self.body().unwrap_or_default(),
            content_type: Some("application/json".to_owned()),
            metadata,
        }
    }

    /// What is said of a query of this request, as said of the query that the client asked.
    pub(super) fn located(&self, message: &str) -> String {
        let located = || {
            let (at, said) = message.strip_prefix("Inside `.queries[")?.split_once("]`")?;
            let query = self.queries().nth(at.parse().ok()?)?;
            Some(match said.strip_prefix(": ") {
                Some(said) if self.is_search => said.to_owned(),
                _ => format!("Inside `.queries[{}]`{said}", query.position),
            })
        };
        located().unwrap_or_else(|| message.to_owned())
    }

    /// The facets of indexes under the names the client has for them.
    pub(super) fn named(&self, by_index: ByIndex, settings: &Settings) -> ByIndex {
        if self.facets.is_empty() {
            return by_index;
        }
        let named = self.facets.iter().filter_map(|(name, indexes)| {
            let facets = match indexes.as_slice() {
                [index] => by_index.get(index).cloned(),
                _ => {
                    let of = |index: &String| Some((index.clone(), by_index.get(index)?.clone()));
                    let own = indexes.iter().filter_map(of).collect();
                    facets::merge(own, settings, MergeFacets::default())
                }
            };
            Some((name.clone(), facets?))
        });
        named.collect()
    }
}

/// The answer to one search of several indexes as one index would give it.
pub(super) fn as_search(body: &Bytes, q: &str) -> Option<Bytes> {
    let mut answer = RawObject::parse(body)?;
    let mut hits = answer.read::<Vec<RawObject>>("hits").ok()??;
    answer.remove("hits");
    for hit in &mut hits {
        hit.remove("_federation");
    }
    let mut out = RawObject::default();
    out.set("hits", &hits);
    out.set_raw("query", RawValue::from_string(q.to_owned()).ok()?);
    for key in answer.keys().map(str::to_owned).collect::<Vec<_>>() {
        // Lists of what each query has are what the only one has.
        let (key, value) = match key.as_str() {
            "queryVectors" => {
                let vectors = answer.read::<IndexMap<String, Box<RawValue>>>(&key).ok()??;
                ("queryVector", vectors.into_iter().next().map(|(_, vector)| vector))
            }
            "metadata" => {
                (&*key, answer.read::<Vec<Box<RawValue>>>(&key).ok()??.into_iter().next())
            }
            _ => (&*key, answer.remove(&key)),
        };
        if let Some(value) = value {
            out.set_raw(key, value);
        }
    }
    Some(out.to_bytes())
}
