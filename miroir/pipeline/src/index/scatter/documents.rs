//! Writes to documents: which of the ways a write takes, and the check of what is added.

use std::sync::Arc;

use miroir_api::meili::{ApiError, TaskKind};
use serde_json::{Value, json};

use super::addition::{Addition, calls};
use super::document_tasks::{About, decided, finish, new_task};
use super::{Scatter, combine, deletion};
use crate::cluster::settings::IndexSettings;
use crate::error::Error;
use crate::index::{Method, Request, Response, Write};
use miroir_core::documents::{self, Checks, RawDocument};
use miroir_core::routing::shard_of;
use miroir_store::{IndexEntry, TaskState};

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
            let adding =
                add(scatter, request, method, documents, primary_key, skip_creation, metadata);
            Box::pin(adding).await
        }
        Write::Edit(edit) => Box::pin(super::edit::run(scatter, request, edit, metadata)).await,
        Write::Delete(deletion) => {
            Box::pin(deletion::run(scatter, request, deletion, metadata)).await
        }
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
