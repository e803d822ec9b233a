//! `/_miroir/aliases`: names that stand for indexes.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use http::StatusCode;
use miroir::clock;
use miroir::cluster::ClusterState;
use miroir::cluster::aliases::{AliasChange, AliasRule};
use miroir::store::records::{Alias, AliasTarget};
use miroir_api::IndexUid;
use miroir_api::admin::{AliasFlip, AliasKind, AliasList, AliasRequest, AliasView};
use miroir_api::meili::ApiError;
use miroir_layers::operation::AliasOptions;

use super::Refusal;

fn split(target: &AliasTarget) -> (Option<IndexUid>, Option<Vec<IndexUid>>) {
    match target {
        AliasTarget::One(index) => (Some(index.clone()), None),
        AliasTarget::Many(indexes) => (None, Some(indexes.clone())),
    }
}

fn view(alias: &Alias) -> AliasView {
    let (current_uid, target_uids) = split(&alias.target);
    let history = alias.history.iter().map(|flip| {
        let (current_uid, target_uids) = split(&flip.target);
        let flipped_at = clock::rfc3339(flip.until);
        AliasFlip { current_uid, target_uids, version: flip.version, flipped_at }
    });
    AliasView {
        name: alias.name.clone(),
        kind: if current_uid.is_some() { AliasKind::Single } else { AliasKind::Multi },
        current_uid,
        target_uids,
        version: alias.version,
        managed_by: alias.owner.clone(),
        created_at: clock::rfc3339(alias.created_at),
        history: history.collect(),
    }
}

fn bad(message: impl Into<String>) -> Refusal {
    Refusal(ApiError::new("bad_request", message))
}

fn named(name: &str) -> Result<IndexUid, Refusal> {
    IndexUid::new(name).map_err(|error| bad(format!("The alias' name: {error}")))
}

fn change(
    name: Option<IndexUid>,
    body: Result<Json<AliasRequest>, JsonRejection>,
    config: &AliasOptions,
) -> Result<AliasChange, Refusal> {
    let Json(body) = body.map_err(|error| bad(error.body_text()))?;
    let name = match (name, body.name) {
        (Some(path), Some(body)) if path != body => {
            return Err(bad("`name` is not the one in the path. Leave it out."));
        }
        (Some(name), _) | (None, Some(name)) => name,
        (None, None) => return Err(bad("`name` is missing: what the alias is called.")),
    };
    let target = match (body.target, body.targets) {
        (Some(index), None) => AliasTarget::One(index),
        (None, Some(indexes)) => AliasTarget::Many(indexes),
        _ => {
            return Err(bad(
                "Give either `target`, the index it stands for, or `targets`, several for reading.",
            ));
        }
    };
    Ok(AliasChange {
        name,
        target,
        owner: None,
        version: body.version,
        keep: config.history_retention,
        targets_exist: config.require_target_exists,
    })
}

fn refused(error: &miroir::Error) -> Refusal {
    let (_, body) = error.render();
    let said = body.and_then(|body| serde_json::from_slice(&body).ok());
    Refusal(said.unwrap_or_else(|| ApiError::new("internal", "Something went wrong.")))
}

pub(super) async fn list(State(state): State<Arc<ClusterState>>) -> Json<AliasList> {
    let aliases = state.aliases.table().snapshot();
    Json(AliasList { aliases: aliases.values().map(|alias| view(alias)).collect() })
}

pub(super) async fn show(
    State(state): State<Arc<ClusterState>>,
    Path(name): Path<String>,
) -> Result<Json<AliasView>, Refusal> {
    let missing = || ApiError::new("miroir_alias_not_found", format!("Alias `{name}` not found."));
    state
        .aliases
        .table()
        .get(&name)
        .map(|alias| Json(view(&alias)))
        .ok_or_else(|| Refusal(missing()))
}

pub(super) async fn create(
    State(state): State<Arc<ClusterState>>,
    State(config): State<AliasOptions>,
    body: Result<Json<AliasRequest>, JsonRejection>,
) -> Result<(StatusCode, Json<AliasView>), Refusal> {
    let change = change(None, body, &config)?;
    let made = state.aliases.set(change, AliasRule::Create).await.map_err(|e| refused(&e))?;
    Ok((StatusCode::CREATED, Json(view(&made))))
}

pub(super) async fn flip(
    State(state): State<Arc<ClusterState>>,
    State(config): State<AliasOptions>,
    Path(name): Path<String>,
    body: Result<Json<AliasRequest>, JsonRejection>,
) -> Result<Json<AliasView>, Refusal> {
    let change = change(Some(named(&name)?), body, &config)?;
    let flipped = state.aliases.set(change, AliasRule::Flip).await.map_err(|e| refused(&e))?;
    Ok(Json(view(&flipped)))
}

pub(super) async fn delete(
    State(state): State<Arc<ClusterState>>,
    Path(name): Path<String>,
) -> Result<StatusCode, Refusal> {
    state.aliases.delete(&named(&name)?, None).await.map_err(|e| refused(&e))?;
    Ok(StatusCode::NO_CONTENT)
}
