//! The version of the topology, which the store has and the nodes were told.
//!
//! A store that is restored from a copy would place documents by nodes that are no more. So each node
//! is told the version in the name of its identity key, and a store whose version is lower than a
//! node's answers nothing until an operator decides.

use miroir_pipeline::cluster::{Bar, ClusterState};
use miroir_pipeline::error::Error;
use miroir_store::Part;
use miroir_store::records::{CommittedTopology, NodeRecord};

/// Goes on with a store that is behind its nodes: its topology gets a version above theirs.
/// Returns that version.
///
/// # Errors
/// `miroir_store_not_behind` if it is not; `miroir_no_leader` on a pod that does not lead; when the
/// store fails, or somebody else changes the topology at the same time.
pub async fn accept_store(state: &ClusterState) -> Result<u64, Error> {
    if !state.leadership.leads() {
        return Err(Error::no_leader());
    }
    let Some(Bar::StoreBehind { version, told }) = state.leadership.barred() else {
        return Err(Error::api(
            "miroir_store_not_behind",
            "No node was told of a later topology than the store's, so there is nothing to accept.",
        ));
    };
    let known = state.committed.load();
    let next = told + 1;
    tracing::warn!(version, told, next, "an older store is gone on with");
    let after = CommittedTopology { version: next, ..CommittedTopology::clone(&known) };
    if !state.stores.identity.commit_topology(after, version).await? {
        return Err(Error::internal("the topology was changed at the same time"));
    }
    for record in state.lives.all().into_iter().filter(|record| record.ahead.is_some()) {
        state.lives.change(&record.node, |record| NodeRecord { ahead: None, ..record }).await?;
    }
    state.follow_topology().await?;
    state.leadership.publish(&[Part::Nodes]).await?;
    Ok(next)
}
