//! Which addresses webhooks may be sent to.
//!
//! Whoever may make a webhook has this server send requests to an address of his choice, so addresses
//! that are not public are left out, as a Meilisearch does: this machine, and the networks that only it
//! can reach. Names are judged by the addresses they stand for when a connection is made.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::dns::Name;
use ipnet::IpNet;
use tower::Service;

/// Resolves names to addresses that webhooks may be sent to. Clones share their networks.
#[derive(Clone, Debug)]
pub(super) struct Guarded(Arc<[IpNet]>);

impl Guarded {
    /// Public addresses, and these networks.
    pub(super) fn new(allowed: Vec<IpNet>) -> Self {
        Self(allowed.into())
    }

    fn allows(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        is_public(address) || self.0.iter().any(|network| network.contains(&address))
    }

    /// Judges a host that may be an address: no name is looked up for it.
    ///
    /// # Errors
    /// When it is an address that is not allowed.
    pub(super) fn judge(&self, host: &str) -> Result<(), String> {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        match bare.parse::<IpAddr>() {
            Ok(address) if !self.allows(address) => Err(refused(host)),
            _ => Ok(()),
        }
    }
}

fn refused(host: &str) -> String {
    format!(
        "`{host}` is not a public address. If it is to be told, have `webhooks.allowed_networks` \
         contain its network"
    )
}

impl Service<Name> for Guarded {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, io::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed: Vec<SocketAddr> = found.filter(|found| this.allows(found.ip())).collect();
            if allowed.is_empty() {
                return Err(io::Error::new(
                    io::ErrorKind::PermissionDenied,
                    refused(name.as_str()),
                ));
            }
            Ok(allowed.into_iter())
        })
    }
}

/// Whether an address is one of the public internet (IANA's special-purpose registries, RFC 6890).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(a == 0
        || address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_documentation()
        // Shared by carriers, for protocols, for benchmarks, and reserved.
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (b == 18 || b == 19))
        || a >= 240)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    // Of the embedded address decides what is behind it: mapped, translated (64:ff9b::/96), 6to4.
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        [0, 0, 0, 0, 0, 0xffff | 0, high, low] if high != 0 || low > 1 => embedded(high, low),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => embedded(high, low),
        [0x2002, high, low, ..] => embedded(high, low),
        [0x2001, 0xdb8, ..] => false,
        // Only 2000::/3 is given out.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_told_unless_their_network_is_allowed() {
        let guard = Guarded::new(vec!["10.1.0.0/16".parse().unwrap()]);
        for address in
            ["1.1.1.1", "[2606:4700::1111]", "10.1.2.3", "example.com", "[::ffff:8.8.8.8]"]
        {
            assert_eq!(guard.judge(address), Ok(()), "{address}");
        }
        for address in [
            "127.0.0.1",
            "0.0.0.0",
            "10.2.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "[::1]",
            "[::]",
            "[::ffff:127.0.0.1]",
            "[fe80::1]",
            "[fd00::1]",
            "[64:ff9b::7f00:1]",
            "[2002:7f00:1::]",
            "[2001:db8::1]",
            "[::7f00:1]",
        ] {
            let refused = guard.judge(address).unwrap_err();
            assert!(refused.contains("webhooks.allowed_networks"), "{refused}");
        }
    }

    #[tokio::test]
    async fn names_are_judged_by_what_they_stand_for() {
        let resolve =
            |allowed: Vec<IpNet>| Guarded::new(allowed).call("localhost".parse().unwrap());
        let error = resolve(Vec::new()).await.map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        let both = ["127.0.0.0/8", "::1/128"].map(|network| network.parse().unwrap());
        assert!(resolve(both.to_vec()).await.unwrap().next().is_some());
    }
}
