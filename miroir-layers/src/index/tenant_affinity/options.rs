//! `tenant_affinity`: who goes where, and which choices make no sense.

use std::collections::BTreeMap;

use http::HeaderName;
use miroir_api::GroupId;
use miroir_core::options::{Capability, Faults, Validate};
use serde::{Deserialize, Serialize};

/// How tenants are told apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// By a header; every name is a tenant.
    #[default]
    Header,
    /// By the API key, as the store maps it.
    ApiKey,
    /// By a header; only names of the static map are tenants.
    Explicit,
}

/// Where reads go that are of no tenant with a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fallback {
    /// By the hash of the tenant's name; in turn without one.
    #[default]
    Hash,
    /// In turn, by query.
    Random,
    /// Nowhere: they are refused.
    Reject,
}

/// `tenant_affinity`: who goes where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TenantAffinityOptions {
    /// Whether tenants are told apart. False by default.
    pub enabled: bool,
    /// What names the tenant of a request. The header by default.
    pub mode: Mode,
    /// The header that names the tenant, where it is not the API key. `X-Miroir-Tenant` by default.
    pub header_name: String,
    /// Where reads go that are of no tenant with a group.
    pub fallback: Fallback,
    /// Groups of tenants, by the tenant's name. For others see `fallback`. Empty by default.
    pub static_map: BTreeMap<String, GroupId>,
    /// Groups that are read only for tenants they were given to by name. Empty by default.
    pub dedicated_groups: Vec<GroupId>,
}

impl Default for TenantAffinityOptions {
    fn default() -> Self {
        Self {
            enabled: false,
            mode: Mode::default(),
            header_name: "X-Miroir-Tenant".to_owned(),
            fallback: Fallback::default(),
            static_map: BTreeMap::new(),
            dedicated_groups: Vec::new(),
        }
    }
}

impl TenantAffinityOptions {
    /// Whether the store keeps which tenants API keys are of.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.enabled && self.mode == Mode::ApiKey
    }

    /// The header that names the tenant; `None` where its API key does.
    #[must_use]
    pub fn header(&self) -> Option<HeaderName> {
        let named = self.mode != Mode::ApiKey;
        named.then(|| HeaderName::from_bytes(self.header_name.as_bytes()).ok())?
    }

    /// Reports groups that a cluster of `replica_groups` groups does not have, or has for nobody;
    /// nothing while switched off.
    pub fn validate_groups(&self, replica_groups: u32, faults: &mut Faults) {
        if !self.enabled {
            return;
        }
        let mut exists = |key: &str, group: GroupId| {
            faults.when(
                group.0 >= replica_groups,
                &[key, "/replica_groups"],
                format!(
                    "group {group} does not exist; {replica_groups} group(s) are numbered from 0"
                ),
                "correct the number or raise replica_groups",
            );
        };
        for (name, group) in &self.static_map {
            exists(&format!("static_map.{name}"), *group);
        }
        for group in &self.dedicated_groups {
            exists("dedicated_groups", *group);
        }
        faults.when(
            (0..replica_groups).all(|group| self.dedicated_groups.contains(&GroupId(group))),
            &["dedicated_groups", "/replica_groups"],
            "every group is dedicated, so nobody else can read anything",
            "leave one group out, or raise replica_groups",
        );
    }
}

