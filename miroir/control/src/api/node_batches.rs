//! What nodes say of the batches that worked on a task: how much their databases grew, and how often
//! indexing waited to write.
//!
//! Asked of the nodes when somebody looks, and added up over them. Where a node worked on several
//! tasks at once, each of them shows what all of them did. A node that does not answer, or has
//! forgotten the task, adds nothing.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use miroir_api::NodeId;
use serde::Deserialize;
use serde_json::{Value, json};

use miroir_pipeline::cluster::ClusterState;
use miroir_pipeline::context::Context;
use miroir_pipeline::error::Error;
use miroir_pipeline::node::Call;
use miroir_store::TaskRecord;

/// Uids per request to a node.
const CHUNK: usize = 200;
const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];

/// Bytes of a text like `1.5 KiB`.
fn parse(text: &str) -> Option<f64> {
    let (number, unit) = text.split_once(' ')?;
    let power = UNITS.iter().position(|known| *known == unit)?;
    Some(number.parse::<f64>().ok()? * 1024_f64.powi(power as i32))
}

fn shown(bytes: f64) -> String {
    let (mut left, mut unit) = (bytes, 0);
    while left >= 1024.0 && unit + 1 < UNITS.len() {
        left /= 1024.0;
        unit += 1;
    }
    let unit = UNITS[unit];
    if left.fract() == 0.0 { format!("{left} {unit}") } else { format!("{left:.2} {unit}") }
}

/// A size afterwards, and what it grew by.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Size {
    after: f64,
    grown: f64,
}

impl Size {
    /// Reads a text like `28 KiB (+12 KiB)`.
    fn read(text: &str) -> Option<Self> {
        let (after, grown) = text.split_once(" (")?;
        let grown = grown.strip_suffix(')')?;
        let sign = if grown.starts_with('-') { -1.0 } else { 1.0 };
        let grown = parse(grown.strip_prefix(['+', '-'])?)? * sign;
        Some(Self { after: parse(after)?, grown })
    }

    fn shown(self) -> String {
        let sign = if self.grown < 0.0 { '-' } else { '+' };
        format!("{} ({sign}{})", shown(self.after), shown(self.grown.abs()))
    }
}

/// How often indexing had something to write, and found no room for it in its channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
struct Congestion {
    attempts: u64,
    blocking_attempts: u64,
}

impl Congestion {
    fn shown(self) -> Value {
        let ratio = self.blocking_attempts as f64 / self.attempts.max(1) as f64;
        json!({
            "attempts": self.attempts,
            "blocking_attempts": self.blocking_attempts,
            "blocking_ratio": ratio,
        })
    }
}

/// What a node's batch shows.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stats {
    write_channel_congestion: Option<Congestion>,
    /// By database.
    #[serde(default)]
    internal_database_sizes: BTreeMap<String, String>,
}

/// By node and the node's task.
type Found = BTreeMap<(NodeId, u32), Stats>;

/// What nodes said of tasks.
#[derive(Clone, Debug, Default)]
pub(crate) struct NodeBatches(Found);

impl NodeBatches {
    /// Asks the nodes that worked on these tasks.
    pub(crate) async fn ask(
        state: &ClusterState,
        cx: &Context,
        tasks: impl Iterator<Item = &TaskRecord>,
    ) -> Self {
        let mut wanted: BTreeMap<NodeId, Vec<u32>> = BTreeMap::new();
        // Tasks that are about no index, and those under way, have nothing to show.
        for task in tasks.filter(|t| t.physical.is_some() && t.status.is_terminal()) {
            for node in task.nodes.iter().filter(|n| !n.dropped && !state.lives.is_former(n)) {
                wanted.entry(node.node.clone()).or_default().extend(node.uid);
            }
        }
        let mut asked = Vec::new();
        for (node, uids) in wanted {
            for chunk in uids.chunks(CHUNK) {
                asked.push(of_node(state, cx, node.clone(), chunk.to_vec()));
            }
        }
        let found = join_all(asked).await;
        Self(found.into_iter().filter_map(Result::ok).flatten().collect())
    }

