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
use miroir::options::Capability;
use miroir::pods::take_over;
use miroir::stack::Description;
use miroir::store::{CachedTasks, Stores, memory};
use miroir::topology::{Node, NodeStatus, Topology};
use miroir::{Cluster, Stack, StageService, index, leaf, node, operation};
use miroir_api::{GroupId, InvalidNodeId, NodeId};
use miroir_layers::edge::rate_limit::Limiter;
use miroir_layers::index::{
    QueryCoalescingLayer, QueryPlannerLayer, ReservedFieldsLayer, ReservedFieldsOptions,
    SessionPinningLayer, TenantAffinityLayer,
};
use miroir_layers::leaf::{FailoverLayer, HedgeLayer};
use miroir_layers::node::{
    BreakerLayer, CredentialsLayer, DeadlineLayer, DeadlineOptions, LimitLayer, LoadLayer,
    MetricsLayer,
};
use miroir_layers::operation::{
    AliasLayer, AuthorizeLayer, AuthorizeOptions, IdempotencyLayer, RateLimitLayer, ShadowLayer,
    ShadowLog,
};
use tower::Layer;

use crate::config::{Config, NodeConfig, TaskStoreBackend};
use crate::limiter::limiter;
use crate::{BuildError, edge, shadow};

/// One Meilisearch.
fn node(
    config: &Config,
    id: &NodeId,
    parts: &NodeParts,
) -> Stack<node::Request, impl Layer<Client, Service: StageService<node::Request>> + use<>> {
    let metrics = MetricsLayer::new(id).connections(Arc::clone(&parts.connections));
    let deadline = DeadlineOptions { fallback: Some(config.scatter.node_timeout) };
    Stack::new()
        .push(metrics)
        .push_if(config.breaker.layer(|breaker| BreakerLayer::new(&parts.scores, id, breaker)))
        .push(LoadLayer::new(&parts.scores, id)) // refusals are not speed
        .push(DeadlineLayer::new(id, deadline)) // calls say how long; workers may have forgotten
        .push_if(config.node_limit.layer(|limit| LimitLayer::new(id, limit))) // one lane per class
        .push_if(parts.credentials.clone())
}

/// A set of shards, on any replicas that hold them.
fn leaf(
    config: &Config,
    scores: &Arc<Scores>,
) -> Stack<leaf::Request, impl Layer<Dispatch, Service: StageService<leaf::Request>> + use<>> {
    Stack::new()
        // Watches each node on its own.
        .push_if(config.hedging.layer(|hedging| HedgeLayer::new(Arc::clone(scores), hedging)))
        .push_if(config.failover().layer(FailoverLayer::new))
}

/// One concrete index.
fn index(
    config: &Config,
    stores: &Stores,
    scores: &Arc<Scores>,
) -> Stack<index::Request, impl Layer<Scatter, Service: StageService<index::Request>> + use<>> {
    Stack::new()
        // Waits before anybody looks at the index.
        .push_if(
            config
                .session_pinning
                .layer(|sessions| SessionPinningLayer::new(stores, Arc::clone(scores), sessions)),
        )
        .push_if(config.tenant_affinity.layer(TenantAffinityLayer::new)) // a session's group counts more
        .push(ReservedFieldsLayer::new(ReservedFieldsOptions::default()))
        .push_if(config.query_planner.layer(QueryPlannerLayer::new))
        .push_if(config.query_coalescing.layer(QueryCoalescingLayer::new)) // of what is asked in the end
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
    let limits = config.rate_limit.operation();
    let limits = limits.map(|limits| RateLimitLayer::new(limiter.clone(), limits));
    Stack::new()
        .push(AuthorizeLayer::new(AuthorizeOptions::default()))
        .push_if(limits) // by key and tenant; by address at the edge
        .push_if(config.idempotency.layer(|keys| IdempotencyLayer::new(stores, keys))) // of callers
        .push_if(shadow) // repeats what is allowed, in the client's words
        .push_if(config.aliases.layer(|_| AliasLayer::new(Arc::clone(aliases))))
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
    let topology = Topology::new(nodes(config)?, config.replication_factor)?;
    let scores = Arc::new(Scores::new(config.replica_selection.ewma_half_life));
    let credentials = config.node_key().map(CredentialsLayer::new).transpose()?;

    let factory = {
        let (config, scores) = (config.clone(), Arc::clone(&scores));
        Arc::new(move |it: &Node| {
            let client = Client::new(it.id.clone(), &it.address, config.client());
            let parts = NodeParts {
                scores: Arc::clone(&scores),
                connections: client.connections(),
                credentials: credentials.clone(),
            };
            node(&config, &it.id, &parts).build(client)
        })
    };
    let pool = Pool::new(factory, &topology)?;
    let (options, timeout) = (config.cluster(), config.scatter.node_timeout);
    let state =
        ClusterState::new(topology, stores, pool.clone(), Arc::clone(&scores), options, pod);
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
    let limiter = limiter(config, stores);
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

/// The nodes that the configuration lists.
pub(crate) fn nodes(config: &Config) -> Result<Vec<Node>, InvalidNodeId> {
    let node = |node: &NodeConfig| {
        Ok(Node {
            id: NodeId::new(&node.id)?,
            address: node.address.clone(),
            group: GroupId(node.replica_group),
            status: NodeStatus::Active,
        })
    };
    config.nodes.iter().map(node).collect()
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
