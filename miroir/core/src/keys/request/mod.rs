//! The bodies of `POST /keys` and `PATCH /keys/{key}`, with what a node says about wrong ones.
//!
//! A node would make the key, so a body cannot be sent to one to be judged: these are its words,
//! written down. As on a node the first fault in the body's own order is reported, and missing
//! fields last.

use miroir_api::meili::{ApiError, IndexPattern, KeyAction, KeyScope};
use serde_json::{Map, Value};
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{Date, OffsetDateTime, PrimitiveDateTime, Time};
use uuid::Uuid;

use super::ApiKey;

const CREATE: &[&str] = &["description", "name", "uid", "actions", "indexes", "expiresAt"];
const CHANGE: &[&str] = &["description", "name"];

/// The body of `POST /keys`, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewKey {
    /// Uid the client chose; `None` leaves it to the server.
    pub uid: Option<Uuid>,
    /// Name for people; `None` without one.
    pub name: Option<String>,
    /// Description for people; `None` without one.
    pub description: Option<String>,
    /// The actions it allows, wildcards included; may be empty.
    pub actions: Vec<KeyAction>,
    /// The indexes it is limited to; `*` for all.
    pub indexes: Vec<IndexPattern>,
    /// Instant from which it is refused, in the future; `None` for never.
    pub expires_at: Option<OffsetDateTime>,
}

/// The body of `PATCH /keys/{key}`, checked. `None` leaves a field as it is, `Some(None)` takes it
/// away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// `name`: `Some(None)` removes it, `None` leaves it.
    pub name: Option<Option<String>>,
    /// `description`: `Some(None)` removes it, `None` leaves it.
    pub description: Option<Option<String>>,
}

impl Change {
    /// Changes `key`, whose `updated_at` becomes `now` even if nothing differs.
    pub fn apply(self, key: &mut ApiKey, now: OffsetDateTime) {
        if let Some(name) = self.name {
            key.name = name;
        }
        if let Some(description) = self.description {
            key.description = description;
        }
        key.updated_at = now;
    }
}

type Checked<T> = Result<T, ApiError>;

/// A value with what there is to say about it.
fn described(value: &Value) -> String {
    let kind = match value {
        Value::Null => return "null".to_owned(),
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_u64() => "a positive integer",
        Value::Number(number) if number.is_i64() => "a negative integer",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    };
    format!("{kind}: `{value}`")
}

fn wrong_type(code: &'static str, at: &str, expected: &str, value: &Value) -> ApiError {
    let place = if at.is_empty() { String::new() } else { format!(" at `{at}`") };
    let found = described(value);
    ApiError::new(
        code,
        format!("Invalid value type{place}: expected {expected}, but found {found}"),
    )
}

fn invalid(code: &'static str, at: &str, reason: impl std::fmt::Display) -> ApiError {
    ApiError::new(code, format!("Invalid value at `{at}`: {reason}"))
}

fn choices(accepted: &[&str]) -> String {
    accepted.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// A close name, as a hint.
fn did_you_mean(received: &str, accepted: &[&str]) -> String {
    let allowed = match received.len() {
        0..=3 => return String::new(),
        4..=7 => 1,
        8..=12 => 2,
        13..=17 => 3,
        18..=24 => 4,
        _ => 5,
    };
    accepted
        .iter()
        .map(|name| (strsim::damerau_levenshtein(received, name), name))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| format!("did you mean `{name}`? "))
        .unwrap_or_default()
}

fn unknown_field(field: &str, accepted: &[&str]) -> ApiError {
    let (hint, list) = (did_you_mean(field, accepted), choices(accepted));
    ApiError::new("bad_request", format!("Unknown field `{field}`: {hint}expected one of {list}"))
}

fn object(body: &Value) -> Checked<&Map<String, Value>> {
    body.as_object().ok_or_else(|| wrong_type("bad_request", "", "an object", body))
}

fn text<'a>(code: &'static str, at: &str, value: &'a Value) -> Checked<&'a str> {
    value.as_str().ok_or_else(|| wrong_type(code, at, "a string", value))
}

fn label(code: &'static str, at: &str, value: &Value) -> Checked<Option<String>> {
    if value.is_null() {
        return Ok(None);
    }
    Ok(Some(text(code, at, value)?.to_owned()))
}

fn list<T>(
    code: &'static str,
    at: &str,
    value: &Value,
    read: impl Fn(&str, &Value) -> Checked<T>,
) -> Checked<Vec<T>> {
    let items = value.as_array().ok_or_else(|| wrong_type(code, at, "an array", value))?;
    items.iter().enumerate().map(|(i, item)| read(&format!("{at}[{i}]"), item)).collect()
}

fn action(at: &str, value: &Value) -> Checked<KeyAction> {
    const CODE: &str = "invalid_api_key_actions";
    let name = text(CODE, at, value)?;
    KeyAction::parse(name).ok_or_else(|| {
        let hint = did_you_mean(name, KeyAction::NAMES);
        let list = choices(KeyAction::NAMES);
        ApiError::new(
            CODE,
            format!("Unknown value `{name}` at `{at}`: {hint}expected one of {list}"),
        )
    })
}

fn pattern(at: &str, value: &Value) -> Checked<IndexPattern> {
    const CODE: &str = "invalid_api_key_indexes";
    IndexPattern::new(text(CODE, at, value)?).map_err(|error| invalid(CODE, at, error))
}

