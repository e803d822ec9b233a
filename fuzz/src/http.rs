//! A request through the whole decoding, up to the operation it turns out to be.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use http_body_util::Full;
use miroir_pipeline::Error;
use miroir_pipeline::FilterLimits;
use miroir_pipeline::http::{Decode, DecodeOptions};
use miroir_pipeline::operation;
use tower::ServiceExt;

thread_local! {
    static RUNTIME: tokio::runtime::Runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    static DECODE: (Decode, Arc<Mutex<Option<operation::Request>>>) = service();
}

fn service() -> (Decode, Arc<Mutex<Option<operation::Request>>>) {
    let seen = Arc::new(Mutex::new(None));
    let keep = Arc::clone(&seen);
    let operations = tower::service_fn(move |request: operation::Request| {
        *keep.lock().expect("no panic was caught") = Some(request);
        async { Ok::<_, Error>(operation::Response::json(StatusCode::OK, &())) }
    });
    let options = DecodeOptions { timeout: Duration::from_secs(60), max_body: 1 << 20, filters: FilterLimits::default() };
    (Decode::new(operation::BoxService::new(operations), options), seen)
}

/// What a request turned out to be, and the answer. `None` if it is no HTTP request at all.
pub fn decode(
    method: Method,
    target: &str,
    body: &[u8],
) -> Option<(Option<operation::Request>, Response<Full<Bytes>>)> {
    let request = http::Request::builder()
        .method(method)
        .uri(target)
        .header("content-type", "application/json")
        .body(Full::new(Bytes::copy_from_slice(body)))
        .ok()?;
    DECODE.with(|(decode, seen)| {
        let answer = RUNTIME.with(|runtime| runtime.block_on(decode.clone().oneshot(request)));
        let seen = seen.lock().expect("no panic was caught").take();
        answer.ok().map(|answer| (seen, answer))
    })
}
