//! The task registry, except its lists.

use std::collections::BTreeSet;

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use miroir_api::meili::{ApiError, TaskKind, TaskStatus};
use miroir_api::{NodeId, ShardId, TaskUid};
use miroir_store::task_state::{Broadcast, Proposal, UidRanges};
use miroir_store::{NewTask, NodeTask, Place, Stores, TaskProtocol, TaskRecord, TaskState};
use serde_json::json;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

/// An instant, in milliseconds after some day in 2026.
pub(super) fn at(milliseconds: i64) -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH + Duration::days(20_500) + Duration::milliseconds(milliseconds)
}

pub(super) fn new_task(index: &str) -> NewTask {
    NewTask {
        index: Some(index.to_owned()),
        physical: Some(index.to_owned()),
        ..NewTask::new(TaskKind::DocumentAdditionOrUpdate, at(0))
    }
}

fn node_task(node: &str, uid: Option<u32>) -> NodeTask {
    NodeTask {
        status: TaskStatus::Processing,
        deleted: Some(u64::from(u32::MAX) + 7),
        error: Some(ApiError::new("internal", "a `quoted` \"text\"\n\u{e000}")),
        dropped: uid.is_none(),
        shards: vec![ShardId(0), ShardId(4095)],
        ..NodeTask::new(NodeId::new(node).expect("a node id"), uid)
    }
}

/// Every state that a task can be in, as a store has to give it back.
fn states() -> Vec<(TaskKind, TaskState)> {
    let text = |text: &str| vec![text.to_owned(), "a 'quoted' \"name\" \u{e000}".to_owned()];
    let object = |value: serde_json::Value| value.as_object().cloned().unwrap_or_default();
    let proposal = Proposal {
        overlay: object(json!({"maxTotalHits": null})),
        submitted: object(json!({"z": 1, "a": {"b": [0.1, "é"]}})),
        patch: object(json!({"pagination": {"maxTotalHits": 1_000_000_000_u64}})),
    };
    let ranges = || UidRanges::of(&[0, 1, 2, 9, u32::MAX]);
    let node = NodeId::new("n-0").expect("a node id");
    vec![
        (TaskKind::DocumentAdditionOrUpdate, TaskState::Addition { indexed: 0 }),
        (TaskKind::DocumentEdition, TaskState::Edition { lines_before: 2 }),
        (TaskKind::IndexDeletion, TaskState::IndexDeletion { documents: u64::MAX }),
        (TaskKind::SettingsUpdate, TaskState::Settings(Broadcast::Proposed(Box::new(proposal)))),
        (TaskKind::SettingsUpdate, TaskState::Settings(Broadcast::Committed(7))),
        (TaskKind::IndexUpdate, TaskState::Rename { awaits: text("a"), intent: None }),
        (TaskKind::IndexSwap, TaskState::Rename { awaits: Vec::new(), intent: None }),
        (TaskKind::DumpCreation, TaskState::Dump { dumps: [(node, "x".to_owned())].into() }),
        (TaskKind::TaskCancelation, TaskState::Cancelation { chosen: ranges(), passed: None }),
        (
            TaskKind::TaskCancelation,
            TaskState::Cancelation { chosen: ranges(), passed: Some(UidRanges::default()) },
        ),
        (
            TaskKind::TaskDeletion,
            TaskState::Deletion { chosen: ranges(), awaited: None, forgotten: None },
        ),
        (
            TaskKind::TaskDeletion,
            TaskState::Deletion { chosen: ranges(), awaited: Some(ranges()), forgotten: Some(3) },
        ),
    ]
}

