//! What pods that do not lead have to tell the one that does.

use std::collections::BTreeMap;
use std::sync::Arc;

use miroir_api::{NodeId, TaskUid};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cluster::Shared;
use crate::error::Error;
use crate::index::scatter::missed::{self, Fate};
use crate::operation::control::drift;
use crate::routing::ShardSet;

/// A note for the leader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Note {
    /// A pod that led may have sent parts of a task to nodes after its term was over, when its
    /// successor took it for certain that they had not arrived.
    Late {
        /// The task.
        task: TaskUid,
        /// The nodes.
        nodes: Vec<NodeId>,
    },
    /// Settings of nodes differ, as a pod that may not mend them has seen.
    Drift {
        /// The index, as nodes call it.
        index: String,
    },
}

impl Note {
    /// Leaves it.
    pub(crate) async fn leave(&self, shared: &Shared) -> Result<(), Error> {
        let note = serde_json::to_value(self).map_err(Error::internal)?;
        Ok(shared.stores.pods.note(note).await?)
    }

    /// Does what a note asks for. One that cannot be is left again.
    pub(super) async fn read(shared: &Arc<Shared>, note: Value) {
        let done = match serde_json::from_value(note.clone()) {
            Ok(Self::Late { task, nodes }) => late(shared, task, &nodes).await,
            Ok(Self::Drift { index }) => mend(shared, &index).await,
            Err(error) => {
                tracing::warn!(%error, %note, "a note of another version is dropped");
                Ok(())
            }
        };
        if let Err(error) = done {
            tracing::warn!(%error, %note, "a note is looked at again");
            if let Err(error) = shared.stores.pods.note(note).await {
                tracing::error!(%error, "a note is lost");
            }
        }
    }
}

async fn mend(shared: &Arc<Shared>, index: &str) -> Result<(), Error> {
    let entry = shared.indexes().into_iter().find(|entry| entry.physical == index);
    match entry {
        Some(entry) => drift::check(shared, &entry, true).await,
        None => Ok(()),
    }
}

/// Has replicas catch up that got a write after it was settled that they had not.
async fn late(shared: &Arc<Shared>, task: TaskUid, nodes: &[NodeId]) -> Result<(), Error> {
    metrics::counter!("miroir_late_writes_total").increment(nodes.len() as u64);
    // Indexes that were made or deleted late show when the nodes are looked through again.
    for node in nodes {
        shared.numbering.doubt(node);
    }
    let Some(record) = shared.stores.tasks.get(task).await? else { return Ok(()) };
    let physical = record.physical.clone().unwrap_or_default();
    let Some(entry) = shared.indexes().into_iter().find(|entry| entry.physical == physical) else {
        return Ok(());
    };
    // What its successor found out; of the nodes in question, that nobody knows.
    let mut fates: BTreeMap<NodeId, Fate> = BTreeMap::new();
    for on_node in &record.nodes {
        let fate = match (on_node.dropped, nodes.contains(&on_node.node)) {
            (true, true) => Fate::Unknown,
            (true, false) => Fate::Refused,
            (false, _) => Fate::Took,
        };
        fates
            .entry(on_node.node.clone())
            .and_modify(|f| {
                if fate != Fate::Took {
                    *f = fate;
                }
            })
            .or_insert(fate);
    }
    let fate = |node: &NodeId| fates.get(node).copied().unwrap_or(Fate::Refused);
    let touched = record.nodes.iter().flat_map(|n| n.shards.iter().copied());
    let touched = ShardSet::from_iter(touched, entry.shards);
    shared
        .mark_stale_by(|stale| {
            let rows = if touched.is_empty() {
                missed::settings(stale, &physical, fates.keys(), fate)
            } else {
                let placement = shared.topology().placement(entry.shards);
                missed::documents(stale, &placement, &physical, &touched, fate)
            };
            (rows, ())
        })
        .await?;
    Ok(())
}
