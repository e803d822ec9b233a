//! Lists of networks, where one address is a network, too: for `#[serde(with = "networks")]`.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;
use serde::de::{Deserializer, Error};
use serde::ser::Serializer;

struct Network(IpNet);

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let one = || text.parse::<IpAddr>().map(IpNet::from);
        text.parse::<IpNet>().or_else(|_| one()).map(Self).map_err(|_| {
            D::Error::custom(format!(
                "\"{text}\" is not a network; write it as 10.0.0.0/8, fd00::/8 or 10.1.2.3"
            ))
        })
    }
}

/// Writes networks as texts.
///
/// # Errors
/// The serializer's.
pub fn serialize<S: Serializer>(networks: &[IpNet], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(networks.iter().map(ToString::to_string))
}

/// Reads networks, and addresses, from texts.
///
/// # Errors
/// When a text is neither.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let networks = Vec::<Network>::deserialize(deserializer)?;
    Ok(networks.into_iter().map(|network| network.0).collect())
}
