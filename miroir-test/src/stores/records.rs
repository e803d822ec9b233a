//! What capabilities keep.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use miroir_api::{GroupId, IndexUid, NodeId, TaskUid};
use miroir_store::Stores;
use miroir_store::records::{
    AdminSession, Alias, AliasTarget, Began, Canary, CanaryRun, Kept, KeptAnswer, Limit,
    LoginFailures, Pin, QueryFailure, Rollover, ScopedKey, Session, Signal, Size, TenantMapping,
};
use serde_json::json;
use uuid::Uuid;

use super::tasks::at;

/// Longer than any test.
const LONG: Duration = Duration::from_hours(1);
const SHORT: Duration = Duration::from_millis(20);

fn name(name: &str) -> IndexUid {
    IndexUid::new(name).unwrap()
}

fn one(index: &str) -> AliasTarget {
    AliasTarget::One(name(index))
}

fn alias(of: &str, target: AliasTarget) -> Alias {
    let (owner, history) = (None, Vec::new());
    Alias { name: name(of), target, version: 1, owner, created_at: at(0), history }
}

/// Waits until a check holds, for backends that go by a clock of their own.
async fn until(what: &str, mut check: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !check().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait).await.expect(what);
}

/// Aliases are written, flipped with their history, and deleted by version.
pub async fn aliases_flip(stores: &Stores) {
    let aliases = &stores.aliases;
    let first = alias("shop", one("a"));
    // A name that is special in no backend.
    let odd = alias("_index", AliasTarget::Many(vec![name("a"), name("b")]));
    assert!(aliases.put(first.clone(), 0).await.unwrap());
    assert!(!aliases.put(first.clone(), 0).await.unwrap(), "there is one");
    assert!(aliases.put(odd.clone(), 0).await.unwrap());
    assert_eq!(aliases.list().await.unwrap(), [odd, first.clone()]);

    let mut last = first.clone();
    for round in 2..=5 {
        let next = last.flipped(one(&format!("t{round}")), 2, at(round));
        assert!(aliases.put(next.clone(), last.version).await.unwrap());
        assert!(!aliases.put(next.clone(), last.version).await.unwrap(), "it was flipped");
        last = next;
    }
    assert_eq!(last.version, 5);
    let history: Vec<_> = last.history.iter().map(|flip| flip.version).collect();
    assert_eq!(history, [4, 3], "the oldest go");
    assert_eq!(aliases.list().await.unwrap()[1], last);
    assert!(!aliases.delete(&first.name, 4).await.unwrap());
    assert!(aliases.delete(&first.name, 5).await.unwrap());
    assert!(!aliases.delete(&first.name, 5).await.unwrap());
    assert_eq!(aliases.list().await.unwrap().len(), 1);
}

/// Of all that flip at once, each version has one winner and no flip is lost.
pub async fn every_flip_has_one_winner(stores: &Stores) {
    assert!(stores.aliases.put(alias("shop", one("a")), 0).await.unwrap());
    let callers = (0..8).map(|caller| {
        let aliases = stores.aliases.clone();
        tokio::spawn(async move {
            let mut won = 0;
            for round in 0..20 {
                let known = aliases.list().await.unwrap().remove(0);
                let next = known.flipped(one(&format!("t{caller}_{round}")), 10, at(round));
                won += u64::from(aliases.put(next, known.version).await.unwrap());
            }
            won
        })
    });
    let won: u64 = join_all(callers).await.into_iter().map(Result::unwrap).sum();
    let last = stores.aliases.list().await.unwrap().remove(0);
    assert_eq!(last.version, 1 + won);
    let history: Vec<_> = last.history.iter().map(|flip| flip.version).collect();
    let expected: Vec<_> = (1..last.version).rev().take(10).collect();
    assert_eq!(history, expected);
}

fn pin(task: u32, group: u32) -> Pin {
    Pin { task: TaskUid(task), group: Some(GroupId(group)) }
}

