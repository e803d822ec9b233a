//! Several pods over one store in memory, in time that a test controls.

mod epochs;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use miroir_api::{IndexUid, NodeId};
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::follow::step;
use super::*;
use crate::Miroir;
use crate::runtime::{Candidate, ElectedTask, Term, elected};
use miroir_core::view::{CatchUp, StaleReplica};
use miroir_pipeline::cluster::leadership::LeaderMessage;
use miroir_pipeline::cluster::{ClusterState, PodName};
use miroir_pipeline::error::Error;
use miroir_store::{
    Fence, IndexChange, IndexEntry, Indexes, Lease, Leases, Part, PodReport, Pods, Roster,
    StoreError, StoreFuture, Stores, clock, memory,
};

/// Time as the tests' runtime has it.
#[derive(Debug)]
struct Virtual<T: ?Sized> {
    begin: Instant,
    away: Arc<AtomicBool>,
    inner: Arc<T>,
}

impl<T: ?Sized> Virtual<T> {
    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH + self.begin.elapsed()
    }

    fn call<'a, A: Send + 'a>(&self, answer: StoreFuture<'a, A>) -> StoreFuture<'a, A> {
        if self.away.load(Ordering::Relaxed) {
            return Box::pin(async { Err(StoreError::Backend("away".into())) });
        }
        answer
    }
}

impl Leases for Virtual<dyn Leases> {
    fn acquire(
        &self,
        scope: &str,
        holder: &str,
        _: OffsetDateTime,
        ttl: Duration,
    ) -> StoreFuture<'_, Option<Lease>> {
        self.call(self.inner.acquire(scope, holder, self.now(), ttl))
    }
    fn renew(&self, lease: &Lease, _: OffsetDateTime, ttl: Duration) -> StoreFuture<'_, bool> {
        self.call(self.inner.renew(lease, self.now(), ttl))
    }
    fn release(&self, lease: &Lease, _: OffsetDateTime) -> StoreFuture<'_, bool> {
        self.call(self.inner.release(lease, self.now()))
    }
}

impl Pods for Virtual<dyn Pods> {
    fn report(&self, pod: PodReport, _: OffsetDateTime, ttl: Duration) -> StoreFuture<'_, Roster> {
        self.call(self.inner.report(pod, self.now(), ttl))
    }
    fn roster(&self, _: OffsetDateTime) -> StoreFuture<'_, Roster> {
        self.call(self.inner.roster(self.now()))
    }
    fn bump_epoch(&self, parts: &[Part]) -> StoreFuture<'_, u64> {
        self.call(self.inner.bump_epoch(parts))
    }
    fn leave(&self, name: &str) -> StoreFuture<'_, ()> {
        self.call(self.inner.leave(name))
    }
    fn note(&self, note: Value) -> StoreFuture<'_, ()> {
        self.call(self.inner.note(note))
    }
    fn take_notes(&self) -> StoreFuture<'_, Vec<Value>> {
        self.call(self.inner.take_notes())
    }
}

/// One pod.
struct Pod {
    state: Arc<ClusterState>,
    /// Whether its store can be reached.
    away: Arc<AtomicBool>,
    options: PodOptions,
}

const TTL: Duration = Duration::from_secs(10);
const RENEW: Duration = Duration::from_secs(3);
/// What is left of a lease at least.
const BARELY: Duration = Duration::from_secs(7);

impl Pod {
    async fn start(name: &str, common: &Stores, begin: Instant) -> Self {
        let away = Arc::<AtomicBool>::default();
        let stores = Stores {
            leases: Arc::new(Virtual {
                begin,
                away: Arc::clone(&away),
                inner: Arc::clone(&common.leases),
            }),
            pods: Arc::new(Virtual {
                begin,
                away: Arc::clone(&away),
                inner: Arc::clone(&common.pods),
            }),
            fence: Arc::default(),
            ..common.clone()
        };
        let miroir = Miroir::builder()
            .node("n", "http://127.0.0.1:9", 0)
            .stores(stores)
            .pod(PodName { process: format!("{name}-1"), pod: name.to_owned() })
            .build()
            .await
            .unwrap();
        let address = format!("http://{name}");
        let options = PodOptions { address, report_ttl: TTL, ..PodOptions::default() };
        Self { state: miroir.cluster.state, away, options }
    }

