//! The routes of a fake node.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use http::{Method, StatusCode};
use miroir_pipeline::query::query_pairs;
use serde_json::{Map, Value, json};

use super::disk::Disk;
use super::documents::Document;
use super::errors::{error, no_index};
use super::index::Index;
use super::request::{Incoming, bad};
use super::task::Work;
use super::{filter, keys, tasks};

/// The feature that switches search rules on.
const RULES: &str = "dynamicSearchRules";
/// What a search rule may say.
const FIELDS: [&str; 5] = ["description", "precedence", "active", "conditions", "actions"];

type Outcome = Result<(StatusCode, Value), (StatusCode, Value)>;

/// Refuses a search rule that says what none may.
fn known_fields(rule: &Map<String, Value>) -> Result<(), (StatusCode, Value)> {
    match rule.keys().find(|name| !FIELDS.contains(&name.as_str())) {
        Some(name) => Err(bad("bad_request", &format!("Unknown field `{name}`"))),
        None => Ok(()),
    }
}

fn missing(uid: &str) -> (StatusCode, Value) {
    (StatusCode::NOT_FOUND, no_index(uid))
}

#[allow(clippy::unnecessary_wraps, reason = "the end of every handler")]
fn ok(value: Value) -> Outcome {
    Ok((StatusCode::OK, value))
}

fn decode(text: &str) -> String {
    query_pairs(&format!("x={}", text.replace('+', "%2B")))
        .into_iter()
        .next()
        .map_or_else(|| text.to_owned(), |(_, value)| value)
}

/// Answers a request. Work that takes time is enqueued and takes `took`.
pub(super) fn answer(disk: &mut Disk, request: &Incoming, took: Duration) -> (StatusCode, Value) {
    route(disk, request, took).unwrap_or_else(|refusal| refusal)
}

