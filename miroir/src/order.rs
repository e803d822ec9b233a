//! THE ORDER: which layers every stage has, outermost first. The only place where it is written.
//!
//! A layer declares what must be outside of it, and [`Stack::build`] refuses a wrong order; a
//! snapshot test pins this one.

use std::sync::Arc;

use miroir_api::NodeId;
use miroir_control::janitor::PruningOptions;
use miroir_core::options::Capability;
use miroir_layers::RateLimits;
use miroir_layers::edge::rate_limit::Limiter;
use miroir_layers::index::{
    QueryCoalescingLayer, QueryCoalescingOptions, QueryPlannerLayer, QueryPlannerOptions,
    ReservedFieldsLayer, ReservedFieldsOptions, SessionPinningLayer, SessionPinningOptions,
    TenantAffinityLayer, TenantAffinityOptions,
};
use miroir_layers::leaf::{FailoverLayer, FailoverOptions, HedgeLayer, HedgeOptions};
use miroir_layers::node::{
    BreakerLayer, BreakerOptions, CredentialsLayer, DeadlineLayer, DeadlineOptions, LimitLayer,
    LimitOptions, LoadLayer, MetricsLayer,
};
use miroir_layers::operation::{
    AliasLayer, AliasOptions, AuthorizeLayer, AuthorizeOptions, IdempotencyLayer,
    IdempotencyOptions, RateLimitLayer, ShadowLayer,
};
use miroir_pipeline::cluster::ClusterOptions;
use miroir_pipeline::cluster::aliases::AliasTable;
use miroir_pipeline::node::{Client, ClientOptions, Connections, HealthOptions, Scores};
use miroir_pipeline::stack::{BoxLayer, Description, Stack};
use miroir_pipeline::stage::{BoxService, Stage, StageService};
use miroir_pipeline::{index, leaf, node, operation};
use miroir_store::Stores;
use tower::Layer;

use miroir_control::broadcast::drift::DriftOptions;

/// The layers of the edge, outermost first. They are over HTTP and not over a stage, and most are
/// about listeners, so the server has them; [`Miroir::client_api`](crate::Miroir::client_api) has
/// those whose names are in [`CLIENT_API`].
///
/// | layer | what it does |
/// | --- | --- |
/// | `catch_panic` | a panic of any layer answers 500 and leaves the connection usable |
/// | `request_id` | takes or makes the id, opens the span, answers `X-Miroir-Request-Id` |
/// | `observe` | one log line and the metrics of the request |
/// | `cors` | as permissive as Meilisearch |
/// | `negotiate` | picks the answer's encoding; 406 if there is none |
/// | `compression` | gzip, deflate, br |
/// | `decompression` | of request bodies |
/// | `normalize` | `//a//` is `/a` |
/// | `admit` | 503 above `server.max_concurrent_requests`, near the limit of memory above an eighth; probes always pass |
/// | `rate_limit` | 429 above `rate_limit.per_ip`, if that is set |
/// | `authenticate` | bearer token to principal |
/// | `catch_handler` | a panic below answers 500 with everything above in place |
/// | `forward` | what changes something goes to the pod that leads |
pub const EDGE: &[&str] = &[
    "catch_panic",
    "request_id",
    "observe",
    "cors",
    "negotiate",
    "compression",
    "decompression",
    "normalize",
    "admit",
    "rate_limit",
    "authenticate",
    "catch_handler",
    "forward",
];

/// Those of [`EDGE`] that [`Miroir::client_api`](crate::Miroir::client_api) has around Decode.
pub const CLIENT_API: &[&str] = &["rate_limit", "authenticate", "forward"];

