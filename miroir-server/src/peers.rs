//! Finding the other pods: a list in the configuration, or the SRV records of a headless service.
//!
//! A pod finds itself on the list by its name (`POD_NAME`, or the host's name without it), and in
//! SRV records also by its address (`POD_IP`): the records of pods without a host name of their own
//! begin with the address, dashes instead of dots.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use hickory_resolver::TokioResolver;
use hickory_resolver::proto::rr::RData;
use miroir::pods::Office;
use miroir::store::{Pods, Stores};
use miroir::worker::{Discover, Discovered, Peers, StaticPeers};

use uuid::Uuid;

use crate::config::Config;

/// Who this pod is, from its environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Its name.
    pub(crate) name: String,
    /// Its address, if known.
    pub(crate) address: Option<String>,
}

impl Identity {
    /// From `POD_NAME` and `POD_IP`; without a name, the host's.
    pub(crate) fn of_this_pod() -> Self {
        let variable = |name| std::env::var(name).ok().filter(|text| !text.is_empty());
        let host = || {
            std::fs::read_to_string("/proc/sys/kernel/hostname")
                .map_or_else(|_| "miroir".to_owned(), |name| name.trim().to_owned())
        };
        Self { name: variable("POD_NAME").unwrap_or_else(host), address: variable("POD_IP") }
    }

    /// What this pod may do: everything, or what it is elected for.
    pub(crate) fn office(&self, config: &Config) -> Office {
        if config.is_shared() {
            // No other process has this name, nor this pod after a restart.
            let process = format!("{}-{}", self.name, Uuid::new_v4().simple());
            Office::shared(process, self.name.clone())
        } else {
            Office::default()
        }
    }

    /// Where other pods reach this one.
    pub(crate) fn address(&self, config: &Config, client: SocketAddr) -> String {
        let given = config.peer_discovery.advertise_url.trim_end_matches('/');
        if !given.is_empty() {
            return given.to_owned();
        }
        let own = self.address.as_ref().and_then(|address| address.parse::<IpAddr>().ok());
        let host = own.unwrap_or_else(|| match client.ip() {
            ip if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            ip => ip,
        });
        format!("http://{}", SocketAddr::new(host, client.port()))
    }

    /// What this pod is called among the targets of SRV records.
    fn among(&self, pods: &[String]) -> Option<String> {
        let dashed = self.address.as_ref().map(|address| address.replace(['.', ':'], "-"));
        let mine = |pod: &&String| **pod == self.name || Some(*pod) == dashed.as_ref();
        pods.iter().find(mine).cloned()
    }
}

/// How pods are found, if this one has any.
pub(crate) fn discovery(
    config: &Config,
    me: &Identity,
    stores: &Stores,
) -> Option<Arc<dyn Discover>> {
    let peers = &config.peer_discovery;
    if !config.is_shared() {
        return None;
    }
    Some(if peers.peers.is_empty() {
        Arc::new(SrvPeers {
            service: peers.service_name.clone(),
            me: me.clone(),
            pods: Arc::clone(&stores.pods),
        })
    } else {
        Arc::new(ListedPeers {
            listed: StaticPeers::new(peers.peers.clone(), &me.name),
            pods: Arc::clone(&stores.pods),
        })
    })
}

/// The list to begin with: a pod that has peers owns nothing until it knows them.
pub(crate) fn unknown_or_alone(discovery: Option<&Arc<dyn Discover>>) -> Arc<Peers> {
    Arc::new(if discovery.is_some() { Peers::unknown() } else { Peers::alone() })
}

/// The pods of a list that are there: a list alone does not tell who died.
struct ListedPeers {
    listed: StaticPeers,
    pods: Arc<dyn Pods>,
}

impl Discover for ListedPeers {
    fn discover(&self) -> BoxFuture<'_, Result<Discovered, String>> {
        Box::pin(async move {
            let Discovered { mut pods, me } = self.listed.discover().await?;
            let roster = self.pods.roster(miroir::clock::now()).await;
            let there = roster.map_err(|error| error.to_string())?.pods;
            pods.retain(|pod| {
                Some(pod) == me.as_ref() || there.iter().any(|report| report.pod == *pod)
            });
            Ok(Discovered { pods, me })
        })
    }
}

/// The pods behind a headless service; where there is none, those that the store hears of.
struct SrvPeers {
    service: String,
    me: Identity,
    pods: Arc<dyn Pods>,
}

/// The pods that the store hears of.
async fn reported(pods: &dyn Pods, me: &Identity) -> Result<Discovered, String> {
    let roster = pods.roster(miroir::clock::now()).await.map_err(|error| error.to_string())?;
    let pods: Vec<String> = roster.pods.into_iter().map(|report| report.pod).collect();
    Ok(Discovered { me: pods.iter().find(|pod| **pod == me.name).cloned(), pods })
}