fn route(disk: &mut Disk, request: &Incoming, took: Duration) -> Outcome {
    let parts: Vec<String> =
        request.path.split('/').filter(|part| !part.is_empty()).map(decode).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let enqueue = |disk: &mut Disk, uid: &str, work| {
        let metadata = request.parameter("customMetadata");
        Ok((StatusCode::ACCEPTED, disk.enqueue(uid, work, metadata, took)))
    };
    match (request.method.as_str(), parts.as_slice()) {
        ("GET", ["health"]) => ok(json!({"status": "available"})),
        ("GET", ["version"]) => {
            ok(json!({"commitSha": "fake", "commitDate": "fake", "pkgVersion": "1.50.0"}))
        }
        ("GET", ["stats"]) => {
            let indexes: Map<String, Value> =
                disk.indexes.iter().map(|(uid, index)| (uid.clone(), stats(index))).collect();
            ok(
                json!({"databaseSize": 0, "usedDatabaseSize": 0, "lastUpdate": null, "indexes": indexes}),
            )
        }
        ("GET" | "PATCH", ["experimental-features"]) => {
            let wanted = request.object().unwrap_or_default().get(RULES).and_then(Value::as_bool);
            disk.has_rules = wanted.unwrap_or(disk.has_rules);
            ok(json!({RULES: disk.has_rules}))
        }
        (method, ["dynamic-search-rules", ..]) if !disk.has_rules => {
            // As on a node the body is read first.
            if method == "PATCH" {
                known_fields(&request.object()?)?;
            }
            Err(bad("feature_not_enabled", "Search rules are not switched on."))
        }
        ("POST", ["dynamic-search-rules"]) => {
            let results: Vec<Value> = disk.rules.values().cloned().collect();
            ok(json!({"total": results.len(), "results": results, "offset": 0, "limit": 20}))
        }
        ("PATCH", ["dynamic-search-rules", uid]) => {
            let mut rule = request.object()?;
            known_fields(&rule)?;
            rule.insert("uid".to_owned(), json!(uid));
            let work = Work::Rule((*uid).to_owned(), Some(Value::Object(rule)));
            enqueue(disk, ".meili_dsr", work)
        }
        ("DELETE", ["dynamic-search-rules", uid]) => {
            enqueue(disk, ".meili_dsr", Work::Rule((*uid).to_owned(), None))
        }
        ("GET", ["tasks"]) => ok(tasks::list(disk, request)),
        ("GET", ["tasks", uid]) => tasks::one(disk, uid),
        ("POST", ["tasks", "cancel"]) => tasks::change(disk, request, true),
        ("DELETE", ["tasks"]) => tasks::change(disk, request, false),
        ("POST", ["keys"]) => keys::create(disk, &request.object()?),
        ("GET", ["keys"]) => {
            let number = |name| request.parameter(name).and_then(|text| text.parse().ok());
            ok(keys::list(disk, number("offset").unwrap_or(0), number("limit").unwrap_or(20)))
        }
        ("GET" | "DELETE", ["keys", key]) => keys::one(disk, &request.method, key, &Map::new()),
        ("PATCH", ["keys", key]) => keys::one(disk, &request.method, key, &request.object()?),
        ("POST", ["indexes"]) => {
            let body = request.object()?;
            let uid = body.get("uid").and_then(Value::as_str);
            let uid =
                uid.ok_or_else(|| bad("missing_index_uid", "Missing field `uid`."))?.to_owned();
            let key = body.get("primaryKey").and_then(Value::as_str).map(str::to_owned);
            enqueue(disk, &uid, Work::Create(key))
        }
        ("GET", ["indexes"]) => {
            let results: Vec<Value> = disk.indexes.iter().map(|(uid, i)| shown(uid, i)).collect();
            ok(json!({"total": results.len(), "results": results, "offset": 0, "limit": 20}))
        }
        ("GET", ["indexes", uid]) => {
            let index = disk.indexes.get(*uid).ok_or_else(|| missing(uid))?;
            ok(shown(uid, index))
        }
        ("PATCH", ["indexes", uid]) => {
            let body = request.object()?;
            let text = |name: &str| body.get(name).and_then(Value::as_str).map(str::to_owned);
            enqueue(disk, uid, Work::Rekey(text("primaryKey"), text("uid")))
        }
        ("POST", ["swap-indexes"]) => {
            let pairs: Vec<Value> = request.json()?.as_array().cloned().unwrap_or_default();
            let name = |pair: &Value, at: usize| {
                pair["indexes"][at].as_str().unwrap_or_default().to_owned()
            };
            let pairs = pairs.iter().map(|pair| {
                (name(pair, 0), name(pair, 1), pair["rename"].as_bool().unwrap_or_default())
            });
            enqueue(disk, "", Work::Swap(pairs.collect()))
        }
        ("DELETE", ["indexes", uid]) => enqueue(disk, uid, Work::Drop),
        ("GET", ["indexes", uid, "stats"]) => {
            ok(stats(disk.indexes.get(*uid).ok_or_else(|| missing(uid))?))
        }
        ("GET", ["indexes", uid, "settings"]) => {
            ok(disk.indexes.get(*uid).ok_or_else(|| missing(uid))?.settings.clone())
        }
        ("PATCH", ["indexes", uid, "settings"]) => {
            enqueue(disk, uid, Work::Settings(request.object()?))
        }
        ("POST" | "PUT", ["indexes", uid, "documents"]) => {
            let documents: Vec<Document> = serde_json::from_slice(&request.body)
                .map_err(|_| bad("malformed_payload", "The payload is no array of objects."))?;
            let work = Work::Add(
                documents,
                request.parameter("primaryKey"),
                request.method == Method::POST,
            );
            enqueue(disk, uid, work)
        }
        ("DELETE", ["indexes", uid, "documents"]) => enqueue(disk, uid, Work::Clear),
        ("DELETE", ["indexes", uid, "documents", id]) => {
            enqueue(disk, uid, Work::DeleteIds(vec![(*id).to_owned()]))
        }
        ("GET", ["indexes", uid, "documents", id]) => {
            let index = disk.indexes.get(*uid).ok_or_else(|| missing(uid))?;
            let text = format!("Document `{id}` not found.");
            let unknown = || (StatusCode::NOT_FOUND, error("document_not_found", &text));
            ok(Value::Object(index.documents.get(id).ok_or_else(unknown)?.clone()))
        }
        ("POST", ["indexes", uid, "documents", "delete-batch"]) => {
            let ids: Vec<Value> = serde_json::from_slice(&request.body)
                .map_err(|_| bad("malformed_payload", "The payload is no array."))?;
            let ids = ids.iter().map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned));
            enqueue(disk, uid, Work::DeleteIds(ids.collect()))
        }
        ("POST", ["indexes", uid, "documents", "delete"]) => {
            let filter = request.object()?.remove("filter").unwrap_or_default();
            understood(&filter, "invalid_document_filter")?;
            enqueue(disk, uid, Work::DeleteFilter(filter))
        }
        ("POST", ["indexes", uid, "documents", "fetch"]) => fetch(disk, uid, &request.object()?),
        ("POST", ["indexes", uid, "search"]) => search(disk, uid, &request.object()?),
        _ => Err((StatusCode::NOT_FOUND, error("not_found", "No such route."))),
    }
}

fn understood(filter: &Value, code: &str) -> Result<(), (StatusCode, Value)> {
    let fine = filter::passes(filter, &Map::new()).is_some();
    if fine { Ok(()) } else { Err(bad(code, "This filter cannot be read.")) }
}

fn shown(uid: &str, index: &Index) -> Value {
    json!({
        "uid": uid, "primaryKey": index.primary_key,
        "createdAt": "2024-01-01T00:00:00Z", "updatedAt": "2024-01-01T00:00:00Z",
    })
}

fn stats(index: &Index) -> Value {
    let mut fields = Map::new();
    for key in index.documents.values().flat_map(Map::keys) {
        let count = fields.get(key).and_then(Value::as_u64).unwrap_or(0) + 1;
        fields.insert(key.clone(), count.into());
    }
    json!({
        "numberOfDocuments": index.documents.len(), "rawDocumentDbSize": 0, "avgDocumentSize": 0,
        "isIndexing": false, "numberOfEmbeddings": 0, "numberOfEmbeddedDocuments": 0,
        "fieldDistribution": fields,
    })
}

