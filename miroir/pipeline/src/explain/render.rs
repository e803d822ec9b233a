//! What was noted, as JSON: one shape for everybody, with less in it for those who do not operate
//! the cluster.

use std::collections::BTreeMap;
use std::time::Duration;

use miroir_api::NodeId;
use serde_json::{Map, Value, json};

use super::{Audience, Record, RequestPlan};
use miroir_core::hints::{Hint, Priority};
use miroir_core::routing::ShardSet;
use miroir_core::view::Reason;

/// Who gets an explanation, and so what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Viewer {
    /// Somebody who may search the index.
    Client,
    /// The holder of a tenant token. Its rules are part of the filter, so whatever follows from the
    /// filter would tell what they say.
    Tenant,
    /// The holder of the admin key.
    Operator,
}

impl Viewer {
    fn may_read(self, audience: Audience) -> bool {
        self == Self::Operator || audience == Audience::Everybody
    }
}

/// Members of the plan that follow from which shards a filter leaves; to a tenant they are `null`.
const OF_FILTER: &[&str] = &[
    "narrowed",
    "narrowing_reason",
    "target_shards",
    "skipped_shards",
    "missing_shards",
    "chosen_group",
    "target_nodes",
    "nodes",
    "hints",
    "hedging_armed",
    "hedge_trigger_ms",
    "estimated_p95_ms",
    // Some are needed only where several nodes are asked.
    "rounds",
];

/// Nodes under the names the viewer may know: their ids, or numbers.
struct Names {
    viewer: Viewer,
    numbers: BTreeMap<NodeId, usize>,
}

impl Names {
    fn of(&mut self, node: &NodeId) -> String {
        if self.viewer == Viewer::Operator {
            return node.to_string();
        }
        let next = self.numbers.len() + 1;
        format!("#{}", self.numbers.entry(node.clone()).or_insert(next))
    }
}

fn millis(duration: Duration) -> Value {
    // Two decimals say all there is.
    json!((duration.as_secs_f64() * 1e5).round() / 100.0)
}

fn list(shards: &ShardSet) -> Value {
    shards.iter().map(|shard| Value::from(shard.0)).collect()
}

fn rounded(cost: f64) -> String {
    if cost.is_finite() { format!("{cost:.1}") } else { "infinity".to_owned() }
}

fn reason(reason: &Reason) -> String {
    match reason {
        Reason::Turn => "its turn".to_owned(),
        Reason::Asked(by) => format!("asked for by `{by}`"),
        Reason::Cheaper { cost, instead_of, passed } => format!(
            "costs {} and not {} as group {instead_of}, whose turn it was",
            rounded(*cost),
            rounded(*passed)
        ),
        Reason::Explored => {
            "chance, to learn whether replicas that are spared are well again".to_owned()
        }
    }
}

fn hint_json<T>(what: &str, hint: &Hint<T>, value: Value, effective: bool) -> Value {
    let strength = match hint.priority {
        Priority::Prefer => "prefer",
        Priority::Pin => "pin",
        Priority::Must => "must",
    };
    json!({
        "what": what, "value": value, "by": hint.by, "strength": strength, "effective": effective,
    })
}

fn hints(plan: &RequestPlan, names: &mut Names) -> Value {
    let (hints, mut out) = (&plan.hints, Vec::new());
    if let Some(hint) = &hints.group {
        let effective = plan.route.groups.first() == Some(&hint.value);
        out.push(hint_json("group", hint, hint.value.0.into(), effective));
    }
    if let Some(hint) = &hints.shards {
        out.push(hint_json("shards", hint, list(&hint.value), plan.wanted == hint.value));
    }
    for it in &hints.conflicts {
        out.push(json!({
            "what": it.what, "value": null, "by": it.by, "strength": null, "effective": false,
        }));
    }
    if !hints.avoid.is_empty() {
        let nodes: Vec<String> = hints.avoid.iter().map(|node| names.of(node)).collect();
        out.push(json!({
            "what": "avoid", "value": nodes, "by": null, "strength": "must", "effective": true,
        }));
    }
    out.into()
}

fn narrowing(plan: &RequestPlan, shards: u32) -> (bool, String) {
    match &plan.hints.shards {
        Some(hint) if plan.wanted.len() < shards as usize => {
            (true, format!("`{}` says that no other shard can match", hint.by))
        }
        _ => (false, "nothing in the search says that only some shards can match".to_owned()),
    }
}

