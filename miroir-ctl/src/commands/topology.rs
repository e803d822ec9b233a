//! `topology`: nodes, groups and what each holds.

use miroir_api::admin::TopologyView;

use super::node_tone;
use crate::client::Client;
use crate::error::{Code, CtlError};
use crate::output::{Cell, Output, Table, Tone, millis};

pub(super) const PATH: &str = "/_miroir/topology";

pub(crate) async fn run(client: &Client, output: &mut Output) -> Result<Code, CtlError> {
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
            Cell::new(node.error.as_deref().unwrap_or_default(), Tone::Bad),
        ]);
    }
    output.table(&table);
}
