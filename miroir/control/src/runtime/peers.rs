//! The pods of one deployment: who is there, and whose an item is.

use std::hash::Hasher as _;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use miroir_core::options::{Faults, Validate, seconds};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use twox_hash::XxHash64;

/// `peer_discovery`: other pods of the same service. In effect where the store is shared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PeerDiscoveryOptions {
    /// Name of the headless service that resolves to the pods.
    pub service_name: String,
    /// Time between two look-ups.
    #[serde(rename = "refresh_interval_s", with = "seconds")]
    pub refresh_interval: Duration,
    /// The names of all pods (`POD_NAME`), this one among them, where there is no such service.
    pub peers: Vec<String>,
    /// Where other pods reach this one, `http://host:port` or `https://host:port`. Empty: at `POD_IP`,
    /// or the address of `server.bind`, and the port of `server.port`.
    pub advertise_url: String,
}

impl Default for PeerDiscoveryOptions {
    fn default() -> Self {
        Self {
            service_name: "miroir-headless".to_owned(),
            refresh_interval: Duration::from_secs(15),
            peers: Vec::new(),
            advertise_url: String::new(),
        }
    }
}

impl Validate for PeerDiscoveryOptions {
    fn validate(&self, faults: &mut Faults) {
        faults.positive(&[("refresh_interval_s", self.refresh_interval.is_zero())]);
        let address = |text: &str| {
            text.parse::<http::Uri>().is_ok_and(|url| {
                matches!(url.scheme_str(), Some("http" | "https"))
                    && url.host().is_some()
                    && url.path_and_query().is_none_or(|path| path.as_str() == "/")
            })
        };
        faults.when(
            !self.advertise_url.is_empty() && !address(&self.advertise_url),
            &["advertise_url"],
            "is not an address of a pod",
            "write it as http://host:port or https://host:port, or leave it out",
        );
    }
}

/// Names one lookup may use for this pod: a pod's name, or its address with dashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discovered {
    /// All pods, this one included if it is on the list.
    pub pods: Vec<String>,
    /// What this pod is called on that list; `None` if it is not on it.
    pub me: Option<String>,
}

/// Finds the pods of the deployment.
pub trait Discover: Send + Sync + 'static {
    /// Who is there now.
    ///
    /// # Errors
    /// Why nobody can tell, for the log. The last known list stays in use.
    fn discover(&self) -> BoxFuture<'_, Result<Discovered, String>>;
}

/// A list that does not change.
#[derive(Clone, Debug)]
pub struct StaticPeers(Discovered);

impl StaticPeers {
    /// These pods, of which `me` is this one.
    #[must_use]
    pub fn new(pods: Vec<String>, me: &str) -> Self {
        let me = pods.iter().find(|pod| *pod == me).cloned();
        Self(Discovered { pods, me })
    }
}

impl Discover for StaticPeers {
    fn discover(&self) -> BoxFuture<'_, Result<Discovered, String>> {
        let found = self.0.clone();
        Box::pin(async move { Ok(found) })
    }
}

/// The pods known now.
#[derive(Debug)]
pub struct Peers {
    list: ArcSwap<Discovered>,
}

impl Peers {
    /// One pod, which owns everything.
    #[must_use]
    pub fn alone() -> Self {
        let me = "alone".to_owned();
        Self { list: ArcSwap::from_pointee(Discovered { pods: vec![me.clone()], me: Some(me) }) }
    }

    /// A list that is not known yet: this pod owns nothing until it is.
    #[must_use]
    pub fn unknown() -> Self {
        Self { list: ArcSwap::from_pointee(Discovered { pods: Vec::new(), me: None }) }
    }

    /// Replaces the list. Order and repetitions do not matter.
    pub fn set(&self, mut found: Discovered) {
        found.pods.sort_unstable();
        found.pods.dedup();
        self.list.store(Arc::new(found));
    }

    /// What this pod is called on the list.
    #[must_use]
    pub fn me(&self) -> Option<String> {
        self.list.load().me.clone()
    }

    /// How many pods there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.list.load().pods.len()
    }

    /// Whether an item is this pod's. A pod that is not on the list owns nothing: the others, who do
    /// not see it, have shared everything among themselves.
    #[must_use]
    pub fn owns(&self, item: &str) -> bool {
        let list = self.list.load();
        list.me.is_some() && owner(&list.pods, item) == list.me.as_deref()
    }
}

/// The pod an item belongs to: highest random weight, as nodes own shards. `None` without pods.
///
/// Hashed with XXH64, seed 0: UTF-8 of the item, one byte `0xff`, UTF-8 of the pod. Equal scores go
/// to the pod whose name sorts first.
#[must_use]
pub fn owner<'a>(pods: &'a [String], item: &str) -> Option<&'a str> {
    let score = |pod: &str| {
        let mut hasher = XxHash64::with_seed(0);
        hasher.write(item.as_bytes());
        hasher.write(&[0xff]);
        hasher.write(pod.as_bytes());
        hasher.finish()
    };
    pods.iter().map(String::as_str).max_by(|a, b| score(a).cmp(&score(b)).then(b.cmp(a)))
}

/// Keeps a list up to date until cancelled.
pub async fn follow(
    peers: Arc<Peers>,
    discover: Arc<dyn Discover>,
    interval: Duration,
    stop: CancellationToken,
) {
    let mut tick = tokio::time::interval(interval);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        let found = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            // A look-up that hangs is one that failed.
            found = tokio::time::timeout(interval, discover.discover()) => found,
        };
        match found.unwrap_or_else(|_| Err("no answer within the refresh interval".to_owned())) {
            Ok(found) => {
                if found.me.is_none() {
                    tracing::warn!(pods = ?found.pods, "this pod is not among its peers");
                }
                peers.set(found);
            }
            Err(error) => {
                tracing::warn!(%error, "peers could not be looked up; the last list stays in use");
            }
        }
    }
}
