//! Whether what a write was planned by still holds, and what it changes of that itself.

use std::sync::Arc;

use miroir_core::documents::IdCase;
use miroir_store::IndexEntry;

use super::plan::WritePlan;
use crate::cluster::ClusterState;
use crate::error::Error;

/// Whether a write would be planned alike now: by this placement, key and state of its index.
pub(super) fn is_current(state: &ClusterState, plan: &WritePlan) -> bool {
    let (index, topology) = (&plan.index, state.membership.topology());
    let placed = Arc::ptr_eq(&topology, &plan.topology)
        || Arc::ptr_eq(&topology.placement(index.shards), &plan.topology.placement(index.shards));
    placed
        && state.catalog.current(index).is_some_and(|now| {
            Arc::ptr_eq(&now, index)
                || (now.shards == index.shards
                    && now.primary_key == index.primary_key
                    && now.id_case == index.id_case
                    && now.frozen == index.frozen)
        })
}

/// Gives the index of a write its primary key and case of ids, before any node has a document of the
/// kind: whoever reads by what was known sees none.
pub(super) async fn teach(
    state: &ClusterState,
    plan: &WritePlan,
    key: &str,
    id_case: IdCase,
) -> Result<Arc<IndexEntry>, Error> {
    let taught = state
        .catalog
        .change(&plan.index, |entry| {
            let mut entry = entry.clone();
            entry.key_of_documents |= entry.primary_key.is_none();
            let known = entry.primary_key.get_or_insert_with(|| key.to_owned());
            if known == key {
                entry.id_case = entry.id_case.with(id_case);
            }
            entry
        })
        .await?;
    let taught = taught.ok_or_else(|| Error::index_not_found(plan.index.name.as_str()))?;
    // Somebody else's key may have won: it is planned again under that.
    if taught.primary_key.as_deref() == Some(key) { Ok(taught) } else { Err(Error::outdated()) }
}
