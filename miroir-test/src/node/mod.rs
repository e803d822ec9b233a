//! A Meilisearch node in memory, with faults, on tokio's clock.
//!
//! [`FakeNode`] is the base service of a node stack: no socket, no thread. It keeps indexes,
//! settings and documents, works its tasks off in the order in which they came, and understands as
//! much of search as tests of distribution need. With paused time a run takes as long as it
//! computes. What a [`Fault`] does is written there.

mod disk;
mod filter;
mod routes;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body_util::BodyExt;
use miroir_api::NodeId;
use miroir_core::lock::Lock;
use miroir_pipeline::node::{NodeCall, Request, Response};
use miroir_pipeline::{Effect, Error, NodeFailure};
use serde_json::Value;
use tokio::sync::watch;

pub use disk::{Disk, Document, Index, Task, Work, default_settings};
pub use routes::Incoming;

use crate::faults::{Fault, Flaky, Rng};

/// Where a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Well,
    Crashed,
    Hung,
    Cut,
    Flaky(Flaky),
}

#[derive(Debug)]
struct State {
    disk: Disk,
    condition: Condition,
    rng: Rng,
    /// Requests a hung process had in its socket when the client gave up.
    buffered: Vec<Incoming>,
    /// Tasks that get lost although they were acknowledged, in so many of a thousand.
    forgetful: u32,
}

/// See the module's documentation. Clones are the same node.
#[derive(Clone)]
pub struct FakeNode {
    id: NodeId,
    state: Arc<Lock<State>>,
    changed: watch::Sender<()>,
}

impl fmt::Debug for FakeNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeNode").field("id", &self.id).finish_non_exhaustive()
    }
}

/// What becomes of one request.
enum Reaction {
    Served(Duration),
    Refused,
    Waits,
    ResetBefore,
    ResetAfter,
    ServerError,
    Garbage,
}

const FASTEST_TASK: Duration = Duration::from_millis(2);
const SLOWEST_TASK: Duration = Duration::from_millis(60);
const SHORTEST_WAY: Duration = Duration::from_micros(100);
const LONGEST_WAY: Duration = Duration::from_millis(3);
const SLOW: Duration = Duration::from_secs(2);

impl FakeNode {
    /// An empty node that is well.
    pub fn new(id: NodeId, seed: u64) -> Self {
        let state = State {
            disk: Disk::default(),
            condition: Condition::Well,
            rng: Rng::new(seed),
            buffered: Vec::new(),
            forgetful: 0,
        };
        Self { id, state: Arc::new(Lock::new(state)), changed: watch::Sender::new(()) }
    }

