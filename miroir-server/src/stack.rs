//! THE ORDER: which layers every stage has, outermost first. The only place where it is written.
//!
//! A layer declares what must be outside of it, and `Stack::build` refuses a wrong order; a
//! snapshot test pins this one. The edge's order is in `edge/mod.rs`, because its layers are over
//! HTTP and not over a stage.

use std::sync::Arc;

use miroir::api::Control;
use miroir::cluster::ClusterState;
use miroir::cluster::PodName;
use miroir::cluster::aliases::AliasTable;
use miroir::index::Scatter;
use miroir::leaf::Dispatch;
use miroir::node::{Client, Connections, Pool, Scores};
use miroir::operation::Resolve;
use miroir::pods::take_over;
use miroir::stack::Description;
use miroir::store::{CachedTasks, Stores, memory};
use miroir::topology::Node;
use miroir::{Cluster, Stack, StageService, index, leaf, node, operation};
use miroir_api::NodeId;
use miroir_layers::edge::rate_limit::Limiter;
use miroir_layers::index::{
    QueryCoalescingLayer, QueryCoalescingOptions, QueryPlannerLayer, QueryPlannerOptions,
    ReservedFieldsLayer, ReservedFieldsOptions, SessionPinningLayer, SessionPinningOptions,
    TenantAffinityLayer, WaitStrategy,
};
use miroir_layers::leaf::{FailoverLayer, FailoverOptions, HedgeLayer, HedgeOptions};
use miroir_layers::node::{
    BreakerLayer, BreakerOptions, CredentialsLayer, DeadlineLayer, DeadlineOptions, LimitLayer,
    LimitOptions, LoadLayer, MetricsLayer,
};
use miroir_layers::operation::{
    AliasLayer, AuthorizeLayer, AuthorizeOptions, IdempotencyLayer, IdempotencyOptions,
    RateLimitLayer, ShadowLayer, ShadowLog,
};
use tower::Layer;

use crate::config::{self, Config, TaskStoreBackend};
use crate::{BuildError, edge, options, shadow};

/// One Meilisearch.
fn node(
    config: &Config,
    id: &NodeId,
    parts: &NodeParts,
) -> Stack<node::Request, impl Layer<Client, Service: StageService<node::Request>> + use<>> {
    let metrics = MetricsLayer::new(id).connections(Arc::clone(&parts.connections));
    Stack::new()
        .push(metrics)
        .push_if(breaker(config, id, &parts.scores))
        .push(LoadLayer::new(&parts.scores, id)) // refusals are not speed
        .push(DeadlineLayer::new(id, deadline(config)))
        .push_if(limit(config, id)) // one lane per class
        .push_if(parts.credentials.clone())
}

/// A set of shards, on any replicas that hold them.
fn leaf(
    config: &Config,
    scores: &Arc<Scores>,
) -> Stack<leaf::Request, impl Layer<Dispatch, Service: StageService<leaf::Request>> + use<>> {
    Stack::new()
        .push_if(hedge(config, scores)) // watches each node on its own
        .push_if(failover(config))
}

/// One concrete index.
fn index(
    config: &Config,
    stores: &Stores,
    scores: &Arc<Scores>,
) -> Stack<index::Request, impl Layer<Scatter, Service: StageService<index::Request>> + use<>> {
    Stack::new()
        .push_if(session(config, stores, scores)) // waits before anybody looks at the index
        .push_if(tenant(config)) // a session's group counts more
        .push(ReservedFieldsLayer::new(ReservedFieldsOptions::default()))
        .push_if(query_planner(config))
        .push_if(coalesce(config)) // of what is asked in the end
}

/// What the client asked for.
fn operation(
    config: &Config,
    stores: &Stores,
    aliases: &Arc<AliasTable>,
    shadow: Option<ShadowLayer>,
    limiter: &Limiter,
) -> Stack<operation::Request, impl Layer<Resolve, Service: StageService<operation::Request>> + use<>>
{
    Stack::new()
        .push(AuthorizeLayer::new(AuthorizeOptions::default()))
        .push_if(rate_limit(config, limiter)) // by key and tenant; by address at the edge
        .push_if(idempotency(config, stores)) // keys belong to callers
        .push_if(shadow) // repeats what is allowed, in the client's words
        .push_if(config.aliases.enabled.then(|| AliasLayer::new(Arc::clone(aliases))))
}

