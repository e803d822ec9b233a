//! Random documents, settings and queries.
//!
//! The vocabulary is small and made of compounds, so that splits ("sun flower"), misspellings and
//! prefixes meet each other often.

use serde_json::{Map, Value, json};

use super::{Rng, spellings};

const ROOTS: &[&str] = &[
    "sun", "flower", "water", "fall", "moon", "light", "house", "fire", "wood", "rain", "bow",
    "star", "fish", "snow", "ball", "book", "shop", "door", "bell", "hand", "made", "over",
    "night", "time",
];
const COMPOUNDS: &[&str] = &[
    "sunflower",
    "waterfall",
    "moonlight",
    "lighthouse",
    "firewood",
    "rainbow",
    "starfish",
    "snowball",
    "bookshop",
    "doorbell",
    "handmade",
    "overtime",
    "nighttime",
    "firelight",
    "starlight",
    "sunlight",
    "firefly",
    "rainwater",
    "woodwork",
    "houseboat",
    "elephant",
    "adventure",
    "chocolate",
    "mountain",
    "telescope",
    "harmony",
    "orchestra",
    "velocity",
];
const GENRES: &[&str] =
    &["Action", "action", "Drama", "Comedy", "horror", "Sci-Fi", "Écru", "fjord", "Delta Works"];

pub(crate) fn word(rng: &mut Rng) -> String {
    let list = if rng.chance(50) { ROOTS } else { COMPOUNDS };
    (*rng.pick(list)).to_owned()
}

/// One edit: a letter dropped, doubled, changed or swapped.
pub(crate) fn misspell(rng: &mut Rng, word: &str) -> String {
    let mut letters: Vec<char> = word.chars().collect();
    if letters.len() < 3 {
        return word.to_owned();
    }
    let at = rng.below(letters.len() - 1);
    match rng.below(4) {
        0 => {
            letters.remove(at);
        }
        1 => letters.insert(at, letters[at]),
        2 => letters[at] = (b'a' + rng.below(26) as u8) as char,
        _ => letters.swap(at, at + 1),
    }
    letters.into_iter().collect()
}

fn text(rng: &mut Rng, low: usize, high: usize) -> String {
    let count = rng.range(low, high);
    let words: Vec<String> = (0..count)
        .map(|_| {
            let word = word(rng);
            if rng.chance(20) { misspell(rng, &word) } else { word }
        })
        .collect();
    words.join(" ")
}

/// Documents `0..count`; `number` is unique, so that a sort by it leaves no ties.
pub(crate) fn documents(rng: &mut Rng, count: usize) -> Vec<Value> {
    (0..count)
        .map(|at| {
            let mut doc = Map::new();
            // Ids of both kinds, as clients have them.
            let id = if at % 3 == 0 { json!(format!("doc-{at}")) } else { json!(at) };
            doc.insert("id".into(), id);
            doc.insert("number".into(), json!((at * 7919) % 10_007));
            doc.insert("title".into(), json!(text(rng, 1, 5)));
            if rng.chance(90) {
                doc.insert("body".into(), json!(text(rng, 5, 30)));
            }
            match rng.below(8) {
                0 => {}
                1 => {
                    doc.insert("price".into(), Value::Null);
                }
                2 => {
                    doc.insert("price".into(), json!(["cheap", "Free", "dear"][rng.below(3)]));
                }
                3 => {
                    doc.insert("price".into(), json!(rng.below(40) as f64 / 4.0));
                }
                _ => {
                    doc.insert("price".into(), json!(rng.below(30)));
                }
            }
            if rng.chance(70) {
                doc.insert("pop".into(), json!(rng.below(5)));
            }
            match rng.below(6) {
                0 => {}
                1 => {
                    doc.insert("genre".into(), json!([]));
                }
                2 | 3 => {
                    doc.insert("genre".into(), json!(rng.pick(GENRES)));
                }
                _ => {
                    let list = [*rng.pick(GENRES), *rng.pick(GENRES)];
                    doc.insert("genre".into(), json!(list));
                }
            }
            if rng.chance(80) {
                doc.insert("group".into(), json!(format!("g{}", rng.below(12))));
            }
            if rng.chance(60) {
                let (lang, pages) = (*rng.pick(&["de", "en", "fr"]), rng.below(400));
                let note = text(rng, 1, 3);
                doc.insert("meta".into(), json!({"lang": lang, "pages": pages, "note": note}));
            }
            if rng.chance(70) {
                // A coarse grid: points are equal or kilometres apart.
                let (lat, lng) = (rng.below(9) as f64 - 4.0, rng.below(9) as f64 * 2.0);
                doc.insert("_geo".into(), json!({"lat": lat, "lng": lng}));
            }
            if rng.chance(50) {
                doc.insert("flag".into(), json!(rng.chance(50)));
            }
            if rng.chance(80) {
                doc.insert("kind".into(), spellings::value(rng));
            }
            if rng.chance(70) {
                doc.insert("tags".into(), spellings::list(rng));
            }
            for name in ["mark", "shade"] {
                if rng.chance(80) {
                    doc.insert(name.into(), spellings::mark(rng));
                }
            }
            Value::Object(doc)
        })
        .collect()
}

