//! Validated identifiers.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The longest index uid Meilisearch accepts, in bytes.
const MAX_INDEX_UID: usize = 400;

/// The name of an index: `[A-Za-z0-9_-]`, 1 to 400 bytes, as Meilisearch 1.50 accepts it.
///
/// Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct IndexUid(Arc<str>);

/// The text is not a valid index uid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidIndexUid(pub String);

impl fmt::Display for InvalidIndexUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is not a valid index uid. Index uid can be an integer or a string containing only \
             alphanumeric characters, hyphens (-) and underscores (_), and can not be more than \
             512 bytes.",
            self.0
        )
    }
}

impl std::error::Error for InvalidIndexUid {}

impl IndexUid {
    /// Checks and wraps a name.
    ///
    /// # Errors
    /// [`InvalidIndexUid`], whose text is Meilisearch's own.
    pub fn new(text: &str) -> Result<Self, InvalidIndexUid> {
        let ok = !text.is_empty()
            && text.len() <= MAX_INDEX_UID
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if ok { Ok(Self(text.into())) } else { Err(InvalidIndexUid(text.to_owned())) }
    }

    /// The uid as clients write it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for IndexUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for IndexUid {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::new(&text).map_err(serde::de::Error::custom)
    }
}

/// The stable name of a node, as the operator wrote it. Never reused for another machine: it is
/// what placement hashes.
///
/// Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct NodeId(Arc<str>);

/// The text is not a valid node id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidNodeId(pub String);

impl fmt::Display for InvalidNodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is not a valid node id: use 1 to 128 letters, digits, `-`, `_` or `.`",
            self.0
        )
    }
}

impl std::error::Error for InvalidNodeId {}

impl NodeId {
    /// Checks and wraps a node id.
    ///
    /// # Errors
    /// [`InvalidNodeId`] when the text is empty, longer than 128 bytes or has other characters than
    /// ASCII letters, digits, `-`, `_` and `.`.
    pub fn new(text: &str) -> Result<Self, InvalidNodeId> {
        let ok = !text.is_empty()
            && text.len() <= 128
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        if ok { Ok(Self(text.into())) } else { Err(InvalidNodeId(text.to_owned())) }
    }

    /// The id as the configuration has it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for NodeId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::new(&text).map_err(serde::de::Error::custom)
    }
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub u32);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// A replica group: an independent pool of nodes that holds a full copy of all shards.
    GroupId
}
number! {
    /// A shard of an index, counted from 0.
    ShardId
}
number! {
    /// A task's uid as clients see it: unique and monotonic over the cluster, allocated by the store.
    TaskUid
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_uids_follow_meilisearch() {
        assert!(IndexUid::new("movies-2_A").is_ok());
        assert!(IndexUid::new(&"a".repeat(400)).is_ok());
        for bad in ["", "a b", "a/b", "é", &"a".repeat(401)] {
            assert!(IndexUid::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn node_ids_are_plain() {
        assert!(NodeId::new("meili-0.eu").is_ok());
        for bad in ["", "a b", "a/b", "é"] {
            assert!(NodeId::new(bad).is_err(), "{bad}");
        }
    }
}
