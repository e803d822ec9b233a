//! Values that several tests need.

use miroir::store::IndexEntry;
use miroir::topology::{Node, NodeStatus, Topology};
use miroir_api::{GroupId, IndexUid, NodeId};

/// An index with that many shards.
pub(crate) fn entry(name: &str, shards: u32) -> IndexEntry {
    let then = time::OffsetDateTime::UNIX_EPOCH;
    IndexEntry {
        name: IndexUid::new(name).unwrap(),
        physical: name.to_owned(),
        shards,
        primary_key: Some("id".to_owned()),
        created_at: then,
        updated_at: then,
        settings_version: 0,
        overlay: serde_json::Map::new(),
        frozen: None,
        making: false,
        committed_by: None,
        settings_hash: None,
        version: 1,
    }
}

/// One group of nodes `a`, `b`, `c`, ….
pub(crate) fn topology(nodes: u8, replication_factor: u32) -> Topology {
    let nodes = (0..nodes)
        .map(|at| {
            let id = char::from(b'a' + at).to_string();
            Node {
                address: format!("http://{id}"),
                id: NodeId::new(&id).unwrap(),
                group: GroupId(0),
                status: NodeStatus::Active,
            }
        })
        .collect();
    Topology::new(nodes, replication_factor).unwrap()
}