    async fn step(&self) {
        step(&self.state, &self.options).await.unwrap();
    }

    fn stand(&self, stop: &CancellationToken) -> JoinHandle<()> {
        let candidate = Candidate {
            leases: Arc::clone(&self.state.stores.leases),
            holder: self.state.leadership.process().to_owned(),
            ttl: TTL,
            renew: RENEW,
        };
        let leader = Arc::new(Leader::new(Arc::clone(&self.state), Box::new(|_| Vec::new())));
        tokio::spawn(elected(candidate, leader, stop.clone()))
    }
}

async fn pods(names: &[&str]) -> Vec<Pod> {
    let (common, begin) = (memory::open(), Instant::now());
    let mut out = Vec::new();
    for name in names {
        out.push(Pod::start(name, &common, begin).await);
    }
    out
}

fn code(result: Result<(), Error>) -> String {
    match result.unwrap_err().kind() {
        miroir_pipeline::error::ErrorKind::Api(error) => error.code.to_string(),
        other => panic!("{other:?}"),
    }
}

fn entry(name: &str) -> IndexEntry {
    let at = OffsetDateTime::UNIX_EPOCH;
    IndexEntry::new(IndexUid::new(name).unwrap(), name.to_owned(), 4, at)
}

fn missed(index: &str) -> StaleReplica {
    StaleReplica {
        node: NodeId::new("n").unwrap(),
        index: index.to_owned(),
        shard: None,
        kind: CatchUp::Shard,
        generation: 0,
        awaits: Vec::new(),
    }
}

#[tokio::test(start_paused = true)]
async fn one_leads_and_another_follows_it() {
    let all = pods(&["a", "b"]).await;
    let (a, b) = (&all[0].state.leadership, &all[1].state.leadership);
    assert_eq!(code(a.ensure_leader()), "miroir_no_leader");
    assert_eq!(code(a.ensure_fresh()), "miroir_out_of_touch");
    let stop = CancellationToken::new();
    let first = all[0].stand(&stop);
    sleep(Duration::from_secs(1)).await;
    let _second = all[1].stand(&stop);
    sleep(Duration::from_mins(1)).await;
    assert!(a.leads() && !b.leads());
    assert_eq!((a.fence(), b.fence()), (Some(1), None));
    assert!(a.ensure_leader().is_ok() && a.ensure_fresh().is_ok());

    // It dies; the other leads when its lease has run out, not before.
    first.abort();
    let _ = first.await;
    assert!(!a.leads());
    assert_eq!(code(a.ensure_leader()), "miroir_no_leader");
    assert!(matches!(all[0].state.stores.fence.current(), Err(StoreError::Deposed)));
    sleep(BARELY).await;
    assert!(!b.leads());
    sleep(RENEW * 2).await;
    assert_eq!((b.leads(), b.fence()), (true, Some(2)));
    assert_eq!(all[1].state.stores.fence.current().unwrap(), Some(2));
    stop.cancel();
}

