//! Searches and facet searches: execution and responses.

use std::str::FromStr;
use std::time::{Duration, Instant};

use milli_core::heed::RoTxn;
use milli_core::score_details::{ScoreDetails, ScoringStrategy};
use milli_core::tokenizer::{Language, TokenizerBuilder};
use milli_core::vector::Embedder;
use milli_core::{
    AscDesc, Error, Filter, Index, MatcherBuilder, Member, Search, SearchForFacetValues,
    SearchResult, SortError, TimeBudget, UserError,
};
use serde_json::{Map, Value, json};

use super::errors::ApiError;
use super::format::HitMaker;
use super::indexing::embedders;
use super::params::Fields;
use super::query::SearchQuery;

/// What is searched: words, vectors or both.
enum Kind {
    Keyword,
    Semantic(EmbedderChoice),
    Hybrid(EmbedderChoice, f32),
}

struct EmbedderChoice {
    name: String,
    embedder: std::sync::Arc<Embedder>,
    quantized: bool,
}

fn kind(index: &Index, rtxn: &RoTxn<'_>, query: &SearchQuery) -> Result<Kind, ApiError> {
    let Some((name, ratio)) = &query.hybrid else { return Ok(Kind::Keyword) };
    let has_words = query.q.as_ref().is_some_and(|q| !q.trim().is_empty());
    let choice = || -> Result<EmbedderChoice, ApiError> {
        let (embedder, _, quantized) = embedders(index, rtxn)?.get(name).ok_or_else(|| {
            ApiError::from(Error::from(UserError::InvalidSearchEmbedder(name.clone())))
        })?;
        if let Some(vector) = &query.vector
            && vector.len() != embedder.dimensions()
        {
            let error = UserError::InvalidVectorDimensions {
                expected: embedder.dimensions(),
                found: vector.len(),
            };
            return Err(Error::from(error).into());
        }
        Ok(EmbedderChoice { name: name.clone(), embedder, quantized })
    };
    match (has_words, query.vector.is_some()) {
        _ if *ratio == 0.0 => Ok(Kind::Keyword),
        (false, false) => Ok(Kind::Keyword),
        _ if *ratio == 1.0 => Ok(Kind::Semantic(choice()?)),
        (true, _) => Ok(Kind::Hybrid(choice()?, *ratio)),
        (false, true) => Ok(Kind::Semantic(choice()?)),
    }
}

fn parse_filter(filter: Option<&Value>) -> Result<Option<Filter<'_>>, ApiError> {
    let Some(filter) = filter else { return Ok(None) };
    Filter::from_json(filter).map_err(|error| match &error {
        Error::UserError(UserError::InvalidFilterExpression(expected, found)) => ApiError::new(
            "invalid_search_filter",
            format!(
                "Invalid syntax for the filter parameter: `expected {}, found: {found}`.",
                expected.join(", ")
            ),
        ),
        _ => ApiError::from(error),
    })
}

/// Applies the parameters that choose and order documents.
fn configure<'t>(
    search: &mut Search<'t>,
    index: &Index,
    rtxn: &RoTxn<'_>,
    query: &'t SearchQuery,
    kind: &Kind,
) -> Result<(), ApiError> {
    // Without an explicit cutoff a search takes the time it needs: results stay deterministic.
    let budget = index
        .search_cutoff(rtxn)?
        .map_or_else(TimeBudget::max, |ms| TimeBudget::new(Duration::from_millis(ms)));
    search.time_budget(budget);
    search.scoring_strategy(ScoringStrategy::Detailed);
    search.terms_matching_strategy(query.strategy);
    search.exhaustive_number_hits(query.finite());
    if let Some(threshold) = query.ranking_score_threshold {
        search.ranking_score_threshold(threshold);
    }
    if let Some(distinct) = &query.distinct {
        search.distinct(distinct.clone());
    }
    if let Some(attributes) = &query.attributes_to_search_on {
        search.searchable_attributes(attributes);
    }
    if let Some(locales) = &query.locales {
        search.locales(locales.clone());
    }
    let words = query.q.as_ref().filter(|_| !matches!(kind, Kind::Semantic(_)));
    if let Some(q) = words {
        search.query(q);
    }
    match kind {
        Kind::Keyword => {}
        Kind::Hybrid(choice, _) => {
            search.semantic(
                choice.name.clone(),
                choice.embedder.clone(),
                choice.quantized,
                query.vector.clone(),
            );
        }
        Kind::Semantic(choice) => {
            let vector = match &query.vector {
                Some(vector) => vector.clone(),
                None => choice
                    .embedder
                    .embed_search(query.q.as_deref().unwrap_or_default(), None)
                    .map_err(|error| Error::from(milli_core::vector::Error::from(error)))?,
            };
            search.semantic(
                choice.name.clone(),
                choice.embedder.clone(),
                choice.quantized,
                Some(vector),
            );
        }
    }
    if let Some(filter) = parse_filter(query.filter.as_ref())? {
        search.filter(filter);
    }
    if let Some(sort) = &query.sort {
        let rules: Result<Vec<AscDesc>, _> =
            sort.iter().map(|text| AscDesc::from_str(text)).collect();
        let rules = rules.map_err(|error| {
            ApiError::from_engine(&Error::from(UserError::from(SortError::from(error))))
        })?;
        search.sort_criteria(rules);
    }
    Ok(())
}

