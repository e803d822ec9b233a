//! SQLite keeps the contract of the store traits, and what a file adds to it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use futures_util::future::join_all;
use miroir_api::meili::{TaskKind, TaskStatus};
use miroir_api::{IndexUid, NodeId, ShardId, TaskUid};
use miroir_core::documents::IdCase;
use miroir_core::view::{CatchUp, StaleReplica};
use miroir_store::records::{FEATURES, Pin, Table, TenantMapping};
use miroir_store::{IndexEntry, NewTask, StoreError, Stores, TaskQuery};
use miroir_store_sqlite::{Durability, Options};
use miroir_test::stores::{Fixture, Tape, contents, listing};
use proptest::prelude::*;
use rusqlite::Connection;
use tempfile::TempDir;
use time::OffsetDateTime;
use tokio::runtime::Runtime;

fn open(path: &Path) -> Stores {
    miroir_store_sqlite::open(path, Options::default()).unwrap()
}

fn fixture(options: Options) -> Fixture {
    let directory = TempDir::new().unwrap();
    let stores = miroir_store_sqlite::open(&directory.path().join("db"), options).unwrap();
    Fixture::keeping(stores, directory)
}

miroir_test::store_suite!(synced, async || fixture(Options {
    features: FEATURES.to_vec(),
    ..Options::default()
}));
// The narrowest of everything: each call commits alone and all reads share one connection.
miroir_test::store_suite!(narrow, async || fixture(Options {
    features: FEATURES.to_vec(),
    durability: Durability::Flushed,
    readers: 1,
    batch: 1,
    queue: 1,
    ..Options::default()
}));

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn lists_agree_with_the_model(tape in prop::collection::vec(any::<u64>(), 0..900)) {
        let runtime = Runtime::new().unwrap();
        let options = Options { durability: Durability::Flushed, ..Options::default() };
        for fixture in [fixture(options), miroir_store::memory::open().into()] {
            let tape = Tape::new(tape.clone());
            runtime.block_on(listing::agrees_with_the_model(&fixture.stores, tape));
        }
    }
}

fn instant() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_770_000_000).unwrap()
}

fn new_task(index: &str) -> NewTask {
    NewTask {
        index: Some(index.to_owned()),
        physical: Some(index.to_owned()),
        ..NewTask::new(TaskKind::DocumentAdditionOrUpdate, instant())
    }
}

fn entry(name: &str) -> IndexEntry {
    IndexEntry {
        primary_key: Some("id".to_owned()),
        settings_version: 3,
        version: 1,
        ..IndexEntry::new(IndexUid::new(name).unwrap(), name.to_owned(), 16, instant())
    }
}

fn stale(node: &str) -> StaleReplica {
    StaleReplica {
        node: NodeId::new(node).unwrap(),
        index: "movies".to_owned(),
        shard: Some(ShardId(3)),
        kind: CatchUp::Shard,
        generation: 0,
        awaits: Vec::new(),
    }
}

#[tokio::test]
async fn leases_end_by_the_callers_clock_and_survive_reopening() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("db");
    miroir_test::stores::leases::ends_follow_the_callers_clock(&open(&path)).await;
    // The last fence there was 3.
    let (later, ttl) = (instant() + time::Duration::days(365), std::time::Duration::from_secs(1));
    let lease = open(&path).leases.acquire("a", "three", later, ttl).await.unwrap();
    assert_eq!(lease.unwrap().fence, 4);
}

