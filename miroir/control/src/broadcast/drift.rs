//! The drift checker: finds nodes whose settings were changed behind Miroir's back.
//!
//! Scores can be compared only between nodes with equal settings. Every pass hashes the settings of
//! all nodes and compares them with the committed hash. A node that differs gets the settings of one
//! that does not. Where no node has the committed settings but all agree with each other (a new
//! version of Meilisearch with one more setting, say), what they agree on becomes the committed one.
//! A node that lacks the index is told to the repairer.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use miroir_api::{NodeId, hexadecimal};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::broadcast::primary_keys;
use crate::broadcast::progress::publish_version;
use crate::broadcast::verify::{read_settings, reapply, settings_hash};
use crate::replicas::repair;
use crate::runtime::{Item, PartitionedTask, Peers, Schedule, partitioned};
use miroir_core::options::{Faults, Validate, seconds};
use miroir_pipeline::cluster::ClusterState;
use miroir_pipeline::cluster::leadership::LeaderMessage;
use miroir_pipeline::error::Error;
use miroir_pipeline::leaf::lacks_index;
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
pub enum SettingsAgreement {
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
pub fn judge(hashes: &BTreeMap<NodeId, String>, committed: Option<&str>) -> SettingsAgreement {
    let Some(first) = hashes.values().next() else { return SettingsAgreement::Open };
    if hashes.values().all(|hash| hash == first) {
        return SettingsAgreement::Agree;
    }
    let count = |wanted: &str| hashes.values().filter(|hash| *hash == wanted).count();
    let known = committed.filter(|hash| count(hash) > 0);
    let majority = || hashes.values().find(|hash| 2 * count(hash) > hashes.len());
    let Some(right) = known.or_else(|| majority().map(String::as_str)) else {
        return SettingsAgreement::Open;
    };
    let (same, other): (Vec<_>, Vec<_>) = hashes.iter().partition(|(_, hash)| *hash == right);
    let right = same[0].0.clone();
    SettingsAgreement::Differ {
        right,
        wrong: other.into_iter().map(|(node, _)| node.clone()).collect(),
    }
}

/// When a process looks for the first time, at the latest: the one before may have died while it
/// asked a node to judge settings, which then are on that node only.
const FIRST: Duration = Duration::from_secs(30);

/// Compares the settings of one index after the other, as [`crate::runtime::partitioned`] has it.
#[derive(Debug)]
pub struct DriftCheck {
    state: Arc<ClusterState>,
    auto_repair: bool,
}

impl DriftCheck {
    /// A check that mends what it finds, or only tells of it.
    #[must_use]
    pub fn new(state: Arc<ClusterState>, auto_repair: bool) -> Self {
        Self { state, auto_repair }
    }
}

impl PartitionedTask for DriftCheck {
    const NAME: &'static str = "settings_drift_check";
    type Item = Arc<IndexEntry>;

    async fn items(&self) -> Result<Vec<Arc<IndexEntry>>, Error> {
        publish_version(&self.state);
        Ok(self.state.catalog.all())
    }

    async fn run(&self, entry: Arc<IndexEntry>) -> Result<(), Error> {
        check(&self.state, &entry, self.auto_repair).await
    }
}

impl Item for Arc<IndexEntry> {
    fn key(&self) -> Cow<'_, str> {
        self.physical.as_str().into()
    }
}

/// Checks this pod's share of the indexes at the interval until cancelled.
pub async fn run(
    state: Arc<ClusterState>,
    peers: Arc<Peers>,
    options: DriftOptions,
    stop: CancellationToken,
) {
    let schedule = Schedule { first: options.interval.min(FIRST), interval: options.interval };
    let worker = Arc::new(DriftCheck::new(state, options.auto_repair));
    partitioned(worker, peers, schedule, stop).await;
}

fn busy(state: &ClusterState, entry: &IndexEntry) -> bool {
    entry.making || state.broadcasts.is_in_flight(&entry.physical)
}

/// The settings of the nodes that should have the committed ones and have nothing in their queues;
/// `None` for one that has no such index.
async fn look(state: &ClusterState, entry: &IndexEntry) -> BTreeMap<NodeId, Option<Value>> {
    let (topology, stale) = (state.membership.topology(), state.staleness.load());
    let nodes = topology.nodes().filter(|node| {
        node.is_readable()
            && !state.nodes.scores.is_open(&node.id)
            && !stale.misses_index(&entry.physical, &node.id)
    });
    let answers = join_all(nodes.map(|node| async {
        if !repair::idle(state, &node.id, &entry.physical).await.ok()? {
            return None;
        }
        let settings = match read_settings(state, entry, &node.id).await {
            Ok(settings) => Some(settings),
            Err(error) if lacks_index(&error) => None,
            Err(_) => return None,
        };
        Some((node.id.clone(), settings))
    }))
    .await;
    answers.into_iter().flatten().collect()
}

