//! Searches by vector: which kind a search is, over-fetching, and both halves of a hybrid one.
//!
//! A hybrid search is not left to the leaves: each would decide for itself whether its keyword hits
//! are good enough. Every leaf is asked two searches in one call, and the engine's decision and
//! merge are made here, over all leaves.

use std::sync::Arc;

use bytes::Bytes;

use super::over_fetch::{OverFetch, raised};
use crate::cluster::VectorSearchOptions;
use crate::error::{Error, NodeFailure};
use crate::leaf::{Page, Question, Scoped, ScopedMany};
use crate::query::RawObject;
use miroir_core::merge::{self, HitOptions, HybridOptions, MergedHits, merge_hits, merge_hybrid};

/// A share of similarity that leaves nothing to relevancy, but makes the engine look at the query's
/// words: for what is highlighted, and for what both halves find together.
const NEARLY_ALL: f32 = 0.999_999;

/// Kinds of a search.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Mode {
    /// By words, or everything.
    Keyword,
    /// By similarity.
    Semantic,
    /// By both; the share of similarity.
    Hybrid(f32),
}

/// Which kind a search is, decided as one node does. What is wrong with it a node says.
pub(super) fn mode(body: &RawObject, tuning: &VectorSearchOptions) -> Result<Mode, Error> {
    let vector = body.has("vector") || body.has("media");
    let hybrid = body.read::<RawObject>("hybrid").ok().flatten();
    let words = body.read::<String>("q").ok().flatten();
    let words = words.is_some_and(|q| !q.trim().is_empty());
    let Some(hybrid) = hybrid else { return Ok(Mode::Keyword) };
    let ratio =
        hybrid.read::<f32>("semanticRatio").ok().flatten().unwrap_or(tuning.hybrid_alpha_default);
    let keyword = ratio == 0.0 || (!words && !vector) || !(0.0..=1.0).contains(&ratio);
    if keyword {
        return Ok(Mode::Keyword);
    }
    if !tuning.enabled {
        return Err(Error::api(
            "miroir_not_supported",
            "Searches by vector are switched off (`vector_search.enabled`). Remove `hybrid` and \
             `vector` from the search.",
        ));
    }
    Ok(if ratio < 1.0 && words { Mode::Hybrid(ratio) } else { Mode::Semantic })
}

/// How many times the needed hits each leaf is asked for.
///
/// A leaf searches its own graph of vectors, and finds more of the nearest the more it is asked for.
/// Where a threshold or a distinct attribute makes totals depend on the number of hits, it is asked
/// for no more than one node would be.
fn factor(over_fetch: Option<OverFetch>, tuning: &VectorSearchOptions, hits: &HitOptions) -> usize {
    if hits.score_threshold.is_some() || hits.distinct.is_some() {
        return 1;
    }
    over_fetch.map_or(tuning.over_fetch_factor, |OverFetch(factor)| factor).max(1) as usize
}

/// Raises the number of hits a leaf is asked for.
fn raise(body: &mut RawObject, factor: usize) {
    for key in ["limit", "hitsPerPage"] {
        if let Ok(Some(depth)) = body.read::<usize>(key) {
            body.set(key, &raised(depth, factor));
        }
    }
}

/// The request of a leaf, for a search of this kind.
pub(super) fn ask(
    scoped: &mut Scoped,
    mode: &Mode,
    hits: &HitOptions,
    over_fetch: Option<OverFetch>,
    tuning: &VectorSearchOptions,
) -> Question {
    let body = RawObject::parse(&scoped.body).filter(|_| *mode != Mode::Keyword);
    let Some(mut semantic) = body else { return Question::Scoped(Arc::new(scoped.clone())) };
    let keyword = {
        let mut body = semantic.clone();
        for key in ["hybrid", "vector", "media"] {
            body.remove(key);
        }
        Scoped { body: body.to_bytes(), ..scoped.clone() }
    };
    raise(&mut semantic, factor(over_fetch, tuning, hits));
    if matches!(mode, Mode::Semantic) {
        scoped.body = semantic.to_bytes();
        return Question::Scoped(Arc::new(scoped.clone()));
    }
    let formatted = ["attributesToHighlight", "attributesToCrop", "showMatchesPosition"]
        .iter()
        .any(|key| semantic.has(key));
    let both = formatted || hits.score_threshold.is_some() || hits.distinct.is_some();
    if let Ok(Some(mut hybrid)) = semantic.read::<RawObject>("hybrid") {
        hybrid.set("semanticRatio", if both { &NEARLY_ALL } else { &1.0_f32 });
        semantic.set("hybrid", &hybrid);
    }
    scoped.body = semantic.to_bytes();
    Question::Many(Arc::new(ScopedMany {
        queries: vec![keyword, scoped.clone()],
        federation: None,
        operation: "search",
    }))
}

