//! `topology`: nodes, groups and what each holds.

use http::Method;
use miroir_api::admin::{AcceptedStoreView, NodeView, RebuiltView, TopologyView};
use serde_json::json;

use super::change::{self, Change};
use super::node_tone;
use crate::cli::Topology as Verb;
use crate::client::Client;
use crate::error::{Code, CtlError};
use crate::output::{Cell, Output, Table, Tone, millis};

pub(super) const PATH: &str = "/_miroir/topology";

pub(crate) async fn run(
    verb: Option<Verb>,
    client: &Client,
    output: &mut Output,
) -> Result<Code, CtlError> {
    match verb {
        None => list(client, output).await,
        Some(Verb::AcceptStore { yes }) => accept_store(yes, client, output).await,
        Some(Verb::Rebuild) => rebuild(client, output).await,
        Some(Verb::ReplicationFactor { copies, begin }) => {
            let change = Change {
                method: Method::PUT,
                path: "/_miroir/replication-factor".to_owned(),
                body: Some(json!({ "replication_factor": copies })),
                would: format!("every group would keep each shard {copies} times"),
            };
            change::begin(change, begin, client, output).await
        }
    }
}

async fn accept_store(yes: bool, client: &Client, output: &mut Output) -> Result<Code, CtlError> {
    if !yes {
        return Err(CtlError::usage(
            "what happened since the store was copied would stay unknown to it",
            "give --yes if no newer store is left; `topology rebuild` compares with the nodes first",
        ));
    }
    let answer = client.ask(Method::POST, &format!("{PATH}/accept-store"), None).await?;
    if output.json() {
        output.raw(&answer);
        return Ok(Code::Done);
    }
    let AcceptedStoreView { version } = answer.read()?;
    output.line(&format!("the store is gone on with, as version {version} of the topology"));
    Ok(Code::Done)
}

async fn rebuild(client: &Client, output: &mut Output) -> Result<Code, CtlError> {
    let answer = client.ask(Method::POST, &format!("{PATH}/rebuild"), None).await?;
    if output.json() {
        output.raw(&answer);
        return Ok(Code::Done);
    }
    let RebuiltView { differences, version } = answer.read()?;
    for difference in &differences {
        output.marked(difference, Tone::Bad, "");
    }
    if let Some(version) = version {
        output.line(&format!("the store is gone on with, as version {version} of the topology"));
    } else if differences.is_empty() {
        output.marked("the nodes hold what the store says", Tone::Good, "");
    }
    Ok(if differences.is_empty() { Code::Done } else { Code::Findings })
}

async fn list(client: &Client, output: &mut Output) -> Result<Code, CtlError> {
    let answer = client.get(PATH).await?;
    if output.json() {
        output.raw(&answer);
        return Ok(Code::Done);
    }
    let topology: TopologyView = answer.read()?;
    output.line(&format!(
        "new indexes have {} shards, each {} times in every group",
        topology.shards, topology.replication_factor
    ));
    nodes(&topology, output);
    Ok(Code::Done)
}

/// Why a node is not used, with the remedy where only an operator has one.
fn error(node: &NodeView) -> String {
    match &node.disk_of {
        Some(of) => {
            format!("has the disk of {of}: give it its own, or `node discard-disk {}`", node.id)
        }
        None => node.error.clone().unwrap_or_default(),
    }
}

pub(super) fn nodes(topology: &TopologyView, output: &mut Output) {
    let mut table = Table::new(&["NODE", "GROUP", "STATUS", "SHARDS", "SEEN", "ERROR"]);
    for node in &topology.nodes {
        let seen =
            node.last_seen_ms.map_or("never".to_owned(), |ms| format!("{} ago", millis(ms as f64)));
        table.row([
            node.id.as_str().into(),
            Cell::number(node.replica_group),
            Cell::new(&node.status, node_tone(&node.status)),
            Cell::number(node.shard_count),
            seen.into(),
            Cell::new(error(node), Tone::Bad),
        ]);
    }
    output.table(&table);
}