/// All but `shade`, by which hits of some corpora are distinct.
pub(crate) const FILTERABLE: &[&str] = &[
    "price",
    "pop",
    "genre",
    "group",
    "meta.lang",
    "meta.pages",
    "flag",
    "_geo",
    "number",
    "kind",
    "tags",
    "mark",
];

/// Settings of one corpus.
pub(crate) fn settings(rng: &mut Rng) -> Value {
    let mut out = json!({
        "filterableAttributes": FILTERABLE,
        "sortableAttributes": ["price", "pop", "genre", "number", "meta.pages", "_geo", "title"],
    });
    match rng.below(4) {
        0 => {}
        1 => {
            out["rankingRules"] =
                json!(["words", "typo", "proximity", "attribute", "sort", "exactness", "pop:desc"]);
        }
        2 => {
            out["rankingRules"] =
                json!(["sort", "words", "pop:asc", "typo", "proximity", "attribute", "exactness"]);
        }
        _ => {
            out["rankingRules"] =
                json!(["words", "exactness", "typo", "attribute", "proximity", "sort"]);
        }
    }
    if rng.chance(60) {
        out["searchableAttributes"] = json!(["title", "body", "meta.note"]);
    }
    if rng.chance(30) {
        out["stopWords"] = json!(["over", "made"]);
    }
    if rng.chance(30) {
        out["synonyms"] = json!({"rainbow": ["snowball", "night time"], "fire": ["sunlight"]});
    }
    if rng.chance(30) {
        out["typoTolerance"] = json!({"minWordSizeForTypos": {"oneTypo": 3, "twoTypos": 6},
            "disableOnWords": ["water"], "disableOnAttributes": ["body"]});
    }
    let order = ["alpha", "count"][rng.below(2)];
    out["faceting"] = json!({"sortFacetValuesBy": {"*": order, "pop": "count"},
        "maxValuesPerFacet": *rng.pick(&[3, 10, 100])});
    if rng.chance(25) {
        out["pagination"] = json!({"maxTotalHits": rng.range(5, 40)});
    }
    out
}

fn phrase(rng: &mut Rng) -> String {
    format!("\"{} {}\"", word(rng), word(rng))
}

/// A query text.
pub(crate) fn query(rng: &mut Rng) -> String {
    if rng.chance(12) {
        return String::new();
    }
    let count = rng.range(1, 5);
    let mut words: Vec<String> = (0..count)
        .map(|_| {
            let word = word(rng);
            if rng.chance(25) { misspell(rng, &word) } else { word }
        })
        .collect();
    if rng.chance(40) {
        let last = words.last_mut().expect("there is at least one word");
        let keep = rng.range(1, last.chars().count());
        *last = last.chars().take(keep).collect();
    }
    if rng.chance(10) {
        words.insert(0, phrase(rng));
    }
    if rng.chance(10) {
        words.push(format!("-{}", word(rng)));
    }
    if rng.chance(3) {
        words.push(format!("-{}", phrase(rng)));
    }
    words.join(" ")
}

fn clause(rng: &mut Rng) -> String {
    match rng.below(15) {
        13 => format!("kind = \"{}\"", spellings::text(rng)),
        14 => format!("tags NOT IN [\"{}\", 5]", spellings::text(rng)),
        0 => format!("price > {}", rng.below(20)),
        1 => format!("price {} TO {}", rng.below(10), rng.range(10, 25)),
        2 => "price IS NULL".to_owned(),
        3 => "price NOT EXISTS".to_owned(),
        4 => format!("genre = \"{}\"", rng.pick(GENRES)),
        5 => format!("genre IN [{}, horror]", ["Action", "Drama"][rng.below(2)]),
        6 => "genre IS EMPTY".to_owned(),
        7 => format!("NOT pop = {}", rng.below(5)),
        8 => format!("meta.lang = {}", ["de", "en"][rng.below(2)]),
        9 => format!("group != g{}", rng.below(12)),
        10 => format!("_geoRadius({}, {}, 400000)", rng.below(5), rng.below(10)),
        11 => "_geoBoundingBox([3, 12], [-3, 1])".to_owned(),
        _ => format!("flag = {}", rng.chance(50)),
    }
}

/// A filter in one of the forms the API takes.
pub(crate) fn filter(rng: &mut Rng) -> Value {
    match rng.below(5) {
        0 | 1 => json!(clause(rng)),
        2 => json!(format!("{} AND {}", clause(rng), clause(rng))),
        3 => json!([clause(rng), format!("{} OR {}", clause(rng), clause(rng))]),
        _ => json!([[clause(rng), clause(rng)], clause(rng)]),
    }
}

fn sort(rng: &mut Rng) -> Vec<String> {
    let count = rng.range(1, 2);
    (0..count)
        .map(|_| {
            let direction = ["asc", "desc"][rng.below(2)];
            let field = *rng.pick(&["price", "pop", "genre", "meta.pages", "title", "_geo"]);
            if field == "_geo" {
                let (lat, lng) = (rng.below(40) as f64 / 9.7 - 2.0, rng.below(40) as f64 / 3.3);
                format!("_geoPoint({lat:.4}, {lng:.4}):{direction}")
            } else {
                format!("{field}:{direction}")
            }
        })
        .collect()
}

