//! A pipeline that was built: its stages, its client API, its workers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use miroir_control::Cluster;
use miroir_core::keys::MasterKey;
use miroir_layers::edge::catch_panic::AnswerBody;
use miroir_layers::edge::decompression::Decompressed;
use miroir_layers::edge::forward::Received;
use miroir_layers::edge::{
    Admission, AuditLayer, AuditOptions, AuthenticateLayer, AuthenticateOptions, ForwardLayer,
    ForwardOptions, ObserveOptions, PodAuthLayer, PodProof, RateLimitLayer,
};
use miroir_pipeline::codec::Codecs;
use miroir_pipeline::http::{Decode, DecodeOptions, EdgeBody, EdgeService};
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;

use crate::order::{self, EdgeParts, Options};
use crate::parts::Parts;
use crate::pod::Pod;
use crate::workers;

/// A pipeline, its workers, and its HTTP service. Cheap enough to clone; clones are the same
/// pipeline.
#[derive(Clone, Debug)]
pub struct Miroir {
    cluster: Cluster,
    options: Arc<Options>,
    parts: Parts,
    codecs: Codecs,
    admin_key: Option<Arc<str>>,
    timeout: Duration,
    pod: Option<Pod>,
    proof: Arc<PodProof>,
    admission: Arc<Admission>,
    workers: TaskTracker,
}

impl Miroir {
    pub(crate) fn new(
        cluster: Cluster,
        options: Options,
        parts: Parts,
        codecs: Codecs,
        admin_key: Option<String>,
        timeout: Duration,
        pod: Option<Pod>,
    ) -> Self {
        let (options, admin_key) = (Arc::new(options), admin_key.map(Into::into));
        let (admission, workers) = (Admission::new(options.admission), TaskTracker::new());
        let proof = Arc::new(pod_proof(&options, admin_key.as_deref()));
        Self { cluster, options, parts, codecs, admin_key, timeout, pod, proof, admission, workers }
    }

    /// Handles to the running stages. The operation stage is inside of authentication: who asks it
    /// says in [`Context::principal`](crate::Context) on whose behalf, and an anonymous request is
    /// refused.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// What layers share with the stages.
    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    /// The client API, for requests with the body `B`: serve it with hyper, mount it in axum, or wrap
    /// it in layers. It is what the server serves, with every layer of the edge, and refuses who has
    /// no key.
    ///
    /// Addresses are limited where a request has a [`Peer`](crate::http::Peer) in its extensions.
    #[must_use]
    pub fn client_api<B: EdgeBody>(&self) -> impl EdgeService<B, Body = AnswerBody> + use<B> {
        self.edge(self.decode(), ObserveOptions::default())
    }

    /// Every layer of the edge around a service of one's own: [`Miroir::decode`], beside an API of
    /// the program. `others` names the paths of that.
    ///
    /// Who asks is in the extensions of requests that come through
    /// ([`Principal`](crate::context::Principal)): the inner service refuses whom it will, as
    /// `authorize` does for the client API.
    #[must_use]
    pub fn edge<B, S>(
        &self,
        inner: S,
        others: ObserveOptions,
    ) -> impl EdgeService<B, Body = AnswerBody> + use<B, S>
    where
        B: EdgeBody,
        S: EdgeService<Received<Decompressed<B>>, Body = Full<Bytes>>,
    {
        let parts = EdgeParts {
            admission: Arc::clone(&self.admission),
            pod_auth: self.pod_auth(),
            limit: self.rate_limit(),
            authenticate: self.authenticate(),
            audit: self.audit(),
            forward: self.forward(),
            observe: others,
        };
        order::edge(parts).build(inner).expect("a test builds this order")
    }

    /// The places for requests. Whoever watches the memory of the process tightens them.
    #[must_use]
    pub fn admission(&self) -> &Arc<Admission> {
        &self.admission
    }

