//! `/_miroir/anti-entropy`.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{NodeId, ShardId};

/// What comparisons of replicas found, as the pod that is asked knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AntiEntropyView {
    /// Whether replicas are compared: `anti_entropy.enabled`.
    pub enabled: bool,
    /// Whether what differs is mended: `anti_entropy.auto_repair`.
    pub auto_repair: bool,
    /// The pass over all documents that is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<PassView>,
    /// The last one that ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<PassView>,
    /// Documents that differed and are mended, since the process began.
    pub mended: u64,
    /// Documents that differed and were only reported.
    pub reported: u64,
    /// Documents of which nobody can tell which version is right.
    pub ambiguous: u64,
    /// The latest differences, at most 200, the newest first.
    pub differences: Vec<DifferenceView>,
}

/// A pass over all documents, as far as this pod makes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassView {
    /// When it began, RFC 3339.
    pub began_at: String,
    /// When it ended, RFC 3339; none while it lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
    /// Shards that were compared.
    pub shards: u64,
    /// Shards that were not: fewer than two replicas are up to date and answer.
    pub skipped: u64,
    /// Documents that were read, on all replicas.
    pub documents: u64,
}

/// A document of which replicas had different versions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DifferenceView {
    /// When it was found, RFC 3339.
    pub at: String,
    /// Name of the index.
    pub index: String,
    /// Its shard.
    pub shard: ShardId,
    /// The document's id.
    pub id: String,
    /// The nodes that were right; none where nobody can tell.
    pub right: Vec<NodeId>,
    /// The others.
    pub wrong: Vec<NodeId>,
    /// `mended`, `reported` or `ambiguous`.
    pub became: String,
}

/// What repairs overwrote or deleted within a day, the newest first.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KeptView {
    /// At most 1,000 documents, of 64 MB together.
    pub kept: Vec<KeptDocumentView>,
}

/// A version of a document that is there no more.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KeptDocumentView {
    /// When it was overwritten or deleted, RFC 3339.
    pub at: String,
    /// Name of the index.
    pub index: String,
    /// The node that had it.
    pub node: NodeId,
    /// The document.
    pub document: Box<RawValue>,
}
