//! Writes to documents: which documents go to which shards, and which deletions to which nodes.

use std::sync::Arc;

use http::Method as Verb;
use miroir_api::meili::{ApiError, TaskKind};
use serde_json::{Value, json};

use super::document_tasks::{About, decided, finish, new_task, touch};
use super::order::{Added, Lookup, OrderChange};
use super::plan::Batch;
use super::{Scatter, combine, deletion};
use crate::cluster::settings::IndexSettings;
use crate::error::Error;
use crate::index::{Method, Request, Response, Write};
use crate::node::Call;
use miroir_core::documents::{self, Arrivals, Checks, RawDocument};
use miroir_core::routing::{ShardSet, shard_of};
use miroir_store::{IndexEntry, NewTask, TaskState};

/// Makes a write: plans it, and plans it anew where the index or its placement has changed before
/// its turn in the lane came.
pub(super) async fn run(
    scatter: Scatter,
    mut request: Request,
    write: Write,
    metadata: Option<String>,
) -> Result<Response, Error> {
    loop {
        let planned = once(scatter.clone(), request.clone(), write.clone(), metadata.clone()).await;
        match planned {
            Err(error) if error.is_outdated() => {
                let name = request.index.name.as_str();
                let now = scatter.state.catalog.current(&request.index);
                let now = now.filter(|now| now.name == request.index.name);
                request.index = now.ok_or_else(|| Error::index_not_found(name))?;
                request.topology = scatter.state.membership.topology();
                request.stale = scatter.state.staleness.load();
            }
            outcome => return outcome,
        }
    }
}

async fn once(
    scatter: Scatter,
    request: Request,
    write: Write,
    metadata: Option<String>,
) -> Result<Response, Error> {
    if let Some(why) = &request.index.frozen {
        return Err(Error::api(
            "miroir_index_frozen",
            format!("Index `{}` takes no writes: {why}", request.index.name),
        ));
    }
    match write {
        Write::Add { method, documents, primary_key, skip_creation } => {
            add(scatter, request, method, documents, primary_key, skip_creation, metadata).await
        }
        Write::Edit(edit) => super::edit::run(scatter, request, edit, metadata).await,
        Write::Delete(deletion) => deletion::run(scatter, request, deletion, metadata).await,
    }
}

/// Decides the primary key and checks the whole payload. The inner error fails the task.
fn prepare(
    index: &IndexEntry,
    settings: &IndexSettings,
    documents: &[RawDocument],
    method: Method,
    given: Option<&str>,
) -> Result<(String, documents::Prepared), ApiError> {
    let key = match (&index.primary_key, given) {
        (Some(known), Some(given)) if known != given => {
            return Err(ApiError::new(
                "index_primary_key_already_exists",
                format!("Index already has a primary key: `{known}`."),
            ));
        }
        (Some(known), _) => known.clone(),
        (None, Some(given)) => given.to_owned(),
        (None, None) => documents::infer(&documents[0]).into_result()?,
    };
    let checks = Checks {
        index: index.name.as_str(),
        method: match method {
            Method::Replace => documents::Method::Replace,
            Method::Update => documents::Method::Update,
        },
        geo: settings.geo,
        geojson: settings.geojson,
        embedders: &settings.embedders,
    };
    let shards = index.shards;
    let prepared =
        documents::prepare(documents.to_vec(), &key, &checks, |id| shard_of(id, shards))?;
    Ok((key, prepared))
}

