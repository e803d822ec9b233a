//! Errors as answers over HTTP.

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use http_body_util::Full;
use miroir::refused::Refused;
use miroir_api::meili::ApiError;

/// An error in Meilisearch's shape.
pub(crate) fn refuse(error: &ApiError) -> http::Response<Full<Bytes>> {
    let body = serde_json::to_vec(error).unwrap_or_default();
    let mut response = http::Response::new(Full::from(body));
    *response.status_mut() =
        StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    if let Some(reason) = Refused::of_code(&error.code) {
        response.extensions_mut().insert(reason);
    }
    response
}
