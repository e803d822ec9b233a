//! Scores and totals over short definitions of Zipf-distributed words, spread over shards as unevenly
//! as it gets: one shard has 100 times the documents of the others, and some next to none. Leaves then
//! know very different maxima of costs; `_rankingScore`, the order by it, and what a threshold leaves
//! are one node's all the same.

use miroir_api::ShardId;
use miroir_core::routing::shard_of;
use serde_json::{Map, Value, json};

use super::{PLAIN, Shape, number, shape, write};
use crate::support::real::{binary, describe, nodes};
use crate::support::{Api, Rng};

const SHARDS: u32 = 16;
/// In 1000: how many answers to queries that end in the beginning of a word may differ. Shards with few
/// such words look at both sides of the word before for it, one node with many at one.
const BEGINNINGS: usize = 60;
/// In 1000: how many answers may differ where the most frequent words are dropped. What is two words of
/// a query written as one is not found once one of them is dropped.
const FREQUENCY: usize = 60;

const SYLLABLES: &[&str] = &[
    "ba", "bel", "cor", "da", "den", "fi", "gan", "hol", "ju", "kar", "li", "mon", "nu", "pas",
    "qui", "ron", "sa", "tev", "u", "vor", "wen", "xi", "yor", "za",
];
const FREQUENT: &[&str] = &[
    "of", "a", "the", "to", "or", "in", "and", "that", "is", "for", "with", "by", "as", "an",
    "from", "not", "on", "having", "used", "which", "being", "number", "cut", "through", "if",
    "made", "any", "into", "large", "largely",
];

/// Words by falling frequency.
fn words(rng: &mut Rng, count: usize) -> Vec<String> {
    let mut out: Vec<String> = FREQUENT.iter().map(|word| (*word).to_owned()).collect();
    while out.len() < count {
        let word: String = (0..rng.range(2, 4)).map(|_| *rng.pick(SYLLABLES)).collect();
        if !out.contains(&word) {
            out.push(word);
        }
    }
    out
}

/// A word, the `n`th one with a weight of `1/n`.
fn zipf<'a>(rng: &mut Rng, words: &'a [String]) -> &'a str {
    // The logarithm of a place is spread evenly.
    let even = rng.below(1 << 20) as f64 / f64::from(1 << 20);
    let at = (words.len() as f64).powf(even) as usize - 1;
    &words[at.min(words.len() - 1)]
}

fn sentence(rng: &mut Rng, words: &[String], low: usize, high: usize) -> String {
    let length = rng.range(low, high);
    (0..length).map(|_| zipf(rng, words)).collect::<Vec<_>>().join(" ")
}

/// How many documents a shard gets for each one of an ordinary shard's, in 100.
fn share(shard: ShardId) -> usize {
    match shard.0 {
        3 => 10_000,
        6 | 9 | 12 => 1,
        _ => 100,
    }
}

/// Definitions whose ids put them where [`share`] says.
fn documents(rng: &mut Rng, words: &[String], count: usize) -> Vec<Value> {
    let most = share(ShardId(3));
    let mut ids = (0_u64..).filter(|id| {
        let shard = shard_of(id.to_string().as_bytes(), SHARDS);
        let hash = id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        (hash as usize) % most < share(shard)
    });
    (0..count)
        .map(|at| {
            let id = ids.next();
            let head = rng.pick(words).clone();
            let mut letters = head.chars();
            let first = letters.next().into_iter().flat_map(char::to_uppercase);
            let name: String = first.chain(letters).collect();
            let name =
                if rng.chance(15) { format!("{name} {}", ["A", "B", "St"][at % 3]) } else { head };
            let rank = (at * 7919) % 20_011;
            json!({"id": id, "rank": rank, "word": name, "definition": sentence(rng, words, 3, 12)})
        })
        .collect()
}

