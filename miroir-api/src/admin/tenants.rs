//! `/_miroir/tenants`: which tenant an API key is of.

use serde::{Deserialize, Serialize};

use crate::GroupId;

/// `POST`: says which tenant a key is of.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewTenantMapping {
    /// The key itself. It is not stored.
    pub api_key: String,
    /// Name of the tenant the key belongs to; several keys may name one.
    pub tenant: String,
    /// The group its reads go to; by the hash of its name without.
    #[serde(default)]
    pub group: Option<GroupId>,
}

/// One key that is of a tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantMappingView {
    /// SHA-256 of the key, in hexadecimal.
    pub api_key_hash: String,
    /// Name of the tenant the key belongs to; several keys may name one.
    pub tenant: String,
    /// The group its reads go to; `null`: by the hash of its name.
    pub group: Option<GroupId>,
}

/// `GET`: all of them, by hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantMappingsView {
    /// Every mapping, ascending by hash.
    pub results: Vec<TenantMappingView>,
}
