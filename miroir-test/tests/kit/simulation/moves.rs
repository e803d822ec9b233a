//! An operator who changes the topology: any operation, at any moment, paused and taken back at any.

use std::sync::Arc;
use std::time::Duration;

use miroir_api::{GroupId, NodeId};
use miroir_control::topology::operations::{self, Verb};
use miroir_core::topology::{Seat, Wish};
use miroir_pipeline::cluster::ClusterState;
use miroir_store::records::{CommittedTopology, OperationState};
use miroir_test::faults::Rng;
use miroir_test::trace;
use tokio::time::{Instant, sleep};

use super::run::Run;

impl Run {
    /// Begins operations, and interferes with them.
    pub(super) async fn moves(self: Arc<Self>, mut rng: Rng) {
        while Instant::now() < self.until {
            sleep(rng.between(Duration::from_millis(200), Duration::from_secs(4))).await;
            let state = self.cluster.miroir().cluster.state;
            let committed = state.committed.load_full();
            if let Some(operation) = &committed.operation {
                let verb = match rng.below(8) {
                    0 => Verb::Pause,
                    1 | 2 => Verb::Resume,
                    3 => Verb::Rollback,
                    _ => continue,
                };
                let done = self.alive(operations::apply(&state, operation.id, verb)).await;
                trace::line(|| format!("{verb:?} of {operation:?}: {done:?}"));
                match (verb, done) {
                    (Verb::Rollback, Some(Ok(()))) => self.fired("operation taken back"),
                    (Verb::Pause, Some(Ok(()))) => self.fired("operation paused"),
                    _ => {}
                }
            } else if rng.below(4) == 0 {
                self.forget_one(&state, &committed, &mut rng).await;
            } else {
                let wish = self.wish(&committed, &mut rng);
                let begun = self.alive(operations::begin(&state, &wish, false)).await;
                let begun = begun.map(|begun| begun.map(|(_, id)| id));
                trace::line(|| format!("{wish:?}: {begun:?}"));
                if matches!(begun, Some(Ok(_))) {
                    self.fired("operation");
                }
            }
        }
    }

    /// What becomes of a future of the process that runs now; nothing, if it ends.
    async fn alive<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let life = self.cluster.life();
        tokio::select! {
            biased;
            () = life.ended() => None,
            done = future => Some(done),
        }
    }

    async fn forget_one(
        &self,
        state: &Arc<ClusterState>,
        known: &CommittedTopology,
        rng: &mut Rng,
    ) {
        let Some(seat) = pick(&known.without_shards, rng) else { return };
        if let Some(Ok(())) = self.alive(operations::remove_node(state, &seat.id)).await {
            self.fired("node removed");
        }
    }

    fn wish(&self, known: &CommittedTopology, rng: &mut Rng) -> Wish {
        let seats = &known.layout.nodes;
        let free: Vec<(usize, NodeId)> = (0..)
            .zip(self.cluster.nodes.iter().map(|node| node.id().clone()))
            .filter(|(_, id)| !seats.iter().any(|seat| seat.id == *id))
            .collect();
        let address = |at: usize| format!("http://fake-{at}");
        let new = |(at, id): &(usize, NodeId), group| Seat {
            id: id.clone(),
            address: address(*at),
            group,
        };
        let any = pick(seats, rng).map(|seat| (seat.id.clone(), seat.group));
        let (node, group) = any.expect("a layout has nodes");
        let copies = 1 + rng.below(3) as u32;
        match (rng.below(6), pick(&free, rng)) {
            (0 | 1, Some(free)) => Wish::Join(vec![new(free, group)]),
            (2, Some((at, id))) => Wish::Replace { node, by: id.clone(), address: address(*at) },
            (3, _) => {
                let last = seats.iter().map(|seat| seat.group.0).max().unwrap_or_default();
                let group = GroupId(last + 1);
                let enough = known.layout.replication_factor as usize;
                Wish::AddGroup(free.iter().take(enough).map(|free| new(free, group)).collect())
            }
            (4, _) if rng.below(2) == 0 => Wish::RemoveGroup(group),
            (4, _) => Wish::ReplicationFactor(copies),
            _ => Wish::Drain(vec![node]),
        }
    }

    /// Resumes what is paused, so that it ends.
    pub(super) async fn let_moves_end(&self) {
        loop {
            let state = self.cluster.miroir().cluster.state;
            let committed = state.committed.load_full();
            let Some(operation) = &committed.operation else { return };
            if operation.state != OperationState::Paused {
                return;
            }
            let done = self.alive(operations::apply(&state, operation.id, Verb::Resume)).await;
            trace::line(|| format!("resumed: {done:?}"));
            sleep(Duration::from_millis(500)).await;
        }
    }

    /// Notes how operations ended.
    pub(super) fn note_moves(&self) {
        let committed = self.cluster.miroir().cluster.state.committed.load_full();
        for operation in &committed.ended {
            match operation.state {
                OperationState::Committed => self.fired("operation committed"),
                OperationState::RolledBack => self.fired("operation rolled back"),
                _ => {}
            }
        }
    }
}

fn pick<'a, T>(all: &'a [T], rng: &mut Rng) -> Option<&'a T> {
    if all.is_empty() { None } else { all.get(rng.below(all.len() as u64) as usize) }
}
