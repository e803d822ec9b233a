//! Whom to tell of finished tasks.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Where to tell of finished tasks. Values of headers show in no debug output.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Webhook {
    /// Id that clients name it by.
    pub uuid: Uuid,
    /// URL that finished tasks are posted to.
    pub url: String,
    /// Headers of the request, by name as the client wrote it.
    pub headers: BTreeMap<String, String>,
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<&String> = self.headers.keys().collect();
        f.debug_struct("Webhook")
            .field("uuid", &self.uuid)
            .field("headers", &headers)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_show_in_no_debug_output() {
        let headers = [("Authorization".to_owned(), "Bearer hidden".to_owned())].into();
        let url = "https://user:hidden@example.org/hook?token=hidden".to_owned();
        let text = format!("{:?}", Webhook { uuid: Uuid::nil(), url, headers });
        assert!(text.contains("Authorization") && !text.contains("hidden"), "{text}");
    }
}
