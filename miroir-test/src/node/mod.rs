//! A Meilisearch node in memory, with faults, on tokio's clock.
//!
//! [`FakeNode`] is the base service of a node stack: no socket, no thread. It keeps indexes,
//! settings and documents, works its tasks off in the order in which they came, and understands as
//! much of search as tests of distribution need. With paused time a run takes as long as it
//! computes. What a [`Fault`] does is written there.

mod disk;
mod documents;
mod errors;
mod filter;
mod index;
mod keys;
mod link;
mod quirks;
mod request;
mod routes;
mod task;
mod tasks;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use miroir_api::NodeId;
use miroir_core::lock::Lock;
use miroir_pipeline::node::{NodeCall, Request, Response};
use miroir_pipeline::{Effect, Error, NodeFailure};
use serde_json::Value;
use tokio::sync::Notify;

pub use disk::Disk;
pub use documents::{Document, Documents};
pub use index::{Index, default_settings};
pub use link::Link;
pub use quirks::{BODY_LIMIT, Fired};
pub use request::Incoming;
pub use task::{Task, Work};

use quirks::Quirks;

use crate::faults::{Fault, Flaky, Rng};
use crate::trace;

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
    /// How many processes of it there were.
    process: u64,
    rng: Rng,
    /// Requests a hung process had in its socket when the client gave up.
    buffered: Vec<Incoming>,
    /// Tasks that get lost although they were acknowledged, in so many of a thousand.
    forgetful: u32,
    quirks: Quirks,
    /// A copy of the disk, taken at some time.
    copy: Option<Disk>,
    fired: Fired,
}

/// See the module's documentation. Clones are the same node.
#[derive(Clone)]
pub struct FakeNode {
    id: NodeId,
    state: Arc<Lock<State>>,
    /// Those who wait go on in the order in which they came.
    changed: Arc<Notify>,
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

const SHORTEST_WAY: Duration = Duration::from_micros(100);
const LONGEST_WAY: Duration = Duration::from_millis(3);
const SLOW: Duration = Duration::from_secs(2);

impl FakeNode {
    /// An empty node that is well.
    pub fn new(id: NodeId, seed: u64) -> Self {
        let state = State {
            disk: Disk::of(id.as_str()),
            condition: Condition::Well,
            process: 1,
            rng: Rng::new(seed),
            buffered: Vec::new(),
            forgetful: 0,
            quirks: Quirks::default(),
            copy: None,
            fired: Fired::new(),
        };
        Self { id, state: Arc::new(Lock::new(state)), changed: Arc::default() }
    }