/// The prefix that Meilisearch gives to some of the engine's errors.
fn search_error(error: &Error, uid: &str) -> ApiError {
    let plain = ApiError::from_engine(error);
    match plain.code.as_str() {
        "invalid_search_filter" | "invalid_search_sort" | "invalid_search_distinct" => {
            ApiError::from_index(error, uid)
        }
        _ => plain,
    }
}

/// Runs a search and builds its response.
pub(crate) fn search(
    index: &Index,
    uid: &str,
    query: &SearchQuery,
) -> Result<Map<String, Value>, ApiError> {
    let started = Instant::now();
    let rtxn = index.read_txn()?;
    let kind = kind(index, &rtxn, query)?;
    let mut search = index.search(&rtxn);
    configure(&mut search, index, &rtxn, query, &kind)?;
    let max_total = index.pagination_max_total_hits(&rtxn)?.map_or(1000, |max| max as usize);
    let (offset, limit) = query.window();
    // The whole ranking up to the end of the page is computed and the page cut out of it.
    search.offset(0);
    search.limit(offset.saturating_add(limit).min(max_total));
    let result = match &kind {
        Kind::Hybrid(_, ratio) => search.execute_hybrid(*ratio).map(|(result, _)| result),
        _ => search.execute(),
    };
    let result = result.map_err(|error| search_error(&error, uid))?;
    let SearchResult { matching_words, candidates, documents_ids, document_scores, .. } = result;

    let fields = index.fields_ids_map(&rtxn)?;
    let dictionary = index.dictionary(&rtxn)?;
    let dictionary: Option<Vec<&str>> =
        dictionary.as_ref().map(|set| set.iter().map(String::as_str).collect());
    let separators = index.allowed_separators(&rtxn)?;
    let separators: Option<Vec<&str>> =
        separators.as_ref().map(|set| set.iter().map(String::as_str).collect());
    let mut builder = TokenizerBuilder::default();
    builder.create_char_map(true);
    if let Some(separators) = &separators {
        builder.separators(separators);
    }
    if let Some(dictionary) = &dictionary {
        builder.words_dict(dictionary);
    }
    let matcher = MatcherBuilder::new(matching_words, builder.into_tokenizer());
    let maker = HitMaker::new(index, &rtxn, &fields, query, matcher, geo_target(query))?;
    let mut hits = Vec::new();
    let mut semantic_hits = 0;
    for (id, scores) in documents_ids.iter().zip(&document_scores).skip(offset).take(limit) {
        if scores.iter().any(|score| matches!(score, ScoreDetails::Vector(_))) {
            semantic_hits += 1;
        }
        hits.push(maker.hit(*id, scores)?);
    }

    let mut response = Map::new();
    response.insert("hits".into(), Value::Array(hits));
    response.insert("query".into(), json!(query.q.as_deref().unwrap_or_default()));
    if query.retrieve_vectors
        && !matches!(kind, Kind::Keyword)
        && let Some(vector) = &query.vector
    {
        response.insert("queryVector".into(), json!(vector));
    }
    let total = candidates.len();
    // Kept in place until the end so that the order of the keys is Meilisearch's.
    response.insert("processingTimeMs".into(), Value::Null);
    if query.finite() {
        let size = query.hits_per_page.unwrap_or(20) as u64;
        response.insert("hitsPerPage".into(), size.into());
        response.insert("page".into(), query.page.unwrap_or(1).into());
        response
            .insert("totalPages".into(), if size == 0 { 0 } else { total.div_ceil(size) }.into());
        response.insert("totalHits".into(), total.into());
    } else {
        response.insert("limit".into(), query.limit.into());
        response.insert("offset".into(), query.offset.into());
        response.insert("estimatedTotalHits".into(), total.into());
    }
    if let Some(names) = query.facets.as_ref().filter(|names| !names.is_empty()) {
        let (distribution, stats) = facets(index, &rtxn, names, candidates)?;
        response.insert("facetDistribution".into(), distribution);
        response.insert("facetStats".into(), stats);
    }
    response.insert("requestUid".into(), uuid::Uuid::now_v7().to_string().into());
    if !matches!(kind, Kind::Keyword) {
        response.insert("semanticHitCount".into(), semantic_hits.into());
    }
    response.insert("processingTimeMs".into(), json!(started.elapsed().as_millis() as u64));
    Ok(response)
}

