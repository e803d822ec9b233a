//! What an API key may do, and on which indexes.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::IndexUid;

/// How an action goes together with a key that is limited to some indexes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyScope {
    /// It is about the instance: a key limited to indexes cannot have it.
    Global,
    /// It is always about the one index in the path.
    Index,
    /// It may be about no index in particular; what is shown or changed is limited instead.
    Limited,
    /// It stands for several others.
    Several,
}

macro_rules! actions {
    ($($name:ident = $text:literal $scope:ident $read:literal,)*) => {
        /// One entry of a key's `actions`, after Meilisearch 1.50, in the order it lists them.
        #[allow(missing_docs)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum KeyAction {
            $(#[doc = $text] $name,)*
        }

        impl KeyAction {
            /// All actions, in the order in which Meilisearch lists them in errors.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The names of all actions.
            pub const NAMES: &[&str] = &[$($text,)*];

            /// The name on the wire.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The action of this name on the wire, letter by letter; `None` for any other text.
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$name),)* _ => None }
            }

            /// How it goes together with limited keys.
            pub fn scope(self) -> KeyScope {
                match self { $(Self::$name => KeyScope::$scope,)* }
            }

            /// Whether `*.get` stands for it.
            pub fn is_read(self) -> bool {
                match self { $(Self::$name => $read,)* }
            }
        }
    };
}

actions! {
    All = "*" Several false,
    Search = "search" Limited true,
    DocumentsAll = "documents.*" Several false,
    DocumentsAdd = "documents.add" Index false,
    DocumentsGet = "documents.get" Limited true,
    DocumentsDelete = "documents.delete" Index false,
    IndexesAll = "indexes.*" Several false,
    IndexesCreate = "indexes.create" Limited false,
    IndexesGet = "indexes.get" Limited true,
    IndexesUpdate = "indexes.update" Index false,
    IndexesDelete = "indexes.delete" Index false,
    IndexesSwap = "indexes.swap" Limited false,
    TasksAll = "tasks.*" Several false,
    TasksCancel = "tasks.cancel" Limited false,
    TasksDelete = "tasks.delete" Limited false,
    TasksGet = "tasks.get" Limited true,
    SettingsAll = "settings.*" Several false,
    SettingsGet = "settings.get" Limited true,
    SettingsUpdate = "settings.update" Index false,
    StatsAll = "stats.*" Limited false,
    StatsGet = "stats.get" Limited true,
    MetricsAll = "metrics.*" Global false,
    MetricsGet = "metrics.get" Global true,
    DumpsAll = "dumps.*" Global false,
    DumpsCreate = "dumps.create" Global false,
    SnapshotsAll = "snapshots.*" Global false,
    SnapshotsCreate = "snapshots.create" Global false,
    Version = "version" Global true,
    KeysCreate = "keys.create" Global false,
    // Not a read: it shows keys that may do more than the one that reads them.
    KeysGet = "keys.get" Global false,
    KeysUpdate = "keys.update" Global false,
    KeysDelete = "keys.delete" Global false,
    ExperimentalGet = "experimental.get" Global true,
    ExperimentalUpdate = "experimental.update" Global false,
    Export = "export" Global true,
    NetworkGet = "network.get" Global true,
    NetworkUpdate = "network.update" Global false,
    ChatCompletions = "chatCompletions" Limited false,
    ChatsAll = "chats.*" Global false,
    ChatsGet = "chats.get" Global true,
    ChatsDelete = "chats.delete" Global false,
    ChatsSettingsAll = "chatsSettings.*" Global false,
    ChatsSettingsGet = "chatsSettings.get" Global true,
    ChatsSettingsUpdate = "chatsSettings.update" Global false,
    AllGet = "*.get" Several false,
    WebhooksGet = "webhooks.get" Global true,
    WebhooksUpdate = "webhooks.update" Global false,
    WebhooksDelete = "webhooks.delete" Global false,
    WebhooksCreate = "webhooks.create" Global false,
    WebhooksAll = "webhooks.*" Global false,
    IndexesCompact = "indexes.compact" Index false,
    FieldsPost = "fields.post" Index true,
    TasksCompact = "tasks.compact" Global false,
    DynamicSearchRulesGet = "dynamicSearchRules.get" Global true,
    DynamicSearchRulesCreate = "dynamicSearchRules.create" Global false,
    DynamicSearchRulesUpdate = "dynamicSearchRules.update" Global false,
    DynamicSearchRulesDelete = "dynamicSearchRules.delete" Global false,
    DynamicSearchRulesAll = "dynamicSearchRules.*" Global false,
}