#[tokio::test]
async fn reopening_keeps_everything() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("db");
    let stores = open(&path);
    for status in TaskStatus::ALL {
        stores.tasks.insert(NewTask { status, ..new_task("movies") }).await.unwrap();
    }
    assert!(stores.indexes.put(entry("movies"), None).await.unwrap());
    stores.replicas.mark(vec![stale("n1"), stale("n2")]).await.unwrap();
    stores.settings_versions.set("movies", &NodeId::new("n1").unwrap(), 3).await.unwrap();
    let pin = Pin { task: TaskUid(3), group: None };
    let hour = std::time::Duration::from_hours(1);
    stores.sessions.pin("s", "movies", pin, hour, 10, instant()).await.unwrap();
    let before = contents(&stores).await;
    drop(stores);

    let stores = open(&path);
    assert_eq!(contents(&stores).await, before);
    let session = stores.sessions.get("s", instant()).await.unwrap();
    assert_eq!(session.unwrap().pins["movies"], pin);
    assert_eq!(stores.sessions.get("s", instant() + hour).await.unwrap(), None, "it ended");
    assert_eq!(stores.sessions.prune(instant() + hour).await.unwrap(), 1);
    assert_eq!(stores.tasks.insert(new_task("movies")).await.unwrap().uid, TaskUid(5));
    let old = stores.replicas.list().await.unwrap().remove(0);
    stores.replicas.mark(vec![stale("n1")]).await.unwrap();
    assert!(!stores.replicas.clear(old).await.unwrap());
}

/// Tables of features are there once their feature is on, and are not used while it is off.
#[tokio::test]
async fn features_bring_their_tables() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("db");
    let tables = || -> Vec<String> {
        let names = schema(&path).into_iter().map(|(name, _)| name);
        names.filter(|name| Table::ALL.into_iter().any(|table| table.name() == name)).collect()
    };
    let plain = open(&path);
    assert_eq!(tables(), ["aliases", "idempotency_cache", "node_facts", "sessions", "topology"]);
    let mapping =
        TenantMapping { api_key_hash: "aa".to_owned(), tenant: "one".to_owned(), group: None };
    let refused = plain.tenants.put(mapping.clone()).await.unwrap_err();
    assert!(matches!(refused, StoreError::FeatureOff("tenant_map")), "{refused}");
    let refused = plain.overflow.push("s", String::new(), 1).await.unwrap_err();
    assert!(matches!(refused, StoreError::FeatureOff("cdc")), "{refused}");
    drop(plain);

    let on = Options { features: vec!["tenant_map"], ..Options::default() };
    let stores = miroir_store_sqlite::open(&path, on.clone()).unwrap();
    assert_eq!(
        tables(),
        ["aliases", "idempotency_cache", "node_facts", "sessions", "tenant_map", "topology"]
    );
    stores.tenants.put(mapping.clone()).await.unwrap();
    drop(stores);
    assert!(open(&path).tenants.list().await.is_err(), "it is off again");
    let stores = miroir_store_sqlite::open(&path, on).unwrap();
    assert_eq!(stores.tenants.list().await.unwrap(), [mapping]);
}

/// What is not used takes a few pages.
#[test]
fn empty_tables_are_small() {
    let directory = TempDir::new().unwrap();
    let size = |name: &str, features: &[&'static str]| {
        let path = directory.path().join(name);
        let options = Options { features: features.to_vec(), ..Options::default() };
        drop(miroir_store_sqlite::open(&path, options).unwrap());
        let connection = Connection::open(&path).unwrap();
        let value =
            |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).unwrap();
        value("page_count") * value("page_size")
    };
    let added = size("all", &FEATURES) - size("none", &[]);
    let records = Table::ALL.iter().filter(|table| table.feature().is_some()).count();
    // And two kinds of lists.
    assert!(added < 16 * 1024 * (records as i64 + 2), "{added} bytes");
}

#[test]
fn a_newer_database_is_refused() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("db");
    drop(open(&path));
    let ahead = "INSERT INTO schema_versions VALUES (9999, 'future', 0)";
    Connection::open(&path).unwrap().execute(ahead, []).unwrap();
    let error = miroir_store_sqlite::open(&path, Options::default()).unwrap_err();
    assert!(matches!(error, StoreError::SchemaVersionAhead { found: 9999, .. }), "{error}");
    assert!(error.to_string().contains("schema_version_ahead"));
}

#[test]
fn what_is_no_database_is_refused() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("db");
    std::fs::write(&path, "a text that is long enough to be mistaken for something".repeat(99))
        .unwrap();
    let refused = |path: &Path| {
        let error = miroir_store_sqlite::open(path, Options::default()).unwrap_err();
        assert!(matches!(error, StoreError::Backend(_)), "{error}");
    };
    refused(&path);
    refused(&directory.path().join("no/such/directory/db"));
}

