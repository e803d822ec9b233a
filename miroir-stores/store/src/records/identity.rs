//! Who a store is: a name of its own, which what Miroir leaves on nodes refers to.

use std::collections::BTreeSet;
use std::fmt;

use miroir_api::NodeId;
use miroir_core::topology::{Change, Layout, Seat};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{ALWAYS, Expected, PutOptions, Table, Typed, decode, encode};
use crate::{StoreError, StoreFuture};

/// Key of the one record of [`Table::Topology`].
const STORE: &str = "store";

/// The name of a store: random, made once, the same for every process that ever uses the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StoreId(pub Uuid);

impl StoreId {
    /// The uid of the API key that a node has in one of its lives, by which its disk is known again.
    #[must_use]
    pub fn identity_key(self, node: &NodeId, life: u64) -> Uuid {
        Uuid::new_v5(&self.0, format!("{node}/{life}").as_bytes())
    }
}

impl fmt::Display for StoreId {
    /// Hyphenated, in lower case.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

/// The nodes by which documents are placed, as the store has them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommittedTopology {
    /// Grows with every change; the first is 1. Nodes are told it, so that a store that went back in
    /// time is known.
    pub version: u64,
    /// [`Layout::fingerprint`] in this store.
    pub fingerprint: String,
    /// The nodes.
    pub layout: Layout,
    /// A change of the layout that is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<Change>,
    /// Nodes without shards that were not removed yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub without_shards: Vec<Seat>,
    /// Those of them that take the place of a node that fails.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub spares: BTreeSet<NodeId>,
    /// What the change is for; `None` where none is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<Operation>,
    /// Operations that have ended, the newest first; at most [`CommittedTopology::ENDED`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ended: Vec<Operation>,
}

/// What an operator wants of the topology.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationKind {
    /// New nodes get shards.
    Join,
    /// Nodes give their shards away.
    Drain,
    /// A node takes another one's place.
    Replace,
    /// A group is added, with its nodes.
    GroupAdd,
    /// A group goes, with its nodes.
    GroupRemove,
    /// Another number of copies of each shard.
    ReplicationFactor,
}

/// How an operation stands, or how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationState {
    /// It goes on.
    Moving,
    /// An operator stopped it; what was copied so far is kept up to date.
    Paused,
    /// It goes back to the layout from before.
    RollingBack,
    /// The new layout is the only one.
    Committed,
    /// The layout from before is the only one.
    RolledBack,
}

impl OperationState {
    /// The state as the admin API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Moving => "moving",
            Self::Paused => "paused",
            Self::RollingBack => "rolling_back",
            Self::Committed => "committed",
            Self::RolledBack => "rolled_back",
        }
    }
}

impl OperationKind {
    /// The kind as the admin API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Join => "join",
            Self::Drain => "drain",
            Self::Replace => "replace",
            Self::GroupAdd => "group_add",
            Self::GroupRemove => "group_remove",
            Self::ReplicationFactor => "replication_factor",
        }
    }
}

/// An operation on the topology.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Its id.
    pub id: Uuid,
    /// What it is for.
    pub kind: OperationKind,
    /// How it stands.
    pub state: OperationState,
    /// The nodes that it is about.
    pub nodes: Vec<NodeId>,
    /// The node that failed, if it began by itself to make that node's copies anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restores: Option<NodeId>,
    /// When it began.
    #[serde(with = "time::serde::rfc3339")]
    pub began_at: OffsetDateTime,
    /// When it ended.
    #[serde(with = "time::serde::rfc3339::option")]
    pub ended_at: Option<OffsetDateTime>,
}

/// What is kept under [`STORE`].
#[derive(Clone, Debug, Serialize, Deserialize)]
struct StoreRecord {
    store_id: StoreId,
    /// None before the nodes are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    topology: Option<CommittedTopology>,
}

/// The name of the store.
pub trait Identity: Send + Sync + fmt::Debug {
    /// The store's name, made by the first call of all processes: of several at once, one makes it
    /// and all answer that one. Anybody may call it, whether it leads or not.
    fn store_id(&self) -> StoreFuture<'_, StoreId>;
    /// Which nodes the store is about; `None` before the first start with any.
    fn topology(&self) -> StoreFuture<'_, Option<CommittedTopology>>;
    /// Says which nodes the store is about, as version 1, unless that was said. Answers what the
    /// store has then: of several callers at once, one wins.
    fn found_topology(&self, layout: Layout) -> StoreFuture<'_, CommittedTopology>;
    /// Replaces the topology if its version is `expected`, in one step with comparing. Answers whether
    /// it did. The fingerprint is made here.
    fn commit_topology(&self, next: CommittedTopology, expected: u64) -> StoreFuture<'_, bool>;
}

impl CommittedTopology {
    /// Operations that are remembered after their end.
    pub const ENDED: usize = 20;

    fn first(store_id: StoreId, layout: Layout) -> Self {
        Self {
            version: 1,
            fingerprint: layout.fingerprint(&store_id.to_string()),
            layout,
            change: None,
            without_shards: Vec::new(),
            spares: BTreeSet::new(),
            operation: None,
            ended: Vec::new(),
        }
    }
}

impl Typed {
    /// The store's record, made if there is none, and its version.
    async fn store_record(&self) -> Result<(StoreRecord, u64), StoreError> {
        loop {
            if let Some(found) = self.records.get(Table::Topology, STORE, ALWAYS).await? {
                let version = found.version;
                return Ok((decode(found)?, version));
            }
            let made = StoreRecord { store_id: StoreId(Uuid::new_v4()), topology: None };
            self.put_store_record(&made, Expected::Nothing).await?;
        }
    }

    async fn put_store_record(
        &self,
        record: &StoreRecord,
        expected: Expected,
    ) -> Result<bool, StoreError> {
        let terms = PutOptions { expected, ..PutOptions::default() };
        let put = self.records.put(Table::Topology, STORE, encode(record)?, terms, ALWAYS);
        Ok(put.await?.is_some())
    }
}

impl Identity for Typed {
    fn store_id(&self) -> StoreFuture<'_, StoreId> {
        Box::pin(async move { Ok(self.store_record().await?.0.store_id) })
    }

    fn topology(&self) -> StoreFuture<'_, Option<CommittedTopology>> {
        Box::pin(async move { Ok(self.store_record().await?.0.topology) })
    }

    fn found_topology(&self, layout: Layout) -> StoreFuture<'_, CommittedTopology> {
        Box::pin(async move {
            loop {
                let (record, version) = self.store_record().await?;
                if let Some(known) = record.topology {
                    return Ok(known);
                }
                let first = CommittedTopology::first(record.store_id, layout.clone());
                let record = StoreRecord { topology: Some(first), ..record };
                self.put_store_record(&record, Expected::Version(version)).await?;
            }
        })
    }

    fn commit_topology(&self, next: CommittedTopology, expected: u64) -> StoreFuture<'_, bool> {
        Box::pin(async move {
            loop {
                let (record, at) = self.store_record().await?;
                if record.topology.as_ref().is_none_or(|known| known.version != expected) {
                    return Ok(false);
                }
                let fingerprint = next.layout.fingerprint(&record.store_id.to_string());
                let next = CommittedTopology { fingerprint, ..next.clone() };
                let record = StoreRecord { topology: Some(next), ..record };
                if self.put_store_record(&record, Expected::Version(at)).await? {
                    return Ok(true);
                }
            }
        })
    }
}