/// A query, and whether its last word is a whole one.
fn query(rng: &mut Rng, words: &[String]) -> (Value, bool) {
    let mut out = Map::new();
    let mut text = sentence(rng, words, 1, 4);
    let whole = rng.chance(60);
    if rng.chance(15) {
        text = format!("\"{}\" {text}", sentence(rng, words, 2, 2));
    }
    if whole {
        text.push(' ');
    } else {
        let last = text.rfind(' ').map_or(0, |at| at + 1);
        let keep = rng.range(1, text[last..].chars().count());
        text = text.chars().take(last + keep).collect();
    }
    let negative = rng.chance(25);
    if negative {
        text = format!("{} -{}", text.trim_end(), rng.pick(words));
    }
    out.insert("q".into(), json!(text));
    let strategy = *rng.pick(&["last", "last", "all", "frequency"]);
    out.insert("matchingStrategy".into(), json!(strategy));
    if rng.chance(70) {
        let threshold = *rng.pick(&[0.1, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99]);
        out.insert("rankingScoreThreshold".into(), json!(threshold));
    }
    match rng.below(3) {
        0 => {
            out.insert("page".into(), json!(rng.range(1, 3)));
            out.insert("hitsPerPage".into(), json!(*rng.pick(&[1, 5, 20])));
        }
        1 => {
            out.insert("limit".into(), json!(*rng.pick(&[0, 1, 5, 100])));
            out.insert("offset".into(), json!(*rng.pick(&[0, 0, 1, 6, 50])));
        }
        _ => {}
    }
    if rng.chance(15) {
        out.insert("sort".into(), json!(["rank:asc"]));
    }
    if rng.chance(20) {
        out.insert("filter".into(), json!(format!("rank < {}", *rng.pick(&[2000, 10_000]))));
    }
    if rng.chance(20) {
        out.insert("facets".into(), json!(["length"]));
    }
    out.insert("showRankingScore".into(), json!(true));
    out.insert("attributesToRetrieve".into(), json!(["id"]));
    (Value::Object(out), whole || negative)
}

/// What is to be equal: totals, facets and the scores of the page.
fn essence(answer: &Value, query: &Value) -> Value {
    let scores: Vec<_> =
        answer["hits"].as_array().into_iter().flatten().map(|h| &h["_rankingScore"]).collect();
    let threshold = query.get("rankingScoreThreshold").is_some();
    // This engine counts the hits of a page that it did not look at, and those skipped, whatever they
    // score.
    let skips = query.get("page").is_some() || query.get("offset").is_some_and(|n| n != 0);
    let uncounted = threshold && skips && binary().is_none();
    let facets = (!threshold).then(|| answer.get("facetDistribution"));
    let total = answer.get("totalHits").or(answer.get("estimatedTotalHits")).filter(|_| !uncounted);
    json!({"scores": scores, "total": total, "facets": facets})
}

async fn load(api: &Api, name: &str, documents: &[Value]) {
    let settings = json!({"searchableAttributes": ["word", "definition"],
        "sortableAttributes": ["rank"], "filterableAttributes": ["rank", "length"],
        "pagination": {"maxTotalHits": 100_000}});
    let path = "/indexes/{uid}/documents?primaryKey=id";
    let writes = [("PATCH", "/indexes/{uid}/settings", settings), ("POST", path, json!(documents))];
    write(api, name, &writes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scores_do_not_depend_on_how_documents_are_spread() {
    let count = number("MIROIR_DEFINITIONS", 1500) as usize;
    let queries = number("MIROIR_DEFINITIONS_QUERIES", 250) as usize;
    let seed = number("MIROIR_DIFF_SEED", 1);
    eprintln!("{count} definitions, {queries} queries, seed {seed}, on {}", describe());
    let mut rng = Rng(seed);
    let words = words(&mut rng, 2000);
    let mut documents = documents(&mut rng, &words, count);
    for document in &mut documents {
        let length = document["definition"].as_str().unwrap().split(' ').count();
        document["length"] = json!(length);
    }
    let all = nodes(4).await;
    let plain = Api::at(all[0].url());
    let shapes =
        [shape(&all, SHARDS, &[&[1, 2, 3]], 1).await, shape(&all, SHARDS, &[&[1, 2, 3]], 2).await];
    load(&plain, PLAIN, &documents).await;
    for Shape { api, name, .. } in &shapes {
        load(api, name, &documents).await;
    }
    let (mut wrong, mut beginnings, mut frequency) = (Vec::new(), 0, 0);
    for _ in 0..queries {
        let (query, whole) = query(&mut rng, &words);
        let oracle = plain.search(PLAIN, &query).await;
        for Shape { api, name, .. } in &shapes {
            let answer = api.search(name, &query).await;
            assert_eq!((oracle.status, answer.status), (200, 200), "{query}: {}", answer.body);
            let (want, got) = (essence(&oracle.body, &query), essence(&answer.body, &query));
            if super::compare::same(&want, &got) {
                continue;
            }
            match () {
                () if query["matchingStrategy"] == "frequency" => frequency += 1,
                () if !whole => beginnings += 1,
                () => wrong.push(format!("{name}: {query}\n  {got}\n  instead of\n  {want}")),
            }
        }
    }
    for shape in &shapes {
        shape.miroir.shutdown().await;
    }
    let asked = queries * shapes.len();
    eprintln!(
        "of {asked} answers, {} differ, {beginnings} to beginnings of words, {frequency} of \
         matchingStrategy frequency",
        wrong.len()
    );
    assert!(wrong.is_empty(), "{}", wrong[..wrong.len().min(10)].join("\n"));
    assert!(beginnings * 1000 <= asked * BEGINNINGS, "{beginnings} of {asked}");
    assert!(frequency * 1000 <= asked * FREQUENCY, "{frequency} of {asked}");
}
