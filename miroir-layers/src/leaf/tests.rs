//! Choice of replicas, hedging and the scores together, over nodes that take as long as they are
//! told, in paused time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ::http::Response as HttpResponse;
use bytes::Bytes;
use miroir_api::{GroupId, NodeId};
use miroir_core::hints::Hints;
use miroir_core::routing::standing::{mix, unit};
use miroir_core::routing::{Selection, ShardSet, Strategy};
use miroir_core::topology::{Node, Topology};
use miroir_core::view::Route;
use miroir_pipeline::cluster::ScatterOptions;
use miroir_pipeline::leaf::{Dispatch, Question, Request, Target};
use miroir_pipeline::node::{Call, Pool, Scores};
use miroir_pipeline::stage::{BoxService, Next, from_fn};
use miroir_pipeline::{Context, Stack, node};
use tokio::time::{Instant, sleep, sleep_until};
use tower::ServiceExt;

use crate::fixtures::{entry, topology};
use crate::leaf::{FailoverLayer, FailoverOptions, HedgeLayer, HedgeOptions};
use crate::node::LoadLayer;

const SHARDS: u32 = 64;
const EVERY: Duration = Duration::from_millis(10);

/// What nodes take, in milliseconds, and what became of searches.
struct Cluster {
    topology: Arc<Topology>,
    scores: Arc<Scores>,
    selection: Selection,
    leaves: BoxService<Request>,
    /// Of node `a`, and of the others.
    takes: Arc<[AtomicU64; 2]>,
    calls: Arc<Mutex<Vec<NodeId>>>,
}

impl Cluster {
    fn new(copies: u32, strategy: Strategy) -> Self {
        let topology = Arc::new(topology(3, copies));
        let scores = Arc::new(Scores::default());
        let takes = Arc::new([AtomicU64::new(4), AtomicU64::new(4)]);
        let calls: Arc<Mutex<Vec<NodeId>>> = Arc::default();
        let factory = {
            let (scores, takes, calls) =
                (Arc::clone(&scores), Arc::clone(&takes), Arc::clone(&calls));
            move |node: &Node| {
                let (id, takes, calls) = (node.id.clone(), Arc::clone(&takes), Arc::clone(&calls));
                let answers = from_fn(move |_: node::Request, _: Next<node::Request>| {
                    let nth = {
                        let mut calls = calls.lock().unwrap();
                        calls.push(id.clone());
                        calls.len() as u64
                    };
                    let usual = takes[usize::from(id.as_str() != "a")].load(Ordering::Relaxed);
                    // Half to twice of what it usually takes.
                    let millis = usual as f64 * 0.5 * 4_f64.powf(unit(mix(1, nth)));
                    async move {
                        sleep(Duration::from_secs_f64(millis / 1e3)).await;
                        Ok(HttpResponse::new(Bytes::from_static(b"{}")))
                    }
                });
                let (nobody, _) = miroir_test::mock::mock::<node::Request>();
                Stack::new()
                    .push(LoadLayer::new(&scores, &node.id))
                    .push_named("answers", answers)
                    .build(nobody)
            }
        };
        let pool = Pool::new(Arc::new(factory), &topology).unwrap();
        let hedge = HedgeLayer::new(Arc::clone(&scores), HedgeOptions::default());
        let leaves = Stack::new()
            .push(hedge)
            .push(FailoverLayer::new(FailoverOptions::default()))
            .build(Dispatch::new(pool, Arc::clone(&scores), ScatterOptions::default()))
            .unwrap();
        let selection = Selection { strategy, ..Selection::default() };
        Self { topology, scores, selection, leaves, takes, calls }
    }

    fn take(&self, first: u64, others: u64) {
        self.takes[0].store(first, Ordering::Relaxed);
        self.takes[1].store(others, Ordering::Relaxed);
    }

    /// Searches for so long; what they took, in order of length, and the share of calls at `a`, and
    /// calls in all.
    async fn search(&self, long: Duration, seed: u64) -> (Vec<Duration>, f64, usize) {
        let before = self.calls.lock().unwrap().len();
        let begun = Instant::now();
        let mut searches = Vec::new();
        for n in 0..(long.as_millis() / EVERY.as_millis()) as u32 {
            sleep_until(begun + EVERY * n).await;
            let now = Instant::now();
            let (sequence, draw) = (mix(seed, u64::from(2 * n)), mix(seed, u64::from(2 * n + 1)));
            let standings = self.scores.standings(&self.topology, &self.selection, now);
            let route = Route::choose(
                &self.topology,
                standings,
                &self.selection,
                &Hints::default(),
                sequence,
                draw,
            );
            let target =
                Target::Cover { shards: ShardSet::full(SHARDS), avoid: Vec::new(), chosen: None };
            let request = Request::new(
                target,
                Question::Plain(Arc::new(Call::get("search", "/indexes/a/search"))),
                Arc::new(entry("a", SHARDS)),
                Arc::clone(&self.topology),
                Arc::default(),
                route,
                Context::client("1", Duration::from_secs(10)),
            );
            let leaves = self.leaves.clone();
            searches.push(tokio::spawn(async move {
                let answer = leaves.oneshot(request).await.unwrap();
                assert!(answer.failed.is_empty() && answer.missing.is_empty());
                now.elapsed()
            }));
        }
        let mut took = Vec::new();
        for search in searches {
            took.push(search.await.unwrap());
        }
        took.sort_unstable();
        let calls = self.calls.lock().unwrap();
        let calls = &calls[before..];
        let own = calls.iter().filter(|node| node.as_str() == "a").count();
        (took, own as f64 / calls.len() as f64, calls.len())
    }
}

