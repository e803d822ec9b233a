//! `tenant_affinity`: a tenant's reads go to one replica group.

use std::collections::BTreeMap;

use http::HeaderName;
use miroir_api::GroupId;
use miroir_layers::index::TenantAffinityOptions;
use miroir_layers::index::tenant_affinity::{Fallback, Mode};
use serde::{Deserialize, Serialize};

use super::Config;
use super::error::ConfigError;

/// How tenants are told apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TenantMode {
    /// By a header; every name is a tenant.
    #[default]
    Header,
    /// By the API key, as `/_miroir/tenants` maps it.
    ApiKey,
    /// By a header; only names in `static_map` are tenants.
    Explicit,
}

/// Where reads of others go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TenantFallback {
    /// By the hash of the tenant's name; in turn without one.
    #[default]
    Hash,
    /// In turn, by query.
    Random,
    /// Nowhere: they are refused.
    Reject,
}

/// `tenant_affinity`: a tenant's reads go to one replica group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TenantAffinityConfig {
    /// Whether they do.
    pub enabled: bool,
    /// How tenants are told apart.
    pub mode: TenantMode,
    /// The header that names the tenant, where it is not the API key.
    pub header_name: String,
    /// Where reads go that are of no tenant with a group.
    pub fallback: TenantFallback,
    /// Tenants with a group.
    pub static_map: BTreeMap<String, u32>,
    /// Groups that only tenants read from that were given them by name.
    pub dedicated_groups: Vec<u32>,
}

impl Default for TenantAffinityConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            mode: TenantMode::default(),
            header_name: "X-Miroir-Tenant".to_owned(),
            fallback: TenantFallback::default(),
            static_map: BTreeMap::new(),
            dedicated_groups: Vec::new(),
        }
    }
}

impl TenantAffinityConfig {
    /// Whether the store keeps which tenants API keys are of.
    pub(crate) fn is_kept(&self) -> bool {
        self.enabled && self.mode == TenantMode::ApiKey
    }

    /// The header that names the tenant, if one does.
    pub(crate) fn header(&self) -> Option<HeaderName> {
        (self.enabled && self.mode != TenantMode::ApiKey)
            .then(|| HeaderName::from_bytes(self.header_name.as_bytes()).ok())?
    }

    /// As the layer's options.
    pub(crate) fn options(&self) -> TenantAffinityOptions {
        TenantAffinityOptions {
            mode: match self.mode {
                TenantMode::Header => Mode::Header,
                TenantMode::ApiKey => Mode::ApiKey,
                TenantMode::Explicit => Mode::Explicit,
            },
            fallback: match self.fallback {
                TenantFallback::Hash => Fallback::Hash,
                TenantFallback::Random => Fallback::Random,
                TenantFallback::Reject => Fallback::Reject,
            },
            static_map: self.static_map.iter().map(|(n, g)| (n.clone(), GroupId(*g))).collect(),
            dedicated: self.dedicated_groups.iter().copied().map(GroupId).collect(),
            header: self.header_name.clone(),
        }
    }