/// Both answers of a leaf.
fn split(page: &Page) -> Result<[merge::Page; 2], Error> {
    #[derive(serde::Deserialize)]
    struct Answer<'a> {
        #[serde(borrow)]
        results: Vec<&'a serde_json::value::RawValue>,
    }
    let garbage = || Error::node(&page.node, NodeFailure::Garbage);
    let answer: Answer<'_> = serde_json::from_slice(&page.body).map_err(|_| garbage())?;
    let [keyword, semantic] = answer.results.as_slice() else { return Err(garbage()) };
    let read = |part: &serde_json::value::RawValue| {
        merge::Page::decode(&page.body.slice_ref(part.get().as_bytes())).map_err(|_| garbage())
    };
    Ok([read(keyword)?, read(semantic)?])
}

/// What the leaves of a hybrid search found.
pub(super) struct Halves {
    /// The pages that say what was found: of which to count, and whose facets to merge.
    pub(super) pages: Vec<merge::Page>,
    /// The merged halves and their order, unless the keyword half is good enough alone.
    pub(super) merged: Option<(Vec<merge::Page>, MergedHits)>,
}

/// Merges one half over its leaves into a page.
fn half(pages: &[merge::Page], hits: &HitOptions, depth: usize) -> Result<merge::Page, Error> {
    let options = HitOptions {
        offset: 0,
        limit: depth,
        show_score: true,
        show_details: true,
        drop_fields: Vec::new(),
        drop_formatted: Vec::new(),
        ..hits.clone()
    };
    let mut body = Vec::from(&b"{\"hits\":"[..]);
    merge_hits(pages, &options).write(pages, &options, &mut body);
    body.push(b'}');
    let mut page =
        merge::Page::decode(&Bytes::from(body)).map_err(|e| Error::internal(e.to_string()))?;
    page.query_vector = pages.iter().find_map(|page| page.query_vector.clone());
    page.semantic_hit_count = Some(0);
    Ok(page)
}

/// Decides and merges as one node does. `hits` has the client's offset and limit.
pub(super) fn halves(
    answers: &[Page],
    hits: &HitOptions,
    depth: usize,
    ratio: f32,
    primary_key: Option<&str>,
    tuning: &VectorSearchOptions,
) -> Result<Halves, Error> {
    let (mut keyword, mut semantic) = (Vec::new(), Vec::new());
    for answer in answers {
        let [first, mut second] = split(answer)?;
        // What the leaf found by words is in the other half.
        second.keep_semantic();
        keyword.push(first);
        semantic.push(second);
    }
    let options = HybridOptions {
        ratio,
        fusion: tuning.merge_strategy,
        rrf_k: tuning.rrf_k,
        primary_key: primary_key.map(str::to_owned),
    };
    let words = half(&keyword, hits, depth)?;
    if options.good_enough(&words, depth) {
        for page in &mut keyword {
            page.semantic_hit_count = Some(0);
        }
        return Ok(Halves { pages: keyword, merged: None });
    }
    let strategy = tuning.merge_strategy.name();
    metrics::gauge!("miroir_vector_merge_strategy", "strategy" => strategy).set(1.0);
    let vectors = half(&semantic, hits, depth)?;
    let merged = merge_hybrid([&words, &vectors], hits, &options);
    Ok(Halves { pages: semantic, merged: Some((vec![words, vectors], merged)) })
}

