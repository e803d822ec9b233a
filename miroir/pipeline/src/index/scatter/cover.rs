//! What the nodes that a request may ask hold together.

use super::Scatter;
use crate::index::Request;
use crate::leaf;
use miroir_core::routing::ShardSet;
use miroir_core::view::Route;

/// The shards of the index that nobody can be asked for.
pub(super) fn missing(scatter: &Scatter, request: &Request) -> ShardSet {
    let groups = request.topology.complete_groups().map(|group| group.id);
    let route = Route::in_turn(request.hints.order(groups, 0), 0);
    let shards = ShardSet::full(request.index.shards);
    leaf::choose(
        &request.topology,
        &request.index,
        &request.stale,
        &route,
        &shards,
        &request.hints.avoid,
        &scatter.state.nodes.scores,
    )
    .missing
}