fn plan(
    plan: &RequestPlan,
    record: &Record,
    names: &mut Names,
    executes: bool,
) -> Map<String, Value> {
    let shards = plan.wanted.universe();
    let (narrowed, why) = narrowing(plan, shards);
    let group = plan.route.groups.first().map(|group| group.0);
    let mut target_nodes: Vec<(u32, String)> = Vec::new();
    let mut nodes = Map::new();
    for leaf in &plan.cover.leaves {
        let name = names.of(&leaf.node);
        target_nodes.extend(leaf.shards.iter().map(|shard| (shard.0, name.clone())));
        let hedge = record.hedges.get(&leaf.node);
        let standing = plan.route.standings.of(&leaf.node);
        nodes.insert(
            name,
            json!({
                "shards": leaf.shards.len(),
                "cost": standing.map(|it| (it.cost * 100.0).round() / 100.0),
                "p95_ms": plan.p95.get(&leaf.node).copied().map(millis),
                "hedge_after_ms": hedge.and_then(|hedge| hedge.after).map(millis),
                "replaceable": hedge.map(|hedge| hedge.replaceable),
            }),
        );
    }
    target_nodes.sort_unstable();
    let target_nodes: Map<String, Value> =
        target_nodes.into_iter().map(|(shard, node)| (shard.to_string(), node.into())).collect();
    let armed = record.hedges.values().filter(|hedge| hedge.replaceable);
    let trigger = armed.filter_map(|hedge| hedge.after).min();
    let p95 = plan.cover.leaves.iter().filter_map(|leaf| plan.p95.get(&leaf.node)).max();
    let value = json!({
        "alias_resolution": null,
        "narrowed": narrowed,
        "narrowing_reason": why,
        "target_shards": list(&plan.wanted),
        "skipped_shards": list(&ShardSet::full(shards).difference(&plan.wanted)),
        "missing_shards": list(&plan.cover.missing),
        "chosen_group": {"id": group, "reason": reason(&plan.route.reason)},
        "target_nodes": target_nodes,
        "nodes": nodes,
        "hints": hints(plan, names),
        "hedging_armed": trigger.is_some(),
        "hedge_trigger_ms": trigger.map(millis),
        "coalescing_eligible": false,
        "cache_candidate": false,
        "tenant_affinity_pinned": null,
        "estimated_p95_ms": p95.copied().map(millis),
        "settings_version": record.index.as_ref().map(|index| index.settings_version),
        "broadcast_pending": plan.broadcast_pending,
        "rounds": executes.then_some([(); 0]),
    });
    let Value::Object(mut out) = value else { unreachable!("it is written as an object") };
    for (name, (value, audience)) in &record.facts {
        let value = if names.viewer.may_read(*audience) { value.clone() } else { Value::Null };
        out.insert((*name).to_owned(), value);
    }
    if names.viewer == Viewer::Tenant {
        for name in OF_FILTER {
            out.insert((*name).to_owned(), Value::Null);
        }
    }
    out
}

/// An explanation: `resolved_uid`, `plan`, `warnings`, and `execution` where nodes were asked.
pub fn render(record: &Record, viewer: Viewer, executes: bool, max_warnings: usize) -> Value {
    let mut names = Names { viewer, numbers: BTreeMap::new() };
    let uid = record.index.as_ref().map(|index| match viewer {
        // Clients do not learn the name of an index on the nodes.
        Viewer::Client | Viewer::Tenant => index.name.to_string(),
        Viewer::Operator => index.physical.clone(),
    });
    let plan = record.plan.as_ref().map(|it| plan(it, record, &mut names, executes));
    let warnings: Vec<&str> = record
        .warnings
        .iter()
        .filter(|warning| viewer.may_read(warning.audience))
        .take(max_warnings)
        .map(|warning| warning.text.as_str())
        .collect();
    let mut out = json!({"resolved_uid": uid, "plan": plan, "warnings": warnings});
    if executes {
        let calls: Vec<Value> = record
            .calls
            .iter()
            .map(|call| {
                json!({
                    "node": names.of(&call.node),
                    "shards": call.shards.len(),
                    "again": call.again,
                    "took_ms": millis(call.took),
                    "outcome": call.outcome,
                })
            })
            .collect();
        // As many as there are nodes with the shards that are left.
        out["calls"] = if viewer == Viewer::Tenant { Value::Null } else { calls.into() };
    }
    out
}
