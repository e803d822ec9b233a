//! The routes of the HTTP API.

use serde_json::{Map, Value, json};

use super::State;
use super::answers::{Answer, check_index_uid, done, enqueue};
use super::documents::{self, Fetch};
use super::errors::ApiError;
use super::index_routes::{
    create_index, global_stats, index_stats, index_view, list_indexes, swap_indexes, update_index,
};
use super::params::{Fields, QueryString, json_object, json_value, percent_decode, wrong_type};
use super::payload::{self, Format};
use super::query::SearchQuery;
use super::search;
use super::settings;
use super::settings_view;
use super::tasks::queue::NewTask;
use super::tasks::worker::details;
use super::tasks::{Work, filter};

/// A request, read in full.
#[derive(Debug)]
pub(crate) struct Request {
    /// Method.
    pub(crate) method: String,
    /// Path, still percent-encoded.
    pub(crate) path: String,
    /// Query string.
    pub(crate) query: String,
    /// `Authorization` header.
    pub(crate) authorization: Option<String>,
    /// `Content-Type` header.
    pub(crate) content_type: Option<String>,
    /// Whether `Meili-Proxy-Search: true` was sent.
    pub(crate) proxy: bool,
    /// Body.
    pub(crate) body: bytes::Bytes,
}

/// Answers a request.
pub(crate) fn handle(state: &State, request: &Request) -> Answer {
    match route(state, request) {
        Ok(answer) => answer,
        Err(error) => (error.status, Some(error.to_value())),
    }
}

const NO_ROUTE: Answer = (404, None);
const WRONG_METHOD: Answer = (405, None);

fn route(state: &State, request: &Request) -> Result<Answer, ApiError> {
    let segments: Vec<String> = request
        .path
        .trim_matches('/')
        .split('/')
        .filter(|segment| !segment.is_empty())
        .map(|segment| percent_decode(segment, false))
        .collect();
    let path: Vec<&str> = segments.iter().map(String::as_str).collect();
    let method = request.method.as_str();
    match (method, path.as_slice()) {
        ("GET", []) => return Ok(done(json!({ "status": "Meilisearch is running" }))),
        ("GET", ["health"]) => return Ok(done(json!({ "status": "available" }))),
        _ => {}
    }
    authorize(state, request)?;
    let query = QueryString::parse(&request.query);
    match (method, path.as_slice()) {
        ("GET", ["version"]) => Ok(done(json!({
            "commitSha": "unknown",
            "commitDate": "unknown",
            "pkgVersion": super::ENGINE_VERSION,
        }))),
        ("GET", ["stats"]) => global_stats(state),
        ("GET", ["tasks"]) => Ok(done(filter::list(&state.queue, &query)?)),
        ("DELETE", ["tasks"]) => {
            let tasks = filter::targets(&state.queue, &query, "delete")?;
            task_on_tasks(state, &query, "deletedTasks", tasks.len(), Work::DeleteTasks { tasks })
        }
        ("POST", ["tasks", "cancel"]) => {
            let tasks = filter::targets(&state.queue, &query, "cancel")?;
            task_on_tasks(state, &query, "canceledTasks", tasks.len(), Work::Cancel { tasks })
        }
        ("GET", ["tasks", uid]) => {
            let uid: u32 = uid.parse().map_err(|_| {
                ApiError::new(
                    "invalid_task_uids",
                    format!(
                        "Task uid `{uid}` is invalid. It should only contain numeric characters."
                    ),
                )
            })?;
            let task = state.queue.get(uid);
            let task = task.ok_or_else(|| {
                ApiError::new("task_not_found", format!("Task `{uid}` not found."))
            })?;
            Ok(done(task.view()))
        }
        ("GET" | "PATCH", ["experimental-features"]) => {
            let mut features = state.features.lock().expect("no panic holds this lock");
            if method == "PATCH" {
                features.extend(json_object(&request.body)?);
            }
            Ok(done(features.clone()))
        }
        ("POST", ["multi-search"]) => multi_search(state, &request.body),
        ("POST", ["swap-indexes"]) => swap_indexes(state, &request.body),
        ("GET", ["indexes"]) => list_indexes(state, &query),
        ("POST", ["indexes"]) => create_index(state, &request.body),
        (_, ["indexes", uid, rest @ ..]) => {
            check_index_uid(uid)?;
            index_route(state, request, &query, uid, rest)
        }
        (
            _,
            [
                "version" | "stats" | "tasks" | "multi-search" | "swap-indexes" | "indexes"
                | "health",
            ],
        ) => Ok(WRONG_METHOD),
        _ => Ok(NO_ROUTE),
    }
}

