//! Copies of stores, to which they go back, as a database does that is restored from a backup.

use std::fmt;
use std::sync::Arc;

use super::jobs::JobQueue;
use super::records::{LogMap, RecordMap};
use super::{
    FeatureMap, HookMap, IndexMap, KeyList, RuleMap, Shared, StaleMap, TaskMap, VersionMap,
};

/// The contents of the stores of [`open_with_past`](super::open_with_past). Leases, pods, rate limits
/// and messages are not among them: those of a copy would be of processes that have ended.
#[derive(Clone, Debug, Default)]
pub struct Past {
    pub(super) tasks: Arc<TaskMap>,
    pub(super) indexes: Arc<IndexMap>,
    pub(super) replicas: Arc<StaleMap>,
    pub(super) settings_versions: Arc<VersionMap>,
    pub(super) keys: Arc<KeyList>,
    pub(super) features: Arc<FeatureMap>,
    pub(super) rules: Arc<RuleMap>,
    pub(super) webhooks: Arc<HookMap>,
    pub(super) jobs: Arc<JobQueue>,
    pub(super) records: Arc<RecordMap>,
    pub(super) logs: Arc<LogMap>,
}

/// What stores held at one time.
pub struct Copy(Vec<Box<dyn Fn() + Send + Sync>>);

impl fmt::Debug for Copy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Copy").field("stores", &self.0.len()).finish()
    }
}

impl Copy {
    /// The stores it was taken of hold this again.
    pub fn restore(&self) {
        for one in &self.0 {
            one();
        }
    }
}

fn keep<M: Send + Sync + 'static, T: Clone + Send + Sync + 'static>(
    map: &Arc<M>,
    shared: fn(&M) -> &Shared<T>,
) -> Box<dyn Fn() + Send + Sync> {
    let map = Arc::clone(map);
    let kept = shared(&map).lock().clone();
    Box::new(move || *shared(&map).lock() = kept.clone())
}

impl Past {
    /// A copy of what is there now. Calls that run meanwhile are in it, or not, store by store.
    #[must_use]
    pub fn copy(&self) -> Copy {
        Copy(vec![
            keep(&self.tasks, |map| &map.0),
            keep(&self.indexes, |map| &map.0),
            keep(&self.replicas, |map| &map.0),
            keep(&self.settings_versions, |map| &map.0),
            keep(&self.keys, |map| &map.0),
            keep(&self.features, |map| &map.0),
            keep(&self.rules, |map| &map.0),
            keep(&self.webhooks, |map| &map.0),
            keep(&self.jobs, |map| &map.0),
            keep(&self.records, |map| &map.0),
            keep(&self.logs, |map| &map.0),
        ])
    }
}
