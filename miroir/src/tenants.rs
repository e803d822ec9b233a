//! Which tenant a request is of.
//!
//! A tenant is a name. It comes with the request, in a header, or belongs to the API key the request
//! is made with: then the [`TenantDirectory`] knows it. What follows from it, other layers decide.
//!
//! Not to be taken for [tenant tokens](crate::keys::token), which are Meilisearch's and say what
//! their holder may search.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::{HeaderMap, HeaderName};
use miroir_api::{GroupId, hexadecimal};
use sha2::{Digest, Sha256};

use crate::cluster::Shared;
use crate::context::Principal;
use crate::error::Error;
use crate::keys::Keyring;
use crate::store::StoreError;
use crate::store::records::{TenantMapping, Tenants};

/// Longest name of a tenant, in bytes.
pub const MAX_NAME: usize = 128;

/// The tenant of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedTenant {
    /// Its name.
    pub name: Arc<str>,
    /// Whether the operator named it for this key; a header is whatever the client wrote.
    pub listed: bool,
    /// The group its reads go to, where the operator said which.
    pub group: Option<GroupId>,
}

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

type Snapshot = BTreeMap<String, (TenantMapping, NamedTenant)>;

/// The tenants of API keys, in memory, and the store behind them. Without a store there are none.
#[derive(Debug, Default)]
pub struct TenantDirectory {
    store: Option<Arc<dyn Tenants>>,
    snapshot: ArcSwap<Snapshot>,
    /// Held while the snapshot follows the store.
    lock: tokio::sync::Mutex<()>,
}

impl TenantDirectory {
    /// The tenants of a store, none of which was read yet.
    pub fn over(store: Arc<dyn Tenants>) -> Self {
        Self { store: Some(store), ..Self::default() }
    }

    /// Whether there is a store.
    pub fn is_kept(&self) -> bool {
        self.store.is_some()
    }

    /// Replaces the mappings in memory by what the store holds now.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn follow(&self) -> Result<(), StoreError> {
        let Some(store) = &self.store else { return Ok(()) };
        let _guard = self.lock.lock().await;
        let row = |row: TenantMapping| {
            let (name, group) = (Arc::from(row.tenant.as_str()), row.group);
            (row.api_key_hash.clone(), (row, NamedTenant { name, listed: true, group }))
        };
        let rows = store.list().await?.into_iter().map(row).collect();
        self.snapshot.store(Arc::new(rows));
        Ok(())
    }

    /// The tenant of a key, by its hash.
    pub fn get(&self, api_key_hash: &str) -> Option<NamedTenant> {
        self.snapshot.load().get(api_key_hash).map(|(_, tenant)| tenant.clone())
    }

    /// All mappings, by the keys' hashes.
    pub fn list(&self) -> Vec<TenantMapping> {
        self.snapshot.load().values().map(|(mapping, _)| mapping.clone()).collect()
    }

    /// The tenant of whoever asks.
    pub fn of(&self, principal: &Principal, keyring: &Keyring) -> Option<NamedTenant> {
        if self.snapshot.load().is_empty() {
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
}

impl Shared {
    /// Says which tenant a key is of. Every pod knows it when this returns.
    ///
    /// # Errors
    /// When this pod does not lead, or the store fails.
    pub async fn put_tenant(&self, mapping: TenantMapping) -> Result<(), Error> {
        self.office.may_change()?;
        let Some(store) = &self.tenants.store else { return Ok(()) };
        store.put(mapping).await?;
        self.tenants.follow().await?;
        Ok(self.announce().await?)
    }

    /// Forgets which tenant a key is of; returns whether that was known. Every pod has forgotten it
    /// when this returns.
    ///
    /// # Errors
    /// When this pod does not lead, or the store fails.
    pub async fn delete_tenant(&self, api_key_hash: &str) -> Result<bool, Error> {
        self.office.may_change()?;
        let Some(store) = &self.tenants.store else { return Ok(false) };
        let was_there = store.delete(api_key_hash).await?;
        self.tenants.follow().await?;
        self.announce().await?;
        Ok(was_there)
    }
}

/// Where the name of a tenant comes from.
#[derive(Clone, Debug)]
pub enum TenantSource {
    /// A header of the request.
    Header(HeaderName),
    /// The key the request is made with.
    ApiKey {
        /// Which tenants keys are of.
        directory: Arc<TenantDirectory>,
        /// The keys.
        keyring: Arc<Keyring>,
    },
}

impl TenantSource {
    /// The tenant of a request. An empty header is none.
    ///
    /// # Errors
    /// `invalid_header_value` for a header that is no name.
    pub fn of(
        &self,
        headers: &HeaderMap,
        principal: &Principal,
    ) -> Result<Option<NamedTenant>, Error> {
        match self {
            Self::ApiKey { directory, keyring } => Ok(directory.of(principal, keyring)),
            Self::Header(header) => {
                let mut values = headers.get_all(header).iter().filter(|value| !value.is_empty());
                let Some(value) = values.next() else { return Ok(None) };
                let name = value.to_str().ok().filter(|text| is_name(text));
                match (name, values.next()) {
                    (Some(name), None) => {
                        Ok(Some(NamedTenant { name: Arc::from(name), listed: false, group: None }))
                    }
                    _ => Err(Error::api(
                        "invalid_header_value",
                        format!(
                            "Header `{header}` must name one tenant, with 1 to {MAX_NAME} visible \
                             ASCII characters."
                        ),
                    )),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::keys::{ApiKey, MasterKey};
    use crate::store::memory;

    fn header(values: &[&'static str]) -> Result<Option<NamedTenant>, Error> {
        let name = HeaderName::from_static("x-miroir-tenant");
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(&name, HeaderValue::from_static(value));
        }
        TenantSource::Header(name).of(&headers, &Principal::MasterKey)
    }

    #[test]
    fn a_header_names_one_tenant() {
        assert_eq!(&*header(&["acme"]).unwrap().unwrap().name, "acme");
        assert_eq!(header(&[]).unwrap(), None);
        assert_eq!(header(&[""]).unwrap(), None);
        for wrong in [&["two words"][..], &["a", "b"]] {
            let (status, body) = header(wrong).unwrap_err().render();
            assert_eq!(status, 400);
            let body = String::from_utf8(body.unwrap().to_vec()).unwrap();
            assert!(body.contains("invalid_header_value") && body.contains("x-miroir-tenant"));
        }
    }

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
        let key = Arc::new(ApiKey::defaults(crate::clock::now(), uids)[0].clone());
        let directory = TenantDirectory::over(Arc::clone(&stores.tenants));
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
        let rules = crate::keys::SearchRules::Set(std::collections::HashSet::default());
        let token = Principal::Tenant(Arc::new(crate::keys::Tenant { key, rules }));
        assert_eq!(directory.of(&token, &keyring), Some(found));
        assert_eq!(&*directory.of(&Principal::MasterKey, &keyring).unwrap().name, "us");
        assert_eq!(directory.of(&Principal::Anonymous, &keyring), None);
    }
}