/// The schema without the planner's statistics, which a closing writer may or may not have made yet.
fn schema(path: &Path) -> Vec<(String, Option<String>)> {
    let connection = Connection::open(path).unwrap();
    let sql =
        "SELECT name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_stat%' ORDER BY name";
    let mut statement = connection.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

/// `001.sql` is a dump of a database of schema version 1. It stays as it is: when this fails, a
/// released migration was edited or a stored record can no longer be read.
#[tokio::test]
async fn a_database_of_version_1_is_migrated() {
    let directory = TempDir::new().unwrap();
    let (old, new) = (directory.path().join("old"), directory.path().join("new"));
    let dump = include_str!("fixtures/001.sql");
    Connection::open(&old).unwrap().execute_batch(dump).unwrap();
    let stores = open(&old);
    drop(open(&new));
    assert_eq!(schema(&old), schema(&new));

    let task = stores.tasks.get(TaskUid(1)).await.unwrap().unwrap();
    assert_eq!((task.status, task.index.as_deref()), (TaskStatus::Failed, Some("movies")));
    assert_eq!(task.error.unwrap().code, "index_not_found");
    assert_eq!(task.nodes[0].node.as_str(), "n1");
    assert_eq!(task.finished_at, Some(instant()));
    let counts: Vec<_> = stores.tasks.counts().await.unwrap().into_iter().map(|c| c.1).collect();
    assert_eq!(counts, [1, 0, 0, 1, 0]);
    // Nobody wrote down the case of the letters its ids have.
    let unknown = IndexEntry { id_case: IdCase::any(), ..entry("movies") };
    assert_eq!(stores.indexes.list().await.unwrap(), [unknown]);
    assert_eq!(
        stores.replicas.list().await.unwrap(),
        [StaleReplica { generation: 1, ..stale("n1") }]
    );
    let versions = stores.settings_versions.list("movies").await.unwrap();
    assert_eq!(versions, [(NodeId::new("n1").unwrap(), 3)]);
    assert_eq!(stores.tasks.insert(new_task("movies")).await.unwrap().uid, TaskUid(7));
}

/// Two handles, each with a writer of its own, wait for each other instead of failing.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_handles_share_one_file() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("db");
    // Both create the schema, at once.
    let opening = [0, 1].map(|_| {
        let path = path.clone();
        let shared = Options { patience: None, ..Options::default() };
        tokio::task::spawn_blocking(move || miroir_store_sqlite::open(&path, shared).unwrap())
    });
    let handles: Vec<_> = join_all(opening).await.into_iter().map(Result::unwrap).collect();
    assert!(handles[0].indexes.put(entry("movies"), None).await.unwrap());
    let callers = (0..8).map(|caller| {
        let stores = handles[caller % 2].clone();
        tokio::spawn(async move {
            let (mut uids, mut won) = (Vec::new(), 0);
            let name = IndexUid::new("movies").unwrap();
            for _ in 0..25 {
                uids.push(stores.tasks.insert(new_task("movies")).await.unwrap().uid.0);
                let mut entry = stores.indexes.get(&name).await.unwrap().unwrap();
                entry.version += 1;
                let expected = entry.version - 1;
                won += u64::from(stores.indexes.put(entry, Some(expected)).await.unwrap());
            }
            (uids, won)
        })
    });
    let (uids, won): (Vec<_>, Vec<_>) =
        join_all(callers).await.into_iter().map(Result::unwrap).unzip();
    let mut uids = uids.concat();
    uids.sort_unstable();
    assert!(uids.into_iter().eq(0..200));
    let version = handles[1].indexes.list().await.unwrap()[0].version;
    assert_eq!(version, 1 + won.iter().sum::<u64>());
    assert_eq!(contents(&handles[0]).await, contents(&handles[1]).await);
}

/// Whoever opens a new file while others do waits for them, in whichever step of it they meet.
#[test]
fn a_file_is_created_by_many_at_once() {
    for _ in 0..8 {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("db");
        let start = std::sync::Barrier::new(8);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    start.wait();
                    let shared = Options { patience: None, ..Options::default() };
                    drop(miroir_store_sqlite::open(&path, shared).unwrap());
                });
            }
        });
    }
}

