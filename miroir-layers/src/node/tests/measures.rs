//! What the layers count and time.

use super::*;

/// Runs a test with metrics and returns what was measured.
fn measured<F: Future<Output = ()>>(test: impl FnOnce() -> F) -> String {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    ::metrics::with_local_recorder(&recorder, || runtime.block_on(test()));
    handle.render()
}

fn assert_metric(text: &str, line: &str) {
    assert!(text.lines().any(|l| l == line), "{line}\nis not in\n{text}");
}

#[test]
fn calls_are_counted_and_timed() {
    let text = measured(|| async {
        let id = node();
        let (mut service, mut inner) = layered(MetricsLayer::new(&id));
        let (reset, refused) = (NodeFailure::Reset, NodeFailure::BreakerOpen);
        for reply in [Ok(200), Ok(404), Ok(500), Ok(503), Ok(401), Err(reset), Err(refused)] {
            let call = service.spawn_call(interactive());
            let exchange = inner.next_request().await;
            wait(250).await;
            match reply {
                Ok(status) => exchange.respond(answer(status)),
                Err(failure) => exchange.fail(Error::node(&id, failure)),
            }
            let _ = call.await;
        }
        let call = service.spawn_call(bare());
        let mut exchange = inner.next_request().await;
        drop(call);
        exchange.cancelled().await;
    });
    for error in ["server_error", "overloaded", "refused_key", "reset", "breaker_open"] {
        let line = format!("miroir_node_errors_total{{node_id=\"a\",error_type=\"{error}\"}} 1");
        assert_metric(&text, &line);
    }
    let name = "miroir_node_request_duration_seconds";
    let labels = "{node_id=\"a\",operation=\"search\"}";
    // The refusal took no time of the node's.
    assert_metric(&text, &format!("{name}_count{labels} 6"));
    assert_metric(&text, &format!("{name}_sum{labels} 1.5"));
    assert_metric(&text, "miroir_node_cancelled_total{node_id=\"a\",operation=\"other\"} 1");
}

#[test]
fn who_waits_for_a_place_is_counted_until_it_goes() {
    let depth = std::cell::RefCell::new(Vec::new());
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let waiting = || {
        let text = handle.render();
        let line = text.lines().find_map(|line| line.strip_prefix("miroir_request_queue_depth "));
        depth.borrow_mut().push(line.unwrap_or("none").to_owned());
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    ::metrics::with_local_recorder(&recorder, || {
        runtime.block_on(async {
            let options = LimitOptions { interactive: 1, background: 1, ..LimitOptions::default() };
            let (mut service, mut inner) = layered(LimitLayer::new(&node(), options));
            let first = service.spawn_call(interactive());
            let exchange = inner.next_request().await;
            let gone = service.spawn_call(interactive());
            let next = service.spawn_call(interactive());
            wait(1).await;
            waiting();
            drop(gone);
            wait(1).await;
            waiting();
            exchange.respond(answer(200));
            assert!(first.await.is_ok());
            inner.next_request().await.respond(answer(200));
            assert!(next.await.is_ok());
            waiting();
        });
    });
    assert_eq!(depth.into_inner(), ["2", "1", "0"]);
}

#[test]
fn the_breakers_state_is_a_gauge() {
    for (trip, state) in [(false, 0), (true, 2)] {
        let text = measured(|| async move {
            let mut guarded = Guarded::new();
            if trip {
                guarded.trip().await;
            }
        });
        assert_metric(&text, &format!("miroir_breaker_state{{node_id=\"a\"}} {state}"));
    }
}

#[test]
fn statuses_are_judged_like_the_calls_that_carry_them() {
    for status in 200..600 {
        let status = StatusCode::from_u16(status).unwrap();
        let response = || HttpResponse::builder().status(status).body(Bytes::new()).unwrap();
        let accepted = Call::accept(&node(), response());
        let expected = accepted.err().and_then(|error| error.node_failure());
        // A node never answers 1xx or 3xx; `accept` takes them for failures.
        if !status.is_redirection() {
            let expected = expected.map(NodeFailure::label);
            assert_eq!(failure(&Ok(response())), expected, "{status}");
        }
    }
}