impl Validate for TenantAffinityOptions {
    /// The rules that hold whatever the cluster is; none while switched off.
    fn validate(&self, faults: &mut Faults) {
        if !self.enabled {
            return;
        }
        let header = HeaderName::from_bytes(self.header_name.as_bytes());
        faults.when(
            header.as_ref().map_or(true, |name| *name == http::header::AUTHORIZATION),
            &["header_name"],
            format!("\"{}\" cannot name a tenant's header", self.header_name),
            "use a name of letters, digits and dashes, such as X-Miroir-Tenant",
        );
        for name in self.static_map.keys() {
            faults.when(
                !super::is_name(name),
                &[&format!("static_map.{name}")],
                "is not a name that a header can carry",
                "use 1 to 128 visible ASCII characters",
            );
        }
        let listed = self.mode == Mode::ApiKey || !self.static_map.is_empty();
        faults.when(
            !listed && !self.dedicated_groups.is_empty(),
            &["dedicated_groups", "static_map"],
            "nobody was given the dedicated groups, so nobody can read from them",
            "give tenants these groups in `static_map`, or remove `dedicated_groups`",
        );
        faults.when(
            !listed && self.fallback == Fallback::Reject,
            &["fallback", "static_map"],
            "every read is refused, because no tenant has a group",
            "give tenants groups in `static_map`, or use `fallback: hash`",
        );
        faults.when(
            !listed && self.mode == Mode::Explicit && self.fallback != Fallback::Reject,
            &["mode", "static_map"],
            "`explicit` knows the tenants of `static_map`, and there are none",
            "give tenants groups in `static_map`, or use `mode: header`",
        );
    }
}

impl Capability for TenantAffinityOptions {
    fn enabled(&self) -> bool {
        self.enabled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Change = fn(&mut TenantAffinityOptions);

    fn messages(change: Change) -> Vec<String> {
        let mut options = TenantAffinityOptions {
            enabled: true,
            static_map: [("acme".to_owned(), GroupId(1))].into(),
            ..TenantAffinityOptions::default()
        };
        change(&mut options);
        let mut faults = Faults::default();
        faults.block("tenant_affinity", &options);
        faults.within("tenant_affinity", |faults| options.validate_groups(2, faults));
        faults.into_vec().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn sensible_options_are_accepted() {
        let cases: &[Change] = &[
            |_| (),
            |o| o.dedicated_groups = vec![GroupId(1)],
            |o| o.static_map.clear(),
            |o| o.fallback = Fallback::Reject,
            |o| {
                o.static_map.clear();
                o.mode = Mode::ApiKey;
                o.fallback = Fallback::Reject;
                o.dedicated_groups = vec![GroupId(0)];
            },
            |o| {
                o.dedicated_groups = vec![GroupId(7)];
                o.enabled = false;
            },
        ];
        for (at, change) in cases.iter().enumerate() {
            assert_eq!(messages(*change), [] as [&str; 0], "case {at}");
        }
    }

    #[test]
    fn senseless_options_name_their_keys_and_the_remedy() {
        let cases: &[(Change, &str, &str)] = &[
            (|o| o.header_name = "a b".into(), "`tenant_affinity.header_name`: \"a b\"", "dashes"),
            (|o| o.header_name = "authorization".into(), "`tenant_affinity.header_name`", "use"),
            (
                |o| {
                    o.static_map.insert("x".into(), GroupId(2));
                },
                "`tenant_affinity.static_map.x`, `replica_groups`: group 2 does not exist",
                "raise replica_groups",
            ),
            (
                |o| {
                    o.static_map.insert("two words".into(), GroupId(1));
                },
                "`tenant_affinity.static_map.two words`: is not a name",
                "visible",
            ),
            (
                |o| o.dedicated_groups = vec![GroupId(2)],
                "`tenant_affinity.dedicated_groups`, `replica_groups`: group 2",
                "correct",
            ),
            (
                |o| o.dedicated_groups = vec![GroupId(1), GroupId(0)],
                "every group is dedicated",
                "leave one group",
            ),
            (
                |o| {
                    o.static_map.clear();
                    o.dedicated_groups = vec![GroupId(0)];
                },
                "`tenant_affinity.dedicated_groups`, `tenant_affinity.static_map`: nobody was given",
                "remove `dedicated_groups`",
            ),
            (
                |o| {
                    o.static_map.clear();
                    o.fallback = Fallback::Reject;
                },
                "`tenant_affinity.fallback`, `tenant_affinity.static_map`: every read is refused",
                "fallback: hash",
            ),
            (
                |o| {
                    o.static_map.clear();
                    o.mode = Mode::Explicit;
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
