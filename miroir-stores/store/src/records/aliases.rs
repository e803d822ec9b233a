//! Names that stand for indexes.

use miroir_api::IndexUid;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{ALWAYS, Expected, PutOptions, Table, Typed, encode};
use crate::StoreFuture;

/// What an alias stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AliasTarget {
    /// One index: reads and writes.
    One(IndexUid),
    /// Several indexes, in the order they are read: reads only.
    Many(Vec<IndexUid>),
}

impl AliasTarget {
    /// The indexes.
    #[must_use]
    pub fn indexes(&self) -> &[IndexUid] {
        match self {
            Self::One(index) => std::slice::from_ref(index),
            Self::Many(indexes) => indexes,
        }
    }
}

/// What an alias stood for before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flip {
    /// What the alias stood for.
    pub target: AliasTarget,
    /// Version of the alias that stood for it.
    pub version: u64,
    /// When it was flipped away from it.
    #[serde(with = "time::serde::rfc3339")]
    pub until: OffsetDateTime,
}

/// A name that stands for one index or several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alias {
    /// Name that clients use in place of an index's.
    pub name: IndexUid,
    /// What it stands for.
    pub target: AliasTarget,
    /// Grows by one with every flip; the first is 1.
    pub version: u64,
    /// The rollover policy that alone may change it.
    #[serde(default)]
    pub owner: Option<String>,
    /// When it was made; flips leave it as it is.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// What it stood for before, newest first, as many as are kept.
    #[serde(default)]
    pub history: Vec<Flip>,
}

impl Alias {
    /// This alias with another target, one version on, with what it stood for in its history, of
    /// which `keep` entries stay.
    #[must_use]
    pub fn flipped(&self, target: AliasTarget, keep: usize, now: OffsetDateTime) -> Self {
        let flip = Flip { target: self.target.clone(), version: self.version, until: now };
        let history =
            std::iter::once(flip).chain(self.history.iter().cloned()).take(keep).collect();
        Self { target, version: self.version + 1, history, ..self.clone() }
    }
}

/// Aliases. What an alias may be called and may stand for is for the caller to judge.
pub trait Aliases: Send + Sync + std::fmt::Debug {
    /// All of them, by name.
    fn list(&self) -> StoreFuture<'_, Vec<Alias>>;
    /// Compare-and-set: writes the alias, whose version is one more than `expected`, if that is the
    /// stored version (0: there is none). Returns whether it was written.
    fn put(&self, alias: Alias, expected: u64) -> StoreFuture<'_, bool>;
    /// Deletes it if it has this version. Returns whether it did.
    fn delete(&self, name: &IndexUid, version: u64) -> StoreFuture<'_, bool>;
}

impl Aliases for Typed {
    fn list(&self) -> StoreFuture<'_, Vec<Alias>> {
        Box::pin(self.all(Table::Aliases, ALWAYS))
    }

    fn put(&self, alias: Alias, expected: u64) -> StoreFuture<'_, bool> {
        Box::pin(async move {
            let expected = Expected::of(expected);
            let terms = PutOptions { expected, ..PutOptions::default() };
            let value = encode(&alias)?;
            let put = self.records.put(Table::Aliases, alias.name.as_str(), value, terms, ALWAYS);
            Ok(put.await?.is_some())
        })
    }

    fn delete(&self, name: &IndexUid, version: u64) -> StoreFuture<'_, bool> {
        let name = name.clone();
        Box::pin(async move {
            self.records.delete(Table::Aliases, name.as_str(), Some(version), ALWAYS).await
        })
    }
}