/// Options of a pipeline: those of every capability, and of what the stages share. The default is
/// what is recommended, and what the server has without a configuration.
///
/// A capability that is switched off (`enabled: false`) has no layer in the stack.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// What several stages look at.
    pub cluster: ClusterOptions,
    /// The HTTP client of each node.
    pub client: ClientOptions,
    /// When and how often nodes are checked.
    pub health: HealthOptions,
    /// When settings of nodes are compared, and whether they are mended.
    pub drift: DriftOptions,
    /// When old records are removed.
    pub pruning: PruningOptions,
    /// Sparing a node that fails.
    pub breaker: BreakerOptions,
    /// Calls in flight to one node.
    pub node_limit: LimitOptions,
    /// Asking another replica. What timed out is retried where
    /// [`ScatterOptions::retry_on_timeout`](crate::ScatterOptions::retry_on_timeout) says so.
    pub failover: FailoverOptions,
    /// Asking another replica of a slow node.
    pub hedging: HedgeOptions,
    /// Asking only the shards that can match.
    pub query_planner: QueryPlannerOptions,
    /// One scatter for identical reads.
    pub query_coalescing: QueryCoalescingOptions,
    /// Reads of a session show its writes.
    pub session_pinning: SessionPinningOptions,
    /// A tenant's reads go to one replica group.
    pub tenant_affinity: TenantAffinityOptions,
    /// Names that stand for indexes.
    pub aliases: AliasOptions,
    /// A change that is sent twice is made once.
    pub idempotency: IdempotencyOptions,
    /// How many requests an address, an API key and a tenant may make.
    pub rate_limit: RateLimits,
}

impl Options {
    /// The client of a node: opening a connection takes no longer than a whole call may.
    pub(crate) fn node_client(&self) -> ClientOptions {
        let timeout = self.cluster.scatter.node_timeout;
        ClientOptions { connect_timeout: self.client.connect_timeout.min(timeout), ..self.client }
    }
}

/// What layers share with each other and with the stages.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Parts {
    /// Figures of nodes: `load` and `breaker` feed them, routing, `hedge` and `session_pinning`
    /// read them.
    pub scores: Arc<Scores>,
    /// The stores of the cluster's state.
    pub stores: Stores,
    /// Where requests are counted against rate limits.
    pub limiter: Limiter,
}

/// What the layers of one node share with others.
pub(crate) struct NodeParts {
    pub(crate) scores: Arc<Scores>,
    pub(crate) connections: Arc<Connections>,
    pub(crate) credentials: Option<CredentialsLayer>,
}

/// One Meilisearch.
pub(crate) fn node(
    options: &Options,
    id: &NodeId,
    parts: &NodeParts,
) -> Stack<node::Request, impl Layer<Client, Service: StageService<node::Request>> + use<>> {
    let metrics = MetricsLayer::new(id).connections(Arc::clone(&parts.connections));
    let deadline = DeadlineOptions { fallback: Some(options.cluster.scatter.node_timeout) };
    Stack::new()
        .push(metrics)
        .push_if(options.breaker.layer(|breaker| BreakerLayer::new(&parts.scores, id, breaker)))
        .push(LoadLayer::new(&parts.scores, id)) // refusals are not speed
        .push(DeadlineLayer::new(id, deadline)) // calls say how long; workers may have forgotten
        .push_if(options.node_limit.layer(|limit| LimitLayer::new(id, limit))) // one lane per class
        .push_if(parts.credentials.clone())
}

/// A set of shards, on any replicas that hold them.
pub(crate) fn leaf<S: StageService<leaf::Request>>(
    options: &Options,
    scores: &Arc<Scores>,
) -> Stack<leaf::Request, impl Layer<S, Service: StageService<leaf::Request>> + use<S>> {
    let retry_timeouts = options.cluster.scatter.retry_on_timeout;
    let failover = FailoverOptions { retry_timeouts, ..options.failover };
    Stack::new()
        // Watches each node on its own.
        .push_if(options.hedging.layer(|hedging| HedgeLayer::new(Arc::clone(scores), hedging)))
        .push_if(failover.layer(FailoverLayer::new))
}

