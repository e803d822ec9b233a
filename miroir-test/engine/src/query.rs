//! Parameters of a search, from a JSON body or a query string.

use milli_core::TermsMatchingStrategy;
use milli_core::tokenizer::Language;
use serde_json::{Map, Value, json};

use super::errors::ApiError;
use super::params::{Fields, QueryString, describe, split_list, wrong_type};
use super::settings::locale;

/// Fields of a body.
const PARAMETERS: [&str; 27] = [
    "q",
    "offset",
    "limit",
    "page",
    "hitsPerPage",
    "attributesToRetrieve",
    "attributesToCrop",
    "cropLength",
    "cropMarker",
    "attributesToHighlight",
    "highlightPreTag",
    "highlightPostTag",
    "showMatchesPosition",
    "filter",
    "sort",
    "distinct",
    "facets",
    "matchingStrategy",
    "attributesToSearchOn",
    "rankingScoreThreshold",
    "locales",
    "hybrid",
    "vector",
    "retrieveVectors",
    "showRankingScore",
    "showRankingScoreDetails",
    "showPerformanceDetails",
];

/// Parameters of a GET request.
const GET_PARAMETERS: [&str; 28] = [
    "q",
    "offset",
    "limit",
    "page",
    "hitsPerPage",
    "attributesToRetrieve",
    "attributesToCrop",
    "cropLength",
    "cropMarker",
    "attributesToHighlight",
    "highlightPreTag",
    "highlightPostTag",
    "showMatchesPosition",
    "filter",
    "sort",
    "distinct",
    "facets",
    "matchingStrategy",
    "attributesToSearchOn",
    "rankingScoreThreshold",
    "locales",
    "hybridEmbedder",
    "hybridSemanticRatio",
    "vector",
    "retrieveVectors",
    "showRankingScore",
    "showRankingScoreDetails",
    "showPerformanceDetails",
];

/// One search.
#[derive(Debug, Clone)]
pub(crate) struct SearchQuery {
    /// Words.
    pub(crate) q: Option<String>,
    /// Query vector.
    pub(crate) vector: Option<Vec<f32>>,
    /// Embedder and share of the semantic half.
    pub(crate) hybrid: Option<(String, f32)>,
    /// Hits to skip.
    pub(crate) offset: usize,
    /// Most hits.
    pub(crate) limit: usize,
    /// Page, from 1.
    pub(crate) page: Option<usize>,
    /// Size of a page.
    pub(crate) hits_per_page: Option<usize>,
    /// Condition.
    pub(crate) filter: Option<Value>,
    /// Order.
    pub(crate) sort: Option<Vec<String>>,
    /// Field whose values appear once.
    pub(crate) distinct: Option<String>,
    /// Fields to count values of.
    pub(crate) facets: Option<Vec<String>>,
    /// Which words may be missing.
    pub(crate) strategy: TermsMatchingStrategy,
    /// Fields to search.
    pub(crate) attributes_to_search_on: Option<Vec<String>>,
    /// Least score.
    pub(crate) ranking_score_threshold: Option<f64>,
    /// Fields of the hits.
    pub(crate) attributes_to_retrieve: Option<Vec<String>>,
    /// Whether vectors are part of the hits.
    pub(crate) retrieve_vectors: bool,
    /// Fields to crop, with an optional length after a colon.
    pub(crate) attributes_to_crop: Option<Vec<String>>,
    /// Words kept by cropping.
    pub(crate) crop_length: usize,
    /// Text where something was cropped.
    pub(crate) crop_marker: String,
    /// Fields to highlight.
    pub(crate) attributes_to_highlight: Option<Vec<String>>,
    /// Text before a match.
    pub(crate) highlight_pre_tag: String,
    /// Text after a match.
    pub(crate) highlight_post_tag: String,
    /// Whether the places of matches are shown.
    pub(crate) show_matches_position: bool,
    /// Whether the score is shown.
    pub(crate) show_ranking_score: bool,
    /// Whether the parts of the score are shown.
    pub(crate) show_ranking_score_details: bool,
    /// Languages of the query.
    pub(crate) locales: Option<Vec<Language>>,
}

impl SearchQuery {
    /// Reads a JSON body.
    pub(crate) fn from_json(map: Map<String, Value>) -> Result<Self, ApiError> {
        if let Some(Value::Null) = map.get("limit") {
            return Err(wrong_type(
                "invalid_search_limit",
                "limit",
                "a positive integer",
                &Value::Null,
            ));
        }
        let mut fields = Fields::new(map, &PARAMETERS)?;
        Self::read(&mut fields)
    }