    /// Decode alone: a layer outside of it has to say who asks. For an edge of one's own.
    #[must_use]
    pub fn decode(&self) -> Decode {
        let options = DecodeOptions {
            timeout: self.timeout,
            max_body: self.options.cluster.max_body,
            filters: self.options.cluster.filters,
        };
        Decode::new(self.cluster.operations.clone(), options).codecs(self.codecs.clone())
    }

    /// The layer that says who asks, with the keys of this cluster.
    pub fn authenticate(&self) -> AuthenticateLayer {
        AuthenticateLayer::new(&AuthenticateOptions {
            keyring: Arc::clone(&self.cluster.state.keyring),
            admin_key: self.admin_key.as_deref().map(str::to_owned),
        })
    }

    /// The layer that writes down who changed keys, and what operators changed.
    pub fn audit(&self) -> AuditLayer {
        let trusted_proxies = self.options.rate_limit.trusted_proxies.clone();
        AuditLayer::new(AuditOptions { trusted_proxies })
    }

    /// The layer that passes changes on to the pod that leads.
    #[must_use]
    pub fn forward(&self) -> ForwardLayer {
        let leadership = Arc::clone(&self.cluster.state.leadership);
        let leader = Arc::clone(&leadership);
        ForwardLayer::new(ForwardOptions {
            leads: Arc::new(move || leadership.leads()),
            leader: Arc::new(move || leader.leader()),
            timeout: self.timeout,
            max_body: self.options.cluster.max_body,
            proof: Arc::clone(&self.proof),
            tls: self.pod.as_ref().map(|pod| pod.tls.clone()).unwrap_or_default(),
        })
    }

    /// The layer that knows what other pods pass on. Once [`Miroir::advertise`] was told where this
    /// one is reached.
    pub fn pod_auth(&self) -> PodAuthLayer {
        let address = self.pod.as_ref().map(|pod| pod.address.as_str().into());
        PodAuthLayer::new(Arc::clone(&self.proof), address)
    }

    /// The layer that limits the requests of an address, if they are limited.
    pub fn rate_limit(&self) -> RateLimitLayer {
        match self.options.rate_limit.edge() {
            Some(limits) => RateLimitLayer::new(self.parts.limiter.clone(), limits),
            None => RateLimitLayer::off(),
        }
    }

    /// From now on other pods are told to reach this one at `address`, `http://host:port` or
    /// `https://host:port`. Before the workers start; nothing for a pod that is alone.
    pub fn advertise(&mut self, address: impl Into<String>) {
        if let Some(pod) = &mut self.pod {
            pod.address = address.into();
        }
    }

    /// Starts the workers: health checks, task polling, repair, the drift check, pruning, webhooks,
    /// and among several pods election and following. Call it once. They end with
    /// [`Miroir::shutdown`].
    pub fn spawn_workers(&self) {
        let mut workers = self.workers();
        self.workers.spawn(async move { while workers.join_next().await.is_some() {} });
    }

    /// As [`Miroir::spawn_workers`], for who has to cut workers off: dropping the set does.
    /// They end by themselves when [`Cluster::state`]'s `stop` is cancelled.
    #[must_use]
    pub fn workers(&self) -> JoinSet<()> {
        let state = &self.cluster.state;
        let mut workers = workers::start(state, &self.options, self.pod.as_ref());
        if self.options.query_quarantine.enabled {
            workers.spawn(Arc::clone(&self.parts.quarantine).follow(state.stop.clone()));
        }
        workers
    }

    /// Stops the workers, and waits for them and for writes that are under way.
    pub async fn shutdown(&self) {
        let state = &self.cluster.state;
        state.stop.cancel();
        state.tracker.close();
        state.tracker.wait().await;
        self.workers.close();
        self.workers.wait().await;
    }
}

/// What pods prove themselves with: the master key. Where everybody may do everything there is none,
/// and operators' key is what is left to protect; without that either, nothing is.
fn pod_proof(options: &Options, admin_key: Option<&str>) -> PodProof {
    let master = options.cluster.master_key.as_ref().map(MasterKey::expose);
    PodProof::new(master.or(admin_key.map(str::as_bytes)).unwrap_or_default())
}