    /// Its id.
    pub fn id(&self) -> &NodeId {
        &self.id
    }

    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.state.lock())
    }

    /// Something happens to the node. What [`Fault::Heal`] ends replaces what was before.
    pub fn suffer(&self, fault: Fault) {
        self.with(|state| {
            trace::line(|| format!("{} suffers {fault}", self.id));
            state.catch_up();
            let next = match fault {
                Fault::Crash => Condition::Crashed,
                Fault::Hang => Condition::Hung,
                Fault::Partition => Condition::Cut,
                Fault::Flaky(flaky) => Condition::Flaky(flaky),
                Fault::Heal => Condition::Well,
                quirk => {
                    state.misbehave(quirk);
                    return;
                }
            };
            if next != Condition::Well {
                state.fire(fault.name());
            }
            if state.condition == Condition::Crashed && next != Condition::Crashed {
                state.disk.restart();
            }
            if next == Condition::Crashed {
                state.process += 1;
                state.buffered.clear();
            } else if next != Condition::Hung {
                for request in std::mem::take(&mut state.buffered) {
                    state.serve(&request);
                }
            }
            state.condition = next;
        });
        self.changed.notify_waiters();
    }

    /// Loses everything it kept, as with a new disk.
    pub fn wipe(&self) {
        self.with(|state| state.disk = Disk::of(self.id.as_str()));
    }

    /// Comes back with another disk: an older copy of its own, as from a backup.
    pub fn restore(&self, disk: Disk) {
        self.with(|state| state.disk = disk);
    }

    /// Exchanges the disks of two nodes, as of two volumes that were mounted the wrong way round.
    pub fn swap_disks(&self, other: &Self) {
        let mine = self.inspect(Clone::clone);
        let theirs = other.with(|state| {
            state.catch_up();
            state.fire("swap disks");
            std::mem::replace(&mut state.disk, mine)
        });
        self.with(|state| {
            state.disk = theirs;
            state.disk.restart();
        });
        other.with(|state| state.disk.restart());
    }

    /// Somebody sends a request to the node itself, past Miroir: the answer. Nothing tells who it
    /// was; the disk takes it whatever the node's condition is.
    pub fn foreign(&self, method: Method, path: &str, body: &Value) -> (StatusCode, Value) {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let incoming = Incoming {
            method,
            path: path.to_owned(),
            query: query.to_owned(),
            body: if body.is_null() { Bytes::new() } else { body.to_string().into() },
            reads: false,
        };
        self.with(|state| {
            state.fire("foreign writer");
            state.serve(&incoming)
        })
    }

    /// Has no master key from now on, and so no API keys.
    pub fn without_keys(&self) {
        self.with(|state| state.quirks.keyless = true);
    }

    /// Whether somebody who asks it gets an answer, most of the time.
    pub fn answers(&self) -> bool {
        self.with(|state| matches!(state.condition, Condition::Well | Condition::Flaky(_)))
    }

    /// Does everything in its queue at once, whenever it would be due.
    pub fn finish(&self) {
        self.with(|state| {
            state.disk.hurry();
            state.catch_up();
        });
    }

    /// How often each kind of fault had an effect on it.
    pub fn fired(&self) -> Fired {
        self.with(|state| state.fired.clone())
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

    /// Changes what is on the disk behind everybody's back: no task says so.
    pub fn tamper<T>(&self, change: impl FnOnce(&mut Disk) -> T) -> T {
        self.with(|state| {
            state.catch_up();
            change(&mut state.disk)
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

    /// Whether it may be sent a call by this link.
    fn is_proven(&self, link: Option<&Link>) -> bool {
        let Some(link) = link else { return true };
        self.with(|state| link.admits(&self.id, state.process, &state.disk, state.quirks.keyless))
    }

    async fn run(self, request: Request) -> Result<Response, Error> {
        let call = request.extensions().get::<NodeCall>().copied();
        let deadline = call.map(|call| call.deadline);
        let asks = call.is_some_and(|call| call.to_whoever);
        if deadline.is_some_and(|deadline| deadline.remaining().is_zero()) {
            return Err(Error::node(&self.id, NodeFailure::Expired));
        }
        // What it is only asked to comment on has no effect where it is asked.
        let reads = call.is_some_and(|c| c.effect == Effect::Read && c.operation != "replay");
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let link = parts.extensions.get::<Link>().filter(|_| !asks);
        let incoming = Incoming {
            method: parts.method,
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().unwrap_or_default().to_owned(),
            body,
            reads,
        };
        trace::line(|| {
            let Incoming { method, path, query, .. } = &incoming;
            format!("{} is called: {method} {path}?{query}", self.id)
        });
        let exchange = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                let fail = |failure| Err(Error::node(&self.id, failure));
                match self.reaction() {
                    Reaction::Refused => return fail(NodeFailure::Connect),
                    Reaction::ResetBefore => return fail(NodeFailure::Reset),
                    Reaction::Waits => {
                        changed.await;
                        // Connections do not survive the process.
                        if self.with(|state| state.condition == Condition::Crashed) {
                            return fail(NodeFailure::Reset);
                        }
                    }
                    _ if !self.is_proven(link) => return fail(NodeFailure::Unproven),
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
    fn fire(&mut self, what: &'static str) {
        *self.fired.entry(what).or_default() += 1;
    }

    fn misbehave(&mut self, quirk: Fault) {
        let quirks = &mut self.quirks;
        match quirk {
            Fault::FailsTasks { per_mille, code } => quirks.fails = Some((per_mille, code)),
            Fault::ForgetsTasks { every } => quirks.forgets = Some(every),
            Fault::SlowTasks { from, to } => quirks.slow = Some((from, to)),
            Fault::BodyLimit(bytes) => quirks.body_limit = bytes,
            Fault::Mend => *quirks = Quirks { keyless: quirks.keyless, ..Quirks::default() },
            Fault::KeepCopy => self.copy = Some(self.disk.clone()),
            Fault::OldDisk => {
                if let Some(copy) = self.copy.take() {
                    self.disk = copy;
                    self.disk.restart();
                    self.fire(quirk.name());
                }
            }
            // Conditions, and what takes two nodes.
            Fault::Crash
            | Fault::Hang
            | Fault::Partition
            | Fault::Flaky(_)
            | Fault::Heal
            | Fault::SwapDisks { .. } => {}
        }
    }

    fn catch_up(&mut self) {
        if self.condition == Condition::Crashed {
            return;
        }
        let Self { disk, quirks, rng, fired, .. } = self;
        disk.advance(|| {
            let failure = quirks.failure(rng)?;
            *fired.entry("fails tasks").or_default() += 1;
            Some(failure)
        });
        if quirks.cleans_up() {
            let finished = disk.finished();
            // What is left of a clean-up is the task that did it.
            if disk.finished_work() {
                disk.delete_tasks(&finished, "?statuses=succeeded,failed,canceled");
                self.fire("forgets tasks");
            }
        }
    }

    fn serve(&mut self, request: &Incoming) -> (StatusCode, Value) {
        self.catch_up();
        let refusal = self.quirks.too_long(request.body.len());
        if let Some(refusal) = refusal {
            self.fire("body limit");
            return refusal;
        }
        if let Some(refusal) = self.quirks.no_keys(&request.path) {
            return refusal;
        }
        let (took, is_slow) = self.quirks.took(&mut self.rng);
        let writes = request.path.ends_with("/documents") && request.method != Method::GET;
        if writes && self.rng.per_mille(self.forgetful) {
            // Enqueued, but nothing comes of it.
            let empty = Incoming { body: Bytes::from_static(b"[]"), ..request.clone() };
            return routes::answer(&mut self.disk, &empty, took);
        }
        let state = |disk: &Disk| (disk.tasks.len(), disk.has_rules, disk.keys.len());
        let before = state(&self.disk);
        let answer = routes::answer(&mut self.disk, request, took);
        let after = state(&self.disk);
        assert!(before == after || !request.reads, "{request:?} changes something, and is a read");
        if is_slow && before.0 != after.0 {
            self.fire("slow tasks");
        }
        answer
    }
}

miroir_pipeline::service!(FakeNode: Request);

#[cfg(test)]
mod tests;
