//! The state table, the checks of a topology, snapshots.

use std::sync::Arc;

use miroir_api::{GroupId, NodeId, ShardId};

use super::{NodeEvent::*, NodeStatus::*, *};

const STATUSES: [NodeStatus; 6] = [Joining, Active, Degraded, Draining, Failed, Removed];
const EVENTS: [NodeEvent; 6] = [Joined, Drain, MigrationDone, Suspect, Fail, Recover];

fn id(text: &str) -> NodeId {
    NodeId::new(text).unwrap()
}

fn node(name: &str, group: u32) -> Node {
    let address = format!("http://{name}:7700");
    Node { id: id(name), address, group: GroupId(group), status: Active }
}

fn six() -> Vec<Node> {
    (0..6).rev().map(|n| node(&format!("meili-{n}"), n / 3)).collect()
}

#[test]
fn every_pair_of_status_and_event_is_accepted_or_refused() {
    let legal = [
        (Joining, Joined, Active),
        (Active, Drain, Draining),
        (Draining, MigrationDone, Removed),
        (Active, Suspect, Degraded),
        (Failed, Suspect, Degraded),
        (Joining, Fail, Failed),
        (Active, Fail, Failed),
        (Degraded, Fail, Failed),
        (Draining, Fail, Failed),
        (Failed, Recover, Active),
        (Degraded, Recover, Active),
    ];
    for from in STATUSES {
        for event in EVENTS {
            let to = legal.iter().find(|l| (l.0, l.1) == (from, event)).map(|l| l.2);
            let expected = to.ok_or(IllegalTransition::Refused { from, event });
            assert_eq!(from.apply(event), expected, "{from} on {event}");
        }
    }
}

#[test]
fn each_status_says_whether_it_is_read_and_written() {
    for (status, name, readable, writable) in [
        (Joining, "joining", false, true),
        (Active, "active", true, true),
        (Degraded, "degraded", true, true),
        (Draining, "draining", true, true),
        (Failed, "failed", false, false),
        (Removed, "removed", false, false),
    ] {
        assert_eq!((status.is_readable(), status.is_writable()), (readable, writable), "{name}");
        assert_eq!(status.as_str(), name);
        assert_eq!(serde_json::to_value(status).unwrap(), name);
        assert_eq!(serde_json::from_value::<NodeStatus>(name.into()).unwrap(), status);
    }
    for event in EVENTS {
        assert_eq!(serde_json::to_value(event).unwrap(), event.as_str());
    }
}

#[test]
fn groups_are_sorted_whatever_the_order() {
    let topology = Topology::new(six(), 2).unwrap();
    assert_eq!((topology.version(), topology.replication_factor()), (1, 2));
    let groups: Vec<GroupId> = topology.groups().iter().map(|g| g.id).collect();
    assert_eq!(groups, [GroupId(0), GroupId(1)]);
    let names: Vec<&str> = topology.nodes().map(|n| n.id.as_str()).collect();
    assert_eq!(names, ["meili-0", "meili-1", "meili-2", "meili-3", "meili-4", "meili-5"]);
    for node in topology.nodes() {
        assert_eq!(topology.node(&node.id), Some(node));
        assert_eq!(topology.group(node.group).unwrap().node(&node.id), Some(node));
    }
    assert_eq!(topology.group(GroupId(2)), None);
    assert_eq!(topology.node(&id("other")), None);
    let mut forward = six();
    forward.reverse();
    assert_eq!(topology, Topology::new(forward, 2).unwrap());
}

#[test]
fn each_mistake_names_field_and_remedy() {
    let with = |change: &dyn Fn(&mut Vec<Node>)| {
        let mut nodes = six();
        change(&mut nodes);
        nodes
    };
    let slash = with(&|n| n[0].address = format!("{}/", n[1].address.to_uppercase()));
    for (nodes, rf, texts) in [
        (Vec::new(), 1, ["`nodes` is empty", "at least one node"]),
        (six(), 0, ["`replication_factor` is 0", "at least 1"]),
        (with(&|n| n[0].id = id("meili-1")), 1, ["`nodes[].id` `meili-1`", "an id of its own"]),
        (slash, 1, ["`nodes[].address` `HTTP://MEILI-4:7700/`", "`meili-4` and `meili-5`"]),
        (
            with(&|n| n.retain(|n| n.group.0 == 1)),
            1,
            ["`nodes[].replica_group` has no node in group 0 but one in group 1", "without gaps"],
        ),
        (
            with(&|n| n[0].group = GroupId(3)),
            1,
            ["no node in group 2 but one in group 3", "from 0"],
        ),
        (
            with(&|n| drop(n.remove(0))),
            3,
            ["`replication_factor` is 3, but `nodes[].replica_group` 1 has only 2", "lower"],
        ),
    ] {
        let error = Topology::new(nodes, rf).unwrap_err().to_string();
        for text in texts {
            assert!(error.contains(text), "{error:?} lacks {text:?}");
        }
    }
    assert!(Topology::new(six(), 3).is_ok());
}

#[test]
fn events_make_new_snapshots() {
    let first = Topology::new(six(), 1).unwrap();
    let second = first.with_event(&id("meili-4"), Fail).unwrap();
    assert_eq!((first.version(), second.version()), (1, 2));
    assert_eq!(first.node(&id("meili-4")).unwrap().status, Active);
    for node in second.nodes() {
        assert_eq!(node.status, if node.id == id("meili-4") { Failed } else { Active });
    }
    assert_ne!(first, second);
    assert_eq!(
        second.with_event(&id("meili-4"), Drain),
        Err(IllegalTransition::Refused { from: Failed, event: Drain })
    );
    let unknown = first.with_event(&id("other"), Drain).unwrap_err();
    assert_eq!(unknown.to_string(), "there is no node other to take the event drain");
}

#[test]
fn placement_is_cached_and_blind_to_status() {
    let first = Topology::new(six(), 2).unwrap();
    let placement = first.placement(64);
    assert!(Arc::ptr_eq(&placement, &first.placement(64)));
    assert_eq!((placement.shards(), first.placement(16).shards()), (64, 16));
    let second = first.with_event(&id("meili-0"), Fail).unwrap();
    assert!(Arc::ptr_eq(&placement, &second.placement(64)));
    assert_eq!(placement.write_targets(ShardId(5)).count(), 4);
    // Other nodes, other placements.
    let mut nodes = six();
    nodes.push(node("meili-6", 0));
    let third = second.with_nodes(nodes).unwrap();
    assert_eq!((third.version(), third.clone().at_version(9).version()), (3, 9));
    assert!(!third.placement(64).owned_by(&id("meili-6")).is_empty());
    assert!(placement.owned_by(&id("meili-6")).is_empty());
}
