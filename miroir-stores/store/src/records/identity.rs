//! Who a store is: a name of its own, which what Miroir leaves on nodes refers to.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{ALWAYS, Expected, PutOptions, Table, Typed, decode, encode};
use crate::StoreFuture;

/// Key of the one record of [`Table::Topology`].
const STORE: &str = "store";

/// The name of a store: random, made once, the same for every process that ever uses the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StoreId(pub Uuid);

impl fmt::Display for StoreId {
    /// Hyphenated, in lower case.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

/// What is kept under [`STORE`].
#[derive(Debug, Serialize, Deserialize)]
struct StoreRecord {
    store_id: StoreId,
}

/// The name of the store.
pub trait Identity: Send + Sync + fmt::Debug {
    /// The store's name, made by the first call of all processes: of several at once, one makes it
    /// and all answer that one. Anybody may call it, whether it leads or not.
    fn store_id(&self) -> StoreFuture<'_, StoreId>;
}

impl Identity for Typed {
    fn store_id(&self) -> StoreFuture<'_, StoreId> {
        Box::pin(async move {
            loop {
                if let Some(found) = self.records.get(Table::Topology, STORE, ALWAYS).await? {
                    return Ok(decode::<StoreRecord>(found)?.store_id);
                }
                let made = encode(&StoreRecord { store_id: StoreId(Uuid::new_v4()) })?;
                let terms = PutOptions { expected: Expected::Nothing, ..PutOptions::default() };
                self.records.put(Table::Topology, STORE, made, terms, ALWAYS).await?;
            }
        })
    }
}
