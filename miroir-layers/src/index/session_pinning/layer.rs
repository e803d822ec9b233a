//! The layer and its service.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use miroir_api::GroupId;
use miroir_core::hints::Priority;
use miroir_core::routing::ShardSet;
use miroir_core::view::Route;
use miroir_pipeline::codec::HeaderCodec;
use miroir_pipeline::index::{Operation, Request, Response};
use miroir_pipeline::leaf::choose;
use miroir_pipeline::node::Scores;
use miroir_pipeline::stage::{Middleware, Next, Ready, Reply};
use miroir_pipeline::{Error, Placed, StageService};
use miroir_store::clock;
use miroir_store::records::{Pin, Sessions};
use miroir_store::{StoreError, Stores, Tasks};
use tokio::time::{Instant, sleep};

use super::headers::{Session, SessionStale, codec};
use super::{SessionPinningOptions, WaitStrategy};

/// The first pause between two looks at a task. They double, up to [`PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(5);
/// The longest pause between two looks at a task.
const PAUSE: Duration = Duration::from_millis(100);

struct Shared {
    sessions: Arc<dyn Sessions>,
    tasks: Arc<dyn Tasks>,
    scores: Arc<Scores>,
    options: SessionPinningOptions,
}

/// See the [module's documentation](super).
#[derive(Clone)]
#[must_use]
pub struct SessionPinningLayer {
    shared: Arc<Shared>,
}

impl fmt::Debug for SessionPinningLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionPinningLayer").field("options", &self.shared.options).finish()
    }
}

impl SessionPinningLayer {
    /// Remembers sessions in these stores, and judges groups by these figures of their nodes.
    pub fn new(stores: &Stores, scores: Arc<Scores>, options: SessionPinningOptions) -> Self {
        let (sessions, tasks) = (Arc::clone(&stores.sessions), Arc::clone(&stores.tasks));
        Self { shared: Arc::new(Shared { sessions, tasks, scores, options }) }
    }
}

impl Placed for SessionPinningLayer {
    const NAME: &'static str = "session_pinning";

    fn codec(&self) -> Option<Arc<dyn HeaderCodec>> {
        Some(Arc::new(codec()))
    }
}

miroir_pipeline::layer!(SessionPinningLayer);

impl Middleware<Request> for SessionPinningLayer {
    fn call<S: StageService<Request>>(
        &self,
        request: Request,
        next: Ready<'_, S>,
    ) -> Reply<Request, S> {
        let Some(Session(session)) = request.cx.get().cloned() else {
            return next.pass(request);
        };
        let (shared, next) = (Arc::clone(&self.shared), next.take());
        Reply::boxed(async move {
            if matches!(request.op, Operation::Write { .. }) {
                shared.write(&session, next, request).await
            } else {
                shared.read(&session, next, request).await
            }
        })
    }
}

/// What a session's last write means for a read.
enum Freshness {
    /// Everybody has it.
    Everywhere,
    /// This group has it.
    Group(GroupId),
    /// It was waited for in vain.
    Late,
}

impl Shared {
    async fn write<S: StageService<Request>>(
        &self,
        session: &str,
        next: Next<Request, S>,
        request: Request,
    ) -> Result<Response, Error> {
        let index = Arc::clone(&request.index);
        let answer = next.run(request).await?;
        if let Some(accepted) = answer.meta.accepted {
            let pin = Pin { task: accepted.task, group: accepted.group };
            let SessionPinningOptions { ttl, max_sessions, .. } = self.options;
            let stored = self
                .sessions
                .pin(session, &index.physical, pin, ttl, max_sessions, clock::now())
                .await;
            if let Err(error) = stored {
                // It was accepted: the client has to know, with or without a session.
                metrics::counter!("miroir_session_lost_total").increment(1);
                tracing::warn!(%error, task = %accepted.task, "a session does not know of its write");
            }
        }
        Ok(answer)
    }