fn geo_target(query: &SearchQuery) -> Option<[f64; 2]> {
    query.sort.iter().flatten().find_map(|text| match AscDesc::from_str(text).ok()?.member() {
        Member::Geo(target) => Some(*target),
        Member::Field(_) => None,
    })
}

fn facets(
    index: &Index,
    rtxn: &RoTxn<'_>,
    names: &[String],
    candidates: roaring::RoaringBitmap,
) -> Result<(Value, Value), ApiError> {
    let orders = index.sort_facet_values_by(rtxn)?;
    let mut distribution = index.facets_distribution(rtxn);
    distribution
        .max_values_per_facet(index.max_values_per_facet(rtxn)?.map_or(100, |max| max as usize));
    if !names.iter().any(|name| name == "*") {
        distribution.facets(names.iter().map(|name| (name, orders.get(name))));
    } else {
        let fields = index.fields_ids_map(rtxn)?;
        let rules = index.filterable_attributes_rules(rtxn)?;
        let filterable = |name: &str| {
            rules
                .iter()
                .find(|rule| rule.match_str(name) == milli_core::PatternMatch::Match)
                .is_some_and(|rule| rule.features().is_filterable())
        };
        let all: Vec<(String, _)> = fields
            .names()
            .filter(|name| filterable(name))
            .map(|name| (name.to_owned(), orders.get(name)))
            .collect();
        distribution.facets(all);
    }
    distribution.candidates(candidates).default_order_by(orders.get("*"));
    let values = distribution.execute()?;
    let stats: Map<String, Value> = distribution
        .compute_stats()?
        .into_iter()
        .map(|(name, (min, max))| (name, json!({ "min": min, "max": max })))
        .collect();
    Ok((json!(values), Value::Object(stats)))
}

/// Answers a facet search.
pub(crate) fn facet_search(
    index: &Index,
    uid: &str,
    body: Map<String, Value>,
) -> Result<Value, ApiError> {
    let started = Instant::now();
    let mut fields = Fields::new(body, &[])?;
    let facet_name =
        fields.string("facetName", "invalid_facet_search_facet_name")?.ok_or_else(|| {
            ApiError::new("missing_facet_search_facet_name", "Missing field `facetName`")
        })?;
    let facet_query = fields.string("facetQuery", "invalid_facet_search_query")?;
    let exhaustive =
        fields.bool("exhaustiveFacetCount", "invalid_facet_search_exhaustive_facet_count")?;
    let mut query = SearchQuery::read(&mut fields)?;
    if exhaustive {
        query.page = Some(1);
    }
    let rtxn = index.read_txn()?;
    if !index.facet_search(&rtxn)? {
        return Err(ApiError::new(
            "facet_search_disabled",
            "The facet search is disabled for this index",
        ));
    }
    let kind = kind(index, &rtxn, &query)?;
    let mut search = index.search(&rtxn);
    configure(&mut search, index, &rtxn, &query, &kind)?;
    search.scoring_strategy(if query.ranking_score_threshold.is_some() {
        ScoringStrategy::Detailed
    } else {
        ScoringStrategy::Skip
    });
    let mut facets =
        SearchForFacetValues::new(facet_name.clone(), search, matches!(kind, Kind::Hybrid(..)));
    if let Some(text) = &facet_query {
        facets.query(text);
    }
    if let Some(max) = index.max_values_per_facet(&rtxn)? {
        facets.max_values(max as usize);
    }
    let rules = index.localized_attributes_rules(&rtxn)?.unwrap_or_default();
    if let Some(rule) =
        rules.iter().find(|rule| rule.match_str(&facet_name) == milli_core::PatternMatch::Match)
    {
        let kept = |locale: &&Language| {
            query.locales.as_ref().is_none_or(|locales| locales.contains(locale))
        };
        facets.locales(rule.locales().iter().filter(kept).copied().collect());
    }
    let hits = facets.execute().map_err(|error| search_error(&error, uid))?;
    let hits: Vec<Value> =
        hits.iter().map(|hit| json!({ "value": hit.value, "count": hit.count })).collect();
    Ok(json!({
        "facetHits": hits,
        "facetQuery": facet_query,
        "processingTimeMs": started.elapsed().as_millis() as u64,
    }))
}
