//! `/_miroir/aliases`.

use serde::{Deserialize, Serialize};

use crate::IndexUid;

/// How many indexes an alias names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AliasKind {
    /// It stands for one index.
    Single,
    /// It stands for several, for reading.
    Multi,
}

/// What an alias stood for before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AliasFlip {
    /// The index that a `single` alias named; absent for a `multi` one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_uid: Option<IndexUid>,
    /// The indexes that a `multi` alias named, in the order given; absent for a `single` one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_uids: Option<Vec<IndexUid>>,
    /// The version of the alias that named them, from 1.
    pub version: u64,
    /// When the alias was flipped away from them, as RFC 3339 in UTC.
    pub flipped_at: String,
}

/// An alias as `GET /_miroir/aliases` and `GET /_miroir/aliases/{name}` show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AliasView {
    /// Name of the alias, as clients use it in place of an index uid.
    pub name: IndexUid,
    /// Whether the alias names one index or several.
    pub kind: AliasKind,
    /// Of a `single` one: the index it stands for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_uid: Option<IndexUid>,
    /// Of a `multi` one: the indexes it stands for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_uids: Option<Vec<IndexUid>>,
    /// Grows by one with every flip.
    pub version: u64,
    /// The rollover policy that alone changes it.
    pub managed_by: Option<String>,
    /// When the alias was created, as RFC 3339 in UTC; flips do not change it.
    pub created_at: String,
    /// What it stood for before, newest first.
    pub history: Vec<AliasFlip>,
}

/// The answer of `GET /_miroir/aliases`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AliasList {
    /// All of them, by name.
    pub aliases: Vec<AliasView>,
}

/// The body of `POST /_miroir/aliases` and `PUT /_miroir/aliases/{name}`. Either `target` or `targets`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AliasRequest {
    /// The name, where the path does not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<IndexUid>,
    /// The index it is to stand for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<IndexUid>,
    /// The indexes it is to stand for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub targets: Option<Vec<IndexUid>>,
    /// The version it must have: refused if somebody flipped it meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
}
