//! Options of what the stages share.

use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use miroir_core::keys::MasterKey;
use miroir_core::merge::Fusion;
use miroir_core::options::{Faults, Validate, milliseconds, networks, seconds};
use miroir_core::quorum::WriteQuorum;
use miroir_core::routing::Selection;
use miroir_core::topology::AutoRestore;

use super::anti_entropy::AntiEntropyOptions;

/// Options of a cluster: those that several stages and the control plane look at.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// Number of shards of a new index.
    pub shards: u32,
    /// What happens where the configuration has other nodes than the store.
    pub topology: TopologyOptions,
    /// How many replicas of a shard have to acknowledge a write.
    pub write_quorum: WriteQuorum,
    /// How reads go on when nodes fail.
    pub scatter: ScatterOptions,
    /// How many facet values nodes list, so that counts are exact.
    pub faceting: FacetingOptions,
    /// Whether ties and lists come in the order in which documents came.
    pub document_order: DocumentOrderOptions,
    /// Comparing replicas that should be equal.
    pub anti_entropy: AntiEntropyOptions,
    /// Making copies anew that a failed node had.
    pub restore: RestoreOptions,
    /// Small writes that go together.
    pub write_combining: WriteCombiningOptions,
    /// Which replica of a shard is asked.
    pub replica_selection: Selection,
    /// Applying settings on every node.
    pub settings_broadcast: SettingsBroadcastOptions,
    /// Several searches in one request.
    pub multi_search: MultiSearchOptions,
    /// Whether and how vectors are searched.
    pub vector_search: VectorSearchOptions,
    /// Telling others of finished tasks.
    pub webhooks: WebhookOptions,
    /// Showing what a search would do.
    pub explain: ExplainOptions,
    /// Largest documents payload, in bytes.
    pub max_body: usize,
    /// Largest filters of a request.
    pub filters: FilterLimits,
    /// Bytes of writes that are held for nodes that have not taken them. 256 MiB by default.
    pub max_unanswered_writes: usize,
    /// What API keys are derived from; without it there are none and the API is open.
    pub master_key: Option<MasterKey>,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self {
            shards: 64,
            topology: TopologyOptions::default(),
            write_quorum: WriteQuorum::default(),
            scatter: ScatterOptions::default(),
            faceting: FacetingOptions::default(),
            document_order: DocumentOrderOptions::default(),
            anti_entropy: AntiEntropyOptions::default(),
            restore: RestoreOptions::default(),
            write_combining: WriteCombiningOptions::default(),
            replica_selection: Selection::default(),
            settings_broadcast: SettingsBroadcastOptions::default(),
            multi_search: MultiSearchOptions::default(),
            vector_search: VectorSearchOptions::default(),
            webhooks: WebhookOptions::default(),
            explain: ExplainOptions::default(),
            max_body: 100_000_000,
            filters: FilterLimits::default(),
            max_unanswered_writes: 268_435_456,
            master_key: None,
        }
    }
}

/// When and where copies are made anew that were on a node which failed. Part of `rebalancer`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestoreOptions {
    /// How long a node has to be away: 10 min by default.
    pub after: Duration,
    /// Where the copies go.
    pub place: AutoRestore,
    /// Whether a node that comes back before the new copies are read keeps its shards. It does by
    /// default.
    pub takes_back: bool,
}

impl Default for RestoreOptions {
    fn default() -> Self {
        Self { after: Duration::from_mins(10), place: AutoRestore::Spare, takes_back: true }
    }
}

/// Which nodes count where the configuration has others than the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDifference {
    /// None: the start is refused, and each difference named.
    #[default]
    Refuse,
    /// The store's, at the addresses that the configuration has for them.
    UseStore,
}

/// `topology`: the nodes of the configuration and those of the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TopologyOptions {
    /// Which nodes count where both differ. By default the start is refused.
    pub on_difference: OnDifference,
}

impl Validate for TopologyOptions {}

/// What a read does when no node can serve one of its shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnavailableShardPolicy {
    /// Answers with the other shards' hits, and `X-Miroir-Degraded`.
    #[default]
    Partial,
    /// Fails with 503 `miroir_shard_unavailable`.
    Error,
}

/// `scatter`: reads over several nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScatterOptions {
    /// How long one call to a node may take. By default a read of a client's may take as long as the
    /// client's request, and any other call 5 s.
    #[serde(rename = "node_timeout_ms", with = "milliseconds::option")]
    pub node_timeout: Option<Duration>,
    /// Whether a read that timed out is asked of another replica.
    pub retry_on_timeout: bool,
    /// What a read does when a shard has no replica left.
    pub unavailable_shard_policy: UnavailableShardPolicy,
    /// Bytes of documents or ids that a node gets in one call; a document that is larger goes alone.
    /// 16,000,000 by default, far below what a node takes.
    pub node_body_bytes: usize,
    /// Bytes of documents that a node would send for one page of a search, from which on it sends only
    /// those that are shown, in a second round. 524,288 by default; 0 for never.
    pub deep_page_bytes: usize,
}

