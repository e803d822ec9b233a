//! Logs: one JSON object per line on standard output.
//!
//! ```json
//! {"timestamp":"2026-05-01T12:00:00.000Z","level":"info","target":"miroir::edge",
//!  "message":"search completed","pod_id":"miroir-0","request_id":"018f3c","duration_ms":42}
//! ```
//!
//! `timestamp` (RFC 3339, milliseconds, UTC), `level` (lower case), `target` and `message` are on
//! every line, `pod_id` when `POD_NAME` is set. Fields of the event and of the spans around it
//! stand beside them; the innermost wins where names are equal. A field that carries one of the
//! fixed names is written as `field_<name>`, so that no line has a key twice.
//!
//! What is logged is chosen by `MIROIR_LOG`, else `RUST_LOG`, else `info`, in the syntax of
//! [`EnvFilter`]. Spans up to `info` are always kept: a warning carries its `request_id` under
//! `MIROIR_LOG=warn` too.

use std::error::Error;
use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::panic::PanicHookInfo;

use serde_json::{Number, Value};
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{EnvFilter, FilterExt, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

const TIMESTAMP: &[BorrowedFormatItem<'static>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

/// Keys of the line itself.
const FIXED: [&str; 5] = ["timestamp", "level", "target", "message", "pod_id"];

/// Variables that hold the filter, the first one set wins.
const FILTERS: [&str; 2] = ["MIROIR_LOG", "RUST_LOG"];

/// Installs logging to standard output and the panic hook for the process. Where the embedding
/// program has installed a subscriber already, that one stays.
pub fn init() {
    let variable = |name: &str| std::env::var(name).ok().filter(|text| !text.trim().is_empty());
    let (filter, complaint) = filter(variable);
    let layer = JsonLayer::new(std::io::stdout).with_pod_id(variable("POD_NAME"));
    let installed = tracing_subscriber::registry().with(filtered(layer, filter)).try_init();
    install_panic_hook();
    if installed.is_err() {
        tracing::debug!("another tracing subscriber is installed; it stays");
    }
    if let Some(complaint) = complaint {
        tracing::warn!("{complaint}");
    }
}

/// The filter that `variable` asks for, and a complaint where its text cannot be read (`info`
/// holds then).
pub fn filter(variable: impl Fn(&str) -> Option<String>) -> (EnvFilter, Option<String>) {
    let Some((name, text)) = FILTERS.iter().find_map(|name| Some((name, variable(name)?))) else {
        return (EnvFilter::new("info"), None);
    };
    match EnvFilter::try_new(&text) {
        Ok(filter) => (filter, None),
        Err(error) => (
            EnvFilter::new("info"),
            Some(format!("{name} is not a log filter, using info: {error}")),
        ),
    }
}

/// `layer` behind `filter`, with the spans that carry request ids kept at every filter.
pub fn filtered<S, L>(layer: L, filter: EnvFilter) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    L: Layer<S>,
{
    let spans = filter_fn(|metadata| metadata.is_span() && *metadata.level() <= Level::INFO);
    layer.with_filter(filter.or(spans))
}

/// Logs panics as events of target `panic`, in place of the text on standard error.
pub fn install_panic_hook() {
    std::panic::set_hook(Box::new(log_panic));
}

fn log_panic(info: &PanicHookInfo<'_>) {
    let payload = info.payload_as_str().unwrap_or("panic with a payload that is not text");
    let location = info.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current();
    // Empty unless RUST_BACKTRACE asks for it.
    let trace = std::backtrace::Backtrace::capture();
    let trace = (trace.status() == std::backtrace::BacktraceStatus::Captured).then_some(trace);
    tracing::error!(
        target: "panic",
        location,
        thread = thread.name().unwrap_or("unnamed"),
        backtrace = trace.map(tracing::field::display),
        "panicked: {payload}",
    );
}

/// Fields in the order they were recorded; a later one of the same name replaces the earlier.
#[derive(Debug, Default)]
struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    fn put(&mut self, name: &'static str, value: Value) {
        // Raw identifiers (`r#type`) are a need of Rust, not of the reader.
        let name = name.strip_prefix("r#").unwrap_or(name);
        match self.0.iter_mut().find(|(other, _)| *other == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name, value)),
        }
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        let position = self.0.iter().position(|(other, _)| *other == name)?;
        Some(self.0.remove(position).1)
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field.name(), Value::String(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field.name(), Value::String(value.to_owned()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field.name(), Value::Bool(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field.name(), Value::from(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field.name(), Value::from(value));
    }

    /// What JSON has no number for is written as text.
    fn record_f64(&mut self, field: &Field, value: f64) {
        let number = Number::from_f64(value).map(Value::Number);
        self.put(field.name(), number.unwrap_or_else(|| Value::String(value.to_string())));
    }

    /// The error and its sources, outermost first.
    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        let mut text = value.to_string();
        let mut source = value.source();
        while let Some(inner) = source {
            let _ = write!(text, ": {inner}");
            source = inner.source();
        }
        self.put(field.name(), Value::String(text));
    }
}

/// A tracing layer that writes every event as one line of JSON.
#[derive(Debug)]
pub struct JsonLayer<W> {
    writer: W,
    pod_id: Option<String>,
    clock: fn() -> OffsetDateTime,
}

impl<W> JsonLayer<W> {
    /// Writes to what `writer` makes; each line is one `write_all`.
    #[must_use]
    pub fn new(writer: W) -> Self {
        // Log lines carry the machine's time even where the rest runs on a simulated clock.
        Self { writer, pod_id: None, clock: OffsetDateTime::now_utc }
    }

    /// Adds `pod_id` to every line.
    #[must_use]
    pub fn with_pod_id(mut self, pod_id: Option<String>) -> Self {
        self.pod_id = pod_id;
        self
    }

    /// Takes the time from `clock`.
    #[must_use]
    pub fn with_clock(mut self, clock: fn() -> OffsetDateTime) -> Self {
        self.clock = clock;
        self
    }

    fn line(&self, level: Level, target: &str, message: &str, fields: Fields) -> Vec<u8> {
        let timestamp = (self.clock)().to_offset(time::UtcOffset::UTC).format(TIMESTAMP);
        let level = match level {
            Level::ERROR => "error",
            Level::WARN => "warn",
            Level::INFO => "info",
            Level::DEBUG => "debug",
            Level::TRACE => "trace",
        };
        let mut line = Vec::with_capacity(256);
        line.push(b'{');
        text(&mut line, "timestamp", &timestamp.unwrap_or_default());
        text(&mut line, "level", level);
        text(&mut line, "target", target);
        text(&mut line, "message", message);
        if let Some(pod_id) = &self.pod_id {
            text(&mut line, "pod_id", pod_id);
        }
        for (name, value) in fields.0 {
            if FIXED.contains(&name) {
                entry(&mut line, &format!("field_{name}"), &value);
            } else {
                entry(&mut line, name, &value);
            }
        }
        line.extend_from_slice(b"}\n");
        line
    }
}

fn text(line: &mut Vec<u8>, key: &str, value: &str) {
    key_of(line, key);
    json(line, value);
}

fn entry(line: &mut Vec<u8>, key: &str, value: &Value) {
    key_of(line, key);
    json(line, value);
}

fn key_of(line: &mut Vec<u8>, key: &str) {
    if line.len() > 1 {
        line.push(b',');
    }
    json(line, key);
    line.push(b':');
}

fn json<T: serde::Serialize + ?Sized>(line: &mut Vec<u8>, value: &T) {
    serde_json::to_writer(line, value).expect("texts and JSON values can always be written");
}

impl<S, W> Layer<S> for JsonLayer<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'w> MakeWriter<'w> + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        // Values are formatted before the span is locked: formatting may log.
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().replace(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let mut new = Fields::default();
        values.record(&mut new);
        if let Some(span) = context.span(id) {
            let mut extensions = span.extensions_mut();
            if let Some(fields) = extensions.get_mut::<Fields>() {
                for (name, value) in new.0 {
                    fields.put(name, value);
                }
            }
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut own = Fields::default();
        event.record(&mut own);
        let message = match own.take("message") {
            Some(Value::String(message)) => message,
            Some(other) => other.to_string(),
            None => String::new(),
        };
        // Records of the `log` crate arrive with one target and their own in a field.
        let mut target = None;
        if event.metadata().target() == "log" {
            target = own.take("log.target");
            own.0.retain(|(name, _)| !name.starts_with("log."));
        }
        let target = target.as_ref().and_then(Value::as_str).unwrap_or(event.metadata().target());

        let mut fields = Fields::default();
        if let Some(scope) = context.event_scope(event) {
            for span in scope.from_root() {
                if let Some(outer) = span.extensions().get::<Fields>() {
                    for (name, value) in &outer.0 {
                        fields.put(name, value.clone());
                    }
                }
            }
        }
        for (name, value) in own.0 {
            fields.put(name, value);
        }
        let line = self.line(*event.metadata().level(), target, &message, fields);
        // There is nowhere left to say that logging failed.
        let _ = self.writer.make_writer_for(event.metadata()).write_all(&line);
    }
}

#[cfg(test)]
mod tests;
