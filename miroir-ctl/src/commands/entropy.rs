//! `entropy`: comparing replicas that should be equal, and what was found.

use http::Method;
use miroir_api::NodeId;
use miroir_api::admin::{AntiEntropyView, KeptView, PassView};

use super::{clean, count};
use crate::cli::Entropy;
use crate::client::Client;
use crate::error::{Code, CtlError};
use crate::output::{Cell, Output, Table, Tone};

const PATH: &str = "/_miroir/anti-entropy";

pub(crate) async fn run(
    verb: Entropy,
    client: &Client,
    output: &mut Output,
) -> Result<Code, CtlError> {
    match verb {
        Entropy::Status => status(client, output).await,
        Entropy::Run => {
            let answer = client.ask(Method::POST, &format!("{PATH}/run"), None).await?;
            if output.json() {
                output.raw(&answer);
            } else {
                let text = "a pass over all documents begins: `entropy status` shows it";
                output.marked(text, Tone::Good, "");
            }
            Ok(Code::Done)
        }
        Entropy::Kept => kept(client, output).await,
    }
}

fn names(nodes: &[NodeId]) -> String {
    nodes.iter().map(NodeId::as_str).collect::<Vec<_>>().join(", ")
}

fn line(name: &str, pass: &PassView) -> String {
    let skipped = match pass.skipped {
        0 => String::new(),
        skipped => format!(", {skipped} not comparable"),
    };
    let ended = pass.ended_at.as_deref().map_or_else(String::new, |at| format!(" to {at}"));
    let shards = count(usize::try_from(pass.shards).unwrap_or(usize::MAX), "shard", "shards");
    let documents = pass.documents;
    format!("{name}: {}{ended}, {shards}{skipped}, {documents} documents read", pass.began_at)
}

async fn status(client: &Client, output: &mut Output) -> Result<Code, CtlError> {
    let answer = client.get(PATH).await?;
    if output.json() {
        output.raw(&answer);
        return Ok(Code::Done);
    }
    let view: AntiEntropyView = answer.read()?;
    match (view.enabled, view.auto_repair) {
        (false, _) => output.marked("replicas are not compared", Tone::Doubtful, ""),
        (true, false) => output.marked("what differs is only reported", Tone::Doubtful, ""),
        (true, true) => output.marked("what differs is mended", Tone::Good, ""),
    }
    for (name, pass) in [("running", &view.running), ("last pass", &view.last)] {
        if let Some(pass) = pass {
            output.line(&line(name, pass));
        }
    }
    output.line(&format!(
        "found: {} mended, {} reported, {} ambiguous",
        view.mended, view.reported, view.ambiguous
    ));
    if view.differences.is_empty() {
        return Ok(Code::Done);
    }
    let mut table = Table::new(&["AT", "INDEX", "SHARD", "ID", "RIGHT", "WRONG", "BECAME"]);
    for found in &view.differences {
        let tone = if found.became == "mended" { Tone::Good } else { Tone::Bad };
        table.row([
            found.at.clone().into(),
            found.index.clone().into(),
            found.shard.to_string().into(),
            clean(&found.id).into(),
            names(&found.right).into(),
            names(&found.wrong).into(),
            Cell::new(&found.became, tone),
        ]);
    }
    output.table(&table);
    Ok(Code::Done)
}

async fn kept(client: &Client, output: &mut Output) -> Result<Code, CtlError> {
    let answer = client.get(&format!("{PATH}/kept")).await?;
    if output.json() {
        output.raw(&answer);
        return Ok(Code::Done);
    }
    let view: KeptView = answer.read()?;
    if view.kept.is_empty() {
        output.marked("no repair overwrote a document within a day", Tone::Good, "");
        return Ok(Code::Done);
    }
    let mut table = Table::new(&["AT", "INDEX", "NODE", "DOCUMENT"]);
    for kept in &view.kept {
        table.row([
            kept.at.clone().into(),
            kept.index.clone().into(),
            kept.node.as_str().into(),
            clean(kept.document.get()).into(),
        ]);
    }
    output.table(&table);
    Ok(Code::Done)
}
