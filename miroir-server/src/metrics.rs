//! Metrics: the one list of all families, and the recorder that renders them for Prometheus.
//!
//! Code everywhere else uses the `metrics` facade (`metrics::counter!("miroir_…")`) with the names
//! and labels of [`FAMILIES`]. Names are a contract with dashboards and alerts: they are never
//! changed.
//!
//! Every family shows a sample from the start, so that a rate over it does not begin with a gap:
//! [`install`] touches the families without a node or target, [`touch_nodes`] and [`touch_targets`]
//! those with one. A label value
//! in [`FAMILIES`] is either one of a fixed set, which is touched, or bounded by the route table
//! (`path_template`), HTTP (`method`, `status`) or the node calls Miroir makes (`operation`).

use std::sync::OnceLock;
use std::time::Duration;

use metrics::{Key, Label, Level, Metadata, Recorder, Unit};
use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};

/// What a family is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Only grows; the name ends in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Samples, counted in these buckets.
    Histogram(&'static [f64]),
}

/// One label of a family and the values it is touched with at start. The value is not touched when
/// there are none (`node_id`, `target`: see [`touch_nodes`] and [`touch_targets`]).
pub type LabelSpec = (&'static str, &'static [&'static str]);

/// One metric family.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// Name as scraped.
    pub name: &'static str,
    /// Counter, gauge or histogram.
    pub kind: Kind,
    /// Unit of the value.
    pub unit: Unit,
    /// What the value means, in one sentence.
    pub help: &'static str,
    /// The labels.
    pub labels: &'static [LabelSpec],
}

/// Buckets Prometheus clients use by default, in seconds.
pub const SECONDS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Buckets for work of minutes to hours, in seconds.
pub const LONG_SECONDS: &[f64] = &[1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1_800.0, 3_600.0, 7_200.0];

/// Buckets for the number of nodes asked.
pub const FAN_OUT: &[f64] = &[1.0, 2.0, 3.0, 5.0, 8.0, 13.0, 21.0, 34.0, 64.0];

/// Buckets for the number of queries in one request.
pub const BATCH: &[f64] = &[1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0, 100.0, 500.0];

/// Buckets for Kendall's tau: 1 is the same order, -1 the reverse.
pub const TAU: &[f64] = &[-0.5, 0.0, 0.5, 0.8, 0.9, 0.95, 0.99, 0.999, 1.0];

/// Buckets for a difference of two times, in seconds.
pub const DELTA_SECONDS: &[f64] =
    &[-1.0, -0.1, -0.025, -0.005, 0.0, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

const NODE: LabelSpec = ("node_id", &[]);
const TARGET: LabelSpec = ("target", &[]);
/// Labels whose values the configuration gives.
const NAMED: [&str; 2] = [NODE.0, TARGET.0];
/// A request is shown before the first one came: as one of the cheapest route.
const REQUEST: &[LabelSpec] =
    &[("method", &["GET"]), ("path_template", &["/health"]), ("status", &["200"])];
/// The workers whose work is split between pods.
const WORKERS: &[&str] =
    &["settings_drift_check", "anti_entropy", "anti_entropy_counts", "task_pruner"];
/// What can go wrong between Miroir and a node: labels of `NodeFailure`, those that calls end with.
#[rustfmt::skip]
const NODE_ERRORS: LabelSpec = ("error_type", &[
    "connect", "tls_untrusted", "tls_expired", "tls_wrong_name", "tls_refused", "tls_handshake", "reset", "body", "timeout", "overloaded", "refused_key", "server_error",
    "breaker_open", "expired",
]);

/// The blocks of the configuration that name certificates.
const TLS: &[&str] = &["server.tls", "node_tls", "peer_tls"];

const fn family(
    name: &'static str,
    kind: Kind,
    unit: Unit,
    labels: &'static [LabelSpec],
    help: &'static str,
) -> Family {
    Family { name, kind, unit, help, labels }
}

use Kind::{Counter, Gauge, Histogram};
use Unit::{Bytes, Count, Percent, Seconds};

/// Every family of this version, by area.
#[rustfmt::skip]
pub const FAMILIES: &[Family] = &[
    // Requests of clients.
    family("miroir_request_duration_seconds", Histogram(SECONDS), Seconds, REQUEST,
        "Time from a request's head to the end of its answer."),
    family("miroir_requests_total", Counter, Count, REQUEST,
        "Requests answered."),
    family("miroir_requests_refused_total", Counter, Count,
        &[("reason", &["authentication", "authorization", "unread", "limit", "reserved_field",
            "rate_limit", "admission", "quarantine"])],
        "Requests that Miroir refused: without a key, by what the key opens, with a body that was \
         not read for want of a key, by a limit, for a reserved field, for asking too often, for \
         want of room, for a query that a node did not survive."),
    family("miroir_requests_in_flight", Gauge, Count, &[],
        "Requests being served."),
    // Nodes.
    family("miroir_node_healthy", Gauge, Count, &[NODE],
        "1 while the node passes its checks, else 0."),
    family("miroir_node_request_duration_seconds", Histogram(SECONDS), Seconds,
        &[NODE, ("operation", &["search"])],
        "Time of one call to a node."),
    family("miroir_node_errors_total", Counter, Count, &[NODE, NODE_ERRORS],
        "Calls to a node that failed."),
    family("miroir_node_connection_reuse_ratio", Gauge, Percent, &[NODE],
        "Share of calls to a node that found an open connection, from 0 to 1."),
    family("miroir_node_connections_opened_total", Counter, Count, &[NODE],
        "Connections opened to a node."),
    family("miroir_node_ewma_latency_seconds", Gauge, Seconds, &[NODE],
        "Moving average of a node's answer time that replica choice uses."),
    family("miroir_node_in_flight", Gauge, Count, &[NODE],
        "Calls to a node under way."),
    family("miroir_breaker_state", Gauge, Count, &[NODE],
        "State of a node's breaker: 0 closed, 1 half open, 2 open."),
    family("miroir_node_alarms_total", Counter, Count, &[NODE, ("reason", &["refused", "silent"])],
        "Nodes whose calls were not answered, and that did not answer a check at once either."),
    family("miroir_nodes_lost_total", Counter, Count, &[],
        "Nodes that came back without their disk, or with an older copy of it."),
    family("miroir_nodes_foreign_total", Counter, Count, &[],
        "Nodes that were found with another node's disk."),
    family("miroir_node_foreign_disk", Gauge, Count, &[NODE],
        "1 while a node has another node's disk and is not used, else 0."),
    family("miroir_foreign_tasks_total", Counter, Count, &[NODE, ("kind", &[
        "documentAdditionOrUpdate", "documentDeletion", "documentEdition", "indexCreation",
        "indexDeletion", "indexSwap", "indexUpdate", "settingsUpdate",
    ])], "Tasks of nodes about indexes of Miroir that it did not give them, by the node's name for their kind."),
    family("miroir_node_life", Gauge, Count, &[NODE],
        "How often a node came back without what it had."),
    family("miroir_topology_mismatch", Gauge, Count, &[],
        "1 while the store has other nodes than the pod was started with, and the pod answers nothing."),
    // Aliases.
    family("miroir_alias_resolutions_total", Counter, Count, &[("alias", &["none"])],
        "Requests that named an alias."),
    family("miroir_alias_flips_total", Counter, Count, &[("alias", &["none"])],
        "Times an alias was made to stand for something else."),
    // Sessions and repeated changes.
    family("miroir_session_active_count", Gauge, Count, &[],
        "Sessions with a write that may not be everywhere yet, as of the last pruning."),
    family("miroir_session_pin_enforced_total", Counter, Count,
        &[("strategy", &["block", "route_pin"])],
        "Reads that had to show a write of their session."),
    family("miroir_session_wait_duration_seconds", Histogram(SECONDS), Seconds, &[],
        "How long such a read waited."),
    family("miroir_session_wait_timeout_total", Counter, Count, &[],
        "Such reads that were answered though the write may be missing."),
    family("miroir_session_pin_cleared_total", Counter, Count, &[],
        "Such reads whose group could not serve every shard any more."),
    family("miroir_session_lost_total", Counter, Count, &[],
        "Writes whose session could not be stored."),
    family("miroir_idempotency_hits_total", Counter, Count,
        &[("outcome", &["miss", "dedup", "conflict"])],
        "Changes with an idempotency key: the first, one sent again, another with a used key."),
    family("miroir_idempotency_cache_size", Gauge, Count, &[],
        "Idempotency keys known, as of the last pruning."),
    // Shards.
    family("miroir_shard_coverage", Gauge, Percent, &[],
        "Share of shards with at least one readable replica, from 0 to 1."),
    family("miroir_degraded_shards_total", Gauge, Count, &[],
        "Shards with fewer readable replicas than they should have, now."),
    family("miroir_shard_distribution", Gauge, Count, &[NODE],
        "Shards a node holds."),
    family("miroir_stale_shards", Gauge, Count, &[],
        "Replicas of shards that missed an acknowledged write and are not read."),
    family("miroir_repairs_total", Counter, Count, &[("kind", &["pending", "shard", "index", "deleted"])],
        "Stale replicas brought up to date, by what they had missed."),
    family("miroir_lots", Gauge, Count,
        &[("stage", &["open", "compare", "verify", "catch_up"])],
        "Copies of shards under way, by what they are at."),
    family("miroir_lot_blocked_total", Counter, Count,
        &[("reason", &["node_away", "unverified", "no_authority", "target_refuses",
            "target_lag", "document_too_large", "verify", "failed"])],
        "Times that a repair could not go on; it is tried again."),
    family("miroir_copy_documents_read_total", Counter, Count, &[],
        "Documents read to compare replicas, on both sides."),
    family("miroir_copy_documents_written_total", Counter, Count, &[],
        "Documents that were written to a replica, or deleted there, because they differed."),
    family("miroir_copy_documents_equal_total", Counter, Count, &[],
        "Documents of replicas that were compared and did not differ."),
    family("miroir_copy_pages_discarded_total", Counter, Count, &[],
        "Comparisons that began anew because a write of unknown extent came between."),
    family("miroir_copy_dirty_ids", Gauge, Count, &[],
        "Documents that are to be read again before their replica is up to date."),
    family("miroir_verify_differences_total", Counter, Count, &[],
        "Documents that differed where the copy had called them equal; they are copied again."),
    family("miroir_held_writes_total", Counter, Count, &[],
        "Writes that waited for a copy, at most two seconds each."),
    family("miroir_hold_seconds", Histogram(SECONDS), Seconds, &[],
        "How long such a write waited."),
    // Tasks.
    family("miroir_task_processing_age_seconds", Gauge, Seconds, &[],
        "Age of the oldest task that has not finished."),
    family("miroir_tasks_total", Counter, Count,
        &[("status", &["enqueued", "processing", "succeeded", "failed", "canceled"])],
        "Tasks that entered a status."),
    family("miroir_task_registry_size", Gauge, Count, &[],
        "Tasks in the registry."),
    family("miroir_webhook_requests_total", Counter, Count, &[("result", &["ok", "failed"])],
        "Requests to webhooks, sent again or not."),
    family("miroir_unread_requests_taken_total", Counter, Count, &[],
        "Requests that Miroir could not read and a node would have carried out: none was."),
    // Scatter and gather.
    family("miroir_scatter_fan_out_size", Histogram(FAN_OUT), Count, &[],
        "Nodes one request was sent to."),
    family("miroir_scatter_partial_responses_total", Counter, Count, &[],
        "Answers that lacked a shard."),
    family("miroir_scatter_retries_total", Counter, Count, &[],
        "Leaves that were asked of another replica."),
    family("miroir_writes_degraded_total", Counter, Count, &[],
        "Writes that were acknowledged while a replica missed them."),
    family("miroir_writes_late_total", Counter, Count, &[],
        "Calls of writes that a node had not answered when the write was acknowledged."),
    family("miroir_writes_unanswered_bytes", Gauge, Bytes, &[],
        "Bytes of writes that nodes have not answered."),
    family("miroir_writes_combined_total", Counter, Count, &[],
        "Writes that went to nodes together with others."),
    family("miroir_document_order_stamps_total", Counter, Count,
        &[("stamp", &["kept", "new"])],
        "Documents that were written, by whether they kept the stamp of their first arrival."),
    family("miroir_document_order_lookups_total", Counter, Count,
        &[("outcome", &["answered", "failed", "new", "silent", "skipped", "unmade"])],
        "Questions to owners which documents they have, and writes that need none."),
    family("miroir_document_order_descending_leaves_total", Counter, Count, &[],
        "Answers of nodes that had equal hits in another order than their documents came."),
    family("miroir_deep_pages_total", Counter, Count,
        &[("outcome", &["fetched", "whole"])],
        "Pages far down a list whose hits were fetched apart, and those where that had to be given up."),
    family("miroir_facet_refinements_total", Counter, Count,
        &[("outcome", &["bounded", "refined", "incomplete", "spelled"])],
        "Facet counts by how they became exact: bound held, second round, or not at all; and rounds for spellings."),
    // Several searches in one request, and searches by vector.
    family("miroir_multisearch_batches_total", Counter, Count, &[],
        "Multi-searches."),
    family("miroir_multisearch_queries_per_batch", Histogram(BATCH), Count, &[],
        "Queries of one multi-search."),
    family("miroir_multisearch_partial_failures_total", Counter, Count, &[],
        "Multi-searches that failed although an earlier query of theirs had an answer."),
    family("miroir_vector_search_over_fetched_total", Counter, Count, &[],
        "Hits nodes were asked for beyond those a search by vector needed."),
    family("miroir_vector_merge_strategy", Gauge, Count,
        &[("strategy", &["details", "convex", "rrf"])],
        "1 for the strategy by which the halves of hybrid searches are merged."),
    family("miroir_vector_embedder_drift_total", Counter, Count, &[],
        "Nodes found with other embedders than the rest."),
    // Failed nodes.
    family("miroir_restores_total", Counter, Count,
        &[("outcome", &["begun", "rolled_back", "spare", "no_place", "brake"])],
        "Nodes away for long: copies made anew, given up as the node came back, or not begun."),
    // Anti-entropy.
    family("miroir_antientropy_shards_scanned_total", Counter, Count, &[],
        "Shards of which all documents were compared, on all replicas."),
    family("miroir_antientropy_mismatches_found_total", Counter, Count, &[],
        "Documents that replicas turned out to have in different versions."),
    family("miroir_antientropy_docs_repaired_total", Counter, Count, &[],
        "Documents that were mended on a replica."),
    family("miroir_antientropy_ambiguous_total", Counter, Count, &[],
        "Documents of which nobody can tell which version is right."),
    family("miroir_antientropy_last_scan_completed_seconds", Gauge, Seconds, &[],
        "Time at which the last pass over all documents ended, in seconds since 1970."),
    family("miroir_antientropy_pass_seconds", Histogram(SECONDS), Seconds, &[],
        "How long passes over all documents took."),
    // Settings.
    family("miroir_settings_broadcast_phase", Gauge, Count, &[],
        "Furthest phase of a running broadcast: 0 none, 1 propose, 2 verify, 3 commit."),
    family("miroir_settings_hash_mismatch_total", Counter, Count, &[],
        "Nodes found with other settings than the committed ones."),
    family("miroir_settings_drift_repair_total", Counter, Count, &[],
        "Nodes whose settings were repaired."),
    family("miroir_settings_version", Gauge, Count, &[],
        "Highest committed settings version of any index."),
    // Hedges.
    family("miroir_hedge_fired_total", Counter, Count, &[("outcome", &["winner", "loser"])],
        "Replicas asked because a node took longer than usual, by who answered first."),
    family("miroir_hedge_skipped_total", Counter, Count,
        &[("reason", &["budget", "heavy", "limit", "no_replica", "others_late"])],
        "Slow calls that no other replica was asked for."),
    // Questions that a node did not survive.
    family("miroir_query_quarantine_total", Counter, Count, &[("reason", &["reset", "timeout"])],
        "Queries that were quarantined: a node broke off, or did not answer a heavy one in time."),
    family("miroir_query_quarantine_refused_total", Counter, Count, &[],
        "Queries that were refused because they are quarantined."),
    family("miroir_quarantined_queries", Gauge, Count, &[],
        "Queries that are quarantined."),
    // Choice of replicas.
    family("miroir_replica_selection_score", Gauge, Count, &[NODE],
        "What it costs to ask a node, by which replicas are chosen: 1 is usual, more is worse."),
    family("miroir_replica_selection_exploration_total", Counter, Count, &[],
        "Requests sent to a random replica to learn whether those that are spared are well again."),
    // Searches that are explained.
    family("miroir_explain_requests_total", Counter, Count, &[],
        "Requests to have a search explained."),
    family("miroir_explain_execute_total", Counter, Count, &[],
        "Searches that were explained and executed."),
    family("miroir_explain_warnings_total", Counter, Count,
        &[("warning_type", &["attribute", "narrowing", "deep_page", "wildcard", "settings", "missing_shards",
            "hints", "replicas", "layer"])],
        "Warnings about searches that were explained."),
    // Reads repeated at other clusters.
    family("miroir_shadow_diff_total", Counter, Count,
        &[("kind", &["hits", "ranking", "latency", "error"])],
        "Repeated reads that a shadow answered differently, by in what."),
    family("miroir_shadow_kendall_tau", Histogram(TAU), Count, &[],
        "Order of the hits that both have: 1 the same, -1 the reverse."),
    family("miroir_shadow_latency_delta_seconds", Histogram(DELTA_SECONDS), Seconds, &[],
        "Time of a shadow's answer less that of this cluster's."),
    family("miroir_shadow_errors_total", Counter, Count,
        &[TARGET, ("side", &["primary", "shadow"])],
        "Repeated reads that failed, by where."),
    family("miroir_shadow_dropped_total", Counter, Count,
        &[TARGET, ("reason", &["in_flight", "too_large"])],
        "Chosen reads that were not repeated."),
    // Plans of filters.
    family("miroir_query_plan_narrowable_total", Counter, Count, &[("narrowed", &["yes", "no"])],
        "Reads with a filter, by whether fewer than all shards were asked."),
    family("miroir_query_plan_fanout_size", Histogram(FAN_OUT), Count, &[],
        "Nodes that answered a read with a filter."),
    family("miroir_query_plan_narrowing_ratio", Gauge, Percent, &[],
        "Share of reads with a filter that fewer than all shards were asked, from 0 to 1."),
    // Reads that share a scatter.
    family("miroir_query_coalesce_subscribers_total", Counter, Count, &[],
        "Reads that joined an identical one in flight."),
    family("miroir_query_coalesce_hits_total", Counter, Count, &[],
        "Reads answered by the scatter of an identical one."),
    // Tenants.
    family("miroir_tenant_queries_total", Counter, Count,
        &[("tenant", &["none"]), ("group", &["any"])],
        "Reads by the tenant they are of and the group they were sent to."),
    family("miroir_tenant_pinned_groups", Gauge, Count, &[("tenant", &["other"])],
        "Groups a tenant's reads were sent to since the start."),
    family("miroir_tenant_fallback_total", Counter, Count,
        &[("reason", &["no_tenant", "unknown", "no_such_group", "group_down"])],
        "Reads that were of no tenant with a group, or whose group lacked a shard."),
    family("miroir_tenant_session_pin_override_total", Counter, Count, &[("tenant", &["other"])],
        "Reads that a session took to another group than their tenant's."),
    // Rate limits.
    family("miroir_rate_limited_total", Counter, Count, &[("limit", &["ip", "key", "tenant"])],
        "Requests refused because of a rate limit."),
    family("miroir_rate_limit_errors_total", Counter, Count, &[],
        "Requests let in uncounted because the store of rate limits did not answer."),
    // The resources of this process.
    family("miroir_memory_pressure", Gauge, Count, &[],
        "How near the limit of memory is: 0 not, 1 above 75 %, 2 above 90 %."),
    family("miroir_memory_used_bytes", Gauge, Bytes, &[],
        "Memory of the control group that cannot be reclaimed at once."),
    family("miroir_memory_limit_bytes", Gauge, Bytes, &[],
        "Limit of memory of the control group; 0 without one."),
    family("miroir_cpu_throttled_seconds_total", Counter, Seconds, &[],
        "Whole seconds the control group was kept from running."),
    family("miroir_request_queue_depth", Gauge, Count, &[],
        "Calls to nodes that wait for a place in their lane."),
    // Background work.
    family("miroir_owned_shards_count", Gauge, Count, &[],
        "Shards that are this pod's where work on shards is split between pods."),
    family("miroir_background_queue_depth", Gauge, Count,
        &[("job_type", &["dump_import", "reshard_backfill"])],
        "Jobs in a queue, failed ones included."),
    family("miroir_worker_items_total", Counter, Count,
        &[("worker", WORKERS), ("outcome", &["ok", "error", "panic"])],
        "Items that a worker of this pod worked on."),
    family("miroir_worker_pass_seconds", Histogram(LONG_SECONDS), Seconds, &[("worker", WORKERS)],
        "Time of one pass of a worker over this pod's share."),
    family("miroir_worker_owned_items", Gauge, Count, &[("worker", WORKERS)],
        "Items that were this pod's share in a worker's last pass."),
    family("miroir_peer_pod_count", Gauge, Count, &[],
        "Pods known to share the background work, this one included."),
    // Several pods.
    family("miroir_leader", Gauge, Count, &[("scope", &["leader"])],
        "1 on the pod that is elected."),
    family("miroir_leader_terms_total", Counter, Count, &[("scope", &["leader"])],
        "Terms that this pod began."),
    family("miroir_pod_in_touch", Gauge, Count, &[],
        "1 while this pod, one of several, knows what is current."),
    family("miroir_pod_epoch", Gauge, Count, &[],
        "The newest change of what all pods keep that this one has read."),
    family("miroir_epoch_wait_seconds", Histogram(SECONDS), Seconds, &[],
        "Time that a change waited until all pods knew of it."),
    family("miroir_late_writes_total", Counter, Count, &[],
        "Replicas that got a write of a former leader too late."),
    family("miroir_forwarded_total", Counter, Count,
        &[("outcome", &["answered", "no_leader", "lost"])],
        "Requests passed on to the leader."),
    family("miroir_pod_proofs_failed_total", Counter, Count, &[("of", &["leader", "statement"])],
        "Times that another pod did not prove to be one: who answers at the leader's address, and \
         what was passed on here."),
    family("miroir_forward_wait_seconds", Histogram(SECONDS), Seconds, &[],
        "Time until the leader had answered what was passed on."),
    // TLS.
    family("miroir_certificate_expiry_timestamp_seconds", Gauge, Seconds, &[("block", TLS)],
        "When the certificate that is shown expires, in seconds since 1970; 0 without one."),
    family("miroir_tls_reloads_total", Counter, Count,
        &[("block", TLS), ("outcome", &["loaded", "failed"])],
        "Times that certificates and keys were read again, by whether they could be used."),
    family("miroir_tls_handshakes_failed_total", Counter, Count,
        &[("reason", &["plain_http", "timeout", "client_certificate", "refused_by_client", "failed"])],
        "Clients that connected, and with whom there was no TLS."),
    // Moves of shards.
    family("miroir_rebalance_in_progress", Gauge, Count, &[],
        "1 while the layout changes, as the pod that leads sees it."),
    family("miroir_rebalance_documents_migrated_total", Counter, Count, &[],
        "Documents copied while the layout changed."),
    family("miroir_rebalance_duration_seconds", Histogram(LONG_SECONDS), Seconds, &[],
        "Time a change of the layout took, from its beginning to its end."),
    // The process.
    family("miroir_build_info", Gauge, Count, &[("version", &[env!("CARGO_PKG_VERSION")])],
        "Always 1; the label says what is running."),
];

static METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, None);

/// A recorder that is not installed, described and touched: for tests, with
/// `metrics::with_local_recorder`.
#[must_use]
pub fn recorder() -> PrometheusRecorder {
    let mut builder = PrometheusBuilder::new();
    for family in FAMILIES {
        if let Histogram(buckets) = family.kind {
            builder = builder
                .set_buckets_for_metric(Matcher::Full(family.name.to_owned()), buckets)
                .expect("every histogram has buckets");
        }
    }
    let recorder = builder.build_recorder();
    for family in FAMILIES {
        let (name, unit, help) = (family.name.into(), Some(family.unit), family.help.into());
        match family.kind {
            Counter => recorder.describe_counter(name, unit, help),
            Gauge => recorder.describe_gauge(name, unit, help),
            Histogram(_) => recorder.describe_histogram(name, unit, help),
        }
        if family.named().is_none() {
            touch(&recorder, family, &[]);
        }
    }
    recorder
}

/// Installs the recorder for the process and returns its handle; further calls return the same
/// handle. Call [`upkeep`] in a task.
///
/// Where the embedding program has already installed a recorder of another kind, that one stays,
/// and the handle shows zeros; this is logged.
#[must_use]
pub fn install() -> PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE
        .get_or_init(|| {
            let recorder = recorder();
            let handle = recorder.handle();
            if metrics::set_global_recorder(recorder).is_err() {
                tracing::error!("another metrics recorder is installed; metrics stay at zero");
            }
            handle
        })
        .clone()
}

