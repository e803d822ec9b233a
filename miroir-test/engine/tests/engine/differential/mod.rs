//! The central property: the answer does not depend on how many shards, groups and copies there
//! are, nor on which replica answered. One plain node that holds every document is the oracle.
//!
//! Random corpora, settings and queries go to that node and to Miroir at several shapes; every
//! answer must be the same. What two correct engines may do differently is allowed for precisely:
//!
//! - Hits that no ranking rule tells apart (equal details and score in the oracle) come in the
//!   order of private document ids. They may swap places, also across the edge of the page. So may
//!   places whose distances differ by less than the millimetre a node shows; and of places at one
//!   distance the details of each show the first.
//! - The engine's cropping fails on some texts. What the oracle answers with a panic is left out: at
//!   most one query in [`PANICS`].
//! - A facet value is spelled as in the document with the lowest private id: `Action` and `action`
//!   count as one value. Values are compared by their normal form.
//! - By count, the engine walks a tree of values that depends on how the facet grew, once it has
//!   a certain number of values: equal counts then come in any order, also across the cut. Counts are exact.
//! - Which misspellings are highlighted depends on how many misspellings the engine had to work out
//!   to fill the page. Texts must be equal but for the tags, and at most one hit in
//!   [`HIGHLIGHTS`] may differ at all.
//! - An unsorted listing of documents comes in the order of private ids: it is compared as a set.
//! - With `rankingScoreThreshold` this engine's total depends on how far it had to look: it is compared
//!   over processes of a real Meilisearch only, and not under `distinct`. Facet
//!   counts under a threshold are not compared.
//! - A query word that no document of a shard has is ignored by the engine when it looks for hits
//!   that begin with the query. At most one query in [`EXACTNESS`] may be ordered by a better
//!   `matchType` than the oracle's.
//!
//! `MIROIR_DIFF_CASES` sets the number of queries, `MIROIR_DIFF_QUERIES` how many of them each corpus
//! gets, `MIROIR_DIFF_SEED` the first seed. With `MIROIR_TEST_MEILISEARCH` all nodes are processes of
//! that binary. A mismatch names the seed of its corpus; all mismatches of a run are reported together.

mod compare;
mod definitions;

use std::fmt::Write as _;

use miroir_control::Miroir;
use serde_json::{Map, Value, json};

use compare::{Highlights, Ranking, compare_search, same};

use crate::support::real::{Node, describe, nodes};
use crate::support::{Answer, Api, KEY, Rng, corpus};

/// One hit in this many may have other words highlighted, or be cropped around others.
const HIGHLIGHTS: u64 = 200;
/// One query in this many may be ordered by a better `matchType`.
const EXACTNESS: usize = 300;
/// One query in this many may make the oracle panic.
const PANICS: usize = 500;
/// Documents per corpus.
const DOCUMENTS: (usize, usize) = (40, 220);
/// The index on the plain node. As long as the shapes' names.
const PLAIN: &str = "plain";
/// The same without bounds on hits and facet values, to tell what may swap places.
const WHOLE: &str = "whole";

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| {
        text.parse().unwrap_or_else(|_| panic!("{name} must be a number, not {text:?}"))
    })
}

/// Miroir at some (S, RG, RF).
struct Shape {
    name: String,
    api: Api,
    miroir: Miroir,
}