fn index_route(
    state: &State,
    request: &Request,
    query: &QueryString,
    uid: &str,
    rest: &[&str],
) -> Result<Answer, ApiError> {
    let open = || state.indexes.require(uid);
    match (request.method.as_str(), rest) {
        ("GET", []) => Ok(done(index_view(state, uid)?)),
        ("PATCH", []) => update_index(state, uid, &request.body),
        ("DELETE", []) => {
            let shown = details(&[("deletedDocuments", Value::Null)]);
            enqueue(state, uid, Work::DeleteIndex, shown, None, None)
        }
        ("GET", ["stats"]) => Ok(done(index_stats(state, uid)?)),
        ("GET", ["search"]) => {
            let parsed = SearchQuery::from_query(query)?;
            Ok(done(search::search(&open()?.index, uid, &parsed)?))
        }
        ("POST", ["search"]) => {
            let parsed = SearchQuery::from_json(json_object(&request.body)?)?;
            Ok(done(search::search(&open()?.index, uid, &parsed)?))
        }
        ("POST", ["facet-search"]) => {
            let body = json_object(&request.body)?;
            Ok(done(search::facet_search(&open()?.index, uid, body)?))
        }
        (_, ["documents", rest @ ..]) => documents_route(state, request, query, uid, rest),
        (_, ["settings", rest @ ..]) => settings_route(state, request, query, uid, rest),
        (_, [] | ["stats" | "search" | "facet-search"]) => Ok(WRONG_METHOD),
        _ => Ok(NO_ROUTE),
    }
}

fn documents_route(
    state: &State,
    request: &Request,
    query: &QueryString,
    uid: &str,
    rest: &[&str],
) -> Result<Answer, ApiError> {
    let metadata = || query.get("customMetadata").map(str::to_owned);
    let by_ids = |ids: Vec<String>| {
        let shown = details(&[
            ("providedIds", ids.len().into()),
            ("deletedDocuments", Value::Null),
            ("originalFilter", Value::Null),
        ]);
        enqueue(state, uid, Work::DeleteIds { ids }, shown, metadata(), None)
    };
    match (request.method.as_str(), rest) {
        ("GET", []) => {
            let fetch = fetch_from_query(query, request.proxy)?;
            Ok(done(documents::fetch(&state.indexes.require(uid)?.index, &fetch)?))
        }
        ("POST", ["fetch"]) => {
            let fetch = fetch_from_json(json_object(&request.body)?, request.proxy)?;
            Ok(done(documents::fetch(&state.indexes.require(uid)?.index, &fetch)?))
        }
        ("POST", []) => add_documents(state, request, query, uid, true),
        ("PUT", []) => add_documents(state, request, query, uid, false),
        ("DELETE", []) => {
            let shown = details(&[("deletedDocuments", Value::Null)]);
            enqueue(state, uid, Work::Clear, shown, metadata(), None)
        }
        ("POST", ["delete-batch"]) => {
            let Value::Array(items) = json_value(&request.body)? else {
                return Err(ApiError::new(
                    "bad_request",
                    "Json deserialize error: expected a sequence",
                ));
            };
            let ids = items.into_iter().map(|item| match item {
                Value::String(id) => id,
                other => other.to_string(),
            });
            by_ids(ids.collect())
        }
        ("POST", ["delete"]) => {
            let mut fields = Fields::new(json_object(&request.body)?, &["filter"])?;
            let filter = fields.value("filter").ok_or_else(|| {
                ApiError::new("missing_document_filter", "Missing field `filter`")
            })?;
            let parsed = milli_core::Filter::from_json(&filter).map_err(|error| {
                ApiError::from_engine(&error).with_filter_code("invalid_document_filter")
            })?;
            if parsed.is_none() {
                return Err(ApiError::new(
                    "invalid_document_filter",
                    "Sending an empty filter is forbidden.",
                ));
            }
            let shown = details(&[
                ("providedIds", 0.into()),
                ("deletedDocuments", Value::Null),
                ("originalFilter", filter.to_string().into()),
            ]);
            enqueue(state, uid, Work::DeleteFilter { filter }, shown, metadata(), None)
        }
        ("GET", [id]) => {
            let fields = query.list("fields");
            let vectors = query
                .bool("retrieveVectors", "invalid_document_retrieve_vectors")?
                .unwrap_or(false);
            Ok(done(documents::get(
                &state.indexes.require(uid)?.index,
                id,
                fields.as_deref(),
                vectors,
            )?))
        }
        ("DELETE", [id]) => by_ids(vec![(*id).to_owned()]),
        (_, [] | ["fetch" | "delete" | "delete-batch"]) => Ok(WRONG_METHOD),
        _ => Ok(NO_ROUTE),
    }
}

