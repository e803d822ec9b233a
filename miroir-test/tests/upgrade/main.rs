//! A store is served by the process that opens it, whatever its tasks were doing when the one before
//! died: one of this version, and one of version 0.1.

mod node;
mod scenario;

use std::path::{Path, PathBuf};

use miroir_store::{TaskRecord, TaskState};
use scenario::Left;
use serde_json::Value;

/// What version 0.1 left: a store, the same tasks as lines, and what the nodes kept. Written by
/// `die` at commit `e62f697`, through its pipeline and its `SQLite` store, with
/// `MIROIR_WRITE_FIXTURE=<directory>`; never written again.
const OLD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/0.1");

fn run<T>(future: impl Future<Output = T>) -> T {
    // Whatever is left of a process ends with its runtime.
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(future)
}

/// Keeps what a process left in a directory.
async fn keep(path: &Path, left: &Left, directory: &Path) {
    std::fs::create_dir_all(directory).unwrap();
    let text = serde_json::to_string(left).unwrap();
    std::fs::write(directory.join("left.json"), text + "\n").unwrap();
    let stores = miroir_store_sqlite::open(path, miroir_store_sqlite::Options::default()).unwrap();
    let all = miroir_store::TaskQuery { limit: usize::MAX, reverse: true, ..Default::default() };
    let tasks = stores.tasks.list(all).await.unwrap().tasks;
    let lines: Vec<String> =
        tasks.iter().map(|task| serde_json::to_string(task).unwrap() + "\n").collect();
    std::fs::write(directory.join("tasks.jsonl"), lines.concat()).unwrap();
    drop(stores);
    // The last connection that closes writes the log back and takes it away.
    while path.with_extension("sqlite-wal").exists() {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    std::fs::copy(path, directory.join("store.sqlite")).unwrap();
}

#[test]
fn a_task_in_any_state_is_ended_by_the_next_process() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.sqlite");
    let left = run(scenario::die(&path));
    if let Some(directory) = std::env::var_os("MIROIR_WRITE_FIXTURE") {
        run(keep(&path, &left, &PathBuf::from(directory)));
    }
    run(scenario::serve(&path, &left, &[]));
}

#[test]
fn a_store_of_version_0_1_is_served_with_its_tasks_under_way() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.sqlite");
    std::fs::copy(format!("{OLD}/store.sqlite"), &path).unwrap();
    let left = std::fs::read_to_string(format!("{OLD}/left.json")).unwrap();
    run(scenario::serve(&path, &serde_json::from_str(&left).unwrap(), &[]));
}

/// What version 0.1 wrote of a task is written back as it was, so that version 0.1 can go on from it.
#[test]
fn states_keep_the_form_that_version_0_1_reads() {
    for line in miroir_test::stores::TASKS_OF_0_1.lines() {
        let mut old: Value = serde_json::from_str(line).unwrap();
        let task: TaskRecord = serde_json::from_str(line).unwrap();
        assert!(!matches!(task.protocol.state, Some(TaskState::Unreadable(_))), "{line}");
        if let Some(Value::Object(proposal)) = old.pointer_mut("/protocol/settings") {
            // It wrote them and did not read them.
            proposal.retain(|key, _| key != "step" && key != "attempt");
        }
        assert_eq!(serde_json::to_value(&task).unwrap(), old);
    }
}

#[test]
fn a_task_whose_state_cannot_be_read_fails_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.sqlite");
    let left = run(scenario::die(&path));
    let names = [
        "addition",
        "settings proposed",
        "rename",
        "dump",
        "cancelation passed on",
        "deletion of tasks",
    ];
    run(scenario::garble(&path, &left, &names));
    run(scenario::serve(&path, &left, &names));
}