/// Without nodes that have no such index.
fn shown(seen: BTreeMap<NodeId, Option<Value>>) -> BTreeMap<NodeId, Value> {
    seen.into_iter().filter_map(|(node, settings)| Some((node, settings?))).collect()
}

async fn read(state: &ClusterState, entry: &IndexEntry) -> BTreeMap<NodeId, Value> {
    shown(look(state, entry).await)
}

fn hash(settings: &BTreeMap<NodeId, Value>) -> BTreeMap<NodeId, String> {
    settings
        .iter()
        .map(|(node, value)| (node.clone(), hexadecimal(&settings_hash(value))))
        .collect()
}

pub(crate) async fn check(
    state: &Arc<ClusterState>,
    entry: &Arc<IndexEntry>,
    auto_repair: bool,
) -> Result<(), Error> {
    if busy(state, entry) {
        return Ok(());
    }
    if auto_repair {
        primary_keys::check(state, entry).await?;
    }
    let seen = look(state, entry).await;
    let lacking = auto_repair && seen.values().any(Option::is_none);
    let hashes = hash(&shown(seen));
    if !lacking && judge(&hashes, entry.settings_hash.as_deref()) == SettingsAgreement::Agree {
        return agreed(state, entry, &hashes).await;
    }
    if !lacking && hashes.is_empty() {
        return Ok(());
    }
    if !state.leadership.leads() {
        return state
            .leadership
            .send(&LeaderMessage::Drift { index: entry.physical.clone() })
            .await;
    }
    if lacking {
        repair::find_missing(state, entry).await?;
        return Ok(());
    }
    // What differs may be settings on their way: looked at again while nobody changes any.
    let gate = state.sequencer.exclusive(&entry.physical).await;
    let listed = state.catalog.by_physical(&entry.physical);
    let Some(entry) = listed.filter(|now| !busy(state, now)) else { return Ok(()) };
    let settings = read(state, &entry).await;
    let hashes = hash(&settings);
    let (right, wrong) = match judge(&hashes, entry.settings_hash.as_deref()) {
        SettingsAgreement::Agree => return agreed(state, &entry, &hashes).await,
        SettingsAgreement::Differ { right, wrong } => (right, wrong),
        SettingsAgreement::Open => {
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
    let told = join_all(wrong.iter().map(|node| reapply(state, &entry, node, &settings[&right])));
    let taken = told.await.into_iter().flatten().count();
    metrics::counter!("miroir_settings_drift_repair_total").increment(taken as u64);
    let hashes = hash(&read(state, &entry).await);
    if judge(&hashes, entry.settings_hash.as_deref()) == SettingsAgreement::Agree {
        agreed(state, &entry, &hashes).await?;
    }
    drop(gate);
    Ok(())
}

/// All nodes that answer have equal settings: that is on record, and an index that was frozen
/// because they had not takes writes again.
async fn agreed(
    state: &ClusterState,
    entry: &IndexEntry,
    hashes: &BTreeMap<NodeId, String>,
) -> Result<(), Error> {
    let Some(hash) = hashes.values().next() else { return Ok(()) };
    let complete = state.membership.topology().nodes().all(|node| hashes.contains_key(&node.id));
    let thaw = entry.frozen.is_some() && complete;
    let adopt = complete && entry.settings_hash.as_ref() != Some(hash);
    if !state.leadership.leads() {
        if thaw || adopt {
            state.leadership.send(&LeaderMessage::Drift { index: entry.physical.clone() }).await?;
        }
        return Ok(());
    }
    if thaw || adopt {
        state
            .catalog
            .change(entry, |old| {
                let mut new = old.clone();
                if old.version == entry.version {
                    new.settings_hash = Some(hash.clone());
                    new.frozen = None;
                }
                new
            })
            .await?;
    }
    if entry.settings_hash.as_ref() == Some(hash) {
        let versions = &state.stores.settings_versions;
        let known: BTreeMap<NodeId, u64> =
            versions.list(&entry.physical).await?.into_iter().collect();
        // Each write is a commit: most passes find nothing new.
        let behind = hashes.keys().filter(|node| known.get(node) < Some(&entry.settings_version));
        for node in behind {
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

    fn differ(right: &str, wrong: &[&str]) -> SettingsAgreement {
        SettingsAgreement::Differ {
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
        assert_eq!(judge(&torn, None), SettingsAgreement::Open);
        assert_eq!(judge(&hashes(&[("a", "x"), ("b", "x")]), Some("y")), SettingsAgreement::Agree);
        assert_eq!(judge(&hashes(&[]), Some("y")), SettingsAgreement::Open);
    }
}
