//! What Miroir adds to a request: stub nodes asked directly and through Miroir.
//!
//! A search goes to eight stubs at once. What it is compared with is the slowest of the same eight
//! stubs, asked at once by the load generator itself: no proxy can be faster than that.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::json;

use super::load::{Target, compare, measure};
use super::stub::Stub;
use super::table::Row;
use super::{megabytes, micros, process, row, time};
use crate::Outcome;
use crate::arguments::{BenchOptions, Shape};
use crate::cluster::{MASTER_KEY, NODE_KEY, Server, apply};
use crate::guard::Scratch;
use crate::http::render;

/// Nodes, and shards, of the search that is measured.
const STUBS: usize = 8;

pub(super) fn run(options: &BenchOptions, server: &Path) -> Outcome<Vec<Row>> {
    eprintln!("added latency over {STUBS} stub nodes");
    let stubs = (0..STUBS).map(Stub::start).collect::<Outcome<Vec<_>>>()?;
    let urls: Vec<String> = stubs.iter().map(|stub| stub.url.clone()).collect();
    let scratch = Scratch::new("bench", false)?;
    // Enough shards that every stub has some.
    let shape = Shape { shards: 64, groups: 1, factor: 1, nodes: Some(STUBS as u32) };
    let server = Server::start(server, &urls, shape, None, scratch.path())?;
    apply(
        &mut server.client(),
        "POST",
        "/indexes",
        &json!({ "uid": "bench", "primaryKey": "id" }),
    )?;
    let mut rows = Vec::new();
    let idle = process::resident(server.id())?;

    let target = |name: &str, urls: &[String], requests: Vec<Vec<u8>>| Target {
        name: name.to_owned(),
        urls: urls.to_vec(),
        requests,
        processes: Vec::new(),
    };
    let proxy = [server.url.clone()];
    let search = |url: &str, key: &str| {
        let path = "/indexes/bench/search";
        vec![render(url, key, "POST", path, Some(&json!({ "q": "two words" })))]
    };
    let searches = [
        target("the slowest of the stubs", &urls, search(&urls[0], NODE_KEY)),
        target("Miroir", &proxy, search(&server.url, MASTER_KEY)),
    ];
    rows.extend(added(options, &searches, "a search over 8 nodes", "≤ 250 µs", "≤ 800 µs")?);

    let documents = |url: &str, key: &str| -> Vec<Vec<u8>> {
        (0..64)
            .map(|id| render(url, key, "GET", &format!("/indexes/bench/documents/{id}"), None))
            .collect()
    };
    let reads = [
        target("one stub", &urls[..1], documents(&urls[0], NODE_KEY)),
        target("Miroir", &proxy, documents(&server.url, MASTER_KEY)),
    ];
    rows.extend(added(options, &reads, "a read of one document", "≤ 100 µs", "≤ 300 µs")?);

    let stop = AtomicBool::new(false);
    let (sample, most) = thread::scope(|scope| -> Outcome<_> {
        let watcher = scope.spawn(|| process::peak(server.id(), &stop));
        let sample = measure(&searches[1], options.connections, time(options));
        stop.store(true, Ordering::Relaxed);
        let most = watcher.join().map_err(|_| "the watcher panicked")?;
        Ok((sample?, most?))
    })?;
    rows.push(row("resident memory, idle", megabytes(idle), "", "", "≤ 25 MB"));
    rows.push(row(
        format!(
            "resident memory at {:.0} searches/s on {} connections",
            sample.throughput(),
            options.connections
        ),
        megabytes(most),
        "",
        "",
        "≤ 64 MB at 1,000 searches/s",
    ));
    drop(server);
    Ok(rows)
}

/// Two rows: the difference of medians and of 99th percentiles on one connection.
fn added(
    options: &BenchOptions,
    targets: &[Target; 2],
    what: &str,
    p50: &str,
    p99: &str,
) -> Outcome<Vec<Row>> {
    let samples = compare(targets, 1, time(options))?;
    let (direct, miroir) = (&samples[0], &samples[1]);
    Ok([("p50", direct.p50(), miroir.p50(), p50), ("p99", direct.p99(), miroir.p99(), p99)]
        .into_iter()
        .map(|(name, direct, miroir, limit)| {
            row(
                format!("{name} added to {what} (stubs)"),
                micros(miroir),
                format!("{} {}", targets[0].name, micros(direct)),
                format!("+{}", micros(miroir.saturating_sub(direct))),
                limit,
            )
        })
        .collect())
}
