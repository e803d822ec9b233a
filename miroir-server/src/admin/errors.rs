//! `GET /_miroir/errors`: what Miroir's error codes mean. Errors link here unless
//! `server.docs_base_url` says otherwise, so that it needs no key and is there without the admin API.

use axum::response::{Html, IntoResponse, Response};
use miroir_api::meili::errors_page;

pub(super) async fn page() -> Response {
    Html(errors_page()).into_response()
}
