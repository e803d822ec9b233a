//! Which tenant a request is of.
//!
//! A tenant is a name. It comes with the request, in a header, or belongs to the API key the request
//! is made with: then the [`TenantDirectory`] knows it. What follows from it, other layers decide.
//!
//! Not to be taken for [tenant tokens](miroir_core::keys::token), which are Meilisearch's and say what
//! their holder may search.

use std::collections::BTreeMap;
use std::sync::Arc;

use miroir_api::hexadecimal;
use sha2::{Digest, Sha256};

use futures_util::future::BoxFuture;
use miroir_pipeline::Error;
use miroir_pipeline::cluster::{Follow, Leadership, Snapshot};
use miroir_pipeline::context::Principal;
use miroir_pipeline::keyring::Keyring;
use miroir_store::records::{TenantMapping, Tenants};
use miroir_store::{Part, StoreError};

use super::NamedTenant;

/// Longest name of a tenant, in bytes.
pub const MAX_NAME: usize = 128;

/// Whether a text can be the name of a tenant.
#[must_use]
pub fn is_name(text: &str) -> bool {
    (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// What stands for an API key in the store: its SHA-256, in hexadecimal.
#[must_use]
pub fn hash_of(api_key: &[u8]) -> String {
    hexadecimal(&Sha256::digest(api_key))
}

type Known = BTreeMap<String, (TenantMapping, NamedTenant)>;

/// The tenants of API keys, in memory, and the store behind them. Without a store there are none.
#[derive(Debug, Default)]
pub struct TenantDirectory {
    store: Option<Arc<dyn Tenants>>,
    leadership: Arc<Leadership>,
    known: Snapshot<Known>,
}

impl TenantDirectory {
    /// The tenants of a store, none of which was read yet; without a store there are none.
    pub fn new(store: Option<Arc<dyn Tenants>>, leadership: Arc<Leadership>) -> Self {
        Self { store, leadership, known: Snapshot::default() }
    }

    /// Whether there is a store.
    pub fn is_kept(&self) -> bool {
        self.store.is_some()
    }

    async fn read(&self) -> Result<(), StoreError> {
        let Some(store) = &self.store else { return Ok(()) };
        let writer = self.known.write().await;
        let row = |row: TenantMapping| {
            let (name, group) = (Arc::from(row.tenant.as_str()), row.group);
            (row.api_key_hash.clone(), (row, NamedTenant { name, listed: true, group }))
        };
        let rows = store.list().await?.into_iter().map(row).collect();
        writer.replace(rows);
        Ok(())
    }

    /// The tenant of a key, by its hash.
    pub fn get(&self, api_key_hash: &str) -> Option<NamedTenant> {
        self.known.peek().get(api_key_hash).map(|(_, tenant)| tenant.clone())
    }

    /// All mappings, by the keys' hashes.
    pub fn list(&self) -> Vec<TenantMapping> {
        self.known.peek().values().map(|(mapping, _)| mapping.clone()).collect()
    }

    /// The tenant of whoever asks.
    pub fn of(&self, principal: &Principal, keyring: &Keyring) -> Option<NamedTenant> {
        if self.known.peek().is_empty() {
            return None;
        }
        let master = keyring.master()?;
        let hash = match principal {
            Principal::MasterKey => hash_of(master.expose()),
            Principal::ApiKey(key) => hash_of(master.derive(key.uid).as_bytes()),
            // A token is of the tenant of the key that signed it.
            Principal::Tenant(token) => hash_of(master.derive(token.key.uid).as_bytes()),
            _ => return None,
        };
        self.get(&hash)
    }

    /// Says which tenant a key is of. Every pod knows it when this returns. Nothing happens without
    /// a store.
    ///
    /// # Errors
    /// When this pod does not lead, or the store fails.
    pub async fn put(&self, mapping: TenantMapping) -> Result<(), Error> {
        self.leadership.ensure_leader()?;
        let Some(store) = &self.store else { return Ok(()) };
        store.put(mapping).await?;
        self.read().await?;
        Ok(self.leadership.publish_and_wait(&[Part::Capabilities]).await?)
    }

    /// Forgets which tenant a key is of; returns whether that was known. Every pod has forgotten it
    /// when this returns.
    ///
    /// # Errors
    /// When this pod does not lead, or the store fails.
    pub async fn delete(&self, api_key_hash: &str) -> Result<bool, Error> {
        self.leadership.ensure_leader()?;
        let Some(store) = &self.store else { return Ok(false) };
        let was_there = store.delete(api_key_hash).await?;
        self.read().await?;
        self.leadership.publish_and_wait(&[Part::Capabilities]).await?;
        Ok(was_there)
    }
}

impl Follow for TenantDirectory {
    fn follow(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.read())
    }
}

#[cfg(test)]
mod tests {
    use miroir_api::GroupId;

    use super::*;
    use miroir_core::keys::{ApiKey, MasterKey};
    use miroir_store::memory;

    /// `printf %s secret | sha256sum`.
    #[test]
    fn a_key_is_known_by_its_digest() {
        let digest = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
        assert_eq!(hash_of(b"secret"), digest);
    }

    #[tokio::test]
    async fn keys_and_their_tokens_are_of_the_tenant_the_store_says() {
        let stores = memory::open();
        let master = MasterKey::new("a master key").unwrap();
        let keyring = Keyring::new(Some(master.clone()));
        let uids = std::array::from_fn(|_| uuid::Uuid::new_v4());
        let key = Arc::new(ApiKey::defaults(miroir_store::clock::now(), uids)[0].clone());
        let directory = TenantDirectory::new(Some(Arc::clone(&stores.tenants)), Arc::default());
        let principal = Principal::ApiKey(Arc::clone(&key));
        assert_eq!(directory.of(&principal, &keyring), None);
        let row = |secret: &[u8], tenant: &str| TenantMapping {
            api_key_hash: hash_of(secret),
            tenant: tenant.to_owned(),
            group: Some(GroupId(1)),
        };
        stores.tenants.put(row(master.derive(key.uid).as_bytes(), "acme")).await.unwrap();
        stores.tenants.put(row(b"a master key", "us")).await.unwrap();
        assert_eq!(directory.of(&principal, &keyring), None, "not read yet");
        directory.follow().await.unwrap();
        let found = directory.of(&principal, &keyring).unwrap();
        assert_eq!((&*found.name, found.group, found.listed), ("acme", Some(GroupId(1)), true));
        let rules = miroir_core::keys::SearchRules::Set(std::collections::HashSet::default());
        let token = Principal::Tenant(Arc::new(miroir_core::keys::Tenant { key, rules }));
        assert_eq!(directory.of(&token, &keyring), Some(found));
        assert_eq!(&*directory.of(&Principal::MasterKey, &keyring).unwrap().name, "us");
        assert_eq!(directory.of(&Principal::Anonymous, &keyring), None);
    }
}