/// Every field of a task comes back, from a new task and from an update.
pub async fn round_trip(stores: &Stores) {
    let tasks = &stores.tasks;
    assert_eq!(tasks.get(TaskUid(0)).await.unwrap(), None);

    let new = NewTask {
        details: json!({"z": 1, "a": {"receivedDocuments": 5, "x": null}}).as_object().cloned(),
        error: Some(ApiError::new("index_not_found", "Index `é` not found.")),
        enqueued_at: at(0) + Duration::nanoseconds(123_456_789),
        custom_metadata: Some("the client's own 'words'".to_owned()),
        nodes: vec![node_task("a", Some(u32::MAX)), node_task("b", None)],
        protocol: TaskProtocol {
            state: Some(TaskState::Addition { indexed: u64::MAX }),
            cancelation: Some(TaskUid(u32::MAX)),
        },
        physical: Some("movies-7".to_owned()),
        incarnation: Some(Uuid::now_v7()),
        nonce: Some(Uuid::now_v7()),
        combined: Some(Place { at: 0, of: 1 }),
        ..new_task("movies")
    };
    let mut task = tasks.insert(new.clone()).await.unwrap();
    assert_eq!(task, TaskRecord::new(TaskUid(0), new));
    assert_eq!(tasks.get(task.uid).await.unwrap(), Some(task.clone()));

    task.status = TaskStatus::Canceled;
    task.canceled_by = Some(TaskUid(9));
    task.started_at = Some(at(1));
    task.finished_at = Some(at(2) + Duration::nanoseconds(1));
    task.details = None;
    task.protocol = TaskProtocol::default();
    task.nodes.truncate(1);
    // The index is not an update's business.
    tasks.update(TaskRecord { index: None, ..task.clone() }).await.unwrap();
    assert_eq!(tasks.get(task.uid).await.unwrap(), Some(task.clone()));

    let unknown = TaskRecord { uid: TaskUid(5), ..task.clone() };
    tasks.update(unknown).await.unwrap();
    assert_eq!(tasks.get(TaskUid(5)).await.unwrap(), None);
    // Updating a task that does not exist has not moved the counter either.
    assert_eq!(tasks.insert(new_task("a")).await.unwrap().uid, TaskUid(1));

    let done = NewTask { status: TaskStatus::Failed, enqueued_at: at(5), ..new_task("a") };
    let done = tasks.insert(done).await.unwrap();
    assert_eq!((done.started_at, done.finished_at), (Some(at(5)), Some(at(5))));
    assert_eq!(tasks.get(done.uid).await.unwrap(), Some(done));

    for (kind, state) in states() {
        let new = NewTask { kind, protocol: state.into(), ..new_task("a") };
        let stored = tasks.insert(new.clone()).await.unwrap();
        assert_eq!(tasks.get(stored.uid).await.unwrap(), Some(TaskRecord::new(stored.uid, new)));
    }
}

/// Tasks that are inserted together have uids that follow each other, whoever inserts meanwhile.
pub async fn tasks_inserted_together_follow_each_other(stores: &Stores) {
    assert_eq!(stores.tasks.insert_many(Vec::new()).await.unwrap(), []);
    let callers = (0..20_u32).map(|caller| {
        let tasks = stores.tasks.clone();
        tokio::spawn(async move {
            let of = 1 + caller % 4;
            let new = (0..of).map(|at| NewTask {
                combined: Some(Place { at, of }),
                ..new_task(&format!("index{caller}"))
            });
            let stored = tasks.insert_many(new.collect()).await.unwrap();
            for task in &stored {
                let uids = stored.first().unwrap().uid.0..=stored.last().unwrap().uid.0;
                assert_eq!(task.calls_of(), uids);
                assert_eq!(tasks.get(task.uid).await.unwrap().as_ref(), Some(task));
            }
            stored.iter().map(|task| task.uid.0).collect::<Vec<_>>()
        })
    });
    let mut uids: Vec<u32> =
        join_all(callers).await.into_iter().flat_map(|stored| stored.unwrap()).collect();
    uids.sort_unstable();
    assert_eq!(uids, (0..50).collect::<Vec<_>>());
    assert_eq!(stores.tasks.counts().await.unwrap()[0].1, 50);
}

