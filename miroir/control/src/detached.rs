//! Work on one task beside the poller, which goes on with the others meanwhile.

use std::sync::Arc;

use miroir_api::TaskUid;
use miroir_pipeline::cluster::ClusterState;
use miroir_pipeline::error::Error;

/// Works on a task, unless somebody does, until this process or its term ends; then wakes the poller.
/// `later` says what is done another time, where the work fails: the task is unfinished then.
pub(crate) fn spawn<F: Future<Output = Result<(), Error>> + Send + 'static>(
    state: &Arc<ClusterState>,
    uid: TaskUid,
    later: &'static str,
    work: impl FnOnce(Arc<ClusterState>) -> F + Send + 'static,
) {
    let Some(guard) = state.verifying.begin(uid) else { return };
    let state = Arc::clone(state);
    let (stop, term) = (state.stop.clone(), state.leadership.term());
    tokio::spawn(async move {
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = term.cancelled() => {}
            result = work(Arc::clone(&state)) => {
                if let Err(error) = result {
                    tracing::error!(task = %uid, %error, "{later}");
                }
            }
        }
        drop(guard);
        state.signals.tasks.notify_one();
    });
}
