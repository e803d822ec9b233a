//! Tests, with mocks.

mod pipeline;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use metrics_exporter_prometheus::PrometheusBuilder;
use miroir_core::documents::IdCase;
use miroir_core::filter::NotNarrowed;
use miroir_core::hints::{Hint, Hints, Priority};
use miroir_core::routing::{ShardSet, shard_of};
use miroir_pipeline::Placed;
use miroir_pipeline::context::Context;
use miroir_pipeline::explain::{Explain, WarningKind};
use miroir_pipeline::index::{Deletion, Operation, Request, Response, Union, Write};
use miroir_pipeline::meta::Meta;
use miroir_pipeline::query::{ClientRequest, FetchOne, List, RawObject, Search, SearchKind};
use miroir_test::contract::contract;
use miroir_test::layered;

use super::cache::Plans;
use super::*;
use crate::fixtures::{entry, topology};

const SHARDS: u32 = 64;

fn request(op: Operation) -> Request {
    let original = ClientRequest::new(http::Method::POST, "/search");
    let index = miroir_store::IndexEntry {
        id_case: IdCase { lower: true, upper: false },
        ..entry("a", SHARDS)
    };
    Request::new(
        op,
        Arc::new(original),
        Arc::new(index),
        Arc::new(topology(3, 1)),
        Arc::default(),
        Context::client("1", Duration::from_secs(1)),
    )
}

fn body(json: &str) -> RawObject {
    RawObject::parse(json.as_bytes()).unwrap()
}

fn search(kind: SearchKind, json: &str) -> Request {
    let search = Search { kind, body: Some(body(json)), rules: None };
    request(Operation::Search(Arc::new(search)))
}

fn hits(json: &str) -> Request {
    search(SearchKind::Hits, json)
}

fn list(json: &str) -> Request {
    request(Operation::List(Arc::new(List { body: Some(body(json)) })))
}

fn union(queries: &[&str]) -> Request {
    let queries = queries.iter().map(|json| body(json)).collect();
    let union = Union { queries, depth: 20, exhaustive: false, distinct: None, facets: None };
    request(Operation::Union(Arc::new(union)))
}

fn answer(nodes: usize) -> Response {
    let mut meta = Meta::default();
    meta.nodes = nodes;
    Response { status: http::StatusCode::OK, body: Bytes::from_static(b"{}"), meta }
}

/// The hints that come out of the layer.
async fn hints(layer: &QueryPlannerLayer, request: Request) -> Hints {
    let (mut service, mut inner) = layered(layer.clone());
    let call = service.spawn_call(request);
    let exchange = inner.next_request().await;
    let hints = exchange.request().hints.clone();
    exchange.respond(answer(1));
    call.await.unwrap();
    hints
}

fn of(ids: &[&str]) -> ShardSet {
    ShardSet::from_iter(ids.iter().map(|id| shard_of(id.as_bytes(), SHARDS)), SHARDS)
}

#[tokio::test(start_paused = true)]
async fn keeps_the_contract() {
    contract(QueryPlannerLayer::default(), || {
        request(Operation::Write { write: Write::Delete(Deletion::All), custom_metadata: None })
    })
    .await;
    contract(QueryPlannerLayer::default(), || hits("{\"q\":\"a\"}")).await;
    contract(QueryPlannerLayer::default(), || hits("{\"q\":\"a\",\"filter\":\"b = 1\"}")).await;
}

