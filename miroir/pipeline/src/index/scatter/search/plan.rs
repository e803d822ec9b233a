//! Reading a search: what the leaves are asked, and what Miroir does itself with their answers.

use bytes::Bytes;
use serde_json::{Value, json};

use super::super::read;
use crate::cluster::settings::IndexSettings;
use crate::leaf::Scoped;
use crate::node_errors;
use crate::query::{RawObject, Search, SearchKind};
use miroir_core::documents::ORDER;
use miroir_core::merge::{FacetOptions, HitOptions, Pagination, QueryShape, QueryTerms};
use miroir_store::IndexEntry;

/// Parameters Miroir lets through; a node comments on any other.
const KNOWN: &[&str] = &[
    "q",
    "vector",
    "media",
    "offset",
    "limit",
    "page",
    "hitsPerPage",
    "attributesToRetrieve",
    "retrieveVectors",
    "attributesToCrop",
    "cropLength",
    "attributesToHighlight",
    "showMatchesPosition",
    "showRankingScore",
    "showRankingScoreDetails",
    "showPerformanceDetails",
    "useNetwork",
    "filter",
    "sort",
    "distinct",
    "facets",
    "highlightPreTag",
    "highlightPostTag",
    "cropMarker",
    "matchingStrategy",
    "attributesToSearchOn",
    "hybrid",
    "rankingScoreThreshold",
    "locales",
    "personalize",
];

/// What a search needs besides its leaves' answers.
pub(in crate::index::scatter) struct SearchPlan {
    pub(in crate::index::scatter) scoped: Scoped,
    pub(super) query: Option<String>,
    pub(super) pagination: Pagination,
    pub(super) hits: HitOptions,
    pub(in crate::index::scatter) facets: Option<FacetOptions>,
    /// `rankingScoreThreshold`, where Miroir and not the leaves leaves out what scores less.
    pub(super) threshold: Option<f64>,
    /// The words of a query that drops the most frequent ones.
    pub(super) frequency: Option<QueryTerms>,
    /// How to estimate the number of distinct hits.
    pub(super) estimate: Option<Estimate>,
    /// The distinct attribute, where leaves can be asked to leave out its values.
    pub(super) apart: Option<String>,
    /// The attribute whose values say how many distinct hits there are.
    pub(super) count_distinct: Option<String>,
    /// The distinct attribute, where lists of all candidates may say what is left of them.
    pub(super) list_distinct: Option<String>,
    pub(super) show_query_vector: bool,
    pub(super) performance: bool,
    pub(super) project: bool,
    /// What one node says of facets that nodes take for reserved attributes alone.
    pub(in crate::index::scatter) refused_facets: Option<String>,
    pub(in crate::index::scatter) fingerprint: u64,
}

/// What the estimated number of distinct hits depends on.
#[derive(Debug, Clone)]
pub(super) struct Estimate {
    pub(super) attribute: String,
    /// Hits up to the end of the page.
    pub(super) wanted: usize,
    /// Whether leaves can be asked for documents with a value.
    pub(super) filterable: bool,
}

impl Estimate {
    /// How many hits leaves are asked for: one more shows whether anything is tied with the last.
    pub(super) fn asked(&self) -> usize {
        self.wanted.saturating_add(1)
    }
}

/// What only shows in hits, or decides how many there are.
pub(super) const SHOWN: &[&str] = &[
    "limit",
    "showRankingScore",
    "showRankingScoreDetails",
    "showMatchesPosition",
    "retrieveVectors",
    "attributesToHighlight",
    "attributesToCrop",
];

impl SearchPlan {
    /// Whether distinct hits are counted, which takes more of the pages than the hits that are shown.
    pub(super) fn counts(&self) -> bool {
        self.apart.is_some()
            || self.estimate.is_some()
            || self.count_distinct.is_some()
            || self.list_distinct.is_some()
    }

