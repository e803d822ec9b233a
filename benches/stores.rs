//! What a write costs in each store: a task is inserted, gets its nodes' answers, and ends.
//!
//! The stores take turns in several short rounds; medians are printed as ratios of the store in
//! memory, and as time per write. The Redis runs on the same machine, once as Redis is by default
//! (its log is synced every second) and once as `docs/stores.md` recommends (synced with every call);
//! SQLite syncs every commit.

use std::sync::Arc;
use std::time::{Duration, Instant};

use miroir::store::{NewTask, NodeTask, Stores, TaskRecord, memory};
use miroir_api::NodeId;
use miroir_api::meili::{TaskKind, TaskStatus};
use miroir_test::redis::RedisServer;
use time::OffsetDateTime;

/// Rounds of each store and width.
const ROUNDS: usize = 9;
/// Writes of one round.
const WRITES: usize = 192;

async fn write(stores: &Stores, number: usize) {
    let node = |at: usize| NodeTask::new(NodeId::new(&format!("node-{at}")).expect("valid"), None);
    let task = NewTask {
        index: Some("movies".to_owned()),
        physical: Some("movies".to_owned()),
        nodes: (0..3).map(node).collect(),
        ..NewTask::new(TaskKind::DocumentAdditionOrUpdate, OffsetDateTime::UNIX_EPOCH)
    };
    let mut record: TaskRecord = stores.tasks.insert(task).await.expect("it is stored");
    for node in &mut record.nodes {
        node.uid = Some(number as u32);
    }
    stores.tasks.update(record.clone()).await.expect("it is stored");
    record.end(TaskStatus::Succeeded, OffsetDateTime::UNIX_EPOCH);
    stores.tasks.update(record).await.expect("it is stored");
}

/// Time of one write, where `width` are under way at a time.
async fn round(stores: &Arc<Stores>, width: usize) -> Duration {
    let begun = Instant::now();
    let callers: Vec<_> = (0..width)
        .map(|caller| {
            let stores = Arc::clone(stores);
            tokio::spawn(async move {
                for number in (caller..WRITES).step_by(width) {
                    write(&stores, number).await;
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.expect("it does not panic");
    }
    begun.elapsed() / WRITES as u32
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e6
}

#[tokio::main]
async fn main() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let lax = RedisServer::start(&["--appendonly", "yes", "--appendfsync", "everysec"]);
    let strict = RedisServer::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let redis = async |server: &RedisServer| {
        miroir_store_redis::open(&server.url(), miroir_store_redis::Options::default())
            .await
            .expect("Redis is there")
    };
    let sqlite = miroir_store_sqlite::open(
        &directory.path().join("miroir.db"),
        miroir_store_sqlite::Options::default(),
    );
    let stores = [
        ("memory", memory::open()),
        ("sqlite", sqlite.expect("the file can be made")),
        ("redis, synced every second", redis(&lax).await),
        ("redis, synced with every call", redis(&strict).await),
    ];
    let stores = stores.map(|(name, stores)| (name, Arc::new(stores)));
    println!("| writes at a time | store | µs a write | compared with memory |");
    println!("| ---: | --- | ---: | ---: |");
    for width in [1, 32] {
        let mut times = vec![Vec::new(); stores.len()];
        for _ in 0..ROUNDS {
            for ((_, stores), times) in stores.iter().zip(&mut times) {
                times.push(round(stores, width).await);
            }
        }
        let medians: Vec<f64> = times.into_iter().map(median).collect();
        for ((name, _), time) in stores.iter().zip(&medians) {
            println!("| {width} | {name} | {time:.0} | {:.1}× |", time / medians[0]);
        }
    }
}