fn fetch_from_query(query: &QueryString, proxy: bool) -> Result<Fetch, ApiError> {
    query.only(&["offset", "limit", "fields", "retrieveVectors", "ids", "filter", "sort"])?;
    let filter = query.get("filter").map(|text| match serde_json::from_str::<Value>(text) {
        Ok(value) if value.is_array() => value,
        _ => json!(text),
    });
    Ok(Fetch {
        offset: query.number("offset", "invalid_document_offset")?.unwrap_or(0),
        limit: query.number("limit", "invalid_document_limit")?.unwrap_or(20),
        fields: query.list("fields"),
        retrieve_vectors: query
            .bool("retrieveVectors", "invalid_document_retrieve_vectors")?
            .unwrap_or(false),
        ids: query.list("ids").map(|ids| ids.into_iter().map(Value::String).collect()),
        filter,
        sort: query.list("sort"),
        proxy,
    })
}

fn fetch_from_json(map: Map<String, Value>, proxy: bool) -> Result<Fetch, ApiError> {
    let allowed = ["offset", "limit", "fields", "retrieveVectors", "ids", "filter", "sort"];
    let mut fields = Fields::new(map, &allowed)?;
    let ids = match fields.value("ids") {
        None => None,
        Some(Value::Array(ids)) => Some(ids),
        Some(other) => return Err(wrong_type("invalid_document_ids", "ids", "an array", &other)),
    };
    Ok(Fetch {
        offset: fields.usize("offset", "invalid_document_offset")?.unwrap_or(0),
        limit: fields.usize("limit", "invalid_document_limit")?.unwrap_or(20),
        fields: fields.strings("fields", "invalid_document_fields")?,
        retrieve_vectors: fields.bool("retrieveVectors", "invalid_document_retrieve_vectors")?,
        ids,
        filter: fields.value("filter"),
        sort: fields.strings("sort", "invalid_document_sort")?,
        proxy,
    })
}

fn add_documents(
    state: &State,
    request: &Request,
    query: &QueryString,
    uid: &str,
    replace: bool,
) -> Result<Answer, ApiError> {
    let format = Format::from_content_type(request.content_type.as_deref())?;
    query.only(&["primaryKey", "csvDelimiter", "customMetadata", "skipCreation"])?;
    let skip_creation =
        query.bool("skipCreation", "invalid_skip_creation").map_err(|mut error| {
            let found = query.get("skipCreation").unwrap_or_default();
            error.message =
                format!("skipCreation must be either `true` or `false`. Found: `{found}`");
            error
        })?;
    let skip_creation = skip_creation.unwrap_or(false);
    let delimiter = match query.get("csvDelimiter") {
        None => b',',
        Some(_) if format != Format::Csv => {
            return Err(ApiError::new(
                "invalid_content_type",
                "The Content-Type is invalid. The `csvDelimiter` parameter can only be used with the Content-Type `text/csv`.",
            ));
        }
        Some(text) => match text.as_bytes() {
            [byte] if byte.is_ascii() => *byte,
            _ => {
                return Err(ApiError::new(
                    "invalid_document_csv_delimiter",
                    format!(
                        "Invalid value in parameter `csvDelimiter`: csv delimiter must be an ascii character. Found: `{text}`"
                    ),
                ));
            }
        },
    };
    let (documents, received) = payload::read(format, &request.body, delimiter)?;
    let shown =
        details(&[("receivedDocuments", received.into()), ("indexedDocuments", Value::Null)]);
    let primary_key = query.get("primaryKey").map(str::to_owned);
    let work = Work::Documents { replace, primary_key, skip_creation };
    enqueue(
        state,
        uid,
        work,
        shown,
        query.get("customMetadata").map(str::to_owned),
        Some(documents),
    )
}

