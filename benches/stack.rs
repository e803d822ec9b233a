//! What each layer of the default stack costs: one search over nodes that answer at once, with one
//! more layer each time, outermost last. The difference of two neighbours is one layer's share: the
//! median of what it was in many short rounds.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Response};
use http_body_util::Full;
use miroir::cluster::aliases::AliasTable;
use miroir::context::Principal;
use miroir::http::Decode;
use miroir::keyring::Keyring;
use miroir::node::{self, Scores};
use miroir::stage::BoxService;
use miroir::store::records::{Alias, AliasTarget};
use miroir::store::{IndexEntry, memory};
use miroir::{Builder, Stack, index, leaf, operation};
use miroir_api::IndexUid;
use miroir_layers::index::{
    QueryCoalescingLayer, QueryPlannerLayer, ReservedFieldsLayer, ReservedFieldsOptions,
    SessionPinningLayer, SessionPinningOptions, TenantAffinityLayer, TenantAffinityOptions,
};
use miroir_layers::leaf::{FailoverLayer, FailoverOptions, HedgeLayer, HedgeOptions};
use miroir_layers::node::{
    BreakerLayer, BreakerOptions, CredentialsLayer, DeadlineLayer, DeadlineOptions, LimitLayer,
    LimitOptions, LoadLayer, MetricsLayer,
};
use miroir_layers::operation::{
    AliasLayer, AuthorizeLayer, AuthorizeOptions, IdempotencyLayer, IdempotencyOptions,
};
use tokio::runtime::Runtime;
use tower::ServiceExt;

/// Rounds, and searches of one stack in a round.
const ROUNDS: usize = 150;
const SEARCHES: u32 = 50;

/// The layers, in the order in which they are added: innermost of the innermost stage first.
const LAYERS: &[&str] = &[
    "none",
    "credentials",
    "limit",
    "deadline",
    "load",
    "breaker",
    "node metrics",
    "failover",
    "hedge",
    "coalesce",
    "query planner",
    "stamp",
    "tenant affinity",
    "session pinning",
    "alias",
    "idempotency",
    "authorize",
];

/// A node that answers at once: 20 hits for a search, default settings otherwise.
fn instant() -> BoxService<node::Request> {
    let hits: Vec<String> = (0..20)
        .map(|at| {
            format!(
                "{{\"id\":{at},\"title\":\"A title of usual length\",\"_rankingScore\":1.0,\
                 \"_rankingScoreDetails\":{{\"words\":{{\"order\":0,\"matchingWords\":2,\
                 \"maxMatchingWords\":2,\"score\":1.0}}}}}}"
            )
        })
        .collect();
    let page = Bytes::from(format!(
        "{{\"hits\":[{}],\"query\":\"two words\",\"processingTimeMs\":0,\"limit\":20,\"offset\":0,\
         \"estimatedTotalHits\":1000}}",
        hits.join(",")
    ));
    BoxService::new(tower::service_fn(move |request: node::Request| {
        let search = request.uri().path().ends_with("/search");
        let body = if search { page.clone() } else { Bytes::from_static(b"{}") };
        std::future::ready(Ok(Response::new(body)))
    }))
}

