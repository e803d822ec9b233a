//! `rate_limit`: how many requests an address, an API key and a tenant may make. One block for two
//! layers: addresses are limited at the edge, keys and tenants in the operation stage.

use ipnet::IpNet;
use miroir_core::options::{Faults, Validate, networks};
use serde::{Deserialize, Serialize};

use crate::edge::rate_limit::{Rate, RateLimitOptions};
use crate::operation;

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

/// `rate_limit`: how many requests an address, an API key and a tenant may make.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RateLimits {
    /// Whether requests are limited. False by default.
    pub enabled: bool,
    /// Where requests are counted. In Redis if the stores are there, by default.
    pub backend: RateLimitBackend,
    /// Requests from one address, as `600/minute`. Unlimited by default.
    pub per_ip: Option<Rate>,
    /// Requests with one API key and the tokens it signed. Unlimited by default.
    pub per_key: Option<Rate>,
    /// Requests of one tenant of tenant affinity. Unlimited by default.
    pub per_tenant: Option<Rate>,
    /// Proxies whose `X-Forwarded-For` is believed.
    #[serde(with = "networks")]
    pub trusted_proxies: Vec<IpNet>,
    /// Addresses that `per_ip` does not limit.
    #[serde(with = "networks")]
    pub exempt: Vec<IpNet>,
}

impl RateLimits {
    /// Whether requests are counted in this process, given whether the stores are in Redis.
    #[must_use]
    pub fn is_local(&self, redis: bool) -> bool {
        match self.backend {
            RateLimitBackend::Auto => !redis,
            RateLimitBackend::Local => true,
            RateLimitBackend::Redis => false,
        }
    }

    /// What the edge's layer limits; `None` for nothing.
    #[must_use]
    pub fn edge(&self) -> Option<RateLimitOptions> {
        let per_ip = self.per_ip.filter(|_| self.enabled)?;
        Some(RateLimitOptions {
            trusted_proxies: self.trusted_proxies.clone(),
            exempt: self.exempt.clone(),
            ..RateLimitOptions::new(per_ip)
        })
    }

    /// What the operation stage's layer limits; `None` for nothing.
    #[must_use]
    pub fn operation(&self) -> Option<operation::RateLimitOptions> {
        let Self { per_key, per_tenant, .. } = *self;
        (self.enabled && (per_key.is_some() || per_tenant.is_some()))
            .then_some(operation::RateLimitOptions { per_key, per_tenant })
    }
}

impl Validate for RateLimits {
    /// The rules of the block; none while it is off.
    fn validate(&self, faults: &mut Faults) {
        let mut when = |broken: bool, keys: &[&str], problem: &str, remedy: &str| {
            faults.when(broken && self.enabled, keys, problem, remedy);
        };
        when(
            self.per_ip.is_none() && self.per_key.is_none() && self.per_tenant.is_none(),
            &["enabled", "per_ip", "per_key", "per_tenant"],
            "nothing is limited",
            "set one of the three, for example `per_ip: 600/minute`, or `enabled: false`",
        );
        when(
            self.per_ip.is_none() && !self.trusted_proxies.is_empty(),
            &["trusted_proxies", "per_ip"],
            "addresses are not limited, so nobody has to be believed about them",
            "set `per_ip`, or remove `trusted_proxies`",
        );
        when(
            self.per_ip.is_none() && !self.exempt.is_empty(),
            &["exempt", "per_ip"],
            "addresses are not limited, so none can be exempt",
            "set `per_ip`, or remove `exempt`",
        );
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(options: Value) -> Result<RateLimits, String> {
        serde_json::from_value(options).map_err(|error| error.to_string())
    }

    fn messages(mut options: Value) -> Vec<String> {
        options["enabled"] = true.into();
        let mut faults = Faults::default();
        faults.block("rate_limit", &read(options).unwrap());
        faults.into_vec().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn rates_and_networks_are_texts() {
        let limits = read(json!({
            "per_ip": "600/minute", "per_key": null, "trusted_proxies": ["10.0.0.0/8", "::1"],
        }))
        .unwrap();
        assert_eq!(limits.per_ip.unwrap().to_string(), "600/minute");
        assert_eq!(limits.per_key, None);
        assert_eq!(limits.trusted_proxies[1].to_string(), "::1/128");
        let wrong = |options| read(options).unwrap_err();
        assert!(wrong(json!({"per_ip": 600})).contains("expected a string"));
        assert!(wrong(json!({"per_ip": "6/week"})).contains("write it as 10/second"));
        assert!(wrong(json!({"exempt": ["home"]})).contains("write it as 10.0.0.0/8"));
        assert!(wrong(json!({"per_user": "1/day"})).contains("per_user"));
    }

    #[test]
    fn what_is_off_is_not_built() {
        let limits = read(json!({"per_ip": "1/day", "per_key": "1/day"})).unwrap();
        assert!(limits.edge().is_none() && limits.operation().is_none());
        let on = RateLimits { enabled: true, ..limits };
        assert!(on.edge().is_some() && on.operation().is_some());
        let only = RateLimits { per_key: None, ..on };
        assert!(only.edge().is_some() && only.operation().is_none());
    }

    #[test]
    fn options_without_an_effect_are_refused() {
        assert_eq!(messages(json!({"per_ip": "1/day", "exempt": ["::1"]})), [] as [&str; 0]);
        for (found, parts) in [
            (
                messages(json!({})),
                ["`rate_limit.enabled`, `rate_limit.per_ip`", "per_ip: 600/minute"],
            ),
            (
                messages(json!({"per_key": "1/day", "trusted_proxies": ["::1"]})),
                ["`rate_limit.trusted_proxies`, `rate_limit.per_ip`", "remove"],
            ),
            (
                messages(json!({"per_key": "1/day", "exempt": ["::1"]})),
                ["`rate_limit.exempt`, `rate_limit.per_ip`", "remove"],
            ),
        ] {
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(parts.iter().all(|part| found[0].contains(part)), "{found:?}");
        }
    }
}