/// Of two writes the later stays, however they are told; sessions are bounded and end.
pub async fn sessions_remember_the_later_write(stores: &Stores) {
    let sessions = &stores.sessions;
    assert_eq!(sessions.get("s", at(0)).await.unwrap(), None);
    for (index, task) in [("a", 7), ("a", 9), ("a", 8), ("b", 3)] {
        sessions.pin("s", index, pin(task, task), LONG, 100, at(0)).await.unwrap();
    }
    let pins = BTreeMap::from([("a".to_owned(), pin(9, 9)), ("b".to_owned(), pin(3, 3))]);
    assert_eq!(sessions.get("s", at(0)).await.unwrap(), Some(Session { pins }));

    let callers = (0..30).map(|task| {
        let sessions = sessions.clone();
        tokio::spawn(async move {
            sessions.pin("many", "a", pin(task, 0), LONG, 100, at(0)).await.unwrap();
        })
    });
    join_all(callers).await.into_iter().for_each(Result::unwrap);
    let many = sessions.get("many", at(0)).await.unwrap().unwrap();
    assert_eq!(many.pins["a"].task, TaskUid(29));
    assert_eq!(sessions.count(at(0)).await.unwrap(), 2);

    // A session with nothing left to wait for is forgotten, unless it wrote meanwhile.
    sessions.pin("done", "a", pin(1, 0), LONG, 100, at(0)).await.unwrap();
    sessions.pin("done", "a", pin(2, 0), LONG, 100, at(0)).await.unwrap();
    sessions.release("done", "a", pin(1, 0), at(0)).await.unwrap();
    assert!(sessions.get("done", at(0)).await.unwrap().is_some());
    sessions.release("done", "a", pin(2, 0), at(0)).await.unwrap();
    assert_eq!(sessions.get("done", at(0)).await.unwrap(), None);

    sessions.pin("short", "a", pin(1, 0), SHORT, 100, at(0)).await.unwrap();
    until("a session ends", async || sessions.get("short", at(20)).await.unwrap().is_none()).await;
    sessions.prune(at(20)).await.unwrap();
    assert_eq!(sessions.count(at(20)).await.unwrap(), 2);
}

/// With more than the most, those that end first go, and never the one that is written.
pub async fn sessions_are_bounded(stores: &Stores) {
    let sessions = &stores.sessions;
    for session in 0..10_u32 {
        let ttl = LONG + Duration::from_secs(u64::from(session));
        sessions.pin(&format!("s{session}"), "a", pin(session, 0), ttl, 4, at(0)).await.unwrap();
    }
    assert_eq!(sessions.count(at(0)).await.unwrap(), 4);
    for session in 0..10 {
        let found = sessions.get(&format!("s{session}"), at(0)).await.unwrap();
        assert_eq!(found.is_some(), session >= 6, "s{session}");
    }
    sessions.pin("hasty", "a", pin(1, 0), Duration::from_mins(1), 4, at(0)).await.unwrap();
    assert!(sessions.get("hasty", at(0)).await.unwrap().is_some(), "it was just written");
    assert!(sessions.get("s6", at(0)).await.unwrap().is_none());
}

fn kept(request: &str, holder: &str) -> Kept {
    let answer = None;
    Kept { request: request.to_owned(), holder: holder.to_owned(), began_at: at(0), answer }
}

/// Of all that come with one key, one begins; the others learn what became of it.
pub async fn a_key_is_used_once(stores: &Stores) {
    let keys = &stores.idempotency;
    let callers = (0..20).map(|caller| {
        let keys = keys.clone();
        tokio::spawn(async move {
            let write = kept("hash", &format!("caller {caller}"));
            let began = keys.begin("k", write.clone(), LONG, 100, at(0)).await.unwrap();
            (write, began)
        })
    });
    let all: Vec<_> = join_all(callers).await.into_iter().map(Result::unwrap).collect();
    let (first, others): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|(_, began)| *began == Began::First);
    let [(write, _)] = first.as_slice() else { panic!("{} began", first.len()) };
    for (_, began) in others {
        assert_eq!(began, Began::Known(write.clone()));
    }

    let answer = Some(KeptAnswer { status: 202, body: "{\"taskUid\":1}".to_owned() });
    let settled = Kept { answer, ..write.clone() };
    let other = kept("hash", "somebody else");
    assert!(!keys.replace("k", &other, settled.clone(), LONG, at(0)).await.unwrap());
    assert!(keys.replace("k", write, settled.clone(), LONG, at(0)).await.unwrap());
    assert!(!keys.replace("k", write, other.clone(), LONG, at(0)).await.unwrap(), "it is settled");
    keys.drop_key("k", write, at(0)).await.unwrap();
    let again = keys.begin("k", other.clone(), LONG, 100, at(0)).await.unwrap();
    assert_eq!(again, Began::Known(settled));

    // What had no effect can be done again.
    assert_eq!(keys.begin("x", other.clone(), LONG, 100, at(0)).await.unwrap(), Began::First);
    keys.drop_key("x", &other, at(0)).await.unwrap();
    assert_eq!(keys.begin("x", other.clone(), LONG, 100, at(0)).await.unwrap(), Began::First);

    assert_eq!(keys.begin("short", other.clone(), SHORT, 100, at(0)).await.unwrap(), Began::First);
    until("a key ends", async || {
        keys.begin("short", other.clone(), LONG, 100, at(20)).await.unwrap() == Began::First
    })
    .await;
    assert_eq!(keys.count(at(20)).await.unwrap(), 3);
    // Bounded by the most, here of all.
    for key in 0..5 {
        keys.begin(&format!("y{key}"), other.clone(), LONG, 4, at(20)).await.unwrap();
    }
    assert_eq!(keys.count(at(20)).await.unwrap(), 4);
}