/// Dropping every handle while calls are queued loses none of them.
#[tokio::test]
async fn what_was_queued_is_written_after_the_last_handle_is_gone() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("db");
    let stores = open(&path);
    let handle = stores.clone();
    let calls = join_all((0..100).map(|_| handle.tasks.insert(new_task("movies"))));
    drop(stores);
    for task in calls.await {
        task.unwrap();
    }
    drop(handle);
    let stores = open(&path);
    assert_eq!(stores.tasks.insert(new_task("movies")).await.unwrap().uid, TaskUid(100));
}

/// Not a test of its own, and done at once unless it is the process that
/// `a_killed_process_loses_nothing` starts and kills: that one inserts without end and prints each
/// uid once it was acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let Some(path) = std::env::var_os("MIROIR_TEST_STORE") else { return };
    let stores = open(Path::new(&path));
    let writers = (0..8).map(|_| async {
        loop {
            let task = stores.tasks.insert(new_task("movies")).await.unwrap();
            stores.replicas.mark(vec![stale(&format!("n{}", task.uid))]).await.unwrap();
            writeln!(std::io::stdout(), "acknowledged {}", task.uid).unwrap();
        }
    });
    join_all(writers).await;
}

/// A second handle is refused while there is a first one, also after the file was found by another
/// path; it is told whose the file is.
#[tokio::test]
async fn one_process_has_the_file() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("db");
    let impatient = Options { patience: Some(Duration::ZERO), ..Options::default() };
    let first = open(&path);
    let other = directory.path().join("link");
    std::os::unix::fs::symlink(&path, &other).unwrap();
    for path in [&path, &other] {
        let refused = miroir_store_sqlite::open(path, impatient.clone()).unwrap_err();
        assert!(matches!(refused, StoreError::InUse { .. }), "{refused}");
        let process = format!("process {}", std::process::id());
        assert!(refused.to_string().contains(&process), "{refused}");
    }
    // One that is shared on purpose takes no part in this.
    drop(miroir_store_sqlite::open(&path, Options { patience: None, ..impatient }).unwrap());
    // Waited for: the writer may have to write what is left.
    drop(first);
    drop(open(&path));
}

/// A process that was killed leaves the file at once to the next one.
#[tokio::test]
async fn a_killed_process_has_the_file_no_more() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("db");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env("MIROIR_TEST_STORE", &path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    while !lines.next().expect("the child ended").unwrap().starts_with("acknowledged") {}
    let impatient = Options { patience: Some(Duration::ZERO), ..Options::default() };
    let refused = miroir_store_sqlite::open(&path, impatient.clone()).unwrap_err();
    assert!(refused.to_string().contains(&format!("process {}", child.id())), "{refused}");
    child.kill().unwrap();
    child.wait().unwrap();
    miroir_store_sqlite::open(&path, impatient).unwrap();
}

#[tokio::test]
async fn a_killed_process_loses_nothing() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("db");
    let mut next = 0;
    for round in 0..3 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture"])
            .env("MIROIR_TEST_STORE", &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut acknowledged = Vec::new();
        let uid = |line: String| line.strip_prefix("acknowledged ")?.parse::<u32>().ok();
        while acknowledged.len() < 40 + 60 * round {
            acknowledged.extend(uid(lines.next().expect("the child ended").unwrap()));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What it still managed to print was acknowledged as well; the last line may be cut off.
        let mut rest: Vec<_> = lines.map_while(Result::ok).collect();
        rest.pop();
        acknowledged.extend(rest.into_iter().filter_map(uid));

        let stores = open(&path);
        let stale = stores.replicas.list().await.unwrap();
        for uid in acknowledged {
            assert!(uid >= next, "{uid} was given twice");
            assert!(stores.tasks.get(TaskUid(uid)).await.unwrap().is_some(), "{uid} is lost");
            let node = format!("n{uid}");
            assert!(stale.iter().any(|row| row.node.as_str() == node), "{node} is lost");
        }
        let all = stores.tasks.list(TaskQuery { limit: 0, ..TaskQuery::default() }).await.unwrap();
        next = stores.tasks.insert(new_task("movies")).await.unwrap().uid.0 + 1;
        assert_eq!(u64::from(next), all.total + 1, "there is a gap");
    }
}
