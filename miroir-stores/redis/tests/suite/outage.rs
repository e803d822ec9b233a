//! Servers that crash, are away, come back empty, or refuse to write.

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use miroir_api::meili::TaskStatus;
use miroir_api::{NodeId, TaskUid};
use miroir_store::records::{AdminSession, FEATURES, Signal};
use miroir_store::{NewTask, StoreError, TaskRecord};
use miroir_store_redis::Options;
use miroir_test::redis::RedisServer;
use miroir_test::stores::contents;

use super::support::{Raw, entry, instant, new_task, stale};

#[tokio::test]
async fn a_crash_keeps_what_was_answered() {
    let server = RedisServer::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let url = server.url();
    let open = || miroir_store_redis::open(&url, Options::default());
    let stores = open().await.unwrap();
    for status in TaskStatus::ALL {
        stores.tasks.insert(NewTask { status, ..new_task("movies") }).await.unwrap();
    }
    assert!(stores.indexes.put(entry("movies"), None).await.unwrap());
    stores.replicas.mark(vec![stale("n1"), stale("n2")]).await.unwrap();
    stores.settings_versions.set("movies", &NodeId::new("n1").unwrap(), 3).await.unwrap();
    let before = contents(&stores).await;

    server.kill();
    server.start_again();
    assert_eq!(contents(&open().await.unwrap()).await, before);
    assert_eq!(contents(&stores).await, before, "the old handle works on");
    assert_eq!(stores.tasks.insert(new_task("movies")).await.unwrap().uid, TaskUid(5));
    let old = stores.replicas.list().await.unwrap().remove(0);
    stores.replicas.mark(vec![stale("n1")]).await.unwrap();
    assert!(!stores.replicas.clear(old).await.unwrap());
}

pub(crate) fn reason(error: &StoreError) -> String {
    assert!(matches!(error, StoreError::Backend(_)), "{error:?}");
    error.to_string()
}

#[tokio::test]
async fn a_server_that_is_away_fails_calls_until_it_is_back() {
    let server = RedisServer::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let stores = miroir_store_redis::open(&server.url(), Options::default()).await.unwrap();
    for round in 0..3_u32 {
        assert_eq!(stores.tasks.insert(new_task("a")).await.unwrap().uid, TaskUid(round));
        server.kill();
        let begun = Instant::now();
        // Many at once: nobody queues behind the attempts of the others.
        let calls = join_all((0..50).map(|_| stores.tasks.insert(new_task("lost")))).await;
        for call in calls {
            let reason = reason(&call.unwrap_err());
            assert!(reason.contains(&format!("Redis at 127.0.0.1:{}", server.port())), "{reason}");
        }
        reason(&stores.tasks.unfinished().await.unwrap_err());
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        server.start_again();
        // The first call of either kind finds it.
        if round % 2 == 0 {
            assert_eq!(stores.tasks.unfinished().await.unwrap().len() as u32, round + 1);
        }
    }
    assert_eq!(stores.tasks.insert(new_task("a")).await.unwrap().uid, TaskUid(3));
}

/// Whoever listens while the server is away is told that something may have been missed.
#[tokio::test]
async fn listeners_hear_of_a_gap() {
    let server = RedisServer::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let options = || Options { features: FEATURES.to_vec(), ..Options::default() };
    let here = miroir_store_redis::open(&server.url(), options()).await.unwrap();
    let there = miroir_store_redis::open(&server.url(), options()).await.unwrap();
    let session = AdminSession {
        id: "s".to_owned(),
        csrf: String::new(),
        created_at: instant(),
        source: String::new(),
        revoked: false,
    };
    let hour = Duration::from_hours(1);
    let mut revoked = here.admin_sessions.revoked();
    let mut next = async || {
        let next = tokio::time::timeout(Duration::from_secs(30), revoked.next()).await;
        next.expect("something is heard").unwrap()
    };
    for _ in 0..2 {
        assert_eq!(next().await, Signal::Gap);
        there.admin_sessions.insert(session.clone(), hour, instant()).await.unwrap();
        let begun = Instant::now();
        assert!(there.admin_sessions.revoke("s", hour, instant()).await.unwrap());
        assert_eq!(next().await, Signal::Said("s".to_owned()));
        // On one machine it takes a millisecond.
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        server.kill();
        server.start_again();
    }
}