/// Of everybody who finds a write whose holder is gone, one takes it over.
pub async fn an_abandoned_key_has_one_heir(stores: &Stores) {
    let gone = kept("hash", "gone");
    let keys = &stores.idempotency;
    assert_eq!(keys.begin("k", gone.clone(), LONG, 100, at(0)).await.unwrap(), Began::First);
    let callers = (0..10).map(|caller| {
        let (keys, gone) = (keys.clone(), gone.clone());
        tokio::spawn(async move {
            let heir = kept("hash", &format!("heir {caller}"));
            keys.replace("k", &gone, heir, LONG, at(0)).await.unwrap()
        })
    });
    let heirs = join_all(callers).await.into_iter().filter(|won| *won.as_ref().unwrap()).count();
    assert_eq!(heirs, 1);
}

/// Canaries keep their last runs.
pub async fn canaries_keep_their_last_runs(stores: &Stores) {
    let canaries = &stores.canaries;
    let canary =
        |name: &str, q: &str| Canary { name: name.to_owned(), definition: json!({"q": q}) };
    canaries.put(canary("b", "x")).await.unwrap();
    canaries.put(canary("a", "x")).await.unwrap();
    canaries.put(canary("b", "y")).await.unwrap();
    assert_eq!(canaries.list().await.unwrap(), [canary("a", "x"), canary("b", "y")]);
    let run = |second: u32| CanaryRun {
        ran_at: at(i64::from(second)),
        passed: second.is_multiple_of(2),
        latency_ms: u64::from(second),
        failures: vec![json!({"n": second})],
    };
    for second in 0..7 {
        canaries.record("a", run(second), 5).await.unwrap();
    }
    canaries.record("b", run(1), 5).await.unwrap();
    assert_eq!(canaries.runs("a", 3).await.unwrap(), [run(6), run(5), run(4)]);
    assert_eq!(canaries.runs("a", 100).await.unwrap().len(), 5);
    assert_eq!(canaries.runs("b", 100).await.unwrap(), [run(1)]);
    assert!(canaries.delete("a").await.unwrap());
    assert!(!canaries.delete("a").await.unwrap());
    assert!(canaries.runs("a", 100).await.unwrap().is_empty());
    assert_eq!(canaries.list().await.unwrap(), [canary("b", "y")]);
}

/// A cursor never goes back, whoever moves it.
pub async fn cursors_never_go_back(stores: &Stores) {
    let cursors = &stores.cursors;
    assert_eq!(cursors.get("sink:1", "a").await.unwrap(), None);
    let callers = (1..=20).map(|number| {
        let cursors = cursors.clone();
        tokio::spawn(async move { cursors.advance("sink:1", "a", number).await.unwrap() })
    });
    join_all(callers).await.into_iter().for_each(Result::unwrap);
    assert_eq!(cursors.get("sink:1", "a").await.unwrap(), Some(20));
    cursors.advance("sink:1", "a", 5).await.unwrap();
    cursors.advance("sink:2", "a", 5).await.unwrap();
    let row = |sink: &str, number| (sink.to_owned(), "a".to_owned(), number);
    assert_eq!(cursors.list().await.unwrap(), [row("sink:1", 20), row("sink:2", 5)]);
    cursors.forget("sink:1", "a").await.unwrap();
    assert_eq!(cursors.get("sink:1", "a").await.unwrap(), None);
}

