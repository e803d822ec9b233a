//! What is shown of what was noted, and to whom.

use std::time::Duration;

use miroir_api::{GroupId, IndexUid, NodeId, ShardId};
use serde_json::{Value, json};

use super::*;
use miroir_core::hints::Priority;
use miroir_core::routing::{Leaf, Standings};
use miroir_core::view::Reason;

fn id(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

fn noted() -> Record {
    let explain = Explain::new(true);
    let then = time::OffsetDateTime::UNIX_EPOCH;
    let uid = IndexUid::new("products").unwrap();
    let index =
        IndexEntry { settings_version: 42, ..IndexEntry::new(uid, "products-v4".into(), 4, then) };
    let mut hints = Hints::default();
    hints.shards(ShardSet::from_iter([0, 2, 3].map(ShardId), 4), "query_planner", Priority::Must);
    hints.group(GroupId(1), "tenant_affinity", Priority::Prefer);
    hints.group(GroupId(0), "session_pinning", Priority::Must);
    hints.avoid.push(id("secret-c"));
    let leaf = |node, shards: &[u32]| Leaf {
        node: id(node),
        shards: ShardSet::from_iter(shards.iter().copied().map(ShardId), 4),
        exact: false,
    };
    let wanted = hints.shards.as_ref().unwrap().value.clone();
    let mut route = Route::in_turn(vec![GroupId(0)], 3);
    route.reason = Reason::Asked("session_pinning");
    route.standings = Arc::new(Standings::default());
    explain.note(|record| {
        record.index = Some(Arc::new(index));
        record.plan = Some(RequestPlan {
            wanted,
            hints,
            route,
            cover: Cover {
                leaves: vec![leaf("secret-a", &[0, 2]), leaf("secret-b", &[3])],
                missing: ShardSet::empty(4),
            },
            p95: [(id("secret-a"), Duration::from_millis(18))].into(),
            broadcast_pending: true,
        });
        let after = Some(Duration::from_micros(21_600));
        record.hedges.insert(id("secret-a"), Patience { after, replaceable: true });
        record.hedges.insert(id("secret-b"), Patience { after: None, replaceable: false });
        record.calls.push(Called {
            node: id("secret-b"),
            shards: ShardSet::single(ShardId(3), 4),
            again: false,
            took: Duration::from_millis(3),
            outcome: "answered",
        });
    });
    explain.warn(WarningKind::Settings, Audience::Operators, "secret-a lags");
    for _ in 0..2 {
        explain.warn(WarningKind::DeepPage, Audience::Everybody, "deep");
    }
    explain.warn(WarningKind::Wildcard, Audience::Everybody, "wide");
    for _ in 0..2 {
        explain.round("ties");
    }
    explain.fact("coalescing_eligible", json!(true), Audience::Everybody);
    explain.fact("tenant_affinity_pinned", json!(1), Audience::Operators);
    explain.record()
}

/// The paths of all members.
fn shape(value: &Value, at: &str, out: &mut Vec<String>) {
    if let Value::Object(members) = value {
        for (name, value) in members {
            let name =
                if name.starts_with("secret-") || name.starts_with('#') { "*" } else { name };
            let path = format!("{at}/{name}");
            shape(value, &path, out);
            out.push(path);
        }
    }
}

#[test]
fn operators_see_names_and_everybody_the_same_shape() {
    let record = noted();
    let full = render(&record, Viewer::Operator, true, 20);
    let less = render(&record, Viewer::Client, true, 20);
    insta::assert_json_snapshot!("operator", full);
    insta::assert_json_snapshot!("client", less);
    let text = less.to_string();
    assert!(!text.contains("secret") && !text.contains("products-v4"), "{text}");
    let (mut a, mut b) = (Vec::new(), Vec::new());
    shape(&full, "", &mut a);
    shape(&less, "", &mut b);
    assert_eq!(a, b);
}

/// The rules of a tenant token narrow a search as its holder's own filter does: what is shown is the
/// same whatever the filter leaves.
#[test]
fn tenants_see_nothing_that_follows_from_a_filter() {
    let bound = noted();
    let mut free = bound.clone();
    let plan = free.plan.as_mut().unwrap();
    plan.hints.shards = None;
    plan.wanted = ShardSet::full(4);
    plan.cover = Cover {
        leaves: vec![Leaf { node: id("secret-c"), shards: ShardSet::full(4), exact: false }],
        missing: ShardSet::single(ShardId(1), 4),
    };
    free.hedges.clear();
    free.calls.clear();
    free.facts.remove("rounds");
    let shown = |record| render(record, Viewer::Tenant, true, 20);
    assert_eq!(shown(&bound), shown(&free));
    let client = |record| render(record, Viewer::Client, true, 20);
    assert_ne!(client(&bound), client(&free));

    let (tenant, client) = (shown(&bound), client(&bound));
    let members =
        |value: &Value| value["plan"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(members(&tenant), members(&client));
    assert_eq!((&tenant["calls"], &tenant["plan"]["narrowed"]), (&Value::Null, &Value::Null));
    assert_eq!(tenant["plan"]["settings_version"], 42);
    assert_eq!(tenant["warnings"], client["warnings"]);
}

#[test]
fn warnings_are_counted_out_and_plans_without_execution_have_no_calls() {
    let record = noted();
    let out = render(&record, Viewer::Operator, false, 2);
    assert_eq!(out["warnings"], json!(["secret-a lags", "deep"]));
    assert_eq!(out.get("calls"), None);
    let nothing = render(&Record::default(), Viewer::Client, false, 2);
    assert_eq!(nothing, json!({"resolved_uid": null, "plan": null, "warnings": []}));
}

#[test]
fn queries_of_a_request_have_records_of_their_own() {
    let explain = Explain::new(false);
    for name in ["a", "b"] {
        explain.part().warn(WarningKind::Layer, Audience::Everybody, name);
    }
    let texts: Vec<String> =
        explain.parts().iter().map(|part| part.record().warnings[0].text.clone()).collect();
    assert_eq!(texts, ["a", "b"]);
    assert!(explain.record().warnings.is_empty());
}
