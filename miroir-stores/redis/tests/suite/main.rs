//! Redis keeps the contract of the store traits, and what a server of its own adds to it.

mod outage;
mod support;

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use miroir_api::meili::{TaskKind, TaskStatus};
use miroir_api::{IndexUid, TaskUid};
use miroir_store::records::{Alias, AliasTarget, Limit, Pin};
use miroir_store::{Fence, NewTask, StoreError, Stores, TaskQuery, TaskRecord, TaskState};
use miroir_store_redis::Options;
use miroir_test::redis::RedisServer;
use miroir_test::stores::{Fixture, TASKS_OF_0_1, Tape, listing};
use proptest::prelude::*;
use time::OffsetDateTime;
use tokio::runtime::Runtime;

use outage::reason;
use support::{Raw, entry, fixture, instant, new_task, open, own, stale};

miroir_test::store_suite!(redis, async || fixture().await);

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn lists_agree_with_the_model(tape in prop::collection::vec(any::<u64>(), 0..900)) {
        Runtime::new().unwrap().block_on(async {
            let fixture: Fixture = fixture().await;
            listing::agrees_with_the_model(&fixture.stores, Tape::new(tape)).await;
        });
    }
}

/// What a leader still wants to change when another has followed it is refused, and changes nothing.
#[tokio::test]
async fn a_leader_of_a_former_term_changes_nothing() {
    let options = own();
    let (old, new) = (open(options.clone()).await, open(options).await);
    let acquire = async |stores: &Stores, holder: &str, ttl| {
        stores.leases.acquire(Fence::SCOPE, holder, instant(), ttl).await.unwrap().unwrap()
    };
    let first = acquire(&old, "old", Duration::from_millis(1)).await;
    old.fence.carry(first.fence);
    let task = old.tasks.insert(new_task("movies")).await.unwrap();
    assert!(old.indexes.put(entry("movies"), None).await.unwrap());
    tokio::time::sleep(Duration::from_millis(20)).await;
    // Its lease ran out, but nobody followed: what it does is right.
    old.tasks.update(task.clone()).await.unwrap();

    let second = acquire(&new, "new", Duration::from_mins(1)).await;
    assert!(second.fence > first.fence);
    new.fence.carry(second.fence);
    let end = TaskRecord { status: TaskStatus::Failed, ..task.clone() };
    let refused = |error: StoreError| assert!(matches!(error, StoreError::Deposed), "{error}");
    refused(old.tasks.insert(new_task("movies")).await.unwrap_err());
    refused(old.tasks.update(end).await.unwrap_err());
    refused(old.tasks.remove(vec![task.uid.0]).await.unwrap_err());
    refused(old.indexes.put(entry("books"), None).await.unwrap_err());
    refused(old.indexes.delete(&IndexUid::new("movies").unwrap(), 1).await.unwrap_err());
    refused(old.replicas.mark(vec![stale("node-1")]).await.unwrap_err());
    refused(old.features.set(vec![("metrics".to_owned(), true)]).await.unwrap_err());
    let alias = Alias {
        name: IndexUid::new("shop").unwrap(),
        target: AliasTarget::One(IndexUid::new("movies").unwrap()),
        version: 1,
        owner: None,
        created_at: instant(),
        history: Vec::new(),
    };
    refused(old.aliases.put(alias, 0).await.unwrap_err());
    refused(old.pods.bump_epoch(&[]).await.unwrap_err());
    refused(old.pods.take_notes().await.unwrap_err());
    assert_eq!(new.tasks.get(task.uid).await.unwrap().unwrap(), task);
    assert_eq!(new.indexes.list().await.unwrap().len(), 1);
    assert!(new.replicas.list().await.unwrap().is_empty());
    assert_eq!(new.tasks.insert(new_task("movies")).await.unwrap().uid.0, task.uid.0 + 1);

    // What is everybody's is not fenced, and who was never elected sends nothing else.
    old.fence.close();
    refused(old.tasks.insert(new_task("movies")).await.unwrap_err());
    old.pods.note(serde_json::json!({"late": 1})).await.unwrap();
    let limit = Limit { count: 1, per: Duration::from_mins(1) };
    assert!(old.buckets.take("ip", limit, instant()).await.unwrap().allowed);
    assert_eq!(old.tasks.prune(instant()).await.unwrap(), 0);
    assert_eq!(old.tasks.get(task.uid).await.unwrap().unwrap(), task);
    assert_eq!(new.pods.take_notes().await.unwrap().len(), 1);
}

