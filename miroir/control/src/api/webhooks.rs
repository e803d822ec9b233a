//! `/webhooks`: where Miroir tells of finished tasks.
//!
//! Nodes know nothing of these: what they would tell has their own uids and their part of a task.
//! Sending is the server's business; [`news`] is what it sends.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use miroir_api::TaskUid;
use serde_json::{Value, json};
use url::Url;
use uuid::Uuid;

use crate::api::Control;
use crate::api::tasks;
use crate::secrets::masked;
use miroir_pipeline::cluster::ClusterState;
use miroir_pipeline::error::Error;
use miroir_pipeline::operation::{Request, Response, WebhookOp};
use miroir_pipeline::query::RawObject;
use miroir_store::{StoreError, Webhook};

/// Most webhooks, as on one node.
const MOST: usize = 20;
/// Most headers of one, as on one node.
const MOST_HEADERS: usize = 200;

fn view(hook: &Webhook) -> Value {
    let headers = hook.headers.iter().map(|(name, value)| {
        let secret = name.eq_ignore_ascii_case("authorization");
        let from = if value.starts_with("Bearer ") { "Bearer ".len() } else { 0 };
        let shown = if secret { masked(value, from) } else { value.clone() };
        (name.as_str(), shown)
    });
    let headers: BTreeMap<&str, String> = headers.collect();
    json!({"uuid": hook.uuid, "isEditable": true, "url": hook.url, "headers": headers})
}

/// A body of `POST` and `PATCH`: absent, `null` and a value are three things.
#[derive(Debug, Default)]
struct Wanted {
    url: Option<Option<String>>,
    headers: Option<Option<BTreeMap<String, Option<String>>>>,
}

impl Wanted {
    /// `None` for what a node has to comment on.
    fn read(request: &Request) -> Option<Self> {
        let body =
            RawObject::parse(&request.original.body).filter(|_| request.original.is_json())?;
        let mut out = Self::default();
        for key in body.keys() {
            match key {
                "url" => out.url = Some(body.read(key).ok()?),
                "headers" => out.headers = Some(body.read(key).ok()?),
                _ => return None,
            }
        }
        Some(out)
    }
}

fn missing_url(uuid: Uuid) -> Error {
    Error::api("invalid_webhook_url", format!("The URL for the webhook `{uuid}` is missing."))
}

fn too_many_headers(uuid: Uuid) -> Error {
    Error::api(
        "invalid_webhook_headers",
        format!(
            "Too many headers for the webhook `{uuid}`. Please limit the number of headers to 200. \
             Hint: To remove an already defined header set its value to `null`"
        ),
    )
}

fn too_many() -> Error {
    Error::api(
        "invalid_webhooks",
        "Defining too many webhooks would crush the server. Please limit the number of webhooks to \
         20. You may use a third-party proxy server to dispatch events to more than 20 endpoints.",
    )
}

fn not_found(uuid: Uuid) -> Error {
    Error::api("webhook_not_found", format!("Webhook `{uuid}` not found."))
}

/// Checks a webhook in a node's order.
fn check(hook: &Webhook) -> Result<(), Error> {
    if hook.url.is_empty() {
        return Err(missing_url(hook.uuid));
    }
    if hook.headers.len() > MOST_HEADERS {
        return Err(too_many_headers(hook.uuid));
    }
    for (name, value) in &hook.headers {
        let wrong = |what, text: &str, why: String| {
            Error::api("invalid_webhook_headers", format!("Invalid header {what} `{text}`: {why}"))
        };
        HeaderName::from_bytes(name.as_bytes()).map_err(|e| wrong("name", name, e.to_string()))?;
        HeaderValue::from_str(value).map_err(|e| wrong("value", value, e.to_string()))?;
    }
    if let Err(error) = Url::parse(&hook.url) {
        let text = format!("Invalid URL `{}`: {error}", hook.url);
        return Err(Error::api("invalid_webhook_url", text));
    }
    Ok(())
}

fn create(uuid: Uuid, wanted: Wanted, known: usize) -> Result<Webhook, Error> {
    let headers = wanted.headers.flatten().unwrap_or_default();
    if headers.len() > MOST_HEADERS {
        return Err(too_many_headers(uuid));
    }
    if known >= MOST {
        return Err(too_many());
    }
    let url = wanted.url.flatten().ok_or_else(|| missing_url(uuid))?;
    let headers = headers.into_iter().map(|(name, value)| (name, value.unwrap_or_default()));
    let hook = Webhook { uuid, url, headers: headers.collect() };
    check(&hook)?;
    Ok(hook)
}

fn change(mut hook: Webhook, wanted: Wanted) -> Result<Webhook, Error> {
    match wanted.url {
        Some(Some(url)) => hook.url = url,
        Some(None) => return Err(missing_url(hook.uuid)),
        None => {}
    }
    match wanted.headers {
        Some(Some(headers)) => {
            for (name, value) in headers {
                match value {
                    Some(value) => hook.headers.insert(name, value),
                    None => hook.headers.remove(&name),
                };
            }
        }
        Some(None) => hook.headers.clear(),
        None => {}
    }
    check(&hook)?;
    Ok(hook)
}

