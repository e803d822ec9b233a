//! Deletions of documents: by id, by filter, all.

use std::sync::Arc;

use http::Method as Verb;
use miroir_api::ShardId;
use miroir_api::meili::TaskKind;
use serde_json::json;

use super::Scatter;
use super::disjoint_counts::counted;
use super::document_tasks::{About, compact, decided, finish, new_task, touch};
use super::filter_settings;
use super::order::OrderChange;
use crate::error::Error;
use crate::index::{Deletion, Request, Response};
use crate::leaf::narrow;
use crate::node::Call;
use crate::node_errors;
use miroir_core::copying::Touch;
use miroir_core::routing::{ShardSet, shard_of};

/// A call that deletes what a filter, as JSON, lets through.
fn by_filter(base: &str, filter: &[u8]) -> Call {
    let mut body = b"{\"filter\":".to_vec();
    body.extend_from_slice(filter);
    body.push(b'}');
    Call::change(Verb::POST, "documents_delete", format!("{base}/delete")).json(body)
}

/// Ids in order, in lists that are at most `most` bytes as JSON. An id is short and needs no escaping.
fn lists<'a>(ids: &'a [&'a str], most: usize) -> impl Iterator<Item = &'a [&'a str]> {
    let mut rest = ids;
    std::iter::from_fn(move || {
        let mut bytes = 2;
        let fits = |id: &&&str| {
            bytes += id.len() + 3;
            bytes <= most
        };
        let count = rest.iter().take_while(fits).count().max(1).min(rest.len());
        let (list, left) = rest.split_at(count);
        rest = left;
        (!list.is_empty()).then_some(list)
    })
}

pub(super) async fn run(
    scatter: Scatter,
    request: Request,
    deletion: Deletion,
    metadata: Option<String>,
) -> Result<Response, Error> {
    let index = Arc::clone(&request.index);
    let base = format!("/indexes/{}/documents", index.physical);
    let task = |fields| new_task(&request, TaskKind::DocumentDeletion, metadata.clone(), fields);
    let by_id = |provided: usize| json!({"providedIds": provided, "deletedDocuments": null, "originalFilter": null});
    let (touched, touch, order, batches, task) = match deletion {
        Deletion::All => {
            let touched = ShardSet::full(index.shards);
            let batches = counted(&scatter.state, &request, &touched, |shards, part| {
                vec![if part {
                    by_filter(&base, &narrow(None, shards, index.shards))
                } else {
                    Call::change(Verb::DELETE, "documents_clear", base.clone())
                }]
            });
            (
                touched,
                Touch::Any,
                Some(OrderChange::Emptied),
                batches,
                task(json!({"deletedDocuments": null})),
            )
        }
        Deletion::Filter(filter) => {
            // A body that no node would take must not reach some of them: an index that does not
            // exist checks it without effect.
            let mut probe = request.original.to_node_call(node_errors::nowhere());
            node_errors::hide(&mut probe);
            if let Err(error) = scatter.state.nodes.call_any(&probe, &request.cx).await {
                let error = node_errors::scrub(error, &node_errors::placeholder());
                return Err(node_errors::scrub(error, &index));
            }
            let fields = json!({
                "providedIds": 0, "deletedDocuments": null, "originalFilter": compact(&filter),
            });
            let touched = ShardSet::full(index.shards);
            // By a name of Miroir's nothing is deleted: nodes know no such attribute.
            let hidden = node_errors::hidden(filter.get());
            let text = hidden.as_bytes();
            filter_settings::wait(&scatter.state, &request, text).await?;
            let batches = counted(&scatter.state, &request, &touched, |shards, part| {
                vec![if part {
                    by_filter(&base, &narrow(Some(text), shards, index.shards))
                } else {
                    by_filter(&base, text)
                }]
            });
            (touched, Touch::Any, None, batches, task(fields))
        }
        Deletion::One(id) => {
            let shard = shard_of(id.as_bytes(), index.shards);
            let path = format!("{base}/{}", crate::query::encode(&id));
            let touched = ShardSet::single(shard, index.shards);
            let batches = counted(&scatter.state, &request, &touched, |_, _| {
                vec![Call::change(Verb::DELETE, "documents_delete", path.clone())]
            });
            let touch = touch(&scatter.state, &index, std::iter::once(&*id), true);
            let order = OrderChange::deleted(std::iter::once(&*id));
            (touched, touch, Some(order), batches, task(by_id(1)))
        }
        Deletion::Ids { ids } => {
            let provided = ids.len();
            let placed: Vec<(ShardId, String)> =
                ids.into_iter().map(|id| (shard_of(id.as_bytes(), index.shards), id)).collect();
            let mut touched = ShardSet::empty(index.shards);
            for (shard, _) in &placed {
                touched.insert(*shard);
            }
            if placed.is_empty() {
                let fields =
                    json!({"providedIds": 0, "deletedDocuments": 0, "originalFilter": null});
                return decided(&scatter, task(fields), Ok(()), &request.cx).await;
            }
            let path = format!("{base}/delete-batch");
            let batches = counted(&scatter.state, &request, &touched, |shards, _| {
                let mine: Vec<&str> = placed
                    .iter()
                    .filter(|(shard, _)| shards.contains(*shard))
                    .map(|(_, id)| id.as_str())
                    .collect();
                let most = scatter.state.options.scatter.node_body_bytes;
                lists(&mine, most)
                    .map(|ids| {
                        let body = serde_json::to_vec(ids).unwrap_or_default();
                        Call::change(Verb::POST, "documents_delete", path.clone()).json(body)
                    })
                    .collect()
            });
            let ids = || placed.iter().map(|(_, id)| id.as_str());
            let touch = touch(&scatter.state, &index, ids(), true);
            (touched, touch, Some(OrderChange::deleted(ids())), batches, task(by_id(provided)))
        }
    };
    let order = order.filter(|_| scatter.state.options.document_order.enabled);
    let about = About { shards: touched, touch, teaches: None, order };
    finish(scatter, request.clone(), about, batches, task).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_split_by_bytes() {
        let ids: Vec<String> = (0..100).map(|n| n.to_string()).collect();
        let mut ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        ids.push("one-that-is-longer-than-all-of-it");
        let all: Vec<&[&str]> = lists(&ids, 30).collect();
        assert_eq!(all.concat(), ids);
        let sizes = all.iter().map(|list| (list.len(), serde_json::to_vec(list).unwrap().len()));
        assert!(sizes.into_iter().all(|(count, bytes)| bytes <= 30 || count == 1));
        assert_eq!(lists(&[], 30).count(), 0);
    }
}