/// An instant in any of the forms a node takes.
fn instant(text: &str) -> Option<OffsetDateTime> {
    let t = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]");
    let space = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
    let day = format_description!("[year]-[month]-[day]");
    if let Ok(at) = OffsetDateTime::parse(text, &Rfc3339) {
        return Some(at);
    }
    let local = PrimitiveDateTime::parse(text, &t)
        .or_else(|_| PrimitiveDateTime::parse(text, &space))
        .or_else(|_| Date::parse(text, &day).map(|day| day.with_time(Time::MIDNIGHT)));
    Some(local.ok()?.assume_utc())
}

fn expiry(at: &str, value: &Value, now: OffsetDateTime) -> Checked<Option<OffsetDateTime>> {
    const CODE: &str = "invalid_api_key_expires_at";
    let Some(text) = label(CODE, at, value)? else { return Ok(None) };
    match instant(&text).filter(|instant| *instant > now) {
        Some(instant) => Ok(Some(instant)),
        // The line break is a node's.
        None => Err(invalid(
            CODE,
            at,
            format_args!(
                "`{text}` is not a valid date. It should follow the RFC 3339 format to represents \
                 a date or datetime in the future or specified as a null value. e.g. 'YYYY-MM-DD' \
                 or 'YYYY-MM-DD HH:MM:SS'.\n"
            ),
        )),
    }
}

/// Reads the body of `POST /keys`.
///
/// # Errors
/// What a node says about it.
pub fn create(body: &Value, now: OffsetDateTime) -> Checked<NewKey> {
    let (mut uid, mut name, mut description) = (None, None, None);
    let (mut actions, mut indexes, mut expires_at) = (None, None, None);
    for (field, value) in object(body)? {
        match field.as_str() {
            "description" => {
                description = label("invalid_api_key_description", ".description", value)?;
            }
            "name" => name = label("invalid_api_key_name", ".name", value)?,
            "uid" => {
                const CODE: &str = "invalid_api_key_uid";
                let text = text(CODE, ".uid", value)?;
                let parsed = text.parse::<Uuid>().map_err(|error| invalid(CODE, ".uid", error))?;
                uid = Some(parsed);
            }
            "actions" => {
                actions = Some(list("invalid_api_key_actions", ".actions", value, action)?);
            }
            "indexes" => {
                indexes = Some(list("invalid_api_key_indexes", ".indexes", value, pattern)?);
            }
            "expiresAt" => expires_at = Some(expiry(".expiresAt", value, now)?),
            other => return Err(unknown_field(other, CREATE)),
        }
    }
    let missing = |code, field| ApiError::new(code, format!("Missing field `{field}`"));
    let actions = actions.ok_or_else(|| missing("missing_api_key_actions", "actions"))?;
    let indexes = indexes.ok_or_else(|| missing("missing_api_key_indexes", "indexes"))?;
    let expires_at =
        expires_at.ok_or_else(|| missing("missing_api_key_expires_at", "expiresAt"))?;
    let key = NewKey { uid, name, description, actions, indexes, expires_at };
    key.check_scope()?;
    Ok(key)
}

impl NewKey {
    /// Actions about the instance do not go with a key that is limited to indexes.
    fn check_scope(&self) -> Checked<()> {
        if self.indexes.is_empty() || self.indexes.iter().any(IndexPattern::is_all) {
            return Ok(());
        }
        let Some(action) = self.actions.iter().find(|a| a.scope() == KeyScope::Global) else {
            return Ok(());
        };
        Err(ApiError::new(
            "index_scoped_api_key_with_global_action",
            format!(
                "cannot create index-scoped API key with global action `\"{action}\"`\n  - Hint: \
                 remove action `\"{action}\"` from the action list, or remove `indexes` to make \
                 the key global"
            ),
        ))
    }

    /// The key, made now. `random` is its uid if the client chose none.
    pub fn into_key(self, random: Uuid, now: OffsetDateTime) -> ApiKey {
        ApiKey {
            uid: self.uid.unwrap_or(random),
            name: self.name,
            description: self.description,
            actions: self.actions,
            indexes: self.indexes,
            expires_at: self.expires_at,
            created_at: now,
            updated_at: now,
        }
    }
}

/// Reads the body of `PATCH /keys/{key}`.
///
/// # Errors
/// What a node says about it.
pub fn change(body: &Value) -> Checked<Change> {
    let mut change = Change::default();
    for (field, value) in object(body)? {
        let code = match field.as_str() {
            "description" => {
                let text = label("invalid_api_key_description", ".description", value)?;
                change.description = Some(text);
                continue;
            }
            "name" => {
                change.name = Some(label("invalid_api_key_name", ".name", value)?);
                continue;
            }
            "uid" => "immutable_api_key_uid",
            "actions" => "immutable_api_key_actions",
            "indexes" => "immutable_api_key_indexes",
            "expiresAt" => "immutable_api_key_expires_at",
            "createdAt" => "immutable_api_key_created_at",
            "updatedAt" => "immutable_api_key_updated_at",
            other => return Err(unknown_field(other, CHANGE)),
        };
        let list = choices(CHANGE);
        let message = format!("Immutable field `{field}`: expected one of {list}");
        return Err(ApiError::new(code, message));
    }
    Ok(change)
}

#[cfg(test)]
mod tests;