/// A server that lost its last writes gives a fence a second time. It tells the two by their names.
#[tokio::test]
async fn a_fence_that_is_given_twice_is_the_last_holders() {
    let options = own();
    let prefix = options.key_prefix.clone();
    let (old, new) = (open(options.clone()).await, open(options).await);
    let minute = Duration::from_mins(1);
    let lead = async |stores: &Stores, holder: &str| {
        let lease = stores.leases.acquire(Fence::SCOPE, holder, instant(), minute).await.unwrap();
        let fence = lease.expect("nobody leads").fence;
        stores.fence.name(holder);
        stores.fence.carry(fence);
        fence
    };
    let first = lead(&old, "old: one").await;
    old.tasks.insert(new_task("movies")).await.unwrap();
    Raw::new(RedisServer::shared()).await.delete(&format!("{prefix}lease:leader")).await;
    // Nobody has followed yet.
    old.tasks.insert(new_task("movies")).await.unwrap();
    assert_eq!(lead(&new, "new").await, first);
    let refused = old.tasks.insert(new_task("movies")).await.unwrap_err();
    assert!(matches!(refused, StoreError::Deposed), "{refused}");
    new.tasks.insert(new_task("movies")).await.unwrap();
}

/// What version 0.1 wrote of tasks in every state is read.
#[tokio::test]
async fn tasks_of_version_0_1_are_read() {
    let options = own();
    let prefix = options.key_prefix.clone();
    let stores = open(options).await;
    let mut raw = Raw::new(RedisServer::shared()).await;
    for line in TASKS_OF_0_1.lines() {
        let old: TaskRecord = serde_json::from_str(line).unwrap();
        assert!(!matches!(old.protocol.state, Some(TaskState::Unreadable(_))), "{line}");
        let new = NewTask { kind: old.kind, status: old.status, ..new_task("a") };
        let uid = stores.tasks.insert(new).await.unwrap().uid;
        // Uid and index are kept beside the record, which Redis has not to understand.
        let mut record: serde_json::Value = serde_json::from_str(line).unwrap();
        (record["uid"], record["index"]) = (0.into(), serde_json::Value::Null);
        raw.set_field(&format!("{prefix}tasks:{uid}"), "record", &record.to_string()).await;
        let read = stores.tasks.get(uid).await.unwrap().unwrap();
        assert_eq!(TaskRecord { uid: old.uid, index: old.index.clone(), ..read }, old);
    }
}

/// Several connections insert, change and prune at once: uids are dense, no change is lost, and
/// what lists are made of agrees with the tasks.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn handles_that_race_lose_no_update_and_give_no_uid_twice() {
    let options = own();
    let opening = (0..4).map(|_| open(options.clone()));
    let handles = join_all(opening).await;
    assert!(handles[0].indexes.put(entry("movies"), None).await.unwrap());
    let name = IndexUid::new("movies").unwrap();
    let callers = (0..16).map(|caller| {
        let (stores, name) = (handles[caller % 4].clone(), name.clone());
        tokio::spawn(async move {
            let (mut uids, mut won) = (Vec::new(), 0);
            for round in 0..25 {
                let task = stores.tasks.insert(new_task("movies")).await.unwrap();
                uids.push(task.uid.0);
                let status = TaskStatus::ALL[(caller + round) % 5];
                stores.tasks.update(TaskRecord { status, ..task }).await.unwrap();
                let mut entry = stores.indexes.get(&name).await.unwrap().unwrap();
                entry.version += 1;
                let expected = entry.version - 1;
                won += u64::from(stores.indexes.put(entry, Some(expected)).await.unwrap());
                if round % 5 == 0 {
                    let (a, b) = ("movies".to_owned(), format!("other{caller}"));
                    stores.tasks.swap_indexes(a, b, TaskUid(uids[0])).await.unwrap();
                }
            }
            (uids, won)
        })
    });
    let (uids, won): (Vec<_>, Vec<_>) =
        join_all(callers).await.into_iter().map(Result::unwrap).unzip();
    let mut uids = uids.concat();
    uids.sort_unstable();
    assert!(uids.into_iter().eq(0..400));
    let version = handles[1].indexes.list().await.unwrap()[0].version;
    assert_eq!(version, 1 + won.iter().sum::<u64>());

    let tasks = &handles[2].tasks;
    let all = TaskQuery { limit: usize::MAX, reverse: true, ..TaskQuery::default() };
    let all = tasks.list(all).await.unwrap().tasks;
    assert_eq!(all.len(), 400);
    let names: BTreeSet<_> = all.iter().filter_map(|task| task.index.clone()).collect();
    assert!(names.len() > 1, "nothing was swapped");
    assert_eq!(tasks.index_names().await.unwrap(), names.into_iter().collect::<Vec<_>>());
    for (status, count) in tasks.counts().await.unwrap() {
        let query = TaskQuery { statuses: Some(vec![status]), ..TaskQuery::default() };
        let listed: Vec<_> =
            all.iter().filter(|task| query.matches(task)).map(|task| task.uid.0).collect();
        assert_eq!(count, listed.len() as u64, "{status:?}");
        assert_eq!(tasks.uids(query).await.unwrap(), listed, "{status:?}");
    }
}

