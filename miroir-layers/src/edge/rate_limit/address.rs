//! Whose request it is: the address of the connection, or what proxies that are believed say.

use std::net::{IpAddr, Ipv6Addr};

use http::HeaderMap;
use ipnet::IpNet;

const FORWARDED_FOR: &str = "x-forwarded-for";

/// An IPv4 address in IPv6 clothing is one.
fn plain(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

fn is_in(networks: &[IpNet], ip: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&ip))
}

/// One entry of `X-Forwarded-For`: an address, perhaps with a port.
fn entry(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|rest| rest.split_once(']')).map(|(ip, _)| ip);
    bare.unwrap_or(text)
        .parse()
        .ok()
        .or_else(|| text.parse::<std::net::SocketAddr>().ok().map(|address| address.ip()))
        .map(plain)
}

/// The client: the last address that no believed proxy has. Each proxy adds the address it was asked
/// from at the end of `X-Forwarded-For`, so what stands before the first that is not believed is
/// whatever a client likes to write, and is not looked at.
#[must_use]
pub(in crate::edge) fn client(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let mut client = plain(peer);
    let values: Vec<&str> =
        headers.get_all(FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok()).collect();
    let mut entries = values.iter().flat_map(|value| value.split(',')).rev();
    while is_in(trusted, client) {
        match entries.next().map(entry) {
            Some(Some(before)) => client = before,
            _ => break,
        }
    }
    client
}

/// What stands for an address in a bucket's key. One who has an IPv6 address has 2^64 of them: they
/// count as one.
#[must_use]
pub(super) fn bucket(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => {
            let network = u128::from(ip) >> 64 << 64;
            format!("{}/64", Ipv6Addr::from(network))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(peer: &str, forwarded: &[&'static str], trusted: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append(FORWARDED_FOR, http::HeaderValue::from_static(value));
        }
        let trusted: Vec<IpNet> = trusted.iter().map(|text| text.parse().unwrap()).collect();
        client(peer.parse().unwrap(), &headers, &trusted).to_string()
    }

    #[test]
    fn who_is_not_believed_is_the_client() {
        assert_eq!(of("10.0.0.1", &[], &[]), "10.0.0.1");
        assert_eq!(of("10.0.0.1", &["1.2.3.4"], &[]), "10.0.0.1");
        assert_eq!(of("9.9.9.9", &["1.2.3.4"], &["10.0.0.0/8"]), "9.9.9.9");
    }

    #[test]
    fn a_chain_is_followed_as_far_as_it_is_believed() {
        let believed = ["10.0.0.0/8", "fd00::/8"];
        assert_eq!(of("10.0.0.1", &["1.2.3.4"], &believed), "1.2.3.4");
        // What a client wrote itself stands in front.
        assert_eq!(of("10.0.0.1", &["6.6.6.6, 1.2.3.4"], &believed), "1.2.3.4");
        assert_eq!(of("10.0.0.1", &["6.6.6.6, 1.2.3.4, 10.0.0.2"], &believed), "1.2.3.4");
        assert_eq!(of("fd00::1", &["6.6.6.6", "1.2.3.4 , fd00::2"], &believed), "1.2.3.4");
        assert_eq!(of("10.0.0.1", &["1.2.3.4:5678"], &believed), "1.2.3.4");
        assert_eq!(of("10.0.0.1", &["[2001:db8::1]:80"], &believed), "2001:db8::1");
        assert_eq!(of("::ffff:10.0.0.1", &["::ffff:1.2.3.4"], &believed), "1.2.3.4");
        // All are believed: the first of them.
        assert_eq!(of("10.0.0.1", &["10.0.0.3, 10.0.0.2"], &believed), "10.0.0.3");
        // Nonsense is not followed any further.
        assert_eq!(of("10.0.0.1", &["1.2.3.4, unknown"], &believed), "10.0.0.1");
        assert_eq!(of("10.0.0.1", &["1.2.3.4, unknown, 10.0.0.2"], &believed), "10.0.0.2");
    }

    #[test]
    fn addresses_of_one_network_share_a_bucket() {
        let name = |text: &str| bucket(text.parse().unwrap());
        assert_eq!(name("1.2.3.4"), "1.2.3.4");
        assert_eq!(name("2001:db8::1"), "2001:db8::/64");
        assert_eq!(name("2001:db8::ffff:1"), name("2001:db8::1"));
        assert_ne!(name("2001:db8:0:1::1"), name("2001:db8::1"));
    }
}
