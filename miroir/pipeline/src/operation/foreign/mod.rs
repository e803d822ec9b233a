//! Foreign keys: filters on, and documents of, the index an attribute points to.
//!
//! Nodes never get the setting. A document and the one it points to may be on different nodes, so a
//! node could neither judge `_foreign(…)` nor put the other document in. Both happen here, around a
//! search: conditions are asked of the other index and become lists of ids, and ids in hits become
//! documents. The feature switch does reach nodes, so what is wrong with a filter is in their words.
//!
//! A node asks nobody whether the caller may see the other index. Here a foreign key opens what the
//! caller's own key opens, and no more: [`check`] where one is set, `rule` where one is followed. The
//! search rules of a tenant token for the other index hold for its documents.
//!
//! | file | |
//! | --- | --- |
//! | `filter` | finding and replacing `_foreign(…)` |
//! | `hydrate` | documents in place of ids |

mod filter;
mod hydrate;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use miroir_api::IndexUid;
use miroir_core::keys::Scope;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use self::filter::{Call, Rewritten};
use super::handle::Handle;
use super::multi::{HitQueries, inside};
use super::token_filters::rewritten;
use super::{Operation, Request, Response};
use crate::cluster::settings::is_displayed;
use crate::error::{Error, ErrorKind};
use crate::meta::Meta;
use crate::query::{ClientRequest, List, RawObject, SearchKind};
use miroir_store::IndexEntry;

/// The name of the setting, and of its feature.
pub const SETTING: &str = "foreignKeys";
/// How many documents the conditions on one index may find together.
const MOST: usize = 100;
/// How many documents are fetched at a time.
const BATCH: usize = 1000;

/// The foreign keys of an index: field, index.
type Keys = Vec<(String, String)>;

/// Foreign keys of every query of a request, in order.
#[derive(Debug)]
pub(super) struct Joins(Vec<Keys>);

/// The foreign keys in a value of the setting. What is none is left out.
fn read(setting: Option<&Value>) -> Keys {
    let list = setting.and_then(Value::as_array).into_iter().flatten();
    list.filter_map(|key| {
        Some((key["fieldName"].as_str()?.to_owned(), key["foreignIndexUid"].as_str()?.to_owned()))
    })
    .collect()
}

fn keys(entry: &IndexEntry) -> Keys {
    read(entry.overlay.get(SETTING))
}

/// Judges whether a caller may give an index these foreign keys, a value of the setting, where it
/// has `old` ones. Those that it has already are nobody's news.
///
/// # Errors
/// `invalid_api_key` where one points to an index outside of the scope.
pub fn check(scope: &Scope, setting: &Value, old: Option<&Value>) -> Result<(), Error> {
    let old = read(old);
    for (field, index) in read(Some(setting)).iter().filter(|key| !old.contains(*key)) {
        let how = format!("The foreign key `{field}` points to");
        scope.check_reached(index, &how, "leave it out").map_err(Error::client)?;
    }
    Ok(())
}

/// The filter that documents of another index must pass for the caller, if any.
///
/// # Errors
/// `invalid_api_key` for an index outside of the caller's scope.
fn rule(
    request: &Request,
    index: &str,
    how: &str,
    otherwise: &str,
) -> Result<Option<Box<RawValue>>, Error> {
    let scope = &request.cx.scope;
    scope.check_reached(index, how, otherwise).map_err(Error::client)?;
    scope.filter(index).map(serde_json::value::to_raw_value).transpose().map_err(Error::internal)
}

fn entry(resolve: &Handle, name: &str) -> Option<Arc<IndexEntry>> {
    IndexUid::new(name).ok().and_then(|uid| resolve.state().catalog.get(&uid))
}

/// What there is to join for a request; `None`: nothing.
pub(super) async fn joins(resolve: &Handle, request: &Request) -> Result<Option<Joins>, Error> {
    // Whoever asks for parts has seen to it.
    if let Operation::Search { search, .. } = &request.op
        && search.kind == SearchKind::Part
    {
        return Ok(None);
    }
    let of = |name: &str| entry(resolve, name).map(|entry| keys(&entry)).unwrap_or_default();
    let keys: Vec<Keys> = request.op.names().into_iter().map(of).collect();
    if keys.iter().all(Vec::is_empty) {
        return Ok(None);
    }
    let features = resolve.state().stores.features.list().await?;
    let on = features.iter().any(|(name, on)| name == SETTING && *on);
    Ok(on.then_some(Joins(keys)))
}

