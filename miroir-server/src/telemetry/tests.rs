//! Every line is one JSON object of the documented shape.

use std::io;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use serde_json::{Map, json};
use time::macros::datetime;

use super::*;

/// Keeps what was written, one entry per write.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<Vec<u8>>>>);

impl io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().push(bytes.to_vec());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn clock() -> OffsetDateTime {
    datetime!(2026-05-01 14:00:00.0079 +02:00)
}

/// The lines that `body` logs under `directives`, parsed.
fn logged(directives: &str, pod: Option<&str>, body: impl FnOnce()) -> Vec<Map<String, Value>> {
    let sink = Sink::default();
    let writer = sink.clone();
    let layer = JsonLayer::new(move || writer.clone())
        .with_pod_id(pod.map(str::to_owned))
        .with_clock(clock);
    let subscriber =
        tracing_subscriber::registry().with(filtered(layer, EnvFilter::new(directives)));
    tracing::subscriber::with_default(subscriber, body);
    let lines = sink.0.lock().unwrap();
    lines.iter().map(|line| parse(line)).collect()
}

/// One write is one line is one object, without a key twice.
fn parse(line: &[u8]) -> Map<String, Value> {
    let text = std::str::from_utf8(line).unwrap();
    let text = text.strip_suffix('\n').expect("a line ends");
    assert!(!text.contains('\n'), "{text}");
    let object: Map<String, Value> = serde_json::from_str(text).unwrap();
    assert_eq!(serde_json::to_string(&object).unwrap(), text, "a key was written twice");
    object
}

fn one(body: impl FnOnce()) -> Value {
    let mut lines = logged("trace", None, body);
    assert_eq!(lines.len(), 1, "{lines:?}");
    Value::Object(lines.remove(0))
}

#[test]
fn a_log_line_has_the_documented_form() {
    let sink = Sink::default();
    let writer = sink.clone();
    let layer = JsonLayer::new(move || writer.clone())
        .with_pod_id(Some("miroir-0".to_owned()))
        .with_clock(clock);
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        let _span = tracing::info_span!("request", request_id = "018f3c").entered();
        tracing::info!(
            target: "miroir::edge", index = "products", duration_ms = 42, degraded = false,
            "search completed",
        );
    });
    assert_eq!(
        String::from_utf8(sink.0.lock().unwrap().concat()).unwrap(),
        concat!(
            r#"{"timestamp":"2026-05-01T12:00:00.007Z","level":"info","target":"miroir::edge","#,
            r#""message":"search completed","pod_id":"miroir-0","request_id":"018f3c","#,
            r#""index":"products","duration_ms":42,"degraded":false}"#,
            "\n",
        ),
    );
}

#[test]
fn the_clock_of_the_machine_has_the_same_form() {
    let layer = JsonLayer::new(io::sink);
    let line = parse(&layer.line(Level::INFO, "t", "m", Fields::default()));
    let stamp = line["timestamp"].as_str().unwrap();
    assert_eq!(stamp.len(), "2026-05-01T12:00:00.000Z".len(), "{stamp}");
    let parsed =
        OffsetDateTime::parse(stamp, &time::format_description::well_known::Rfc3339).unwrap();
    assert!((OffsetDateTime::now_utc() - parsed).abs() < time::Duration::minutes(1));
}

#[test]
fn levels_are_lower_case() {
    let lines = logged("trace", None, || {
        tracing::error!("a");
        tracing::warn!("a");
        tracing::info!("a");
        tracing::debug!("a");
        tracing::trace!("a");
    });
    let levels: Vec<_> = lines.iter().map(|line| line["level"].as_str().unwrap()).collect();
    assert_eq!(levels, ["error", "warn", "info", "debug", "trace"]);
    assert!(lines.iter().all(|line| !line.contains_key("pod_id")));
}

#[test]
fn values_keep_their_kind() {
    let line = one(|| {
        tracing::info!(
            text = "a\"b\n\u{1F50E}",
            yes = true,
            less = -3,
            most = u64::MAX,
            wide = u128::MAX,
            half = 0.5,
            nan = f64::NAN,
            debug = ?Some(1),
            display = %"shown",
            absent = None::<&str>,
            r#type = "raw",
            dotted.name = 1,
        );
    });
    for (key, value) in [
        ("text", json!("a\"b\n\u{1F50E}")),
        ("yes", json!(true)),
        ("less", json!(-3)),
        ("most", json!(u64::MAX)),
        ("wide", json!(u128::MAX.to_string())),
        ("half", json!(0.5)),
        ("nan", json!("NaN")),
        ("debug", json!("Some(1)")),
        ("display", json!("shown")),
        ("type", json!("raw")),
        ("dotted.name", json!(1)),
        ("message", json!("")),
    ] {
        assert_eq!(line[key], value, "{key}");
    }
    assert!(line.get("absent").is_none());
}

