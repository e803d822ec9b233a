//! Rollover policies and how far each has come.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{ALWAYS, Expected, Table, Terms, Typed, encode};
use crate::Answer;

/// A policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rollover {
    /// Its name.
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
    fn list(&self) -> Answer<'_, Vec<Rollover>>;
    /// Compare-and-set: writes the policy, whose version is one more than `expected`, if that is the
    /// stored version (0: there is none). Returns whether it was written.
    fn put(&self, rollover: Rollover, expected: u64) -> Answer<'_, bool>;
    /// Deletes one. Returns whether there was one.
    fn delete(&self, name: &str) -> Answer<'_, bool>;
}

impl Rollovers for Typed {
    fn list(&self) -> Answer<'_, Vec<Rollover>> {
        Box::pin(self.all(Table::RolloverPolicies, ALWAYS))
    }

    fn put(&self, rollover: Rollover, expected: u64) -> Answer<'_, bool> {
        Box::pin(async move {
            let expected = Expected::of(expected);
            let terms = Terms { expected, ..Terms::default() };
            let (name, value) = (&rollover.name, encode(&rollover)?);
            let put = self.records.put(Table::RolloverPolicies, name, value, terms, ALWAYS);
            Ok(put.await?.is_some())
        })
    }

    fn delete(&self, name: &str) -> Answer<'_, bool> {
        self.records.delete(Table::RolloverPolicies, name, None, ALWAYS)
    }
}