/// Answers a request that has something to join.
pub(super) async fn run(
    resolve: Handle,
    mut request: Request,
    joins: Joins,
) -> Result<Response, Error> {
    // Whatever other indexes lack, the answer lacks too.
    let mut others = Meta::default();
    let texts = filters(&resolve, &mut request, &joins, &mut others).await?;
    let answer = resolve.clone().named(request.clone()).await;
    let answer = answer.map_err(|error| restored(error, &texts))?;
    let mut answer = match &request.op {
        Operation::Search { search, .. } if search.kind == SearchKind::Hits => {
            hydrated(&resolve, &request, answer, |_| &joins.0[0], &mut others).await?
        }
        // The queries of a plain one come through here one by one.
        Operation::MultiSearch(multi) if multi.is_federated() => {
            let queries = answer.meta.extensions().share::<HitQueries>();
            let queries = queries.as_deref().map_or(&[][..], |HitQueries(queries)| queries);
            let none = Keys::new();
            let of =
                |at: usize| queries.get(at).and_then(|query| joins.0.get(*query)).unwrap_or(&none);
            hydrated(&resolve, &request, answer, of, &mut others).await?
        }
        _ => answer,
    };
    answer.meta.join(&others);
    Ok(answer)
}

/// Gives a node's complaint about a rewritten filter the words of the original.
fn restored(error: Error, texts: &[Rewritten]) -> Error {
    let ErrorKind::Verbatim { status, body } = error.kind() else { return error };
    let Ok(mut value) = serde_json::from_slice::<Value>(body) else { return error };
    let Some(message) = value["message"].as_str() else { return error };
    let Some(restored) = texts.iter().find_map(|text| text.restore(message)) else { return error };
    value["message"] = restored.into();
    Error::verbatim(*status, Bytes::from(value.to_string()))
}

/// The bodies of a request's queries.
fn bodies(op: &mut Operation) -> Vec<&mut RawObject> {
    match op {
        Operation::Search { search, .. } => {
            Arc::make_mut(search).body.as_mut().into_iter().collect()
        }
        Operation::List { list, .. } => Arc::make_mut(list).body.as_mut().into_iter().collect(),
        Operation::MultiSearch(multi) => Arc::make_mut(multi).bodies().collect(),
        _ => Vec::new(),
    }
}

/// Replaces the conditions on other indexes in a request's filters by what they find.
async fn filters(
    resolve: &Handle,
    request: &mut Request,
    joins: &Joins,
    others: &mut Meta,
) -> Result<Vec<Rewritten>, Error> {
    let mut texts = Vec::new();
    let mut found = Found::default();
    let mut op = request.op.clone();
    let plain = matches!(&op, Operation::MultiSearch(multi) if !multi.is_federated());
    let names: Vec<String> = request.op.names().into_iter().map(str::to_owned).collect();
    let queries = names.iter().zip(&joins.0).map(|(name, keys)| (name.as_str(), keys));
    for (at, (body, own)) in bodies(&mut op).into_iter().zip(queries).enumerate() {
        let Some(text) = body.raw("filter").filter(|text| text.contains("_foreign")) else {
            continue;
        };
        let Ok(mut value) = serde_json::from_str::<Value>(text) else { continue };
        if plain {
            found = Found::default();
        }
        for text in strings(&mut value) {
            match rewrite(resolve, request, text, own, &mut found, others).await {
                Ok(Some(new)) => {
                    text.clone_from(&new.text);
                    texts.push(new);
                }
                Ok(None) => {}
                Err(error) => {
                    // A node may not even get as far with the text.
                    let nodes = matches!(error.kind(), ErrorKind::Verbatim { .. });
                    let error = if plain { inside(&error, at, own.0) } else { error };
                    return Err(if nodes {
                        unreadable(resolve, request, error).await
                    } else {
                        error
                    });
                }
            }
        }
        body.set("filter", &value);
    }
    if texts.is_empty() {
        return Ok(texts);
    }
    // Nodes are asked about the request as it is answered.
    let path = match op {
        Operation::MultiSearch(_) => None,
        Operation::List { .. } => Some("/documents/fetch".to_owned()),
        _ => Some(request.original.path.clone()),
    };
    if let (Some(path), [body]) = (path, &bodies(&mut op)[..]) {
        let original = ClientRequest::clone(&rewritten(&request.original, body));
        request.original = Arc::new(ClientRequest { path, ..original });
    }
    request.op = op;
    Ok(texts)
}

/// What a node says of a request's filters as they came, if they cannot be read; else the error that
/// came of reading them.
async fn unreadable(resolve: &Handle, request: &Request, error: Error) -> Error {
    // As they came, they would name what nodes take for no key; that they do read.
    match resolve.clone().named(request.clone()).await {
        Err(own) if !says(&own, "is not a foreign key") => own,
        _ => error,
    }
}

