//! How far broadcasts of settings are, as tasks keep it and gauges show it.

use miroir_pipeline::cluster::ClusterState;
use miroir_store::task_state::{Broadcast, Proposal};
use miroir_store::{TaskRecord, TaskState};

/// The settings that a task is proposing.
pub(crate) fn proposal(record: &TaskRecord) -> Option<&Proposal> {
    match &record.protocol.state {
        Some(TaskState::Settings(Broadcast::Proposed(proposal))) => Some(proposal),
        _ => None,
    }
}

/// Shows the furthest phase of the broadcast that moved last; nothing once none is under way.
pub(crate) fn phase(state: &ClusterState, number: u8) {
    let idle = state.broadcasts.is_idle();
    let number = if idle && number == 0 { 0 } else { number.max(1) };
    metrics::gauge!("miroir_settings_broadcast_phase").set(f64::from(number));
}

/// Shows the highest committed version.
pub(crate) fn publish_version(state: &ClusterState) {
    let highest = state.catalog.all().iter().map(|entry| entry.settings_version).max();
    metrics::gauge!("miroir_settings_version").set(highest.unwrap_or(0) as f64);
}
