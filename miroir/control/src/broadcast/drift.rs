//! The drift checker: finds nodes whose settings were changed behind Miroir's back.
//!
//! Scores can be compared only between nodes with equal settings. Every pass hashes the settings of
//! all nodes and compares them with the committed hash. A node that differs gets the settings of one
//! that does not. Where no node has the committed settings but all agree with each other (a new
//! version of Meilisearch with one more setting, say), what they agree on becomes the committed one.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use miroir_api::{NodeId, hexadecimal};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::broadcast::progress::publish_version;
use crate::broadcast::verify::{read_settings, reapply, settings_hash};
use crate::replicas::repair;
use crate::runtime::{Item, PartitionedTask, Peers, Schedule, partitioned};
use miroir_core::options::{Faults, Validate, seconds};
use miroir_pipeline::cluster::ClusterState;
use miroir_pipeline::cluster::leadership::LeaderMessage;
use miroir_pipeline::error::Error;
use miroir_store::IndexEntry;

/// `settings_drift_check`: finding settings changed behind Miroir's back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DriftOptions {
    /// Time between two passes. 5 min by default.
    #[serde(rename = "interval_s", with = "seconds")]
    pub interval: Duration,
    /// Whether nodes that differ get the committed settings again.
    pub auto_repair: bool,
}

impl Default for DriftOptions {
    fn default() -> Self {
        Self { interval: Duration::from_mins(5), auto_repair: true }
    }
}

impl Validate for DriftOptions {
    fn validate(&self, faults: &mut Faults) {
        faults.positive(&[("interval_s", self.interval.is_zero())]);
    }
}

/// Whose settings are right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Those of all: they agree.
    Agree,
    /// Those of this node; the others listed differ.
    Differ {
        /// A node that is right.
        right: NodeId,
        /// The nodes that are not.
        wrong: Vec<NodeId>,
    },
    /// Nobody can tell: no node has the committed settings, and no majority agrees.
    Open,
}

/// Judges the hashes of nodes against the committed one. Pure.
///
/// The committed hash decides where a node has it. Otherwise more than half of the nodes do.
#[must_use]
pub fn judge(hashes: &BTreeMap<NodeId, String>, committed: Option<&str>) -> Verdict {
    let Some(first) = hashes.values().next() else { return Verdict::Open };
    if hashes.values().all(|hash| hash == first) {
        return Verdict::Agree;
    }
    let count = |wanted: &str| hashes.values().filter(|hash| *hash == wanted).count();
    let known = committed.filter(|hash| count(hash) > 0);
    let majority = || hashes.values().find(|hash| 2 * count(hash) > hashes.len());
    let Some(right) = known.or_else(|| majority().map(String::as_str)) else {
        return Verdict::Open;
    };
    let (same, other): (Vec<_>, Vec<_>) = hashes.iter().partition(|(_, hash)| *hash == right);
    let right = same[0].0.clone();
    Verdict::Differ { right, wrong: other.into_iter().map(|(node, _)| node.clone()).collect() }
}

/// When a process looks for the first time, at the latest: the one before may have died while it
/// asked a node to judge settings, which then are on that node only.
const FIRST: Duration = Duration::from_secs(30);

/// Compares the settings of one index after the other, as [`crate::runtime::partitioned`] has it.
#[derive(Debug)]
pub struct DriftCheck {
    shared: Arc<ClusterState>,
    auto_repair: bool,
}

impl DriftCheck {
    /// A check that mends what it finds, or only tells of it.
    #[must_use]
    pub fn new(shared: Arc<ClusterState>, auto_repair: bool) -> Self {
        Self { shared, auto_repair }
    }
}

impl PartitionedTask for DriftCheck {
    const NAME: &'static str = "settings_drift_check";
    type Item = Arc<IndexEntry>;

    async fn items(&self) -> Result<Vec<Arc<IndexEntry>>, Error> {
        publish_version(&self.shared);
        Ok(self.shared.catalog.all())
    }

    async fn run(&self, entry: Arc<IndexEntry>) -> Result<(), Error> {
        check(&self.shared, &entry, self.auto_repair).await
    }
}

impl Item for Arc<IndexEntry> {
    fn key(&self) -> Cow<'_, str> {
        self.physical.as_str().into()
    }
}

/// Checks this pod's share of the indexes at the interval until cancelled.
pub async fn run(
    shared: Arc<ClusterState>,
    peers: Arc<Peers>,
    options: DriftOptions,
    stop: CancellationToken,
) {
    let schedule = Schedule { first: options.interval.min(FIRST), interval: options.interval };
    let worker = Arc::new(DriftCheck::new(shared, options.auto_repair));
    partitioned(worker, peers, schedule, stop).await;
}

fn busy(shared: &ClusterState, entry: &IndexEntry) -> bool {
    entry.making || shared.broadcasts.is_in_flight(&entry.physical)
}

/// The settings of the nodes that should have the committed ones and have nothing in their queues.
async fn read(shared: &ClusterState, entry: &IndexEntry) -> BTreeMap<NodeId, Value> {
    let (topology, stale) = (shared.membership.topology(), shared.staleness.load());
    let nodes = topology.nodes().filter(|node| {
        node.status.is_readable()
            && !shared.nodes.scores.is_open(&node.id)
            && !stale.misses_index(&entry.physical, &node.id)
    });
    let answers = join_all(nodes.map(|node| async {
        if !repair::idle(shared, &node.id, &entry.physical).await.ok()? {
            return None;
        }
        let settings = read_settings(shared, entry, &node.id).await.ok()?;
        Some((node.id.clone(), settings))
    }))
    .await;
    answers.into_iter().flatten().collect()
}

