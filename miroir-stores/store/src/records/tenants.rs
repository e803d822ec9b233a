//! Which tenant an API key is of.

use miroir_api::GroupId;
use serde::{Deserialize, Serialize};

use super::{ALWAYS, PutOptions, Table, Typed, encode};
use crate::StoreFuture;

/// One mapping.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantMapping {
    /// SHA-256 of the API key, in hexadecimal: the key itself is not stored.
    pub api_key_hash: String,
    /// Name of the tenant that the key's holder is.
    pub tenant: String,
    /// The group it reads from; by the hash of its name without.
    #[serde(default)]
    pub group: Option<GroupId>,
}

/// Mappings from API keys to tenants.
pub trait Tenants: Send + Sync + std::fmt::Debug {
    /// All of them, by the keys' hashes.
    fn list(&self) -> StoreFuture<'_, Vec<TenantMapping>>;
    /// Inserts or replaces one. The last of two concurrent calls stays.
    fn put(&self, mapping: TenantMapping) -> StoreFuture<'_, ()>;
    /// Deletes one. Returns whether there was one.
    fn delete(&self, api_key_hash: &str) -> StoreFuture<'_, bool>;
}

impl Tenants for Typed {
    fn list(&self) -> StoreFuture<'_, Vec<TenantMapping>> {
        Box::pin(self.all(Table::TenantMap, ALWAYS))
    }

    fn put(&self, mapping: TenantMapping) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            let (key, value) = (&mapping.api_key_hash, encode(&mapping)?);
            let put = self.records.put(Table::TenantMap, key, value, PutOptions::default(), ALWAYS);
            put.await.map(drop)
        })
    }

    fn delete(&self, api_key_hash: &str) -> StoreFuture<'_, bool> {
        self.records.delete(Table::TenantMap, api_key_hash, None, ALWAYS)
    }
}