fn says(error: &Error, words: &str) -> bool {
    error.render().1.is_some_and(|body| memchr::memmem::find(&body, words.as_bytes()).is_some())
}

/// The texts of a filter parameter.
fn strings(filter: &mut Value) -> Vec<&mut String> {
    match filter {
        Value::String(text) => vec![text],
        Value::Array(list) => list.iter_mut().flat_map(strings).collect(),
        _ => Vec::new(),
    }
}

/// What conditions have found so far, by index.
type Found = BTreeMap<String, BTreeSet<String>>;

/// The error of one node for a filter that goes wrong on an index.
fn refused(index: &str, message: &str) -> Error {
    Error::api("invalid_search_filter", format!("Index `{index}`: {message}"))
}

async fn rewrite(
    resolve: &Handle,
    request: &Request,
    text: &str,
    (own, keys): (&str, &Keys),
    found: &mut Found,
    others: &mut Meta,
) -> Result<Option<Rewritten>, Error> {
    let mut answers = Vec::new();
    for call in filter::calls(text).unwrap_or_default() {
        let name = call.name(text);
        // A node says that it is none.
        let Some((_, index)) = keys.iter().find(|(field, _)| *field == name) else { continue };
        if filter::calls(&text[call.condition.clone()]).is_none_or(|inner| !inner.is_empty()) {
            return Err(refused(own, "Nested foreign filters are not supported"));
        }
        let ids = ask(resolve, request, index, text, &call, others).await?;
        let all = found.entry(index.clone()).or_default();
        all.extend(ids.iter().cloned());
        if all.len() > MOST {
            return Err(refused(
                index,
                &format!(
                    "Foreign filter is retrieving too many documents, foreign filters can't \
                     retrieve more than {MOST} documents per index"
                ),
            ));
        }
        answers.push((call, ids));
    }
    Ok((!answers.is_empty()).then(|| Rewritten::new(text, answers)))
}

/// Lists documents of another index. What that list lacks is noted in `others`.
async fn list(
    resolve: &Handle,
    request: &Request,
    index: &str,
    body: RawObject,
    others: &mut Meta,
) -> Result<Vec<Box<RawValue>>, Error> {
    let original = ClientRequest {
        method: http::Method::POST,
        path: "/documents/fetch".to_owned(),
        query: None,
        body: body.to_bytes(),
        content_type: Some("application/json".to_owned()),
        metadata: false,
    };
    let op = Operation::List { index: index.to_owned(), list: Arc::new(List { body: Some(body) }) };
    let mut request = Request { op, original: Arc::new(original), ..request.clone() };
    // What is to be explained is the search, not what its filter is made of.
    request.cx.explain = None;
    let answer = resolve.clone().named(request).await?;
    others.join(&answer.meta);
    RawObject::parse(&answer.body)
        .and_then(|answer| answer.read("results").ok().flatten())
        .ok_or_else(|| Error::internal("a list of documents is not readable"))
}

/// The ids a condition finds.
async fn ask(
    resolve: &Handle,
    request: &Request,
    index: &str,
    text: &str,
    call: &Call,
    others: &mut Meta,
) -> Result<Vec<String>, Error> {
    let how = format!("`_foreign({}, …)` reads", call.name(text));
    let rule = rule(request, index, &how, "leave the condition out")?;
    let key = entry(resolve, index).ok_or_else(|| Error::index_not_found(index))?;
    let key = key.primary_key.clone().unwrap_or_default();
    let mut body = RawObject::default();
    body.set("filter", &filter::aligned(text, call));
    if let Some(rule) = &rule {
        body.and_filter(rule);
    }
    body.set("fields", &[&key]);
    // One more than may be: then there are too many.
    body.set("limit", &(MOST + 1));
    let documents = list(resolve, request, index, body, others).await.map_err(|error| {
        let ErrorKind::Verbatim { status, body } = error.kind() else { return error };
        let Ok(mut value) = serde_json::from_slice::<Value>(body) else { return error };
        let message = value["message"].as_str().unwrap_or_default();
        let message = filter::about_whole(message, text, call);
        value["message"] = format!("Index `{index}`: {message}").into();
        Error::verbatim(*status, Bytes::from(value.to_string()))
    })?;
    let mut ids = BTreeSet::new();
    for document in &documents {
        hydrate::collect(document, &key, &mut ids);
    }
    Ok(ids.into_iter().collect())
}

