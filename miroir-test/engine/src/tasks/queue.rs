//! The task queue: in memory, with an append-only journal of JSON lines and one file per
//! document payload on disk.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use super::{Status, Task, Work};
use crate::errors::ApiError;

const JOURNAL: &str = "tasks.jsonl";
/// Bounds of one batch of document additions.
const MAX_BATCH_TASKS: usize = 200;
const MAX_BATCH_BYTES: u64 = 64 << 20;

/// What the caller knows about a new task.
#[derive(Debug)]
pub(crate) struct NewTask {
    /// Index concerned.
    pub(crate) index_uid: Option<String>,
    /// What to do.
    pub(crate) work: Work,
    /// Details shown until the task has run.
    pub(crate) details: Map<String, Value>,
    /// Free text of the client.
    pub(crate) custom_metadata: Option<String>,
    /// Documents.
    pub(crate) payload: Option<Vec<u8>>,
}

#[derive(Debug)]
struct Inner {
    tasks: BTreeMap<u32, Task>,
    enqueued: BTreeSet<u32>,
    processing: BTreeSet<u32>,
    next_uid: u32,
    next_batch: u32,
    journal: File,
}

/// The queue of one node.
#[derive(Debug)]
pub(crate) struct TaskQueue {
    payloads: PathBuf,
    inner: Mutex<Inner>,
    wake: Condvar,
    stopping: AtomicBool,
    aborting: AtomicBool,
}