async fn shape(all: &[Node], shards: u32, groups: &[&[usize]], copies: u32) -> Shape {
    let name = format!("s{shards:02}{}{copies}", groups.len());
    let mut builder = Miroir::builder().node_key(KEY).shards(shards).replication_factor(copies);
    for (group, members) in groups.iter().enumerate() {
        for member in *members {
            builder = builder.node(&format!("node-{member}"), &all[*member].url(), group as u32);
        }
    }
    let miroir = builder.build().await.unwrap();
    miroir.spawn_workers();
    Shape { api: Api::miroir(&miroir), name, miroir }
}
/// Whether some hit has a better `matchType` on the shapes' nodes than on the oracle. Which replicas answer
/// depends on the query but for its paging, so that it is asked as it is, too.
async fn better_match(oracle: &Api, shape: &Shape, query: &Value) -> bool {
    let mut own = query.as_object().unwrap().clone();
    for key in ["offset", "page", "hitsPerPage"] {
        own.remove(key);
    }
    own.insert("limit".into(), json!(100_000));
    for key in ["showRankingScore", "showRankingScoreDetails"] {
        own.insert(key.into(), json!(true));
    }
    let mut bare = own.clone();
    for key in ["distinct", "facets", "rankingScoreThreshold"] {
        bare.remove(key);
    }
    bare.insert("attributesToRetrieve".into(), json!(["id"]));
    let (own, bare) = (Value::Object(own), Value::Object(bare));
    let types = |answer: Answer| -> Vec<(String, u8)> {
        let hits = answer.body["hits"].as_array().cloned().unwrap_or_default();
        let rank =
            |hit: &Value| match hit["_rankingScoreDetails"]["exactness"]["matchType"].as_str() {
                Some("exactMatch") => 2,
                Some("matchesStart") => 1,
                _ => 0,
            };
        hits.iter().map(|hit| (hit["id"].to_string(), rank(hit))).collect()
    };
    let known = types(oracle.search(WHOLE, &bare).await);
    let mut found = types(shape.api.search(&shape.name, &bare).await);
    found.extend(types(shape.api.search(&shape.name, &own).await));
    found.iter().any(|(id, rank)| known.iter().any(|(other, best)| other == id && rank > best))
}

/// One corpus on the oracle and on all shapes.
struct Corpus<'a> {
    seed: u64,
    plain: &'a Api,
    /// Whether facet values come by count.
    by_count: bool,
    /// Whether hits are distinct by a setting.
    distinct: bool,
    highlights: Highlights,
    shapes: &'a [Shape],
    ids: Vec<String>,
    wrong: Vec<String>,
}

impl Corpus<'_> {
    fn report(&mut self, shape: &str, what: &str, request: &Value) {
        let mut text = String::new();
        let seed = self.seed;
        write!(text, "seed {seed}, {shape}: {request}\n  {what}").unwrap();
        self.wrong.push(text);
    }

    async fn search(&mut self, query: &Value) {
        let oracle = self.plain.search(PLAIN, query).await;
        if oracle.status == 500 {
            self.highlights.panics += 1;
            return;
        }
        let ranking = if oracle.status == 200 {
            let Some(ranking) = Ranking::of(self.plain, WHOLE, query).await else {
                self.highlights.panics += 1;
                return;
            };
            Some(ranking)
        } else {
            None
        };
        for shape in self.shapes {
            let mut answer = shape.api.search(&shape.name, query).await;
            rename(&mut answer, &shape.name);
            let what = compare_search(
                query,
                &oracle,
                ranking.as_ref(),
                &answer,
                (self.by_count, self.distinct || query.get("distinct").is_some()),
                &mut self.highlights,
            );
            if let Some(what) = what {
                if better_match(self.plain, shape, query).await {
                    self.highlights.exactness += 1;
                    continue;
                }
                let what = if answer.status == oracle.status && answer.status == 200 {
                    what
                } else {
                    format!("{what}: {} / {}", answer.body, oracle.body)
                };
                self.report(&shape.name, &what, query);
            }
        }
    }

    /// Reads one document.
    async fn document(&mut self, id: &str, parameters: &str) {
        let path = |index: &str| format!("/indexes/{index}/documents/{id}{parameters}");
        let oracle = self.plain.get(&path(PLAIN)).await;
        for shape in self.shapes {
            let mut answer = shape.api.get(&path(&shape.name)).await;
            rename(&mut answer, &shape.name);
            if answer.status != oracle.status || !same(&answer.body, &oracle.body) {
                let what = format!("{} / {}", answer.body, oracle.body);
                self.report(&shape.name, &what, &json!(path(PLAIN)));
            }
        }
    }

    /// Lists documents. `ordered`: the request leaves no ties.
    async fn list(&mut self, request: &Value, ordered: bool) {
        let path = |index: &str| format!("/indexes/{index}/documents/fetch");
        let oracle = self.plain.json("POST", &path(PLAIN), request).await;
        for shape in self.shapes {
            let mut answer = shape.api.json("POST", &path(&shape.name), request).await;
            rename(&mut answer, &shape.name);
            let equal = if ordered || oracle.status != 200 {
                answer.status == oracle.status && same(&answer.body, &oracle.body)
            } else {
                let set = |body: &Value| {
                    let list = body["results"].as_array().cloned().unwrap_or_default();
                    let mut list: Vec<String> = list.iter().map(canonical).collect();
                    list.sort();
                    (list, body["total"].clone(), body["limit"].clone(), body["offset"].clone())
                };
                set(&answer.body) == set(&oracle.body)
            };
            if !equal {
                let what = format!("{}\n  instead of\n    {}", answer.body, oracle.body);
                self.report(&shape.name, &what, request);
            }
        }
    }
}