impl Discover for SrvPeers {
    fn discover(&self) -> BoxFuture<'_, Result<Discovered, String>> {
        Box::pin(async move {
            // Made anew for each look-up, and without a cache: a refresh is to see what is, and
            // `/etc/resolv.conf` may change.
            let mut builder = TokioResolver::builder_tokio().map_err(|e| e.to_string())?;
            builder.options_mut().cache_size = 0;
            builder.options_mut().timeout = Duration::from_secs(2);
            let resolver = builder.build().map_err(|e| e.to_string())?;
            let found = match resolver.srv_lookup(&self.service).await {
                Ok(found) => found,
                Err(error) => {
                    tracing::debug!(%error, service = self.service, "no such service");
                    return reported(&*self.pods, &self.me).await;
                }
            };
            let targets = found.answers().iter().filter_map(|record| match &record.data {
                RData::SRV(srv) => Some(srv.target.to_utf8()),
                _ => None,
            });
            Ok(discovered(targets, &self.me))
        })
    }
}

/// Pods by the first label of their targets.
fn discovered(targets: impl Iterator<Item = String>, me: &Identity) -> Discovered {
    let label = |target: String| target.split('.').next().unwrap_or_default().to_owned();
    let mut pods: Vec<String> = targets.map(label).filter(|pod| !pod.is_empty()).collect();
    pods.sort_unstable();
    pods.dedup();
    Discovered { me: me.among(&pods), pods }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(name: &str, address: Option<&str>) -> Identity {
        Identity { name: name.to_owned(), address: address.map(str::to_owned) }
    }

    #[tokio::test]
    async fn pods_of_a_list_count_while_they_are_there() {
        let stores = miroir::store::memory::open();
        let names = ["a", "b", "c"].map(str::to_owned).to_vec();
        let peers =
            ListedPeers { listed: StaticPeers::new(names, "b"), pods: Arc::clone(&stores.pods) };
        let found = async || peers.discover().await.unwrap();
        assert_eq!(found().await, Discovered { pods: vec!["b".into()], me: Some("b".into()) });
        let report = |pod: &str| miroir::store::PodReport {
            name: format!("{pod}-7f"),
            pod: pod.to_owned(),
            seen: Some(0),
            ..Default::default()
        };
        let now = miroir::clock::now();
        let minute = Duration::from_mins(1);
        for pod in ["a", "b", "c", "stranger"] {
            stores.pods.report(report(pod), now, minute).await.unwrap();
        }
        assert_eq!(found().await.pods, ["a", "b", "c"]);
        // It died, and its word ran out.
        stores.pods.leave("c-7f").await.unwrap();
        assert_eq!(found().await.pods, ["a", "b"]);
    }

    #[tokio::test]
    async fn without_a_service_the_store_tells() {
        let stores = miroir::store::memory::open();
        let me = identity("b", None);
        let found = reported(&*stores.pods, &me).await.unwrap();
        assert_eq!(found, Discovered { pods: Vec::new(), me: None });
        for pod in ["a", "b"] {
            let report = miroir::store::PodReport {
                name: format!("{pod}-7f"),
                pod: pod.to_owned(),
                seen: Some(0),
                ..Default::default()
            };
            let minute = Duration::from_mins(1);
            stores.pods.report(report, miroir::clock::now(), minute).await.unwrap();
        }
        let found = reported(&*stores.pods, &me).await.unwrap();
        let pods = vec!["a".to_owned(), "b".to_owned()];
        assert_eq!(found, Discovered { pods, me: Some("b".to_owned()) });
    }

    #[test]
    fn a_pod_finds_itself_by_name_or_address() {
        let targets = |list: &[&str]| {
            list.iter().map(|target| (*target).to_owned()).collect::<Vec<_>>().into_iter()
        };
        let named = ["miroir-1.miroir-headless.ns.svc.cluster.local.", "miroir-0.miroir-headless."];
        let found = discovered(targets(&named), &identity("miroir-1", None));
        assert_eq!(found.pods, ["miroir-0", "miroir-1"]);
        assert_eq!(found.me.as_deref(), Some("miroir-1"));
        // Two ports of one pod are two records.
        let dashed = ["10-0-0-7.miroir-headless.", "10-0-0-7.miroir-headless.", "10-0-0-9.m."];
        let found = discovered(targets(&dashed), &identity("miroir-abc", Some("10.0.0.9")));
        assert_eq!(found.pods, ["10-0-0-7", "10-0-0-9"]);
        assert_eq!(found.me.as_deref(), Some("10-0-0-9"));
        let found = discovered(targets(&dashed), &identity("miroir-abc", None));
        assert_eq!(found.me, None);
    }
}
