//! Rollover policies and how far each has come.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{ALWAYS, Expected, PutOptions, Table, Typed, encode};
use crate::StoreFuture;

/// A policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rollover {
    /// Name, unique among policies.
    pub name: String,
    /// Grows by one with every change; the first is 1.
    pub version: u64,
    /// What it says; opaque to the store.
    pub policy: Value,
    /// How far its last rollover has come; opaque to the store.
    #[serde(default)]
    pub state: Value,
}

/// Rollover policies.
pub trait Rollovers: Send + Sync + std::fmt::Debug {
    /// All of them, by name.
    fn list(&self) -> StoreFuture<'_, Vec<Rollover>>;
    /// Compare-and-set: writes the policy, whose version is one more than `expected`, if that is the
    /// stored version (0: there is none). Returns whether it was written.
    fn put(&self, rollover: Rollover, expected: u64) -> StoreFuture<'_, bool>;
    /// Deletes one. Returns whether there was one.
    fn delete(&self, name: &str) -> StoreFuture<'_, bool>;
}

impl Rollovers for Typed {
    fn list(&self) -> StoreFuture<'_, Vec<Rollover>> {
        Box::pin(self.all(Table::RolloverPolicies, ALWAYS))
    }

    fn put(&self, rollover: Rollover, expected: u64) -> StoreFuture<'_, bool> {
        Box::pin(async move {
            let expected = Expected::of(expected);
            let terms = PutOptions { expected, ..PutOptions::default() };
            let (name, value) = (&rollover.name, encode(&rollover)?);
            let put = self.records.put(Table::RolloverPolicies, name, value, terms, ALWAYS);
            Ok(put.await?.is_some())
        })
    }

    fn delete(&self, name: &str) -> StoreFuture<'_, bool> {
        self.records.delete(Table::RolloverPolicies, name, None, ALWAYS)
    }
}