impl Default for ScatterOptions {
    fn default() -> Self {
        Self {
            node_timeout: None,
            retry_on_timeout: true,
            unavailable_shard_policy: UnavailableShardPolicy::Partial,
            node_body_bytes: 16_000_000,
            deep_page_bytes: 524_288,
        }
    }
}

/// How long a call to a node may take that is no read of a client's, unless `node_timeout_ms` is set.
const NODE_TIMEOUT: Duration = Duration::from_secs(5);
/// Share of a request's time that is kept for answering with what other nodes said, and its most.
const KEPT: (u32, Duration) = (20, Duration::from_secs(1));

impl ScatterOptions {
    /// How long a call to a node may take that is no read of a client's.
    #[must_use]
    pub fn call_timeout(&self) -> Duration {
        self.node_timeout.unwrap_or(NODE_TIMEOUT)
    }

    /// How long a read may take that belongs to a request with so much time left. A node that does not
    /// answer at all leaves time to answer without it.
    #[must_use]
    pub fn read_timeout(&self, left: Duration) -> Duration {
        let (share, most) = KEPT;
        self.node_timeout.unwrap_or_else(|| left.saturating_sub((left / share).min(most)))
    }
}

impl Validate for ScatterOptions {
    fn validate(&self, faults: &mut Faults) {
        faults.positive(&[
            ("node_timeout_ms", self.node_timeout.is_some_and(|span| span.is_zero())),
            ("node_body_bytes", self.node_body_bytes == 0),
        ]);
    }
}

/// `faceting`: exact facet counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FacetingOptions {
    /// Least `maxValuesPerFacet` set on nodes; ten times the client's value where that is more.
    pub node_max_values: u32,
}

impl Default for FacetingOptions {
    fn default() -> Self {
        Self { node_max_values: 1_000 }
    }
}

impl Validate for FacetingOptions {
    fn validate(&self, faults: &mut Faults) {
        faults.positive(&[("node_max_values", self.node_max_values == 0)]);
    }
}

/// `document_order`: ties and unsorted lists in the order in which documents came, as on one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DocumentOrderOptions {
    /// Whether documents are given a stamp when they first come. `true` by default; without, equal hits
    /// come by node.
    pub enabled: bool,
    /// How long a write waits for the owners of up to 1,000 of its documents to say which they have. 100
    /// ms by default. Documents of which nobody says so in time lose their place among ties, nothing else.
    #[serde(rename = "lookup_ms", with = "milliseconds")]
    pub lookup: Duration,
}

impl Default for DocumentOrderOptions {
    fn default() -> Self {
        Self { enabled: true, lookup: Duration::from_millis(100) }
    }
}

impl Validate for DocumentOrderOptions {
    fn validate(&self, faults: &mut Faults) {
        faults.positive(&[("lookup_ms", self.lookup.is_zero())]);
    }
}

/// `write_combining`: small writes of one index that come at the same time go to nodes together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WriteCombiningOptions {
    /// Whether they do. `true` by default; without, every write is a call of its own to each node.
    pub enabled: bool,
    /// Writes that go together at most. 100 by default.
    pub max_writes: usize,
    /// Bytes of documents that go together at most, far below what a node takes; a write of more goes
    /// alone. 262,144 by default.
    pub max_bytes: usize,
}

impl Default for WriteCombiningOptions {
    fn default() -> Self {
        Self { enabled: true, max_writes: 100, max_bytes: 256 << 10 }
    }
}

impl Validate for WriteCombiningOptions {
    fn validate(&self, faults: &mut Faults) {
        faults
            .positive(&[("max_writes", self.max_writes == 0), ("max_bytes", self.max_bytes == 0)]);
    }
}

/// How settings reach the nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BroadcastStrategy {
    /// Proposes to all nodes, verifies on all, then commits.
    #[default]
    TwoPhase,
    /// One node after the other. Read, and without effect: settings are proposed and committed.
    Sequential,
}

/// `settings_broadcast`: applying settings on every node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SettingsBroadcastOptions {
    /// Whether all nodes get settings at once or one after the other. There is one protocol in this
    /// version, at once and in two phases, whatever is said here.
    pub strategy: BroadcastStrategy,
    /// How long the nodes may take until they show the new settings. A minute by default.
    #[serde(rename = "verify_timeout_s", with = "seconds")]
    pub verify_timeout: Duration,
    /// How often nodes that diverge get the settings again. 3 times by default.
    pub max_repair_retries: u32,
    /// Whether the index refuses writes when the repair failed. True by default.
    pub freeze_writes_on_unrepairable: bool,
}

impl Default for SettingsBroadcastOptions {
    fn default() -> Self {
        Self {
            strategy: BroadcastStrategy::TwoPhase,
            verify_timeout: Duration::from_mins(1),
            max_repair_retries: 3,
            freeze_writes_on_unrepairable: true,
        }
    }
}

