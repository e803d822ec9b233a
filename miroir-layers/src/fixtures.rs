//! Values that several tests need.

use std::sync::Arc;

use miroir_api::meili::{IndexPattern, KeyAction};
use miroir_api::{GroupId, IndexUid, NodeId};
use miroir_core::keys::ApiKey;
use miroir_core::topology::{Node, Topology};
use miroir_store::IndexEntry;

/// An index with that many shards.
pub(crate) fn entry(name: &str, shards: u32) -> IndexEntry {
    let then = time::OffsetDateTime::UNIX_EPOCH;
    IndexEntry {
        primary_key: Some("id".to_owned()),
        version: 1,
        ..IndexEntry::new(IndexUid::new(name).unwrap(), name.to_owned(), shards, then)
    }
}

/// One group of nodes `a`, `b`, `c`, ….
pub(crate) fn topology(nodes: u8, replication_factor: u32) -> Topology {
    grouped(1, nodes, replication_factor)
}

/// Groups of nodes: the first has `a`, `b`, …, the next goes on from there.
pub(crate) fn grouped(groups: u32, nodes: u8, replication_factor: u32) -> Topology {
    let nodes = (0..groups as u8 * nodes)
        .map(|at| {
            let id = char::from(b'a' + at).to_string();
            let group = GroupId(u32::from(at / nodes));
            Node::new(NodeId::new(&id).unwrap(), format!("http://{id}"), group)
        })
        .collect();
    Topology::new(nodes, replication_factor).unwrap()
}

/// A key that may do everything with these indexes.
pub(crate) fn api_key(indexes: &[&str]) -> Arc<ApiKey> {
    let now = time::OffsetDateTime::UNIX_EPOCH;
    Arc::new(ApiKey {
        uid: "6062abda-a5aa-4414-ac91-ecd7944c0f81".parse().unwrap(),
        name: None,
        description: None,
        actions: vec![KeyAction::parse("*").unwrap()],
        indexes: indexes.iter().map(|text| IndexPattern::new(text).unwrap()).collect(),
        expires_at: None,
        created_at: now,
        updated_at: now,
    })
}

/// Groups of one node each: `a` is group 0, `b` group 1, ….
pub(crate) fn groups(count: u8) -> Topology {
    let node = |at: u8| {
        let id = char::from(b'a' + at).to_string();
        Node::new(NodeId::new(&id).unwrap(), format!("http://{id}"), GroupId(u32::from(at)))
    };
    Topology::new((0..count).map(node).collect(), 1).unwrap()
}
