//! What is remembered of tasks that have not ended.

use TaskStatus::{Enqueued, Failed, Processing, Succeeded};

use super::*;
use crate::{NewTask, NodeTask};

fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

fn task(uid: u32, index: Option<&str>, nodes: &[(&str, Option<u32>, TaskStatus)]) -> TaskRecord {
    let nodes = nodes
        .iter()
        .map(|(name, uid, status)| NodeTask { status: *status, ..NodeTask::new(node(name), *uid) });
    let new = NewTask {
        index: index.map(str::to_owned),
        physical: index.map(str::to_owned),
        nodes: nodes.collect(),
        ..NewTask::new(TaskKind::DocumentDeletion, OffsetDateTime::UNIX_EPOCH)
    };
    TaskRecord::new(TaskUid(uid), new)
}

fn uids(parts: &[OpenPart]) -> Vec<(u32, u32)> {
    parts.iter().map(|part| (part.uid, part.task.0)).collect()
}

#[test]
fn nodes_are_asked_for_the_oldest_they_have() {
    let open = OpenTasks::default();
    for uid in 0..5 {
        let n = Some(90 - uid);
        open.note(&task(uid, Some("x"), &[("a", n, Enqueued), ("b", Some(uid), Enqueued)]));
    }
    assert_eq!(uids(&open.head(&node("a"), 0, 0, 2)), [(86, 4), (87, 3)]);
    assert_eq!(uids(&open.head(&node("a"), 0, 88, 9)), [(88, 2), (89, 1), (90, 0)]);
    assert_eq!(open.nodes(), [node("a"), node("b")]);
    // One node ended its part.
    let part = task(4, Some("x"), &[("a", Some(86), Succeeded), ("b", Some(4), Processing)]);
    open.note(&part);
    assert_eq!(uids(&open.head(&node("a"), 0, 0, 1)), [(87, 3)]);
    assert_eq!(open.head(&node("b"), 0, 4, 1)[0].status, Processing);
    assert_eq!((open.len(), open.first_of("x")), (5, Some(TaskUid(0))));
}

#[tokio::test(start_paused = true)]
async fn parts_that_another_node_has_done_are_found_after_a_while() {
    let (open, age) = (OpenTasks::default(), Duration::from_secs(5));
    let parts = |b| task(1, Some("x"), &[("a", Some(8), Enqueued), ("b", Some(9), b)]);
    let outdone = |age| uids(&open.outdone(&node("a"), 0, 9, age));
    open.note(&parts(Processing));
    tokio::time::advance(age).await;
    assert!(outdone(Duration::ZERO).is_empty());
    open.note(&parts(Succeeded));
    assert_eq!((outdone(Duration::ZERO), outdone(age)), (vec![(8, 1)], vec![]));
    tokio::time::advance(age).await;
    // What it noted meanwhile does not begin the time anew.
    open.note(&parts(Succeeded));
    assert_eq!(outdone(age), [(8, 1)]);
    assert!(open.outdone(&node("b"), 0, 9, age).is_empty());
}

#[test]
fn what_a_former_life_was_given_is_not_asked_for() {
    let open = OpenTasks::default();
    let mut old = task(1, Some("x"), &[("a", Some(7), Enqueued), ("b", Some(2), Enqueued)]);
    open.note(&old);
    let mut new = task(2, Some("x"), &[("a", Some(7), Enqueued)]);
    new.nodes[0].life = 1;
    open.note(&new);
    assert_eq!(uids(&open.head(&node("a"), 1, 0, 9)), [(7, 2)]);
    assert_eq!(uids(&open.head(&node("a"), 0, 0, 9)), [(7, 1)]);
    assert!(open.head(&node("a"), 2, 0, 9).is_empty());
    let others = |life| open.of_other_lives(&node("a"), life, 9).into_iter().collect::<Vec<_>>();
    assert_eq!((others(1), others(0)), (vec![TaskUid(1)], vec![TaskUid(2)]));
    assert!(open.of_other_lives(&node("b"), 0, 9).is_empty());
    let mut given = Vec::new();
    open.given(|node, life, uid| given.push((node.to_string(), life, uid)));
    let given: Vec<_> = given.iter().map(|(node, life, uid)| (&**node, *life, *uid)).collect();
    assert_eq!(given, [("a", 0, 7), ("b", 0, 2), ("a", 1, 7)]);
    old.nodes[0].dropped = true;
    open.note(&old);
    assert!(others(1).is_empty());
}

#[test]
fn a_task_that_ends_leaves_nothing() {
    let open = OpenTasks::default();
    let mut one = task(7, Some("x"), &[("a", Some(1), Enqueued), ("b", None, Enqueued)]);
    open.note(&one);
    assert_eq!(open.lost().len(), 1);
    one.nodes[1].dropped = true;
    one.nodes[0].status = Succeeded;
    open.note(&one);
    assert_eq!((open.lost().len(), open.idle(None, 9)), (0, vec![TaskUid(7)]));
    assert!(open.nodes().is_empty() && open.firsts() == [TaskUid(7)]);
    one.status = Succeeded;
    open.note(&one);
    let inner = open.0.lock();
    assert!(inner.tasks.is_empty() && inner.nodes.is_empty() && inner.indexes.is_empty());
    assert!(inner.idle.is_empty() && inner.lost.is_empty() && inner.changes.is_empty());
}

#[test]
fn a_node_is_in_doubt_until_it_is_known_to_have_its_part_or_not() {
    let open = OpenTasks::default();
    let is_in_doubt = |up_to| open.is_in_doubt("x", &node("b"), TaskUid(up_to));
    let mut one = task(7, Some("x"), &[("a", Some(1), Succeeded), ("b", None, Enqueued)]);
    open.note(&one);
    assert_eq!(open.newest_of("x"), Some(TaskUid(7)));
    assert!(is_in_doubt(7) && !is_in_doubt(6) && !open.is_in_doubt("x", &node("a"), TaskUid(7)));
    for status in [Enqueued, Failed] {
        (one.nodes[1].uid, one.nodes[1].status) = (Some(4), status);
        open.note(&one);
        assert!(is_in_doubt(7), "{status:?}");
    }
    one.nodes[1].dropped = true;
    open.note(&one);
    assert!(!is_in_doubt(7));
    // It is known before anything is sent that it will miss it, and on record afterwards.
    one.nodes[0].uid = None;
    open.note(&one);
    assert!(is_in_doubt(7));
    one.nodes[0].uid = Some(1);
    (one.nodes[1].dropped, one.nodes[1].status) = (false, Succeeded);
    open.note(&one);
    assert!(!is_in_doubt(7));
}

#[test]
fn what_was_read_does_not_replace_what_was_written_since() {
    let open = OpenTasks::default();
    let old = task(1, None, &[("a", None, Enqueued)]);
    let new = task(1, None, &[("a", Some(3), Enqueued)]);
    open.note(&new);
    open.read(std::slice::from_ref(&old));
    assert_eq!(uids(&open.head(&node("a"), 0, 0, 9)), [(3, 1)]);
    open.clear();
    open.read(&[old]);
    assert_eq!((open.nodes().len(), open.lost().len()), (0, 1));
    open.forget(TaskUid(1));
    assert!(open.is_empty());
}