#[tokio::test]
async fn a_server_that_came_back_empty_is_not_taken_for_the_store() {
    let server = RedisServer::start(&[]);
    let url = server.url();
    let open = || miroir_store_redis::open(&url, Options::default());
    let stores = open().await.unwrap();
    stores.tasks.insert(new_task("a")).await.unwrap();
    server.kill();
    server.start_again();
    for _ in 0..2 {
        let calls = [
            stores.tasks.unfinished().await.map(|_| ()).unwrap_err(),
            stores.tasks.insert(new_task("a")).await.map(|_| ()).unwrap_err(),
        ];
        for reason in calls.iter().map(reason) {
            assert!(reason.contains("does not hold the store that was opened"), "{reason}");
        }
    }
    let fresh = open().await.unwrap();
    assert_eq!(fresh.tasks.insert(new_task("a")).await.unwrap().uid, TaskUid(0));
}

/// What a caller gave up does not happen later, when the caller may have done something else.
#[tokio::test]
async fn a_write_that_was_given_up_has_no_effect_later() {
    let server = RedisServer::start(&[]);
    let options = Options {
        response_timeout: Duration::from_millis(300),
        connect_timeout: Duration::from_millis(300),
        ..Options::default()
    };
    let stores = miroir_store_redis::open(&server.url(), options).await.unwrap();
    let task = stores.tasks.insert(new_task("a")).await.unwrap();
    // Redis knows the script from now on.
    stores.tasks.update(task.clone()).await.unwrap();
    let mut raw = Raw::new(&server).await;

    server.pause();
    let begun = Instant::now();
    let late = TaskRecord { status: TaskStatus::Failed, ..task.clone() };
    let slow = reason(&stores.tasks.update(late).await.unwrap_err());
    assert!(slow.contains("did not answer within 300ms"), "{slow}");
    let away = reason(&stores.tasks.get(task.uid).await.unwrap_err());
    assert!(away.contains("no connection within 300ms"), "{away}");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    server.resume();

    // The old connection is read after the pause, whenever that is.
    while !raw.info("errorstats").await.contains("errorstat_MIROIRLATE:count=1") {
        assert!(begun.elapsed() < Duration::from_secs(30), "the late write was not refused");
        tokio::task::yield_now().await;
    }
    assert_eq!(stores.tasks.get(task.uid).await.unwrap(), Some(task));
}

#[tokio::test]
async fn a_server_that_refuses_writes_says_so_and_nothing_is_half_done() {
    let server = RedisServer::start(&[]);
    let stores = miroir_store_redis::open(&server.url(), Options::default()).await.unwrap();
    let mut raw = Raw::new(&server).await;
    let task = stores.tasks.insert(new_task("a")).await.unwrap();
    let before = (contents(&stores).await, raw.size().await);

    raw.config("maxmemory", "1").await;
    let refused = [
        reason(&stores.tasks.insert(new_task("b")).await.unwrap_err()),
        reason(
            &stores
                .tasks
                .update(TaskRecord { status: TaskStatus::Failed, ..task })
                .await
                .unwrap_err(),
        ),
        reason(&stores.indexes.put(entry("movies"), None).await.unwrap_err()),
        reason(&stores.replicas.mark(vec![stale("n")]).await.unwrap_err()),
    ];
    for reason in refused {
        assert!(reason.contains("OOM"), "{reason}");
    }
    assert_eq!((contents(&stores).await, raw.size().await), before);

    raw.config("maxmemory", "1gb").await;
    raw.config("maxmemory-policy", "allkeys-lru").await;
    let forgetful = miroir_store_redis::open(&server.url(), Options::default()).await;
    let forgetful = reason(&forgetful.unwrap_err());
    assert!(forgetful.contains("noeviction"), "{forgetful}");

    raw.config("maxmemory", "0").await;
    assert_eq!(stores.tasks.insert(new_task("b")).await.unwrap().uid, TaskUid(1));
}
