//! The planner in a whole pipeline, over six nodes that note what they are asked.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Response};
use http_body_util::Full;
use miroir_control::Miroir;
use miroir_core::topology::Node;
use miroir_pipeline::context::Principal;
use miroir_pipeline::stage::BoxService;
use miroir_pipeline::{Stack, node};
use miroir_store::memory;
use tower::ServiceExt;

use super::super::QueryPlannerLayer;
use crate::fixtures::entry;

const SHARDS: u32 = 64;

/// Nodes by path.
type Calls = Arc<Mutex<Vec<(String, String)>>>;

fn note(calls: &Calls, id: &str) -> BoxService<node::Request> {
    let (calls, id) = (Arc::clone(calls), id.to_owned());
    BoxService::new(tower::service_fn(move |request: node::Request| {
        let path = request.uri().path().to_owned();
        let body: &[u8] = match path.rsplit('/').next().unwrap_or_default() {
            "search" => {
                b"{\"hits\":[],\"query\":\"\",\"processingTimeMs\":0,\"limit\":20,\
                          \"offset\":0,\"estimatedTotalHits\":0}"
            }
            "fetch" => b"{\"results\":[],\"offset\":0,\"limit\":20,\"total\":0}",
            "facet-search" => b"{\"facetHits\":[],\"facetQuery\":null,\"processingTimeMs\":0}",
            "multi-search" => {
                b"{\"hits\":[],\"processingTimeMs\":0,\"limit\":20,\"offset\":0,\
                                \"estimatedTotalHits\":0}"
            }
            _ => b"{}",
        };
        calls.lock().unwrap().push((path, id.clone()));
        std::future::ready(Ok(Response::new(Bytes::from_static(body))))
    }))
}

async fn six(calls: &Calls) -> Miroir {
    let stores = memory::open();
    stores.indexes.put(entry("a", SHARDS), None).await.unwrap();
    let calls = Arc::clone(calls);
    let mut builder = Miroir::builder()
        .stores(stores)
        .node_stack(Arc::new(move |node: &Node| {
            Stack::<node::Request>::new().build(note(&calls, node.id.as_str()))
        }))
        .indexes(Stack::new().push(QueryPlannerLayer::default()));
    for at in 0..6 {
        builder = builder.node(&format!("n{at}"), &format!("http://n{at}"), 0);
    }
    builder.build().await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_pinned_filter_asks_one_node_of_six() {
    let calls = Calls::default();
    let miroir = six(&calls).await;
    let service = miroir.http(Duration::from_secs(30));
    let pinned = "\"filter\":\"id = 7 AND color = red\"";
    let open = "\"filter\":\"color = red\"";
    let one = |path: &'static str, body: &str, filter: &str| {
        (path, format!("{{{body}{filter}}}"), path.rsplit('/').next().unwrap())
    };
    let several = |filter: &str, federation: &str| {
        let query = format!("{{\"indexUid\":\"a\",{filter}}}");
        format!("{{{federation}\"queries\":[{query},{query}]}}")
    };
    for (filter, nodes) in [(pinned, 1), (open, 6)] {
        for (path, body, asked) in [
            one("/indexes/a/search", "\"q\":\"x\",", filter),
            one("/indexes/a/documents/fetch", "", filter),
            one("/indexes/a/facet-search", "\"facetName\":\"color\",", filter),
            ("/multi-search", several(filter, ""), "search"),
            ("/multi-search", several(filter, "\"federation\":{},"), "search"),
            // What both queries find together is counted by nodes too.
            ("/multi-search", several(filter, "\"federation\":{},"), "multi-search"),
        ] {
            calls.lock().unwrap().clear();
            let mut request = http::Request::builder()
                .method(Method::POST)
                .uri(path)
                .header(http::header::CONTENT_TYPE, "application/json")
                .body(Full::new(Bytes::from(body.clone())))
                .unwrap();
            request.extensions_mut().insert(Principal::MasterKey);
            let answer = service.clone().oneshot(request).await.unwrap();
            assert_eq!(answer.status(), 200, "{path} {body}");
            let calls = calls.lock().unwrap();
            let wanted = calls.iter().filter(|(path, _)| path.rsplit('/').next() == Some(asked));
            let asked: BTreeSet<_> = wanted.map(|(_, id)| id.as_str()).collect();
            assert_eq!(asked.len(), nodes, "{path} {body}: {calls:?}");
        }
    }
}
