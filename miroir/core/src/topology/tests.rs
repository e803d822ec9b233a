//! The state table, the checks of a topology, snapshots.

use std::sync::Arc;

use miroir_api::{GroupId, NodeId, ShardId};

use super::{Health::*, Intent::*, NodeEvent::*, *};

const INTENTS: [Intent; 4] = [Joining, Active, Draining, Drained];
const HEALTHS: [Health; 3] = [Well, Degraded, Failed];
const EVENTS: [NodeEvent; 3] = [Suspect, Fail, Recover];

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
fn every_event_changes_health_or_is_refused() {
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
            let health = healths.iter().find(|l| (l.0, l.1) == (before.health, event)).map(|l| l.2);
            let mut after = before.clone();
            let result = after.apply(event);
            let refused = IllegalTransition::Refused { from: before.status(), event };
            assert_eq!(result, health.map(|_| ()).ok_or(refused), "{before:?} on {event}");
            let health = health.unwrap_or(before.health);
            assert_eq!(after, Node { health, ..before.clone() }, "on {event}");
        }
    }
}

#[test]
fn intent_and_health_say_whether_a_node_is_read_and_written() {
    let seen: Vec<_> = states()
        .map(|node| (node.status().as_str(), node.is_readable(), node.is_writable()))
        .collect();
    assert_eq!(
        seen,
        [
            ("joining", true, true),
            ("joining", true, true),
            ("failed", false, false),
            ("active", true, true),
            ("degraded", true, true),
            ("failed", false, false),
            ("draining", true, true),
            ("draining", true, true),
            ("failed", false, false),
            ("drained", true, true),
            ("drained", true, true),
            ("failed", false, false),
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
    let unknown = first.with_event(&id("other"), Fail).unwrap_err();
    assert_eq!(unknown.to_string(), "there is no node other to take the event fail");
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
    assert_eq!((second.version(), second.clone().at_version(9).version()), (2, 9));
}

fn seat(name: &str, group: u32) -> Seat {
    let node = node(name, group);
    Seat { id: node.id, group: node.group, address: node.address }
}

/// Six nodes of two groups become seven of two, of which one is another.
fn change(phase: Phase) -> (Layout, Change) {
    let layout = Layout::of(&Topology::new(six(), 2).unwrap());
    let mut to = layout.clone();
    to.nodes.retain(|seat| seat.id != id("meili-5"));
    to.nodes.extend([seat("meili-6", 0), seat("meili-7", 1)]);
    (layout, Change { to, phase })
}

#[test]
fn members_are_those_of_both_layouts_and_those_without_shards() {
    let first = Topology::new(six(), 2).unwrap().with_event(&id("meili-1"), Fail).unwrap();
    let intents = |topology: &Topology, names: [&str; 4]| {
        names.map(|name| topology.node(&id(name)).map(|node| node.intent))
    };
    let all = ["meili-1", "meili-5", "meili-6", "idle"];
    for (phase, joins) in [(Phase::Announced, Joining), (Phase::Switched, Active)] {
        let (layout, change) = change(phase);
        let next = first.following(&layout, Some(&change), &[seat("idle", 1)]).unwrap();
        let expected = [Active, Draining, joins, Drained].map(Some);
        assert_eq!(intents(&next, all), expected, "{phase}");
        assert_eq!(next.node(&id("meili-1")).unwrap().health, Failed, "health stays");
        assert_eq!(next.phase(), Some(phase));
        assert!(!Arc::ptr_eq(&first.placement(16), &next.placement(16)));
        // What does not place differently keeps its placements.
        let same = next.following(&layout, Some(&change), &[]).unwrap();
        assert!(Arc::ptr_eq(&next.placement(16), &same.placement(16)));
        assert!(!same.in_use().is_of(&first) && same.in_use().is_of(&next));
    }
    let (layout, _) = change(Phase::Announced);
    let before = first.in_use();
    let next = first.following(&layout, None, &[seat("idle", 7)]).unwrap();
    assert_eq!(intents(&next, all), [Some(Active), Some(Active), None, Some(Drained)]);
    assert_eq!(next.complete_groups().count(), 2, "a group without shards is none to read");
    assert_eq!(next.group(GroupId(7)).map(|group| group.nodes.len()), Some(1));
    drop((first, next));
    assert!(!before.is_still());
}

#[test]
fn a_layout_that_cannot_be_is_refused() {
    let first = Topology::new(six(), 2).unwrap();
    let (layout, change) = change(Phase::Copying);
    let twice =
        [seat("meili-6", 0), Seat { address: layout.nodes[0].address.clone(), ..seat("x", 0) }];
    let error = first.following(&layout, None, &twice).unwrap_err();
    assert!(error.to_string().contains("used by"), "{error}");
    let small = Change { to: Layout { replication_factor: 9, ..layout.clone() }, ..change };
    assert!(first.following(&layout, Some(&small), &[]).is_err());
}
