//! One process of a simulated cluster: how it is started, and how clients reach it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::Method;
use http_body_util::{BodyExt, Full};
use miroir_api::header;
use miroir_control::Miroir;
use miroir_control::broadcast::drift::{self, DriftOptions};
use miroir_control::pods::{self, Leader, PodOptions};
use miroir_control::replicas::{anti_entropy, foreign, repair};
use miroir_control::runtime::{Candidate, Peers, elected};
use miroir_control::tasks::{late, poller};
use miroir_control::topology::{health, operations, restore};
use miroir_core::routing::ShardSet;
use miroir_pipeline::cluster::AntiEntropyOptions;
use miroir_pipeline::cluster::{OnDifference, PodName, TopologyOptions};
use miroir_pipeline::context::Principal;
use miroir_pipeline::leaf::{self, Target};
use miroir_pipeline::node::{HealthOptions, KnownDisks, NodeCall};
use miroir_pipeline::stage::BoxService;
use miroir_pipeline::{ClusterOptions, ScatterOptions, SettingsBroadcastOptions, Stack};
use miroir_pipeline::{Effect, Error, NodeFailure};
use miroir_store::Stores;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tower::layer::layer_fn;

use super::life::Life;
use super::{Answer, Shape};
use crate::node::{FakeNode, Link};

/// Times a leaf asks again for what a node failed to answer.
const FAILOVERS: usize = 3;

/// A process that runs.
#[derive(Clone, Debug)]
pub(super) struct Running {
    pub(super) miroir: Miroir,
    pub(super) life: Life,
}

/// When nodes are checked.
const HEALTH: HealthOptions = HealthOptions {
    interval: Duration::from_millis(500),
    timeout: Duration::from_millis(300),
    unhealthy_threshold: 2,
    recovery_threshold: 2,
};
/// Bytes of documents that a node gets in one call.
pub const NODE_BODY: usize = 8_000;
/// How long a lease lives, and how long a pod's word counts.
const LEASE: Duration = Duration::from_secs(3);
/// Time between two renewals.
const RENEW: Duration = Duration::from_secs(1);

/// Asks other replicas for what a node failed to answer. Reads only.
fn failover(inner: BoxService<leaf::Request>) -> BoxService<leaf::Request> {
    BoxService::new(tower::service_fn(move |request: leaf::Request| {
        let inner = inner.clone();
        async move {
            let mut answer = inner.clone().oneshot(request.clone()).await?;
            let Target::Cover { avoid, .. } = &request.target else { return Ok(answer) };
            let mut avoid = avoid.clone();
            // Failures that nobody can make good say more than "missing".
            let mut settled = Vec::new();
            for _ in 0..FAILOVERS {
                if answer.failed.is_empty() {
                    break;
                }
                let mut shards = ShardSet::empty(request.index.shards);
                let open = std::mem::take(&mut answer.failed);
                for failed in &open {
                    shards.union_with(&failed.shards);
                    avoid.push(failed.node.clone());
                }
                let target = Target::Cover { shards, avoid: avoid.clone(), chosen: None };
                let again = request.with_target(target);
                let more = inner.clone().oneshot(again).await?;
                answer.pages.extend(more.pages);
                answer.failed.extend(more.failed);
                settled.extend(open.into_iter().filter_map(|failed| {
                    let shards = failed.shards.intersection(&more.missing);
                    (!shards.is_empty()).then_some(leaf::Failed { shards, ..failed })
                }));
            }
            answer.failed.extend(settled);
            Ok::<_, Error>(answer)
        }
    }))
}

/// The connection broke.
pub(super) const LOST: Answer = Answer { status: 0, degraded: None, body: Value::Null };

/// Sends a request to a process.
pub(super) async fn send(
    to: &Running,
    method: Method,
    path: &str,
    body: Option<Value>,
    patience: Duration,
) -> Answer {
    let Running { miroir, life } = to;
    let mut request = http::Request::builder().method(method).uri(path);
    if body.is_some() {
        request = request.header(http::header::CONTENT_TYPE, "application/json");
    }
    let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
    let mut request = request.body(Full::new(body)).expect("a valid request");
    request.extensions_mut().insert(Principal::MasterKey);
    let answered = async {
        life.goes_on().await;
        let Ok(response) = miroir.http(patience).oneshot(request).await;
        life.goes_on().await;
        response
    };
    let response = tokio::select! {
        biased;
        () = life.ended() => return LOST,
        response = answered => response,
    };
    let (parts, body) = response.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let degraded = parts.headers.get(header::DEGRADED).and_then(|value| value.to_str().ok());
    Answer {
        status: parts.status.as_u16(),
        degraded: degraded.map(str::to_owned),
        body: serde_json::from_slice(&body).unwrap_or_default(),
    }
}