impl Validate for SettingsBroadcastOptions {
    fn validate(&self, faults: &mut Faults) {
        faults.positive(&[("verify_timeout_s", self.verify_timeout.is_zero())]);
    }
}

/// The largest filters that are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilterLimits {
    /// Conditions, joined by `AND` and `OR` or as elements of lists. 2000 by default.
    pub conditions: usize,
    /// Bytes. 160,000 by default.
    pub bytes: usize,
}

impl Default for FilterLimits {
    fn default() -> Self {
        Self { conditions: 2_000, bytes: 160_000 }
    }
}

/// `webhooks`: telling others of finished tasks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebhookOptions {
    /// Networks that are not public and are told all the same: whoever may make a webhook can have
    /// this server send requests to them. None by default, as on one node.
    #[serde(with = "networks")]
    pub allowed_networks: Vec<IpNet>,
}

impl Validate for WebhookOptions {
    /// Nothing: every list of networks is one.
    fn validate(&self, _: &mut Faults) {}
}

/// `multi_search`: several searches in one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MultiSearchOptions {
    /// Whether `/multi-search` is served. True by default.
    pub enabled: bool,
    /// Queries that one request may have. 2,000 by default.
    pub max_queries_per_batch: usize,
    /// How long one request may take. 30 s by default.
    #[serde(rename = "total_timeout_ms", with = "milliseconds")]
    pub total_timeout: Duration,
    /// How long one of its queries may take. 30 s by default.
    #[serde(rename = "per_query_timeout_ms", with = "milliseconds")]
    pub per_query_timeout: Duration,
}

impl Default for MultiSearchOptions {
    fn default() -> Self {
        Self {
            enabled: true,
            max_queries_per_batch: 2000,
            total_timeout: Duration::from_secs(30),
            per_query_timeout: Duration::from_secs(30),
        }
    }
}

impl Validate for MultiSearchOptions {
    fn validate(&self, faults: &mut Faults) {
        faults.positive(&[
            ("max_queries_per_batch", self.max_queries_per_batch == 0),
            ("total_timeout_ms", self.total_timeout.is_zero()),
            ("per_query_timeout_ms", self.per_query_timeout.is_zero()),
        ]);
    }
}

/// `vector_search`: searches by vector and hybrid searches.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VectorSearchOptions {
    /// Whether searches by vector and hybrid searches are served. True by default.
    pub enabled: bool,
    /// Each node is asked for this many times the hits that are needed.
    pub over_fetch_factor: u32,
    /// How the halves of a hybrid search become one list.
    pub merge_strategy: Fusion,
    /// `semanticRatio` of a hybrid search that does not say, from 0 to 1.
    pub hybrid_alpha_default: f32,
    /// How little the first positions stand out, where `merge_strategy` is `rrf`.
    pub rrf_k: u32,
}

impl Default for VectorSearchOptions {
    fn default() -> Self {
        Self {
            enabled: true,
            over_fetch_factor: 3,
            merge_strategy: Fusion::Details,
            hybrid_alpha_default: 0.5,
            rrf_k: 60,
        }
    }
}

impl Validate for VectorSearchOptions {
    fn validate(&self, faults: &mut Faults) {
        faults.positive(&[
            ("over_fetch_factor", self.over_fetch_factor == 0),
            ("rrf_k", self.rrf_k == 0),
        ]);
        let ratio = self.hybrid_alpha_default;
        faults.when(
            !(0.0..=1.0).contains(&ratio),
            &["hybrid_alpha_default"],
            format!("{ratio} is not a share"),
            "use a number from 0 to 1",
        );
    }
}

/// `explain`: showing what a search would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExplainOptions {
    /// Whether searches are explained.
    pub enabled: bool,
    /// Warnings of one explanation at most.
    pub max_warnings: usize,
    /// Whether `?execute=true` is allowed.
    pub allow_execute_parameter: bool,
}

impl Default for ExplainOptions {
    fn default() -> Self {
        Self { enabled: true, max_warnings: 20, allow_execute_parameter: true }
    }
}

impl Validate for ExplainOptions {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_may_take_what_its_request_may_unless_an_operator_says_otherwise() {
        let seconds = Duration::from_secs;
        let own = ScatterOptions::default();
        for (left, wanted) in
            [(30_000, 29_000), (10_000, 9_500), (100, 95), (0, 0), (3_600_000, 3_599_000)]
        {
            let (left, wanted) = (Duration::from_millis(left), Duration::from_millis(wanted));
            assert_eq!(own.read_timeout(left), wanted);
        }
        assert_eq!(own.call_timeout(), seconds(5));
        let set = ScatterOptions { node_timeout: Some(seconds(2)), ..own };
        assert_eq!((set.read_timeout(seconds(30)), set.call_timeout()), (seconds(2), seconds(2)));
    }
}