async fn add(
    scatter: Scatter,
    request: Request,
    method: Method,
    documents: Arc<Vec<RawDocument>>,
    given: Option<String>,
    skip_creation: bool,
    metadata: Option<String>,
) -> Result<Response, Error> {
    let received = documents.len() as u64;
    let task = |indexed: Value| {
        let fields = json!({"receivedDocuments": received, "indexedDocuments": indexed});
        new_task(&request, TaskKind::DocumentAdditionOrUpdate, metadata.clone(), fields)
    };
    if documents.is_empty() {
        return decided(&scatter, task(json!(0)), Ok(()), &request.cx).await;
    }
    let index = Arc::clone(&request.index);
    let settings = scatter.state.settings.get(&index, &request.cx).await?;
    let (entry, docs, wanted) = (Arc::clone(&index), Arc::clone(&documents), given.clone());
    let known = Arc::clone(&settings);
    let work = move || prepare(&entry, &known, &docs, method, wanted.as_deref());
    // Large payloads would hold up everybody else on this thread.
    let result = if documents.len() > 256 {
        tokio::task::spawn_blocking(work).await.map_err(Error::internal)?
    } else {
        work()
    };
    let (key, prepared) = match result {
        Ok(done) => done,
        Err(error) => {
            let task = task(json!(0));
            return decided(&scatter, task, Err(error), &request.cx).await;
        }
    };
    let id_case = prepared.id_case.with(index.id_case);
    let known = index.primary_key.as_ref() == Some(&key) && index.id_case == id_case;
    let teaches = (!known).then(|| (key.clone(), id_case));
    let mut task = task(Value::Null);
    // Known now, shown when the task is done.
    task.protocol = TaskState::Addition { indexed: prepared.unique_ids }.into();
    let mut addition = Addition { method, skip_creation, key, prepared, task };
    if teaches.is_none() && combine::may_wait(&scatter, &request, &settings, &addition) {
        addition = match combine::send(&scatter, &request, addition).await {
            combine::Sent::Made(outcome) => return Ok(outcome?.into_response()),
            combine::Sent::Alone(addition) => *addition,
        };
    }
    let (about, batches) = calls(&scatter, &request, &addition);
    let about = About { teaches, ..about };
    finish(scatter, request, about, batches, addition.task).await
}

/// Bytes that a document of a node has besides the client's, at most.
const RESERVED_BYTES: usize = 128;

/// Documents that were checked, and what is to be done with them.
#[derive(Clone, Debug)]
pub(super) struct Addition {
    pub(super) method: Method,
    /// Whether documents of unknown ids are left out.
    pub(super) skip_creation: bool,
    /// The primary key.
    pub(super) key: String,
    pub(super) prepared: documents::Prepared,
    /// Its task, but for what is known when it is sent.
    pub(super) task: NewTask,
}

impl Addition {
    /// The shards that the documents belong to.
    pub(super) fn touched(&self, shards: u32) -> ShardSet {
        ShardSet::from_iter(self.prepared.documents.iter().map(|document| document.shard), shards)
    }

    /// Bytes of a node's call with all of it, at most.
    pub(super) fn bytes(&self) -> usize {
        let sizes = self.prepared.documents.iter().map(|document| document.document.bytes.len());
        sizes.map(|bytes| bytes + RESERVED_BYTES).sum()
    }
}

/// What nodes are told of an addition, and what it is about.
pub(super) fn calls(
    scatter: &Scatter,
    request: &Request,
    addition: &Addition,
) -> (About, Vec<Batch>) {
    let (state, index) = (&scatter.state, &request.index);
    let Addition { method, skip_creation, key, prepared, .. } = addition;
    let mut query = format!("?primaryKey={}", crate::query::encode(key));
    if *skip_creation {
        query.push_str("&skipCreation=true");
    }
    let verb = if *method == Method::Replace { Verb::POST } else { Verb::PUT };
    let path = format!("/indexes/{}/documents{query}", index.physical);
    let touched = addition.touched(index.shards);
    let placement = request.topology.placement(index.shards);
    let stamped = state.options.document_order.enabled;
    let ids = || prepared.documents.iter().map(|document| document.id.as_str());
    let lookup =
        stamped.then(|| Lookup::new(scatter, request, index, ids().map(str::to_owned).collect()));
    let (mut batches, mut slots) = (Vec::new(), Vec::new());
    for node in request.topology.nodes() {
        let shards = placement.owned_by(&node.id).intersection(&touched);
        if shards.is_empty() {
            continue;
        }
        let most = state.options.scatter.node_body_bytes;
        let owned = |shard| shards.contains(shard);
        let bodies = documents::payloads_for(prepared, index.shards, &[], stamped, most, owned);
        let call = |body| Call::change(verb.clone(), "documents_post", path.clone()).json(body);
        let (mut calls, mut parts, mut places) = (Vec::new(), Vec::new(), Vec::new());
        for body in bodies {
            calls.push(call(body.bytes));
            parts.push(ShardSet::from_iter(body.shards, index.shards));
            places.push(body.slots);
        }
        slots.push(places);
        let parts = if calls.len() > 1 { parts } else { Vec::new() };
        batches.push(Batch { node: node.id.clone(), shards, calls, parts });
    }
    let blind = *method == Method::Replace && !skip_creation;
    let touch = touch(state, index, ids(), blind);
    let order = lookup.map(|lookup| {
        let ids = ids().map(Arrivals::hash).collect();
        OrderChange::Added(Added { ids, lookup, creates: !skip_creation, slots })
    });
    (About { shards: touched, touch, teaches: None, order }, batches)
}