/// A swap that meets changes of what swaps say of themselves is made on what they say then.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn swaps_race_with_updates_of_swaps() {
    let options = own();
    let handles = [open(options.clone()).await, open(options).await];
    let swap = NewTask {
        index: None,
        kind: TaskKind::IndexSwap,
        details: serde_json::json!({"swaps": [{"indexes": ["a", "x"]}]}).as_object().cloned(),
        ..new_task("a")
    };
    let swap = handles[0].tasks.insert(swap).await.unwrap();
    let awaits =
        |step: u32| TaskState::Rename { awaits: vec![step.to_string()], intent: None }.into();
    let swapping = async {
        for _ in 0..15 {
            let (a, b) = ("a".to_owned(), "b".to_owned());
            handles[0].tasks.swap_indexes(a, b, TaskUid(9)).await.unwrap();
        }
    };
    let updating = async {
        for step in 0..15 {
            let mut task = handles[1].tasks.get(swap.uid).await.unwrap().unwrap();
            task.protocol = awaits(step);
            handles[1].tasks.update(task).await.unwrap();
        }
    };
    tokio::join!(swapping, updating);
    let task = handles[1].tasks.get(swap.uid).await.unwrap().unwrap();
    assert_eq!(task.protocol, awaits(14));
    let said = &task.details.unwrap()["swaps"][0]["indexes"];
    assert!(said == &serde_json::json!(["a", "x"]) || said == &serde_json::json!(["b", "x"]));
}

#[tokio::test]
async fn two_handles_see_each_other_at_once() {
    let options = own();
    let (one, two) = (open(options.clone()).await, open(options).await);
    for _ in 0..20 {
        let task = one.tasks.insert(new_task("movies")).await.unwrap();
        assert_eq!(two.tasks.get(task.uid).await.unwrap().as_ref(), Some(&task));
        let done = TaskRecord { status: TaskStatus::Succeeded, ..task };
        two.tasks.update(done.clone()).await.unwrap();
        assert_eq!(one.tasks.get(done.uid).await.unwrap(), Some(done));
    }
    one.features.set(vec![("metrics".to_owned(), true)]).await.unwrap();
    assert_eq!(two.features.list().await.unwrap(), [("metrics".to_owned(), true)]);
}

/// Deployments that differ by prefix share a database and nothing else.
#[tokio::test]
async fn stores_of_different_prefixes_share_nothing() {
    let (one, two) = (open(own()).await, open(own()).await);
    one.tasks.insert(new_task("a")).await.unwrap();
    one.replicas.mark(vec![stale("n")]).await.unwrap();
    assert_eq!(two.tasks.insert(new_task("b")).await.unwrap().uid, TaskUid(0));
    assert_eq!(two.replicas.list().await.unwrap(), []);
    assert_eq!(two.tasks.index_names().await.unwrap(), ["b"]);
}

/// Redis forgets by itself what has ended, and the index of the table is cleaned.
#[tokio::test]
async fn what_ended_leaves_no_keys() {
    let options = own();
    let prefix = options.key_prefix.clone();
    let stores = open(options).await;
    let mut raw = Raw::new(RedisServer::shared()).await;
    let pin = Pin { task: TaskUid(1), group: None };
    let short = Duration::from_millis(20);
    for session in ["a", "b"] {
        stores.sessions.pin(session, "movies", pin, short, 10, instant()).await.unwrap();
    }
    let limit = Limit { count: 1, per: short };
    assert!(stores.buckets.take("ip", limit, instant()).await.unwrap().allowed);
    let begun = Instant::now();
    let mut left = vec![String::new()];
    while !left.is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(30), "{left:?}");
        stores.sessions.prune(instant()).await.unwrap();
        left = raw.keys(&prefix).await;
        left.retain(|key| key.contains("session") || key.contains("ratelimit"));
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_newer_store_is_refused() {
    let options = own();
    drop(open(options.clone()).await);
    let mut raw = Raw::new(RedisServer::shared()).await;
    raw.set_field(&format!("{}schema_versions", options.key_prefix), "9999", "future").await;
    let error = miroir_store_redis::open(&RedisServer::shared().url(), options).await.unwrap_err();
    assert!(matches!(error, StoreError::SchemaVersionAhead { found: 9999, known: 1 }), "{error}");
    assert!(error.to_string().contains("schema_version_ahead"));
}