#[tokio::test(start_paused = true)]
async fn whatever_reads_by_filter_is_narrowed() {
    let layer = QueryPlannerLayer::default();
    let filter = "{\"filter\":[\"color = red\",\"id IN [1, 'AB']\"]}";
    for read in [
        hits(filter),
        search(SearchKind::Part, filter),
        search(SearchKind::FacetValues, filter),
        search(SearchKind::Similar, filter),
        list(filter),
        union(&["{\"filter\":\"id = ab\"}", "{\"q\":\"b\",\"filter\":\"id = 1\"}"]),
    ] {
        let kind = format!("{:?}", read.op);
        let asked = hints(&layer, read).await.shards;
        // The index never had an id with capital letters.
        let value = of(&["1", "ab"]);
        assert_eq!(
            asked,
            Some(Hint { value, by: QueryPlannerLayer::NAME, priority: Priority::Must }),
            "{kind}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_pinned_passes_as_it_came() {
    let layer = QueryPlannerLayer::default();
    let mut keyless = hits("{\"filter\":\"id = 1\"}");
    Arc::make_mut(&mut keyless.index).primary_key = None;
    let mut nested = hits("{\"filter\":\"a.b = 1\"}");
    Arc::make_mut(&mut nested.index).primary_key = Some("a.b".to_owned());
    let fetch = FetchOne { id: "1".to_owned(), query: None };
    let unread = Search { kind: SearchKind::Hits, body: None, rules: None };
    for (read, why) in [
        (hits("{\"q\":\"a\"}"), NotNarrowed::NoFilter),
        (hits("{\"filter\":null}"), NotNarrowed::NoFilter),
        (hits("{\"filter\":[]}"), NotNarrowed::NoFilter),
        (hits("{\"filter\":\"id = 1 OR color = red\"}"), NotNarrowed::NotPinned),
        (hits("{\"filter\":\"id = 1 and id = 1\"}"), NotNarrowed::Unread),
        (hits("{\"filter\":7}"), NotNarrowed::Unread),
        (keyless, NotNarrowed::NoKey),
        (nested, NotNarrowed::NestedKey),
        (union(&["{\"filter\":\"id = 1\"}", "{\"q\":\"b\"}"]), NotNarrowed::NoFilter),
        (union(&["{\"filter\":\"id = 1\"}", "{\"filter\":\"b = 1\"}"]), NotNarrowed::NotPinned),
        (request(Operation::FetchOne(Arc::new(fetch))), NotNarrowed::NoFilter),
        (request(Operation::Search(Arc::new(unread))), NotNarrowed::NoFilter),
    ] {
        assert_eq!(layer.plan(&read), Err(why));
        assert!(!why.to_string().is_empty());
        assert_eq!(hints(&layer, read).await.shards, None, "{why}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_number_of_literals_is_bounded() {
    let options =
        QueryPlannerOptions { max_pk_literals_narrowable: 2, ..QueryPlannerOptions::default() };
    let layer = QueryPlannerLayer::new(options);
    let two = hits("{\"filter\":\"id IN [1, 2, 2]\"}");
    assert_eq!(layer.plan(&two).unwrap().ids, 2);
    let three = hits("{\"filter\":\"id IN [1, 2, 3]\"}");
    assert_eq!(layer.plan(&three), Err(NotNarrowed::TooMany));
}

#[tokio::test(start_paused = true)]
async fn shards_that_another_layer_asked_for_stay() {
    let mut read = hits("{\"filter\":\"id = 1\"}");
    read.hints.shards(of(&["9"]), "other", Priority::Prefer);
    let asked = hints(&QueryPlannerLayer::default(), read).await.shards.unwrap();
    assert_eq!((asked.value, asked.by), (of(&["9"]), "other"));
}

#[tokio::test(start_paused = true)]
async fn who_asks_is_told_why_ids_did_not_narrow() {
    let layer = QueryPlannerLayer::default();
    for (filter, warns) in [
        ("id = 1", None),
        ("color = red", None),
        ("id = 1 OR color = red", Some("does not pin the primary key")),
        ("id > 1", Some("does not pin the primary key")),
    ] {
        let mut read = hits(&format!("{{\"filter\":\"{filter}\"}}"));
        let explain = Explain::new(false);
        read.cx.explain = Some(Arc::clone(&explain));
        hints(&layer, read).await;
        let warnings = explain.record().warnings;
        assert_eq!(warnings.len(), usize::from(warns.is_some()), "{filter}");
        for (warning, why) in warnings.iter().zip(warns) {
            assert_eq!(warning.kind, WarningKind::Narrowing);
            assert!(warning.text.contains("`id`") && warning.text.contains(why), "{warning:?}");
        }
    }
}

/// A filter whose ids are in all shards narrows nothing.
#[tokio::test(start_paused = true)]
async fn all_shards_are_no_hint() {
    let mut read = hits("{\"filter\":\"id IN [1,2,3,4,5,6,7,8,9,10]\"}");
    Arc::make_mut(&mut read.index).shards = 2;
    assert_eq!(hints(&QueryPlannerLayer::default(), read).await.shards, None);
}

#[test]
fn plans_are_kept_and_bounded() {
    let keys =
        |id_case, shards| miroir_core::filter::Keys { primary_key: Some("id"), id_case, shards };
    let plans = Plans::new(8);
    let first = plans.plan("\"id = a\"", &keys(IdCase::ANY, 64));
    assert!(Arc::ptr_eq(&first, &plans.plan("\"id = a\"", &keys(IdCase::ANY, 64))));
    // Another number of shards, or what is known of ids, is another plan.
    for keys in [keys(IdCase::NONE, 64), keys(IdCase::ANY, 63)] {
        assert_ne!(first, plans.plan("\"id = a\"", &keys));
    }
    assert_eq!(plans.size().0, 3);
    for at in 0..4000 {
        let filter = format!("\"id = {at} AND b = '{}'\"", "x".repeat(10_000));
        plans.plan(&filter, &keys(IdCase::ANY, 16_384));
    }
    let (count, bytes) = plans.size();
    assert!(count > 500 && bytes <= 16 * 1024 * 1024, "{count} plans, {bytes} bytes");
}

#[test]
fn metrics_tell_what_was_narrowed() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    metrics::with_local_recorder(&recorder, || {
        runtime.unwrap().block_on(async {
            let layer = QueryPlannerLayer::default();
            for json in ["id = 1", "id = 2", "id = 1", "color = red"] {
                let (mut service, mut inner) = layered(layer.clone());
                let json = format!("{{\"filter\":\"{json}\"}}");
                let call = service.spawn_call(hits(&json));
                inner.next_request().await.respond(answer(3));
                call.await.unwrap();
            }
            hints(&layer, hits("{\"q\":\"a\"}")).await;
        });
    });
    let text = handle.render();
    for line in [
        "miroir_query_plan_narrowable_total{narrowed=\"yes\"} 3",
        "miroir_query_plan_narrowable_total{narrowed=\"no\"} 1",
        "miroir_query_plan_narrowing_ratio 0.75",
        "miroir_query_plan_fanout_size_count 4",
        "miroir_query_plan_fanout_size_sum 12",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}
