//! The state table, the checks of a topology, snapshots.

use std::sync::Arc;

use miroir_api::{GroupId, NodeId, ShardId};

use super::{Health::*, Intent::*, NodeEvent::*, *};

const INTENTS: [Intent; 4] = [Joining, Active, Draining, Removed];
const HEALTHS: [Health; 3] = [Well, Degraded, Failed];
const EVENTS: [NodeEvent; 6] = [Joined, Drain, MigrationDone, Suspect, Fail, Recover];

fn id(text: &str) -> NodeId {
    NodeId::new(text).unwrap()
}

fn node(name: &str, group: u32) -> Node {
    Node::new(id(name), format!("http://{name}:7700"), GroupId(group))
}

fn six() -> Vec<Node> {
    (0..6).rev().map(|n| node(&format!("meili-{n}"), n / 3)).collect()
}

/// All nodes that differ in intent or health.
fn states() -> impl Iterator<Item = Node> {
    let pairs = INTENTS.iter().flat_map(|intent| HEALTHS.map(|health| (*intent, health)));
    pairs.map(|(intent, health)| Node { intent, health, ..node("a", 0) })
}

#[test]
fn every_event_changes_intent_or_health_or_is_refused() {
    let intents =
        [(Joining, Joined, Active), (Active, Drain, Draining), (Draining, MigrationDone, Removed)];
    let healths = [
        (Well, Suspect, Degraded),
        (Failed, Suspect, Degraded),
        (Well, Fail, Failed),
        (Degraded, Fail, Failed),
        (Failed, Recover, Well),
        (Degraded, Recover, Well),
    ];
    for before in states() {
        for event in EVENTS {
            let intent = intents.iter().find(|l| (l.0, l.1) == (before.intent, event)).map(|l| l.2);
            let health = healths.iter().find(|l| (l.0, l.1) == (before.health, event)).map(|l| l.2);
            let health = health.filter(|_| before.intent != Removed);
            let mut after = before.clone();
            let result = after.apply(event);
            let refused = IllegalTransition::Refused { from: before.status(), event };
            let legal = intent.is_some() || health.is_some();
            assert_eq!(result, legal.then_some(()).ok_or(refused), "{before:?} on {event}");
            let (intent, health) =
                (intent.unwrap_or(before.intent), health.unwrap_or(before.health));
            assert_eq!(after, Node { intent, health, ..before.clone() }, "on {event}");
        }
    }
}

#[test]
fn a_node_that_hiccups_while_it_joins_is_not_read() {
    let mut joins = Node { intent: Joining, ..node("a", 0) };
    for event in [Suspect, Fail, Recover] {
        joins.apply(event).unwrap();
        assert!(!joins.is_readable(), "after {event}");
    }
    assert_eq!(joins.status(), NodeStatus::Joining);
}

#[test]
fn intent_and_health_say_whether_a_node_is_read_and_written() {
    let seen: Vec<_> = states()
        .map(|node| (node.status().as_str(), node.is_readable(), node.is_writable()))
        .collect();
    assert_eq!(
        seen,
        [
            ("joining", false, true),
            ("joining", false, true),
            ("failed", false, false),
            ("active", true, true),
            ("degraded", true, true),
            ("failed", false, false),
            ("draining", true, true),
            ("draining", true, true),
            ("failed", false, false),
            ("removed", false, false),
            ("removed", false, false),
            ("removed", false, false),
        ]
    );
    for node in states() {
        let status = node.status();
        assert_eq!(serde_json::to_value(status).unwrap(), status.as_str());
        assert_eq!(serde_json::from_value::<NodeStatus>(status.as_str().into()).unwrap(), status);
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
    assert_eq!(first.node(&id("meili-4")).unwrap().status(), NodeStatus::Active);
    for node in second.nodes() {
        assert_eq!(node.health, if node.id == id("meili-4") { Failed } else { Well });
    }
    assert_ne!(first, second);
    assert_eq!(
        second.with_event(&id("meili-4"), Fail),
        Err(IllegalTransition::Refused { from: NodeStatus::Failed, event: Fail })
    );
    let unknown = first.with_event(&id("other"), Drain).unwrap_err();
    assert_eq!(unknown.to_string(), "there is no node other to take the event drain");
}

#[test]
fn placement_is_cached_and_blind_to_health() {
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
