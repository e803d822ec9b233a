//! Which nodes the cluster has: the configuration's at the first start, and the store's ever after.
//!
//! Documents are placed by the ids of nodes, their groups and the replication factor. A configuration
//! that has others than the store would look for them in the wrong places, so it is refused.

use miroir_core::topology::{Layout, Seat, Topology, TopologyError};
use miroir_pipeline::cluster::{Founding, OnDifference};
use miroir_store::records::CommittedTopology;
use miroir_store::{StoreError, Stores};

/// Why there is no topology to start with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FoundingError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store's nodes and the configuration's addresses do not go together.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// The configuration places documents otherwise than the store.
    #[error(
        "the nodes of the configuration are not those by which documents were placed: {}. Nothing was \
         started, because documents would be looked for in the wrong places. Change the configuration \
         back, or set `topology.on_difference: use_store` to go on with the store's nodes. Nodes are \
         added, drained, replaced and regrouped while Miroir runs: see `miroir-ctl node` and \
         `miroir-ctl group`",
        .0.join("; ")
    )]
    Differs(Vec<String>),
}

/// Reads which nodes the store is about, or says so where it is about none yet.
///
/// # Errors
/// [`FoundingError`].
pub async fn found(
    stores: &Stores,
    configured: Topology,
    on_difference: OnDifference,
) -> Result<Founding, FoundingError> {
    let store_id = stores.identity.store_id().await?;
    let mut wanted = Layout::of(&configured);
    let committed = match stores.identity.topology().await? {
        Some(committed) => committed,
        None => {
            let committed = stores.identity.found_topology(wanted.clone()).await?;
            let older = !stores.indexes.list().await?.is_empty();
            tracing::info!(
                nodes = committed.layout.nodes.len(),
                replication_factor = committed.layout.replication_factor,
                fingerprint = %committed.fingerprint,
                "{}",
                if older {
                    "the store is of a version that did not know its nodes: it has those of the \
                     configuration from now on"
                } else {
                    "the nodes of the configuration are the store's from now on"
                }
            );
            committed
        }
    };
    // A node that has no shards any more may still be listed, and a change that is under way may be in
    // the configuration already.
    let without = |seat: &Seat| committed.without_shards.iter().any(|own| own.id == seat.id);
    wanted.nodes.retain(|seat| !without(seat));
    let mut differences = committed.layout.differences(&wanted);
    if committed.change.as_ref().is_some_and(|c| c.to.differences(&wanted).is_empty()) {
        differences.clear();
    }
    match on_difference {
        _ if differences.is_empty() => {}
        OnDifference::Refuse => return Err(FoundingError::Differs(differences)),
        OnDifference::UseStore => {
            tracing::warn!(
                differences = differences.join("; "),
                "the configuration has other nodes than the store: the store's are used"
            );
        }
    }
    let CommittedTopology { layout, change, without_shards, .. } = &committed;
    let topology = configured.following(layout, change.as_ref(), without_shards)?;
    Ok(Founding { store_id, committed, topology: topology.at_version(1) })
}
