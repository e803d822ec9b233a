//! `rate_limit`: how many requests an address, an API key and a tenant may make.

use ipnet::IpNet;
use miroir_layers::edge::rate_limit::{Rate, RateLimitOptions};
use miroir_layers::operation;
use serde::de::{Deserializer, Error as _};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};

use super::error::ConfigError;
use super::{Config, TaskStoreBackend};

/// Where requests are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RateLimitBackend {
    /// In Redis where the store is there, in this process otherwise.
    #[default]
    Auto,
    /// In this process.
    Local,
    /// In the Redis of `task_store.url`.
    Redis,
}

/// So many requests within a time, as `600/minute`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateText(pub Rate);

impl Serialize for RateText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for RateText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map(Self).map_err(D::Error::custom)
    }
}

/// An address or a network, as `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(pub IpNet);

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let one = || text.parse::<std::net::IpAddr>().map(IpNet::from);
        text.parse::<IpNet>().or_else(|_| one()).map(Self).map_err(|_| {
            D::Error::custom(format!(
                "\"{text}\" is not a network; write it as 10.0.0.0/8, fd00::/8 or 10.1.2.3"
            ))
        })
    }
}

/// `rate_limit`: how many requests an address, an API key and a tenant may make.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RateLimitConfig {
    /// Whether requests are limited.
    pub enabled: bool,
    /// Where they are counted.
    pub backend: RateLimitBackend,
    /// Requests from one address.
    pub per_ip: Option<RateText>,
    /// Requests with one API key.
    pub per_key: Option<RateText>,
    /// Requests of one tenant.
    pub per_tenant: Option<RateText>,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<Network>,
    /// Addresses that `per_ip` does not limit.
    pub exempt: Vec<Network>,
}

fn networks(list: &[Network]) -> Vec<IpNet> {
    list.iter().map(|network| network.0).collect()
}

impl RateLimitConfig {
    /// Whether requests are counted in this process.
    pub(crate) fn is_local(&self, config: &Config) -> bool {
        match self.backend {
            RateLimitBackend::Auto => config.task_store.backend != TaskStoreBackend::Redis,
            RateLimitBackend::Local => true,
            RateLimitBackend::Redis => false,
        }
    }

    /// The edge's part, if there is one.
    pub(crate) fn edge(&self) -> Option<RateLimitOptions> {
        let per_ip = self.per_ip.filter(|_| self.enabled)?.0;
        Some(RateLimitOptions {
            trusted_proxies: networks(&self.trusted_proxies),
            exempt: networks(&self.exempt),
            ..RateLimitOptions::new(per_ip)
        })
    }

    /// The operation stage's part, if there is one.
    pub(crate) fn operations(&self) -> Option<operation::RateLimitOptions> {
        let rate = |text: Option<RateText>| text.map(|text| text.0);
        (self.enabled && (self.per_key.is_some() || self.per_tenant.is_some())).then(|| {
            operation::RateLimitOptions {
                per_key: rate(self.per_key),
                per_tenant: rate(self.per_tenant),
            }
        })
    }

    /// The rules of the block; none while it is off.
    pub(super) fn check(&self, config: &Config) -> Vec<ConfigError> {
        let mut found = Vec::new();
        let mut when = |broken: bool, keys: &[&str], problem: &str, remedy: &str| {
            if broken && self.enabled {
                found.push(ConfigError::new(keys.iter().copied(), problem, remedy));
            }
        };
        when(
            self.per_ip.is_none() && self.per_key.is_none() && self.per_tenant.is_none(),
            &[
                "rate_limit.enabled",
                "rate_limit.per_ip",
                "rate_limit.per_key",
                "rate_limit.per_tenant",
            ],
            "nothing is limited",
            "set one of the three, for example `per_ip: 600/minute`, or `enabled: false`",
        );
        when(
            self.backend == RateLimitBackend::Local && config.is_shared(),
            &["rate_limit.backend", "leader_election.enabled"],
            "with several pods each would count alone, so that a client may do as many times as much",
            "use `rate_limit.backend: redis`, or, for a single pod, `leader_election.enabled: false`",
        );
        when(
            self.backend == RateLimitBackend::Redis
                && config.task_store.backend != TaskStoreBackend::Redis,
            &["rate_limit.backend", "task_store.backend"],
            "there is no Redis to count in",
            "set `task_store.backend: redis`, or use `rate_limit.backend: local`",
        );
        when(
            self.per_tenant.is_some() && !config.tenant_affinity.enabled,
            &["rate_limit.per_tenant", "tenant_affinity.enabled"],
            "tenants are not told apart",
            "set `tenant_affinity.enabled: true`, or remove `per_tenant`",
        );
        when(
            self.per_ip.is_none() && !self.trusted_proxies.is_empty(),
            &["rate_limit.trusted_proxies", "rate_limit.per_ip"],
            "addresses are not limited, so nobody has to be believed about them",
            "set `per_ip`, or remove `trusted_proxies`",
        );
        when(
            self.per_ip.is_none() && !self.exempt.is_empty(),
            &["rate_limit.exempt", "rate_limit.per_ip"],
            "addresses are not limited, so none can be exempt",
            "set `per_ip`, or remove `exempt`",
        );
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Secret, Switch};