    async fn read<S: StageService<Request>>(
        &self,
        session: &str,
        next: Next<Request, S>,
        mut request: Request,
    ) -> Result<Response, Error> {
        let index = &request.index.physical;
        let known = self.sessions.get(session, clock::now()).await?;
        let Some(pin) = known.and_then(|session| session.pins.get(index).copied()) else {
            return next.run(request).await;
        };
        let group = pin.group.filter(|group| self.serves(&request, *group));
        if pin.group.is_some() && group.is_none() {
            metrics::counter!("miroir_session_pin_cleared_total").increment(1);
        }
        let strategy = match self.options.wait_strategy {
            WaitStrategy::Block => "block",
            WaitStrategy::RoutePin => "route_pin",
        };
        let fresh = match self.options.wait_strategy {
            WaitStrategy::Block => {
                let begun = Instant::now();
                let fresh = self.wait(&request, pin, group).await?;
                metrics::histogram!("miroir_session_wait_duration_seconds").record(begun.elapsed());
                fresh
            }
            WaitStrategy::RoutePin if self.done(&request, pin, None).await? => {
                Freshness::Everywhere
            }
            WaitStrategy::RoutePin => group.map_or(Freshness::Late, Freshness::Group),
        };
        metrics::counter!("miroir_session_pin_enforced_total", "strategy" => strategy).increment(1);
        // The wait may have ended because a replica was given up, which must not be read now.
        request.renew();
        let group = group.filter(|group| self.serves(&request, *group));
        let fresh = match fresh {
            Freshness::Group(_) if group.is_none() => Freshness::Late,
            fresh => fresh,
        };
        let mut stale = false;
        match fresh {
            Freshness::Everywhere => {
                // Nothing to wait for next time. If this fails, next time asks again.
                let index = &request.index.physical;
                let _ = self.sessions.release(session, index, pin, clock::now()).await;
            }
            Freshness::Group(group) => {
                request.hints.group(group, SessionPinningLayer::NAME, Priority::Must);
            }
            Freshness::Late => {
                metrics::counter!("miroir_session_wait_timeout_total").increment(1);
                stale = true;
                if let Some(group) = group {
                    request.hints.group(group, SessionPinningLayer::NAME, Priority::Must);
                }
            }
        }
        let mut answer = next.run(request).await?;
        answer.meta = answer.meta.mark(stale, SessionStale);
        Ok(answer)
    }

    /// Whether a group can answer for every shard.
    fn serves(&self, request: &Request, group: GroupId) -> bool {
        let route = Route::in_turn(vec![group], 0);
        let Request { topology, index, stale, hints, .. } = request;
        let shards = ShardSet::full(index.shards);
        let cover = choose(topology, index, stale, &route, &shards, &hints.avoid, &self.scores);
        cover.missing.is_empty()
    }

    /// Whether a write is done: everywhere, or on the nodes of a group. One that nobody knows any
    /// more was done long ago.
    async fn done(
        &self,
        request: &Request,
        pin: Pin,
        group: Option<GroupId>,
    ) -> Result<bool, StoreError> {
        let Some(record) = self.tasks.get(pin.task).await? else { return Ok(true) };
        if record.status.is_terminal() {
            return Ok(true);
        }
        let Some(group) = group else { return Ok(false) };
        let mut some = false;
        for task in &record.nodes {
            if request.topology.node(&task.node).is_some_and(|node| node.group == group) {
                // A node that missed it is not read from.
                if !task.dropped && !task.status.is_terminal() {
                    return Ok(false);
                }
                some |= !task.dropped;
            }
        }
        Ok(some)
    }

    async fn wait(
        &self,
        request: &Request,
        pin: Pin,
        group: Option<GroupId>,
    ) -> Result<Freshness, StoreError> {
        let patience = self.options.max_wait.min(request.cx.deadline.remaining());
        let end = Instant::now() + patience;
        let mut pause = FIRST_PAUSE;
        loop {
            if self.done(request, pin, None).await? {
                return Ok(Freshness::Everywhere);
            }
            if let Some(group) = group
                && self.done(request, pin, Some(group)).await?
            {
                return Ok(Freshness::Group(group));
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Freshness::Late);
            }
            sleep(pause.min(left)).await;
            pause = (pause * 2).min(PAUSE);
        }
    }
}
