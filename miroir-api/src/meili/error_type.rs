//! The classes of errors.

use serde::{Deserialize, Serialize};

/// Meilisearch's four classes of errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorType {
    /// `invalid_request`: the request is at fault, and fails again unchanged.
    InvalidRequest,
    /// `internal`: the server is at fault.
    Internal,
    /// `auth`: the key is missing, wrong, or does not allow this.
    Auth,
    /// `system`: the machine is at fault, by its disk, memory or load.
    System,
}
