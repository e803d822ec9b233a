//! Meilisearch's error body, and which status and type belong to which code.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::error_type::ErrorType;
use super::{codes, docs};

/// The error body of Meilisearch and of Miroir: `{message, code, type, link}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiError {
    /// What went wrong, and how to mend it.
    pub message: String,
    /// Stable code, for example `index_not_found` or `miroir_no_quorum`.
    pub code: Cow<'static, str>,
    /// Class of the error, which follows from the code.
    #[serde(rename = "type")]
    pub error_type: ErrorType,
    /// Where the code is explained, as an address or as a path of the server that answered; empty for
    /// nowhere.
    pub link: String,
}

impl ApiError {
    /// An error with this code. Type and link follow from the code.
    pub fn new(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        let code = code.into();
        let error_type = codes::find(&code).map_or(ErrorType::InvalidRequest, |(_, class)| class);
        let link = docs::link(&code);
        Self { message: message.into(), code, error_type, link }
    }

    /// The HTTP status that belongs to the code.
    pub fn status(&self) -> u16 {
        codes::find(&self.code)
            .map_or(if self.error_type == ErrorType::Internal { 500 } else { 400 }, |(s, _)| s)
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
