//! `status`: in a few lines, whether the cluster is well.

use miroir_api::admin::{PodsView, ReplicasView, TopologyView};
use serde_json::{Value, json};

use super::scrape::Scrape;
use super::{count, pods, replicas, topology};
use crate::client::Client;
use crate::error::{Code, CtlError};
use crate::output::{Cell, Output, Table, Tone};

pub(super) const METRICS: &str = "/_miroir/metrics";

pub(crate) async fn run(client: &Client, output: &mut Output) -> Result<Code, CtlError> {
    let ready = client.ready().await?;
    let topology = client.get(topology::PATH).await?;
    let replicas = client.get(replicas::PATH).await?;
    let pods = client.get(pods::PATH).await?;
    let metrics = client.get(METRICS).await?;
    let metrics = String::from_utf8_lossy(&metrics.body);
    let version = Scrape::new(&metrics).label("miroir_build_info", "version").unwrap_or("unknown");
    if output.json() {
        let all = json!({
            "url": client.base(),
            "version": version,
            "ready": ready.status == 200,
            "topology": topology.read::<Value>()?,
            "replicas": replicas.read::<Value>()?,
            "pods": pods.read::<Value>()?,
        });
        output.line(&all.to_string());
        return Ok(Code::Done);
    }
    let topology: TopologyView = topology.read()?;
    let replicas: ReplicasView = replicas.read()?;
    let pods: PodsView = pods.read()?;
    let mut table = Table::plain();
    let mut row = |name: &str, text: String, tone| {
        table.row([name.into(), Cell::new(text, tone)]);
    };
    row("miroir", format!("{version} at {}", client.base()), Tone::Plain);
    match ready.status {
        200 => row("ready", "yes".to_owned(), Tone::Good),
        _ => row("ready", "no: some shard could not be read yet".to_owned(), Tone::Bad),
    }
    if topology.fully_covered {
        row("shards", "all can be read".to_owned(), Tone::Good);
    } else {
        row("shards", "some cannot be read: answers are incomplete".to_owned(), Tone::Bad);
    }
    let all = topology.nodes.len();
    match topology.degraded_node_count {
        0 => row("nodes", format!("{}, all well", count(all, "node", "nodes")), Tone::Good),
        bad => row("nodes", format!("{bad} of {all} not well"), Tone::Bad),
    }
    match replicas.total {
        0 => row("replicas", "all up to date".to_owned(), Tone::Good),
        stale => row("replicas", format!("{stale} behind and not read"), Tone::Doubtful),
    }
    let leader = pods.pods.iter().find(|pod| pod.leads);
    match (pods.pods.len(), leader) {
        (0, _) => row("pods", "1, on its own".to_owned(), Tone::Plain),
        (n, Some(pod)) => row("pods", format!("{n}, {} leads", pod.pod), Tone::Good),
        (n, None) => row("pods", format!("{n}, and none leads"), Tone::Bad),
    }
    if topology.rebalance_in_progress {
        row("moves", "shards are being moved".to_owned(), Tone::Doubtful);
    }
    output.table(&table);
    output.line("");
    topology::nodes(&topology, output);
    Ok(Code::Done)
}