    /// Reads the fields of a body.
    pub(crate) fn read(fields: &mut Fields) -> Result<Self, ApiError> {
        let hybrid = read_hybrid(fields)?;
        let vector = read_vector(fields)?;
        if vector.is_some() && hybrid.is_none() {
            return Err(ApiError::new(
                "missing_search_hybrid",
                "Invalid request: missing `hybrid` parameter when `vector` or `media` are present.",
            ));
        }
        let strategy = match fields
            .string("matchingStrategy", "invalid_search_matching_strategy")?
            .as_deref()
        {
            None | Some("last") => TermsMatchingStrategy::Last,
            Some("all") => TermsMatchingStrategy::All,
            Some("frequency") => TermsMatchingStrategy::Frequency,
            Some(other) => {
                return Err(ApiError::new(
                    "invalid_search_matching_strategy",
                    format!(
                        "Unknown value `{other}` at `.matchingStrategy`: expected one of `last`, `all`, `frequency`"
                    ),
                ));
            }
        };
        let threshold_code = "invalid_search_ranking_score_threshold";
        let ranking_score_threshold = fields.f64("rankingScoreThreshold", threshold_code)?;
        if ranking_score_threshold.is_some_and(|value| !(0.0..=1.0).contains(&value)) {
            return Err(ApiError::new(
                threshold_code,
                "Invalid value at `.rankingScoreThreshold`: the value of `rankingScoreThreshold` is invalid, expected a float between `0.0` and `1.0`.",
            ));
        }
        let locales = match fields.strings("locales", "invalid_search_locales")? {
            None => None,
            Some(list) => Some(
                list.iter()
                    .map(|code| {
                        locale(code).ok_or_else(|| {
                            ApiError::new(
                                "invalid_search_locales",
                                format!("Unknown value `{code}` at `.locales`"),
                            )
                        })
                    })
                    .collect::<Result<Vec<_>, _>>()?,
            ),
        };
        let filter = fields.value("filter");
        if let Some(value) = &filter
            && !value.is_string()
            && !value.is_array()
        {
            return Err(ApiError::new(
                "invalid_search_filter",
                format!(
                    "Invalid syntax for the filter parameter: `expected String, Array, found: {value}`."
                ),
            ));
        }
        // Known, without effect in this engine.
        fields.bool("showPerformanceDetails", "invalid_search_show_performance_details")?;
        Ok(Self {
            q: fields.string("q", "invalid_search_q")?,
            vector,
            hybrid,
            offset: fields.usize("offset", "invalid_search_offset")?.unwrap_or(0),
            limit: fields.usize("limit", "invalid_search_limit")?.unwrap_or(20),
            page: fields.usize("page", "invalid_search_page")?,
            hits_per_page: fields.usize("hitsPerPage", "invalid_search_hits_per_page")?,
            filter,
            sort: fields.strings("sort", "invalid_search_sort")?,
            distinct: fields.string("distinct", "invalid_search_distinct")?,
            facets: fields.strings("facets", "invalid_search_facets")?,
            strategy,
            attributes_to_search_on: fields
                .strings("attributesToSearchOn", "invalid_search_attributes_to_search_on")?,
            ranking_score_threshold,
            attributes_to_retrieve: fields
                .strings("attributesToRetrieve", "invalid_search_attributes_to_retrieve")?,
            retrieve_vectors: fields.bool("retrieveVectors", "invalid_search_retrieve_vectors")?,
            attributes_to_crop: fields
                .strings("attributesToCrop", "invalid_search_attributes_to_crop")?,
            crop_length: fields.usize("cropLength", "invalid_search_crop_length")?.unwrap_or(10),
            crop_marker: fields
                .string("cropMarker", "invalid_search_crop_marker")?
                .unwrap_or_else(|| "…".into()),
            attributes_to_highlight: fields
                .strings("attributesToHighlight", "invalid_search_attributes_to_highlight")?,
            highlight_pre_tag: fields
                .string("highlightPreTag", "invalid_search_highlight_pre_tag")?
                .unwrap_or_else(|| "<em>".into()),
            highlight_post_tag: fields
                .string("highlightPostTag", "invalid_search_highlight_post_tag")?
                .unwrap_or_else(|| "</em>".into()),
            show_matches_position: fields
                .bool("showMatchesPosition", "invalid_search_show_matches_position")?,
            show_ranking_score: fields
                .bool("showRankingScore", "invalid_search_show_ranking_score")?,
            show_ranking_score_details: fields
                .bool("showRankingScoreDetails", "invalid_search_show_ranking_score_details")?,
            locales,
        })
    }

