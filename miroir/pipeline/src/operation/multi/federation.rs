//! The `federation` object, and what each query has to do with it.

use indexmap::IndexMap;
use serde::Deserialize;

use super::SubQuery;
use crate::query::RawObject;
use miroir_core::merge::Pagination;

/// Parameters of a query that belong to the federation.
const PAGING: &[&str] = &["offset", "limit", "page", "hitsPerPage"];
const OTHERS: &[&str] = &["facets", "personalize", "showPerformanceDetails"];

/// `federationOptions`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Options {
    weight: f64,
    remote: Option<serde_json::Value>,
    query_position: Option<serde_json::Value>,
}

impl Default for Options {
    fn default() -> Self {
        Self { weight: 1.0, remote: None, query_position: None }
    }
}

/// `mergeFacets`.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct MergeFacets {
    /// At most this many values per facet.
    pub(super) max_values_per_facet: Option<usize>,
}

/// One query, ready to be asked.
#[derive(Debug)]
pub(super) struct Query {
    pub(super) index: String,
    pub(super) body: RawObject,
    pub(super) weight: f64,
    pub(super) vectors: bool,
    /// The index as the client named it.
    pub(super) name: String,
    /// Which of the client's queries it is.
    pub(super) position: usize,
}

/// A federation that can be read.
#[derive(Debug)]
pub(super) struct Federation {
    pub(super) pagination: Pagination,
    pub(super) distinct: Option<String>,
    /// Facets by index; `None` for an index that was named without any.
    pub(super) facets: IndexMap<String, Option<Vec<String>>>,
    pub(super) merge: Option<MergeFacets>,
    pub(super) performance: bool,
    pub(super) queries: Vec<Query>,
    /// Whether a node has to say if the request is right.
    pub(super) doubtful: bool,
    /// Whether a node has to say if the queries fit together.
    pub(super) mixed: bool,
    /// Whether a query wants to go to another server.
    pub(super) remote: bool,
}

/// How many hits the whole list needs before paging.
fn depth(pagination: Pagination) -> usize {
    match pagination {
        Pagination::Offset { offset, limit } => offset.saturating_add(limit),
        Pagination::Page { page, hits_per_page } => page.saturating_mul(hits_per_page),
    }
}

impl Federation {
    /// `None`: a node has to say what is wrong.
    pub(super) fn read(queries: &[SubQuery], object: &RawObject) -> Option<Self> {
        let known = [
            "limit",
            "offset",
            "page",
            "hitsPerPage",
            "facetsByIndex",
            "mergeFacets",
            "distinct",
            "showPerformanceDetails",
            "personalize",
        ];
        if !object.keys().all(|key| known.contains(&key)) || object.has("personalize") {
            return None;
        }
        if ["limit", "offset"].iter().any(|key| object.raw(key) == Some("null")) {
            return None;
        }
        let (page, per_page) =
            (object.read("page").ok()?, object.read::<usize>("hitsPerPage").ok()?);
        let pagination = if page.is_some() || per_page.is_some() {
            Pagination::Page { page: page.unwrap_or(1), hits_per_page: per_page.unwrap_or(20) }
        } else {
            Pagination::Offset {
                offset: object.read("offset").ok()?.unwrap_or(0),
                limit: object.read("limit").ok()?.unwrap_or(20),
            }
        };
        let mut out = Self {
            pagination,
            distinct: object.read("distinct").ok()?,
            facets: object.read("facetsByIndex").ok()?.unwrap_or_default(),
            merge: object.read("mergeFacets").ok()?,
            performance: object.read("showPerformanceDetails").ok()?.unwrap_or(false),
            queries: Vec::with_capacity(queries.len()),
            doubtful: false,
            mixed: false,
            remote: false,
        };
        for query in queries {
            let query = out.query(query)?;
            out.queries.push(query);
        }
        let kind = |query: &Query| {
            ["sort", "matchingStrategy", "hybrid"].map(|key| query.body.raw(key).map(str::to_owned))
        };
        let placeholder = |query: &Query| {
            query.body.read::<String>("q").ok().flatten().is_none_or(|q| q.trim().is_empty())
        };
        if let [first, rest @ ..] = out.queries.as_slice() {
            out.mixed = rest.iter().any(|query| {
                query.index != first.index
                    || kind(query) != kind(first)
                    || placeholder(query) != placeholder(first)
            });
        }
        let used = |index: &String| out.queries.iter().any(|query| query.index == *index);
        out.mixed |= out.merge.is_some() && out.facets.len() > 1;
        out.mixed |= !out.facets.keys().all(used);
        Some(out)
    }

    fn query(&mut self, query: &SubQuery) -> Option<Query> {
        let options: Options = match &query.options {
            None => Options::default(),
            Some(options) => serde_json::from_str(options.get()).ok()?,
        };
        if !options.weight.is_finite() || options.weight < 0.0 {
            return None;
        }
        self.remote |= options.remote.is_some() || options.query_position.is_some();
        let mut body = query.body.clone();
        for key in PAGING.iter().chain(OTHERS) {
            self.doubtful |= body.remove(key).is_some_and(|value| value.get() != "null");
        }
        if let Some(distinct) = &self.distinct {
            self.doubtful |= body.has("distinct");
            body.set("distinct", distinct);
        }
        let depth = depth(self.pagination);
        match self.pagination {
            Pagination::Offset { .. } => body.set("limit", &depth),
            Pagination::Page { .. } => {
                body.set("page", &1);
                body.set("hitsPerPage", &depth);
            }
        }
        let vectors = body.read::<bool>("retrieveVectors").ok()?.unwrap_or(false);
        Some(Query {
            index: query.index.clone(),
            body,
            weight: options.weight,
            vectors,
            name: query.name().to_owned(),
            position: query.position,
        })
    }

    /// How many hits the whole list needs before paging.
    pub(super) fn depth(&self) -> usize {
        depth(self.pagination)
    }

    /// Whether hits are counted exhaustively.
    pub(super) fn exhaustive(&self) -> bool {
        matches!(self.pagination, Pagination::Page { .. })
    }

    /// The facets wanted of an index.
    pub(super) fn facets_of(&self, index: &str) -> Option<&[String]> {
        self.facets.get(index)?.as_deref()
    }
}