/// Concurrent inserts get 0, 1, 2, … without a gap, and each caller's own uids grow.
pub async fn uids_are_dense_under_concurrency(stores: &Stores) {
    let callers = (0..40).map(|caller| {
        let tasks = stores.tasks.clone();
        tokio::spawn(async move {
            let mut uids = Vec::new();
            for _ in 0..10 {
                let index = format!("index{caller}");
                let task = tasks.insert(new_task(&index)).await.unwrap();
                assert_eq!(task.index, Some(index));
                assert_eq!(tasks.get(task.uid).await.unwrap(), Some(task.clone()));
                uids.push(task.uid.0);
            }
            assert!(uids.is_sorted_by(|a, b| a < b), "{uids:?}");
            uids
        })
    });
    let uids = join_all(callers).await.into_iter().flat_map(Result::unwrap);
    let uids: Vec<u32> = uids.collect();
    let distinct: BTreeSet<u32> = uids.iter().copied().collect();
    assert_eq!(uids.len(), 400);
    assert!(distinct.into_iter().eq(0..400));
}

/// A pruned task's uid is not given again, not even the last one's.
pub async fn uids_are_never_reused(stores: &Stores) {
    for _ in 0..3 {
        let done = NewTask { status: TaskStatus::Succeeded, ..new_task("a") };
        stores.tasks.insert(done).await.unwrap();
    }
    assert_eq!(stores.tasks.prune(at(1)).await.unwrap(), 3);
    assert_eq!(stores.tasks.get(TaskUid(2)).await.unwrap(), None);
    assert_eq!(stores.tasks.insert(new_task("a")).await.unwrap().uid, TaskUid(3));
}

/// Every index that has a task is named once, also when it is gone; none that has no task left.
pub async fn indexes_of_tasks_are_named_once(stores: &Stores) {
    let tasks = &stores.tasks;
    assert_eq!(tasks.index_names().await.unwrap(), Vec::<String>::new());
    for index in ["b", "a-2", "B", "b", "a"] {
        tasks.insert(new_task(index)).await.unwrap();
    }
    let done = NewTask { index: None, status: TaskStatus::Succeeded, ..new_task("none") };
    tasks.insert(done).await.unwrap();
    let last = NewTask { status: TaskStatus::Failed, ..new_task("pruned") };
    tasks.insert(last).await.unwrap();
    assert_eq!(tasks.index_names().await.unwrap(), ["B", "a", "a-2", "b", "pruned"]);
    tasks.prune(at(1)).await.unwrap();
    assert_eq!(tasks.index_names().await.unwrap(), ["B", "a", "a-2", "b"]);
}

/// `counts` and `unfinished` see every change of status.
pub async fn counts_and_unfinished_follow_updates(stores: &Stores) {
    let tasks = &stores.tasks;
    let zero: Vec<_> = TaskStatus::ALL.map(|status| (status, 0)).to_vec();
    assert_eq!(tasks.counts().await.unwrap(), zero, "every status is listed, in order");

    let mut all = Vec::new();
    for _ in 0..10 {
        all.push(tasks.insert(new_task("a")).await.unwrap());
    }
    for (position, task) in all.iter_mut().enumerate() {
        task.status = TaskStatus::ALL[position % 4];
        tasks.update(task.clone()).await.unwrap();
    }
    let counts: Vec<_> = tasks.counts().await.unwrap().into_iter().map(|(_, n)| n).collect();
    assert_eq!(counts, [3, 3, 2, 2, 0]);

    all.retain(|task| !task.status.is_terminal());
    assert_eq!(tasks.unfinished().await.unwrap(), all, "oldest first");
}