pub(super) async fn start(
    shape: Shape,
    (nodes, configured): (&[FakeNode], usize),
    stores: &Stores,
    life: Life,
    pod: Option<usize>,
) -> Result<Running, miroir_control::BuildError> {
    let (all, process, disks) = (nodes.to_vec(), life.clone(), KnownDisks::default());
    let known = disks.clone();
    let factory = move |node: &miroir_core::topology::Node| {
        let fake = all.iter().find(|fake| *fake.id() == node.id).cloned();
        let (process, id) = (process.clone(), node.id.clone());
        let link = Link::new(known.clone());
        Ok(BoxService::new(tower::service_fn(
            move |mut request: miroir_pipeline::node::Request| {
                request.extensions_mut().insert(link.clone());
                let (process, fake, id) = (process.clone(), fake.clone(), id.clone());
                async move {
                    let fake = fake.ok_or_else(|| Error::node(&id, NodeFailure::UnknownNode))?;
                    let call = request.extensions().get::<NodeCall>();
                    if call.is_some_and(|call| call.effect != Effect::Read) {
                        let copy = request.clone();
                        return process.send(&id, &copy, fake.oneshot(request)).await;
                    }
                    process.run(fake.oneshot(request)).await
                }
            },
        )))
    };
    let mut builder = Miroir::builder()
        .shards(shape.shards)
        .replication_factor(shape.rf)
        .stores(life.stores(stores))
        .node_stack(Arc::new(factory))
        .disks(disks)
        .leaves(Stack::new().push_named("failover", layer_fn(failover)))
        .health(HEALTH)
        .options(ClusterOptions {
            shards: shape.shards,
            write_quorum: shape.quorum,
            topology: TopologyOptions { on_difference: OnDifference::UseStore },
            scatter: ScatterOptions {
                node_timeout: Some(Duration::from_secs(1)),
                node_body_bytes: NODE_BODY,
                ..ScatterOptions::default()
            },
            settings_broadcast: SettingsBroadcastOptions {
                verify_timeout: Duration::from_secs(20),
                max_repair_retries: 10,
                ..SettingsBroadcastOptions::default()
            },
            // Tests that are about it make passes themselves.
            anti_entropy: AntiEntropyOptions { enabled: false, ..AntiEntropyOptions::default() },
            ..ClusterOptions::default()
        });
    for (at, node) in nodes.iter().enumerate().take(configured) {
        let group = at as u32 / shape.nodes_per_group;
        builder = builder.node(node.id().as_str(), &format!("http://fake-{at}"), group);
    }
    if let Some(number) = pod {
        // No other process has this name.
        static PROCESSES: AtomicUsize = AtomicUsize::new(0);
        let process = PROCESSES.fetch_add(1, Ordering::Relaxed);
        builder = builder
            .pod(PodName { process: format!("{number}-{process}"), pod: number.to_string() });
    }
    let miroir = builder.build().await?;
    match pod {
        None => miroir.spawn_workers(),
        Some(number) => spawn_pod(&miroir, number),
    }
    Ok(Running { miroir, life })
}

/// The workers of one of several pods.
fn spawn_pod(miroir: &Miroir, number: usize) {
    let shared = &miroir.cluster.state;
    let stop = || shared.stop.child_token();
    tokio::spawn(health::run(Arc::clone(shared), HEALTH, stop()));
    let options =
        PodOptions { address: number.to_string(), report_ttl: LEASE, ..PodOptions::default() };
    tokio::spawn(pods::follow(Arc::clone(shared), options, stop()));
    let state = Arc::clone(shared);
    let start = move |stop: CancellationToken| -> Vec<BoxFuture<'static, ()>> {
        vec![
            Box::pin(poller::run(Arc::clone(&state), stop.clone())),
            Box::pin(repair::run(Arc::clone(&state), stop.clone())),
            Box::pin(late::run(Arc::clone(&state), stop.clone())),
            Box::pin(foreign::run(Arc::clone(&state), stop.clone())),
            Box::pin(operations::run(Arc::clone(&state), stop.clone())),
            Box::pin(restore::run(Arc::clone(&state), stop.clone())),
            Box::pin(anti_entropy::mend(Arc::clone(&state), stop.clone())),
            // Split between pods outside of simulations; here the leader finds all of it.
            Box::pin(drift::run(
                Arc::clone(&state),
                Arc::new(Peers::alone()),
                DriftOptions::default(),
                stop,
            )),
        ]
    };
    let candidate = Candidate {
        leases: Arc::clone(&shared.stores.leases),
        holder: shared.leadership.process().to_owned(),
        ttl: LEASE,
        renew: RENEW,
    };
    let leader = Arc::new(Leader::new(Arc::clone(shared), Box::new(start)));
    tokio::spawn(elected(candidate, leader, stop()));
}
