//! What must hold of a simulated cluster at every moment, faults or not. Checked while a run goes
//! on, from what the nodes have on their disks and what the process in charge knows.
//!
//! A client that was told of a success may read from any replica at any moment, so it is not enough
//! to look at the end, when everything has been repaired.

use miroir_core::routing::shard_of;
use miroir_core::topology::Node;

use crate::cluster::SimCluster;
use crate::history::History;

/// Checks one index now; violations go into the history.
///
/// - *Told means there*: a write whose client saw `succeeded` is on each replica that may be read:
///   one without a stale row, on a node that counts as well and answers.
/// - *An authority*: each shard has a replica that has missed nothing, in some group.
///
/// Does nothing while no process is in charge.
pub fn check(cluster: &SimCluster, history: &History, name: &str) {
    if cluster.leader().is_none() {
        return;
    }
    let state = cluster.miroir().cluster.state;
    let (topology, stale) = (state.membership.topology(), state.staleness.load());
    let entries = state.catalog.all();
    let Some(entry) = entries.iter().find(|entry| entry.name.as_str() == name) else { return };
    let placement = topology.placement(entry.shards);
    for shard in (0..entry.shards).map(miroir_api::ShardId) {
        let mut owners = placement.write_targets(shard);
        if !owners.any(|(_, node)| stale.is_authority(&entry.physical, node, shard)) {
            history.violation(format!("no replica of shard {shard} of {name} is an authority"));
        }
    }
    for id in history.ids() {
        let shard = shard_of(id.as_bytes(), entry.shards);
        for (_, owner) in placement.write_targets(shard) {
            let well = topology.node(owner).is_some_and(Node::is_readable);
            if !well || stale.is_stale(&entry.physical, owner, shard) {
                continue;
            }
            let Some(node) = cluster.nodes.iter().find(|node| node.id() == owner) else { continue };
            if !node.answers() {
                continue;
            }
            let value = node.inspect(|disk| {
                let index = disk.indexes.get(&entry.physical)?;
                index.documents.get(&id)?.get("v")?.as_u64()
            });
            history.is_there(cluster, &id, owner.as_str(), value);
        }
    }
}
