//! The rows of the index catalogue.

use miroir_api::{IndexUid, TaskUid};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};
use time::OffsetDateTime;
use uuid::Uuid;

use miroir_core::documents::IdCase;

/// Under which incarnations of entries are derived that were stored without one.
const DERIVED: Uuid = Uuid::from_u128(0x6d69_726f_6972_4f69_8e63_6172_6e61_7469);

/// One index of the catalogue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct IndexEntry {
    /// Name by which clients know it, the key of the catalogue.
    pub name: IndexUid,
    /// Name on the nodes; a swap or rename leaves it as it is.
    pub physical: String,
    /// Tells it from every index that had its names before, or will have them: given when it is
    /// made, and never changed. One that was stored without gets a `UUIDv5` that says the same in
    /// every process.
    #[serde(default)]
    pub incarnation: Uuid,
    /// Number of shards, at least 1; fixed when the index is created.
    pub shards: u32,
    /// Primary key; `None` until the first documents or the client name one.
    pub primary_key: Option<String>,
    /// `createdAt`, as clients see it.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// `updatedAt`, as clients see it.
    #[serde(with = "time::serde::rfc3339")]
    pub updated_at: OffsetDateTime,
    /// Committed settings version, from 0.
    pub settings_version: u64,
    /// Settings that nodes have in another form than the client set, as the client set them.
    pub overlay: Map<String, Value>,
    /// Why writes are refused, if they are.
    pub frozen: Option<String>,
    /// Set while the nodes are told to make the index for the first time and no task stands for
    /// it. A process that finds it at its start undoes the making.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub making: bool,
    /// Set until a task that makes the index has ended in another way than canceled. If none does, the
    /// index is taken back, as there is none on one node.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub provisional: bool,
    /// Whether documents gave it its primary key. It has none again where all of them are canceled.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub key_of_documents: bool,
    /// The task whose settings were committed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub committed_by: Option<TaskUid>,
    /// Hash of the committed settings as nodes show them, in hexadecimal, once it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings_hash: Option<String>,
    /// Case of the letters that ids have had; both where nobody watched. Stored as `letters`.
    #[serde(rename = "letters", default = "IdCase::any", skip_serializing_if = "IdCase::is_any")]
    pub id_case: IdCase,
    /// Grows by one with every change; compared by `put` and `change`.
    pub version: u64,
}

impl Serialize for IndexEntry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for IndexEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut entry = Self::deserialize(deserializer)?;
        if entry.incarnation.is_nil() {
            entry.incarnation = derived(&entry.physical, entry.created_at);
        }
        Ok(entry)
    }
}

/// The incarnation of an entry that was stored without one.
fn derived(physical: &str, created_at: OffsetDateTime) -> Uuid {
    let text = format!("{physical} {}", created_at.unix_timestamp_nanos());
    Uuid::new_v5(&DERIVED, text.as_bytes())
}

impl IndexEntry {
    /// An index that was just made: no primary key yet, no settings. Its incarnation is the one of an
    /// entry that was stored without; who makes an index gives it a new one.
    pub fn new(name: IndexUid, physical: String, shards: u32, created_at: OffsetDateTime) -> Self {
        let incarnation = derived(&physical, created_at);
        Self {
            name,
            physical,
            incarnation,
            shards,
            primary_key: None,
            created_at,
            updated_at: created_at,
            settings_version: 0,
            overlay: Map::new(),
            frozen: None,
            making: false,
            provisional: false,
            key_of_documents: false,
            committed_by: None,
            settings_hash: None,
            id_case: IdCase::NONE,
            version: 0,
        }
    }

    /// Whether this is the index that was seen as an incarnation.
    ///
    /// While an update rolls over several pods, one of the version before may write an entry back
    /// without its incarnation. What is derived then can be any of those the pods before it gave, and
    /// counts as the same.
    pub fn is_incarnation(&self, seen: Uuid) -> bool {
        self.incarnation == seen || self.incarnation == derived(&self.physical, self.created_at)
    }
}

/// One of several changes of the catalogue that are made together.
#[derive(Clone, Debug, PartialEq)]
pub struct IndexChange {
    /// Name of the entry that changes.
    pub name: IndexUid,
    /// Its version now; `None`: there is no entry.
    pub expected: Option<u64>,
    /// The entry to write; `None` deletes it, or keeps it absent.
    pub entry: Option<IndexEntry>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn stored(physical: &str, created_at: &str) -> IndexEntry {
        let json = json!({
            "name": "a", "physical": physical, "shards": 4, "primary_key": null,
            "created_at": created_at, "updated_at": created_at, "settings_version": 0,
            "overlay": {}, "frozen": null, "version": 1,
        });
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn an_entry_without_incarnation_gets_the_same_one_in_every_process() {
        let entry = stored("a", "2026-01-02T03:04:05.000000006Z");
        assert_eq!(entry.incarnation.to_string(), "4d766332-7e73-5695-8b34-bc3ff7213fd2");
        assert_eq!(entry, stored("a", "2026-01-02T03:04:05.000000006Z"));
        for other in [
            stored("a", "2026-01-02T03:04:05.000000007Z"),
            stored("a--2", "2026-01-02T03:04:05.000000006Z"),
        ] {
            assert_ne!(entry.incarnation, other.incarnation);
        }
        let again = serde_json::to_string(&entry).unwrap();
        assert_eq!(serde_json::from_str::<IndexEntry>(&again).unwrap(), entry);
    }

    #[test]
    fn an_entry_that_lost_its_incarnation_counts_as_what_was_seen() {
        let now = OffsetDateTime::UNIX_EPOCH;
        let name = IndexUid::new("a").unwrap();
        let derived = IndexEntry::new(name, "a".to_owned(), 4, now);
        let given = IndexEntry { incarnation: Uuid::now_v7(), ..derived.clone() };
        let next = IndexEntry { incarnation: Uuid::now_v7(), ..derived.clone() };
        assert!(given.is_incarnation(given.incarnation));
        assert!(!given.is_incarnation(next.incarnation));
        assert!(!given.is_incarnation(derived.incarnation));
        assert!(derived.is_incarnation(given.incarnation));
    }
}
