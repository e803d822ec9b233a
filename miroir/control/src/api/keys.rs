//! API keys, and what a limited key or a tenant token sees of tasks.

use http::StatusCode;
use miroir_api::meili::ApiError;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::api::Control;
use miroir_core::keys::{MasterKey, request};
use miroir_pipeline::context::Context;
use miroir_pipeline::error::Error;
use miroir_pipeline::operation::{KeyOp, Request, Response};
use miroir_pipeline::query::ClientRequest;
use miroir_store::clock;
use miroir_store::{Part, StoreError, TaskPage, TaskQuery, TaskRecord};

fn not_found(key: &str) -> Error {
    Error::api("api_key_not_found", format!("API key `{key}` not found."))
}

/// The refusal of an index that is named in a body, in Meilisearch's words.
pub(crate) fn forbidden() -> Error {
    Error::client(ApiError::new("invalid_api_key", "The provided API key is invalid."))
}

/// Writes down which key a change was about; the edge writes who made it, under the same request id.
fn audit(cx: &Context, uid: Uuid, what: &'static str) {
    tracing::info!(target: "miroir::audit", key = %uid, request_id = &*cx.request_id, "{what}");
}

/// Whether a task may be seen: what is not about one index, and what is about another one's index,
/// is not there for a limited key.
pub(crate) fn is_visible(cx: &Context, task: &TaskRecord) -> bool {
    cx.scope.is_everything() || task.index.as_deref().is_some_and(|name| cx.scope.sees(name))
}

impl Control {
    pub(crate) async fn key_op(&self, request: &Request, op: KeyOp) -> Result<Response, Error> {
        let Some(master) = self.state.keyring.master().cloned() else {
            return Err(Error::api(
                "missing_master_key",
                "Meilisearch is running without a master key. To access this API endpoint, you \
                 must have set a master key at launch.",
            ));
        };
        let ring = &self.state.keyring;
        match op {
            KeyOp::List => self.list_keys(request, &master).await,
            KeyOp::Create => {
                let body = self.json(request).await?;
                let now = clock::now();
                let new = request::create(&body, now).map_err(Error::client)?;
                let key = new.into_key(Uuid::new_v4(), now);
                let inserted = ring.insert(key.clone()).await?;
                self.state.leadership.publish_and_wait(&[Part::Keys]).await?;
                if !inserted {
                    return Err(Error::api(
                        "api_key_already_exists",
                        format!("`uid` field value `{}` is already an existing API key.", key.uid),
                    ));
                }
                audit(&request.cx, key.uid, "an API key was made");
                Ok(Response::json(StatusCode::CREATED, &key.view(&master)))
            }
            KeyOp::Get(name) => {
                let uid = self.key_uid(&name)?;
                let key = ring.get(uid).ok_or_else(|| not_found(&uid.to_string()))?;
                Ok(Response::ok(&key.view(&master)))
            }
            KeyOp::Update(name) => {
                let change = request::change(&self.json(request).await?).map_err(Error::client)?;
                let uid = self.key_uid(&name)?;
                let key = ring.update(uid, change).await?;
                self.state.leadership.publish_and_wait(&[Part::Keys]).await?;
                let key = key.ok_or_else(|| not_found(&uid.to_string()))?;
                audit(&request.cx, uid, "an API key was renamed");
                Ok(Response::ok(&key.view(&master)))
            }
            KeyOp::Delete(name) => {
                let uid = self.key_uid(&name)?;
                let deleted = ring.delete(uid).await?;
                self.state.leadership.publish_and_wait(&[Part::Keys]).await?;
                if !deleted {
                    return Err(not_found(&uid.to_string()));
                }
                audit(&request.cx, uid, "an API key was deleted");
                let body = bytes::Bytes::new();
                Ok(Response { status: StatusCode::NO_CONTENT, body, meta: Default::default() })
            }
        }
    }

    /// The uid of a key that is named by its uid or by itself.
    fn key_uid(&self, name: &str) -> Result<Uuid, Error> {
        let uid = Uuid::parse_str(name).ok().or_else(|| self.state.keyring.find(name));
        uid.ok_or_else(|| not_found(name))
    }

    /// The body as JSON. What cannot be read as JSON makes no key on a node either, so a node says
    /// what is wrong with it.
    async fn json(&self, request: &Request) -> Result<Value, Error> {
        let parsed = serde_json::from_slice(&request.original.body).ok();
        match parsed.filter(|_| request.original.is_json()) {
            Some(value) => Ok(value),
            None => {
                // Not under a client's key: the path would show it to the node.
                let post = request.original.method == http::Method::POST;
                let path = if post { "/keys" } else { "/keys/miroir-nowhere" };
                let original =
                    ClientRequest { path: path.to_owned(), ..(*request.original).clone() };
                let request = request.clone().with_original(original);
                Err(self.refusal(&request, "").await)
            }
        }
    }

    async fn list_keys(&self, request: &Request, master: &MasterKey) -> Result<Response, Error> {
        let (mut offset, mut limit) = (None, None);
        let query = request.original.query.as_deref().unwrap_or_default();
        for (key, value) in miroir_pipeline::query::query_pairs(query) {
            let slot = match key.as_str() {
                "offset" => &mut offset,
                "limit" => &mut limit,
                _ => return Err(self.refusal(request, "").await),
            };
            match value.parse::<usize>() {
                Ok(number) if slot.is_none() => *slot = Some(number),
                _ => return Err(self.refusal(request, "").await),
            }
        }
        let (offset, limit) = (offset.unwrap_or(0), limit.unwrap_or(20));
        let keys = self.state.keyring.list().await?;
        let page: Vec<_> = keys.iter().skip(offset).take(limit).map(|k| k.view(master)).collect();
        Ok(Response::ok(&json!({
            "results": page, "offset": offset, "limit": limit, "total": keys.len(),
        })))
    }

    /// A page of the tasks that the caller may see. `total` counts what matches the query, seen or
    /// not, as on a node.
    pub(crate) async fn visible_tasks(
        &self,
        cx: &Context,
        query: TaskQuery,
    ) -> Result<TaskPage, StoreError> {
        if cx.scope.is_everything() {
            return self.task_page(query).await;
        }
        let all = TaskQuery { limit: 0, from: None, ..query.clone() };
        let total = self.task_page(all).await?.total;
        let page = self.task_page(self.only_visible(cx, query).await?).await?;
        Ok(TaskPage { total, ..page })
    }

    /// A query that matches nothing the caller may not see.
    pub(crate) async fn only_visible(
        &self,
        cx: &Context,
        mut query: TaskQuery,
    ) -> Result<TaskQuery, StoreError> {
        if cx.scope.is_everything() {
            return Ok(query);
        }
        let mut names: std::collections::BTreeSet<String> = match query.indexes.take() {
            Some(names) => names,
            None => self.state.stores.tasks.index_names().await?.into_iter().collect(),
        };
        names.retain(|name| cx.scope.sees(name));
        query.indexes = Some(names);
        Ok(query)
    }
}