/// A document as text, its keys in alphabetical order.
fn canonical(document: &Value) -> String {
    match document {
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort();
            let parts: Vec<String> =
                keys.iter().map(|key| format!("{key:?}:{}", canonical(&map[*key]))).collect();
            format!("{{{}}}", parts.join(","))
        }
        other => other.to_string(),
    }
}

/// Error texts name the index; all names are the oracle's from here on.
fn rename(answer: &mut Answer, name: &str) {
    if answer.status >= 400
        && let Some(text) = answer.body["message"].as_str()
    {
        answer.body["message"] = text.replace(&format!("`{name}`"), &format!("`{PLAIN}`")).into();
    }
}

async fn write(api: &Api, name: &str, writes: &[(&str, &str, Value)]) {
    let mut last = None;
    for (method, path, body) in writes {
        let path = path.replace("{uid}", name);
        let answer = api.json(method, &path, body).await;
        last = Some(api.finish(answer).await);
        assert_eq!(last.as_ref().unwrap()["status"], "succeeded", "{path}: {last:?}");
    }
    drop(last);
}

async fn corpus(
    seed: u64,
    plain: &Api,
    shapes: &[Shape],
    queries: usize,
) -> (Vec<String>, Highlights) {
    let mut rng = Rng(seed);
    let settings = corpus::settings(&mut rng);
    let count = rng.range(DOCUMENTS.0, DOCUMENTS.1);
    let mut documents = corpus::documents(&mut rng, count);
    let changed: Vec<Value> = (0..rng.below(8))
        .map(|_| {
            let id = rng.pick(&documents)["id"].clone();
            json!({"id": id, "title": format!("sunflower {}", corpus::word(&mut rng)), "pop": 9})
        })
        .collect();
    let gone: Vec<Value> = (0..rng.below(6)).map(|_| rng.pick(&documents)["id"].clone()).collect();
    let late = documents.split_off(count - count / 5);
    let ids: Vec<String> = documents
        .iter()
        .chain(&late)
        .map(|doc| doc["id"].as_str().map_or_else(|| doc["id"].to_string(), str::to_owned))
        .collect();
    let distinct = rng.chance(20);
    let mut writes = vec![
        ("POST", "/indexes/{uid}/documents?primaryKey=id", json!(documents)),
        ("PATCH", "/indexes/{uid}/settings", settings.clone()),
        ("POST", "/indexes/{uid}/documents/delete-batch", json!(gone)),
        ("POST", "/indexes/{uid}/documents", json!(late)),
        ("PUT", "/indexes/{uid}/documents", json!(changed)),
    ];
    if distinct {
        writes.push(("PATCH", "/indexes/{uid}/settings", json!({"distinctAttribute": "shade"})));
    }
    let loading = shapes.iter().map(|shape| write(&shape.api, &shape.name, &writes));
    tokio::join!(write(plain, PLAIN, &writes), futures_util::future::join_all(loading));
    write(plain, WHOLE, &writes).await;
    let unbounded = json!({"pagination": {"maxTotalHits": 100_000},
        "faceting": {"maxValuesPerFacet": 100_000}});
    write(plain, WHOLE, &[("PATCH", "/indexes/{uid}/settings", unbounded)]).await;

    let by_count = settings.pointer("/faceting/sortFacetValuesBy/*") == Some(&json!("count"));
    let highlights = Highlights::default();
    let wrong = Vec::new();
    let mut run = Corpus { seed, plain, by_count, distinct, highlights, shapes, ids, wrong };
    for at in 0..queries {
        match at % 10 {
            7 => {
                let id = if rng.chance(90) {
                    rng.pick(&run.ids).clone()
                } else {
                    ["nobody", "no%20body", "007"][rng.below(3)].to_owned()
                };
                let parameters =
                    ["", "", "?fields=id,title", "?fields=meta.lang&retrieveVectors=true"];
                run.document(&id, rng.pick::<&str>(&parameters)).await;
            }
            8 => {
                let mut request = Map::new();
                let ordered = rng.chance(70);
                if rng.chance(60) {
                    request.insert("filter".into(), corpus::filter(&mut rng));
                }
                if rng.chance(30) {
                    request.insert("fields".into(), json!(["id", "title", "price"]));
                }
                if ordered {
                    let first = ["price:asc", "pop:desc", "genre:asc", "meta.pages:desc"];
                    request.insert("sort".into(), json!([rng.pick(&first), "number:asc"]));
                    request.insert("offset".into(), json!(rng.below(30)));
                    request.insert("limit".into(), json!(rng.below(40)));
                } else {
                    request.insert("limit".into(), json!(1000));
                }
                run.list(&Value::Object(request), ordered).await;
            }
            _ => run.search(&corpus::search(&mut rng, distinct)).await,
        }
    }
    for (api, name) in
        shapes.iter().map(|s| (&s.api, s.name.as_str())).chain([(plain, PLAIN), (plain, WHOLE)])
    {
        let answer = api.delete(&format!("/indexes/{name}")).await;
        api.finish(answer).await;
    }
    (run.wrong, run.highlights)
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_do_not_depend_on_the_shape() {
    let cases = number("MIROIR_DIFF_CASES", 320) as usize;
    let per_corpus = number("MIROIR_DIFF_QUERIES", 40) as usize;
    let first = number("MIROIR_DIFF_SEED", 1);
    eprintln!("{cases} cases, {per_corpus} per corpus, from seed {first}, on {}", describe());
    let all = nodes(5).await;
    let plain = Api::at(all[0].url());
    let shapes = [
        shape(&all, 1, &[&[1]], 1).await,
        shape(&all, 16, &[&[1, 2, 3]], 1).await,
        shape(&all, 16, &[&[2, 3, 4]], 2).await,
        shape(&all, 7, &[&[1, 2], &[3, 4]], 2).await,
    ];
    let (mut wrong, mut done) = (Vec::new(), 0);
    let mut highlights = Highlights::default();
    for seed in first.. {
        if done >= cases {
            break;
        }
        let queries = per_corpus.min(cases - done);
        let (more, seen) = corpus(seed, &plain, &shapes, queries).await;
        wrong.extend(more);
        highlights.seen += seen.seen;
        highlights.other += seen.other;
        highlights.exactness += seen.exactness;
        highlights.panics += seen.panics;
        done += queries;
    }
    for shape in &shapes {
        shape.miroir.shutdown().await;
    }
    for text in wrong.iter().take(30) {
        eprintln!("{text}");
    }
    let Highlights { seen, other, exactness, panics } = highlights;
    eprintln!("{panics} queries made the oracle panic");
    assert!(panics <= 1 + done / PANICS, "the oracle panicked at {panics} of {done}");
    eprintln!("{exactness} queries had a better match type on a shard");
    assert!(exactness <= 1 + done / EXACTNESS, "{exactness} of {done} match types differ");
    eprintln!("{other} of {seen} formatted hits had other words highlighted");
    assert!(wrong.is_empty(), "{} mismatches in {done} cases", wrong.len());
    assert!(other * HIGHLIGHTS <= seen.max(HIGHLIGHTS), "{other} of {seen} highlights differ");
}
