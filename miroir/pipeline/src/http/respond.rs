//! From answers and errors to responses.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use miroir_api::header as names;

use crate::error::{Error, ErrorKind};
use crate::operation;
use crate::refused::Refused;

fn json(status: StatusCode, body: Bytes) -> Response<Full<Bytes>> {
    let empty = body.is_empty();
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    if !empty {
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
    }
    response
}

/// The response of an answer, without the headers of capabilities.
pub(super) fn render(answer: &operation::Response) -> Response<Full<Bytes>> {
    let mut response = json(answer.status, answer.body.clone());
    let headers = response.headers_mut();
    if let Some(kind) = answer.meta.content_type {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    if let Some(value) = answer.meta.degraded().and_then(|text| HeaderValue::from_str(&text).ok()) {
        headers.insert(names::DEGRADED, value);
    }
    response
}

/// The response of an error, without the headers of capabilities. A [`Refused`] is in its extensions,
/// where the error is a refusal.
pub fn refuse(error: &Error) -> Response<Full<Bytes>> {
    let (status, body) = error.render();
    let mut response = json(status, body.unwrap_or_default());
    if let ErrorKind::MethodNotAllowed(allow) = error.kind()
        && let Ok(allow) = HeaderValue::from_str(allow)
    {
        response.headers_mut().insert(header::ALLOW, allow);
    }
    if let Some(reason) = Refused::of(error) {
        response.extensions_mut().insert(reason);
    }
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("10"));
    }
    response
}