    /// Leaves only what decides which documents are found, and in which order.
    pub(in crate::index::scatter) fn count_only(&mut self) {
        let Some(mut body) = RawObject::parse(&self.scoped.body) else { return };
        for key in SHOWN.iter().chain(&["page", "hitsPerPage", "facets"]) {
            body.remove(key);
        }
        body.set("attributesToRetrieve", &[(); 0]);
        if let Some(threshold) = self.threshold {
            body.set("rankingScoreThreshold", &threshold);
        }
        self.scoped.body = body.to_bytes();
    }
}

/// A body that only says which documents are candidates, and their facets.
pub(super) fn bare(body: &RawObject) -> RawObject {
    let mut bare = body.clone();
    for key in SHOWN {
        bare.remove(key);
    }
    bare
}

/// The client's filter and one more condition; the leaf's shards join both.
pub(in crate::index::scatter) fn joined(client: Option<&Bytes>, condition: &str) -> Bytes {
    let client = client.and_then(|filter| serde_json::from_slice::<Value>(filter).ok());
    let joined = match client {
        None => json!(condition),
        Some(Value::Array(mut list)) => {
            list.push(condition.into());
            Value::Array(list)
        }
        Some(other) => json!([other, condition]),
    };
    Bytes::from(joined.to_string())
}

/// Attributes a client may see, out of those it names. `"*"` stands for all of them.
pub(in crate::index::scatter) fn visible(
    names: Vec<String>,
    displayed: Option<&[String]>,
) -> Vec<String> {
    let names = names.into_iter().filter(|name| !node_errors::is_within_reserved(name));
    let Some(displayed) = displayed else { return names.collect() };
    let mut out: Vec<String> = Vec::new();
    for name in names {
        if name == "*" {
            out.extend(displayed.iter().cloned());
            continue;
        }
        for shown in displayed {
            let inside = |outer: &str, inner: &str| {
                inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('.'))
            };
            if *shown == name || inside(shown, &name) {
                out.push(name.clone());
            } else if inside(&name, shown) {
                out.push(shown.clone());
            }
        }
    }
    out
}

/// As [`visible`], for `name:length` entries.
pub(super) fn visible_crops(names: Vec<String>, displayed: Option<&[String]>) -> Vec<String> {
    let mut out = Vec::new();
    for entry in names {
        let (name, length) = match entry.split_once(':') {
            Some((name, length)) => (name.to_owned(), format!(":{length}")),
            None => (entry, String::new()),
        };
        out.extend(visible(vec![name], displayed).into_iter().map(|name| name + &length));
    }
    out
}

/// Whether the client wants a top-level attribute highlighted or cropped.
fn formats(body: &RawObject, top: &str) -> bool {
    ["attributesToHighlight", "attributesToCrop"].iter().any(|key| {
        let names = body.read::<Vec<String>>(key).ok().flatten().unwrap_or_default();
        names.iter().any(|name| name == "*" || name.split(['.', ':']).next() == Some(top))
    })
}

/// Retrieves a field the client did not ask to see.
fn retrieve_too(field: String, list: &mut Vec<String>, body: &RawObject, hits: &mut HitOptions) {
    let top = field.split('.').next().unwrap_or_default();
    if !list.iter().any(|name| name.split('.').next() == Some(top)) {
        // What is highlighted or cropped is in `_formatted` even if it is not retrieved.
        if !formats(body, top) {
            hits.drop_formatted.push(top.to_owned());
        }
        hits.drop_fields.push(top.to_owned());
        if top == "_geo" {
            hits.drop_fields.push("_geoDistance".to_owned());
        }
    }
    list.push(field);
}

/// The words of a keyword query that drops its most frequent words, if Miroir can tell which.
fn frequent(body: &RawObject, settings: &IndexSettings, index: &IndexEntry) -> Option<QueryTerms> {
    let strategy = body.read::<String>("matchingStrategy").ok()??;
    let key = index.primary_key.as_ref()?;
    if strategy != "frequency" || semantic(body) || key.contains('.') || !settings.plain_words {
        return None;
    }
    QueryTerms::parse(&body.read::<String>("q").ok()??, &settings.words.stop_words)
}

/// Whether a search may be one by vector.
pub(super) fn semantic(body: &RawObject) -> bool {
    ["hybrid", "vector", "media"].iter().any(|key| body.has(key))
}