/// Takes what a path names out of an object.
fn without(document: &RawValue, path: &str) -> Option<Box<RawValue>> {
    let mut value: Value = serde_json::from_str(document.get()).ok()?;
    let (parents, name) = path.rsplit_once('.').unwrap_or(("", path));
    let parent = match parents {
        "" => &mut value,
        parents => value.pointer_mut(&format!("/{}", parents.replace('.', "/")))?,
    };
    parent.as_object_mut()?.shift_remove(name);
    serde_json::value::to_raw_value(&value).ok()
}

/// The documents with these ids as clients see them; nothing where there is no such document.
async fn fetch(
    resolve: &Handle,
    request: &Request,
    (field, index): (&str, &str),
    ids: BTreeSet<String>,
    others: &mut Meta,
) -> Result<HashMap<String, Box<RawValue>>, Error> {
    let how = format!("The documents that the foreign key `{field}` points to are in");
    let otherwise = format!("leave `{field}` out of `attributesToRetrieve`");
    let rule = rule(request, index, &how, &otherwise)?;
    let entry = entry(resolve, index).ok_or_else(|| Error::index_not_found(index))?;
    let nothing = serde_json::value::to_raw_value(&json!({})).map_err(Error::internal)?;
    let ids: Vec<String> = ids.into_iter().collect();
    let mut known: HashMap<_, _> = ids.iter().map(|id| (id.clone(), nothing.clone())).collect();
    let Some(key) = entry.primary_key.as_deref() else { return Ok(known) };
    let displayed = entry.overlay.get("displayedAttributes");
    let hidden = !is_displayed(displayed, key);
    let shown = displayed.and_then(Value::as_array);
    let shown: Option<Vec<String>> = shown
        .map(|list| list.iter().filter_map(Value::as_str).map(str::to_owned).collect())
        .filter(|list: &Vec<String>| !list.iter().any(|name| name == "*"));
    for ids in ids.chunks(BATCH) {
        let mut body = RawObject::default();
        body.set("ids", &ids);
        body.set("limit", &ids.len());
        if let Some(rule) = &rule {
            body.and_filter(rule);
        }
        if let Some(shown) = &shown {
            let fields: Vec<&str> = shown.iter().map(String::as_str).chain([key]).collect();
            body.set("fields", &fields);
        }
        for document in list(resolve, request, index, body, others).await? {
            let mut own = BTreeSet::new();
            hydrate::collect(&document, key, &mut own);
            let Some(id) = own.pop_first() else { continue };
            let document = if hidden { without(&document, key) } else { Some(document) };
            known.insert(id, document.unwrap_or_else(|| nothing.clone()));
        }
    }
    Ok(known)
}

/// An answer with documents in place of the ids that name them.
async fn hydrated<'a>(
    resolve: &Handle,
    request: &Request,
    mut answer: Response,
    of: impl Fn(usize) -> &'a Keys,
    others: &mut Meta,
) -> Result<Response, Error> {
    let garbage = || Error::internal("an answer of the index stage is not readable");
    let mut body = RawObject::parse(&answer.body).ok_or_else(garbage)?;
    let mut hits: Vec<Box<RawValue>> = body.read("hits").ok().flatten().ok_or_else(garbage)?;
    let mut wanted: BTreeMap<&str, (&str, BTreeSet<String>)> = BTreeMap::new();
    for (at, hit) in hits.iter().enumerate() {
        for (field, index) in of(at) {
            let mut ids = BTreeSet::new();
            hydrate::collect(hit, field, &mut ids);
            if !ids.is_empty() {
                wanted.entry(index).or_insert((field, BTreeSet::new())).1.extend(ids);
            }
        }
    }
    let mut known = HashMap::new();
    for (index, (field, ids)) in wanted {
        known.insert(index, fetch(resolve, request, (field, index), ids, others).await?);
    }
    if known.is_empty() {
        return Ok(answer);
    }
    for (at, hit) in hits.iter_mut().enumerate() {
        for (field, index) in of(at) {
            let Some(known) = known.get(index.as_str()) else { continue };
            if let Some(new) = hydrate::hydrate(hit, field, known) {
                *hit = new;
            }
            let new = formatted(hit).and_then(|own| hydrate::hydrate(&own, field, known));
            if let Some(new) = new
                && let Some(mut object) = RawObject::parse(hit.get().as_bytes())
            {
                object.set_raw("_formatted", new);
                *hit = serde_json::value::to_raw_value(&object).map_err(Error::internal)?;
            }
        }
    }
    body.set("hits", &hits);
    answer.body = body.to_bytes();
    Ok(answer)
}

fn formatted(hit: &RawValue) -> Option<Box<RawValue>> {
    RawObject::parse(hit.get().as_bytes())?.remove("_formatted")
}
