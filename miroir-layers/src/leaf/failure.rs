//! A leaf that failed as a whole, as a leaf whose parts failed.

use miroir_core::routing::ShardSet;
use miroir_pipeline::error::ErrorKind;
use miroir_pipeline::leaf::{Failed, Response};
use miroir_pipeline::{Error, Fault, Retry};

/// Whether an error is the answer, whoever is asked: the client's fault, or a refusal of Miroir's own.
pub(super) fn is_final(error: &Error) -> bool {
    *error.fault() == Fault::Client || matches!(error.kind(), ErrorKind::Api(_))
}

/// A whole leaf that failed, as a part that failed. `None`: asking elsewhere does not help.
pub(super) fn as_failure(error: &Error, shards: &ShardSet) -> Option<Failed> {
    match (error.retry(), error.fault()) {
        (Retry::OtherReplica, Fault::Node(node)) => {
            Some(Failed { node: node.clone(), shards: shards.clone(), error: error.clone() })
        }
        _ => None,
    }
}

/// The answer, or for an error that others may make good an answer in which all shards failed.
///
/// # Errors
/// Where asking elsewhere does not help.
pub(super) fn or_failed(
    answer: Result<Response, Error>,
    shards: &ShardSet,
) -> Result<Response, Error> {
    answer.or_else(|error| match as_failure(&error, shards) {
        Some(failed) => Ok(Response {
            pages: Vec::new(),
            failed: vec![failed],
            missing: ShardSet::empty(shards.universe()),
        }),
        None => Err(error),
    })
}
