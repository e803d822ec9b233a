//! The recorded pages: what nodes answer, made of a fixed seed.
//!
//! A page looks like one of Meilisearch 1.50 for a query of two words over the sample catalogue:
//! documents with the shard that nodes store, score and ranking details by the default rules,
//! all of it consistent (the score is the merge of the details' ranks, as the engine computes it).
//! The hits of one question are ranked over all leaves and then dealt out to them, so that a merge
//! has to take from every leaf, and each leaf has hits of its own.

use serde_json::{Value, json};

use crate::catalogue::{self, Random};

/// Hits of a page.
pub(super) const HITS: usize = 20;
/// Hits a leaf says it has found.
pub(super) const FOUND: u64 = 412;
/// Searchable attributes of the sample catalogue, less one: the weight of the last of them.
const LAST_ATTRIBUTE: u32 = 6;
/// Words of a query.
const WORDS: u32 = 2;
/// The character that stands for shard 0 in a stored document.
const FIRST_SHARD: u32 = 0xE000;

const QUALITIES: &[&str] = &[
    "alpine", "bright", "coastal", "compact", "daily", "dense", "folding", "frosted", "gentle",
    "hardy", "hollow", "large", "light", "little", "local", "merino", "narrow", "nimble", "plain",
    "polar", "quiet", "rapid", "rugged", "simple", "sturdy", "summer", "thermal", "urban",
    "winter", "woven",
];
const THINGS: &[&str] = &[
    "anorak",
    "axe",
    "beanie",
    "boots",
    "bottle",
    "burner",
    "carabiner",
    "compass",
    "cooler",
    "crampon",
    "dinghy",
    "fleece",
    "gaiter",
    "gloves",
    "hammock",
    "harness",
    "headlamp",
    "helmet",
    "kayak",
    "kettle",
    "lantern",
    "mattress",
    "mug",
    "paddle",
    "parka",
    "pillow",
    "poles",
    "poncho",
    "pump",
    "rope",
    "rucksack",
    "saddle",
    "sandals",
    "scarf",
    "shovel",
    "skis",
    "sledge",
    "socks",
    "stove",
    "tarp",
    "tent",
    "towel",
    "whistle",
];

/// The fields of a document in a shop that keeps little of each product.
const FEW: &[&str] =
    &[catalogue::PRIMARY_KEY, "title", "description", "brand", "price", "in_stock"];

/// How much there is in a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Size {
    /// Six fields, some 300 bytes.
    Small,
    /// All of the sample catalogue's: some 20 fields and 700 bytes, with arrays and objects.
    Large,
    /// A few fields, one of them a text of 5 kB.
    Long,
}

/// The facet whose values are counted.
pub(super) const FACET: &str = "brand";
/// Values of it.
pub(super) const VALUES: usize = 50;
/// Times the sample's description is in a long document.
const LONG: usize = 22;

/// Questions that differ from each other.
pub(super) const QUESTIONS: usize = QUALITIES.len() * THINGS.len();

/// The words of a question. Neighbours differ in both.
pub(super) fn words(question: usize) -> String {
    let thing = question % THINGS.len();
    let quality = (question / THINGS.len() + thing) % QUALITIES.len();
    format!("{} {}", QUALITIES[quality], THINGS[thing])
}

/// How a hit was ranked, best first: each field counts what separates it from a perfect hit. The
/// order of the fields is that of the default rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Costs {
    words: u32,
    typos: u32,
    proximity: u32,
    attribute: u32,
    position: u32,
    inexact: u32,
}

impl Costs {
    fn draw(random: &mut Random) -> Self {
        let below = |random: &mut Random, end: u32| random.below(u64::from(end)) as u32;
        let words = u32::from(random.chance(30));
        let found = WORDS - words;
        let typos = if random.chance(70) { 0 } else { 1 + below(random, found) };
        Self {
            words,
            typos,
            proximity: if found == WORDS { below(random, 4) } else { 0 },
            attribute: below(random, LAST_ATTRIBUTE * found + 1),
            position: below(random, 10 * found + 1),
            inexact: below(random, found + 1),
        }
    }

