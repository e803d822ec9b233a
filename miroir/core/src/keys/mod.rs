//! API keys and tenant tokens: Miroir's own, derived and judged as Meilisearch does it.
//!
//! A key is never stored. It is the HMAC-SHA256 of its uid under the master key
//! ([`MasterKey::derive`]), so the same master key and uid give the same key here and on any
//! Meilisearch, and changing the master key changes them all. A tenant token is a JWT signed with an
//! API key ([`token`]); its search rules narrow what that key may search ([`rules`]).
//!
//! Nodes know nothing of these keys: they are called with the node key alone.

mod derive;
pub mod request;
pub mod rules;
pub mod token;

use std::sync::Arc;

use miroir_api::meili::{IndexPattern, KeyAction, KeyScope};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

pub use derive::MasterKey;
pub use rules::{Scope, SearchRules};

/// An API key, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// What it is derived from; unique.
    pub uid: Uuid,
    /// Name that the client gave the key, for people; `None` without one.
    pub name: Option<String>,
    /// Description that the client gave the key, for people; `None` without one.
    pub description: Option<String>,
    /// The actions it allows, as the client wrote them, wildcards included.
    pub actions: Vec<KeyAction>,
    /// The indexes it is limited to, as the client wrote them; `*` for all.
    pub indexes: Vec<IndexPattern>,
    /// Instant from which it is refused; `None` for never.
    #[serde(with = "time::serde::rfc3339::option")]
    pub expires_at: Option<OffsetDateTime>,
    /// Instant at which it was created.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// Instant at which its name or description last changed; `created_at` before.
    #[serde(with = "time::serde::rfc3339")]
    pub updated_at: OffsetDateTime,
}

/// A tenant token whose signature and time were checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// The key it was signed with.
    pub key: Arc<ApiKey>,
    /// The indexes and filters it narrows that key to.
    pub rules: SearchRules,
}

/// A key as clients see it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyView<'a> {
    name: Option<&'a str>,
    description: Option<&'a str>,
    key: String,
    uid: Uuid,
    actions: &'a [KeyAction],
    indexes: &'a [IndexPattern],
    #[serde(with = "time::serde::rfc3339::option")]
    expires_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
}

impl ApiKey {
    /// The four keys that a node makes when it starts without any, oldest first. `uids` are random.
    pub fn defaults(now: OffsetDateTime, uids: [Uuid; 4]) -> Vec<Self> {
        let texts = [
            (
                "Default Chat API Key",
                "Use it to chat and search from the frontend",
                vec![KeyAction::ChatCompletions, KeyAction::Search],
            ),
            (
                "Default Read-Only Admin API Key",
                "Use it to read information across the whole database. Caution! Do not expose this \
                 key on a public frontend",
                vec![KeyAction::AllGet, KeyAction::KeysGet],
            ),
            (
                "Default Admin API Key",
                "Use it for anything that is not a search operation. Caution! Do not expose it on a \
                 public frontend",
                vec![KeyAction::All],
            ),
            (
                "Default Search API Key",
                "Use it to search from the frontend",
                vec![KeyAction::Search],
            ),
        ];
        let key = |(at, (uid, (name, description, actions)))| {
            // Apart from each other, so that lists have one order.
            let created = now + time::Duration::microseconds(at);
            Self {
                uid,
                name: Some(str::to_owned(name)),
                description: Some(str::to_owned(description)),
                actions,
                indexes: vec![IndexPattern::all()],
                expires_at: None,
                created_at: created,
                updated_at: created,
            }
        };
        (0..).zip(uids.into_iter().zip(texts)).map(key).collect()
    }

    /// The key as `GET /keys` shows it, with the secret derived from `master`.
    pub fn view<'a>(&'a self, master: &MasterKey) -> KeyView<'a> {
        KeyView {
            name: self.name.as_deref(),
            description: self.description.as_deref(),
            key: master.derive(self.uid),
            uid: self.uid,
            actions: &self.actions,
            indexes: &self.indexes,
            expires_at: self.expires_at,
            created_at: self.created_at,
            updated_at: self.updated_at,
        }
    }

    /// Whether the key allows `action` at `now`, on `index`, or for `None` on no index in
    /// particular.
    pub fn allows(&self, action: KeyAction, index: Option<&str>, now: OffsetDateTime) -> bool {
        let indexes = self.indexes.iter().any(|pattern| match index {
            _ if pattern.is_all() => true,
            Some(index) => pattern.matches(index),
            None => action.scope() == KeyScope::Limited,
        });
        indexes
            && self.actions.iter().any(|own| own.grants(action))
            && self.expires_at.is_none_or(|at| now < at)
    }
}

#[cfg(test)]
mod tests;