#[tokio::test]
async fn opening_twice_migrates_once_and_says_which_version() {
    let options = own();
    let opening = (0..8).map(|_| open(options.clone()));
    drop(join_all(opening).await);
    let mut raw = Raw::new(RedisServer::shared()).await;
    let key = |name: &str| format!("{}{name}", options.key_prefix);
    assert_eq!(raw.get(&key("schema_version")).await.as_deref(), Some("1"));
    let id = raw.get(&key("store_id")).await;
    drop(open(options.clone()).await);
    assert!(id.is_some() && raw.get(&key("store_id")).await == id);
}

#[tokio::test]
async fn passwords_open_and_are_not_repeated() {
    let rights = "on >hunter3 ~miroir:* +@read +@write +@scripting +@connection +info +time";
    let user: Vec<_> = ["--user", "miroir"].into_iter().chain(rights.split(' ')).collect();
    let server = RedisServer::start(&[&["--requirepass", "hunter2"], user.as_slice()].concat());
    let url = |login: &str| format!("redis://{login}127.0.0.1:{}", server.port());
    for login in [":hunter2@", "miroir:hunter3@"] {
        let opened = miroir_store_redis::open(&url(login), Options::default()).await;
        let stores = opened.unwrap_or_else(|error| panic!("{login}: {error}"));
        stores.tasks.insert(new_task("a")).await.unwrap();
        assert_ne!(stores.tasks.unfinished().await.unwrap(), []);
        assert!(!format!("{stores:?}").contains("hunter"));
    }
    for login in ["", ":hunter3@"] {
        let error = miroir_store_redis::open(&url(login), Options::default()).await.unwrap_err();
        let reason = reason(&error);
        assert!(!format!("{reason} {error:?}").contains("hunter"), "{error:?}");
        assert!(reason.contains("WRONGPASS") || reason.contains("NOAUTH"), "{reason}");
    }
}

/// Not a test of its own, and done at once unless it is the process that
/// `tls_trusts_the_systems_certificates` starts, with certificates of its own.
#[tokio::test]
async fn child() {
    let Ok(url) = std::env::var("MIROIR_TEST_URL") else { return };
    let stores = match miroir_store_redis::open(&url, Options::default()).await {
        Ok(stores) => stores,
        Err(error) => return println!("\nopened: {error}"),
    };
    let uid = stores.tasks.insert(new_task("a")).await.unwrap().uid;
    println!("\nopened: and inserted {uid}");
}

#[test]
fn tls_trusts_the_systems_certificates() {
    let fixture = |name| format!("{}/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"));
    let options = [
        ["--port", "0"],
        ["--tls-port", "{port}"],
        ["--tls-auth-clients", "no"],
        ["--tls-cert-file", &fixture("server.pem")],
        ["--tls-key-file", &fixture("server.key")],
        ["--requirepass", "hunter2"],
    ];
    let server = RedisServer::start(options.as_flattened());
    let opened = |trusted: &str| {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture"])
            .env("MIROIR_TEST_URL", format!("rediss://:hunter2@127.0.0.1:{}", server.port()))
            .env("SSL_CERT_FILE", trusted)
            .output()
            .unwrap();
        let output = String::from_utf8(output.stdout).unwrap();
        let line = output.lines().find_map(|line| line.strip_prefix("opened: "));
        line.unwrap_or_else(|| panic!("{output}")).to_owned()
    };
    assert_eq!(opened(&fixture("ca.pem")), "and inserted 0");
    let refused = opened(&fixture("server.pem"));
    assert!(refused.contains("certificate") && !refused.contains("hunter2"), "{refused}");
}