/// Shows a sample of every family labelled by node for these nodes, through the recorder in force.
/// Values that are already there stay.
pub fn touch_nodes<'a>(nodes: impl IntoIterator<Item = &'a str>) {
    touch_named(NODE.0, nodes);
}

/// As [`touch_nodes`], for the families labelled by a shadow.
pub fn touch_targets<'a>(targets: impl IntoIterator<Item = &'a str>) {
    touch_named(TARGET.0, targets);
}

fn touch_named<'a>(label: &str, values: impl IntoIterator<Item = &'a str>) {
    metrics::with_recorder(|recorder| {
        for value in values {
            for family in FAMILIES.iter().filter(|family| family.named() == Some(label)) {
                touch(recorder, family, &[value]);
            }
        }
    });
}

/// Moves recorded samples into their buckets every few seconds; without it they pile up between
/// scrapes. Never returns: run it as a task and drop it at shutdown.
pub async fn upkeep(handle: PrometheusHandle) {
    let mut ticks = tokio::time::interval(Duration::from_secs(5));
    loop {
        ticks.tick().await;
        handle.run_upkeep();
    }
}

impl Family {
    /// The label whose values the configuration gives, if there is one.
    #[must_use]
    pub fn named(&self) -> Option<&'static str> {
        self.labels.iter().map(|(label, _)| *label).find(|label| NAMED.contains(label))
    }
}

/// Registers the family's series for the product of its label values, adding nothing to them.
/// `named` is the value of the label that the configuration gives.
fn touch(recorder: &dyn Recorder, family: &Family, named: &[&str]) {
    let mut series: Vec<Vec<Label>> = vec![Vec::new()];
    for (label, values) in family.labels {
        let values = if NAMED.contains(label) { named } else { values };
        series = series
            .iter()
            .flat_map(|labels| {
                values.iter().map(|value| {
                    let mut labels = labels.clone();
                    labels.push(Label::new(*label, (*value).to_owned()));
                    labels
                })
            })
            .collect();
    }
    for labels in series {
        let key = Key::from_parts(family.name, labels);
        match family.kind {
            Counter => recorder.register_counter(&key, &METADATA).increment(0),
            Gauge if family.name == "miroir_build_info" => {
                recorder.register_gauge(&key, &METADATA).set(1.0);
            }
            Gauge => recorder.register_gauge(&key, &METADATA).increment(0.0),
            // Registering is enough: an empty histogram is rendered with its buckets at 0.
            Histogram(_) => drop(recorder.register_histogram(&key, &METADATA)),
        }
    }
}

#[cfg(test)]
mod tests;
