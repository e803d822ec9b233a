//! Routes about indexes themselves: creation, changes, lists, numbers.

use serde_json::{Map, Value, json};

use super::State;
use super::answers::{Answer, check_index_uid, done, enqueue};
use super::errors::ApiError;
use super::params::{Fields, QueryString, json_object, json_value, wrong_type};
use super::tasks::queue::NewTask;
use super::tasks::worker::details;
use super::tasks::{Work, timestamp};

/// `POST /indexes`.
pub(crate) fn create_index(state: &State, body: &[u8]) -> Result<Answer, ApiError> {
    let (map, known) = (json_object(body)?, ["uid", "primaryKey"]);
    // Members are judged in their order, and one that there is not is one of them.
    for (key, value) in map.iter().take_while(|(key, _)| known.contains(&key.as_str())) {
        match value {
            Value::String(uid) if key == "uid" => {
                check_index_uid(uid).map_err(|e| e.prefixed("Invalid value at `.uid`: "))?;
            }
            Value::String(_) | Value::Null => {}
            other if key == "uid" => {
                return Err(wrong_type("invalid_index_uid", key, "a string", other));
            }
            other => return Err(wrong_type("invalid_index_primary_key", key, "a string", other)),
        }
    }
    let mut fields = Fields::new(map, &known)?;
    let uid = fields
        .string("uid", "invalid_index_uid")?
        .ok_or_else(|| ApiError::new("missing_index_uid", "Missing field `uid`"))?;
    let primary_key = fields.string("primaryKey", "invalid_index_primary_key")?;
    let shown = details(&[("primaryKey", json!(primary_key))]);
    enqueue(state, &uid, Work::CreateIndex { primary_key }, shown, None, None)
}

/// `PATCH /indexes/{uid}`.
pub(crate) fn update_index(state: &State, uid: &str, body: &[u8]) -> Result<Answer, ApiError> {
    let map = json_object(body)?;
    for (key, code) in [("createdAt", "created_at"), ("updatedAt", "updated_at")] {
        if map.contains_key(key) {
            return Err(ApiError::new(
                format!("immutable_index_{code}"),
                format!("Immutable field `{key}`: expected one of `primaryKey`, `uid`"),
            ));
        }
    }
    let mut fields = Fields::new(map, &["primaryKey", "uid"])?;
    let primary_key = fields.string("primaryKey", "invalid_index_primary_key")?;
    let new_uid = fields.string("uid", "invalid_index_uid")?;
    let mut shown = details(&[("primaryKey", json!(primary_key))]);
    if let Some(new_uid) = &new_uid {
        check_index_uid(new_uid).map_err(|error| error.prefixed("Invalid value at `.uid`: "))?;
        shown.extend(details(&[
            ("oldIndexUid", uid.into()),
            ("newIndexUid", new_uid.clone().into()),
        ]));
    }
    enqueue(state, uid, Work::UpdateIndex { primary_key, new_uid }, shown, None, None)
}

/// `POST /swap-indexes`.
pub(crate) fn swap_indexes(state: &State, body: &[u8]) -> Result<Answer, ApiError> {
    let Value::Array(items) = json_value(body)? else {
        return Err(ApiError::new("bad_request", "Invalid value type: expected an array"));
    };
    let mut swaps = Vec::with_capacity(items.len());
    let mut shown = Vec::with_capacity(items.len());
    for item in &items {
        let names: Option<Vec<&str>> = item
            .get("indexes")
            .and_then(Value::as_array)
            .map(|list| list.iter().filter_map(Value::as_str).collect());
        let Some([left, right]) = names.as_deref() else {
            return Err(ApiError::new(
                "invalid_swap_indexes",
                "Two indexes must be given for each swap.",
            ));
        };
        swaps.push(((*left).to_owned(), (*right).to_owned()));
        shown.push(json!({ "indexes": [left, right], "rename": false }));
    }
    let details = details(&[("swaps", Value::Array(shown))]);
    let new = NewTask {
        index_uid: None,
        work: Work::Swap { swaps },
        details,
        custom_metadata: None,
        payload: None,
    };
    Ok((202, Some(state.queue.register(new)?.summary())))
}

/// One index as the API shows it.
pub(crate) fn index_view(state: &State, uid: &str) -> Result<Value, ApiError> {
    let open = state.indexes.require(uid)?;
    let rtxn = open.index.read_txn()?;
    Ok(json!({
        "uid": uid,
        "createdAt": timestamp(open.index.created_at(&rtxn)?),
        "updatedAt": timestamp(open.index.updated_at(&rtxn)?),
        "primaryKey": open.index.primary_key(&rtxn)?,
    }))
}

/// `GET /indexes`.
pub(crate) fn list_indexes(state: &State, query: &QueryString) -> Result<Answer, ApiError> {
    query.only(&["offset", "limit"])?;
    let offset: usize = query.number("offset", "invalid_index_offset")?.unwrap_or(0);
    let limit: usize = query.number("limit", "invalid_index_limit")?.unwrap_or(20);
    let all = state.indexes.list();
    let results = all
        .iter()
        .skip(offset)
        .take(limit)
        .map(|open| index_view(state, &open.uid))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(done(json!({ "results": results, "offset": offset, "limit": limit, "total": all.len() })))
}

/// Numbers of one index.
pub(crate) fn index_stats(state: &State, uid: &str) -> Result<Value, ApiError> {
    let open = state.indexes.require(uid)?;
    let rtxn = open.index.read_txn()?;
    let sizes = open.index.documents_stats(&rtxn)?.unwrap_or_default();
    let vectors = open.index.arroy_stats(&rtxn)?;
    Ok(json!({
        "numberOfDocuments": open.index.number_of_documents(&rtxn)?,
        "rawDocumentDbSize": sizes.total_value_size(),
        "avgDocumentSize": sizes.average_value_size(),
        "isIndexing": state.queue.is_indexing(uid),
        "numberOfEmbeddings": vectors.number_of_embeddings,
        "numberOfEmbeddedDocuments": vectors.documents.len(),
        "fieldDistribution": open.index.field_distribution(&rtxn)?,
    }))
}

/// `GET /stats`.
pub(crate) fn global_stats(state: &State) -> Result<Answer, ApiError> {
    let mut size = 0;
    let mut used = 0;
    let mut indexes = Map::new();
    for open in state.indexes.list() {
        size += open.index.on_disk_size()?;
        used += open.index.used_size()?;
        indexes.insert(open.uid.clone(), index_stats(state, &open.uid)?);
    }
    Ok(done(json!({
        "databaseSize": size,
        "usedDatabaseSize": used,
        "lastUpdate": state.queue.last_update().map(timestamp),
        "indexes": indexes,
    })))
}