fn hash(settings: &BTreeMap<NodeId, Value>) -> BTreeMap<NodeId, String> {
    settings
        .iter()
        .map(|(node, value)| (node.clone(), hexadecimal(&settings_hash(value))))
        .collect()
}

pub(crate) async fn check(
    shared: &Arc<ClusterState>,
    entry: &Arc<IndexEntry>,
    auto_repair: bool,
) -> Result<(), Error> {
    if busy(shared, entry) {
        return Ok(());
    }
    let hashes = hash(&read(shared, entry).await);
    if judge(&hashes, entry.settings_hash.as_deref()) == Verdict::Agree {
        return agreed(shared, entry, &hashes).await;
    }
    if hashes.is_empty() {
        return Ok(());
    }
    if !shared.leadership.leads() {
        return shared
            .leadership
            .send(&LeaderMessage::Drift { index: entry.physical.clone() })
            .await;
    }
    // What differs may be settings on their way: looked at again while nobody changes any.
    let gate = shared.sequencer.exclusive(&entry.physical).await;
    let listed = shared.catalog.by_physical(&entry.physical);
    let Some(entry) = listed.filter(|now| !busy(shared, now)) else { return Ok(()) };
    let settings = read(shared, &entry).await;
    let hashes = hash(&settings);
    let (right, wrong) = match judge(&hashes, entry.settings_hash.as_deref()) {
        Verdict::Agree => return agreed(shared, &entry, &hashes).await,
        Verdict::Differ { right, wrong } => (right, wrong),
        Verdict::Open => {
            metrics::counter!("miroir_settings_hash_mismatch_total").increment(hashes.len() as u64);
            tracing::error!(
                index = %entry.name,
                "MiroirSettingsDivergence: no node has the committed settings and no majority \
                 agrees; set the settings again"
            );
            return Ok(());
        }
    };
    metrics::counter!("miroir_settings_hash_mismatch_total").increment(wrong.len() as u64);
    for node in &wrong {
        tracing::warn!(%node, index = %entry.name, "the node has other settings than committed");
    }
    if !auto_repair {
        return Ok(());
    }
    let told = join_all(wrong.iter().map(|node| reapply(shared, &entry, node, &settings[&right])));
    let taken = told.await.into_iter().flatten().count();
    metrics::counter!("miroir_settings_drift_repair_total").increment(taken as u64);
    let hashes = hash(&read(shared, &entry).await);
    if judge(&hashes, entry.settings_hash.as_deref()) == Verdict::Agree {
        agreed(shared, &entry, &hashes).await?;
    }
    drop(gate);
    Ok(())
}

/// All nodes that answer have equal settings: that is on record, and an index that was frozen
/// because they had not takes writes again.
async fn agreed(
    shared: &ClusterState,
    entry: &IndexEntry,
    hashes: &BTreeMap<NodeId, String>,
) -> Result<(), Error> {
    let Some(hash) = hashes.values().next() else { return Ok(()) };
    let complete = shared.membership.topology().nodes().all(|node| hashes.contains_key(&node.id));
    let thaw = entry.frozen.is_some() && complete;
    let adopt = complete && entry.settings_hash.as_ref() != Some(hash);
    if !shared.leadership.leads() {
        if thaw || adopt {
            shared.leadership.send(&LeaderMessage::Drift { index: entry.physical.clone() }).await?;
        }
        return Ok(());
    }
    if thaw || adopt {
        shared
            .catalog
            .change(&entry.name, |old| {
                old.map(|old| {
                    let mut new = old.clone();
                    if old.version == entry.version {
                        new.settings_hash = Some(hash.clone());
                        new.frozen = None;
                    }
                    new
                })
            })
            .await?;
    }
    if entry.settings_hash.as_ref() == Some(hash) {
        for node in hashes.keys() {
            let versions = &shared.stores.settings_versions;
            versions.set(&entry.physical, node, entry.settings_version).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hashes(list: &[(&str, &str)]) -> BTreeMap<NodeId, String> {
        list.iter().map(|(n, h)| (NodeId::new(n).unwrap(), (*h).to_owned())).collect()
    }

    fn differ(right: &str, wrong: &[&str]) -> Verdict {
        Verdict::Differ {
            right: NodeId::new(right).unwrap(),
            wrong: wrong.iter().map(|n| NodeId::new(n).unwrap()).collect(),
        }
    }

    #[test]
    fn the_committed_settings_decide_then_the_majority() {
        let odd = hashes(&[("a", "x"), ("b", "y"), ("c", "y")]);
        assert_eq!(judge(&odd, Some("x")), differ("a", &["b", "c"]));
        assert_eq!(judge(&odd, Some("gone")), differ("b", &["a"]));
        assert_eq!(judge(&odd, None), differ("b", &["a"]));
        let torn = hashes(&[("a", "x"), ("b", "y")]);
        assert_eq!(judge(&torn, Some("y")), differ("b", &["a"]));
        assert_eq!(judge(&torn, None), Verdict::Open);
        assert_eq!(judge(&hashes(&[("a", "x"), ("b", "x")]), Some("y")), Verdict::Agree);
        assert_eq!(judge(&hashes(&[]), Some("y")), Verdict::Open);
    }
}