impl Control {
    pub(crate) async fn webhook_op(
        &self,
        request: &Request,
        op: WebhookOp,
    ) -> Result<Response, Error> {
        let store = &self.state.stores.webhooks;
        match op {
            WebhookOp::List => {
                let hooks: Vec<Value> = store.list().await?.iter().map(view).collect();
                Ok(Response::ok(&json!({"results": hooks})))
            }
            WebhookOp::Create => {
                let wanted = self.wanted(request).await?;
                let hook = create(Uuid::new_v4(), wanted, store.list().await?.len())?;
                if !store.put(hook.clone(), MOST).await? {
                    return Err(too_many());
                }
                self.state.outbox.want(true);
                Ok(Response::json(StatusCode::CREATED, &view(&hook)))
            }
            WebhookOp::Get(name) => {
                let uuid = self.uuid(request, &name).await?;
                Ok(Response::ok(&view(&self.hook(uuid).await?)))
            }
            WebhookOp::Update(name) => {
                let wanted = self.wanted(request).await?;
                let uuid = self.editable(request, &name).await?;
                let hook = change(self.hook(uuid).await?, wanted)?;
                store.put(hook.clone(), MOST).await?;
                Ok(Response::ok(&view(&hook)))
            }
            WebhookOp::Delete(name) => {
                let uuid = self.editable(request, &name).await?;
                if !store.delete(uuid).await? {
                    return Err(not_found(uuid));
                }
                self.state.outbox.want(!store.list().await?.is_empty());
                let meta = miroir_pipeline::meta::Meta::default();
                Ok(Response { status: StatusCode::NO_CONTENT, body: Bytes::new(), meta })
            }
        }
    }

    async fn wanted(&self, request: &Request) -> Result<Wanted, Error> {
        match Wanted::read(request) {
            Some(wanted) => Ok(wanted),
            None => Err(self.refusal(request, "").await),
        }
    }

    async fn uuid(&self, request: &Request, name: &str) -> Result<Uuid, Error> {
        match name.parse() {
            Ok(uuid) => Ok(uuid),
            Err(_) => Err(self.refusal(request, "").await),
        }
    }

    /// The nil uuid is that of a webhook from a command line, which Miroir has none of.
    async fn editable(&self, request: &Request, name: &str) -> Result<Uuid, Error> {
        let uuid = self.uuid(request, name).await?;
        if uuid.is_nil() {
            return Err(Error::api(
                "immutable_webhook",
                format!(
                    "Webhook `{uuid}` is immutable. The webhook defined from the command line \
                     cannot be modified using the API."
                ),
            ));
        }
        Ok(uuid)
    }

    async fn hook(&self, uuid: Uuid) -> Result<Webhook, Error> {
        let hooks = self.state.stores.webhooks.list().await?;
        hooks.into_iter().find(|hook| hook.uuid == uuid).ok_or_else(|| not_found(uuid))
    }
}

/// Waits for tasks to finish, and answers them as NDJSON and who is to be told.
///
/// # Errors
/// When the store fails; what was to be told is lost then.
pub async fn news(state: &Arc<ClusterState>) -> Result<(Vec<Webhook>, Bytes), StoreError> {
    let uids: Vec<TaskUid> = state.outbox.take().await;
    let hooks = state.stores.webhooks.list().await?;
    let mut lines = Vec::new();
    for uid in uids {
        let Some(record) = state.stores.tasks.get(uid).await? else { continue };
        if serde_json::to_writer(&mut lines, &tasks::view(&record, false)).is_ok() {
            lines.push(b'\n');
        }
    }
    Ok((hooks, lines.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(body: &str) -> Wanted {
        let object = RawObject::parse(body.as_bytes()).unwrap();
        let mut out = Wanted::default();
        for key in object.keys() {
            match key {
                "url" => out.url = Some(object.read(key).unwrap()),
                _ => out.headers = Some(object.read(key).unwrap()),
            }
        }
        out
    }

    fn message(result: Result<Webhook, Error>) -> String {
        let text = result.unwrap_err().render().1.unwrap();
        let value: Value = serde_json::from_slice(&text).unwrap();
        format!("{} {}", value["code"].as_str().unwrap(), value["message"].as_str().unwrap())
    }

    #[test]
    fn what_is_wrong_is_said_as_a_node_says_it() {
        let uuid = Uuid::nil();
        let missing = format!("invalid_webhook_url The URL for the webhook `{uuid}` is missing.");
        assert_eq!(message(create(uuid, wanted("{}"), 0)), missing);
        assert_eq!(message(create(uuid, wanted(r#"{"url": ""}"#), 0)), missing);
        assert_eq!(
            message(create(uuid, wanted(r#"{"url": "nope"}"#), 0)),
            "invalid_webhook_url Invalid URL `nope`: relative URL without a base"
        );
        let named = r#"{"url": "http://a/", "headers": {"bad header": "x"}}"#;
        assert_eq!(
            message(create(uuid, wanted(named), 0)),
            "invalid_webhook_headers Invalid header name `bad header`: invalid HTTP header name"
        );
        assert!(message(create(uuid, wanted("{}"), MOST)).starts_with("invalid_webhooks "));
    }

    #[test]
    fn a_change_keeps_what_it_does_not_name() {
        let body = r#"{"url": "http://a/", "headers": {"a": "1", "b": null}}"#;
        let hook = create(Uuid::from_u128(1), wanted(body), 0).unwrap();
        assert_eq!(hook.headers["b"], "");
        let hook = change(hook, wanted(r#"{"headers": {"a": null, "c": "3"}}"#)).unwrap();
        assert_eq!(hook.url, "http://a/");
        assert_eq!(hook.headers.keys().collect::<Vec<_>>(), ["b", "c"]);
        let hook = change(hook, wanted(r#"{"headers": null}"#)).unwrap();
        assert!(hook.headers.is_empty());
        assert!(change(hook, wanted(r#"{"url": null}"#)).is_err());
    }

    #[test]
    fn secrets_are_cut_short() {
        let headers = [("AUTHORIZATION".to_owned(), "0123456789".to_owned())].into();
        let hook = Webhook { uuid: Uuid::nil(), url: "http://a/".to_owned(), headers };
        assert_eq!(view(&hook)["headers"]["AUTHORIZATION"], "01XXXX...");
    }
}
