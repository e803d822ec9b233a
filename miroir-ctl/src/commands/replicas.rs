//! `replicas`: those that missed a write and are not read.

use miroir_api::admin::ReplicasView;

use crate::client::Client;
use crate::error::{Code, CtlError};
use crate::output::{Cell, Output, Table, Tone};

pub(super) const PATH: &str = "/_miroir/replicas";

pub(crate) async fn run(client: &Client, output: &mut Output) -> Result<Code, CtlError> {
    let answer = client.get(PATH).await?;
    if output.json() {
        output.raw(&answer);
        return Ok(Code::Done);
    }
    let replicas: ReplicasView = answer.read()?;
    if replicas.stale.is_empty() {
        output.marked("every replica is up to date", Tone::Good, "");
        return Ok(Code::Done);
    }
    let mut table = Table::new(&["INDEX", "SHARD", "NODE", "NEEDS"]);
    for row in &replicas.stale {
        table.row([
            row.index.clone().into(),
            row.shard.map_or_else(|| "all".to_owned(), |shard| shard.to_string()).into(),
            row.node.as_str().into(),
            Cell::new(needs(&row.kind), Tone::Doubtful),
        ]);
    }
    output.table(&table);
    Ok(Code::Done)
}

/// What a replica waits for, in words.
pub(super) fn needs(kind: &str) -> &str {
    match kind {
        "pending" => "to finish what it was sent",
        "shard" => "a copy of the shard",
        "index" => "to be built anew",
        "deleted" => "the index to be deleted",
        other => other,
    }
}
