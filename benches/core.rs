//! The pure core: routing a document, decoding leaves' answers, merging them.

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput};
use miroir::documents::{Format, IdCase, split};
use miroir::filter::{Keys, narrow};
use miroir::hints::Hints;
use miroir::leaf::choose;
use miroir::merge::{HitOptions, Page, merge_hits};
use miroir::node::Scores;
use miroir::routing::{Selection, ShardSet, shard_of};
use miroir::store::IndexEntry;
use miroir::topology::{Node, Topology};
use miroir::view::Route;
use miroir::view::StaleMap;
use miroir_api::{GroupId, IndexUid, NodeId};
use tokio::time::Instant;

/// One leaf's answer with `hits` hits, in ranking order: scores go down with the position.
fn answer(leaf: usize, hits: usize) -> Bytes {
    let mut body = String::from("{\"hits\":[");
    for at in 0..hits {
        if at > 0 {
            body.push(',');
        }
        // Typos rise slowly, so that leaves interleave and ties of the first rules are common.
        let (typos, sort) = (at * 3 / hits.max(1), (at * 7 + leaf) % 1000);
        let rank = (4 - typos) as f64 / 4.0;
        // What the engine computes from 2 of 2 words and these typos: merging checks it.
        let score = (8 - typos) as f64 / 8.0;
        write!(
            body,
            "{{\"id\":\"{leaf}-{at}\",\"title\":\"A title of usual length\",\"overview\":\"{:0200}\",\
             \"_rankingScore\":{score},\"_rankingScoreDetails\":{{\
             \"words\":{{\"order\":0,\"matchingWords\":2,\"maxMatchingWords\":2,\"score\":1.0}},\
             \"typo\":{{\"order\":1,\"typoCount\":{typos},\"maxTypoCount\":3,\"score\":{rank}}},\
             \"pop:desc\":{{\"order\":2,\"value\":{}.0}}}}}}",
            at,
            100_000 - at * 1000 - sort
        )
        .expect("strings take everything");
    }
    body.push_str("],\"query\":\"q\",\"processingTimeMs\":1,\"limit\":20,\"offset\":0,");
    body.push_str("\"estimatedTotalHits\":1000}");
    Bytes::from(body)
}

fn routing(c: &mut Criterion) {
    let mut group = c.benchmark_group("routing");
    for key in ["42", "product-0012345", "7c9e6679-7425-40de-944b-e07fc1f90ae7"] {
        group.bench_with_input(BenchmarkId::new("shard_of", key.len()), key, |b, key| {
            b.iter(|| shard_of(black_box(key.as_bytes()), 64));
        });
    }
    group.finish();
}

/// Filters that the planner reads, as JSON, and what it finds.
fn planning(c: &mut Criterion) {
    let id_case = IdCase { lower: true, upper: false };
    let keys = Keys { primary_key: Some("id"), id_case, shards: 64 };
    let ids: Vec<String> = (0..100).map(|at| format!("\\\"product-{at}\\\"")).collect();
    let mut group = c.benchmark_group("narrow");
    for (name, filter) in [
        ("one id", "\"id = 'product-0012345'\"".to_owned()),
        ("100 ids", format!("[\"id IN [{}]\", \"color = red OR price < 10\"]", ids.join(", "))),
        (
            "no id",
            "\"(color = red OR color = blue) AND price 10 TO 20 AND NOT sold = 1\"".to_owned(),
        ),
    ] {
        group.bench_function(name, |b| b.iter(|| narrow(Some(black_box(&filter)), &keys, 128)));
    }
    group.finish();
}

/// A payload of 1,000 documents of about 300 bytes, cut into documents.
fn splitting(c: &mut Criterion) {
    let mut payload = String::from("[");
    for at in 0..1000 {
        let comma = if at > 0 { "," } else { "" };
        write!(payload, "{comma}{{\"id\":{at},\"title\":\"A title\",\"overview\":\"{at:0250}\"}}")
            .expect("strings take everything");
    }
    payload.push(']');
    let payload = Bytes::from(payload);
    let mut group = c.benchmark_group("split");
    group.throughput(Throughput::Elements(1000));
    group.bench_function("json 1000", |b| {
        b.iter(|| split(Format::Json, black_box(&payload)).map(|documents| documents.len()).ok());
    });
    group.finish();
}

fn leaves(c: &mut Criterion) {
    for (hits, leaves) in [(20, 8), (1000, 3), (1000, 64)] {
        let bodies: Vec<Bytes> = (0..leaves).map(|leaf| answer(leaf, hits)).collect();
        let pages: Vec<Page> =
            bodies.iter().map(|body| Page::decode(body).expect("the answer is one")).collect();
        let shape = format!("{hits}x{leaves}");
        let mut group = c.benchmark_group("decode");
        group.throughput(Throughput::Bytes(bodies.iter().map(|body| body.len() as u64).sum()));
        group.bench_function(&shape, |b| {
            b.iter(|| bodies.iter().filter_map(|body| Page::decode(black_box(body)).ok()).count());
        });
        group.finish();
        let options = HitOptions { limit: hits, ..HitOptions::default() };
        let scored = HitOptions { show_score: true, ..options.clone() };
        let mut group = c.benchmark_group("merge");
        group.bench_function(&shape, |b| b.iter(|| merge_hits(black_box(&pages), &options)));
        group.bench_function(format!("{shape} with scores"), |b| {
            b.iter(|| merge_hits(black_box(&pages), &scored));
        });
        let merged = merge_hits(&pages, &options);
        group.bench_function(format!("{shape} write"), |b| {
            let mut out = Vec::new();
            b.iter(|| {
                out.clear();
                merged.write(&pages, &options, &mut out);
                out.len()
            });
        });
        group.finish();
    }
}

/// Comparing six nodes and covering 64 shards with them: two groups of three, two copies each.
fn choosing(c: &mut Criterion) {
    let nodes = (0..6_u32).filter_map(|at| {
        let id = NodeId::new(&format!("node-{at}")).ok()?;
        Some(Node::new(id, format!("http://{at}"), GroupId(at / 3)))
    });
    let topology = Topology::new(nodes.collect(), 2).expect("six nodes are a cluster");
    let then = time::OffsetDateTime::UNIX_EPOCH;
    let uid = IndexUid::new("a").expect("a valid constant");
    let index = IndexEntry::new(uid, "a".to_owned(), 64, then);
    let (selection, scores, stale) = (Selection::default(), Scores::default(), StaleMap::default());
    let now = Instant::now();
    let mut group = c.benchmark_group("choose");
    for (name, slow) in [("64x6", 2), ("64x6 one slow", 500)] {
        for node in topology.nodes() {
            let takes = if node.id.as_str() == "node-0" { slow } else { 2 };
            for n in 0..40 {
                let at = now + Duration::from_millis(500 * n);
                scores.node(&node.id).answered(Duration::from_millis(takes), at);
            }
        }
        let now = now + Duration::from_secs(20);
        let all = ShardSet::full(64);
        let mut n = 0;
        group.bench_function(name, |b| {
            b.iter(|| {
                n += 1;
                let standings = scores.standings(&topology, &selection, now);
                let route =
                    Route::choose(&topology, standings, &selection, &Hints::default(), n, n);
                choose(&topology, &index, &stale, &route, black_box(&all), &[], &scores)
            });
        });
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    routing(&mut criterion);
    planning(&mut criterion);
    splitting(&mut criterion);
    leaves(&mut criterion);
    choosing(&mut criterion);
    criterion.final_summary();
}
