//! `GET /tasks/{uid}/documents`: the payload of a write that is still under way.
//!
//! Each node holds the documents of the shards it owns. One copy of every shard is taken, without the
//! fields Miroir added; the order is that of nodes and not the client's.

use std::collections::BTreeSet;

use bytes::Bytes;
use miroir_api::meili::TaskKind;
use serde::Deserialize;

use super::Control;
use crate::documents::parse_shard_value;
use crate::error::Error;
use crate::merge::strip_reserved;
use crate::node::Call;
use crate::operation::{Request, Response};

fn none_left(uid: u32) -> Error {
    Error::api(
        "task_file_not_found",
        format!(
            "Task `{uid}` does not contain any documents. Only `documentAdditionOrUpdate` tasks with \
             the statuses `enqueued` or `processing` contain documents"
        ),
    )
}

/// Appends the documents of these shards, as the client sent them.
fn append(payload: &[u8], shards: &BTreeSet<u32>, out: &mut Vec<u8>) {
    #[derive(Deserialize)]
    struct Stamped {
        #[serde(rename = "_miroir_shard")]
        shard: String,
    }
    for line in payload.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let shard = serde_json::from_slice::<Stamped>(line).ok();
        let shard = shard.and_then(|stamped| parse_shard_value(&stamped.shard));
        if shard.is_some_and(|shard| shards.contains(&shard)) {
            out.extend_from_slice(&strip_reserved(line));
            out.push(b'\n');
        }
    }
}

impl Control {
    pub(super) async fn task_documents(
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
        for node in record.nodes.iter().filter(|node| !node.dropped) {
            let Some(uid) = node.uid else { continue };
            let own: BTreeSet<u32> =
                node.shards.iter().map(|s| s.0).filter(|s| left.contains(s)).collect();
            if own.is_empty() {
                continue;
            }
            let call = Call::get("task_documents", format!("/tasks/{uid}/documents"));
            if let Ok(payload) = self.shared.call(&node.node, &call, &request.cx).await {
                append(&payload, &own, &mut out);
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
    use crate::documents::shard_value;

    #[test]
    fn one_copy_of_a_shard_as_it_was_sent() {
        let line = |id: u32, shard| {
            format!("{{\"id\":{id},\"_miroir_shard\":\"{}\"}}\n", shard_value(shard, 8))
        };
        let payload = [line(1, 3), line(2, 5), line(3, 3)].concat();
        let mut out = Vec::new();
        append(payload.as_bytes(), &[3].into(), &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "{\"id\":1}\n{\"id\":3}\n");
    }
}