/// Builds the pipeline, innermost stage first: each stands on the one below.
pub(crate) async fn build(
    config: &Config,
    mut stores: Stores,
    pod: Option<PodName>,
) -> Result<(Cluster, Option<Arc<ShadowLog>>), BuildError> {
    // Not over a store that others write too; see `CachedTasks`.
    if config.task_store.backend == TaskStoreBackend::Sqlite {
        stores.tasks = Arc::new(CachedTasks::new(stores.tasks, config.task_registry.cache_size));
    }
    let lookup = shadow::Lookup::default();
    let (shadow, log) = shadow::build(config, &lookup, |name| std::env::var(name).ok())?.unzip();
    let topology = options::topology(config)?;
    let scores = Arc::new(Scores::new(config.replica_selection.ewma_half_life_ms.into()));
    let credentials = config.node_key().map(CredentialsLayer::new).transpose()?;

    let factory = {
        let (config, scores) = (config.clone(), Arc::clone(&scores));
        Arc::new(move |it: &Node| {
            let client = Client::new(it.id.clone(), &it.address, options::client(&config));
            let parts = NodeParts {
                scores: Arc::clone(&scores),
                connections: client.connections(),
                credentials: credentials.clone(),
            };
            node(&config, &it.id, &parts).build(client)
        })
    };
    let pool = Pool::new(factory, &topology)?;
    let tuning = options::tuning(config);
    let timeout = tuning.node_timeout;
    let state = ClusterState::new(topology, stores, pool.clone(), Arc::clone(&scores), tuning, pod);
    let read =
        if state.leadership.is_shared() { state.reload().await } else { take_over(&state).await };
    read.map_err(|source| crate::store_failed(config, source))?;

    let leaves = leaf(config, &scores).build(Dispatch::new(pool, Arc::clone(&scores), timeout))?;
    let stores = &state.stores;
    let indexes =
        index(config, stores, &scores).build(Scatter::new(leaves.clone(), Arc::clone(&state)))?;
    let control = Arc::new(Control::new(leaves.clone(), Arc::clone(&state)));
    let resolve = Resolve::new(
        indexes.clone(),
        Arc::clone(&state),
        operation::BoxService::new(Control::clone(&control)),
        control,
    );
    let limiter = options::limiter(config, stores);
    let operations =
        operation(config, stores, state.aliases.table(), shadow, &limiter).build(resolve)?;
    lookup.set(&state);
    Ok((Cluster { operations, indexes, leaves, state }, log))
}

/// Every stage with its layers, from the client inwards: what `--describe-stack` prints. Opens
/// nothing and builds nothing.
pub fn describe(config: &Config) -> Vec<Description> {
    let any = NodeId::new("any").expect("a valid constant");
    let parts = NodeParts {
        scores: Arc::default(),
        connections: Arc::default(),
        // The key itself does not matter; whether there is one does.
        credentials: config.node_key().and_then(|_| CredentialsLayer::new("any").ok()),
    };
    let stores = memory::open();
    vec![
        edge::describe(config),
        operation(
            config,
            &stores,
            &Arc::default(),
            shadow::described(config),
            &Limiter::new(memory::buckets()),
        )
        .describe(),
        index(config, &stores, &parts.scores).describe(),
        leaf(config, &parts.scores).describe(),
        node(config, &any, &parts).describe(),
    ]
}

/// What the layers of one node share with others.
struct NodeParts {
    scores: Arc<Scores>,
    connections: Arc<Connections>,
    credentials: Option<CredentialsLayer>,
}

fn query_planner(config: &Config) -> Option<QueryPlannerLayer> {
    let planner = &config.query_planner;
    planner.enabled.then(|| {
        QueryPlannerLayer::new(QueryPlannerOptions {
            max_literals: planner.max_pk_literals_narrowable,
            log_plans: planner.log_plans,
        })
    })
}

fn coalesce(config: &Config) -> Option<QueryCoalescingLayer> {
    let coalescing = &config.query_coalescing;
    coalescing.enabled.then(|| {
        QueryCoalescingLayer::new(QueryCoalescingOptions {
            window: coalescing.window_ms.into(),
            max_subscribers: coalescing.max_subscribers,
            max_pending: coalescing.max_pending_queries,
        })
    })
}