impl KeyAction {
    /// Whether a key with this entry may do what needs `needed`.
    ///
    /// A wildcard does not stand for itself: a route that needs `documents.*` is open to `*` only,
    /// as on a node.
    pub fn grants(self, needed: Self) -> bool {
        match self {
            Self::All => needed != Self::AllGet,
            Self::AllGet => needed.is_read(),
            _ => match self.as_str().strip_suffix('*') {
                Some(prefix) => needed != self && needed.as_str().starts_with(prefix),
                None => self == needed,
            },
        }
    }
}

impl fmt::Display for KeyAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for KeyAction {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for KeyAction {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::unknown_variant(&text, Self::NAMES))
    }
}

/// Which indexes: an exact name, or a prefix followed by `*`.
///
/// What a client sends is checked by [`IndexPattern::new`]; reading one from JSON takes any text, as
/// a node does for the rules of a tenant token.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IndexPattern(String);

/// The text is not a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidIndexPattern(pub String);

impl fmt::Display for InvalidIndexPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is not a valid index uid pattern. Index uid patterns can be an integer or a \
             string containing only alphanumeric characters, hyphens (-), underscores (_), and \
             optionally end with a star (*).",
            self.0
        )
    }
}

impl std::error::Error for InvalidIndexPattern {}

impl IndexPattern {
    /// Checks and wraps a pattern.
    ///
    /// # Errors
    /// [`InvalidIndexPattern`], whose text is Meilisearch's own.
    pub fn new(text: &str) -> Result<Self, InvalidIndexPattern> {
        let name = text.strip_suffix('*').unwrap_or(text);
        if text == "*" || IndexUid::new(name).is_ok() {
            return Ok(Self(text.to_owned()));
        }
        // A prefix is named without its star.
        Err(InvalidIndexPattern(name.to_owned()))
    }

    /// `*`, which matches every index.
    pub fn all() -> Self {
        Self("*".to_owned())
    }

    /// The pattern as it was written, star included.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the pattern is `*` and matches every index.
    pub fn is_all(&self) -> bool {
        self.0 == "*"
    }

    /// Whether it names one index.
    pub fn is_exact(&self) -> bool {
        !self.0.ends_with('*')
    }

    /// Whether an index is meant.
    pub fn matches(&self, index: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(prefix) => index.starts_with(prefix),
            None => self.0 == index,
        }
    }
}

impl fmt::Display for IndexPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(by: KeyAction) -> Vec<&'static str> {
        KeyAction::ALL.iter().filter(|n| by.grants(**n)).map(|n| n.as_str()).collect()
    }

    #[test]
    fn names_round_trip() {
        assert_eq!(KeyAction::ALL.len(), 58);
        for action in KeyAction::ALL {
            assert_eq!(KeyAction::parse(action.as_str()), Some(*action));
        }
        assert_eq!(KeyAction::parse("keys.*"), None);
        assert!(serde_json::from_str::<KeyAction>("\"nope\"").is_err());
    }

    #[test]
    fn wildcards_stand_for_their_group() {
        assert_eq!(
            granted(KeyAction::DocumentsAll),
            ["documents.add", "documents.get", "documents.delete"]
        );
        assert_eq!(
            granted(KeyAction::TasksAll),
            ["tasks.cancel", "tasks.delete", "tasks.get", "tasks.compact"]
        );
        assert_eq!(granted(KeyAction::ChatsAll), ["chats.get", "chats.delete"]);
        assert_eq!(granted(KeyAction::Search), ["search"]);
        assert_eq!(granted(KeyAction::All).len(), 57);
        let reads = granted(KeyAction::AllGet);
        assert!(reads.contains(&"search") && reads.contains(&"documents.get"));
        assert!(!reads.contains(&"keys.get") && !reads.contains(&"chatCompletions"));
    }

    #[test]
    fn patterns_are_names_or_prefixes() {
        for good in ["*", "a", "a*", "movies_2-x*"] {
            assert!(IndexPattern::new(good).is_ok(), "{good}");
        }
        for bad in ["", "a*b", "**", "bad uid", "*a"] {
            assert!(IndexPattern::new(bad).is_err(), "{bad}");
        }
        let prefix = IndexPattern::new("a*").unwrap();
        assert!(prefix.matches("a") && prefix.matches("ab") && !prefix.matches("b"));
        assert!(IndexPattern::all().matches("anything"));
        assert!(!IndexPattern::new("a").unwrap().matches("ab"));
    }
}
