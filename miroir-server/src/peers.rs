//! Finding the other pods: a list in the configuration, or the SRV records of a headless service.
//!
//! A pod finds itself on the list by its name (`POD_NAME`, or the host's name without it), and in
//! SRV records also by its address (`POD_IP`): the records of pods without a host name of their own
//! begin with the address, dashes instead of dots.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;
use hickory_resolver::{ResolverBuilder, TokioResolver};
use miroir::cluster::PodName;
use miroir::runtime::{Discover, Discovered, StaticPeers};
use miroir::store::{Pods, Stores};

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

    /// The name of this process among those that share a store; `None` where it is alone.
    pub(crate) fn pod_name(&self, config: &Config) -> Option<PodName> {
        // No other process has this name, nor this pod after a restart.
        let process = || format!("{}-{}", self.name, Uuid::new_v4().simple());
        config.is_shared().then(|| PodName { process: process(), pod: self.name.clone() })
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
        let scheme = if config.server.tls.is_on() { "https" } else { "http" };
        format!("{scheme}://{}", SocketAddr::new(host, client.port()))
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
            resolver: system,
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

type Resolving = ResolverBuilder<TokioRuntimeProvider>;

/// The system's resolver. Made anew for each look-up, and used without a cache: a refresh is to see
/// what is, and `/etc/resolv.conf` may change.
fn system() -> Result<Resolving, String> {
    TokioResolver::builder_tokio().map_err(|error| error.to_string())
}

/// The pods behind a headless service; where there is none, those that the store hears of.
struct SrvPeers {
    resolver: fn() -> Result<Resolving, String>,
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
            let mut builder = (self.resolver)()?;
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

    /// A name server that knows one service: its answer to `SRV` has these targets.
    async fn name_server(targets: &'static [&'static str]) -> u16 {
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let port = socket.local_addr().unwrap().port();
        tokio::spawn(async move {
            let mut packet = [0; 1_500];
            loop {
                let (length, from) = socket.recv_from(&mut packet).await.unwrap();
                let query = &packet[..length];
                // Behind the header: the name, its end, type and class (RFC 1035, 4.1).
                let end = 12 + query[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
                let known = query[12..end].windows(10).any(|part| part == b"miroir-dns")
                    && query[end - 3] == 33;
                let count = if known { targets.len() as u16 } else { 0 };
                let mut answer = query[..2].to_vec();
                // An answer, recursion available; no such name where it is another one.
                answer.extend_from_slice(&[0x81, if known { 0x80 } else { 0x83 }, 0, 1]);
                answer.extend_from_slice(&count.to_be_bytes());
                answer.extend_from_slice(&[0; 4]);
                answer.extend_from_slice(&query[12..end]);
                for target in targets.iter().take(count.into()) {
                    let mut name = Vec::new();
                    for label in target.split('.') {
                        name.push(label.len() as u8);
                        name.extend_from_slice(label.as_bytes());
                    }
                    name.push(0);
                    // The name of the question, SRV, IN, 30 s; priority, weight, port (RFC 2782).
                    answer.extend_from_slice(&[0xc0, 12, 0, 33, 0, 1, 0, 0, 0, 30]);
                    answer.extend_from_slice(&(6 + name.len() as u16).to_be_bytes());
                    answer.extend_from_slice(&[0, 0, 0, 1, 0x1e, 0x14]);
                    answer.extend_from_slice(&name);
                }
                socket.send_to(&answer, from).await.unwrap();
            }
        });
        port
    }

    static PORT: std::sync::OnceLock<u16> = std::sync::OnceLock::new();

    /// Asks the name server of the test.
    #[allow(clippy::unnecessary_wraps, reason = "the system's may fail")]
    fn of_the_test() -> Result<Resolving, String> {
        use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
        let mut udp = ConnectionConfig::udp();
        udp.port = *PORT.get().unwrap();
        let server = NameServerConfig::new(Ipv4Addr::LOCALHOST.into(), true, vec![udp]);
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
        Ok(TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()))
    }

    #[tokio::test]
    async fn pods_are_found_by_the_records_of_their_service() {
        let targets = &["miroir-1.miroir-dns.svc.local", "miroir-0.miroir-dns.svc.local"];
        PORT.set(name_server(targets).await).unwrap();
        let me = Identity { name: "miroir-1".to_owned(), ..Identity::default() };
        let pods = miroir::store::memory::open().pods;
        let service = |name: &str| SrvPeers {
            resolver: of_the_test,
            service: name.to_owned(),
            me: me.clone(),
            pods: Arc::clone(&pods),
        };
        let found = service("miroir-dns.svc.local.").discover().await.unwrap();
        assert_eq!(found.pods, ["miroir-0", "miroir-1"]);
        assert_eq!(found.me.as_deref(), Some("miroir-1"));
        // There is no such service: nobody has reported to the store.
        let found = service("other.svc.local.").discover().await.unwrap();
        assert!(found.pods.is_empty() && found.me.is_none());
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