    /// Adds what nodes say of these tasks, added up over nodes, to a batch's `stats`.
    pub(crate) fn add_to(&self, stats: &mut Value, tasks: &[TaskRecord]) {
        let mut sizes: BTreeMap<&str, Size> = BTreeMap::new();
        let mut congestion: Option<Congestion> = None;
        for node in tasks.iter().flat_map(|task| &task.nodes) {
            let found = node.uid.and_then(|uid| self.0.get(&(node.node.clone(), uid)));
            let Some(found) = found else { continue };
            if let Some(more) = found.write_channel_congestion {
                let sum = congestion.get_or_insert_default();
                sum.attempts += more.attempts;
                sum.blocking_attempts += more.blocking_attempts;
            }
            for (name, text) in &found.internal_database_sizes {
                let Some(size) = Size::read(text) else { continue };
                let total = sizes.entry(name.as_str()).or_default();
                total.after += size.after;
                total.grown += size.grown;
            }
        }
        if let Some(congestion) = congestion {
            stats["writeChannelCongestion"] = congestion.shown();
        }
        sizes.retain(|_, size| size.grown != 0.0);
        if !sizes.is_empty() {
            let sizes =
                sizes.into_iter().map(|(name, size)| (name.to_owned(), size.shown().into()));
            stats["internalDatabaseSizes"] = Value::Object(sizes.collect());
        }
    }
}

/// What the batches of one node show, by its task.
async fn of_node(
    state: &ClusterState,
    cx: &Context,
    node: NodeId,
    uids: Vec<u32>,
) -> Result<Found, Error> {
    #[derive(Deserialize)]
    struct Page<T> {
        results: Vec<T>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Batched {
        uid: u32,
        batch_uid: Option<u32>,
    }
    #[derive(Deserialize)]
    struct Batch {
        uid: u32,
        stats: Stats,
    }
    let list = |numbers: &[u32]| -> String {
        let numbers: Vec<String> = numbers.iter().map(u32::to_string).collect();
        numbers.join(",")
    };
    let path = format!("/tasks?uids={}&limit={}", list(&uids), uids.len());
    let body = state.nodes.call(&node, &Call::get("tasks_get", path), cx).await?;
    let tasks = Call::parse::<Page<Batched>>(&node, &body)?.results;
    let mut batches: Vec<u32> = tasks.iter().filter_map(|task| task.batch_uid).collect();
    batches.sort_unstable();
    batches.dedup();
    if batches.is_empty() {
        return Ok(Found::new());
    }
    let path = format!("/batches?batchUids={}&limit={}", list(&batches), batches.len());
    let body = state.nodes.call(&node, &Call::get("batches_get", path), cx).await?;
    let batches = Call::parse::<Page<Batch>>(&node, &body)?.results;
    let mut out = Found::new();
    for task in tasks {
        let Some(batch) = batches.iter().find(|batch| Some(batch.uid) == task.batch_uid) else {
            continue;
        };
        out.insert((node.clone(), task.uid), batch.stats.clone());
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_added_up_as_they_are_written() {
        let read = |text| Size::read(text).unwrap();
        assert_eq!(read("28 KiB (+12 KiB)"), Size { after: 28_672.0, grown: 12_288.0 });
        assert_eq!(read("1.5 MiB (-512 B)"), Size { after: 1_572_864.0, grown: -512.0 });
        for wrong in ["28 KiB", "28 (+12 KiB)", "28 KiB (12 KiB)", "x KiB (+1 B)", "1 XB (+1 B)"] {
            assert_eq!(Size::read(wrong), None, "{wrong}");
        }
        for text in ["28 KiB (+12 KiB)", "1.50 MiB (-512 B)"] {
            assert_eq!(read(text).shown(), text);
        }
    }

    #[test]
    fn waits_for_the_channel_are_shown_with_their_share() {
        let read = |text| serde_json::from_str::<Congestion>(text).unwrap();
        let one = read(r#"{"attempts":8,"blocking_attempts":2,"blocking_ratio":0.25}"#);
        let shown = json!({"attempts": 8, "blocking_attempts": 2, "blocking_ratio": 0.25});
        assert_eq!(one.shown(), shown);
        assert_eq!(Congestion::default().shown()["blocking_ratio"], json!(0.0));
    }
}
