//! The bytes that are hashed, held by vectors of another implementation.

use miroir_api::{NodeId, ShardId};
use serde_json::Value;

use super::super::*;

fn vectors(part: &str) -> Vec<Value> {
    let file: Value =
        serde_json::from_str(include_str!("../../../tests/golden/placement.json")).unwrap();
    let vectors = file[part].as_array().unwrap().clone();
    assert!(vectors.len() >= 30, "{part}: only {} vectors", vectors.len());
    vectors
}

fn number(vector: &Value, field: &str) -> u32 {
    vector[field].as_u64().unwrap().try_into().unwrap()
}

fn ids(list: &Value) -> Vec<NodeId> {
    list.as_array().unwrap().iter().map(|id| NodeId::new(id.as_str().unwrap()).unwrap()).collect()
}

#[test]
fn hashes_are_the_published_xxh64_vectors() {
    for (input, hash) in [
        ("", 0xEF46_DB37_51D8_E999_u64),
        ("a", 0xD24E_C4F1_A98C_6E5B),
        ("abc", 0x44BC_2CF5_AD77_0999),
    ] {
        for shards in [2, 64, 1_000_003, u32::MAX] {
            let expected = ShardId((hash % u64::from(shards)) as u32);
            assert_eq!(shard_of(input.as_bytes(), shards), expected, "{input:?} of {shards}");
        }
    }
}

#[test]
fn keys_go_to_their_recorded_shards() {
    let vectors = vectors("shard_of");
    assert!(vectors.len() >= 64);
    for v in vectors {
        let shard = shard_of(v["key"].as_str().unwrap().as_bytes(), number(&v, "shards"));
        assert_eq!(shard.0, number(&v, "shard"), "{v}");
    }
}

#[test]
fn nodes_have_their_recorded_scores() {
    for v in vectors("score") {
        let node = NodeId::new(v["node"].as_str().unwrap()).unwrap();
        let score = score(ShardId(number(&v, "shard")), &node);
        assert_eq!(format!("{score:016x}"), v["score"].as_str().unwrap(), "{v}");
    }
}

#[test]
fn shards_have_their_recorded_owners() {
    let vectors = vectors("owners");
    assert!(vectors.len() >= 64);
    for v in vectors {
        let nodes = ids(&v["nodes"]);
        let shard = ShardId(number(&v, "shard"));
        let placement = Placement::new(&[nodes], number(&v, "replication_factor"), 64);
        let owners: Vec<NodeId> = placement.owners(GroupId(0), shard).cloned().collect();
        assert_eq!(owners, ids(&v["owners"]), "{v}");
    }
}
