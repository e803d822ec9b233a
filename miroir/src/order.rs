//! THE ORDER: which layers every stage has, outermost first. The only place where it is written.
//!
//! A layer declares what must be outside of it, and [`Stack::build`] and [`EdgeStack::build`] refuse
//! a wrong order; a snapshot test pins this one.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use miroir_api::NodeId;
use miroir_control::janitor::PruningOptions;
use miroir_core::options::Capability;
use miroir_layers::RateLimits;
use miroir_layers::edge::catch_panic::AnswerBody;
use miroir_layers::edge::decompression::Decompressed;
use miroir_layers::edge::forward::Received;
use miroir_layers::edge::{
    Admission, AdmissionLayer, AdmissionOptions, AuditLayer, AuditOptions, AuthenticateLayer,
    AuthenticateOptions, CatchPanicLayer, CompressionLayer, CorsLayer, DecompressionLayer,
    ForwardLayer, ForwardOptions, NegotiateLayer, NormalizeLayer, ObserveLayer, ObserveOptions,
    PodAuthLayer, PodProof, RateLimitLayer, RequestIdLayer,
};
use miroir_layers::index::{
    QueryCoalescingLayer, QueryCoalescingOptions, QueryPlannerLayer, QueryPlannerOptions,
    ReservedFieldsLayer, ReservedFieldsOptions, SessionPinningLayer, SessionPinningOptions,
    TenantAffinityLayer, TenantAffinityOptions,
};
use miroir_layers::leaf::{
    FailoverLayer, FailoverOptions, HedgeLayer, HedgeOptions, QueryQuarantineLayer,
    QueryQuarantineOptions,
};
use miroir_layers::node::{
    BreakerLayer, BreakerOptions, CredentialsLayer, DeadlineLayer, DeadlineOptions, LimitLayer,
    LimitOptions, LoadLayer, MetricsLayer,
};
use miroir_layers::operation as operations;
use miroir_layers::operation::{
    AliasLayer, AliasOptions, AuthorizeLayer, AuthorizeOptions, IdempotencyLayer,
    IdempotencyOptions, ShadowLayer,
};
use miroir_pipeline::cluster::ClusterOptions;
use miroir_pipeline::cluster::aliases::AliasTable;
use miroir_pipeline::http::{Decode, EdgeBody, EdgeService, EdgeStack};
use miroir_pipeline::keyring::Keyring;
use miroir_pipeline::node::{Client, ClientOptions, Connections, HealthOptions, Scores};
use miroir_pipeline::stack::{Description, Stack};
use miroir_pipeline::stage::{BoxService, Stage, StageService};
use miroir_pipeline::tls::ClientTls;
use miroir_pipeline::wiring::Wiring;
use miroir_pipeline::{index, leaf, node, operation};
use tower::Layer;

use crate::mount::{Added, OwnLayers};
use crate::parts::Parts;
use miroir_control::broadcast::drift::DriftOptions;

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
    /// Refusing a question that a node did not survive.
    pub query_quarantine: QueryQuarantineOptions,
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
    /// How many requests are served at one time.
    pub admission: AdmissionOptions,
}

impl Options {
    /// The client of a node: opening a connection takes no longer than a whole call may.
    pub(crate) fn node_client(&self) -> ClientOptions {
        let timeout = self.cluster.scatter.call_timeout();
        ClientOptions { connect_timeout: self.client.connect_timeout.min(timeout), ..self.client }
    }
}

/// What the layers of one node share with others.
pub(crate) struct NodeParts {
    pub(crate) scores: Arc<Scores>,
    pub(crate) connections: Arc<Connections>,
    pub(crate) credentials: Option<CredentialsLayer>,
}

/// What layers of the edge are made of.
pub(crate) struct EdgeParts {
    pub(crate) admission: Arc<Admission>,
    pub(crate) pod_auth: PodAuthLayer,
    pub(crate) limit: RateLimitLayer,
    pub(crate) authenticate: AuthenticateLayer,
    pub(crate) audit: AuditLayer,
    pub(crate) forward: ForwardLayer,
    pub(crate) observe: ObserveOptions,
}

impl EdgeParts {
    /// Of no pipeline, to be described.
    fn to_describe(options: &Options, parts: &Parts) -> Self {
        let nobody = AuthenticateOptions { keyring: Arc::new(Keyring::new(None)), admin_key: None };
        let proof = Arc::new(PodProof::new(b""));
        let pod_auth = PodAuthLayer::new(Arc::clone(&proof), None);
        let alone = ForwardOptions {
            leads: Arc::new(|| true),
            leader: Arc::new(|| None),
            timeout: Duration::ZERO,
            max_body: 0,
            proof,
            tls: ClientTls::default(),
        };
        Self {
            admission: Admission::new(options.admission),
            pod_auth,
            limit: match options.rate_limit.edge() {
                Some(limits) => RateLimitLayer::new(parts.limiter.clone(), limits),
                None => RateLimitLayer::off(),
            },
            authenticate: AuthenticateLayer::new(&nobody),
            audit: AuditLayer::new(AuditOptions::default()),
            forward: ForwardLayer::new(alone),
            observe: ObserveOptions::default(),
        }
    }
}