fn settings_route(
    state: &State,
    request: &Request,
    query: &QueryString,
    uid: &str,
    rest: &[&str],
) -> Result<Answer, ApiError> {
    let field = match rest {
        [] => None,
        [name] => match settings::FIELDS.iter().find(|(_, route, _)| route == name) {
            Some(field) => Some(field),
            None => return Ok(NO_ROUTE),
        },
        _ => return Ok(NO_ROUTE),
    };
    let submitted = match (request.method.as_str(), field) {
        ("GET", _) => {
            let open = state.indexes.require(uid)?;
            let rtxn = open.index.read_txn()?;
            let mut all = settings_view::read(&open.index, &rtxn)?;
            return match field {
                None => Ok(done(all)),
                Some((key, _, _)) => Ok(done(all.remove(*key).unwrap_or_default())),
            };
        }
        ("PATCH", None) => json_object(&request.body)?,
        ("DELETE", None) => {
            settings::FIELDS.iter().map(|(key, _, _)| ((*key).to_owned(), Value::Null)).collect()
        }
        ("DELETE", Some((key, _, _))) => details(&[(key, Value::Null)]),
        (method, Some((key, _, allowed))) if method == *allowed => {
            details(&[(key, json_value(&request.body)?)])
        }
        _ => return Ok(WRONG_METHOD),
    };
    let settings = settings::validate(submitted).map_err(|mut error| {
        // A sub-route's body is the value itself: places in it have no leading name.
        if let Some((key, _, _)) = field {
            error.message = error
                .message
                .replace(&format!(" at `.{key}`"), "")
                .replace(&format!("`.{key}"), "`");
        }
        error
    })?;
    let metadata = query.get("customMetadata").map(str::to_owned);
    enqueue(state, uid, Work::Settings { settings: settings.clone() }, settings, metadata, None)
}

fn task_on_tasks(
    state: &State,
    query: &QueryString,
    count: &str,
    matched: usize,
    work: Work,
) -> Result<Answer, ApiError> {
    let shown = details(&[
        ("matchedTasks", matched.into()),
        (count, Value::Null),
        ("originalFilter", format!("?{}", query.raw()).into()),
    ]);
    let new =
        NewTask { index_uid: None, work, details: shown, custom_metadata: None, payload: None };
    Ok(done(state.queue.register(new)?.summary()))
}

fn multi_search(state: &State, body: &[u8]) -> Result<Answer, ApiError> {
    let mut map = json_object(body)?;
    if map.get("federation").is_some_and(|federation| !federation.is_null()) {
        return Err(ApiError::new(
            "bad_request",
            "This engine node does not support federated searches.",
        ));
    }
    let Some(Value::Array(queries)) = map.remove("queries") else {
        return Err(ApiError::new("bad_request", "Missing field `queries`"));
    };
    let mut results = Vec::with_capacity(queries.len());
    for (at, query) in queries.into_iter().enumerate() {
        let one = || -> Result<Value, ApiError> {
            let Value::Object(mut query) = query else {
                return Err(wrong_type(
                    "bad_request",
                    &format!("queries[{at}]"),
                    "an object",
                    &query,
                ));
            };
            let Some(Value::String(uid)) = query.shift_remove("indexUid") else {
                return Err(ApiError::new("missing_index_uid", "Missing field `indexUid`"));
            };
            let parsed = SearchQuery::from_json(query)?;
            let open = state.indexes.require(&uid)?;
            let mut result = details(&[("indexUid", uid.clone().into())]);
            result.extend(search::search(&open.index, &uid, &parsed)?);
            Ok(Value::Object(result))
        };
        results.push(one().map_err(|mut error| {
            if error.status == 404 {
                error.status = 400;
            }
            error.prefixed(&format!("Inside `.queries[{at}]`: "))
        })?);
    }
    Ok(done(json!({ "results": results })))
}

fn authorize(state: &State, request: &Request) -> Result<(), ApiError> {
    let Some(master_key) = &state.master_key else { return Ok(()) };
    let token = request.authorization.as_deref().and_then(|header| header.strip_prefix("Bearer"));
    match token.map(str::trim) {
        None => Err(ApiError::new(
            "missing_authorization_header",
            "The Authorization header is missing. It must use the bearer authorization method.",
        )),
        Some(token) if token == master_key => Ok(()),
        Some(_) => Err(ApiError::new("invalid_api_key", "The provided API key is invalid.")),
    }
}
