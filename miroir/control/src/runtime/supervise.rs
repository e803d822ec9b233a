//! Starting workers again that panicked.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

/// Pause before a worker that panicked is started again.
const RESTART: Duration = Duration::from_secs(1);

/// Runs a worker until it ends by itself; after a panic, which the panic hook has logged, anew.
pub fn supervise<F, Fut>(
    name: &'static str,
    stop: &CancellationToken,
    start: F,
) -> BoxFuture<'static, ()>
where
    F: Fn(CancellationToken) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send,
{
    let stop = stop.clone();
    Box::pin(async move {
        while AssertUnwindSafe(start(stop.clone())).catch_unwind().await.is_err() {
            tracing::error!(worker = name, "a worker panicked and is started again");
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(RESTART) => {}
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_panics_is_started_again_until_it_is_stopped() {
        let stop = CancellationToken::new();
        let starts = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&starts);
        let end = stop.clone();
        supervise("test", &stop, move |stop| {
            let start = count.fetch_add(1, Ordering::Relaxed);
            let end = end.clone();
            async move {
                assert!(start == 2, "as a test wants it");
                end.cancel();
                stop.cancelled().await;
            }
        })
        .await;
        assert_eq!(starts.load(Ordering::Relaxed), 3);
    }
}