fn selected<'a>(
    disk: &'a Disk,
    uid: &str,
    body: &Map<String, Value>,
) -> Result<Vec<&'a Document>, (StatusCode, Value)> {
    let index = disk.indexes.get(uid).ok_or_else(|| missing(uid))?;
    let filter = body.get("filter").cloned().unwrap_or_default();
    understood(&filter, "invalid_search_filter")?;
    index.filterable(&filter).map_err(|error| (StatusCode::BAD_REQUEST, error))?;
    let passes = |document: &&Document| filter::passes(&filter, document).unwrap_or(false);
    Ok(index.documents.values().filter(passes).collect())
}

fn window(body: &Map<String, Value>) -> (usize, usize) {
    let number = |key: &str| body.get(key).and_then(Value::as_u64).map(|n| n as usize);
    (number("offset").unwrap_or(0), number("limit").unwrap_or(20))
}

fn fetch(disk: &Disk, uid: &str, body: &Map<String, Value>) -> Outcome {
    let mut found = selected(disk, uid, body)?;
    if let Some(ids) = body.get("ids").and_then(Value::as_array) {
        let key = disk.indexes[uid].primary_key.clone().unwrap_or_default();
        // By their text: a document whose id is a number is found by a string as well.
        let text = |id: &Value| id.as_str().map_or_else(|| id.to_string(), str::to_owned);
        let ids: BTreeSet<String> = ids.iter().map(text).collect();
        found.retain(|document| document.get(&key).is_some_and(|id| ids.contains(&text(id))));
    }
    let (offset, limit) = window(body);
    let results: Vec<_> = found.iter().skip(offset).take(limit).collect();
    ok(json!({"results": results, "offset": offset, "limit": limit, "total": found.len()}))
}

fn words(document: &Document, wanted: &[String]) -> usize {
    let texts = document.iter().filter(|(key, _)| !key.starts_with("_miroir_"));
    let texts: Vec<String> =
        texts.filter_map(|(_, value)| value.as_str().map(str::to_lowercase)).collect();
    wanted.iter().take_while(|word| texts.iter().any(|text| text.contains(*word))).count()
}

/// A document with the attributes that settings let be seen.
fn displayed(shown: &Value, document: &Document) -> Document {
    let shown = shown.as_array().map(Vec::as_slice).unwrap_or_default();
    let seen = |name: &str| shown.iter().any(|one| one == "*" || one == name);
    document
        .iter()
        .filter(|(name, _)| seen(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

fn search(disk: &Disk, uid: &str, body: &Map<String, Value>) -> Outcome {
    let query = body.get("q").and_then(Value::as_str).unwrap_or_default().to_lowercase();
    let wanted: Vec<String> = query.split_whitespace().map(str::to_owned).collect();
    let mut found: Vec<(usize, &Document)> = selected(disk, uid, body)?
        .into_iter()
        .map(|document| (words(document, &wanted), document))
        .filter(|(matching, _)| wanted.is_empty() || *matching > 0)
        .collect();
    found.sort_by_key(|(matching, _)| std::cmp::Reverse(*matching));
    let shown = disk.indexes.get(uid).map(|index| index.settings["displayedAttributes"].clone());
    let shown = shown.unwrap_or_default();
    let (offset, limit) = window(body);
    let hits: Vec<Value> = found
        .iter()
        .skip(offset)
        .take(limit)
        .map(|(matching, document)| {
            let mut hit = displayed(&shown, document);
            let score =
                if wanted.is_empty() { 1.0 } else { *matching as f64 / wanted.len() as f64 };
            let details = if wanted.is_empty() {
                json!({})
            } else {
                json!({"words": {
                    "order": 0, "matchingWords": matching, "maxMatchingWords": wanted.len(),
                    "score": score,
                }})
            };
            hit.insert("_rankingScore".into(), score.into());
            hit.insert("_rankingScoreDetails".into(), details);
            Value::Object(hit)
        })
        .collect();
    let mut answer = json!({
        "hits": hits, "query": query, "processingTimeMs": 0, "limit": limit, "offset": offset,
        "estimatedTotalHits": found.len(),
    });
    if body.contains_key("facets") {
        answer["facetDistribution"] = facets(&found, body);
    }
    ok(answer)
}

/// How many documents have which text in each field that is asked for.
fn facets(found: &[(usize, &Document)], body: &Map<String, Value>) -> Value {
    let names = body.get("facets").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mut all = Map::new();
    for name in names.iter().filter_map(Value::as_str) {
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        for value in found.iter().filter_map(|(_, document)| document.get(name)?.as_str()) {
            *counts.entry(value).or_default() += 1;
        }
        all.insert(name.to_owned(), json!(counts));
    }
    Value::Object(all)
}
