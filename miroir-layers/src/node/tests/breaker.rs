//! The breaker.

use super::*;

pub(super) struct Guarded {
    pub(super) scores: Scores,
    pub(super) service: Spawned<Request>,
    pub(super) inner: MockHandle<Request>,
}

impl Guarded {
    pub(super) fn new() -> Self {
        let scores = Scores::default();
        let options = BreakerOptions {
            failure_threshold: 2,
            open: Duration::from_secs(1),
            max_open: Duration::from_secs(4),
            half_open_probes: 1,
            ..BreakerOptions::default()
        };
        let (service, inner) = layered(BreakerLayer::new(&scores, &node(), options));
        Self { scores, service, inner }
    }

    pub(super) fn is_open(&self) -> bool {
        self.scores.is_open(&node())
    }

    pub(super) async fn call(&mut self, request: Request, reply: Result<u16, Error>) {
        let call = self.service.spawn_call(request);
        let exchange = self.inner.next_request().await;
        match reply {
            Ok(status) => exchange.respond(answer(status)),
            Err(error) => exchange.fail(error),
        }
        let _ = call.await;
    }

    pub(super) async fn trip(&mut self) {
        self.call(interactive(), Err(Error::node(&node(), NodeFailure::Connect))).await;
        self.call(interactive(), Ok(502)).await;
        assert!(self.is_open());
    }

    pub(super) async fn assert_refused(&mut self) {
        let answer = self.service.call(interactive()).await;
        let failure = answer.as_ref().unwrap_err().node_failure();
        assert_eq!(failure, Some(NodeFailure::BreakerOpen));
        assert_eq!(answer.unwrap_err().retry(), miroir_pipeline::Retry::OtherReplica);
        self.inner.assert_idle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn failures_open_the_breaker_and_the_score_says_so() {
    let mut guarded = Guarded::new();
    assert!(!guarded.is_open());
    guarded.trip().await;
    guarded.assert_refused().await;
}

#[tokio::test(start_paused = true)]
async fn answers_and_abandoned_calls_leave_the_breaker_closed() {
    let mut guarded = Guarded::new();
    for _ in 0..5 {
        for status in [200, 404, 429] {
            guarded.call(interactive(), Ok(status)).await;
        }
        guarded.call(interactive(), Err(Error::deadline())).await;
        guarded.call(interactive(), Err(Error::overloaded())).await;
        // Given up by its caller.
        let call = guarded.service.spawn_call(interactive());
        let mut exchange = guarded.inner.next_request().await;
        drop(call);
        exchange.cancelled().await;
    }
    assert!(!guarded.is_open());
}

#[tokio::test(start_paused = true)]
async fn what_was_never_sent_counts_against_no_node() {
    let mut guarded = Guarded::new();
    let (scores, mut service, mut inner) = load();
    for _ in 0..5 {
        let expired = || Error::node(&node(), NodeFailure::Expired);
        guarded.call(interactive(), Err(expired())).await;
        let call = service.spawn_call(interactive());
        wait(30).await;
        inner.next_request().await.fail(expired());
        assert_eq!(label(call.await), "expired");
    }
    assert!(!guarded.is_open());
    let figures = scores.node(&node()).figures(Instant::now());
    assert!(figures.error_rate == 0.0 && figures.latency.is_none(), "{figures:?}");
}

#[tokio::test(start_paused = true)]
async fn it_half_opens_in_time_even_if_nobody_calls() {
    let mut guarded = Guarded::new();
    guarded.trip().await;
    wait(999).await;
    assert!(guarded.is_open());
    wait(2).await;
    assert!(!guarded.is_open(), "leaves may choose it again");

    // One trial at a time; while it runs, others are refused and choose other nodes.
    let trial = guarded.service.spawn_call(interactive());
    let exchange = guarded.inner.next_request().await;
    assert!(guarded.is_open());
    guarded.assert_refused().await;
    exchange.fail(Error::node(&node(), NodeFailure::Timeout));
    let _ = trial.await;

    // Twice as long this time.
    wait(1_999).await;
    assert!(guarded.is_open());
    wait(2).await;
    assert!(!guarded.is_open());
    guarded.call(interactive(), Ok(200)).await;
    let (a, b) =
        (guarded.service.spawn_call(interactive()), guarded.service.spawn_call(interactive()));
    guarded.inner.next_request().await.respond(answer(200));
    guarded.inner.next_request().await.respond(answer(200));
    assert!(a.await.is_ok() && b.await.is_ok() && !guarded.is_open());
}

#[tokio::test(start_paused = true)]
async fn a_trial_that_is_given_up_makes_room_for_another() {
    let mut guarded = Guarded::new();
    guarded.trip().await;
    wait(1_001).await;
    let trial = guarded.service.spawn_call(interactive());
    let mut exchange = guarded.inner.next_request().await;
    assert!(guarded.is_open());
    drop(trial);
    exchange.cancelled().await;
    assert!(!guarded.is_open());
    guarded.call(interactive(), Ok(200)).await;
    assert!(!guarded.is_open());
}

#[tokio::test(start_paused = true)]
async fn a_health_probe_passes_and_closes_it() {
    let mut guarded = Guarded::new();
    guarded.trip().await;
    guarded.call(probe(), Err(Error::node(&node(), NodeFailure::Connect))).await;
    assert!(guarded.is_open());
    guarded.call(probe(), Ok(200)).await;
    assert!(!guarded.is_open());
    guarded.call(interactive(), Ok(200)).await;
    // The timer of the first opening is still running and must not disturb a second.
    guarded.trip().await;
    wait(500).await;
    assert!(guarded.is_open());
}

#[tokio::test(start_paused = true)]
async fn a_new_stack_for_a_node_starts_closed() {
    let scores = Scores::default();
    scores.node(&node()).set_open(true);
    let layer = BreakerLayer::new(&scores, &node(), BreakerOptions::default());
    let _ = layered::<Request, _>(layer);
    assert!(!scores.is_open(&node()));
}

#[tokio::test(start_paused = true)]
async fn what_runs_out_of_time_at_a_node_that_answers_counts_not() {
    let mut guarded = Guarded::new();
    let late = || Err(Error::node(&node(), NodeFailure::Timeout));
    for _ in 0..5 {
        // Something else was answered meanwhile: whoever asks what takes too long closes the node to
        // nobody.
        wait(5_000).await;
        guarded.scores.node(&node()).heard(Instant::now());
        wait(500).await;
        guarded.call(interactive(), late()).await;
        assert!(!guarded.is_open());
    }
    wait(1_000).await;
    guarded.call(interactive(), late()).await;
    assert!(!guarded.is_open());
    guarded.call(interactive(), late()).await;
    assert!(guarded.is_open());
}
