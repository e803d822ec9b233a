//! Tests, with mocks and paused time.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use miroir_api::meili::{TaskKind, TaskStatus};
use miroir_api::{GroupId, NodeId};
use miroir_control::Miroir;
use miroir_core::hints::Priority;
use miroir_core::topology::{NodeEvent, Topology};
use miroir_core::view::{CatchUp, StaleReplica};
use miroir_pipeline::Placed;
use miroir_pipeline::context::Context;
use miroir_pipeline::index::{Deletion, Operation, Request, Response, Write};
use miroir_pipeline::meta::{Accepted, Meta};
use miroir_pipeline::node::Scores;
use miroir_pipeline::query::{ClientRequest, Search};
use miroir_store::{NewTask, NodeTask, Stores, TaskRecord, memory};
use miroir_test::contract::contract;
use miroir_test::layered;
use miroir_test::mock::{MockHandle, Spawned};
use tokio::time::Instant;

use super::*;
use crate::fixtures::{entry, grouped};

fn request(op: Operation, session: Option<&str>, topology: &Arc<Topology>) -> Request {
    let original = ClientRequest::new(http::Method::POST, "");
    let mut cx = Context::client("1", Duration::from_mins(1));
    if let Some(session) = session {
        cx.insert(Session(Arc::from(session)));
    }
    Request::new(
        op,
        Arc::new(original),
        Arc::new(entry("a", 4)),
        Arc::clone(topology),
        Arc::default(),
        cx,
    )
}

fn search(session: Option<&str>, topology: &Arc<Topology>) -> Request {
    request(Operation::Search(Arc::new(Search::default())), session, topology)
}

fn write(session: &str, topology: &Arc<Topology>) -> Request {
    let op = Operation::Write { write: Write::Delete(Deletion::All), custom_metadata: None };
    request(op, Some(session), topology)
}

fn answer(meta: Meta) -> Response {
    Response { status: http::StatusCode::OK, body: Bytes::from_static(b"{}"), meta }
}

fn nodes(topology: &Topology) -> Vec<NodeId> {
    topology.nodes().map(|node| node.id.clone()).collect()
}

struct Bench {
    stores: Stores,
    topology: Arc<Topology>,
    service: Spawned<Request>,
    inner: MockHandle<Request>,
}

impl Bench {
    /// Two groups of two nodes.
    fn new(options: SessionPinningOptions) -> Self {
        let stores = memory::open();
        let layer = SessionPinningLayer::new(&stores, Arc::new(Scores::default()), options);
        let (service, inner) = layered(layer);
        Self { stores, topology: Arc::new(grouped(2, 2, 1)), service, inner }
    }

    /// A write of a session that group 1 had first.
    async fn written(&mut self) -> TaskRecord {
        let task = NewTask {
            nodes: nodes(&self.topology).into_iter().map(|n| NodeTask::new(n, Some(0))).collect(),
            ..NewTask::new(TaskKind::DocumentDeletion, clock())
        };
        let record = self.stores.tasks.insert(task).await.unwrap();
        let call = self.service.spawn_call(write("s", &self.topology));
        let exchange = self.inner.next_request().await;
        let mut meta = Meta::default();
        meta.accepted = Some(Accepted { task: record.uid, group: Some(GroupId(1)) });
        exchange.respond(answer(meta));
        call.await.unwrap();
        record
    }

    async fn end(&self, record: &TaskRecord) {
        let mut record = record.clone();
        record.end(TaskStatus::Succeeded, clock());
        self.stores.tasks.update(record).await.unwrap();
    }

    /// A read of the session: which group it went to, and whether it may miss something.
    async fn read(&mut self) -> (Option<(GroupId, Priority)>, bool) {
        let call = self.service.spawn_call(search(Some("s"), &self.topology));
        let exchange = self.inner.next_request().await;
        let group = exchange.request().hints.group.clone();
        if let Some(hint) = &group {
            assert_eq!(hint.by, SessionPinningLayer::NAME);
        }
        exchange.respond(answer(Meta::default()));
        let stale = call.await.unwrap().meta.has::<SessionStale>();
        (group.map(|hint| (hint.value, hint.priority)), stale)
    }
}

fn clock() -> time::OffsetDateTime {
    time::OffsetDateTime::UNIX_EPOCH
}

#[tokio::test(start_paused = true)]
async fn keeps_the_contract() {
    let topology = Arc::new(grouped(2, 2, 1));
    let layer = || {
        let scores = Arc::new(Scores::default());
        SessionPinningLayer::new(&memory::open(), scores, SessionPinningOptions::default())
    };
    contract(layer(), || search(None, &topology)).await;
    contract(layer(), || search(Some("nothing written"), &topology)).await;
}

