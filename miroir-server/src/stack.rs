//! The configuration as a pipeline: what the library's builder is told. The order of layers is the
//! library's, [`miroir::order`].

use std::net::SocketAddr;
use std::sync::Arc;

use miroir::janitor::PruningOptions;
use miroir::stack::Description;
use miroir::store::{CachedTasks, Stores, memory};
use miroir::{Builder, Miroir, Options, Pod};
use miroir_layers::edge::rate_limit::Limiter;
use miroir_layers::operation::ShadowLog;

use crate::config::{Config, TaskStoreBackend};
use crate::peers::Identity;
use crate::tls::Tls;
use crate::{BuildError, peers, shadow};

/// What the configuration says about capabilities and stages.
fn options(config: &Config) -> Options {
    Options {
        cluster: config.cluster(),
        client: config.connection_pool_per_node,
        health: config.health,
        drift: config.settings_drift_check,
        pruning: PruningOptions::from(&config.task_registry),
        breaker: config.breaker,
        node_limit: config.node_limit,
        failover: config.failover,
        hedging: config.hedging,
        query_quarantine: config.query_quarantine,
        query_planner: config.query_planner,
        query_coalescing: config.query_coalescing,
        session_pinning: config.session_pinning,
        tenant_affinity: config.tenant_affinity.clone(),
        aliases: config.aliases,
        idempotency: config.idempotency,
        rate_limit: config.rate_limit.clone(),
        admission: config.server.admission(),
    }
}

/// The builder, but for what has to be opened: stores, shadows, pods.
fn builder(config: &Config) -> Builder {
    let mut builder = Miroir::builder()
        .options(options(config))
        .replication_factor(config.replication_factor)
        .request_timeout(config.server.request_timeout);
    for node in &config.nodes {
        builder = builder.node(&node.id, &node.address, node.replica_group);
    }
    if let Some(key) = config.node_key() {
        builder = builder.node_key(key);
    }
    if let Some(key) = config.admin.api_key.get() {
        builder = builder.admin_key(key);
    }
    builder = config.capabilities.mount(builder);
    // As a Meilisearch without a master key; a warning says so.
    if config.master_key.is_set() { builder } else { builder.open_to_everybody() }
}

/// Builds the pipeline.
pub(crate) async fn build(
    config: &Config,
    mut stores: Stores,
    me: &Identity,
    tls: &Tls,
) -> Result<(Miroir, Option<Arc<ShadowLog>>), BuildError> {
    // Not over a store that others write too; see `CachedTasks`.
    if config.task_store.backend == TaskStoreBackend::Sqlite {
        stores.tasks = Arc::new(CachedTasks::new(stores.tasks, config.task_registry.cache_size));
    }
    let lookup = shadow::Lookup::default();
    let (shadow, log) = shadow::build(config, &lookup, |name| std::env::var(name).ok())?.unzip();
    let mut builder = builder(config).limiter(limiter(config, &stores)).node_tls(tls.nodes.clone());
    if let Some(shadow) = shadow {
        builder = builder.shadow(shadow);
    }
    if let Some((name, discovery)) = me.pod_name(config).zip(peers::discovery(config, me, &stores))
    {
        builder = builder.pod(Pod {
            refresh: config.peer_discovery.refresh_interval,
            lease_ttl: config.leader_election.lease_ttl,
            lease_renew: config.leader_election.renew_interval,
            tls: tls.peers.clone(),
            // Known once the listener is open.
            ..Pod::new(name, String::new(), discovery)
        });
    }
    let built = Box::pin(builder.stores(stores).build()).await;
    let miroir = built.map_err(|error| BuildError::of_pipeline(config, error))?;
    lookup.set(&miroir.cluster().state);
    Ok((miroir, log))
}

/// Where other pods reach this one, which serves clients at `client`.
pub(crate) fn advertise(config: &Config, miroir: &mut Miroir, me: &Identity, client: SocketAddr) {
    miroir.advertise(me.address(config, client));
}

/// Every stage with its layers, from the client inwards: what `--describe-stack` prints. Opens
/// nothing and builds nothing.
pub fn describe(config: &Config) -> Vec<Description> {
    let mut builder = builder(config);
    if let Some(shadow) = shadow::described(config) {
        builder = builder.shadow(shadow);
    }
    builder.describe()
}

/// Where requests are counted.
fn limiter(config: &Config, stores: &Stores) -> Limiter {
    let redis = config.task_store.backend == TaskStoreBackend::Redis;
    Limiter::new(if config.rate_limit.is_local(redis) {
        memory::buckets()
    } else {
        Arc::clone(&stores.buckets)
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
        config.query_quarantine.enabled = false;
        config.session_pinning.enabled = false;
        config.idempotency.enabled = false;
        config.aliases.enabled = false;
        config.query_planner.enabled = false;
        config.query_coalescing.enabled = false;
        insta::assert_snapshot!("smallest_stack", text(&config));
    }
}