    /// `_rankingScore` and `_rankingScoreDetails`.
    fn shown(self) -> (Value, Value) {
        let found = WORDS - self.words;
        let ranks = [
            (found, WORDS),
            (found + 1 - self.typos, found + 1),
            // Words next to each other cost nothing, those far apart three.
            if found == WORDS { (4 - self.proximity, 4) } else { (1, 1) },
            (LAST_ATTRIBUTE * found + 1 - self.attribute, LAST_ATTRIBUTE * found + 1),
            (10 * found + 1 - self.position, 10 * found + 1),
            // The worst of three kinds of match, and inside of it the number of exact words.
            (found - self.inexact + 1, 3 * (found + 1)),
        ];
        let score = |(rank, max): (u32, u32)| json!(f64::from(rank) / f64::from(max));
        // The inner rank counts inside of one step of the outer one.
        let all = ranks
            .into_iter()
            .reduce(|outer, inner| ((outer.0 - 1) * inner.1 + inner.0, outer.1 * inner.1));
        let details = json!({
            "words": { "order": 0, "matchingWords": found, "maxMatchingWords": WORDS,
                       "score": score(ranks[0]) },
            "typo": { "order": 1, "typoCount": self.typos, "maxTypoCount": found,
                      "score": score(ranks[1]) },
            "proximity": { "order": 2, "score": score(ranks[2]) },
            "attributeRank": { "order": 3, "score": score(ranks[3]) },
            "wordPosition": { "order": 4, "score": score(ranks[4]) },
            "exactness": { "order": 5, "matchType": "noExactMatch",
                           "matchingWords": found - self.inexact, "maxMatchingWords": found,
                           "score": score(ranks[5]) },
        });
        (score(all.unwrap_or((1, 1))), details)
    }
}

/// The pages of all leaves for one question: `hits` on each, best first.
pub(super) fn pages(question: usize, leaves: usize, hits: usize, size: Size) -> Vec<String> {
    let mut random = Random::new(question as u64);
    let mut ranked: Vec<Costs> = (0..leaves * hits).map(|_| Costs::draw(&mut random)).collect();
    ranked.sort_unstable();
    let mut left = vec![hits; leaves];
    let mut dealt: Vec<Vec<Value>> = vec![Vec::new(); leaves];
    for (rank, costs) in ranked.into_iter().enumerate() {
        let mut leaf = random.below(leaves as u64) as usize;
        while left[leaf] == 0 {
            leaf = (leaf + 1) % leaves;
        }
        left[leaf] -= 1;
        let number = question * HITS * leaves + rank;
        let mut hit = document(number, leaf + leaves * (rank % 2), size);
        let (score, details) = costs.shown();
        hit["_rankingScore"] = score;
        hit["_rankingScoreDetails"] = details;
        dealt[leaf].push(hit);
    }
    dealt.into_iter().map(|hits| page(question, hits)).collect()
}

/// A page that says as well how many documents have which value of [`FACET`].
pub(super) fn counted(page: &str, question: usize) -> String {
    let mut random = Random::new(question as u64);
    let counts: serde_json::Map<String, Value> = (0..VALUES)
        .map(|value| (format!("Brand {value:03}"), json!(1 + random.below(FOUND))))
        .collect();
    let (page, _) = page.rsplit_once('}').unwrap_or_default();
    format!("{page},{}", &json!({ "facetDistribution": { FACET: counts } }).to_string()[1..])
}

fn page(question: usize, hits: Vec<Value>) -> String {
    let limit = hits.len();
    json!({
        "hits": hits, "query": words(question), "processingTimeMs": 1, "limit": limit, "offset": 0,
        "estimatedTotalHits": FOUND, "requestUid": "019a0c8e-6f00-7000-8000-000000000000",
    })
    .to_string()
}

