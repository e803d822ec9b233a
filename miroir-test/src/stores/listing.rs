//! Lists of tasks, against a model that filters a vector.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use miroir_api::TaskUid;
use miroir_api::meili::{TaskKind, TaskStatus};
use miroir_store::{NewTask, Stores, TaskPage, TaskQuery, TaskRecord};
use time::OffsetDateTime;

use super::Tape;
use super::tasks::{at, new_task};

const INDEXES: [&str; 4] = ["movies", "Movies", "books-1", "a"];

/// A few kinds, so that filters meet.
const KINDS: [TaskKind; 4] = [
    TaskKind::DocumentAdditionOrUpdate,
    TaskKind::SettingsUpdate,
    TaskKind::TaskCancelation,
    TaskKind::IndexSwap,
];

fn instant(tape: &mut Tape) -> OffsetDateTime {
    at(tape.below(8) as i64)
}

fn some_task(tape: &mut Tape) -> NewTask {
    NewTask {
        index: if tape.below(5) == 4 { None } else { Some((*tape.pick(&INDEXES)).to_owned()) },
        kind: *tape.pick(&KINDS),
        status: *tape.pick(&TaskStatus::ALL),
        enqueued_at: instant(tape),
        ..new_task("a")
    }
}

fn change(task: &mut TaskRecord, tape: &mut Tape) {
    task.status = *tape.pick(&TaskStatus::ALL);
    task.started_at = tape.maybe(2, instant);
    task.finished_at = tape.maybe(2, instant);
    task.canceled_by = tape.maybe(3, |tape| TaskUid(tape.below(6) as u32));
}

/// Exchanges two names of the first tasks, here and there.
async fn swap(stores: &Stores, tasks: &mut [TaskRecord], tape: &mut Tape) {
    let (first, second) = (*tape.pick(&INDEXES), *tape.pick(&INDEXES));
    let before = TaskUid(tape.below(40) as u32);
    for task in tasks.iter_mut().filter(|task| task.uid < before) {
        task.rename(first, second);
    }
    stores.tasks.swap_indexes(first.to_owned(), second.to_owned(), before).await.unwrap();
}

fn some_query(tape: &mut Tape, tasks: u64) -> TaskQuery {
    let uid = |tape: &mut Tape| tape.below(tasks + 3) as u32;
    TaskQuery {
        limit: *tape.pick(&[3, 0, 1, 2, 20, usize::MAX]),
        from: tape.maybe(3, |tape| TaskUid(uid(tape))),
        reverse: tape.below(2) == 1,
        uids: tape.maybe(5, |tape| tape.some(12, uid)),
        batches: tape.maybe(8, |tape| tape.some(6, uid)),
        statuses: tape.maybe(3, |tape| tape.some(3, |tape| *tape.pick(&TaskStatus::ALL))),
        kinds: tape.maybe(3, |tape| tape.some(3, |tape| *tape.pick(&KINDS))),
        indexes: tape.maybe(3, |tape| {
            tape.some(3, |tape| (*tape.pick(&["movies", "Movies", "books-1", "none"])).to_owned())
        }),
        canceled_by: tape.maybe(6, |tape| tape.some(3, |tape| tape.below(7) as u32)),
        after_enqueued: tape.maybe(8, instant),
        before_enqueued: tape.maybe(8, instant),
        after_started: tape.maybe(8, instant),
        before_started: tape.maybe(8, instant),
        after_finished: tape.maybe(8, instant),
        before_finished: tape.maybe(8, instant),
    }
}

/// What a list must answer, the slow way. `tasks` are ordered by uid.
fn model(tasks: &[TaskRecord], query: &TaskQuery) -> TaskPage {
    let mut all: Vec<_> = tasks.iter().filter(|task| query.matches(task)).cloned().collect();
    let total = all.len() as u64;
    match (query.from, query.reverse) {
        (Some(from), true) => all.retain(|task| task.uid >= from),
        (Some(from), false) => all.retain(|task| task.uid <= from),
        (None, _) => {}
    }
    if !query.reverse {
        all.reverse();
    }
    let next = all.get(query.limit).map(|task| task.uid);
    all.truncate(query.limit);
    TaskPage { tasks: all, total, next }
}