impl TaskQueue {
    /// Reads the journal below `root`. Tasks that were being processed are enqueued again.
    pub(crate) fn open(root: &Path) -> std::io::Result<Self> {
        let payloads = root.join("payloads");
        std::fs::create_dir_all(&payloads)?;
        let path = root.join(JOURNAL);
        let mut tasks = BTreeMap::new();
        let mut next_uid = 0;
        let mut next_batch = 0;
        let mut complete = true;
        if path.exists() {
            let mut reader = BufReader::new(File::open(&path)?);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line)? > 0 {
                complete = line.ends_with(b"\n");
                // A line that was cut while it was written is not an entry.
                if let Ok(mut entry) = serde_json::from_slice::<Map<String, Value>>(&line) {
                    if let Some(task) = entry.remove("task") {
                        let task: Task = serde_json::from_value(task)?;
                        next_uid = next_uid.max(task.uid + 1);
                        next_batch = next_batch.max(task.batch_uid.map_or(0, |batch| batch + 1));
                        tasks.insert(task.uid, task);
                    }
                    for uid in entry.get("deleted").and_then(Value::as_array).into_iter().flatten()
                    {
                        tasks.remove(&(uid.as_u64().unwrap_or_default() as u32));
                    }
                }
                line.clear();
            }
        }
        let enqueued =
            tasks.values().filter(|task| !task.status.finished()).map(|task| task.uid).collect();
        let mut journal = File::options().create(true).append(true).open(&path)?;
        if !complete {
            journal.write_all(b"\n")?;
        }
        let inner =
            Inner { tasks, enqueued, processing: BTreeSet::new(), next_uid, next_batch, journal };
        Ok(Self {
            payloads,
            inner: Mutex::new(inner),
            wake: Condvar::new(),
            stopping: AtomicBool::new(false),
            aborting: AtomicBool::new(false),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a task; it is on disk when this returns.
    pub(crate) fn register(&self, new: NewTask) -> Result<Task, ApiError> {
        let payload_size = new.payload.as_ref().map_or(0, |bytes| bytes.len() as u64);
        let payload = match new.payload {
            Some(bytes) => {
                let name = uuid::Uuid::new_v4().to_string();
                std::fs::write(self.payloads.join(&name), bytes)?;
                Some(name)
            }
            None => None,
        };
        let mut inner = self.lock();
        if self.stopping() {
            return Err(ApiError::internal("the node is stopping"));
        }
        let task = Task {
            uid: inner.next_uid,
            batch_uid: None,
            index_uid: new.index_uid,
            status: Status::Enqueued,
            work: new.work,
            details: new.details,
            error: None,
            canceled_by: None,
            enqueued_at: OffsetDateTime::now_utc(),
            started_at: None,
            finished_at: None,
            custom_metadata: new.custom_metadata,
            payload,
            payload_size,
        };
        inner.journal.write_all(&journal_line(&json!({ "task": task }))?)?;
        inner.next_uid += 1;
        inner.enqueued.insert(task.uid);
        inner.tasks.insert(task.uid, task.clone());
        drop(inner);
        self.wake.notify_all();
        Ok(task)
    }

    /// Waits for work. None when the node stops. `may_batch` tells whether document additions to
    /// an index may share one indexing transaction.
    pub(crate) fn next_batch(&self, may_batch: impl Fn(&str) -> bool) -> Option<Vec<Task>> {
        let mut inner = self.lock();
        loop {
            if self.stopping() {
                return None;
            }
            if let Some(&first) = inner.enqueued.first() {
                let uids = choose(&inner, first, &may_batch);
                let started = OffsetDateTime::now_utc();
                let batch = inner.next_batch;
                inner.next_batch += 1;
                let mut chosen = Vec::with_capacity(uids.len());
                for uid in uids {
                    inner.processing.insert(uid);
                    if let Some(task) = inner.tasks.get_mut(&uid) {
                        task.status = Status::Processing;
                        task.started_at = Some(started);
                        task.batch_uid = Some(batch);
                        chosen.push(task.clone());
                    }
                }
                return Some(chosen);
            }
            inner = self.wake.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Records the end of tasks, on disk first.
    pub(crate) fn finish(&self, finished: Vec<Task>, deleted: &[u32]) -> Result<(), ApiError> {
        let mut lines = Vec::new();
        for task in &finished {
            lines.extend(journal_line(&json!({ "task": task }))?);
        }
        let mut inner = self.lock();
        if !deleted.is_empty() {
            lines.extend(journal_line(&json!({ "deleted": deleted }))?);
        }
        inner.journal.write_all(&lines)?;
        for uid in deleted {
            inner.tasks.remove(uid);
        }
        let mut leftovers = Vec::new();
        for task in finished {
            inner.enqueued.remove(&task.uid);
            inner.processing.remove(&task.uid);
            leftovers.extend(task.payload.clone());
            inner.tasks.insert(task.uid, task);
        }
        drop(inner);
        for name in leftovers {
            // The payload is not needed any more; a leftover file harms nobody.
            let _ = std::fs::remove_file(self.payloads.join(name));
        }
        Ok(())
    }

    /// Puts tasks back that could not be finished because the node stops.
    pub(crate) fn give_back(&self, tasks: &[Task]) {
        let mut inner = self.lock();
        for task in tasks {
            inner.processing.remove(&task.uid);
            if let Some(stored) = inner.tasks.get_mut(&task.uid) {
                stored.status = Status::Enqueued;
                stored.started_at = None;
                stored.batch_uid = None;
            }
        }
    }

    /// Reads the documents of a task.
    pub(crate) fn payload(&self, name: &str) -> std::io::Result<Vec<u8>> {
        std::fs::read(self.payloads.join(name))
    }

    /// One task.
    pub(crate) fn get(&self, uid: u32) -> Option<Task> {
        self.lock().tasks.get(&uid).cloned()
    }

    /// Runs a function over all tasks.
    pub(crate) fn with_tasks<T>(&self, read: impl FnOnce(&BTreeMap<u32, Task>) -> T) -> T {
        read(&self.lock().tasks)
    }

    /// Whether the worker is busy with an index.
    pub(crate) fn is_indexing(&self, uid: &str) -> bool {
        let inner = self.lock();
        inner
            .processing
            .iter()
            .filter_map(|task| inner.tasks.get(task))
            .any(|task| task.index_uid.as_deref() == Some(uid))
    }

    /// End of the last task.
    pub(crate) fn last_update(&self) -> Option<OffsetDateTime> {
        self.lock().tasks.values().filter_map(|task| task.finished_at).max()
    }

    /// Asks the worker to end; `abort` also interrupts the transaction it is in.
    pub(crate) fn stop(&self, abort: bool) {
        let inner = self.lock();
        self.stopping.store(true, Ordering::SeqCst);
        if abort {
            self.aborting.store(true, Ordering::SeqCst);
        }
        drop(inner);
        self.wake.notify_all();
    }

    fn stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Whether the current transaction must be given up.
    pub(crate) fn aborting(&self) -> bool {
        self.aborting.load(Ordering::SeqCst)
    }
}

/// The tasks to run next: the oldest one, with the document additions that directly follow it
/// when they can share its transaction. Cancelations jump the queue.
fn choose(inner: &Inner, first: u32, may_batch: &impl Fn(&str) -> bool) -> Vec<u32> {
    let jumps = |uid: &&u32| {
        matches!(inner.tasks.get(uid).map(|task| &task.work), Some(Work::Cancel { .. }))
    };
    if let Some(&cancel) = inner.enqueued.iter().find(jumps) {
        return vec![cancel];
    }
    let mut chosen = vec![first];
    let Some(head) = inner.tasks.get(&first) else { return chosen };
    let Some(head_key) = batch_key(head) else { return chosen };
    if !may_batch(head_key.0) {
        return chosen;
    }
    let mut bytes = head.payload_size;
    for uid in inner.enqueued.iter().skip(1) {
        let Some(task) = inner.tasks.get(uid) else { break };
        bytes += task.payload_size;
        if batch_key(task) != Some(head_key)
            || chosen.len() >= MAX_BATCH_TASKS
            || bytes > MAX_BATCH_BYTES
        {
            break;
        }
        chosen.push(*uid);
    }
    chosen
}

/// Additions with equal keys can share a transaction.
fn batch_key(task: &Task) -> Option<(&str, bool, Option<&str>)> {
    match &task.work {
        Work::Documents { replace, primary_key, skip_creation: false } => {
            Some((task.index_uid.as_deref()?, *replace, primary_key.as_deref()))
        }
        _ => None,
    }
}

fn journal_line(value: &Value) -> Result<Vec<u8>, ApiError> {
    let mut line = serde_json::to_vec(value).map_err(ApiError::internal)?;
    line.push(b'\n');
    Ok(line)
}
