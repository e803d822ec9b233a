//! Changes of names that take their turn.
//!
//! One node comes to a swap or a rename when it has done what was enqueued before: until then the names
//! are the old ones, and an index that is filled and swapped in without waiting is never seen half full.
//! So here. While its indexes have unfinished tasks a change of names is stored, and nothing else
//! happens. It is carried out once these tasks have ended, or before the next task that one of its names
//! is in: that one is about the index which has the name then. A change of names that has been carried
//! out took the tasks before it for done, so that they cannot be canceled any more; one that waits can
//! be, and they as well.

use std::sync::Arc;
use std::time::Duration;

use miroir_api::TaskUid;
use miroir_pipeline::cluster::ClusterState;
use miroir_pipeline::error::Error;
use miroir_store::task_state::Renaming;
use miroir_store::{TaskProtocol, TaskRecord};
use tokio::time::sleep;

use super::carry_out;
use crate::detached;
use crate::outcome::canceled;

/// Pause before it is looked again whether somebody else is done with a change.
const AGAIN: Duration = Duration::from_millis(5);

/// The indexes, as nodes call them, that a change of names waits for: all of it, where one has a task.
pub(crate) fn awaited(state: &ClusterState, intent: &Renaming) -> Vec<String> {
    let moved = || intent.moves.iter().filter(|of| of.from != of.to);
    let has_task = |index: &str| state.open_tasks.first_of(index).is_some();
    if moved().any(|of| has_task(&of.physical)) {
        moved().map(|of| of.physical.clone()).collect()
    } else {
        Vec::new()
    }
}

/// Carries out what waits and has a name in it. The caller holds no gate.
///
/// # Errors
/// When the store fails. What was begun is done later.
pub(crate) async fn catch_up(state: &Arc<ClusterState>, name: &str) -> Result<(), Error> {
    while let Some(uid) = state.open_tasks.deferred_on(name) {
        let Some(guard) = state.verifying.begin(uid) else {
            sleep(AGAIN).await;
            continue;
        };
        make(state, uid).await?;
        drop(guard);
    }
    Ok(())
}

/// Carries out a change of names in the background, unless somebody is at it, if nothing that it waits
/// for is left.
pub(crate) fn begin_if_due(state: &Arc<ClusterState>, record: &TaskRecord) {
    let uid = record.uid;
    if !state.open_tasks.has_before(record.awaited(), uid) {
        detached::spawn(state, uid, "names are changed later", move |state| async move {
            make(&state, uid).await
        });
    }
}

/// Cancels a change of names that waits still. Whoever carries one out is faster.
///
/// # Errors
/// When the store fails.
pub(crate) async fn cancel(state: &ClusterState, uid: TaskUid, by: TaskUid) -> Result<(), Error> {
    let Some(_guard) = state.verifying.begin(uid) else { return Ok(()) };
    if let Some(mut record) = waiting(state, uid).await? {
        record.protocol = TaskProtocol { state: None, cancelation: Some(by) };
        canceled::become_canceled(&mut record);
        state.stores.tasks.update(record).await?;
    }
    Ok(())
}

/// Carries one out. The caller has its guard.
async fn make(state: &Arc<ClusterState>, uid: TaskUid) -> Result<(), Error> {
    let Some(record) = waiting(state, uid).await? else { return Ok(()) };
    let names = record.intent().map(Renaming::gates).unwrap_or_default();
    let gate = super::hold(state, &names).await;
    // A process before this one may have begun with it.
    carry_out(state, record, true).await?;
    drop(gate);
    Ok(())
}

/// A change as the store has it, if it waits.
async fn waiting(state: &ClusterState, uid: TaskUid) -> Result<Option<TaskRecord>, Error> {
    let record = state.stores.tasks.get(uid).await?;
    match record {
        Some(record) if record.is_deferred() => Ok(Some(record)),
        Some(record) => {
            state.open_tasks.note(&record);
            Ok(None)
        }
        None => {
            state.open_tasks.forget(uid);
            Ok(None)
        }
    }
}
