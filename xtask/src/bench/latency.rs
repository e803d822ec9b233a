//! What Miroir adds to a request: stub nodes asked directly and through Miroir.
//!
//! A search goes to eight stubs at once. What it is compared with is the slowest of the same eight
//! stubs, asked at once by the load generator itself: no proxy can be faster than that.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::json;
use sha2::Sha256;

use super::load::{Target, compare, measure};
use super::options::BenchOptions;
use super::stub::Stub;
use super::table::Row;
use super::{megabytes, micros, process, ratio, row, time};
use crate::cluster::{MASTER_KEY, NODE_KEY, Server, apply};
use crate::guard::Scratch;
use crate::http::render;
use crate::options::Shape;
use crate::{Failure, Outcome};

/// Nodes, and shards, of the search that is measured.
const STUBS: usize = 8;

pub(super) fn run(options: &BenchOptions, server: &Path) -> Outcome<Vec<Row>> {
    eprintln!("added latency over {STUBS} stub nodes");
    let stubs = (0..STUBS).map(Stub::start).collect::<Outcome<Vec<_>>>()?;
    let urls: Vec<String> = stubs.iter().map(|stub| stub.url().to_owned()).collect();
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

    rows.extend(keys(options, &server, &searches[1])?);

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

/// What it costs to tell who may search what: an API key, and a token for a tenant signed with it.
fn keys(options: &BenchOptions, server: &Server, with_master_key: &Target) -> Outcome<Vec<Row>> {
    let key = json!({
        "uid": "11111111-1111-4111-8111-111111111111", "name": "bench",
        "actions": ["search"], "indexes": ["bench"], "expiresAt": null,
    });
    let reply = server.client().json("POST", "/keys", &key)?;
    let answer = reply.json();
    let Some(secret) = answer["key"].as_str() else {
        return Err(Failure::Message(format!("POST /keys answered {}: {answer}", reply.status)));
    };
    let (path, body) = ("/indexes/bench/search", json!({ "q": "two words" }));
    let token = tenant_token(secret, "11111111-1111-4111-8111-111111111111")?;
    let target = |name: &str, secret: &str| Target {
        name: name.to_owned(),
        requests: vec![render(&server.url, secret, "POST", path, Some(&body))],
        ..with_master_key.clone()
    };
    let all = [
        Target { name: "with the master key".to_owned(), ..with_master_key.clone() },
        target("an API key", secret),
        target("a tenant token with a filter", &token),
    ];
    let samples = compare(&all, 1, time(options))?;
    let master = samples[0].p50();
    Ok([1, 2]
        .map(|at: usize| {
            let own = samples[at].p50();
            row(
                format!("p50 of the same search with {}", all[at].name),
                micros(own),
                format!("{} {}", all[0].name, micros(master)),
                ratio(own.as_secs_f64(), master.as_secs_f64()),
                "",
            )
        })
        .into())
}

/// A JSON web token as clients sign it (RFC 7519, HS256).
fn tenant_token(key: &str, uid: &str) -> Outcome<String> {
    let claims =
        json!({ "apiKeyUid": uid, "searchRules": { "bench": { "filter": "tenant = 7" } } });
    let signed = [json!({ "alg": "HS256", "typ": "JWT" }), claims]
        .map(|part| URL_SAFE_NO_PAD.encode(part.to_string()))
        .join(".");
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes())
        .map_err(|_| "a key of no length signs nothing")?;
    mac.update(signed.as_bytes());
    Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())))
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