    /// Its id.
    pub fn id(&self) -> &NodeId {
        &self.id
    }

    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.state.lock())
    }

    /// Something happens to the node. A new fault replaces the one before.
    pub fn suffer(&self, fault: Fault) {
        self.with(|state| {
            state.catch_up();
            let next = match fault {
                Fault::Crash => Condition::Crashed,
                Fault::Hang => Condition::Hung,
                Fault::Partition => Condition::Cut,
                Fault::Flaky(flaky) => Condition::Flaky(flaky),
                Fault::Heal => Condition::Well,
            };
            if state.condition == Condition::Crashed && next != Condition::Crashed {
                state.disk.restart();
            }
            if next == Condition::Crashed {
                state.buffered.clear();
            } else if next != Condition::Hung {
                for request in std::mem::take(&mut state.buffered) {
                    state.serve(&request);
                }
            }
            state.condition = next;
        });
        self.changed.send_replace(());
    }

    /// Loses everything it kept, as with a new disk.
    pub fn wipe(&self) {
        self.with(|state| state.disk = Disk::default());
    }

    /// Comes back with another disk: an older copy of its own, as from a backup.
    pub fn restore(&self, disk: Disk) {
        self.with(|state| state.disk = disk);
    }

    /// Makes the node acknowledge document writes and forget so many of a thousand of them.
    pub fn forget(&self, per_mille: u32) {
        self.with(|state| state.forgetful = per_mille);
    }

    /// Looks at what the node keeps, with all due tasks done.
    pub fn inspect<T>(&self, look: impl FnOnce(&Disk) -> T) -> T {
        self.with(|state| {
            state.catch_up();
            look(&state.disk)
        })
    }

    fn reaction(&self) -> Reaction {
        self.with(|state| {
            let way = state.rng.between(SHORTEST_WAY, LONGEST_WAY);
            match state.condition {
                Condition::Well => Reaction::Served(way),
                Condition::Crashed | Condition::Cut => Reaction::Refused,
                Condition::Hung => Reaction::Waits,
                Condition::Flaky(flaky) => {
                    let rng = &mut state.rng;
                    if rng.per_mille(flaky.reset_before) {
                        Reaction::ResetBefore
                    } else if rng.per_mille(flaky.reset_after) {
                        Reaction::ResetAfter
                    } else if rng.per_mille(flaky.server_error) {
                        Reaction::ServerError
                    } else if rng.per_mille(flaky.garbage) {
                        Reaction::Garbage
                    } else if rng.per_mille(flaky.slow) {
                        Reaction::Served(rng.between(way, SLOW))
                    } else {
                        Reaction::Served(way)
                    }
                }
            }
        })
    }

    async fn run(self, request: Request) -> Result<Response, Error> {
        let call = request.extensions().get::<NodeCall>().copied();
        let deadline = call.map(|call| call.deadline);
        // What it is only asked to comment on has no effect where it is asked.
        let reads = call.is_some_and(|c| c.effect == Effect::Read && c.operation != "replay");
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let incoming = Incoming {
            method: parts.method,
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().unwrap_or_default().to_owned(),
            body,
            reads,
        };
        let mut changed = self.changed.subscribe();
        let exchange = async {
            loop {
                changed.borrow_and_update();
                let fail = |failure| Err(Error::node(&self.id, failure));
                match self.reaction() {
                    Reaction::Refused => return fail(NodeFailure::Connect),
                    Reaction::ResetBefore => return fail(NodeFailure::Reset),
                    Reaction::Waits => {
                        let _ = changed.changed().await;
                        // Connections do not survive the process.
                        if self.with(|state| state.condition == Condition::Crashed) {
                            return fail(NodeFailure::Reset);
                        }
                    }
                    Reaction::ServerError => {
                        return Ok(respond(StatusCode::INTERNAL_SERVER_ERROR, "{}".into()));
                    }
                    Reaction::ResetAfter => {
                        self.with(|state| state.serve(&incoming));
                        return fail(NodeFailure::Reset);
                    }
                    Reaction::Garbage => {
                        self.with(|state| state.serve(&incoming));
                        return Ok(respond(StatusCode::OK, "<html>".into()));
                    }
                    Reaction::Served(way) => {
                        // Applied when it arrives; the answer takes its time.
                        let (status, body) = self.with(|state| state.serve(&incoming));
                        tokio::time::sleep(way).await;
                        let gone = |c| matches!(c, Condition::Crashed | Condition::Cut);
                        if self.with(|state| gone(state.condition)) {
                            return fail(NodeFailure::Reset);
                        }
                        return Ok(respond(status, body.to_string().into()));
                    }
                }
            }
        };
        let Some(deadline) = deadline else { return exchange.await };
        match tokio::time::timeout(deadline.remaining(), exchange).await {
            Ok(answer) => answer,
            Err(_) => {
                self.with(|state| {
                    if state.condition == Condition::Hung && state.rng.per_mille(500) {
                        state.buffered.push(incoming);
                    }
                });
                Err(Error::node(&self.id, NodeFailure::Timeout))
            }
        }
    }
}

fn respond(status: StatusCode, body: Bytes) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

impl State {
    fn catch_up(&mut self) {
        if self.condition != Condition::Crashed {
            self.disk.advance();
        }
    }

    fn serve(&mut self, request: &Incoming) -> (StatusCode, Value) {
        self.catch_up();
        let took = self.rng.between(FASTEST_TASK, SLOWEST_TASK);
        let writes = request.path.ends_with("/documents") && request.method != http::Method::GET;
        if writes && self.rng.per_mille(self.forgetful) {
            // Enqueued, but nothing comes of it.
            let empty = Incoming { body: Bytes::from_static(b"[]"), ..request.clone() };
            return routes::answer(&mut self.disk, &empty, took);
        }
        let before = (self.disk.tasks.len(), self.disk.has_rules);
        let answer = routes::answer(&mut self.disk, request, took);
        let unchanged = before == (self.disk.tasks.len(), self.disk.has_rules);
        assert!(unchanged || !request.reads, "{request:?} changes something and is called a read");
        answer
    }
}

miroir_pipeline::service!(FakeNode: Request);