/// Fills empty stores as the tape says, changes and prunes some tasks, and compares lists with the
/// model's.
pub async fn agrees_with_the_model(stores: &Stores, mut tape: Tape) {
    let new: Vec<_> = tape.some(40, some_task);
    let inserts = new.into_iter().map(|task| stores.tasks.insert(task));
    let mut tasks: Vec<_> = join_all(inserts).await.into_iter().map(Result::unwrap).collect();
    tasks.sort_by_key(|task| task.uid);
    for task in &mut tasks {
        if tape.below(3) != 0 {
            change(task, &mut tape);
            stores.tasks.update(task.clone()).await.unwrap();
        }
    }
    if tape.below(3) == 2 {
        swap(stores, &mut tasks, &mut tape).await;
    }
    if let Some(before) = tape.maybe(4, instant) {
        let all = tasks.len();
        tasks.retain(|task| {
            !(task.status.is_terminal() && task.finished_at.is_some_and(|at| at < before))
        });
        let pruned = stores.tasks.prune(before).await.unwrap();
        assert_eq!(pruned, (all - tasks.len()) as u64);
    }
    for _ in 0..12 {
        let query = some_query(&mut tape, tasks.len() as u64);
        let page = stores.tasks.list(query.clone()).await.unwrap();
        assert_eq!(page, model(&tasks, &query), "{query:?}");
        let all = stores.tasks.uids(query.clone()).await.unwrap();
        let matching = tasks.iter().filter(|task| query.matches(task)).map(|task| task.uid.0);
        assert_eq!(all, matching.collect::<Vec<_>>(), "{query:?}");
    }
}

/// The comparison on tapes of sixteen seeds. One store serves one tape, so a seed's tasks follow
/// those of the seeds before it.
pub async fn agrees_with_the_model_for_many_seeds(stores: &Stores) {
    let mut tasks: Vec<TaskRecord> = Vec::new();
    for seed in 0..16 {
        let mut tape = Tape::seeded(seed, 2000);
        let new: Vec<_> = tape.some(30, some_task);
        let inserts = new.into_iter().map(|task| stores.tasks.insert(task));
        tasks.extend(join_all(inserts).await.into_iter().map(Result::unwrap));
        tasks.sort_by_key(|task| task.uid);
        for _ in 0..tape.below(40) {
            let Some(task) = (!tasks.is_empty()).then(|| tape.below(tasks.len() as u64)) else {
                break;
            };
            let task = &mut tasks[task as usize];
            change(task, &mut tape);
            stores.tasks.update(task.clone()).await.unwrap();
        }
        swap(stores, &mut tasks, &mut tape).await;
        for _ in 0..40 {
            let query = some_query(&mut tape, tasks.len() as u64);
            let page = stores.tasks.list(query.clone()).await.unwrap();
            assert_eq!(page, model(&tasks, &query), "seed {seed}, {query:?}");
        }
    }
    assert!(tasks.len() > 100, "the seeds make too few tasks: {}", tasks.len());
}

/// Following `next` shows every task once and ends, both ways, while others insert.
pub async fn pages_show_every_task_once(stores: &Stores) {
    let inserts = (0..53).map(|_| stores.tasks.insert(new_task("a")));
    let before: BTreeSet<u32> =
        join_all(inserts).await.into_iter().map(|task| task.unwrap().uid.0).collect();
    for statuses in [None, Some(vec![TaskStatus::Enqueued, TaskStatus::Processing])] {
        for reverse in [false, true] {
            let mut seen = Vec::new();
            let mut query =
                TaskQuery { limit: 7, reverse, statuses: statuses.clone(), ..TaskQuery::default() };
            loop {
                let page = stores.tasks.list(query.clone()).await.unwrap();
                assert!(page.tasks.len() == 7 || page.next.is_none());
                seen.extend(page.tasks.iter().map(|task| task.uid.0));
                if seen.len() < 30 {
                    stores.tasks.insert(new_task("b")).await.unwrap();
                }
                match page.next {
                    Some(next) => query.from = Some(next),
                    None => break,
                }
            }
            assert!(seen.is_sorted_by(|a, b| if reverse { a < b } else { a > b }), "{seen:?}");
            assert!(before.is_subset(&seen.iter().copied().collect()), "{seen:?}");
        }
    }
}