    /// Reads the parameters of a GET request.
    pub(crate) fn from_query(query: &QueryString) -> Result<Self, ApiError> {
        query.only(&GET_PARAMETERS)?;
        for (key, code) in [
            ("offset", "invalid_search_offset"),
            ("limit", "invalid_search_limit"),
            ("page", "invalid_search_page"),
            ("hitsPerPage", "invalid_search_hits_per_page"),
            ("cropLength", "invalid_search_crop_length"),
        ] {
            query.number::<usize>(key, code)?;
        }
        let mut map = Map::new();
        let mut hybrid = Map::new();
        for (key, text) in query.pairs() {
            let value = match key.as_str() {
                "offset"
                | "limit"
                | "page"
                | "hitsPerPage"
                | "cropLength"
                | "rankingScoreThreshold" => serde_json::from_str::<serde_json::Number>(text)
                    .map_or_else(|_| json!(text), Value::Number),
                "showMatchesPosition"
                | "showRankingScore"
                | "showRankingScoreDetails"
                | "retrieveVectors" => match text.as_str() {
                    "true" => Value::Bool(true),
                    "false" => Value::Bool(false),
                    _ => json!(text),
                },
                "attributesToRetrieve"
                | "attributesToCrop"
                | "attributesToHighlight"
                | "attributesToSearchOn"
                | "facets"
                | "sort"
                | "locales" => json!(split_list(text)),
                "filter" => match serde_json::from_str::<Value>(text) {
                    Ok(value) if value.is_array() => value,
                    _ => json!(text),
                },
                "vector" => split_list(text)
                    .iter()
                    .map(|number| {
                        number
                            .trim()
                            .parse::<f64>()
                            .map_or_else(|_| json!(number), |number| json!(number))
                    })
                    .collect(),
                "hybridEmbedder" => {
                    hybrid.insert("embedder".into(), json!(text));
                    continue;
                }
                "hybridSemanticRatio" => {
                    hybrid.insert(
                        "semanticRatio".into(),
                        text.parse::<f64>().map_or_else(|_| json!(text), |n| json!(n)),
                    );
                    continue;
                }
                _ => json!(text),
            };
            map.insert(key.clone(), value);
        }
        if !hybrid.is_empty() {
            map.insert("hybrid".into(), Value::Object(hybrid));
        }
        Self::from_json(map)
    }

    /// Whether pages are numbered.
    pub(crate) fn finite(&self) -> bool {
        self.page.is_some() || self.hits_per_page.is_some()
    }

    /// Offset and limit of the page, before the bound on hits.
    pub(crate) fn window(&self) -> (usize, usize) {
        if !self.finite() {
            return (self.offset, self.limit);
        }
        let size = self.hits_per_page.unwrap_or(20);
        match self.page.unwrap_or(1).checked_sub(1) {
            Some(before) => (size.saturating_mul(before), size),
            None => (0, 0),
        }
    }
}

fn read_hybrid(fields: &mut Fields) -> Result<Option<(String, f32)>, ApiError> {
    let code = "invalid_search_hybrid_query";
    let Some(value) = fields.value("hybrid") else { return Ok(None) };
    let Value::Object(map) = value else {
        return Err(wrong_type(code, "hybrid", "an object", &value));
    };
    let mut inner = Fields::new(map, &["embedder", "semanticRatio"])?;
    let embedder = inner
        .string("embedder", "invalid_search_embedder")?
        .ok_or_else(|| ApiError::new(code, "Missing field `embedder` inside `.hybrid`"))?;
    let ratio = inner.f64("semanticRatio", "invalid_search_semantic_ratio")?.unwrap_or(0.5);
    if !(0.0..=1.0).contains(&ratio) {
        return Err(ApiError::new(
            "invalid_search_semantic_ratio",
            "Invalid value at `.hybrid.semanticRatio`: the value of `semanticRatio` is invalid, expected a float between `0.0` and `1.0`.",
        ));
    }
    Ok(Some((embedder, ratio as f32)))
}

fn read_vector(fields: &mut Fields) -> Result<Option<Vec<f32>>, ApiError> {
    let code = "invalid_search_vector";
    let Some(value) = fields.value("vector") else { return Ok(None) };
    let Value::Array(items) = &value else {
        return Err(wrong_type(code, "vector", "an array", &value));
    };
    items
        .iter()
        .enumerate()
        .map(|(at, item)| {
            item.as_f64().map(|number| number as f32).ok_or_else(|| {
                let found = describe(item);
                ApiError::new(
                    code,
                    format!("Invalid value type at `.vector[{at}]`: expected a number, but found {found}"),
                )
            })
        })
        .collect::<Result<_, _>>()
        .map(Some)
}