    /// The rules of the block; none while it is off.
    pub(super) fn check(&self, config: &Config) -> Vec<ConfigError> {
        let mut found = Vec::new();
        let mut when = |broken: bool, keys: &[&str], problem: String, remedy: &str| {
            if broken {
                let keys = keys.iter().map(|key| {
                    if *key == "replica_groups" {
                        (*key).to_owned()
                    } else {
                        format!("tenant_affinity.{key}")
                    }
                });
                found.push(ConfigError::new(keys, problem, remedy));
            }
        };
        if !self.enabled {
            return found;
        }
        let header = HeaderName::from_bytes(self.header_name.as_bytes());
        when(
            header.as_ref().map_or(true, |name| *name == http::header::AUTHORIZATION),
            &["header_name"],
            format!("\"{}\" cannot name a tenant's header", self.header_name),
            "use a name of letters, digits and dashes, such as X-Miroir-Tenant",
        );
        let groups = config.replica_groups;
        for (name, group) in &self.static_map {
            when(
                *group >= groups,
                &[&format!("static_map.{name}"), "replica_groups"],
                format!("group {group} does not exist; {groups} group(s) are numbered from 0"),
                "correct the number or raise replica_groups",
            );
            when(
                !miroir::cluster::tenants::is_name(name),
                &[&format!("static_map.{name}")],
                "is not a name that a header can carry".to_owned(),
                "use 1 to 128 visible ASCII characters",
            );
        }
        let dedicated = &self.dedicated_groups;
        for group in dedicated.iter().filter(|group| **group >= groups) {
            when(
                true,
                &["dedicated_groups", "replica_groups"],
                format!("group {group} does not exist; {groups} group(s) are numbered from 0"),
                "correct the number or raise replica_groups",
            );
        }
        when(
            (0..groups).all(|group| dedicated.contains(&group)),
            &["dedicated_groups", "replica_groups"],
            "every group is dedicated, so nobody else can read anything".to_owned(),
            "leave one group out, or raise replica_groups",
        );
        let listed = self.mode == TenantMode::ApiKey || !self.static_map.is_empty();
        when(
            !listed && !dedicated.is_empty(),
            &["dedicated_groups", "static_map"],
            "nobody was given the dedicated groups, so nobody can read from them".to_owned(),
            "give tenants these groups in `static_map`, or remove `dedicated_groups`",
        );
        when(
            !listed && self.fallback == TenantFallback::Reject,
            &["fallback", "static_map"],
            "every read is refused, because no tenant has a group".to_owned(),
            "give tenants groups in `static_map`, or use `fallback: hash`",
        );
        when(
            !listed && self.mode == TenantMode::Explicit && self.fallback != TenantFallback::Reject,
            &["mode", "static_map"],
            "`explicit` knows the tenants of `static_map`, and there are none".to_owned(),
            "give tenants groups in `static_map`, or use `mode: header`",
        );
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(change: impl FnOnce(&mut TenantAffinityConfig)) -> Vec<String> {
        let mut affinity = TenantAffinityConfig {
            enabled: true,
            static_map: [("acme".to_owned(), 1)].into(),
            ..TenantAffinityConfig::default()
        };
        change(&mut affinity);
        let config = Config { replica_groups: 2, ..Config::default() };
        affinity.check(&config).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_makes_sense_is_accepted() {
        assert_eq!(messages(|_| ()), [] as [&str; 0]);
        assert_eq!(messages(|c| c.dedicated_groups = vec![1]), [] as [&str; 0]);
        assert_eq!(messages(|c| c.static_map.clear()), [] as [&str; 0]);
        assert_eq!(messages(|c| c.fallback = TenantFallback::Reject), [] as [&str; 0]);
        let by_key = |c: &mut TenantAffinityConfig| {
            c.static_map.clear();
            c.mode = TenantMode::ApiKey;
            c.fallback = TenantFallback::Reject;
            c.dedicated_groups = vec![0];
        };
        assert_eq!(messages(by_key), [] as [&str; 0]);
        let off = |c: &mut TenantAffinityConfig| {
            c.dedicated_groups = vec![7];
            c.enabled = false;
        };
        assert_eq!(messages(off), [] as [&str; 0]);
    }

    #[test]
    fn what_does_not_names_the_keys_and_the_remedy() {
        type Change = fn(&mut TenantAffinityConfig);
        let cases: &[(Change, &str, &str)] = &[
            (|c| c.header_name = "a b".into(), "`tenant_affinity.header_name`: \"a b\"", "dashes"),
            (|c| c.header_name = "authorization".into(), "`tenant_affinity.header_name`", "use"),
            (
                |c| {
                    c.static_map.insert("x".into(), 2);
                },
                "`tenant_affinity.static_map.x`, `replica_groups`: group 2 does not exist",
                "raise replica_groups",
            ),
            (
                |c| {
                    c.static_map.insert("two words".into(), 1);
                },
                "`tenant_affinity.static_map.two words`: is not a name",
                "visible",
            ),
            (
                |c| c.dedicated_groups = vec![2],
                "`tenant_affinity.dedicated_groups`, `replica_groups`: group 2",
                "correct",
            ),
            (|c| c.dedicated_groups = vec![1, 0], "every group is dedicated", "leave one group"),
            (
                |c| {
                    c.static_map.clear();
                    c.dedicated_groups = vec![0];
                },
                "`tenant_affinity.dedicated_groups`, `tenant_affinity.static_map`: nobody was given",
                "remove `dedicated_groups`",
            ),
            (
                |c| {
                    c.static_map.clear();
                    c.fallback = TenantFallback::Reject;
                },
                "`tenant_affinity.fallback`, `tenant_affinity.static_map`: every read is refused",
                "fallback: hash",
            ),
            (
                |c| {
                    c.static_map.clear();
                    c.mode = TenantMode::Explicit;
                },
                "`tenant_affinity.mode`, `tenant_affinity.static_map`: `explicit` knows",
                "mode: header",
            ),
        ];
        for (change, problem, remedy) in cases {
            let found = messages(*change);
            assert_eq!(found.len(), 1, "{problem}: {found:?}");
            assert!(found[0].contains(problem) && found[0].contains(remedy), "{found:?}");
        }
    }
}
