//! Values that several tests need.

use miroir::store::IndexEntry;
use miroir::topology::{Node, NodeStatus, Topology};
use miroir_api::{GroupId, IndexUid, NodeId};

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

/// Groups of one node each: `a` is group 0, `b` group 1, ….
pub(crate) fn groups(count: u8) -> Topology {
    let node = |at: u8| {
        let id = char::from(b'a' + at).to_string();
        Node {
            address: format!("http://{id}"),
            id: NodeId::new(&id).unwrap(),
            group: GroupId(u32::from(at)),
            status: NodeStatus::Active,
        }
    };
    Topology::new((0..count).map(node).collect(), 1).unwrap()
}