/// A document of the sample catalogue as a node stores it.
pub(super) fn document(number: usize, shard: usize, size: Size) -> Value {
    let mut document = catalogue::document(number);
    if let (Size::Small | Size::Long, Some(fields)) = (size, document.as_object_mut()) {
        fields.retain(|name, _| FEW.contains(&name.as_str()));
        if size == Size::Long {
            let text = fields["description"].as_str().unwrap_or_default().repeat(LONG);
            fields["description"] = json!(text);
        }
    }
    let shard = char::from_u32(FIRST_SHARD + shard as u32).unwrap_or_default();
    document["_miroir_shard"] = json!(shard.to_string());
    document
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use serde_json::Map;

    use super::*;

    #[test]
    fn every_question_is_different() {
        let all: HashSet<String> = (0..QUESTIONS).map(words).collect();
        assert_eq!(all.len(), QUESTIONS);
        assert!(all.iter().all(|words| words.split(' ').count() == WORDS as usize));
    }

    #[test]
    fn pages_are_ranked_and_the_best_hits_are_on_all_of_them() {
        let score = |hit: &Value| hit["_rankingScore"].as_f64().unwrap();
        let pages: Vec<Value> = pages(3, 3, HITS, Size::Small)
            .iter()
            .map(|page| serde_json::from_str(page).unwrap())
            .collect();
        assert_eq!(pages.len(), 3);
        let mut ids = HashSet::new();
        let mut scores = Vec::new();
        for page in &pages {
            let hits = page["hits"].as_array().unwrap();
            assert_eq!(hits.len(), HITS);
            assert!(hits.is_sorted_by(|a, b| score(a) >= score(b)));
            ids.extend(hits.iter().map(|hit| hit["id"].to_string()));
            scores.extend(hits.iter().map(score));
        }
        assert_eq!(ids.len(), 3 * HITS);
        scores.sort_by(f64::total_cmp);
        let last_shown = scores[2 * HITS];
        for page in &pages {
            assert!(score(&page["hits"][0]) >= last_shown);
        }
    }

    #[test]
    fn a_score_is_the_merge_of_its_details() {
        // One of two words, with a typo, in the best place there is.
        let costs =
            Costs { words: 1, typos: 1, proximity: 0, attribute: 0, position: 0, inexact: 1 };
        let (score, details) = costs.shown();
        assert_eq!(details["typo"]["score"], 0.5);
        assert_eq!(details["exactness"]["score"], 1.0 / 6.0);
        // ((1 - 1) * 2 + 1 of 4), then 1 of 1, 7 of 7, 11 of 11 and 1 of 6.
        let expected = ((6.0 * 11.0 + 10.0) * 6.0 + 1.0) / (4.0 * 7.0 * 11.0 * 6.0);
        assert_eq!(score, expected);
    }

    #[test]
    fn documents_are_as_large_as_is_said() {
        let of = |size: Size| {
            let all: Vec<Value> = (0..100).map(|number| document(number, 0, size)).collect();
            let bytes: usize = all.iter().map(|document| document.to_string().len()).sum();
            let fields: usize = all.iter().map(|d| d.as_object().map_or(0, Map::len)).sum();
            (bytes / 100, fields / 100)
        };
        let (small, large) = (of(Size::Small), of(Size::Large));
        assert!((250..400).contains(&small.0) && small.1 == 7, "{small:?}");
        assert!((600..900).contains(&large.0) && (20..25).contains(&large.1), "{large:?}");
        let long = of(Size::Long);
        assert!((4_000..6_000).contains(&long.0), "{long:?}");
    }

    #[test]
    fn the_same_page_comes_out_every_time() {
        assert_eq!(pages(5, 2, HITS, Size::Large), pages(5, 2, HITS, Size::Large));
        assert!(pages(5, 1, 0, Size::Small)[0].starts_with(r#"{"hits":[],"query":""#));
    }
}
