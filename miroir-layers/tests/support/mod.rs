//! Searches of one index through the whole pipeline, over nodes that answer what they are told.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use miroir_api::{IndexUid, NodeId, header};
use miroir_control::Miroir;
use miroir_core::lock::Lock;
use miroir_core::topology::Node;
use miroir_layers::leaf::FailoverLayer;
use miroir_pipeline::context::Principal;
use miroir_pipeline::http::Decode;
use miroir_pipeline::stage::{Next, from_fn};
use miroir_pipeline::{ClusterOptions, Error, Stack, node};
use miroir_store::{IndexEntry, clock, memory};
use serde_json::Value;
use tower::ServiceExt;

/// A question to a node, and the length of its answer in bytes; 0 where it failed.
pub(crate) type Asked = (Value, usize);

/// A pipeline in front of nodes that have the index `films`.
pub(crate) struct Service {
    http: Decode,
    asked: Arc<Lock<Vec<Asked>>>,
}

impl Service {
    /// One copy on each group, `groups` being those of the nodes `n0`, `n1` and so on. All nodes have
    /// these settings, and answer to searches what `answer` says of their bodies.
    pub(crate) async fn start(
        groups: &[u32],
        overlay: &[(&str, Value)],
        settings: Value,
        answer: impl Fn(&NodeId, &Value) -> Result<Value, Error> + Clone + Send + Sync + 'static,
    ) -> Self {
        let stores = memory::open();
        let mut entry = IndexEntry {
            primary_key: Some("id".to_owned()),
            ..IndexEntry::new(IndexUid::new("films").unwrap(), "films".to_owned(), 8, clock::now())
        };
        for (key, value) in overlay {
            entry.overlay.insert((*key).to_owned(), value.clone());
        }
        assert!(stores.indexes.put(entry, None).await.unwrap());
        let asked: Arc<Lock<Vec<Asked>>> = Arc::default();
        let noted = Arc::clone(&asked);
        let factory = move |node: &Node| {
            let (id, noted, settings) = (node.id.clone(), Arc::clone(&noted), settings.clone());
            let answer = answer.clone();
            let answers = from_fn(move |request: node::Request, _: Next<node::Request>| {
                let (id, noted, settings) = (id.clone(), Arc::clone(&noted), settings.clone());
                let answer = answer.clone();
                async move {
                    let (request, body) = request.into_parts();
                    let body = body.collect().await.map_err(Error::internal)?.to_bytes();
                    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
                    if request.uri.path().ends_with("/settings") {
                        return Ok(Response::new(Bytes::from(settings.to_string())));
                    }
                    let told = answer(&id, &body).map(|told| Bytes::from(told.to_string()));
                    noted.lock().push((body, told.as_ref().map_or(0, Bytes::len)));
                    told.map(Response::new)
                }
            });
            let (nobody, _) = miroir_test::mock::mock::<node::Request>();
            Stack::new().push_named("answers", answers).build(nobody)
        };
        let mut builder = Miroir::builder();
        for (at, group) in groups.iter().enumerate() {
            builder = builder.node(&format!("n{at}"), &format!("http://n{at}"), *group);
        }
        let miroir = builder
            .replication_factor(1)
            .options(ClusterOptions::default())
            .stores(stores)
            .node_stack(Arc::new(factory))
            .leaves(Stack::new().push(FailoverLayer::default()))
            .build()
            .await
            .unwrap();
        Self { http: miroir.http(Duration::from_secs(5)), asked }
    }

    /// The answer, which is complete, and what nodes were asked for it.
    pub(crate) async fn search(&self, query: &Value) -> (Value, Vec<Asked>) {
        self.ask("/indexes/films/search", query).await
    }

    /// The same of another way to search.
    pub(crate) async fn ask(&self, path: &str, query: &Value) -> (Value, Vec<Asked>) {
        self.asked.lock().clear();
        let request = Request::post(path)
            .header("content-type", "application/json")
            .extension(Principal::MasterKey)
            .body(Full::new(Bytes::from(query.to_string())))
            .unwrap();
        let answer = self.http.clone().oneshot(request).await.unwrap();
        assert_eq!(answer.status().as_u16(), 200);
        assert_eq!(answer.headers().get(header::DEGRADED), None);
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (serde_json::from_slice(&body).unwrap(), std::mem::take(&mut *self.asked.lock()))
    }
}