/// What a sink has not taken waits in order, bounded in bytes, and no number comes twice.
pub async fn overflow_is_bounded(stores: &Stores) {
    let overflow = &stores.overflow;
    let change = |number: u64| format!("{number:010}");
    for number in 1..=5 {
        assert_eq!(overflow.push("s", change(number), 100).await.unwrap(), 0);
    }
    assert_eq!(overflow.push("s", change(6), 35).await.unwrap(), 3, "three of ten bytes fit");
    let waiting = [(4, change(4)), (5, change(5)), (6, change(6))];
    assert_eq!(overflow.waiting("s", 100).await.unwrap(), waiting);
    assert_eq!(overflow.waiting("s", 2).await.unwrap(), waiting[..2]);
    assert_eq!(overflow.size("s").await.unwrap(), Size { entries: 3, bytes: 30 });
    assert_eq!(overflow.taken("s", 5).await.unwrap(), 2);
    assert_eq!(overflow.taken("s", 5).await.unwrap(), 0);
    assert_eq!(overflow.size("s").await.unwrap(), Size { entries: 1, bytes: 10 });
    assert_eq!(overflow.taken("s", 100).await.unwrap(), 1);
    assert_eq!(overflow.push("s", "x".repeat(50), 35).await.unwrap(), 0, "the newest stays");
    assert_eq!(overflow.waiting("s", 100).await.unwrap(), [(7, "x".repeat(50))]);
    assert_eq!(overflow.push("s", change(8), 35).await.unwrap(), 1);
    assert_eq!(overflow.size("other").await.unwrap(), Size::default());
    assert!(overflow.waiting("other", 5).await.unwrap().is_empty());
}

/// Tenants of keys.
pub async fn tenants_round_trip(stores: &Stores) {
    let tenants = &stores.tenants;
    let mapping = |hash: &str, tenant: &str, group| TenantMapping {
        api_key_hash: hash.to_owned(),
        tenant: tenant.to_owned(),
        group,
    };
    tenants.put(mapping("bb", "one", None)).await.unwrap();
    tenants.put(mapping("aa", "two", Some(GroupId(1)))).await.unwrap();
    tenants.put(mapping("bb", "three", None)).await.unwrap();
    let all = [mapping("aa", "two", Some(GroupId(1))), mapping("bb", "three", None)];
    assert_eq!(tenants.list().await.unwrap(), all);
    assert!(tenants.delete("aa").await.unwrap());
    assert!(!tenants.delete("aa").await.unwrap());
    assert_eq!(tenants.list().await.unwrap(), all[1..]);
}

/// A policy is changed by whoever knows its version.
pub async fn rollovers_are_compared(stores: &Stores) {
    let rollovers = &stores.rollovers;
    let policy = |version, state: &str| Rollover {
        name: "logs".to_owned(),
        version,
        policy: json!({"max_docs": 10}),
        state: json!(state),
    };
    assert!(rollovers.put(policy(1, ""), 0).await.unwrap());
    assert!(!rollovers.put(policy(1, "again"), 0).await.unwrap());
    assert!(rollovers.put(policy(2, "created"), 1).await.unwrap());
    assert!(!rollovers.put(policy(2, "flipped"), 1).await.unwrap());
    assert_eq!(rollovers.list().await.unwrap(), [policy(2, "created")]);
    assert!(rollovers.delete("logs").await.unwrap());
    assert!(rollovers.list().await.unwrap().is_empty());
}

/// A search page, its key, and who uses which generation of it.
pub async fn search_pages_rotate_their_keys(stores: &Stores) {
    let pages = &stores.search_ui;
    assert_eq!(pages.config("a").await.unwrap(), None);
    pages.set_config("a", json!({"accent": 1})).await.unwrap();
    pages.set_config("a", json!({"accent": 2})).await.unwrap();
    assert_eq!(pages.config("a").await.unwrap(), Some(json!({"accent": 2})));
    assert_eq!(pages.configs().await.unwrap(), [("a".to_owned(), json!({"accent": 2}))]);
    assert!(pages.delete_config("a").await.unwrap());
    assert!(!pages.delete_config("a").await.unwrap());

    let key = |generation| ScopedKey {
        primary_uid: Uuid::from_u128(u128::from(generation)),
        previous_uid: None,
        rotated_at: at(0),
        generation,
    };
    assert!(pages.rotate("a", key(1), 0).await.unwrap());
    assert!(!pages.rotate("a", key(1), 0).await.unwrap());
    assert!(pages.rotate("a", key(2), 1).await.unwrap());
    assert_eq!(pages.key("a").await.unwrap(), Some(key(2)));

    pages.observe("pod-1", "a", 1, LONG, at(0)).await.unwrap();
    pages.observe("pod-1", "a", 2, LONG, at(0)).await.unwrap();
    pages.observe("pod-2", "a", 1, SHORT, at(0)).await.unwrap();
    pages.observe("pod-2", "b", 7, LONG, at(0)).await.unwrap();
    until("a pod that is gone is forgotten", async || {
        pages.observed("a", at(20)).await.unwrap() == [("pod-1".to_owned(), 2)]
    })
    .await;
}

