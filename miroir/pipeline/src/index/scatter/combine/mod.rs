//! Small writes that wait go to nodes together.
//!
//! Applications save one record at a time. A node takes the writes of an index one after the other, so
//! while some are being sent, those that come wait; and those that wait go together: one call a node, one
//! step of the store, one question for stamps. Nobody waits for company, and each write keeps what is
//! its own: its task and uid, its outcome, its place in the order of documents, its answer.
//!
//! Tasks whose calls are the same calls say so ([`miroir_store::Place`]). What nodes could hold against
//! the documents of one of them is looked for before ([`documents::prepare`]); if nodes refuse a call
//! all the same, each of its writes is made alone. Where anything is out of the ordinary (a node away or
//! late, a replica that is copied or behind, an index with embedders, which may fail for one document), every
//! write goes alone from the beginning.
//!
//! [`documents::prepare`]: miroir_core::documents::prepare

mod queue;

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use miroir_core::documents::Prepared;
use miroir_core::routing::ShardSet;
use miroir_core::view::CatchUp;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::Scatter;
use super::addition::{Addition, calls};
use super::document_tasks::plan;
use super::plan::{AcceptedWrite, Share};
use super::write::{run_write, writable};
use crate::cluster::settings::IndexSettings;
use crate::error::{Error, ErrorKind, Fault};
use crate::index::{Method, Request};
use queue::{Limits, Queue, Runner};

/// A write of more documents goes alone.
const FEW: usize = 100;
/// How long a write waits before it goes alone.
const PATIENCE: Duration = Duration::from_secs(1);

/// What goes together is about one index, and does the same to documents that are there.
type Key = (Uuid, Method, bool);

/// Writes that wait, of all indexes.
#[derive(Debug, Default)]
pub(super) struct Combiner(Queue<Key, Member, Answer>);

/// A write that goes with others.
#[derive(Debug)]
struct Member {
    request: Request,
    addition: Addition,
}

/// What became of it.
#[derive(Debug)]
enum Answer {
    /// It was made, or refused.
    Made(Result<Box<AcceptedWrite>, Error>),
    /// Nothing was done: it goes alone.
    Alone(Box<Member>),
}

/// How a write is made.
#[derive(Debug)]
pub(super) enum Sent {
    /// It was made, or refused.
    Made(Result<Box<AcceptedWrite>, Error>),
    /// It goes alone.
    Alone(Box<Addition>),
}

/// Whether a write may go with others.
pub(super) fn may_wait(
    scatter: &Scatter,
    request: &Request,
    settings: &IndexSettings,
    addition: &Addition,
) -> bool {
    let (state, index) = (&scatter.state, &request.index);
    let options = state.options.write_combining;
    let placement = request.topology.placement(index.shards);
    let touched = addition.touched(index.shards);
    let well = || {
        let owners = request
            .topology
            .nodes()
            .filter(|node| !placement.owned_by(&node.id).intersection(&touched).is_empty());
        owners.map(|node| &node.id).all(|node| {
            writable(state, &request.topology, index, CatchUp::Shard, node)
                && !state.late_writes.is_late(node)
        })
    };
    options.enabled
        && addition.prepared.documents.len() <= FEW
        && addition.bytes() < limits(scatter).bytes
        && settings.embedders.is_empty()
        && request.gate.is_none()
        && !state.catalog.is_provisional(index)
        && request.cx.deadline.remaining() > PATIENCE
        && !state.sequencer.is_filling(&index.physical)
        && state.staleness.load().of_index(&index.physical).next().is_none()
        && well()
}

/// Makes a write with those that wait as well.
pub(super) async fn send(scatter: &Scatter, request: &Request, addition: Addition) -> Sent {
    let key = (request.index.incarnation, addition.method, addition.skip_creation);
    let bytes = addition.bytes();
    let member = Member { request: request.clone(), addition };
    let (mut place, runner) = match scatter.combiner.0.put(key, member, bytes) {
        Ok(placed) => placed,
        Err(member) => return Sent::Alone(Box::new(member.addition)),
    };
    if let Some(runner) = runner {
        // It goes on for others when this write has its answer.
        scatter.state.tracker.spawn(run(scatter.clone(), runner));
    }
    let answer = tokio::select! {
        biased;
        answer = &mut place.answer => answer,
        () = tokio::time::sleep(PATIENCE) => match place.leave() {
            Some(member) => return Sent::Alone(Box::new(member.addition)),
            None => (&mut place.answer).await,
        },
    };
    match answer {
        Ok(Answer::Made(outcome)) => Sent::Made(outcome),
        Ok(Answer::Alone(member)) => Sent::Alone(Box::new(member.addition)),
        Err(_) => Sent::Made(Err(Error::internal("nobody made a write that waited"))),
    }
}

