//! `GET /tasks/{uid}/documents`: the payload of a write that is still under way.
//!
//! Each node holds the documents of the shards it owns. One copy of every shard is taken, without the
//! fields Miroir added; the order is that of nodes and not the client's.

use std::collections::BTreeSet;

use bytes::Bytes;
use miroir_api::meili::TaskKind;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::api::Control;
use miroir_core::documents::parse_shard_value;
use miroir_core::merge::strip_reserved;
use miroir_pipeline::error::Error;
use miroir_pipeline::node::Call;
use miroir_pipeline::operation::{Request, Response};

fn none_left(uid: u32) -> Error {
    Error::api(
        "task_file_not_found",
        format!(
            "Task `{uid}` does not contain any documents. Only `documentAdditionOrUpdate` tasks with \
             the statuses `enqueued` or `processing` contain documents"
        ),
    )
}

/// The documents of these shards, as the client sent them, of those that are a task's own. `None` if the
/// payload cannot be read.
fn of_shards(payload: &[u8], shards: &BTreeSet<u32>, own: Option<(u32, u32)>) -> Option<Vec<u8>> {
    #[derive(Deserialize)]
    struct Stamped {
        #[serde(rename = "_miroir_shard")]
        shard: String,
    }
    let mut out = Vec::new();
    // A node writes them one after the other, with nothing in between.
    let documents = serde_json::Deserializer::from_slice(payload).into_iter::<&RawValue>();
    for (at, document) in (0..).zip(documents) {
        let document = document.ok()?;
        if own.is_some_and(|(first, count)| !(first..first.saturating_add(count)).contains(&at)) {
            continue;
        }
        let shard = serde_json::from_str::<Stamped>(document.get()).ok();
        let shard = shard.and_then(|stamped| parse_shard_value(&stamped.shard));
        if shard.is_some_and(|shard| shards.contains(&shard)) {
            out.extend_from_slice(&strip_reserved(document.get().as_bytes()));
        }
    }
    Some(out)
}

impl Control {
    pub(crate) async fn task_documents(
        &self,
        request: &Request,
        text: &str,
    ) -> Result<Response, Error> {
        if !self.has_feature(request, "getTaskDocumentsRoute").await? {
            return Err(self.refusal(request, "").await);
        }
        let record = self.known_task(request, text).await?;
        let none = || none_left(record.uid.0);
        if record.status.is_terminal() || record.kind != TaskKind::DocumentAdditionOrUpdate {
            return Err(none());
        }
        let mut left: BTreeSet<u32> =
            record.nodes.iter().flat_map(|node| node.shards.iter().map(|shard| shard.0)).collect();
        let mut out = Vec::new();
        for node in record.nodes.iter().filter(|n| !n.dropped && !self.state.lives.is_former(n)) {
            let Some(uid) = node.uid else { continue };
            let own: BTreeSet<u32> =
                node.shards.iter().map(|s| s.0).filter(|s| left.contains(s)).collect();
            if own.is_empty() {
                continue;
            }
            let call = Call::get("task_documents", format!("/tasks/{uid}/documents"));
            let payload = self.state.nodes.call(&node.node, &call, &request.cx).await.ok();
            if let Some(documents) = payload.and_then(|payload| of_shards(&payload, &own, node.own))
            {
                out.extend(documents);
                left.retain(|shard| !own.contains(shard));
            }
        }
        // Half a payload is none.
        if !left.is_empty() {
            return Err(none());
        }
        let mut response = Response::ok(&());
        response.body = Bytes::from(out);
        response.meta.content_type = Some("application/x-ndjson");
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use miroir_core::documents::shard_value;

    #[test]
    fn one_copy_of_a_shard_as_it_was_sent() {
        let line = |id: u32, shard| {
            format!("{{\"id\":{id},\"_miroir_shard\":\"{}\"}}", shard_value(shard, 8))
        };
        let payload = [line(1, 3), line(2, 5), line(3, 3)].concat();
        let out = of_shards(payload.as_bytes(), &[3].into(), None).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "{\"id\":1}{\"id\":3}");
        // Of several tasks that sent it together each has its own.
        let own = of_shards(payload.as_bytes(), &[3].into(), Some((1, 2))).unwrap();
        assert_eq!(String::from_utf8(own).unwrap(), "{\"id\":3}");
        assert_eq!(of_shards(b"{\"id\":1}{", &[3].into(), None), None);
    }
}