/// One concrete index.
pub(crate) fn index<S: StageService<index::Request>>(
    options: &Options,
    parts: &Parts,
) -> Stack<index::Request, impl Layer<S, Service: StageService<index::Request>> + use<S>> {
    let (stores, scores) = (&parts.stores, &parts.scores);
    Stack::new()
        // Waits before anybody looks at the index.
        .push_if(
            options
                .session_pinning
                .layer(|sessions| SessionPinningLayer::new(stores, Arc::clone(scores), sessions)),
        )
        .push_if(options.tenant_affinity.layer(TenantAffinityLayer::new)) // a session's group counts more
        .push(ReservedFieldsLayer::new(ReservedFieldsOptions::default()))
        .push_if(options.query_planner.layer(QueryPlannerLayer::new))
        .push_if(options.query_coalescing.layer(QueryCoalescingLayer::new)) // of what is asked in the end
}

/// What the client asked for.
pub(crate) fn operation<S: StageService<operation::Request>>(
    options: &Options,
    parts: &Parts,
    aliases: &Arc<AliasTable>,
    shadow: Option<ShadowLayer>,
) -> Stack<operation::Request, impl Layer<S, Service: StageService<operation::Request>> + use<S>> {
    let limits = options.rate_limit.operation();
    let limits = limits.map(|limits| RateLimitLayer::new(parts.limiter.clone(), limits));
    let stores = &parts.stores;
    Stack::new()
        .push(AuthorizeLayer::new(AuthorizeOptions::default()))
        .push_if(limits) // by key and tenant; by address at the edge
        .push_if(options.idempotency.layer(|keys| IdempotencyLayer::new(stores, keys))) // of callers
        .push_if(shadow) // repeats what is allowed, in the client's words
        .push_if(options.aliases.layer(|_| AliasLayer::new(Arc::clone(aliases))))
}

/// Layers of somebody else, made of what layers share.
pub(crate) type Own<R> = Arc<dyn Fn(&Parts) -> Stack<R, BoxLayer<R>> + Send + Sync>;

/// The layers that somebody adds, inside of the recommended ones.
#[derive(Clone, Default)]
pub(crate) struct OwnLayers {
    pub(crate) operations: Option<Own<operation::Request>>,
    pub(crate) indexes: Option<Own<index::Request>>,
    pub(crate) leaves: Option<Own<leaf::Request>>,
}

/// Builds a stage: where nobody adds a layer, no more is boxed than has to be.
macro_rules! stage {
    ($stack:expr, $own:expr, $parts:expr, $base:expr) => {
        match &$own {
            Some(own) => {
                $stack.append(own($parts)).build(::miroir_pipeline::BoxService::new($base))
            }
            None => $stack.build($base),
        }
    };
}
pub(crate) use stage;

/// The typed stages with their layers, from the client inwards.
pub(crate) fn describe(
    options: &Options,
    parts: &Parts,
    own: &OwnLayers,
    credentials: Option<CredentialsLayer>,
    shadow: Option<ShadowLayer>,
) -> Vec<Description> {
    fn with<R: Stage>(mut own: Description, parts: &Parts, added: Option<&Own<R>>) -> Description {
        own.layers.extend(added.iter().flat_map(|added| added(parts).describe().layers));
        own
    }
    let any = NodeId::new("any").expect("a valid constant");
    let scores = Arc::clone(&parts.scores);
    let of_node = NodeParts { scores, connections: Arc::default(), credentials };
    let operations =
        operation::<BoxService<operation::Request>>(options, parts, &Arc::default(), shadow);
    let indexes = index::<BoxService<index::Request>>(options, parts);
    let leaves = leaf::<BoxService<leaf::Request>>(options, &parts.scores);
    vec![
        with(operations.describe(), parts, own.operations.as_ref()),
        with(indexes.describe(), parts, own.indexes.as_ref()),
        with(leaves.describe(), parts, own.leaves.as_ref()),
        node(options, &any, &of_node).describe(),
    ]
}
