//! `group`: replica groups come and go.

use http::Method;
use serde_json::{Value, json};

use super::change::{Change, begin};
use crate::cli::{Group, Member};
use crate::client::Client;
use crate::error::{Code, CtlError};
use crate::output::Output;

const PATH: &str = "/_miroir/groups";

pub(crate) async fn run(
    group: Group,
    client: &Client,
    output: &mut Output,
) -> Result<Code, CtlError> {
    let (change, how) = match group {
        Group::Add { group, nodes, begin } => {
            let names: Vec<&str> = nodes.iter().map(|node| node.id.as_str()).collect();
            let would = format!("group {group} of {} would be added", names.join(", "));
            let node = |node: &Member| {
                json!({
                    "id": node.id.as_str(), "address": node.address, "replica_group": group
                })
            };
            let nodes: Vec<Value> = nodes.iter().map(node).collect();
            let body = Some(json!({ "nodes": nodes }));
            (Change { method: Method::POST, path: PATH.to_owned(), body, would }, begin)
        }
        Group::Remove { group, begin } => {
            let would = format!("the nodes of group {group} would lose all their shards");
            let path = format!("{PATH}/{group}");
            (Change { method: Method::DELETE, path, body: None, would }, begin)
        }
    };
    begin(change, how, client, output).await
}