#[test]
fn errors_show_their_sources() {
    #[derive(Debug, thiserror::Error)]
    #[error("the node did not answer")]
    struct Outer(#[source] io::Error);

    let error = Outer(io::Error::other("connection refused"));
    let line = one(|| tracing::error!(error = &error as &(dyn Error + 'static), "failed"));
    assert_eq!(line["error"], "the node did not answer: connection refused");
}

#[test]
fn spans_are_flattened_and_the_innermost_wins() {
    let line = one(|| {
        let outer = tracing::info_span!(
            "outer",
            request_id = "r1",
            index = "a",
            late = tracing::field::Empty
        );
        let _outer = outer.enter();
        let _inner = tracing::info_span!("inner", index = "b", node = "n").entered();
        outer.record("late", 7);
        outer.record("request_id", "r2");
        tracing::warn!(node = "m", "hello {}", "world");
    });
    assert_eq!(line["request_id"], "r2");
    assert_eq!(line["index"], "b");
    assert_eq!(line["node"], "m");
    assert_eq!(line["late"], 7);
    assert_eq!(line["message"], "hello world");
}

#[test]
fn an_explicit_parent_counts_not_the_current_span() {
    let line = one(|| {
        let parent = tracing::info_span!("p", request_id = "right");
        let _other = tracing::info_span!("o", request_id = "wrong", extra = 1).entered();
        tracing::info!(parent: &parent, "x");
    });
    assert_eq!(line["request_id"], "right");
    assert!(line.get("extra").is_none());
}

#[test]
fn fixed_names_cannot_be_overwritten() {
    let line = one(|| {
        let _span = tracing::info_span!("s", message = "of the span", pod_id = 3).entered();
        tracing::info!(level = 9, timestamp = "never", target = "t", "the message");
    });
    assert_eq!(line["message"], "the message");
    assert_eq!(line["level"], "info");
    assert_eq!(line["timestamp"], "2026-05-01T12:00:00.007Z");
    assert_eq!(line["field_level"], 9);
    assert_eq!(line["field_timestamp"], "never");
    assert_eq!(line["field_target"], "t");
    assert_eq!(line["field_message"], "of the span");
    assert_eq!(line["field_pod_id"], 3);
}

#[test]
fn a_stricter_filter_keeps_the_request_id() {
    let lines = logged("warn", None, || {
        let _request = tracing::info_span!("request", request_id = "r").entered();
        let _detail = tracing::debug_span!("detail", hidden = true).entered();
        tracing::info!("too quiet");
        tracing::warn!("loud");
    });
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["message"], "loud");
    assert_eq!(lines[0]["request_id"], "r");
    assert!(!lines[0].contains_key("hidden"));
}

#[test]
fn targets_are_filtered() {
    let lines = logged("off,miroir::edge=debug", None, || {
        tracing::debug!(target: "miroir::edge", "kept");
        tracing::error!(target: "hyper", "dropped");
    });
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["target"], "miroir::edge");
}

#[test]
fn records_of_the_log_crate_keep_their_target() {
    let line = one(|| {
        tracing::info!(target: "log", { "log.target" = "hyper::client", "log.line" = 3, kept = 1 }, "x");
    });
    assert_eq!(line["target"], "hyper::client");
    assert_eq!(line["kept"], 1);
    assert!(line.get("log.target").is_none() && line.get("log.line").is_none());
}

#[test]
fn the_filter_comes_from_the_first_variable_set() {
    let chosen = |set: &[(&str, &str)]| {
        let (filter, complaint) = filter(|name| {
            set.iter().find(|(other, _)| *other == name).map(|(_, text)| (*text).to_owned())
        });
        (filter.to_string(), complaint)
    };
    assert_eq!(chosen(&[]), ("info".to_owned(), None));
    assert_eq!(chosen(&[("RUST_LOG", "debug")]), ("debug".to_owned(), None));
    let both = [("RUST_LOG", "debug"), ("MIROIR_LOG", "warn")];
    assert_eq!(chosen(&both), ("warn".to_owned(), None));
    let (fallback, complaint) = chosen(&[("MIROIR_LOG", "a=b=c")]);
    assert_eq!(fallback, "info");
    assert!(complaint.unwrap().contains("MIROIR_LOG"));
}

#[test]
fn panics_are_logged() {
    // The hook is the process's: other tests may panic meanwhile only in order to fail.
    let previous = std::panic::take_hook();
    install_panic_hook();
    let lines = logged("info", Some("p"), || {
        let _span = tracing::info_span!("request", request_id = "r").entered();
        let result = std::panic::catch_unwind(|| panic!("broken {}", "invariant"));
        assert!(result.is_err());
        let odd = std::panic::catch_unwind(|| std::panic::panic_any(7));
        assert!(odd.is_err());
    });
    std::panic::set_hook(previous);
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["message"], "panicked: broken invariant");
    assert_eq!(lines[0]["level"], "error");
    assert_eq!(lines[0]["target"], "panic");
    assert_eq!(lines[0]["request_id"], "r");
    assert!(lines[0]["location"].as_str().unwrap().contains("telemetry/tests.rs:"));
    assert!(lines[1]["message"].as_str().unwrap().contains("not text"));
}

#[test]
fn a_value_that_logs_while_it_is_formatted_does_not_block() {
    struct Chatty;

    impl fmt::Debug for Chatty {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            tracing::info!("inside");
            f.write_str("chatty")
        }
    }

    let lines = logged("info", None, || {
        let span = tracing::info_span!("s", a = ?Chatty, b = tracing::field::Empty);
        let _entered = span.enter();
        span.record("b", tracing::field::debug(Chatty));
        tracing::info!(c = ?Chatty, "outside");
    });
    assert_eq!(lines.last().unwrap()["message"], "outside");
    assert_eq!(lines.last().unwrap()["b"], "chatty");
}

proptest! {
    #[test]
    fn any_text_gives_a_line(message in "\\PC*|[\\x00-\\x1f\"\\\\]{0,20}", field in any::<String>(), pod in any::<String>()) {
        let lines = logged("info", Some(&pod), || tracing::info!(field, "{message}"));
        prop_assert_eq!(lines.len(), 1);
        prop_assert_eq!(&lines[0]["message"], &json!(message));
        prop_assert_eq!(&lines[0]["field"], &json!(field));
        prop_assert_eq!(&lines[0]["pod_id"], &json!(pod));
    }
}
