//! API keys of a fake node.

use http::{Method, StatusCode};
use miroir_store::clock;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::disk::Disk;
use super::errors::error;

/// The answer about a key that is not there.
fn unknown(key: &str) -> (StatusCode, Value) {
    let text = format!("API key `{key}` not found.");
    (StatusCode::NOT_FOUND, error("api_key_not_found", &text))
}

/// The uid of the key that is meant: by its uid, or by the key itself.
fn find(disk: &Disk, key: &str) -> Option<String> {
    let meant = |(uid, known): &(&String, &Value)| *uid == key || known["key"] == *key;
    disk.keys.iter().find(meant).map(|(uid, _)| uid.clone())
}

/// Makes a key, with the uid that its caller wants.
pub(super) fn create(
    disk: &mut Disk,
    body: &Map<String, Value>,
) -> Result<(StatusCode, Value), (StatusCode, Value)> {
    let bad = |code, text: &str| (StatusCode::BAD_REQUEST, error(code, text));
    let uid = match body.get("uid").and_then(Value::as_str) {
        Some(text) => Uuid::parse_str(text)
            .map_err(|_| bad("invalid_api_key_uid", "Invalid value at `.uid`"))?
            .to_string(),
        None => Uuid::from_u64_pair(0, disk.keys.len() as u64 + 1).to_string(),
    };
    for (field, code) in [
        ("actions", "missing_api_key_actions"),
        ("indexes", "missing_api_key_indexes"),
        ("expiresAt", "missing_api_key_expires_at"),
    ] {
        if !body.contains_key(field) {
            return Err(bad(code, &format!("Missing field `{field}`")));
        }
    }
    if disk.keys.contains_key(&uid) {
        let text = format!("`uid` field value `{uid}` is already an existing API key.");
        return Err((StatusCode::CONFLICT, error("api_key_already_exists", &text)));
    }
    let field = |name: &str| body.get(name).cloned().unwrap_or_default();
    let now = clock::rfc3339(clock::now());
    let key = json!({
        "name": field("name"), "description": field("description"),
        "key": uid.replace('-', "").repeat(2), "uid": uid, "actions": field("actions"),
        "indexes": field("indexes"), "expiresAt": field("expiresAt"),
        "createdAt": now, "updatedAt": now,
    });
    disk.keys.insert(uid, key.clone());
    Ok((StatusCode::CREATED, key))
}

/// All keys.
pub(super) fn list(disk: &Disk, offset: usize, limit: usize) -> Value {
    let results: Vec<_> = disk.keys.values().skip(offset).take(limit).collect();
    json!({"results": results, "offset": offset, "limit": limit, "total": disk.keys.len()})
}

/// Shows, changes or deletes one key.
pub(super) fn one(
    disk: &mut Disk,
    method: &Method,
    key: &str,
    change: &Map<String, Value>,
) -> Result<(StatusCode, Value), (StatusCode, Value)> {
    let uid = find(disk, key).ok_or_else(|| unknown(key))?;
    if *method == Method::DELETE {
        disk.keys.remove(&uid);
        return Ok((StatusCode::NO_CONTENT, Value::Null));
    }
    let known = disk.keys.get_mut(&uid).ok_or_else(|| unknown(key))?;
    if *method == Method::PATCH {
        if let Some(name) =
            change.keys().find(|name| !["name", "description"].contains(&name.as_str()))
        {
            let text = format!("Immutable field `{name}`: expected one of `description`, `name`");
            return Err((StatusCode::BAD_REQUEST, error("immutable_api_key_uid", &text)));
        }
        for (name, value) in change {
            known[name] = value.clone();
        }
        known["updatedAt"] = clock::rfc3339(clock::now()).into();
    }
    Ok((StatusCode::OK, known.clone()))
}
