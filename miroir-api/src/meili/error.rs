//! Meilisearch's error body, and which status and type belong to which code.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Meilisearch's four classes of errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorType {
    /// The request was wrong.
    InvalidRequest,
    /// The server failed.
    Internal,
    /// Who are you, and may you?
    Auth,
    /// The machine failed: disk, memory, load.
    System,
}

/// The error body of Meilisearch and of Miroir: `{message, code, type, link}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiError {
    /// What went wrong, and how to mend it.
    pub message: String,
    /// Stable code, for example `index_not_found` or `miroir_no_quorum`.
    pub code: Cow<'static, str>,
    /// Class.
    #[serde(rename = "type")]
    pub error_type: ErrorType,
    /// Where the code is explained.
    pub link: String,
}

/// Everything that is not `400 invalid_request`, after Meilisearch 1.50, and Miroir's own codes.
const SPECIAL: &[(&str, u16, ErrorType)] = &[
    ("missing_authorization_header", 401, ErrorType::Auth),
    ("missing_master_key", 401, ErrorType::Auth),
    ("invalid_api_key", 403, ErrorType::Auth),
    ("api_key_not_found", 404, ErrorType::InvalidRequest),
    ("document_not_found", 404, ErrorType::InvalidRequest),
    ("dump_not_found", 404, ErrorType::InvalidRequest),
    ("index_not_found", 404, ErrorType::InvalidRequest),
    ("task_not_found", 404, ErrorType::InvalidRequest),
    ("batch_not_found", 404, ErrorType::InvalidRequest),
    ("webhook_not_found", 404, ErrorType::InvalidRequest),
    ("api_key_already_exists", 409, ErrorType::InvalidRequest),
    ("index_already_exists", 409, ErrorType::InvalidRequest),
    ("payload_too_large", 413, ErrorType::InvalidRequest),
    ("invalid_content_type", 415, ErrorType::InvalidRequest),
    ("missing_content_type", 415, ErrorType::InvalidRequest),
    ("unsupported_media_type", 415, ErrorType::InvalidRequest),
    ("io_error", 422, ErrorType::System),
    ("no_space_left_on_device", 422, ErrorType::System),
    ("requires_enterprise_edition", 451, ErrorType::InvalidRequest),
    ("internal", 500, ErrorType::Internal),
    ("too_many_search_requests", 503, ErrorType::System),
    ("miroir_invalid_auth", 401, ErrorType::Auth),
    ("miroir_index_frozen", 409, ErrorType::InvalidRequest),
    ("miroir_not_supported", 501, ErrorType::InvalidRequest),
    ("miroir_node_failed", 502, ErrorType::System),
    ("miroir_no_quorum", 503, ErrorType::System),
    ("miroir_shard_unavailable", 503, ErrorType::System),
    ("miroir_settings_version_stale", 503, ErrorType::System),
    ("miroir_overloaded", 503, ErrorType::System),
    ("miroir_store_failed", 503, ErrorType::System),
    ("miroir_deadline_exceeded", 504, ErrorType::System),
];

impl ApiError {
    /// An error with this code. Type and link follow from the code.
    pub fn new(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        let code = code.into();
        let error_type = SPECIAL
            .iter()
            .find(|(known, ..)| *known == code)
            .map_or(ErrorType::InvalidRequest, |(_, _, class)| *class);
        let link = if code.starts_with("miroir_") {
            format!("https://github.com/OWNER/miroir/blob/main/docs/errors.md#{code}")
        } else {
            format!("https://docs.meilisearch.com/errors#{code}")
        };
        Self { message: message.into(), code, error_type, link }
    }

    /// The HTTP status that belongs to the code.
    pub fn status(&self) -> u16 {
        SPECIAL
            .iter()
            .find(|(known, ..)| *known == self.code)
            .map_or(if self.error_type == ErrorType::Internal { 500 } else { 400 }, |(_, s, _)| *s)
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ApiError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_and_type_follow_from_the_code() {
        let error = ApiError::new("index_not_found", "Index `a` not found.");
        assert_eq!((error.status(), error.error_type), (404, ErrorType::InvalidRequest));
        assert_eq!(
            serde_json::to_string(&error).unwrap(),
            "{\"message\":\"Index `a` not found.\",\"code\":\"index_not_found\",\
             \"type\":\"invalid_request\",\
             \"link\":\"https://docs.meilisearch.com/errors#index_not_found\"}"
        );
        assert_eq!(ApiError::new("miroir_no_quorum", "").status(), 503);
        assert_eq!(ApiError::new("invalid_search_q", "").status(), 400);
    }
}
