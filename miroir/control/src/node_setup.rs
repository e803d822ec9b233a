//! How an index is made on a node.

use http::Method;
use miroir_pipeline::cluster::ClusterOptions;
use miroir_pipeline::node::Call;
use serde_json::{Value, json};

/// The attribute of documents on nodes that says their shard.
pub(crate) const SHARD: &str = "_miroir_shard";
/// `maxTotalHits` on nodes: Miroir applies the client's value.
pub(crate) const NODE_MAX_TOTAL_HITS: u64 = 1_000_000;

/// Least `maxValuesPerFacet` on nodes. Up to 3000 candidates the engine orders numbers as text, beyond
/// it by value; a leaf of a larger whole must therefore show all values of its 3000 candidates.
/// A limit below 1000 is somebody's wish to keep answers small, and is taken as it is.
pub(crate) fn node_values(tuning: &ClusterOptions) -> u64 {
    let wanted = u64::from(tuning.faceting.node_max_values);
    if wanted < 1000 { wanted } else { wanted.max(3000) }
}

/// What every index has on nodes from the start.
pub fn node_base_settings(tuning: &ClusterOptions) -> Value {
    json!({
        "filterableAttributes": [SHARD],
        "faceting": {"maxValuesPerFacet": node_values(tuning)},
        "pagination": {"maxTotalHits": NODE_MAX_TOTAL_HITS},
    })
}

/// The calls that make an index on a node.
pub(crate) fn creation_calls(physical: &str, primary_key: Option<&str>, base: &Value) -> Vec<Call> {
    let body = json!({"uid": physical, "primaryKey": primary_key}).to_string();
    vec![
        Call::change(Method::POST, "indexes_post", "/indexes").json(body),
        Call::change(Method::PATCH, "settings_patch", format!("/indexes/{physical}/settings"))
            .json(base.to_string()),
    ]
}