    fn yaml(text: &str) -> Result<RateLimitConfig, String> {
        serde_yaml_ng::from_str(text).map_err(|error| error.to_string())
    }

    fn messages(text: &str, change: impl FnOnce(&mut Config)) -> Vec<String> {
        let limits = yaml(&format!("enabled: true\n{text}")).unwrap();
        let mut config = Config::default();
        change(&mut config);
        limits.check(&config).iter().map(ToString::to_string).collect()
    }

    fn redis(config: &mut Config) {
        config.task_store.backend = TaskStoreBackend::Redis;
        config.task_store.url = Secret::new("redis://r");
    }

    #[test]
    fn rates_and_networks_are_texts() {
        let text = "per_ip: 600/minute\nper_key: null\ntrusted_proxies: [10.0.0.0/8, '::1']\n";
        let limits = yaml(text).unwrap();
        assert_eq!(limits.per_ip.unwrap().0.to_string(), "600/minute");
        assert_eq!(limits.per_key, None);
        assert_eq!(limits.trusted_proxies[1].0.to_string(), "::1/128");
        assert!(yaml("per_ip: 600").unwrap_err().contains("write it as 10/second"));
        assert!(yaml("per_ip: 6/week").unwrap_err().contains("write it as 10/second"));
        assert!(yaml("exempt: [home]").unwrap_err().contains("write it as 10.0.0.0/8"));
        assert!(yaml("per_user: 1/day").unwrap_err().contains("per_user"));
    }

    #[test]
    fn what_is_off_is_not_built() {
        let limits = yaml("per_ip: 1/day\nper_key: 1/day").unwrap();
        assert!(limits.edge().is_none() && limits.operations().is_none());
        let on = RateLimitConfig { enabled: true, ..limits };
        assert!(on.edge().is_some() && on.operations().is_some());
        let only = RateLimitConfig { per_key: None, ..on };
        assert!(only.edge().is_some() && only.operations().is_none());
    }

    #[test]
    fn rules() {
        assert_eq!(messages("per_ip: 1/day", |_| ()), [] as [&str; 0]);
        assert_eq!(messages("per_ip: 1/day", redis), [] as [&str; 0]);
        assert_eq!(messages("per_ip: 1/day\nbackend: redis", redis), [] as [&str; 0]);
        let alone = |c: &mut Config| {
            redis(c);
            c.leader_election.enabled = Switch::Off;
        };
        assert_eq!(messages("per_ip: 1/day\nbackend: local", alone), [] as [&str; 0]);
        let affine = |c: &mut Config| c.tenant_affinity.enabled = true;
        assert_eq!(messages("per_tenant: 1/day", affine), [] as [&str; 0]);
        let local = messages("per_ip: 1/day\nbackend: local", redis);
        for (found, parts) in [
            (
                messages("", |_| ()),
                ["`rate_limit.enabled`, `rate_limit.per_ip`", "per_ip: 600/minute"],
            ),
            (local, ["`rate_limit.backend`, `leader_election.enabled`", "backend: redis"]),
            (
                messages("per_ip: 1/day\nbackend: redis", |_| ()),
                ["`rate_limit.backend`, `task_store.backend`", "no Redis"],
            ),
            (
                messages("per_tenant: 1/day", |_| ()),
                ["`rate_limit.per_tenant`, `tenant_affinity.enabled`", "told apart"],
            ),
            (
                messages("per_key: 1/day\ntrusted_proxies: ['::1']", |_| ()),
                ["`rate_limit.trusted_proxies`, `rate_limit.per_ip`", "remove"],
            ),
            (
                messages("per_key: 1/day\nexempt: ['::1']", |_| ()),
                ["`rate_limit.exempt`, `rate_limit.per_ip`", "remove"],
            ),
        ] {
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(parts.iter().all(|part| found[0].contains(part)), "{found:?}");
        }
    }
}
