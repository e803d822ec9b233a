//! `GET /_miroir/shadow/diff?target=&limit=&since_id=&kind=`.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use miroir_api::admin::{ShadowDiffs, ShadowKind};
use miroir_api::meili::ApiError;
use miroir_layers::operation::ShadowLog;
use miroir_layers::operation::shadow::Wanted;
use serde::Deserialize;

use super::Refusal;

/// Differences in one answer, and most of them.
const LIMIT: usize = 20;
const MAX_LIMIT: usize = 1_000;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DiffQuery {
    target: Option<String>,
    limit: Option<usize>,
    since_id: Option<u64>,
    kind: Option<ShadowKind>,
}

pub(super) async fn diff(
    State(log): State<Option<Arc<ShadowLog>>>,
    query: Result<Query<DiffQuery>, QueryRejection>,
) -> Result<Json<ShadowDiffs>, Refusal> {
    let bad = |message: String| Refusal(ApiError::new("bad_request", message));
    let Query(query) = query.map_err(|error| bad(error.body_text()))?;
    let limit = query.limit.unwrap_or(LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(bad(format!("`limit` must be between 1 and {MAX_LIMIT}.")));
    }
    // Switched off: there are no targets, and so no differences.
    let Some(log) = log else { return Ok(Json(ShadowDiffs::default())) };
    let target = query.target.as_deref();
    if let Some(target) = target
        && !log.names().any(|name| name == target)
    {
        let names: Vec<&str> = log.names().collect();
        let names = names.join("`, `");
        return Err(bad(format!("There is no target `{target}`. There are: `{names}`.")));
    }
    Ok(Json(log.read(&Wanted { target, kind: query.kind, since: query.since_id, limit })))
}
