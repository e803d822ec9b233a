//! Waiting for several calls at once.
//!
//! Unlike `join_all` of `futures`, which polls every one of few calls again whenever one has moved (64
//! polls for eight answers, each through all layers), this polls only the calls that moved.

use futures_util::StreamExt as _;
use futures_util::stream::{FuturesOrdered, FuturesUnordered};

/// Waits for all; their results are in the order of the futures.
pub async fn all<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut futures = futures.into_iter();
    let Some(first) = futures.next() else { return Vec::new() };
    let Some(second) = futures.next() else { return vec![first.await] };
    let all = [first, second].into_iter().chain(futures);
    all.collect::<FuturesOrdered<_>>().collect().await
}

/// Waits for all, or for the first that fails; the others end with it. Results are in the order of
/// the futures.
///
/// # Errors
/// The first that came.
pub async fn try_all<F, T, E>(futures: impl IntoIterator<Item = F>) -> Result<Vec<T>, E>
where
    F: Future<Output = Result<T, E>>,
{
    let mut futures = futures.into_iter();
    let Some(first) = futures.next() else { return Ok(Vec::new()) };
    let Some(second) = futures.next() else { return Ok(vec![first.await?]) };
    let all = [first, second].into_iter().chain(futures);
    let mut under_way: FuturesUnordered<_> =
        all.enumerate().map(|(at, future)| async move { (at, future.await) }).collect();
    let mut done: Vec<Option<T>> = (0..under_way.len()).map(|_| None).collect();
    while let Some((at, outcome)) = under_way.next().await {
        done[at] = Some(outcome?);
    }
    Ok(done.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use tokio::time::{Instant, sleep};

    use super::*;

    async fn after(millis: u64, result: Result<u64, u64>) -> Result<u64, u64> {
        sleep(Duration::from_millis(millis)).await;
        result
    }

    #[tokio::test(start_paused = true)]
    async fn results_are_in_order_and_the_first_error_ends_it() {
        let start = Instant::now();
        assert_eq!(
            try_all([after(30, Ok(1)), after(10, Ok(2)), after(20, Ok(3))]).await,
            Ok(vec![1, 2, 3])
        );
        assert_eq!(start.elapsed(), Duration::from_millis(30));
        let failing = [after(30, Err(1)), after(10, Err(2)), after(20, Ok(3))];
        assert_eq!(try_all(failing).await, Err(2));
        assert_eq!(start.elapsed(), Duration::from_millis(40));
        assert_eq!(try_all([after(1, Err(4))]).await, Err(4));
        let nobody: [std::future::Ready<Result<u64, u64>>; 0] = [];
        assert_eq!(try_all(nobody.clone()).await, Ok(vec![]));
        assert_eq!(all(nobody).await, []);
        assert_eq!(all([after(2, Ok(1)), after(1, Err(2))]).await, [Ok(1), Err(2)]);
        assert_eq!(all([after(1, Ok(3))]).await, [Ok(3)]);
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_moved_is_asked() {
        let polls = AtomicUsize::new(0);
        let calls = (0..8_u64).map(|at| {
            let mut call = Box::pin(sleep(Duration::from_millis(at + 1)));
            let polls = &polls;
            std::future::poll_fn(move |cx| {
                polls.fetch_add(1, Ordering::Relaxed);
                call.as_mut().poll(cx)
            })
        });
        all(calls).await;
        assert_eq!(polls.into_inner(), 16);
    }
}
