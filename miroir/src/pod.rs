//! One process among others.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use miroir_control::runtime::{Discover, LeaderElectionOptions, PeerDiscoveryOptions};
use miroir_pipeline::cluster::PodName;
use miroir_pipeline::tls::ClientTls;

/// One of several processes that serve the same cluster over stores that they share. One of them is
/// elected to change things.
#[derive(Clone)]
pub struct Pod {
    /// Its name, and that of its process.
    pub name: PodName,
    /// Where other pods reach this one, `http://host:port` or `https://host:port`. Where that is known only once a listener
    /// is open: [`Miroir::advertise`](crate::Miroir::advertise).
    pub address: String,
    /// Finds the others.
    pub discovery: Arc<dyn Discover>,
    /// Time between two looks for others. 15 s by default.
    pub refresh: Duration,
    /// How long a lease lives without renewal: so long a pod answers reads without hearing from the
    /// store. 10 s by default.
    pub lease_ttl: Duration,
    /// Time between two renewals. 3 s by default.
    pub lease_renew: Duration,
    /// How other pods are called whose address begins with `https://`; as the system trusts by
    /// default.
    pub tls: ClientTls,
}

impl Pod {
    /// A pod with this name and address.
    pub fn new(name: PodName, address: impl Into<String>, discovery: Arc<dyn Discover>) -> Self {
        let election = LeaderElectionOptions::default();
        Self {
            name,
            address: address.into(),
            discovery,
            refresh: PeerDiscoveryOptions::default().refresh_interval,
            lease_ttl: election.lease_ttl,
            lease_renew: election.renew_interval,
            tls: ClientTls::system("peer_tls"),
        }
    }
}

impl fmt::Debug for Pod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pod")
            .field("name", &self.name)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}