/// Whether a search has no words and no vector.
fn placeholder(body: &RawObject) -> bool {
    let words = body.read::<String>("q").ok().flatten().unwrap_or_default();
    words.trim().is_empty() && !body.has("vector") && !body.has("media")
}

/// The primary key, where hits of several lists are told apart by it.
fn identity(search: &Search, index: &IndexEntry) -> Option<String> {
    let several = search.kind == SearchKind::Part
        || search.body.as_ref().is_some_and(|body| body.has("hybrid"));
    index.primary_key.clone().filter(|_| several)
}

/// `None`: a node has to say what is wrong.
pub(in crate::index::scatter) fn plan(
    search: &Search,
    settings: &IndexSettings,
    index: &IndexEntry,
) -> Option<SearchPlan> {
    let mut body = search.body.clone()?;
    if !body.keys().all(|key| KNOWN.contains(&key)) || body.has("personalize") {
        return None;
    }
    for key in ["offset", "limit"] {
        if body.raw(key) == Some("null") {
            return None;
        }
    }
    let lists = ["sort", "distinct", "facets"];
    if lists.iter().any(|key| body.raw(key).is_some_and(node_errors::lists_reserved))
        || body.raw("filter").is_some_and(node_errors::filters_by_reserved)
    {
        return None;
    }
    let flag =
        |body: &RawObject, key: &str| body.read::<bool>(key).ok().map(|f| f.unwrap_or(false));
    if flag(&body, "useNetwork")? {
        return None;
    }
    let (page, per_page) =
        (body.read::<usize>("page").ok()?, body.read::<usize>("hitsPerPage").ok()?);
    let offset = body.read::<usize>("offset").ok()?.unwrap_or(0);
    let limit = body.read::<usize>("limit").ok()?.unwrap_or(20);
    let pagination = if page.is_some() || per_page.is_some() {
        Pagination::Page { page: page.unwrap_or(1), hits_per_page: per_page.unwrap_or(20) }
    } else {
        Pagination::Offset { offset, limit }
    };
    let depth = pagination.depth(settings.max_total_hits);
    let displayed = settings.displayed.as_deref();

    let mut hits = HitOptions {
        show_score: flag(&body, "showRankingScore")?,
        show_details: flag(&body, "showRankingScoreDetails")?,
        score_threshold: body.read("rankingScoreThreshold").ok()?,
        distinct: body.read("distinct").ok()?.or_else(|| settings.distinct.clone()),
        distinct_shown: body.read::<String>("distinct").ok()?.is_some(),
        ranking: settings.ranking.clone(),
        shape: QueryShape::of(
            &body.read::<String>("q").ok()?.unwrap_or_default(),
            &settings.words.stop_words,
        ),
        ..HitOptions::default()
    };
    let frequency = frequent(&body, settings, index);
    if frequency.is_some() {
        hits.unique.clone_from(&index.primary_key);
    }
    let mut retrieve = body.read::<Vec<String>>("attributesToRetrieve").ok()?;
    if displayed.is_some() && retrieve.is_none() {
        retrieve = Some(vec!["*".to_owned()]);
    }
    if let Some(list) = retrieve {
        let everything = list.iter().any(|name| name == "*") && displayed.is_none();
        let mut list = visible(list, displayed);
        if let Some(distinct) = hits.distinct.clone().filter(|_| !everything) {
            let top = distinct.split('.').next().unwrap_or_default().to_owned();
            if !list.iter().any(|name| *name == distinct || *name == top) {
                retrieve_too(distinct, &mut list, &body, &mut hits);
            }
        }
        let unique = hits.unique.clone().or_else(|| identity(search, index));
        let unique = unique.filter(|name| !everything && !list.contains(name));
        if let Some(unique) = unique {
            retrieve_too(unique, &mut list, &body, &mut hits);
        }
        // What says which of equal hits comes first.
        list.push(ORDER.to_owned());
        body.set("attributesToRetrieve", &list);
    }
    if let Some(list) = body.read::<Vec<String>>("attributesToHighlight").ok()? {
        body.set("attributesToHighlight", &visible(list, displayed));
    }
    if let Some(list) = body.read::<Vec<String>>("attributesToCrop").ok()? {
        body.set("attributesToCrop", &visible_crops(list, displayed));
    }
    let asked = body.read::<Vec<String>>("facets").ok()?.filter(|facets| !facets.is_empty());
    let performance = flag(&body, "showPerformanceDetails")?;
    let positions = flag(&body, "showMatchesPosition")?;
    // Numbered pages count distinct hits exhaustively; the same value may be on several leaves. An
    // attribute has to be filterable to be a facet; the query's own is.
    let pages = matches!(pagination, Pagination::Page { .. });
    let spread = hits.distinct.clone().filter(|_| index.shards > 1);
    let counted =
        spread.clone().filter(|attribute| hits.distinct_shown || settings.filters(attribute));
    // What is not a score is for a node to refuse.
    let threshold = hits.score_threshold.filter(|threshold| {
        !semantic(&body) && hits.distinct.is_none() && (0.0..=1.0).contains(threshold)
    });
    if threshold.is_some() {
        body.remove("rankingScoreThreshold");
    }
    let by_words = !semantic(&body) && frequency.is_none();
    let apart = counted.clone().filter(|_| by_words);
    // A node fills the page from the first hit, whether any is shown or not.
    let wanted = offset.saturating_add(limit).min(settings.max_total_hits);
    let listed = by_words && hits.score_threshold.is_none();
    let list_distinct = spread.clone().filter(|_| listed);
    let estimate = spread.filter(|_| listed && !pages && wanted > 0);
    let estimate = estimate.map(|attribute| {
        let filterable = counted.as_ref() == Some(&attribute);
        Estimate { attribute, wanted, filterable }
    });
    let count_distinct = counted.filter(|_| pages && (hits.distinct_shown || !semantic(&body)));
    let mut drop_facets = Vec::new();
    if let Some(attribute) = &count_distinct {
        let mut facets = asked.clone().unwrap_or_default();
        if !facets.iter().any(|name| name == "*" || name == attribute) {
            facets.push(attribute.clone());
            drop_facets.push(attribute.clone());
            body.set("facets", &facets);
        }
    }
    // Nodes always have one filterable attribute, the shard: they do not refuse what it fits.
    let refused_facets = asked.as_ref().and_then(|facets| settings.refuses_facets(facets));
    let facets = asked.map(|_| FacetOptions {
        max_values_per_facet: settings.max_values,
        sort_by: settings.sort_facets.clone(),
        node_limit: settings.node_max_values,
        everything: !body.has("filter") && placeholder(&body),
        drop_facets,
    });
    for key in ["offset", "limit", "page", "hitsPerPage", "useNetwork", "showPerformanceDetails"] {
        body.remove(key);
    }
    body.set("showRankingScore", &true);
    body.set("showRankingScoreDetails", &true);
    let filter = body.remove("filter").filter(|f| f.get() != "null");
    let filter = filter.map(|f| Bytes::from(f.get().to_owned()));
    let unpaged = body.to_bytes();
    let fingerprint =
        read::fingerprint(index.name.as_str(), &[&unpaged, filter.as_deref().unwrap_or_default()]);
    if pages {
        // Pages make leaves count exhaustively.
        body.set("page", &1);
        body.set("hitsPerPage", &depth);
    } else {
        body.set("limit", &estimate.as_ref().map_or(depth, Estimate::asked));
    }
    let query = body.read::<String>("q").ok()?;
    let project = displayed.is_some() && (positions || hits.show_details);
    Some(SearchPlan {
        scoped: Scoped {
            path: "/search",
            body: body.to_bytes(),
            filter,
            operation: "search",
            sort_values: false,
        },
        query,
        pagination,
        hits,
        facets,
        threshold,
        frequency,
        estimate,
        apart,
        count_distinct,
        list_distinct,
        show_query_vector: flag(&body, "retrieveVectors")?,
        performance,
        project,
        refused_facets,
        fingerprint,
    })
}