/// A machine that stood still does not know that its lease ran out: the roster tells it, before it is
/// asked to renew.
#[tokio::test(start_paused = true)]
async fn a_leader_that_hears_of_its_successor_steps_down_at_once() {
    let all = pods(&["a"]).await;
    let a = &all[0].state.leadership;
    let stop = CancellationToken::new();
    let _runner = all[0].stand(&stop);
    sleep(Duration::from_millis(10)).await;
    all[0].step().await;
    assert!(a.leads() && a.ensure_fresh().is_ok());
    let successor = PodReport {
        name: "b-1".to_owned(),
        pod: "b".to_owned(),
        address: "http://b".to_owned(),
        seen: a.seen(),
        leads: Some(2),
        readable: Vec::new(),
        settled: 0,
    };
    all[0].state.stores.pods.report(successor, OffsetDateTime::UNIX_EPOCH, TTL).await.unwrap();
    all[0].step().await;
    assert!(!a.leads());
    assert_eq!(code(a.ensure_leader()), "miroir_no_leader");
    assert!(matches!(all[0].state.stores.fence.current(), Err(StoreError::Deposed)));
    // What it still answers, it has read since.
    assert!(a.ensure_fresh().is_ok() && a.seen().is_some());
    assert_eq!(a.leader().as_deref(), Some("http://b"));
    stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn who_stops_gives_the_lease_back() {
    let all = pods(&["a", "b"]).await;
    let (stop, later) = (CancellationToken::new(), CancellationToken::new());
    let first = all[0].stand(&stop);
    sleep(Duration::from_secs(1)).await;
    let _second = all[1].stand(&later);
    sleep(Duration::from_secs(1)).await;
    stop.cancel();
    first.await.unwrap();
    sleep(RENEW).await;
    assert!(all[1].state.leadership.leads());
    later.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_leader_without_a_store_ends_before_its_lease_does() {
    let all = pods(&["a"]).await;
    let leadership = &all[0].state.leadership;
    let stop = CancellationToken::new();
    let runner = all[0].stand(&stop);
    sleep(Duration::from_secs(1)).await;
    assert!(leadership.leads());
    all[0].away.store(true, Ordering::Relaxed);
    sleep(BARELY.saturating_sub(Duration::from_secs(1))).await;
    assert!(leadership.leads(), "its last renewal still counts");
    sleep(RENEW + Duration::from_secs(1)).await;
    assert!(!leadership.leads());
    all[0].away.store(false, Ordering::Relaxed);
    sleep(RENEW * 2).await;
    // Nobody else led meanwhile, and yet it is another term.
    assert_eq!(leadership.fence(), Some(2));
    stop.cancel();
    runner.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn nobody_is_told_of_a_change_that_some_pod_does_not_know() {
    let all = pods(&["a", "b"]).await;
    let stop = CancellationToken::new();
    let _runner = all[0].stand(&stop);
    sleep(Duration::from_secs(1)).await;
    all[0].step().await;
    all[1].step().await;
    assert!(all[1].state.leadership.ensure_fresh().is_ok());
    all[1].step().await;
    assert_eq!(all[1].state.leadership.leader().as_deref(), Some("http://a"));

    let leader = Arc::clone(&all[0].state);
    let change = tokio::spawn(async move {
        leader.catalog.insert(entry("movies")).await.unwrap();
        leader.staleness.mark(vec![missed("movies")]).await.unwrap();
    });
    sleep(Duration::from_secs(1)).await;
    assert!(!change.is_finished(), "the other pod has not read it");
    let knows = || all[1].state.catalog.get(&IndexUid::new("movies").unwrap()).is_some();
    assert!(!knows());
    all[1].step().await;
    assert!(knows());
    sleep(Duration::from_secs(1)).await;
    assert!(!change.is_finished(), "nor the second change");
    all[1].step().await;
    change.await.unwrap();
    assert_eq!(all[1].state.staleness.load().len(), 1);
    stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_silent_pod_is_waited_for_until_it_answers_nobody() {
    let all = pods(&["a", "b"]).await;
    let stop = CancellationToken::new();
    let _runner = all[0].stand(&stop);
    sleep(Duration::from_secs(1)).await;
    all[1].step().await;
    let begun = Instant::now();
    all[0].state.staleness.mark(vec![missed("x")]).await.unwrap();
    assert!(begun.elapsed() >= TTL && begun.elapsed() < TTL + Duration::from_secs(1));
    assert_eq!(code(all[1].state.leadership.ensure_fresh()), "miroir_out_of_touch");
    // What does not change an answer waits for nobody.
    all[1].step().await;
    let begun = Instant::now();
    all[0].state.staleness.forget_index("x").await.unwrap();
    assert_eq!(begun.elapsed(), Duration::ZERO);
    stop.cancel();
}

/// A pod that cannot read what is new does not hold the others up for ever.
#[tokio::test(start_paused = true)]
async fn a_word_is_not_prolonged_by_who_does_not_follow() {
    let all = pods(&["a", "b"]).await;
    let stop = CancellationToken::new();
    let _runner = all[0].stand(&stop);
    sleep(Duration::from_secs(1)).await;
    all[1].step().await;
    let b = Arc::clone(&all[1].state);
    let behind = PodReport {
        name: b.leadership.process().to_owned(),
        seen: b.leadership.seen(),
        ..PodReport::default()
    };
    let talking = tokio::spawn(async move {
        loop {
            b.stores.pods.report(behind.clone(), miroir_store::clock::now(), TTL).await.unwrap();
            sleep(Duration::from_millis(100)).await;
        }
    });
    let begun = Instant::now();
    all[0].state.staleness.mark(vec![missed("x")]).await.unwrap();
    assert!(begun.elapsed() < TTL + Duration::from_secs(1));
    talking.abort();
    stop.cancel();
}

/// Work of a term before has to be over before another begins.
#[tokio::test(start_paused = true)]
async fn a_term_waits_for_what_this_process_still_does() {
    let all = pods(&["a"]).await;
    let leadership = &all[0].state.leadership;
    let guard = leadership.begin_change();
    let stop = CancellationToken::new();
    let _runner = all[0].stand(&stop);
    sleep(Duration::from_secs(20)).await;
    assert!(!leadership.leads() && leadership.fence().is_some());
    assert!(matches!(all[0].state.stores.fence.current(), Err(StoreError::Deposed)));
    drop(guard);
    sleep(Duration::from_secs(1)).await;
    assert!(leadership.leads());
    stop.cancel();
}

struct Panicking(AtomicU32);

impl ElectedTask for Panicking {
    const SCOPE: &'static str = "panicking";
    async fn perform(self: Arc<Self>, _: Term) {
        assert!(self.0.fetch_add(1, Ordering::Relaxed) > 0, "as a test wants it");
        std::future::pending::<()>().await;
    }
    fn renewed(&self, _: u64, _: Instant) {}
    fn ended(&self) {}
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_panics_is_elected_anew() {
    let task = Arc::new(Panicking(AtomicU32::new(0)));
    let stop = CancellationToken::new();
    let candidate =
        Candidate { leases: memory::open().leases, holder: "a".to_owned(), ttl: TTL, renew: RENEW };
    let runner = tokio::spawn(elected(candidate, Arc::clone(&task), stop.clone()));
    sleep(RENEW * 2).await;
    stop.cancel();
    runner.await.unwrap();
    assert_eq!(task.0.load(Ordering::Relaxed), 2);
}

#[test]
fn a_fence_is_open_carried_or_closed() {
    let fence = Fence::default();
    assert_eq!(fence.current().unwrap(), None);
    fence.carry(3);
    assert_eq!(fence.current().unwrap(), Some(3));
    fence.close();
    assert!(matches!(fence.current(), Err(StoreError::Deposed)));
}

#[tokio::test(start_paused = true)]
async fn messages_of_another_version_are_dropped() {
    let all = pods(&["a"]).await;
    let stop = CancellationToken::new();
    let _runner = all[0].stand(&stop);
    let store = &all[0].state.stores.pods;
    store.note(json!({"unheard": 1})).await.unwrap();
    let late = LeaderMessage::Late {
        task: miroir_api::TaskUid(7),
        nodes: vec![NodeId::new("n").unwrap()],
    };
    all[0].state.leadership.send(&late).await.unwrap();
    all[0].state.membership.task_uids.mark_verified(&NodeId::new("n").unwrap());
    sleep(Duration::from_secs(2)).await;
    assert!(store.take_notes().await.unwrap().is_empty());
    // The node is looked through again, though nobody knows the task.
    assert!(!all[0].state.membership.task_uids.is_verified(&NodeId::new("n").unwrap()));
    stop.cancel();
}
