//! A tenant that floods, through the whole pipeline and over nodes of limited capacity. Time is
//! virtual: what is measured is who waits for whom, and not what this machine can do.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::Full;
use miroir_api::{GroupId, IndexUid};
use miroir_control::Miroir;
use miroir_core::topology::Node;
use miroir_layers::index::{TenantAffinityLayer, TenantAffinityOptions};
use miroir_layers::leaf::{FailoverLayer, HedgeLayer, HedgeOptions};
use miroir_layers::node::LoadLayer;
use miroir_pipeline::context::Principal;
use miroir_pipeline::http::Decode;
use miroir_pipeline::node::Scores;
use miroir_pipeline::stage::{Next, from_fn};
use miroir_pipeline::{Stack, node};
use miroir_store::{IndexEntry, memory};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tower::ServiceExt;

const ANSWER: &str =
    r#"{"hits":[],"query":"","processingTimeMs":1,"limit":20,"offset":0,"estimatedTotalHits":0}"#;

/// What a node works at at a time, and for how long.
const AT_A_TIME: usize = 4;
const WORK: Duration = Duration::from_millis(20);

/// Two groups of two nodes; the tenants `loud` and `quiet` have one each.
async fn service(affinity: bool) -> Decode {
    let stores = memory::open();
    let then = time::OffsetDateTime::UNIX_EPOCH;
    let entry = IndexEntry {
        primary_key: Some("id".to_owned()),
        settings_version: 1,
        ..IndexEntry::new(IndexUid::new("a").unwrap(), "a".to_owned(), 8, then)
    };
    assert!(stores.indexes.put(entry, None).await.unwrap());
    let scores = Arc::new(Scores::default());
    let figures = Arc::clone(&scores);
    let factory = move |node: &Node| {
        let capacity = Arc::new(Semaphore::new(AT_A_TIME));
        let works = from_fn(move |request: node::Request, _: Next<node::Request>| {
            let capacity = Arc::clone(&capacity);
            async move {
                if !request.uri().path().ends_with("/search") {
                    return Ok(Response::new(Bytes::from_static(b"{}")));
                }
                let _turn = capacity.acquire().await.expect("never closed");
                sleep(WORK).await;
                Ok(Response::new(Bytes::from_static(ANSWER.as_bytes())))
            }
        });
        let (nobody, _) = miroir_test::mock::mock::<node::Request>();
        Stack::new()
            .push(LoadLayer::new(&figures, &node.id))
            .push_named("works", works)
            .build(nobody)
    };
    let tenants = TenantAffinityOptions {
        static_map: [("loud".to_owned(), GroupId(0)), ("quiet".to_owned(), GroupId(1))].into(),
        ..TenantAffinityOptions::default()
    };
    let mut builder = Miroir::builder();
    for (at, group) in [0, 0, 1, 1].into_iter().enumerate() {
        builder = builder.node(&format!("n{at}"), &format!("http://{at}"), group);
    }
    let figures = Arc::clone(&scores);
    let miroir = builder
        .stores(stores)
        .scores(scores)
        .node_stack(Arc::new(factory))
        .leaves(
            Stack::new()
                .push(HedgeLayer::new(figures, HedgeOptions::default()))
                .push(FailoverLayer::default()),
        )
        .indexes(Stack::new().push_if(affinity.then(|| TenantAffinityLayer::new(tenants))))
        .build()
        .await
        .unwrap();
    miroir.http(Duration::from_secs(30))
}

/// How long a search took.
async fn search(service: Decode, tenant: &'static str, n: usize) -> Duration {
    let body = format!("{{\"q\":\"{tenant} {n}\"}}");
    let request = Request::builder()
        .method(Method::POST)
        .uri("/indexes/a/search")
        .header("content-type", "application/json")
        .header("x-miroir-tenant", tenant)
        .extension(Principal::MasterKey)
        .body(Full::new(Bytes::from(body)))
        .unwrap();
    let begun = Instant::now();
    let answer = service.oneshot(request).await.unwrap();
    assert_eq!(answer.status(), 200, "{tenant}");
    begun.elapsed()
}

/// The 50th and 99th percentile of a thousand searches of the quiet tenant, 100 a second, while the
/// loud one has so many searches under way all the time.
async fn quiet(affinity: bool, loud: usize) -> (Duration, Duration) {
    let service = service(affinity).await;
    let mut flood = JoinSet::new();
    for client in 0..loud {
        let service = service.clone();
        flood.spawn(async move {
            for n in client.. {
                search(service.clone(), "loud", n).await;
            }
        });
    }
    let mut searches = JoinSet::new();
    for n in 0..1_000 {
        searches.spawn(search(service.clone(), "quiet", n));
        sleep(Duration::from_millis(10)).await;
    }
    let mut took = searches.join_all().await;
    took.sort_unstable();
    (took[500], took[990])
}

#[tokio::test(start_paused = true)]
async fn a_flooding_tenant_does_not_slow_another_one() {
    let (p50, p99) = quiet(true, 0).await;
    assert!(p50 >= WORK, "{p50:?}: nobody worked");
    let (flooded_p50, flooded_p99) = quiet(true, 200).await;
    assert!(flooded_p50 <= p50.mul_f64(1.1), "p50 {p50:?}, flooded {flooded_p50:?}");
    assert!(flooded_p99 <= p99.mul_f64(1.1), "p99 {p99:?}, flooded {flooded_p99:?}");
}

/// What the tenants' layer is for: without it, the same flood is felt by all.
#[tokio::test(start_paused = true)]
async fn without_affinity_a_flood_is_felt_by_all() {
    let (_, p99) = quiet(false, 0).await;
    let (_, flooded) = quiet(false, 200).await;
    assert!(flooded > 3 * p99, "p99 {p99:?}, flooded {flooded:?}");
}