/// How much goes together: one call for each node.
fn limits(scatter: &Scatter) -> Limits {
    let options = &scatter.state.options;
    let combining = options.write_combining;
    let bytes = combining.max_bytes.min(options.scatter.node_body_bytes);
    Limits { writes: combining.max_writes, bytes }
}

async fn run(scatter: Scatter, mut runner: Runner<Key, Member, Answer>) {
    let limits = limits(&scatter);
    let alike = |first: &Member, next: &Member| {
        let (first, next) = (&first.request, &next.request);
        Arc::ptr_eq(&first.index, &next.index) && Arc::ptr_eq(&first.topology, &next.topology)
    };
    while let Some(together) = runner.next(limits, alike) {
        let (members, answers) = together.into_iter().map(queue::Waiting::into_parts).unzip();
        make(&scatter, members, answers).await;
    }
}

/// Makes some writes as one, and answers each.
async fn make(scatter: &Scatter, members: Vec<Member>, answers: Vec<oneshot::Sender<Answer>>) {
    let outcomes = match as_one(scatter, &members).await {
        Ok(outcomes) => {
            let together = members.len() > 1;
            if together {
                metrics::counter!("miroir_writes_combined_total").increment(members.len() as u64);
            }
            let answer = |(member, outcome): (Member, Result<AcceptedWrite, Error>)| match outcome {
                // It may not be, without the others.
                Err(error) if together && is_too_large(&error) => Answer::Alone(Box::new(member)),
                outcome => Answer::Made(outcome.map(Box::new)),
            };
            members.into_iter().zip(outcomes).map(answer).collect()
        }
        // Whether it is stored is not known.
        Err(error) if members.len() == 1 || *error.fault() == Fault::Store => {
            members.iter().map(|_| Answer::Made(Err(error.clone()))).collect::<Vec<_>>()
        }
        Err(_) => members.into_iter().map(|member| Answer::Alone(Box::new(member))).collect(),
    };
    for (answer, outcome) in answers.into_iter().zip(outcomes) {
        // Who has gone needs no answer.
        let _ = answer.send(outcome);
    }
}

/// Whether nodes refused a body for its size.
fn is_too_large(error: &Error) -> bool {
    let ErrorKind::Verbatim { status, .. } = error.kind() else { return false };
    *status == StatusCode::PAYLOAD_TOO_LARGE
}

async fn as_one(
    scatter: &Scatter,
    members: &[Member],
) -> Result<Vec<Result<AcceptedWrite, Error>>, Error> {
    let Some(first) = members.first() else { return Ok(Vec::new()) };
    let (state, index) = (&scatter.state, &first.request.index);
    let documents = members.iter().flat_map(|member| &member.addition.prepared.documents);
    let all = Addition {
        prepared: Prepared { documents: documents.cloned().collect(), ..Prepared::default() },
        ..first.addition.clone()
    };
    let (about, batches) = calls(scatter, &first.request, &all);
    let shares = members.iter().map(|member| share(member, index.shards)).collect();
    let mut cx = first.request.cx.clone();
    let deadlines = members.iter().map(|member| member.request.cx.deadline);
    cx.deadline = deadlines.min().unwrap_or(cx.deadline);
    let plan = plan(&first.request, about, batches);
    let permit = state.write_bytes.take(plan.bytes(), cx.deadline).await?;
    let guard = state.leadership.begin_change();
    let (leaves, state) = (scatter.leaves.clone(), Arc::clone(state));
    run_write(leaves, state, plan, shares, cx, permit, guard).await
}

fn share(member: &Member, shards: u32) -> Share {
    let Member { request, addition } = member;
    let mut task = addition.task.clone();
    task.idempotency = request.cx.task_key();
    let touched: ShardSet = addition.touched(shards);
    let placed: Vec<_> =
        addition.prepared.documents.iter().map(|document| document.shard).collect();
    Share { task, touched, documents: placed.len(), placed }
}
