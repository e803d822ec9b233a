//! The keys that are valid now, in memory, and the store behind them.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use uuid::Uuid;

use crate::context::Principal;
use miroir_core::keys::request::Change;
use miroir_core::keys::token::{self, TokenError};
use miroir_core::keys::{ApiKey, MasterKey, Tenant};
use miroir_store::clock;
use miroir_store::{Keys, StoreError, memory};

/// Why a bearer token opens nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// It is neither an API key nor a tenant token.
    Invalid,
    /// As an API key it is none; as a tenant token it has this fault, in Meilisearch's words. Only
    /// searches take tenant tokens, so only they show it.
    Token(Arc<str>),
}

#[derive(Default)]
struct Snapshot {
    by_uid: HashMap<Uuid, Arc<ApiKey>>,
    /// By the digest of the key, so that finding one takes no time that its text shows in.
    by_digest: HashMap<[u8; 32], Uuid>,
}

/// The API keys of an instance, and its master key if it has one.
///
/// Lookups read a snapshot; changes go to the store first and are seen by this process once they
/// are durable.
pub struct Keyring {
    master: Option<MasterKey>,
    store: Arc<dyn Keys>,
    snapshot: ArcSwap<Snapshot>,
    /// Held while the snapshot follows the store.
    lock: tokio::sync::Mutex<()>,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring").field("master", &self.master).finish_non_exhaustive()
    }
}

fn digest(text: &[u8]) -> [u8; 32] {
    Sha256::digest(text).into()
}

impl Keyring {
    /// A ring without API keys, over a store of its own in memory.
    pub fn new(master: Option<MasterKey>) -> Self {
        Self {
            master,
            store: memory::open().keys,
            snapshot: ArcSwap::default(),
            lock: tokio::sync::Mutex::new(()),
        }
    }

    /// The keys of a store. Where there is a master key but no other, the four default keys are
    /// made.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn load(master: Option<MasterKey>, store: Arc<dyn Keys>) -> Result<Self, StoreError> {
        let ring = Self::over(master, store);
        ring.seed().await?;
        ring.follow().await?;
        Ok(ring)
    }

    /// The keys of a store, none of which was read yet.
    pub fn over(master: Option<MasterKey>, store: Arc<dyn Keys>) -> Self {
        Self { store, ..Self::new(master) }
    }

    /// Makes the default keys where there is a master key but no other.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn seed(&self) -> Result<(), StoreError> {
        if self.master.is_some() {
            let uids = std::array::from_fn(|_| Uuid::new_v4());
            self.store.seed(ApiKey::defaults(clock::now(), uids)).await?;
        }
        Ok(())
    }

    /// The master key; without one the API is open to everybody and there are no API keys.
    pub fn master(&self) -> Option<&MasterKey> {
        self.master.as_ref()
    }

    /// Replaces the snapshot by what the store holds now.
    ///
    /// # Errors
    /// When the store fails. The snapshot then stays as it was.
    pub async fn follow(&self) -> Result<(), StoreError> {
        let _guard = self.lock.lock().await;
        let mut next = Snapshot::default();
        if let Some(master) = &self.master {
            for key in self.store.list().await? {
                next.by_digest.insert(digest(master.derive(key.uid).as_bytes()), key.uid);
                next.by_uid.insert(key.uid, Arc::new(key));
            }
        }
        metrics::gauge!("miroir_api_keys").set(next.by_uid.len() as f64);
        self.snapshot.store(Arc::new(next));
        Ok(())
    }

    /// The key of this uid; `None` if it was deleted or never made.
    pub fn get(&self, uid: Uuid) -> Option<Arc<ApiKey>> {
        self.snapshot.load().by_uid.get(&uid).cloned()
    }

    /// The uid of a key, from the key itself. Either case of hexadecimal digits is right.
    pub fn find(&self, key: &str) -> Option<Uuid> {
        let text = key.to_ascii_lowercase();
        let snapshot = self.snapshot.load();
        let uid = *snapshot.by_digest.get(&digest(text.as_bytes()))?;
        let same = self.master.as_ref()?.derive(uid).as_bytes().ct_eq(text.as_bytes());
        bool::from(same).then_some(uid)
    }

    /// Who presents a bearer token: the holder of the master key, of an API key or of a tenant token.
    ///
    /// # Errors
    /// [`Unknown`].
    pub fn identify(&self, token: &str) -> Result<Principal, Unknown> {
        let Some(master) = &self.master else { return Ok(Principal::MasterKey) };
        // Digests, so that not even the length of the key shows in how long a refusal takes.
        if bool::from(digest(token.as_bytes()).ct_eq(&digest(master.expose()))) {
            return Ok(Principal::MasterKey);
        }
        if let Some(key) = self.find(token).and_then(|uid| self.get(uid)) {
            return Ok(Principal::ApiKey(key));
        }
        match token::verify(token, master, clock::now()) {
            Ok(verified) => {
                let key = self.get(verified.key).ok_or(Unknown::Invalid)?;
                Ok(Principal::Tenant(Arc::new(Tenant { key, rules: verified.rules })))
            }
            Err(TokenError::NotAToken | TokenError::Session) => Err(Unknown::Invalid),
            Err(TokenError::Refused(message)) => Err(Unknown::Token(message.into())),
        }
    }

    /// All keys, newest first.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list(&self) -> Result<Vec<ApiKey>, StoreError> {
        self.store.list().await
    }

    /// Adds a key; whether its uid was free.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn insert(&self, key: ApiKey) -> Result<bool, StoreError> {
        let done = self.store.insert(key).await?;
        self.follow().await?;
        Ok(done)
    }

    /// Changes what a key is called; the key as it is then, if there is one.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn update(&self, uid: Uuid, change: Change) -> Result<Option<ApiKey>, StoreError> {
        let key = self.store.update(uid, change, clock::now()).await?;
        self.follow().await?;
        Ok(key)
    }

    /// Deletes a key; whether there was one.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn delete(&self, uid: Uuid) -> Result<bool, StoreError> {
        let done = self.store.delete(uid).await?;
        self.follow().await?;
        Ok(done)
    }
}