fn rate_limit(config: &Config, limiter: &Limiter) -> Option<RateLimitLayer> {
    let options = config.rate_limit.operations()?;
    Some(RateLimitLayer::new(limiter.clone(), options))
}

fn tenant(config: &Config) -> Option<TenantAffinityLayer> {
    let affinity = &config.tenant_affinity;
    affinity.enabled.then(|| TenantAffinityLayer::new(affinity.options()))
}

fn breaker(config: &Config, node: &NodeId, scores: &Scores) -> Option<BreakerLayer> {
    let breaker = &config.breaker;
    breaker.enabled.then(|| {
        let options = BreakerOptions {
            failure_threshold: breaker.failure_threshold,
            open: breaker.open_ms.into(),
            max_open: breaker.max_open_ms.into(),
            half_open_probes: breaker.half_open_probes,
        };
        BreakerLayer::new(scores, node, options)
    })
}

/// Every call says how long it may take; this bounds those that a worker forgot to bound.
fn deadline(config: &Config) -> DeadlineOptions {
    DeadlineOptions { fallback: Some(config.scatter.node_timeout_ms.into()) }
}

fn limit(config: &Config, node: &NodeId) -> Option<LimitLayer> {
    let limit = &config.node_limit;
    limit.enabled.then(|| {
        let options = LimitOptions { interactive: limit.interactive, background: limit.background };
        LimitLayer::new(node, options)
    })
}

fn session(config: &Config, stores: &Stores, scores: &Arc<Scores>) -> Option<SessionPinningLayer> {
    let sessions = &config.session_pinning;
    sessions.enabled.then(|| {
        let options = SessionPinningOptions {
            strategy: match sessions.wait_strategy {
                config::WaitStrategy::Block => WaitStrategy::Block,
                config::WaitStrategy::RoutePin => WaitStrategy::RoutePin,
            },
            max_wait: sessions.max_wait_ms.into(),
            ttl: sessions.ttl_seconds.into(),
            max_sessions: sessions.max_sessions,
        };
        SessionPinningLayer::new(stores, Arc::clone(scores), options)
    })
}

fn idempotency(config: &Config, stores: &Stores) -> Option<IdempotencyLayer> {
    let idempotency = &config.idempotency;
    idempotency.enabled.then(|| {
        let options = IdempotencyOptions {
            ttl: idempotency.ttl_seconds.into(),
            max_keys: idempotency.max_cached_keys,
            ..IdempotencyOptions::default()
        };
        IdempotencyLayer::new(stores, options)
    })
}

fn hedge(config: &Config, scores: &Arc<Scores>) -> Option<HedgeLayer> {
    let hedging = &config.hedging;
    hedging.enabled.then(|| {
        let options = HedgeOptions {
            multiplier: hedging.p95_trigger_multiplier,
            floor: hedging.min_trigger_ms.into(),
            max_per_request: hedging.max_hedges_per_query,
            cross_group: hedging.cross_group_fallback,
            budget_percent: hedging.budget_percent,
            ..HedgeOptions::default()
        };
        HedgeLayer::new(Arc::clone(scores), options)
    })
}

fn failover(config: &Config) -> Option<FailoverLayer> {
    let failover = &config.failover;
    failover.enabled.then(|| {
        FailoverLayer::new(FailoverOptions {
            max_attempts: failover.max_attempts,
            retry_timeouts: config.scatter.retry_on_timeout,
            budget_percent: failover.budget_percent,
            ..FailoverOptions::default()
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(config: &Config) -> String {
        describe(config).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_default_order() {
        insta::assert_snapshot!("default_stack", text(&Config::default()));
    }

    #[test]
    fn what_is_switched_off_is_not_there() {
        let mut config = Config::default();
        config.breaker.enabled = false;
        config.node_limit.enabled = false;
        config.failover.enabled = false;
        config.hedging.enabled = false;
        config.session_pinning.enabled = false;
        config.idempotency.enabled = false;
        config.aliases.enabled = false;
        config.query_planner.enabled = false;
        config.query_coalescing.enabled = false;
        insta::assert_snapshot!("smallest_stack", text(&config));
    }
}