/// HTTP: whatever a client sent, and whoever that is.
pub(crate) fn edge<B, S>(
    parts: EdgeParts,
) -> EdgeStack<impl Layer<S, Service: EdgeService<B, Body = AnswerBody>> + use<B, S>>
where
    B: EdgeBody,
    S: EdgeService<Received<Decompressed<B>>, Body = Full<Bytes>>,
{
    EdgeStack::new()
        .push(CatchPanicLayer::new()) // a panic of any other layer
        .push(RequestIdLayer::new()) // whatever is logged or answered from here on has it
        .push(ObserveLayer::new(parts.observe)) // refusals count, too
        .push(CorsLayer::new()) // a browser reads refusals only with its headers
        .push(NegotiateLayer::new()) // 406 before anything is done
        .push(CompressionLayer::new()) // errors of all below as well
        .push(DecompressionLayer::new()) // bodies are read below
        .push(NormalizeLayer::new()) // paths are looked at below
        .push(AdmissionLayer::new(parts.admission)) // cheaper than all that follows
        .push(parts.pod_auth) // what a pod counted is not counted again
        .push_when(parts.limit.is_on(), parts.limit) // guessing keys counts
        .push(parts.authenticate)
        .push(parts.audit) // by then it is known who asks
        .push_named("catch_handler", CatchPanicLayer::new()) // so a panic below is observed, and encoded
        .push(parts.forward) // by then counted here, and not by the pod that leads
}

/// One Meilisearch.
pub(crate) fn node<S: StageService<node::Request>>(
    options: &Options,
    id: &NodeId,
    parts: &NodeParts,
) -> Stack<node::Request, impl Layer<S, Service: StageService<node::Request>> + use<S>> {
    let metrics = MetricsLayer::new(id).connections(Arc::clone(&parts.connections));
    let deadline = DeadlineOptions { fallback: Some(options.cluster.scatter.call_timeout()) };
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
    parts: &Parts,
) -> Stack<leaf::Request, impl Layer<S, Service: StageService<leaf::Request>> + use<S>> {
    let retry_timeouts = options.cluster.scatter.retry_on_timeout;
    let (scores, quarantine) = (&parts.scores, &parts.quarantine);
    let failover = FailoverOptions { retry_timeouts, ..options.failover };
    Stack::new()
        // Watches each node on its own.
        .push_if(options.hedging.layer(|hedging| HedgeLayer::new(Arc::clone(scores), hedging)))
        .push_if(failover.layer(FailoverLayer::new))
        // Sees whatever the others ask again.
        .push_if(
            options
                .query_quarantine
                .layer(|_| QueryQuarantineLayer::new(Arc::clone(scores), Arc::clone(quarantine))),
        )
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
        // A session's group counts more.
        .push_if(options.tenant_affinity.layer(|tenants| {
            TenantAffinityLayer::new(tenants).keys(&parts.tenants, &parts.keyring)
        }))
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
    let limits =
        limits.map(|limits| operations::RateLimitLayer::new(parts.limiter.clone(), limits));
    let stores = &parts.stores;
    Stack::new()
        .push(AuthorizeLayer::new(AuthorizeOptions::default()))
        .push_if(limits) // by key and tenant; by address at the edge
        .push_if(
            options
                .idempotency
                .layer(|keys| IdempotencyLayer::new(stores, Arc::clone(&parts.keyring), keys)),
        ) // of callers
        .push_if(shadow) // repeats what is allowed, in the client's words
        .push_if(options.aliases.layer(|_| AliasLayer::new(Arc::clone(aliases))))
}

/// Builds a stage, and notes the headers of its layers: where nobody adds a layer, no more is boxed
/// than has to be.
macro_rules! stage {
    ($stack:expr, $own:expr, $base:expr, $codecs:expr) => {
        match $own {
            Some(own) => {
                let stack = $stack.append(own);
                $codecs.extend(stack.codecs());
                stack.build(::miroir_pipeline::BoxService::new($base))
            }
            None => {
                let stack = $stack;
                $codecs.extend(stack.codecs());
                stack.build($base)
            }
        }
    };
}
pub(crate) use stage;

/// Every stage with its layers, from the client inwards, and what they need of each other. Of
/// `parts` it takes no more than it must: layers of a node that there is not would leave a mark in
/// the scores.
pub(crate) fn describe(
    options: &Options,
    parts: &Parts,
    own: &OwnLayers,
    credentials: Option<CredentialsLayer>,
    shadow: Option<ShadowLayer>,
) -> (Vec<Description>, Wiring) {
    let parts = &Parts { scores: Arc::default(), ..parts.clone() };
    let own_nodes = own.nodes.as_ref();
    let own = own.make(parts);
    let any = NodeId::new("any").expect("a valid constant");
    let scores = Arc::clone(&parts.scores);
    let of_node = NodeParts { scores, connections: Arc::default(), credentials };
    let edge = edge::<Full<Bytes>, Decode>(EdgeParts::to_describe(options, parts));
    let mut all = (vec![edge.describe()], Wiring::new());
    let aliases = Arc::default();
    let operations = operation::<BoxService<operation::Request>>(options, parts, &aliases, shadow);
    all = with(all, &operations, own.operations);
    let indexes = index::<BoxService<index::Request>>(options, parts);
    all = with(all, &indexes, own.indexes);
    let leaves = leaf::<BoxService<leaf::Request>>(options, parts);
    all = with(all, &leaves, own.leaves);
    let nodes = node::<Client>(options, &any, &of_node);
    with(all, &nodes, own_nodes.map(|own| own(&any, parts)))
}

/// Adds a stage with the layers that somebody added to it.
fn with<R: Stage, L>(
    (mut stages, mut wiring): (Vec<Description>, Wiring),
    stack: &Stack<R, L>,
    own: Added<R>,
) -> (Vec<Description>, Wiring) {
    let mut stage = stack.describe();
    wiring = wiring.with(stack);
    if let Some(own) = own {
        stage.layers.extend(own.describe().layers);
        wiring = wiring.with(&own);
    }
    stages.push(stage);
    (stages, wiring)
}