/// Counts the hits that were fetched beyond those needed.
pub(super) fn count_surplus(pages: &[merge::Page], depth: usize) {
    let surplus: usize = pages.iter().map(|page| page.hits.len().saturating_sub(depth)).sum();
    metrics::counter!("miroir_vector_search_over_fetched_total").increment(surplus as u64);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(text: &str) -> RawObject {
        RawObject::parse(text.as_bytes()).unwrap()
    }

    fn judged(text: &str) -> Mode {
        mode(&body(text), &VectorSearchOptions::default()).unwrap()
    }

    #[test]
    fn a_search_is_of_the_kind_one_node_takes_it_for() {
        for (text, expected) in [
            (r#"{"q":"a"}"#, Mode::Keyword),
            (r#"{"q":"a","vector":[1]}"#, Mode::Keyword),
            (r#"{"q":"a","hybrid":{"embedder":"e"}}"#, Mode::Hybrid(0.5)),
            (r#"{"q":"a","hybrid":{"embedder":"e","semanticRatio":0.25}}"#, Mode::Hybrid(0.25)),
            (r#"{"q":"a","hybrid":{"embedder":"e","semanticRatio":0}}"#, Mode::Keyword),
            (r#"{"q":"a","hybrid":{"embedder":"e","semanticRatio":1}}"#, Mode::Semantic),
            (r#"{"q":"a","hybrid":{"embedder":"e","semanticRatio":2}}"#, Mode::Keyword),
            (r#"{"q":" ","hybrid":{"embedder":"e"}}"#, Mode::Keyword),
            (r#"{"q":" ","vector":[1],"hybrid":{"embedder":"e"}}"#, Mode::Semantic),
            (r#"{"q":null,"media":{},"hybrid":{"embedder":"e"}}"#, Mode::Semantic),
        ] {
            assert_eq!(judged(text), expected, "{text}");
        }
        let off = VectorSearchOptions { enabled: false, ..VectorSearchOptions::default() };
        let wanted = body(r#"{"vector":[1],"hybrid":{"embedder":"e"}}"#);
        assert!(mode(&wanted, &off).is_err());
        assert_eq!(mode(&body(r#"{"q":"a"}"#), &off).unwrap(), Mode::Keyword);
    }

    fn asked(text: &str, hits: &HitOptions, over_fetch: Option<u32>) -> Vec<String> {
        let mut scoped = Scoped {
            path: "/search",
            body: Bytes::from(text.to_owned()),
            filter: None,
            operation: "search",
            sort_values: false,
        };
        let tuning = VectorSearchOptions::default();
        let mode = judged(text);
        let text = |body: &Bytes| String::from_utf8(body.to_vec()).unwrap();
        match ask(&mut scoped, &mode, hits, over_fetch.map(OverFetch), &tuning) {
            Question::Scoped(scoped) => vec![text(&scoped.body)],
            Question::Many(many) => many.queries.iter().map(|query| text(&query.body)).collect(),
            Question::Plain(_) => unreachable!("searches are scoped"),
        }
    }

    #[test]
    fn leaves_are_asked_for_more_than_is_needed() {
        let none = HitOptions::default();
        let semantic = r#"{"vector":[1],"hybrid":{"embedder":"e"},"limit":20}"#;
        let limit = |text: &str| body(text).read::<u32>("limit").unwrap();
        assert_eq!(limit(&asked(semantic, &none, None)[0]), Some(60));
        assert_eq!(limit(&asked(semantic, &none, Some(5))[0]), Some(100));
        assert_eq!(limit(&asked(semantic, &none, Some(1))[0]), Some(20));
        let threshold = HitOptions { score_threshold: Some(0.5), ..HitOptions::default() };
        assert_eq!(limit(&asked(semantic, &threshold, Some(5))[0]), Some(20));
        // Words are found exactly.
        assert_eq!(limit(&asked(r#"{"q":"a","limit":20}"#, &none, Some(5))[0]), Some(20));
    }

    #[test]
    fn both_halves_are_asked_apart() {
        let hybrid = r#"{"q":"a","vector":[1],"hybrid":{"embedder":"e","semanticRatio":0.3}}"#;
        let halves = asked(hybrid, &HitOptions::default(), None);
        let semantic = r#"{"q":"a","vector":[1],"hybrid":{"embedder":"e","semanticRatio":1.0}}"#;
        assert_eq!(halves, [r#"{"q":"a"}"#, semantic]);
        // What is highlighted depends on the words, also in hits that were found by similarity.
        let distinct = HitOptions { distinct: Some("kind".to_owned()), ..HitOptions::default() };
        let both = asked(hybrid, &distinct, None);
        assert_eq!(both[0], r#"{"q":"a"}"#);
        assert!(both[1].contains(r#""semanticRatio":0.999999"#), "{}", both[1]);
    }
}