/// The pipeline over `nodes` instant nodes with the first `layers` of [`LAYERS`].
async fn pipeline(nodes: u32, layers: usize) -> miroir::bare::Miroir {
    let on = |name: &str| LAYERS.iter().take(layers).any(|layer| *layer == name);
    let scores = Arc::new(Scores::default());
    let switches: Vec<bool> = LAYERS.iter().map(|layer| on(layer)).collect();
    let has = move |name: &str| LAYERS.iter().zip(&switches).any(|(n, on)| *n == name && *on);
    let node_scores = Arc::clone(&scores);
    let node_has = has.clone();
    let factory = move |node: &miroir::topology::Node| {
        let (id, scores) = (&node.id, &node_scores);
        let credentials = CredentialsLayer::new("key").expect("a valid key");
        Stack::new()
            .push_if(node_has("node metrics").then(|| MetricsLayer::new(id)))
            .push_if(
                node_has("breaker")
                    .then(|| BreakerLayer::new(scores, id, BreakerOptions::default())),
            )
            .push_if(node_has("load").then(|| LoadLayer::new(scores, id)))
            .push_if(
                node_has("deadline").then(|| DeadlineLayer::new(id, DeadlineOptions::default())),
            )
            .push_if(node_has("limit").then(|| LimitLayer::new(id, LimitOptions::default())))
            .push_if(node_has("credentials").then_some(credentials))
            .build(instant())
    };
    let (failover, stamp, authorize) = (has("failover"), has("stamp"), has("authorize"));
    let (planner, coalesce) = (has("query planner"), has("coalesce"));
    let (hedge, tenant, session) = (has("hedge"), has("tenant affinity"), has("session pinning"));
    let (alias, idempotency) = (has("alias"), has("idempotency"));
    let stores = memory::open();
    let operations = stores.clone();
    let (all, figures) = (stores.clone(), Arc::clone(&scores));
    let leaf_scores = Arc::clone(&scores);
    // Some alias is there, though not the one that is asked for.
    let other = Alias {
        name: IndexUid::new("other").expect("a valid name"),
        target: AliasTarget::One(IndexUid::new("bench").expect("a valid name")),
        version: 1,
        owner: None,
        created_at: time::OffsetDateTime::UNIX_EPOCH,
        history: Vec::new(),
    };
    let table = Arc::new(AliasTable::of([other]));
    let entry = IndexEntry {
        primary_key: Some("id".to_owned()),
        settings_version: 1,
        version: 1,
        ..IndexEntry::new(
            IndexUid::new("bench").expect("a valid name"),
            "bench".to_owned(),
            64,
            time::OffsetDateTime::UNIX_EPOCH,
        )
    };
    stores.indexes.put(entry, None).await.expect("memory does not fail");
    let mut builder = Builder::bare()
        .stores(stores)
        .scores(scores)
        .node_stack(Arc::new(factory))
        .leaves(
            Stack::<leaf::Request>::new()
                .push_if(hedge.then(|| HedgeLayer::new(leaf_scores, HedgeOptions::default())))
                .push_if(failover.then(|| FailoverLayer::new(FailoverOptions::default()))),
        )
        .indexes(
            Stack::<index::Request>::new()
                .push_if(session.then(|| {
                    SessionPinningLayer::new(&all, figures, SessionPinningOptions::default())
                }))
                .push_if(tenant.then(|| TenantAffinityLayer::new(TenantAffinityOptions::default())))
                .push_if(stamp.then(|| ReservedFieldsLayer::new(ReservedFieldsOptions::default())))
                .push_if(planner.then(QueryPlannerLayer::default))
                .push_if(coalesce.then(QueryCoalescingLayer::default)),
        )
        .operations(
            Stack::<operation::Request>::new()
                .push_if(authorize.then(|| AuthorizeLayer::new(AuthorizeOptions::default())))
                .push_if(idempotency.then(|| {
                    let keyring = Arc::new(Keyring::new(None));
                    IdempotencyLayer::new(&operations, keyring, IdempotencyOptions::default())
                }))
                .push_if(alias.then(|| AliasLayer::new(table))),
        );
    for at in 0..nodes {
        builder = builder.node(&format!("n{at}"), &format!("http://instant-{at}"), 0);
    }
    builder.build().await.expect("a valid pipeline")
}

fn request() -> http::Request<Full<Bytes>> {
    let mut request = http::Request::builder()
        .method(Method::POST)
        .uri("/indexes/bench/search")
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from_static(b"{\"q\":\"two words\"}")))
        .expect("a valid request");
    request.extensions_mut().insert(Principal::MasterKey);
    request
}

/// What one search takes, in microseconds.
fn time(runtime: &Runtime, service: &Decode) -> f64 {
    let begun = Instant::now();
    for _ in 0..SEARCHES {
        let answer = runtime.block_on(service.clone().oneshot(black_box(request())));
        assert!(answer.is_ok_and(|answer| answer.status() == 200), "it answers");
    }
    begun.elapsed().as_secs_f64() * 1e6 / f64::from(SEARCHES)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for nodes in [1, 8] {
        let stacks: Vec<_> = (1..=LAYERS.len())
            .map(|layers| runtime.block_on(pipeline(nodes, layers)))
            .map(|miroir| (miroir.http(Duration::from_secs(30)), miroir))
            .collect();
        // In turn, each next to its neighbour: what the machine does meanwhile meets both.
        let mut times = vec![Vec::new(); stacks.len()];
        for _ in 0..ROUNDS {
            for ((service, _), times) in stacks.iter().zip(&mut times) {
                times.push(time(&runtime, service));
            }
        }
        println!("| a search over {nodes} nodes with | µs | more than before |");
        println!("| --- | ---: | ---: |");
        for (at, name) in LAYERS.iter().enumerate() {
            let more = |before: usize| {
                median(times[at].iter().zip(&times[before]).map(|(a, b)| a - b).collect())
            };
            let more = if at == 0 { String::new() } else { format!("{:+.1}", more(at - 1)) };
            println!("| {name} | {:.1} | {more} |", median(times[at].clone()));
        }
        let all = LAYERS.len() - 1;
        let whole = times[all].iter().zip(&times[0]).map(|(a, b)| a - b).collect();
        println!("| all of them | | {:+.1} |", median(whole));
    }
}
