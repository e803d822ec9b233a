//! What routes answer with.

use serde_json::{Map, Value};

use super::State;
use super::errors::ApiError;
use super::tasks::Work;
use super::tasks::queue::NewTask;

/// Status and JSON body; no body for unknown paths and methods.
pub(crate) type Answer = (u16, Option<Value>);

/// A successful answer.
pub(crate) fn done(value: impl Into<Value>) -> Answer {
    (200, Some(value.into()))
}

/// Registers a task about an index and answers its summary.
pub(crate) fn enqueue(
    state: &State,
    uid: &str,
    work: Work,
    shown: Map<String, Value>,
    custom_metadata: Option<String>,
    payload: Option<Vec<u8>>,
) -> Result<Answer, ApiError> {
    let new =
        NewTask { index_uid: Some(uid.to_owned()), work, details: shown, custom_metadata, payload };
    Ok((202, Some(state.queue.register(new)?.summary())))
}

/// Refuses names that no index can have.
pub(crate) fn check_index_uid(uid: &str) -> Result<(), ApiError> {
    let valid = !uid.is_empty()
        && uid.len() <= 400
        && uid.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    if valid {
        return Ok(());
    }
    Err(ApiError::new(
        "invalid_index_uid",
        format!(
            "`{uid}` is not a valid index uid. Index uid can be an integer or a string containing only alphanumeric characters, hyphens (-) and underscores (_), and can not be more than 512 bytes."
        ),
    ))
}
