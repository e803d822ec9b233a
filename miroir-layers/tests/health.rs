//! Nodes that refuse connections or hang are noticed by their calls, not only by periodic checks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Response};
use miroir_api::NodeId;
use miroir_control::Miroir;
use miroir_core::topology::{Node, NodeStatus};
use miroir_layers::node::{DeadlineLayer, DeadlineOptions, LoadLayer};
use miroir_pipeline::context::{Context, Origin};
use miroir_pipeline::node::{Call, Scores};
use miroir_pipeline::stage::{Next, from_fn};
use miroir_pipeline::{Error, NodeFailure, Stack, node};
use serde_json::json;
use tokio::time::{Instant, sleep};

/// A node answers.
const WELL: u8 = 0;
/// Nobody listens at its address.
const REFUSES: u8 = 1;
/// It takes calls and answers none.
const HANGS: u8 = 2;
/// The next connection alone is refused.
const REFUSES_ONE: u8 = 3;
/// It answers checks, and searches after ten seconds.
const SLOW: u8 = 4;

struct Cluster {
    miroir: Miroir,
    /// What becomes of the first of three nodes.
    mode: Arc<AtomicU8>,
    checks: Arc<AtomicUsize>,
}

fn first() -> NodeId {
    NodeId::new("n0").unwrap()
}

async fn cluster() -> Cluster {
    let (mode, checks) = (Arc::new(AtomicU8::new(WELL)), Arc::new(AtomicUsize::new(0)));
    let scores = Arc::new(Scores::default());
    let factory = {
        let (mode, checks, scores) = (Arc::clone(&mode), Arc::clone(&checks), Arc::clone(&scores));
        move |node: &Node| {
            let (id, mode, checks) = (node.id.clone(), Arc::clone(&mode), Arc::clone(&checks));
            let answers = from_fn(move |request: node::Request, _: Next<node::Request>| {
                let (id, mode, checks) = (id.clone(), Arc::clone(&mode), Arc::clone(&checks));
                async move {
                    let health = request.uri().path() == "/health";
                    if id == first() {
                        checks.fetch_add(usize::from(health), Ordering::Relaxed);
                        match mode.load(Ordering::Relaxed) {
                            REFUSES => return Err(Error::node(&id, NodeFailure::Connect)),
                            REFUSES_ONE => {
                                mode.store(WELL, Ordering::Relaxed);
                                return Err(Error::node(&id, NodeFailure::Connect));
                            }
                            HANGS => std::future::pending().await,
                            SLOW if !health => sleep(Duration::from_secs(10)).await,
                            _ => {}
                        }
                    }
                    sleep(Duration::from_millis(2)).await;
                    let body = json!({"results": [], "status": "available"});
                    Ok(Response::new(Bytes::from(body.to_string())))
                }
            });
            let (nobody, _) = miroir_test::mock::mock::<node::Request>();
            Stack::new()
                .push(LoadLayer::new(&scores, &node.id))
                .push(DeadlineLayer::new(&node.id, DeadlineOptions { fallback: None }))
                .push_named("answers", answers)
                .build(nobody)
        }
    };
    let mut builder = Miroir::builder();
    for at in 0..3 {
        builder = builder.node(&format!("n{at}"), &format!("http://n{at}"), 0);
    }
    let miroir = builder
        .replication_factor(2)
        .scores(scores)
        .node_stack(Arc::new(factory))
        .build()
        .await
        .unwrap();
    miroir.spawn_workers();
    let cluster = Cluster { miroir, mode, checks };
    // Well after a periodic check, and well before the next.
    sleep(Duration::from_millis(11_500)).await;
    assert_eq!(cluster.status(), NodeStatus::Active);
    cluster
}

impl Cluster {
    fn status(&self) -> NodeStatus {
        self.miroir.cluster.state.membership.topology().node(&first()).unwrap().status()
    }

    /// Searches the first node, giving up after a minute.
    fn search(&self) -> tokio::task::JoinHandle<bool> {
        let state = Arc::clone(&self.miroir.cluster.state);
        tokio::spawn(async move {
            let patience = Duration::from_mins(1);
            let call = Call::read(Method::POST, "search", "/indexes/films/search").json("{}");
            let cx = Context::internal(Origin::Repair, patience);
            state.nodes.call_within(&first(), &call, &cx, patience).await.is_ok()
        })
    }

    /// How long it takes until this holds.
    async fn until(&self, holds: impl Fn(&Self) -> bool) -> Duration {
        let start = Instant::now();
        while !holds(self) {
            assert!(start.elapsed() < Duration::from_mins(1), "never");
            sleep(Duration::from_millis(10)).await;
        }
        start.elapsed()
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_refuses_connections_is_out_within_a_second() {
    let cluster = cluster().await;
    cluster.mode.store(REFUSES, Ordering::Relaxed);
    assert!(!cluster.search().await.unwrap());
    let took = cluster.until(|it| it.status() == NodeStatus::Failed).await;
    assert!(took <= Duration::from_secs(1), "{took:?}");
    // It is back, which is noticed long before the next periodic check, and stays.
    sleep(Duration::from_millis(700)).await;
    cluster.mode.store(WELL, Ordering::Relaxed);
    let took = cluster.until(|it| it.status() == NodeStatus::Active).await;
    assert!(took <= Duration::from_millis(2_100), "{took:?}");
    for _ in 0..600 {
        sleep(Duration::from_millis(100)).await;
        assert_eq!(cluster.status(), NodeStatus::Active);
    }
    cluster.miroir.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_hangs_is_out_within_three_seconds() {
    let cluster = cluster().await;
    cluster.mode.store(HANGS, Ordering::Relaxed);
    let call = cluster.search();
    let suspected = |it: &Cluster| it.miroir.cluster.state.nodes.scores.shunned() == [first()];
    let took = cluster.until(suspected).await;
    assert!(took <= Duration::from_secs(1), "suspected after {took:?}");
    let rest = cluster.until(|it| it.status() == NodeStatus::Failed).await;
    assert!(took + rest <= Duration::from_secs(3), "failed after {:?}", took + rest);
    call.abort();
    cluster.miroir.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn one_refused_connection_fails_nobody() {
    let cluster = cluster().await;
    for _ in 0..20 {
        cluster.mode.store(REFUSES_ONE, Ordering::Relaxed);
        assert!(!cluster.search().await.unwrap());
        assert!(cluster.search().await.unwrap());
        sleep(Duration::from_millis(170)).await;
        assert_eq!(cluster.status(), NodeStatus::Active);
    }
    cluster.miroir.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_of_half_a_second_fails_nobody() {
    let cluster = cluster().await;
    cluster.mode.store(REFUSES, Ordering::Relaxed);
    assert!(!cluster.search().await.unwrap());
    sleep(Duration::from_millis(500)).await;
    cluster.mode.store(WELL, Ordering::Relaxed);
    for _ in 0..200 {
        sleep(Duration::from_millis(100)).await;
        assert_eq!(cluster.status(), NodeStatus::Active);
    }
    cluster.miroir.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_call_that_takes_long_has_a_node_checked_and_not_failed() {
    let cluster = cluster().await;
    cluster.mode.store(SLOW, Ordering::Relaxed);
    let before = cluster.checks.load(Ordering::Relaxed);
    let call = cluster.search();
    sleep(Duration::from_secs(1)).await;
    assert!(cluster.checks.load(Ordering::Relaxed) > before, "checked at once");
    assert!(call.await.unwrap());
    assert_eq!(cluster.status(), NodeStatus::Active);
    assert!(cluster.miroir.cluster.state.nodes.scores.shunned().is_empty());
    cluster.miroir.shutdown().await;
}