/// Whoever listens hears which session was revoked, and finds it so.
pub async fn revoked_sessions_are_heard_of(stores: &Stores) {
    let sessions = &stores.admin_sessions;
    let session = AdminSession {
        id: "s".to_owned(),
        csrf: "c".to_owned(),
        created_at: at(0),
        source: "127.0.0.1".to_owned(),
        revoked: false,
    };
    sessions.insert(session.clone(), LONG, at(0)).await.unwrap();
    assert_eq!(sessions.get("s", at(0)).await.unwrap(), Some(session.clone()));
    let mut revoked = sessions.revoked();
    let patience = Duration::from_secs(30);
    let first = tokio::time::timeout(patience, revoked.next()).await.unwrap();
    assert_eq!(first, Some(Signal::Gap), "what was read before is not to be trusted");
    assert!(sessions.revoke("s", LONG, at(0)).await.unwrap());
    let heard = tokio::time::timeout(patience, revoked.next()).await.unwrap();
    assert_eq!(heard, Some(Signal::Said("s".to_owned())));
    let found = sessions.get("s", at(0)).await.unwrap();
    assert_eq!(found, Some(AdminSession { revoked: true, ..session }));
    assert!(!sessions.revoke("other", LONG, at(0)).await.unwrap());
}

/// Everybody who listens hears which query a node did not survive.
pub async fn failures_of_queries_are_heard_of(stores: &Stores) {
    let node = NodeId::new("a").unwrap();
    let failure = QueryFailure { query: "f".to_owned(), node, points: 2, timeout: true, by: 7 };
    let mut listeners = [(); 2].map(|()| stores.query_failures.listen());
    // What is said before somebody listens is lost.
    let says = async {
        loop {
            stores.query_failures.say(failure.clone()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let hear = join_all(listeners.iter_mut().map(|listener| listener.next()));
    let heard = async { tokio::time::timeout(Duration::from_secs(30), hear).await.unwrap() };
    tokio::select! {
        heard = heard => assert_eq!(heard, [Some(failure.clone()), Some(failure.clone())]),
        () = says => {}
    }
}

/// No failed login is lost, and a success forgets them.
pub async fn failed_logins_are_counted(stores: &Stores) {
    let sessions = &stores.admin_sessions;
    let wait = |count: u32| Duration::from_secs(u64::from(count));
    let callers = (0..10).map(|_| {
        let sessions = sessions.clone();
        tokio::spawn(async move { sessions.failed("::1", &wait, LONG, at(0)).await.unwrap() })
    });
    let mut counts: Vec<_> =
        join_all(callers).await.into_iter().map(|failed| failed.unwrap().count).collect();
    counts.sort_unstable();
    assert!(counts.into_iter().eq(1..=10));
    let known = sessions.failures("::1", at(0)).await.unwrap();
    let next_allowed_at = at(0) + Duration::from_secs(10);
    assert_eq!(known, Some(LoginFailures { count: 10, next_allowed_at }));
    sessions.succeeded("::1", at(0)).await.unwrap();
    assert_eq!(sessions.failures("::1", at(0)).await.unwrap(), None);
}

/// However many come at once, no more are let in than the limit says.
pub async fn buckets_let_in_what_they_may(stores: &Stores) {
    let limit = Limit { count: 5, per: LONG };
    let callers = (0..40).map(|_| {
        let buckets = stores.buckets.clone();
        tokio::spawn(async move { buckets.take("ip:::1", limit, at(0)).await.unwrap() })
    });
    let verdicts: Vec<_> = join_all(callers).await.into_iter().map(Result::unwrap).collect();
    let (inside, outside): (Vec<_>, Vec<_>) =
        verdicts.into_iter().partition(|verdict| verdict.allowed);
    let mut left: Vec<_> = inside.iter().map(|verdict| verdict.remaining).collect();
    left.sort_unstable();
    assert_eq!(left, [0, 1, 2, 3, 4]);
    assert_eq!(outside.len(), 35);
    let twelve = Duration::from_mins(12);
    for verdict in outside {
        assert_eq!(verdict.remaining, 0);
        assert!(verdict.retry_after <= twelve, "{verdict:?}");
        assert!(verdict.retry_after > Duration::from_mins(11), "{verdict:?}");
        assert!(verdict.reset_after <= LONG, "{verdict:?}");
    }
    assert!(stores.buckets.take("ip:other", limit, at(0)).await.unwrap().allowed);
    // A bucket fills again by itself.
    let quick = Limit { count: 1, per: SHORT };
    assert!(stores.buckets.take("quick", quick, at(0)).await.unwrap().allowed);
    until("a bucket fills", async || {
        stores.buckets.take("quick", quick, at(20)).await.unwrap().allowed
    })
    .await;
}
