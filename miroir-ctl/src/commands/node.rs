//! `node`: what an operator decides about one node.

use http::Method;
use miroir_api::NodeId;
use miroir_api::admin::DiscardedView;
use serde_json::{Value, json};

use super::change::{Change, begin};
use crate::cli::Node;
use crate::client::{Client, encode};
use crate::error::{Code, CtlError};
use crate::output::Output;

const PATH: &str = "/_miroir/nodes";

pub(crate) async fn run(
    node: Node,
    client: &Client,
    output: &mut Output,
) -> Result<Code, CtlError> {
    let (change, how) = match node {
        Node::Add { id, address, group, begin } => {
            let would = format!("node {id} would get shards of group {group}");
            let body = json!({ "id": id.as_str(), "address": address, "replica_group": group });
            let path = PATH.to_owned();
            (Change { method: Method::POST, path, body: Some(body), would }, begin)
        }
        Node::Drain { id, begin } => {
            let would = format!("node {id} would give all its shards away");
            let path = format!("{PATH}/{}/drain", encode(&id));
            (Change { method: Method::POST, path, body: None, would }, begin)
        }
        Node::Replace { id, new_id, address, begin } => {
            let would = format!("node {new_id} would join the group of {id}, which would leave");
            let body = json!({ "id": new_id.as_str(), "address": address });
            let path = format!("{PATH}/{}/replace", encode(&id));
            (Change { method: Method::POST, path, body: Some(body), would }, begin)
        }
        Node::Spare { id, address, group } => {
            let body = json!({ "id": id.as_str(), "address": address, "replica_group": group });
            return spare(&id, &body, client, output).await;
        }
        Node::Remove { id, yes } => return remove(&id, yes, client, output).await,
        Node::DiscardDisk { id, yes } => return discard_disk(&id, yes, client, output).await,
    };
    begin(change, how, client, output).await
}

async fn spare(
    id: &NodeId,
    body: &Value,
    client: &Client,
    output: &mut Output,
) -> Result<Code, CtlError> {
    let answer = client.ask(Method::POST, "/_miroir/spares", Some(body)).await?;
    if output.json() {
        output.raw(&answer);
    } else {
        output.line(&format!("node {id} is a spare: it takes the place of a node that fails"));
    }
    Ok(Code::Done)
}

async fn remove(
    id: &str,
    yes: bool,
    client: &Client,
    output: &mut Output,
) -> Result<Code, CtlError> {
    if !yes {
        return Err(CtlError::usage(
            format!("node {id} would be forgotten, and asked for nothing any more"),
            "give --yes if it has been drained; `miroir-ctl topology` shows it as drained",
        ));
    }
    let answer = client.ask(Method::DELETE, &format!("{PATH}/{}", encode(id)), None).await?;
    if output.json() {
        output.raw(&answer);
    } else {
        output.line(&format!(
            "node {id} is forgotten: take it out of the configuration, and stop it"
        ));
    }
    Ok(Code::Done)
}

async fn discard_disk(
    id: &str,
    yes: bool,
    client: &Client,
    output: &mut Output,
) -> Result<Code, CtlError> {
    if !yes {
        return Err(CtlError::usage(
            format!("every index on the disk of node {id} would be deleted"),
            "give --yes if the disk that is mounted there now may be thrown away; otherwise mount \
             the node's own disk again",
        ));
    }
    let path = format!("{PATH}/{}/discard-disk", encode(id));
    let answer = client.ask(Method::POST, &path, None).await?;
    if output.json() {
        output.raw(&answer);
        return Ok(Code::Done);
    }
    let DiscardedView { node, life } = answer.read()?;
    output.line(&format!(
        "node {node} begins anew, in life {life}: it is built from its peers and read when it has \
         everything (`miroir-ctl replicas`)"
    ));
    Ok(Code::Done)
}