fn mistake(rng: &mut Rng, out: &mut Map<String, Value>) {
    let (key, value) = match rng.below(8) {
        0 => ("filter", json!("nothing = 1")),
        1 => ("filter", json!("price >")),
        2 => ("sort", json!(["nothing:asc"])),
        3 => ("sort", json!(["price"])),
        4 => ("facets", json!(["nothing"])),
        5 => ("limit", json!("many")),
        6 => ("limt", json!(1)),
        _ => ("matchingStrategy", json!("lst")),
    };
    out.insert(key.into(), value);
}

/// What tells the hits of a search apart.
fn distinct(rng: &mut Rng, out: &mut Map<String, Value>, set: bool) {
    let named = rng.chance(15);
    if !named && !set {
        return;
    }
    // Of hits with several values, numbered pages count those with the lowest internal numbers.
    let pages = out.contains_key("page") || out.contains_key("hitsPerPage");
    let choice = if pages { 2 } else { 4 };
    let attribute = ["group", "kind", "genre", "tags"][rng.below(choice)];
    if named {
        out.insert("distinct".into(), json!(attribute));
    }
    // The hits that are kept depend on the order of equal hits: leave none equal. Facets of numbered
    // pages are of the hits that are kept beyond the page, by internal numbers; and those of hits that
    // were kept may have a string's count in the place of a number's.
    out.insert("sort".into(), json!(["number:asc"]));
    if set {
        // How far a node looks before an offset depends on its own groups of hits.
        out.remove("offset");
    }
    if !out.contains_key("facets") {
        return;
    }
    let facets = match rng.below(3) {
        _ if pages && named && attribute == "group" => json!(["group"]),
        _ if pages => Value::Null,
        0 => json!(["pop", "group"]),
        1 => json!(["genre"]),
        _ => json!(["meta.lang", "flag"]),
    };
    if facets.is_null() {
        out.remove("facets");
    } else {
        out.insert("facets".into(), facets);
    }
}

/// A search. `set`: whether hits are distinct by a setting.
pub(crate) fn search(rng: &mut Rng, set: bool) -> Value {
    let mut out = Map::new();
    out.insert("q".into(), json!(query(rng)));
    if rng.chance(35) {
        out.insert("filter".into(), filter(rng));
    }
    if rng.chance(40) {
        out.insert("sort".into(), json!(sort(rng)));
    }
    match rng.below(4) {
        0 => {
            out.insert("page".into(), json!(rng.range(1, 4)));
            out.insert("hitsPerPage".into(), json!(rng.range(1, 12)));
        }
        1 => {
            out.insert("offset".into(), json!(rng.below(30)));
            out.insert("limit".into(), json!(rng.below(25)));
        }
        2 => {
            out.insert("limit".into(), json!(rng.range(1, 60)));
        }
        _ => {}
    }
    if rng.chance(30) {
        let facets = match rng.below(7) {
            4 => json!(["kind"]),
            5 => json!(["tags", "mark"]),
            6 => json!(["mark", "kind"]),
            0 => json!(["*"]),
            1 => json!(["genre"]),
            2 => json!(["price", "pop", "group"]),
            _ => json!(["meta.lang", "meta.pages", "flag"]),
        };
        out.insert("facets".into(), facets);
    }
    if rng.chance(25) {
        let list = match rng.below(4) {
            0 => json!(["id", "title"]),
            1 => json!(["title", "meta.lang"]),
            2 => json!([]),
            _ => json!(["*"]),
        };
        out.insert("attributesToRetrieve".into(), list);
    }
    if rng.chance(20) {
        let list = if rng.chance(50) { json!(["*"]) } else { json!(["title", "meta"]) };
        out.insert("attributesToHighlight".into(), list);
    }
    // This engine's cropping fails on phrases that are longer than what it may keep.
    let phrases = out["q"].as_str().is_some_and(|q| q.contains('"'));
    if rng.chance(15) && !phrases {
        out.insert("attributesToCrop".into(), json!(["body:4", "title"]));
        out.insert("cropLength".into(), json!(rng.range(1, 6)));
    }
    if rng.chance(10) {
        out.insert("showMatchesPosition".into(), json!(true));
    }
    if rng.chance(40) {
        out.insert("showRankingScore".into(), json!(true));
    }
    if rng.chance(25) {
        out.insert("showRankingScoreDetails".into(), json!(true));
    }
    if rng.chance(10) {
        out.insert("rankingScoreThreshold".into(), json!(rng.below(100) as f64 / 100.0));
    }
    if rng.chance(40) {
        out.insert("matchingStrategy".into(), json!(["last", "all"][rng.below(2)]));
    }
    if rng.chance(10) {
        out.insert("attributesToSearchOn".into(), json!(["title"]));
    }
    distinct(rng, &mut out, set);
    if rng.chance(5) {
        mistake(rng, &mut out);
    }
    Value::Object(out)
}