/// A page costs what it holds: commands that scripts run are counted by Redis.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_page_does_not_read_the_registry() {
    const TASKS: u32 = 4_000;
    let server = RedisServer::start(&[]);
    let stores = miroir_store_redis::open(&server.url(), Options::default()).await.unwrap();
    let second = |seconds: u32| OffsetDateTime::from_unix_timestamp(seconds.into()).unwrap();
    let task = |uid: u32| NewTask {
        index: Some(format!("index{}", uid % 10)),
        kind: if uid % 10 == 3 { TaskKind::SettingsUpdate } else { TaskKind::DocumentDeletion },
        status: if uid % 100 == 7 { TaskStatus::Failed } else { TaskStatus::Succeeded },
        ..NewTask::new(TaskKind::DocumentDeletion, second(uid))
    };
    let tasks = Arc::clone(&stores.tasks);
    for from in (0..TASKS).step_by(100) {
        for task in join_all((from..from + 100).map(|uid| tasks.insert(task(uid)))).await {
            task.unwrap();
        }
    }
    let mut canceled = tasks.get(TaskUid(8)).await.unwrap().unwrap();
    canceled.canceled_by = Some(TaskUid(9));
    tasks.update(canceled).await.unwrap();

    let page = TaskQuery { limit: 20, ..TaskQuery::default() };
    let queries = [
        (page.clone(), TASKS),
        (TaskQuery { reverse: true, from: Some(TaskUid(2_000)), ..page.clone() }, TASKS),
        (TaskQuery { statuses: Some(vec![TaskStatus::Failed]), ..page.clone() }, TASKS / 100),
        (TaskQuery { statuses: Some(TaskStatus::ALL.to_vec()), ..page.clone() }, TASKS),
        (TaskQuery { kinds: Some(vec![TaskKind::SettingsUpdate]), ..page.clone() }, TASKS / 10),
        (
            TaskQuery {
                indexes: Some(["index3", "index7", "none"].map(str::to_owned).into()),
                statuses: Some(vec![TaskStatus::Succeeded, TaskStatus::Failed]),
                ..page.clone()
            },
            TASKS / 5,
        ),
        (TaskQuery { uids: Some([1, 2, TASKS - 1, TASKS + 1].into()), ..page.clone() }, 3),
        (TaskQuery { canceled_by: Some([9].into()), ..page.clone() }, 1),
        (TaskQuery { batches: Some([8, 9, 10].into()), ..page.clone() }, 3),
        (TaskQuery { after_enqueued: Some(second(TASKS - 50)), ..page.clone() }, 49),
        (
            TaskQuery {
                before_finished: Some(second(50)),
                statuses: Some(vec![TaskStatus::Succeeded]),
                ..page.clone()
            },
            49,
        ),
    ];
    let mut raw = Raw::new(&server).await;
    for (query, total) in queries {
        let before = raw.calls().await;
        let found = tasks.list(query.clone()).await.unwrap();
        let calls = raw.calls().await - before;
        assert_eq!(found.total, u64::from(total), "{query:?}");
        assert!(calls < 120, "{calls} commands for {query:?}");
    }
    let before = raw.calls().await;
    assert_eq!(
        tasks.counts().await.unwrap()[2],
        (TaskStatus::Succeeded, u64::from(TASKS - TASKS / 100))
    );
    assert_eq!(tasks.index_names().await.unwrap().len(), 10);
    assert!(raw.calls().await - before < 20);
}

#[tokio::test]
async fn pruning_goes_around_what_is_not_over() {
    let stores = open(own()).await;
    let enqueued_at = instant();
    let mut kept = Vec::new();
    for number in 0..1_500 {
        let new = NewTask { status: TaskStatus::Succeeded, enqueued_at, ..new_task("a") };
        let task = stores.tasks.insert(new).await.unwrap();
        // Finished by its time, and going on by its status.
        if number < 1_200 {
            stores
                .tasks
                .update(TaskRecord { status: TaskStatus::Processing, ..task.clone() })
                .await
                .unwrap();
            kept.push(task.uid.0);
        }
    }
    assert_eq!(stores.tasks.prune(enqueued_at + Duration::from_secs(1)).await.unwrap(), 300);
    assert_eq!(stores.tasks.uids(TaskQuery::default()).await.unwrap(), kept);
}

/// Nothing of a task stays behind once it is removed.
#[tokio::test]
async fn removed_tasks_leave_no_keys() {
    let server = RedisServer::start(&[]);
    let stores: Stores = miroir_store_redis::open(&server.url(), Options::default()).await.unwrap();
    let mut raw = Raw::new(&server).await;
    stores.tasks.insert(NewTask { status: TaskStatus::Failed, ..new_task("a") }).await.unwrap();
    stores.tasks.remove(vec![0]).await.unwrap();
    let empty = raw.size().await;
    for number in 0..20 {
        let name = format!("index{number}");
        let new = NewTask { status: TaskStatus::Failed, ..new_task(&name) };
        let mut task = stores.tasks.insert(new).await.unwrap();
        task.canceled_by = Some(TaskUid(3));
        stores.tasks.update(task).await.unwrap();
    }
    assert!(raw.size().await > empty + 20);
    stores.tasks.swap_indexes("index3".into(), "index99".into(), TaskUid(9)).await.unwrap();
    assert_eq!(stores.tasks.remove((0..=20).collect()).await.unwrap().len(), 20);
    assert_eq!(raw.size().await, empty);
}
