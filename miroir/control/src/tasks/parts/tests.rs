//! How tasks end whose parts ended unlike each other.

use TaskStatus::{Canceled, Enqueued, Failed, Succeeded};
use miroir_api::TaskUid;
use miroir_store::NewTask;

use super::*;

fn id(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

/// A write to shards 1 and 2 by nodes in some status; `dropped` ones after a `!`.
fn write(nodes: &[(&str, TaskStatus)]) -> TaskRecord {
    let nodes = nodes.iter().enumerate().map(|(at, (name, status))| {
        let mut task = NodeTask::new(id(name.trim_start_matches('!')), Some(70 + at as u32));
        task.status = *status;
        task.dropped = name.starts_with('!');
        task.shards = vec![ShardId(1), ShardId(2)];
        task
    });
    let new = NewTask {
        index: Some("a".to_owned()),
        physical: Some("a".to_owned()),
        nodes: nodes.collect(),
        ..NewTask::new(TaskKind::DocumentAdditionOrUpdate, time::OffsetDateTime::UNIX_EPOCH)
    };
    TaskRecord::new(TaskUid(0), new)
}

fn stale(rows: &[(&str, u32, CatchUp)]) -> StaleMap {
    let rows = rows
        .iter()
        .map(|(node, shard, kind)| StaleReplica::new(&id(node), "a", Some(ShardId(*shard)), *kind));
    StaleMap::new(rows.collect())
}

fn names(rows: &[StaleReplica]) -> Vec<(String, u32, CatchUp)> {
    let name = |row: &StaleReplica| (row.node.to_string(), row.shard.unwrap().0, row.kind);
    rows.iter().map(name).collect()
}

fn miss(node: &str, shard: u32) -> (String, u32, CatchUp) {
    (node.to_owned(), shard, CatchUp::Shard)
}

#[test]
fn a_replica_that_failed_alone_follows_the_one_that_succeeded() {
    let record = write(&[("a", Succeeded), ("b", Failed)]);
    let end = ending(&record, &StaleMap::default(), None);
    assert!(end.done);
    assert_eq!(names(&end.behind), [miss("b", 1), miss("b", 2)]);
    let both = ending(&write(&[("a", Failed), ("b", Failed)]), &StaleMap::default(), None);
    assert_eq!((both.done, both.behind), (false, Vec::new()), "they ended alike");
}

#[test]
fn an_index_is_made_where_every_shard_has_an_owner_with_it() {
    let nodes: Vec<NodeId> = ["a", "b", "c"].map(id).into();
    let placement = Placement::new(&[nodes], 2, 6);
    let made = |nodes: &[(&str, TaskStatus)], stale: &StaleMap| {
        let mut record = write(nodes);
        record.kind = TaskKind::IndexCreation;
        record.nodes.iter_mut().for_each(|task| task.shards.clear());
        let end = creation(&record, stale, &placement);
        let behind = end.behind.iter().map(|row| (row.node.to_string(), row.kind));
        (end.done, behind.collect::<Vec<_>>())
    };
    let mut away = write(&[("a", Succeeded), ("b", Enqueued), ("c", Succeeded)]);
    away.kind = TaskKind::IndexCreation;
    let none = StaleMap::default();
    assert!(others_make(&away, &none, 1, &placement));
    let all = |node| (0..6).map(move |n| (node, n, CatchUp::Shard));
    let missed = stale(&all("a").chain(all("c")).collect::<Vec<_>>());
    assert!(!others_make(&away, &missed, 1, &placement), "what the others missed is on b alone");
    let nobody = stale(&all("a").chain(all("b")).chain(all("c")).collect::<Vec<_>>());
    assert!(others_make(&away, &nobody, 1, &placement));
    away.nodes[2].uid = None;
    assert!(!others_make(&away, &none, 1, &placement), "some shards are on b and c alone");
    let one = [("a", Succeeded), ("b", Failed), ("c", Succeeded)];
    let behind = |node: &str| vec![(node.to_owned(), CatchUp::Index)];
    assert_eq!(made(&one, &StaleMap::default()), (true, behind("b")));
    let two = [("a", Succeeded), ("b", Failed), ("c", Failed)];
    assert_eq!(made(&two, &StaleMap::default()), (false, Vec::new()));
    let lacks = StaleMap::new(vec![StaleReplica::new(&id("c"), "a", None, CatchUp::Index)]);
    assert_eq!(made(&one, &lacks), (false, Vec::new()));
    // One that has not done all of it yet, and is waited for by a row, is not behind.
    let away = [("a", Succeeded), ("b", Succeeded), ("!b", Enqueued), ("c", Succeeded)];
    assert_eq!(made(&away, &none), (true, Vec::new()));
    // A node may do a part of it alone.
    let half = [("a", Succeeded), ("b", Succeeded), ("b", Failed), ("c", Succeeded)];
    assert_eq!(made(&half, &StaleMap::default()), (true, behind("b")));
}

#[test]
fn settings_that_some_nodes_canceled_are_done_where_every_shard_has_an_owner_with_them() {
    let placement = Placement::new(&[["a", "b", "c"].map(id).into()], 2, 6);
    let canceled = |nodes: &[(&str, TaskStatus)], stale: &StaleMap| {
        let mut record = write(nodes);
        record.kind = TaskKind::SettingsUpdate;
        record.nodes.iter_mut().for_each(|task| task.shards.clear());
        let behind = settings(&mut record, stale, &placement);
        assert!(behind.iter().all(|row| (row.shard, row.kind) == (None, CatchUp::Shard)));
        let dropped = record.nodes.iter().filter(|task| task.dropped).map(|t| t.node.to_string());
        let names = behind.iter().map(|row| row.node.to_string()).collect::<Vec<_>>();
        (names.join(" "), dropped.collect::<Vec<_>>().join(" "))
    };
    let ends = |behind: &str, dropped: &str| (behind.to_owned(), dropped.to_owned());
    let none = StaleMap::default();
    let two = [("a", Succeeded), ("b", Succeeded), ("c", Canceled)];
    assert_eq!(canceled(&two, &none), ends("c", "c"));
    let one = [("a", Succeeded), ("b", Canceled), ("c", Canceled)];
    assert_eq!(canceled(&one, &none), ends("", ""), "b and c own shards that a does not");
    let away = [("a", Succeeded), ("!b", Succeeded), ("c", Canceled)];
    assert_eq!(canceled(&away, &none), ends("", "b"));
    let late = [("a", Succeeded), ("b", Succeeded), ("c", Canceled), ("!d", Enqueued)];
    assert_eq!(canceled(&late, &none), ends("c d", "c d"), "d may have copied those of c");
    let lost = [("a", Succeeded), ("b", Succeeded), ("!c", Enqueued)];
    assert_eq!(canceled(&lost, &none), ends("", "c"), "nobody canceled any");
    let fails = [("a", Succeeded), ("b", Succeeded), ("c", Canceled), ("d", Failed)];
    assert_eq!(canceled(&fails, &none), ends("", ""), "nobody has what some node cannot have");
    let nobody = [("a", Canceled), ("b", Canceled), ("c", Canceled)];
    assert_eq!(canceled(&nobody, &none), ends("", ""));
    // Who copies settings has no say, whichever it is.
    let copies =
        |node| StaleMap::new(vec![StaleReplica::new(&id(node), "a", None, CatchUp::Shard)]);
    assert_eq!(canceled(&two, &copies("b")), ends("", ""));
    assert_eq!(canceled(&two, &copies("c")), ends("c", "c"));
    assert_eq!(canceled(&one, &copies("c")), ends("", "c"));
    let alone = [("a", Succeeded), ("c", Canceled)];
    assert_eq!(canceled(&alone, &copies("c")), ends("", ""), "nobody is there to judge");
}

#[test]
fn a_write_that_failed_for_another_primary_key_happened_nowhere() {
    let mut record = write(&[("a", Succeeded), ("b", Failed), ("c", Failed)]);
    record.nodes[0].shards = vec![ShardId(1)];
    record.nodes[2].shards = vec![ShardId(2)];
    let end = ending(&record, &StaleMap::default(), None);
    assert_eq!((end.done, names(&end.behind)), (false, vec![miss("b", 1)]), "as it is else");
    let code = "index_primary_key_already_exists";
    record.nodes[1].error = Some(ApiError::new(code, ""));
    let end = ending(&record, &StaleMap::default(), None);
    assert_eq!((end.done, names(&end.behind)), (false, vec![miss("a", 1)]));
    // Where it succeeded as a whole, whoever has another key is behind.
    record.nodes.remove(2);
    record.nodes[0].shards.push(ShardId(2));
    let end = ending(&record, &StaleMap::default(), None);
    assert_eq!((end.done, names(&end.behind)), (true, vec![miss("b", 1), miss("b", 2)]));
}

#[test]
fn a_success_on_a_replica_that_is_to_be_replaced_is_none() {
    let record = write(&[("a", Failed), ("b", Succeeded)]);
    for kind in [CatchUp::Pending, CatchUp::Shard] {
        let end = ending(&record, &stale(&[("b", 1, kind)]), None);
        assert!(!end.done, "{kind:?}");
        // In the other shard `b` counts.
        assert_eq!(names(&end.behind), [miss("b", 1), miss("a", 2)], "{kind:?}");
    }
    let mut record = write(&[("!a", Enqueued), ("b", Succeeded)]);
    record.nodes[0].forgotten = true;
    assert!(!ending(&record, &stale(&[("b", 1, CatchUp::Shard)]), None).done);
}

#[test]
fn a_replica_may_not_do_later_what_failed_elsewhere() {
    let record = write(&[("a", Failed), ("!b", Enqueued)]);
    let end =
        ending(&record, &stale(&[("b", 1, CatchUp::Pending), ("b", 2, CatchUp::Pending)]), None);
    assert_eq!((end.done, names(&end.behind)), (false, vec![miss("b", 1), miss("b", 2)]));
    // One that never took it has nothing to lose.
    let mut record = write(&[("a", Failed), ("!b", Enqueued)]);
    record.nodes[1].uid = None;
    assert_eq!(ending(&record, &StaleMap::default(), None).behind, Vec::new());
}

#[test]
fn a_copy_counts_for_those_it_was_made_from() {
    let after = |first, kinds: &[(&str, u32, CatchUp)]| {
        let mut record = write(&[("a", first), ("!b", Enqueued)]);
        record.nodes[1].uid = None;
        ending(&record, &stale(kinds), None)
    };
    // `b` missed the write, caught up from `a`, and `a` missed the next one.
    let lost = [("a", 1, CatchUp::Shard), ("a", 2, CatchUp::Shard)];
    assert_eq!(after(Succeeded, &lost), Ending { done: true, behind: Vec::new() });
    assert!(!after(Failed, &lost).done);
    // Or it was down, and has done what was in its queue.
    let mut record = write(&[("a", Succeeded), ("!b", Enqueued)]);
    assert!(ending(&record, &stale(&lost), None).done);
    record.nodes[1].forgotten = true;
    assert!(!ending(&record, &stale(&lost), None).done, "nobody knows");
    // While `b` has to catch up it has nothing of it.
    let both = [lost[0], lost[1], ("b", 1, CatchUp::Shard), ("b", 2, CatchUp::Shard)];
    assert!(!after(Succeeded, &both).done);
}

#[test]
fn a_node_that_is_down_is_waited_for_unless_an_authority_took_it_too() {
    let record = write(&[("a", Enqueued), ("b", Enqueued)]);
    let mut both = record.clone();
    let rows = lose(&mut both, &StaleMap::default(), 1, Loss::Down, None);
    assert!(both.nodes[1].dropped && !both.nodes[1].forgotten);
    assert!(rows.iter().all(|row| row.kind == CatchUp::Pending && row.awaits == [71]));
    assert_eq!(rows.len(), 2);
    // Then the other one is alone.
    assert_eq!(lose(&mut both, &StaleMap::default(), 0, Loss::Down, None), Vec::new());
    assert!(!both.nodes[0].dropped);
    for kind in [CatchUp::Pending, CatchUp::Shard] {
        let mut one = record.clone();
        assert_eq!(lose(&mut one, &stale(&[("a", 2, kind)]), 1, Loss::Down, None), Vec::new());
        assert!(!one.nodes[1].dropped, "{kind:?}");
    }
}

#[test]
fn a_node_that_is_stuck_is_waited_for_unless_an_authority_has_done_it() {
    let record = write(&[("a", Succeeded), ("b", Enqueued)]);
    let none = StaleMap::default();
    let mut one = record.clone();
    assert_eq!(lose(&mut one, &none, 1, Loss::Behind, None), Vec::new(), "it is read");
    let rows = lose(&mut one, &none, 1, Loss::Stuck, None);
    assert!(one.nodes[1].dropped && rows.len() == 2);
    assert!(rows.iter().all(|row| row.kind == CatchUp::Pending && row.awaits == [71]));
    // What comes after it in the queue waits for nobody.
    let pending = stale(&[("b", 1, CatchUp::Pending), ("b", 2, CatchUp::Pending)]);
    assert_eq!(lose(&mut record.clone(), &pending, 1, Loss::Behind, None).len(), 2);
    let other = stale(&[("b", 7, CatchUp::Pending)]);
    assert_eq!(lose(&mut record.clone(), &other, 1, Loss::Behind, None).len(), 2);
    let copied = stale(&[("b", 1, CatchUp::Shard), ("b", 2, CatchUp::Shard)]);
    assert_eq!(lose(&mut record.clone(), &copied, 1, Loss::Behind, None), Vec::new());
    for other in [stale(&[("a", 2, CatchUp::Shard)]), stale(&[("a", 1, CatchUp::Pending)])] {
        assert_eq!(lose(&mut record.clone(), &other, 1, Loss::Stuck, None), Vec::new());
    }
    let mut both = write(&[("a", Enqueued), ("b", Enqueued)]);
    assert_eq!(lose(&mut both, &none, 1, Loss::Stuck, None), Vec::new());
}

#[test]
fn a_node_that_fails_to_delete_an_index_does_it_again() {
    let mut record = write(&[("a", Succeeded), ("b", Failed), ("c", Failed), ("!d", Enqueued)]);
    record.kind = TaskKind::IndexDeletion;
    record.nodes[2].error = Some(ApiError::new("index_not_found", "Index `a` not found."));
    let end = deletion(&record);
    assert_eq!((end.done, end.behind.len()), (true, 1));
    let row = &end.behind[0];
    assert_eq!((row.node.as_str(), row.shard, row.kind), ("b", None, CatchUp::Deleted));
}

#[test]
fn an_index_is_deleted_where_only_nodes_that_never_had_it_were_heard() {
    let deletion = |nodes: &[(&str, TaskStatus)], codes: &[Option<&'static str>]| {
        let mut record = write(nodes);
        record.kind = TaskKind::IndexDeletion;
        for (task, code) in record.nodes.iter_mut().zip(codes) {
            task.error = code.map(|code| ApiError::new(code, "…"));
        }
        is_deleted_by_others(&record)
    };
    let none = Some("index_not_found");
    assert!(deletion(&[("a", Failed), ("!b", Enqueued)], &[none, None]));
    assert!(!deletion(&[("a", Failed), ("b", Failed)], &[none, none]), "nobody had it");
    let full = Some("no_space_left_on_device");
    assert!(!deletion(&[("a", Failed), ("b", Failed), ("!c", Enqueued)], &[none, full, None]));
    assert!(!deletion(&[("!a", Enqueued), ("!b", Enqueued)], &[None, None]), "who says so?");
}

#[test]
fn what_a_node_forgot_is_compared_and_nothing_else() {
    let mut record = write(&[("a", Enqueued), ("b", Enqueued)]);
    let rows = lose(&mut record, &stale(&[("a", 2, CatchUp::Shard)]), 1, Loss::Forgotten, None);
    assert!(record.nodes[1].dropped && record.nodes[1].forgotten);
    // In shard 2 nobody can be copied from.
    assert_eq!(names(&rows), [miss("b", 1)]);
    assert_eq!(rows[0].awaits, Vec::<u32>::new());
    // The last one that forgets is what the others are compared with.
    assert_eq!(lose(&mut record, &StaleMap::default(), 0, Loss::Forgotten, None), Vec::new());
    let end = ending(&record, &stale(&[("b", 1, CatchUp::Shard)]), None);
    assert_eq!((end.done, end.behind), (false, Vec::new()));
}

/// Owners change while a write is under way: who owned a shard before speaks for it no more, and who
/// does since has what a copy brought.
#[test]
fn only_who_owns_a_shard_by_now_has_a_say() {
    let nodes = |names: &[&str]| names.iter().map(|name| id(name)).collect::<Vec<_>>();
    let now = |names: &[&str]| Placement::new(&[nodes(names)], names.len() as u32, 6);
    let mut both = write(&[("a", Enqueued), ("b", Enqueued)]);
    let alone = now(&["b"]);
    assert_eq!(lose(&mut both, &StaleMap::default(), 1, Loss::Down, Some(&alone)), Vec::new());
    assert!(!both.nodes[1].dropped, "nobody else has it who is read");
    let record = write(&[("a", Succeeded), ("b", Succeeded)]);
    let rows = stale(&[("a", 1, CatchUp::Shard), ("b", 1, CatchUp::Shard)]);
    assert!(!ending(&record, &rows, None).done, "no authority is left");
    let copied = now(&["a", "b", "c"]);
    assert!(ending(&record, &rows, Some(&copied)).done, "c copied it");
    let failed = write(&[("a", Succeeded), ("b", Failed)]);
    assert!(!ending(&failed, &StaleMap::default(), Some(&alone)).done, "a is read no more");
}

/// A node without shards has the settings as well, and may go with them.
#[test]
fn who_is_not_read_does_not_speak_for_who_is() {
    let placement = Placement::new(&[["a", "b"].map(id).into()], 2, 6);
    let lose = |nodes: &[(&str, TaskStatus)]| {
        let mut record = write(nodes);
        record.kind = TaskKind::SettingsUpdate;
        record.nodes.iter_mut().for_each(|task| task.shards.clear());
        let rows = lose(&mut record, &StaleMap::default(), 0, Loss::Down, Some(&placement));
        (record.nodes[0].dropped, rows.len())
    };
    assert_eq!(lose(&[("a", Enqueued), ("c", Succeeded)]), (false, 0));
    assert_eq!(lose(&[("a", Enqueued), ("b", Succeeded), ("c", Succeeded)]), (true, 1));
    assert_eq!(lose(&[("c", Enqueued), ("d", Succeeded)]), (true, 1));
}
