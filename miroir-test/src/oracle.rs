//! One plain Meilisearch beside a cluster: what it shows after the same requests in the same order.

use http::Method;
use miroir_api::NodeId;
use serde_json::{Map, Value, json};

use crate::cluster::SimCluster;
use crate::node::FakeNode;

/// Settings that are compared.
const SETTINGS: [&str; 4] =
    ["displayedAttributes", "searchableAttributes", "filterableAttributes", "stopWords"];

/// A plain node that clients could have used instead.
#[derive(Debug)]
pub struct Oracle(FakeNode);

impl Default for Oracle {
    fn default() -> Self {
        Self(FakeNode::new(NodeId::new("plain").expect("a valid id"), 0))
    }
}

/// What of an index a client can see: `null` if there is none.
fn seen(index: &Value, settings: &Value, documents: &[Value]) -> Value {
    let mut documents: Vec<Value> = documents.iter().map(plain).collect();
    documents.sort_by_key(Value::to_string);
    let settings: Map<String, Value> =
        SETTINGS.iter().map(|name| ((*name).to_owned(), settings[name].clone())).collect();
    json!({"primaryKey": index["primaryKey"], "settings": settings, "documents": documents})
}

/// A document without what describes it.
fn plain(document: &Value) -> Value {
    let fields = document.as_object().into_iter().flatten();
    let own = fields.filter(|(name, _)| !name.starts_with('_'));
    Value::Object(own.map(|(name, value)| (name.clone(), value.clone())).collect())
}

impl Oracle {
    /// The node does what a client asked for, at once: the status of the task.
    pub fn does(&self, method: &Method, path: &str, body: &Value) -> String {
        let (status, answer) = self.0.foreign(method.clone(), path, body);
        if !status.is_success() {
            return format!("refused: {answer}");
        }
        self.0.finish();
        let path = format!("/tasks/{}", answer["taskUid"]);
        let task = self.0.foreign(Method::GET, &path, &Value::Null).1;
        task["status"].as_str().unwrap_or_default().to_owned()
    }

    /// What the node shows of an index.
    pub fn shows(&self, name: &str) -> Value {
        let get = |path: String| self.0.foreign(Method::GET, &path, &Value::Null);
        let (status, index) = get(format!("/indexes/{name}"));
        if !status.is_success() {
            return Value::Null;
        }
        let settings = get(format!("/indexes/{name}/settings")).1;
        let all = json!({"limit": 1000});
        let path = format!("/indexes/{name}/documents/fetch");
        let found = self.0.foreign(Method::POST, &path, &all).1;
        seen(&index, &settings, found["results"].as_array().map(Vec::as_slice).unwrap_or_default())
    }
}

/// What a cluster shows of an index. `Err` if it says that it does not show all, or cannot.
///
/// # Errors
/// The answer.
pub async fn shown(cluster: &SimCluster, name: &str) -> Result<Value, String> {
    let get = async |path: String| {
        let answer = cluster.request(Method::GET, &path, None).await;
        if answer.complete() { Ok(answer.body) } else { Err(answer) }
    };
    let index = match get(format!("/indexes/{name}")).await {
        Ok(index) => index,
        Err(answer) if answer.code() == "index_not_found" => return Ok(Value::Null),
        Err(answer) => return Err(format!("{answer:?}")),
    };
    let settings = get(format!("/indexes/{name}/settings")).await;
    let settings = settings.map_err(|answer| format!("{answer:?}"))?;
    // Whole documents: which attributes a search shows is the business of a layer.
    let path = format!("/indexes/{name}/documents/fetch");
    let found = cluster.request(Method::POST, &path, Some(json!({"limit": 1000}))).await;
    match found.body["results"].as_array().filter(|_| found.complete()) {
        Some(documents) => Ok(seen(&index, &settings, documents)),
        None => Err(format!("{found:?}")),
    }
}