#[tokio::test(start_paused = true)]
async fn a_read_waits_for_the_write_of_its_session_and_of_no_other() {
    let mut bench = Bench::new(SessionPinningOptions::default());
    let record = bench.written().await;
    // Who has another session, or none, does not wait.
    for session in [None, Some("other")] {
        let call = bench.service.spawn_call(search(session, &bench.topology));
        let exchange = bench.inner.next_request().await;
        assert!(exchange.request().hints.group.is_none());
        exchange.respond(answer(Meta::default()));
        call.await.unwrap();
    }
    let begun = Instant::now();
    let call = bench.service.spawn_call(search(Some("s"), &bench.topology));
    tokio::time::sleep(Duration::from_secs(1)).await;
    bench.inner.assert_idle().await;
    bench.end(&record).await;
    let exchange = bench.inner.next_request().await;
    assert!(begun.elapsed() < Duration::from_millis(1_200), "{:?}", begun.elapsed());
    assert!(exchange.request().hints.group.is_none(), "everybody has it");
    exchange.respond(answer(Meta::default()));
    assert!(!call.await.unwrap().meta.has::<SessionStale>());
    // Nothing is left to wait for.
    assert_eq!(bench.stores.sessions.get("s", clock()).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn the_group_that_has_it_answers_before_the_others_have_it() {
    let mut bench = Bench::new(SessionPinningOptions::default());
    let mut record = bench.written().await;
    for task in &mut record.nodes {
        if bench.topology.node(&task.node).unwrap().group == GroupId(1) {
            task.status = TaskStatus::Succeeded;
        }
    }
    bench.stores.tasks.update(record).await.unwrap();
    assert_eq!(bench.read().await, (Some((GroupId(1), Priority::Must)), false));
}

#[tokio::test(start_paused = true)]
async fn a_read_that_waited_in_vain_says_so() {
    let mut bench = Bench::new(SessionPinningOptions::default());
    bench.written().await;
    let begun = Instant::now();
    assert_eq!(bench.read().await, (Some((GroupId(1), Priority::Must)), true));
    assert_eq!(begun.elapsed(), SessionPinningOptions::default().max_wait);
}

#[tokio::test(start_paused = true)]
async fn a_pinned_read_does_not_wait() {
    let options = SessionPinningOptions {
        wait_strategy: WaitStrategy::RoutePin,
        ..SessionPinningOptions::default()
    };
    let mut bench = Bench::new(options);
    let record = bench.written().await;
    let begun = Instant::now();
    assert_eq!(bench.read().await, (Some((GroupId(1), Priority::Must)), false));
    bench.end(&record).await;
    assert_eq!(bench.read().await, (None, false));
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_group_that_lost_a_shard_pins_nobody() {
    let options = SessionPinningOptions {
        wait_strategy: WaitStrategy::RoutePin,
        ..SessionPinningOptions::default()
    };
    let mut bench = Bench::new(options);
    bench.written().await;
    let lost = bench.topology.nodes().find(|node| node.group == GroupId(1)).unwrap().id.clone();
    bench.topology = Arc::new(bench.topology.with_event(&lost, NodeEvent::Fail).unwrap());
    let (group, stale) = bench.read().await;
    assert_eq!(group, None);
    assert!(stale, "its write may not be there");
}

#[tokio::test(start_paused = true)]
async fn a_task_that_nobody_knows_any_more_is_done() {
    let mut bench = Bench::new(SessionPinningOptions::default());
    let record = bench.written().await;
    bench.end(&record).await;
    bench.stores.tasks.remove(vec![record.uid.0]).await.unwrap();
    assert_eq!(bench.read().await, (None, false));
}

#[tokio::test(start_paused = true)]
async fn a_read_that_waited_is_planned_by_what_is_stale_after_the_wait() {
    let mut bench = Bench::new(SessionPinningOptions::default());
    let record = bench.written().await;
    let miroir = Miroir::builder().node("n0", "http://n0", 0).build().await.unwrap();
    let state = &miroir.cluster.state;
    let call = bench.service.spawn_call(search(Some("s"), &bench.topology).of(state));
    bench.inner.assert_idle().await;
    // The write is done because a replica is given up.
    let lost = NodeId::new("n0").unwrap();
    let row = StaleReplica {
        node: lost.clone(),
        index: "a".to_owned(),
        shard: None,
        kind: CatchUp::Shard,
        generation: 0,
        awaits: Vec::new(),
    };
    state.staleness.mark(vec![row]).await.unwrap();
    bench.end(&record).await;
    let exchange = bench.inner.next_request().await;
    let request = exchange.request();
    assert!(request.stale.touches("a", &lost), "planned by what was stale before the wait");
    assert!(Arc::ptr_eq(&request.topology, &state.membership.topology()));
    exchange.respond(answer(Meta::default()));
    call.await.unwrap();
}
