//! `X-Miroir-Min-Settings-Version`: reads that do without nodes whose settings are too old.

use super::Scatter;
use crate::error::Error;
use crate::index::Request;
use crate::leaf;
use miroir_core::routing::ShardSet;
use miroir_core::view::Route;

/// The request, told to avoid every node that is not known to have the settings version its client
/// asks for.
///
/// # Errors
/// `miroir_settings_version_stale` if what is left does not hold every shard, though all nodes
/// together do.
pub(super) async fn apply(scatter: &Scatter, mut request: Request) -> Result<Request, Error> {
    let state = &scatter.state;
    // Every index begins at 0.
    let Some(floor) = request.cx.min_settings_version.filter(|floor| *floor > 0) else {
        return Ok(request);
    };
    let known = state.stores.settings_versions.list(&request.index.physical).await?;
    let fresh = |node: &miroir_api::NodeId| {
        known.iter().any(|(known, version)| known == node && *version >= floor)
    };
    let below = request.topology.nodes().map(|node| &node.id).filter(|node| !fresh(node));
    let below: Vec<_> = below.cloned().collect();
    if below.is_empty() {
        return Ok(request);
    }
    let groups = request.topology.groups().iter().map(|group| group.id);
    let route = Route::in_turn(request.hints.order(groups, 0), 0);
    let missing = |avoid: &[miroir_api::NodeId]| {
        leaf::choose(
            &request.topology,
            &request.index,
            &request.stale,
            &route,
            &ShardSet::full(request.index.shards),
            avoid,
            &state.nodes.scores,
        )
        .missing
    };
    let before = missing(&request.hints.avoid);
    request.hints.avoid.extend(below);
    if missing(&request.hints.avoid) != before {
        return Err(Error::api(
            "miroir_settings_version_stale",
            format!(
                "No set of nodes that holds every shard of index `{}` has settings version {floor} \
                 (`X-Miroir-Min-Settings-Version`); the committed one is {}. Retry later, or ask \
                 for an older one.",
                request.index.name, request.index.settings_version
            ),
        ));
    }
    Ok(request)
}
