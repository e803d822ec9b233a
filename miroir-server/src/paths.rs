//! The paths of the admin API.

/// The readiness probe: without a key.
pub(crate) const READY: &str = "/_miroir/ready";
/// The page that errors link to: without a key.
pub(crate) const ERRORS: &str = "/_miroir/errors";
pub(crate) const TOPOLOGY: &str = "/_miroir/topology";
/// A store that is behind its nodes is gone on with.
pub(crate) const ACCEPT_STORE: &str = "/_miroir/topology/accept-store";
/// What the nodes hold is compared with the store.
pub(crate) const REBUILD: &str = "/_miroir/topology/rebuild";
pub(crate) const SHARDS: &str = "/_miroir/shards";
pub(crate) const METRICS: &str = "/_miroir/metrics";
pub(crate) const REPLICAS: &str = "/_miroir/replicas";
/// What a node with another node's disk has is thrown away.
pub(crate) const DISCARD_DISK: &str = "/_miroir/nodes/{id}/discard-disk";
pub(crate) const NODES: &str = "/_miroir/nodes";
pub(crate) const NODE: &str = "/_miroir/nodes/{id}";
pub(crate) const DRAIN: &str = "/_miroir/nodes/{id}/drain";
pub(crate) const REPLACE: &str = "/_miroir/nodes/{id}/replace";
/// Nodes without shards that take the place of one that fails.
pub(crate) const SPARES: &str = "/_miroir/spares";
pub(crate) const GROUPS: &str = "/_miroir/groups";
pub(crate) const GROUP: &str = "/_miroir/groups/{id}";
pub(crate) const REPLICATION_FACTOR: &str = "/_miroir/replication-factor";
/// Changes of the topology.
pub(crate) const OPERATIONS: &str = "/_miroir/operations";
pub(crate) const OPERATION: &str = "/_miroir/operations/{id}";
pub(crate) const OPERATION_VERB: &str = "/_miroir/operations/{id}/{verb}";
/// What comparisons of replicas found, and a pass now.
pub(crate) const ANTI_ENTROPY: &str = "/_miroir/anti-entropy";
pub(crate) const ANTI_ENTROPY_RUN: &str = "/_miroir/anti-entropy/run";
pub(crate) const ANTI_ENTROPY_KEPT: &str = "/_miroir/anti-entropy/kept";
pub(crate) const PODS: &str = "/_miroir/pods";
pub(crate) const ALIASES: &str = "/_miroir/aliases";
pub(crate) const ALIAS: &str = "/_miroir/aliases/{name}";
pub(crate) const SHADOW_DIFF: &str = "/_miroir/shadow/diff";
pub(crate) const STACK: &str = "/_miroir/stack";
pub(crate) const TENANTS: &str = "/_miroir/tenants";
pub(crate) const TENANT: &str = "/_miroir/tenants/{api_key_hash}";
pub(crate) const TASK: &str = "/_miroir/tasks/{uid}";
/// Everything else below the prefix.
pub(crate) const UNKNOWN: &str = "/_miroir/unknown";

/// The path's template, if it belongs to the admin API.
pub(crate) fn template(path: &str) -> Option<&'static str> {
    let rest = path.trim_start_matches('/').strip_prefix("_miroir")?;
    if !rest.is_empty() && !rest.starts_with('/') {
        return None;
    }
    let known = [
        READY,
        ERRORS,
        TOPOLOGY,
        ACCEPT_STORE,
        REBUILD,
        SHARDS,
        METRICS,
        REPLICAS,
        NODES,
        SPARES,
        GROUPS,
        REPLICATION_FACTOR,
        OPERATIONS,
        ANTI_ENTROPY,
        ANTI_ENTROPY_RUN,
        ANTI_ENTROPY_KEPT,
        PODS,
        ALIASES,
        SHADOW_DIFF,
        STACK,
        TENANTS,
    ];
    let path = path.trim_end_matches('/');
    if path.strip_prefix("/_miroir/tasks/").is_some_and(|uid| !uid.contains('/')) {
        return Some(TASK);
    }
    if path.strip_prefix("/_miroir/aliases/").is_some_and(|name| !name.contains('/')) {
        return Some(ALIAS);
    }
    if let Some(rest) = path.strip_prefix("/_miroir/nodes/") {
        return Some(match rest.split_once('/') {
            None => NODE,
            Some((_, "discard-disk")) => DISCARD_DISK,
            Some((_, "drain")) => DRAIN,
            Some((_, "replace")) => REPLACE,
            Some(_) => UNKNOWN,
        });
    }
    if path.strip_prefix("/_miroir/groups/").is_some_and(|id| !id.contains('/')) {
        return Some(GROUP);
    }
    if let Some(rest) = path.strip_prefix("/_miroir/operations/") {
        return Some(match rest.split('/').count() {
            1 => OPERATION,
            2 => OPERATION_VERB,
            _ => UNKNOWN,
        });
    }
    if path.strip_prefix("/_miroir/tenants/").is_some_and(|hash| !hash.contains('/')) {
        return Some(TENANT);
    }
    Some(known.into_iter().find(|known| *known == path).unwrap_or(UNKNOWN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_bounded() {
        assert_eq!(template("/_miroir/ready"), Some(READY));
        assert_eq!(template("/_miroir/errors"), Some(ERRORS));
        assert_eq!(template("/_miroir/shards/"), Some(SHARDS));
        assert_eq!(template("/_miroir/pods"), Some(PODS));
        assert_eq!(template("/_miroir/shadow/diff"), Some(SHADOW_DIFF));
        assert_eq!(template("/_miroir/shadow/x"), Some(UNKNOWN));
        assert_eq!(template("/_miroir/7f3a"), Some(UNKNOWN));
        assert_eq!(template("/_miroir/tasks/7"), Some(TASK));
        assert_eq!(template("/_miroir/aliases/"), Some(ALIASES));
        assert_eq!(template("/_miroir/aliases/shop"), Some(ALIAS));
        assert_eq!(template("/_miroir/aliases/shop/x"), Some(UNKNOWN));
        assert_eq!(template("/_miroir/tasks"), Some(UNKNOWN));
        assert_eq!(template("/_miroir/tasks/7/x"), Some(UNKNOWN));
        assert_eq!(template("/_miroir/tenants/2b"), Some(TENANT));
        assert_eq!(template("/_miroir/nodes/a/discard-disk"), Some(DISCARD_DISK));
        assert_eq!(template("/_miroir/nodes/a/b"), Some(UNKNOWN));
        assert_eq!(template("/_miroir/nodes"), Some(NODES));
        assert_eq!(template("/_miroir/nodes/a"), Some(NODE));
        assert_eq!(template("/_miroir/nodes/a/drain"), Some(DRAIN));
        assert_eq!(template("/_miroir/nodes/a/replace"), Some(REPLACE));
        assert_eq!(template("/_miroir/groups/1"), Some(GROUP));
        assert_eq!(template("/_miroir/operations/x"), Some(OPERATION));
        assert_eq!(template("/_miroir/operations/x/pause"), Some(OPERATION_VERB));
        assert_eq!(template("/_miroir/operations/x/y/z"), Some(UNKNOWN));
        assert_eq!(template("/_miroir"), Some(UNKNOWN));
        assert_eq!(template("/_miroirs"), None);
        assert_eq!(template("/health"), None);
    }
}
