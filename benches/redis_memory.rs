//! How much memory of Redis each table takes: rows as a busy deployment has them are put in, and
//! `used_memory` is read before and after. The table of `docs/redis-memory.md`.

use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use miroir::store::records::{Alias, AliasTarget, Began, FEATURES, Kept, KeptAnswer, Limit, Pin};
use miroir::store::{NewJob, NewTask, NodeTask, Stores, TaskRecord};
use miroir_api::meili::{TaskKind, TaskStatus};
use miroir_api::{GroupId, IndexUid, NodeId, TaskUid};
use miroir_store_redis::Options;
use miroir_test::redis::RedisServer;
use time::OffsetDateTime;
use uuid::Uuid;

const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;
const DAY: Duration = Duration::from_hours(24);
/// Calls under way at a time.
const WIDTH: usize = 64;

async fn used(connection: &mut redis::aio::MultiplexedConnection) -> u64 {
    let info: String =
        redis::cmd("INFO").arg("memory").query_async(connection).await.expect("Redis answers");
    let line = info.lines().find_map(|line| line.strip_prefix("used_memory:")).expect("it says");
    line.trim().parse().expect("a number")
}

async fn task(stores: &Stores, number: usize) {
    let node = |at: usize| NodeTask::new(NodeId::new(&format!("node-{at}")).expect("valid"), None);
    let index = format!("index-{}", number % 10);
    let task = NewTask {
        index: Some(index.clone()),
        physical: Some(index),
        nodes: (0..3).map(node).collect(),
        ..NewTask::new(TaskKind::DocumentAdditionOrUpdate, NOW + Duration::from_secs(number as u64))
    };
    let mut record: TaskRecord = stores.tasks.insert(task).await.expect("it is stored");
    for node in &mut record.nodes {
        node.uid = Some(number as u32);
        node.status = TaskStatus::Succeeded;
    }
    record.end(TaskStatus::Succeeded, NOW + Duration::from_secs(number as u64 + 1));
    stores.tasks.update(record).await.expect("it is stored");
}

async fn idempotency(stores: &Stores, number: usize) {
    let key = format!("{}:{}", "c0ffee00".repeat(8), Uuid::from_u128(number as u128));
    let write = Kept {
        request: "0123456789abcdef".repeat(4),
        holder: "miroir-0:17".to_owned(),
        began_at: NOW,
        answer: None,
    };
    let began = stores.idempotency.begin(&key, write.clone(), DAY, 1_000_000, NOW).await;
    assert_eq!(began.expect("it is stored"), Began::First);
    let body = format!(
        "{{\"taskUid\":{number},\"indexUid\":\"movies\",\"status\":\"enqueued\",\
         \"type\":\"documentAdditionOrUpdate\",\"enqueuedAt\":\"2026-01-01T00:00:00Z\"}}"
    );
    let settled = Kept { answer: Some(KeptAnswer { status: 202, body }), ..write.clone() };
    assert!(stores.idempotency.replace(&key, &write, settled, DAY, NOW).await.expect("stored"));
}

async fn session(stores: &Stores, number: usize) {
    let id = Uuid::from_u128(number as u128).to_string();
    let pin = Pin { task: TaskUid(number as u32), group: Some(GroupId(0)) };
    stores.sessions.pin(&id, "movies", pin, DAY, 100_000, NOW).await.expect("it is stored");
}

async fn alias(stores: &Stores, number: usize) {
    let target =
        |at: usize| AliasTarget::One(IndexUid::new(&format!("movies-{at}")).expect("valid"));
    let name = IndexUid::new(&format!("alias-{number}")).expect("valid");
    let owner = None;
    let mut alias =
        Alias { name, target: target(0), version: 1, owner, created_at: NOW, history: Vec::new() };
    for at in 1..=10 {
        alias = alias.flipped(target(at), 10, NOW);
    }
    assert!(stores.aliases.put(Alias { version: 1, ..alias }, 0).await.expect("it is stored"));
}

async fn bucket(stores: &Stores, number: usize) {
    let limit = Limit { count: 60, per: DAY };
    let key = format!("searchui:10.0.{}.{}", number / 256, number % 256);
    assert!(stores.buckets.take(&key, limit, NOW).await.expect("it is stored").allowed);
}

async fn job(stores: &Stores, number: usize) {
    let job = NewJob {
        id: Uuid::from_u128(number as u128).to_string(),
        kind: "dump_import".to_owned(),
        payload: serde_json::json!({"source": "products.dump", "from": number, "bytes": 1 << 28}),
    };
    assert_eq!(stores.jobs.put(vec![job]).await.expect("it is stored"), 1);
}

async fn lease(stores: &Stores, number: usize) {
    let scope = format!("scope-{number}");
    let taken = stores.leases.acquire(&scope, "miroir-0", NOW, DAY).await;
    assert!(taken.expect("it is stored").is_some());
}

async fn run() {
    let server = RedisServer::start(&["--save", "", "--appendonly", "no"]);
    let options = Options { features: FEATURES.to_vec(), ..Options::default() };
    let stores = miroir_store_redis::open(&server.url(), options).await.expect("it opens");
    let client = redis::Client::open(server.url()).expect("an address");
    let mut raw = client.get_multiplexed_async_connection().await.expect("it connects");
    let begun = used(&mut raw).await;
    println!("| rows | how many | memory | a row |");
    println!("| --- | ---: | ---: | ---: |");
    let mut last = begun;
    macro_rules! fill {
        ($name:literal, $many:expr, $put:ident) => {
            let stores = &stores;
            stream::iter(0..$many).for_each_concurrent(WIDTH, |n| $put(stores, n)).await;
            let now = used(&mut raw).await;
            let took = now.saturating_sub(last);
            let (each, mb) = (took / $many as u64, took as f64 / 1e6);
            println!("| {} | {} | {mb:.1} MB | {each} B |", $name, $many);
            last = now;
        };
    }
    fill!("tasks with three nodes each", 100_000, task);
    fill!("idempotency keys with their answers", 10_000, idempotency);
    fill!("sessions", 1_000, session);
    fill!("aliases with ten flips each", 100, alias);
    fill!("rate-limit buckets", 10_000, bucket);
    fill!("queued jobs", 1_000, job);
    fill!("leases", 10, lease);
    println!("| all of them | | {:.1} MB | |", (last - begun) as f64 / 1e6);
}

fn main() {
    tokio::runtime::Runtime::new().expect("a runtime").block_on(run());
}
