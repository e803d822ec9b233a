//! The contract of Miroir's own headers at the client API: present, absent, malformed, unknown.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use miroir_api::GroupId;
use miroir_pipeline::FilterLimits;
use miroir_pipeline::http::{Decode, DecodeOptions};
use miroir_pipeline::index::scatter::{
    MinSettingsVersion, OverFetch, SettingsInFlight, SettingsVersion, codecs,
};
use miroir_pipeline::operation;
use tower::ServiceExt;

/// Sends a search with these headers; `inner` answers it.
async fn send(
    headers: &[(&str, &str)],
    inner: impl Fn(operation::Request) -> operation::Response + Clone + Send + Sync + 'static,
) -> Response<Bytes> {
    let operations = tower::service_fn(move |request| {
        let answer = inner(request);
        async move { Ok::<_, miroir_pipeline::Error>(answer) }
    });
    let options = DecodeOptions {
        timeout: Duration::from_secs(1),
        max_body: 64,
        filters: FilterLimits::default(),
    };
    let decode = Decode::new(operation::BoxService::new(operations), options).codecs(codecs());
    let mut request = Request::post("/indexes/a/search").header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::from_static(b"{}"))).unwrap();
    let (parts, body) = decode.oneshot(request).await.unwrap().into_parts();
    Response::from_parts(parts, body.collect().await.unwrap().to_bytes())
}

/// Answers with what the context holds, as text.
fn echo(request: operation::Request) -> operation::Response {
    let cx = &request.cx;
    let (version, factor) = (cx.get::<MinSettingsVersion>(), cx.get::<OverFetch>());
    operation::Response::ok(&(version.map(|it| it.0), factor.map(|it| it.0)))
}

fn plain(_: operation::Request) -> operation::Response {
    operation::Response::ok(&"fine")
}

#[tokio::test]
async fn request_headers_are_read_or_refused_by_name() {
    for (headers, body) in [
        (&[][..], "[null,null]"),
        (&[("x-miroir-min-settings-version", "7")], "[7,null]"),
        (&[("X-Miroir-Over-Fetch", "3")], "[null,3]"),
        // Nobody knows what a later version asks for.
        (&[("x-miroir-future", "1")], "[null,null]"),
    ] {
        let answer = send(headers, echo).await;
        assert_eq!(answer.status(), StatusCode::OK, "{headers:?}");
        assert_eq!(answer.body(), body, "{headers:?}");
    }
    for (name, value) in [
        ("x-miroir-min-settings-version", "-1"),
        ("x-miroir-min-settings-version", "seven"),
        ("x-miroir-min-settings-version", ""),
        ("x-miroir-over-fetch", "0"),
        ("x-miroir-over-fetch", "1.5"),
    ] {
        let answer = send(&[(name, value)], echo).await;
        let error: serde_json::Value = serde_json::from_slice(answer.body()).unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{name}: {value}");
        assert_eq!(error["code"], "invalid_header_value", "{name}: {value}");
        assert!(error["message"].as_str().unwrap().contains(name), "{error}");
    }
}

#[tokio::test]
async fn response_headers_are_there_when_they_say_something() {
    let names =
        ["x-miroir-degraded", "x-miroir-settings-version", "x-miroir-settings-inconsistent"];
    let shown = |answer: &Response<Bytes>| {
        names.map(|name| answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned()))
    };
    assert_eq!(shown(&send(&[], plain).await), [None, None, None]);
    let said = send(&[], |_| {
        let mut answer = operation::Response::ok(&"fine");
        answer.meta.degraded_groups.push(GroupId(1));
        answer.meta.insert(SettingsVersion(4));
        answer.meta.insert(SettingsInFlight);
        answer
    })
    .await;
    let wanted = ["groups=1", "4", "true"].map(|text| Some(text.to_owned()));
    assert_eq!(shown(&said), wanted);
}

#[tokio::test]
async fn a_body_above_the_limit_is_refused_with_its_size() {
    let operations =
        tower::service_fn(|request| async { Ok::<_, miroir_pipeline::Error>(plain(request)) });
    let options = DecodeOptions {
        timeout: Duration::from_secs(1),
        max_body: 8,
        filters: FilterLimits::default(),
    };
    let decode = Decode::new(operation::BoxService::new(operations), options);
    for (path, length, message) in [
        (
            "/indexes/a/documents",
            Some("9"),
            "The provided payload reached the size limit. The maximum accepted payload size is 8 B.",
        ),
        (
            "/indexes/a/search",
            Some("9"),
            "JSON payload (9 bytes) is larger than allowed (limit: 8 bytes).",
        ),
        ("/indexes/a/search", None, "JSON payload has exceeded limit (8 bytes)."),
    ] {
        let mut request = Request::post(path).header("content-type", "application/json");
        if let Some(length) = length {
            request = request.header("content-length", length);
        }
        let request = request.body(Full::new(Bytes::from_static(b"{\"a\":123}"))).unwrap();
        let answer = decode.clone().oneshot(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let error: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            (&error["code"], &error["message"]),
            (&"payload_too_large".into(), &message.into())
        );
    }
}