/// Only tasks that are over, and were before the instant, are forgotten.
pub async fn prune_spares_what_is_not_over(stores: &Stores) {
    let tasks = &stores.tasks;
    let mut kept = Vec::new();
    let mut gone = 0;
    // More than a backend may want to delete at once.
    for position in 0..2600_i64 {
        let status = TaskStatus::ALL[(position % 5) as usize];
        let enqueued_at = at(if position % 2 == 0 { 10 } else { 20 });
        kept.push((NewTask { status, enqueued_at, ..new_task("a") }, status));
    }
    let inserted = join_all(
        kept.into_iter()
            .map(|(new, status)| async move { (tasks.insert(new).await.unwrap(), status) }),
    );
    let mut kept = Vec::new();
    for (task, status) in inserted.await {
        if status.is_terminal() && task.enqueued_at == at(10) {
            gone += 1;
        } else {
            kept.push(task.uid);
        }
    }
    assert_eq!(tasks.prune(at(10)).await.unwrap(), 0, "the bound is exclusive");
    assert_eq!(tasks.prune(at(20)).await.unwrap(), gone);
    assert_eq!(tasks.prune(at(20)).await.unwrap(), 0);
    let counts = tasks.counts().await.unwrap();
    assert_eq!(counts.iter().map(|(_, n)| *n).sum::<u64>(), kept.len() as u64);
    for uid in kept {
        assert!(tasks.get(uid).await.unwrap().is_some(), "{uid}");
    }
}

/// A removal takes what is over and nothing else, and answers what it took.
pub async fn removal_spares_what_is_not_over(stores: &Stores) {
    let tasks = &stores.tasks;
    let mut all = Vec::new();
    for status in TaskStatus::ALL {
        let new = NewTask { status, nodes: vec![node_task("a", Some(3))], ..new_task("a") };
        all.push(tasks.insert(new).await.unwrap());
    }
    assert_eq!(tasks.remove(vec![]).await.unwrap(), []);
    let over: Vec<_> = all.iter().filter(|t| t.status.is_terminal()).cloned().collect();
    let uids: Vec<u32> = all.iter().rev().map(|task| task.uid.0).chain([0, 4, 99]).collect();
    assert_eq!(tasks.remove(uids.clone()).await.unwrap(), over);
    assert_eq!(tasks.remove(uids).await.unwrap(), []);
    all.retain(|task| !task.status.is_terminal());
    assert_eq!(tasks.unfinished().await.unwrap(), all);
    let counts: Vec<_> = tasks.counts().await.unwrap().into_iter().map(|(_, n)| n).collect();
    assert_eq!(counts, [1, 1, 0, 0, 0]);
    assert_eq!(tasks.insert(new_task("a")).await.unwrap().uid, TaskUid(5), "uids are not reused");
}

/// A swap of names reaches older tasks, what swaps say of themselves too, and no update undoes it.
pub async fn names_follow_a_swap(stores: &Stores) {
    let tasks = &stores.tasks;
    let mut first = tasks.insert(new_task("a")).await.unwrap();
    tasks.insert(new_task("b")).await.unwrap();
    tasks.insert(new_task("c")).await.unwrap();
    let swap = NewTask {
        index: None,
        kind: TaskKind::IndexSwap,
        status: TaskStatus::Succeeded,
        details: json!({"swaps": [{"indexes": ["c", "a"], "rename": false}]}).as_object().cloned(),
        ..new_task("a")
    };
    let swap = tasks.insert(swap).await.unwrap();
    tasks.insert(new_task("a")).await.unwrap();
    tasks.swap_indexes("a".to_owned(), "b".to_owned(), TaskUid(4)).await.unwrap();
    first.status = TaskStatus::Processing;
    tasks.update(first).await.unwrap();
    let mut names = Vec::new();
    for uid in [0, 1, 2, 4] {
        names.extend(tasks.get(TaskUid(uid)).await.unwrap().unwrap().index);
    }
    assert_eq!(names, ["b", "a", "c", "a"]);
    let details = tasks.get(swap.uid).await.unwrap().unwrap().details.unwrap();
    assert_eq!(details["swaps"], json!([{"indexes": ["c", "b"], "rename": false}]));
}

/// A caller that goes away while its insert is under way leaves a whole task or none, and no gap.
pub async fn lost_callers_do_no_harm(stores: &Stores) {
    for _ in 0..50 {
        // Polled once, then dropped.
        let _ = stores.tasks.insert(new_task("lost")).now_or_never();
    }
    let next = stores.tasks.insert(new_task("kept")).await.unwrap().uid;
    for uid in 0..next.0 {
        let task = stores.tasks.get(TaskUid(uid)).await.unwrap();
        assert_eq!(task.unwrap().index.as_deref(), Some("lost"));
    }
}