fn p99(took: &[Duration]) -> Duration {
    took[took.len() * 99 / 100]
}

#[tokio::test(start_paused = true)]
async fn a_slow_node_costs_neither_time_nor_many_calls() {
    for (copies, nodes) in [(3, 1), (2, 2)] {
        let cluster = Cluster::new(copies, Strategy::Adaptive);
        let (well, share, calls) = cluster.search(Duration::from_secs(20), 1).await;
        assert!((share - 1.0 / 3.0).abs() < 0.06, "{share}");
        assert!(calls <= well.len() * nodes * 102 / 100, "{calls}");

        cluster.take(500, 4);
        cluster.search(Duration::from_secs(5), 2).await;
        let (slow, share, calls) = cluster.search(Duration::from_secs(30), 3).await;
        let asked = slow.len() * nodes;
        assert!(share < 0.03, "{copies} copies: {share}");
        assert!(calls <= asked * 105 / 100, "{copies} copies: {calls} of {asked}");
        let usual = p99(&well).max(Duration::from_millis(15));
        assert!(p99(&slow) <= 2 * usual, "{copies} copies: {:?}, {usual:?}", p99(&slow));

        cluster.take(4, 4);
        cluster.search(Duration::from_secs(10), 4).await;
        let (_, share, _) = cluster.search(Duration::from_secs(20), 5).await;
        assert!((share - 1.0 / 3.0).abs() < 0.06, "{copies} copies: {share}");
    }
}

#[tokio::test(start_paused = true)]
async fn where_all_are_slow_nobody_is_asked_more_than_the_budget_allows() {
    let cluster = Cluster::new(3, Strategy::Adaptive);
    cluster.search(Duration::from_secs(20), 1).await;
    cluster.take(200, 200);
    let (took, share, calls) = cluster.search(Duration::from_secs(30), 2).await;
    // 5 percent, and the 20 that can be saved up.
    assert!(calls <= took.len() * 105 / 100 + 20, "{calls} for {}", took.len());
    assert!((share - 1.0 / 3.0).abs() < 0.08, "{share}");
}

#[tokio::test(start_paused = true)]
async fn round_robin_gives_a_slow_node_its_equal_share() {
    let cluster = Cluster::new(3, Strategy::RoundRobin);
    cluster.take(200, 4);
    let (_, share, _) = cluster.search(Duration::from_secs(20), 1).await;
    assert!((share - 1.0 / 3.0).abs() < 0.06, "{share}");
}

/// A busy node answers late, and one node would have been waited for.
#[tokio::test(start_paused = true)]
async fn a_read_is_waited_for_as_long_as_its_request_may_take() {
    for (timeout, waited) in [(None, 29), (Some(Duration::from_secs(2)), 2)] {
        let topology = Arc::new(topology(1, 1));
        let scores = Arc::new(Scores::default());
        let factory = move |_: &Node| {
            let answers = from_fn(move |request: node::Request, _: Next<node::Request>| {
                let call = request.extensions().get::<node::NodeCall>().expect("a call");
                let left = call.deadline.remaining();
                async move {
                    assert_eq!(left, Duration::from_secs(waited));
                    Ok(HttpResponse::new(Bytes::from_static(b"{}")))
                }
            });
            let (nobody, _) = miroir_test::mock::mock::<node::Request>();
            Stack::new().push_named("answers", answers).build(nobody)
        };
        let pool = Pool::new(Arc::new(factory), &topology).unwrap();
        let options = ScatterOptions { node_timeout: timeout, ..ScatterOptions::default() };
        let dispatch = Dispatch::new(pool, scores, options);
        let target =
            Target::Cover { shards: ShardSet::full(SHARDS), avoid: Vec::new(), chosen: None };
        let request = Request::new(
            target,
            Question::Plain(Arc::new(Call::get("search", "/indexes/a/search"))),
            Arc::new(entry("a", SHARDS)),
            topology,
            Arc::default(),
            Route::in_turn(vec![GroupId(0)], 0),
            Context::client("1", Duration::from_secs(30)),
        );
        let answer = dispatch.oneshot(request).await.unwrap();
        assert!(answer.failed.is_empty() && answer.missing.is_empty());
    }
}
