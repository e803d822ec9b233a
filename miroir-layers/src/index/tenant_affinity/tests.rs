//! Tests, with mocks and paused time; the decision by properties.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusBuilder;
use miroir_api::{GroupId, NodeId};
use miroir_core::hints::{Hints, Priority};
use miroir_core::topology::NodeEvent;
use miroir_pipeline::Placed;
use miroir_pipeline::context::{Context, Origin};
use miroir_pipeline::index::{Deletion, Operation, Request, Write};
use miroir_pipeline::query::{ClientRequest, Search};
use miroir_test::contract::contract;
use miroir_test::layered;
use proptest::prelude::*;

use super::*;
use crate::fixtures::{entry, groups};
use crate::index::SessionPinningLayer;

#[expect(clippy::unnecessary_wraps, reason = "as a context has it")]
fn named(name: &str) -> Option<NamedTenant> {
    Some(NamedTenant { name: Arc::from(name), listed: false, group: None })
}

#[expect(clippy::unnecessary_wraps, reason = "as a context has it")]
fn mapped(name: &str, group: Option<u32>) -> Option<NamedTenant> {
    Some(NamedTenant { name: Arc::from(name), listed: true, group: group.map(GroupId) })
}

fn request(op: Operation, tenant: Option<NamedTenant>) -> Request {
    let mut cx = Context::client("1", Duration::from_secs(1));
    if let Some(tenant) = tenant {
        cx.insert(tenant);
    }
    let original = ClientRequest::new(http::Method::POST, "/search");
    Request::new(
        op,
        Arc::new(original),
        Arc::new(entry("a", 8)),
        Arc::new(groups(3)),
        Arc::default(),
        cx,
    )
}

fn read(tenant: Option<NamedTenant>) -> Request {
    request(Operation::Search(Arc::new(Search::default())), tenant)
}

fn write(tenant: Option<NamedTenant>) -> Request {
    let write = Write::Delete(Deletion::All);
    request(Operation::Write { write, custom_metadata: None }, tenant)
}

/// Tenant A has group 0, which is dedicated, and B group 1.
fn options() -> TenantAffinityOptions {
    TenantAffinityOptions {
        static_map: [("A".to_owned(), GroupId(0)), ("B".to_owned(), GroupId(1))].into(),
        dedicated_groups: vec![GroupId(0)],
        header_name: "x-miroir-tenant".to_owned(),
        ..TenantAffinityOptions::default()
    }
}

fn with(mode: Mode, fallback: Fallback) -> TenantAffinityOptions {
    TenantAffinityOptions { mode, fallback, ..options() }
}

/// The hints that come out, or the status and body of the refusal.
async fn hints(options: &TenantAffinityOptions, request: Request) -> Result<Hints, (u16, String)> {
    let (mut service, mut inner) = layered(TenantAffinityLayer::new(options.clone()));
    let call = service.spawn_call(request);
    while !call.is_finished() {
        tokio::task::yield_now().await;
        if let Some(exchange) = inner.try_next_request() {
            return Ok(exchange.request().hints.clone());
        }
    }
    let (status, body) = call.await.unwrap_err().render();
    Err((status.as_u16(), String::from_utf8(body.unwrap().to_vec()).unwrap()))
}

fn order(hints: &Hints, turn: u64) -> Vec<u32> {
    hints.order((0..3).map(GroupId), turn).into_iter().map(|group| group.0).collect()
}

#[tokio::test(start_paused = true)]
async fn keeps_the_contract() {
    contract(TenantAffinityLayer::new(options()), || write(named("A"))).await;
    contract(TenantAffinityLayer::new(options()), || {
        let mut read = read(named("A"));
        read.cx.origin = Origin::Repair;
        read
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn tenants_stay_in_their_groups() {
    for _ in 0..3 {
        for (tenant, group) in [("A", 0), ("B", 1)] {
            let hints = hints(&options(), read(named(tenant))).await.unwrap();
            let hint = hints.group.clone().unwrap();
            assert_eq!((hint.by, hint.priority), (TenantAffinityLayer::NAME, Priority::Pin));
            for turn in 0..6 {
                assert_eq!(order(&hints, turn), [group]);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn writes_go_everywhere() {
    for tenant in [named("A"), named("unknown"), None] {
        for fallback in [Fallback::Hash, Fallback::Random, Fallback::Reject] {
            let options = with(Mode::Explicit, fallback);
            assert_eq!(hints(&options, write(tenant.clone())).await.unwrap(), Hints::default());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_dedicated_group_is_for_nobody_else() {
    let nobodys = [None, named("B"), named("unknown"), mapped("unknown", None)];
    for tenant in nobodys {
        for fallback in [Fallback::Hash, Fallback::Random] {
            for mode in [Mode::Header, Mode::ApiKey, Mode::Explicit] {
                let hints = hints(&with(mode, fallback), read(tenant.clone())).await.unwrap();
                for turn in 0..6 {
                    assert!(!order(&hints, turn).contains(&0), "{mode:?} {fallback:?} {tenant:?}");
                }
            }
        }
    }
    // Not even while its own group is gone.
    let mut request = read(named("B"));
    let gone = request.topology.with_event(&NodeId::new("b").unwrap(), NodeEvent::Fail).unwrap();
    request.topology = Arc::new(gone);
    let hints = hints(&options(), request).await.unwrap();
    assert_eq!(hints.group.clone().unwrap().priority, Priority::Prefer);
    assert_eq!(order(&hints, 0), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_tenant_whose_group_is_gone_is_answered_elsewhere() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let mut request = read(named("A"));
    let gone = request.topology.with_event(&NodeId::new("a").unwrap(), NodeEvent::Fail).unwrap();
    request.topology = Arc::new(gone);
    let hints = hints(&options(), request).await.unwrap();
    assert_eq!(order(&hints, 0), [0, 1, 2]);
    let text = handle.render();
    assert!(text.contains("miroir_tenant_fallback_total{reason=\"group_down\"} 1"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn who_is_unknown_is_refused_where_that_is_wished() {
    for (mode, tenant, status, code, words) in [
        (Mode::Header, None, 400, "miroir_unknown_tenant", "x-miroir-tenant"),
        (Mode::Header, named("X"), 400, "miroir_unknown_tenant", "`X`"),
        (Mode::Explicit, named("X"), 400, "miroir_unknown_tenant", "static_map"),
        (Mode::ApiKey, None, 401, "miroir_unmapped_key", "/_miroir/tenants"),
    ] {
        let options = with(mode, Fallback::Reject);
        let (found, body) = hints(&options, read(tenant)).await.unwrap_err();
        assert_eq!(found, status, "{body}");
        assert!(body.contains(&format!("\"code\":\"{code}\"")) && body.contains(words), "{body}");
        assert!(hints(&options, read(named("A"))).await.is_ok());
    }
    let mapped = mapped("X", None);
    assert!(hints(&with(Mode::ApiKey, Fallback::Reject), read(mapped)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_session_wins_and_is_counted() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let pinned = |tenant, group| {
        let mut read = read(named(tenant));
        read.hints.group(GroupId(group), SessionPinningLayer::NAME, Priority::Must);
        read
    };
    let found = hints(&options(), pinned("B", 2)).await.unwrap();
    assert_eq!(order(&found, 0), [2]);
    assert_eq!(found.group.unwrap().by, SessionPinningLayer::NAME);
    // One that agrees is no conflict.
    hints(&options(), pinned("B", 1)).await.unwrap();
    let text = handle.render();
    let line = "miroir_tenant_session_pin_override_total{tenant=\"B\"} 1";
    assert!(text.contains(line), "{text}");
}

#[tokio::test(start_paused = true)]
async fn metrics_name_what_the_operator_named() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let (mut service, mut inner) = layered(TenantAffinityLayer::new(options()));
    let tenants = (0..300)
        .map(|at| mapped(&format!("key-{at}"), Some(2)))
        .chain((0..300).map(|at| named(&format!("header-{at}"))))
        .chain([named("A"), None]);
    for tenant in tenants {
        let call = service.spawn_call(read(tenant));
        inner.next_request().await.fail(miroir_pipeline::Error::overloaded());
        call.await.unwrap_err();
    }
    let text = handle.render();
    let shown: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("miroir_tenant_queries_total{tenant=\""))
        .filter_map(|rest| rest.split('"').next())
        .collect();
    // 100 of keys, A, those without one, and the others.
    assert_eq!(shown.len(), MAX_LABELS + 3, "{text}");
    assert!(shown.contains("other") && shown.contains("none") && !shown.contains("header-0"));
    assert!(text.contains("miroir_tenant_pinned_groups{tenant=\"A\"} 1"), "{text}");
    assert!(text.contains("miroir_tenant_queries_total{tenant=\"A\",group=\"0\"} 1"), "{text}");
    assert!(
        text.contains("miroir_tenant_queries_total{tenant=\"none\",group=\"any\"} 1"),
        "{text}"
    );
}

/// Fixed for ever within a version: another hash moves every tenant. Computed with Python's
/// `xxhash`: xxh64 of the name, modulo the number of groups that are not dedicated.
#[test]
fn names_have_their_recorded_groups() {
    let open: Vec<GroupId> = (0..4).map(GroupId).collect();
    let options = TenantAffinityOptions::default();
    for (name, group) in GOLDEN {
        let choice = choose(&options, named(name).as_ref(), &open);
        assert_eq!(choice.place, Place::Group(GroupId(*group)), "{name}");
    }
}

const GOLDEN: &[(&str, u32)] =
    &[("acme", 0), ("enterprise-co", 3), ("startup-inc", 2), ("t-42", 3)];

#[test]
fn names_spread_over_the_groups() {
    let open: Vec<GroupId> = (0..4).map(GroupId).collect();
    let mut counts = [0_u32; 4];
    for at in 0..10_000 {
        let name = format!("tenant-{at}");
        let choice = choose(&TenantAffinityOptions::default(), named(&name).as_ref(), &open);
        let Place::Group(group) = choice.place else { panic!("{choice:?}") };
        counts[group.0 as usize] += 1;
    }
    assert!(counts.iter().all(|count| (2_300..2_700).contains(count)), "{counts:?}");
}

fn any_options() -> impl Strategy<Value = TenantAffinityOptions> {
    let mode = prop_oneof![Just(Mode::Header), Just(Mode::ApiKey), Just(Mode::Explicit)];
    let fallback =
        prop_oneof![Just(Fallback::Hash), Just(Fallback::Random), Just(Fallback::Reject)];
    let map = prop::collection::btree_map("[a-d]", (0_u32..6).prop_map(GroupId), 0..4);
    let groups = prop::collection::vec((0_u32..6).prop_map(GroupId), 0..4);
    (mode, fallback, map, groups).prop_map(|(mode, fallback, static_map, dedicated_groups)| {
        TenantAffinityOptions {
            mode,
            fallback,
            static_map,
            dedicated_groups,
            ..TenantAffinityOptions::default()
        }
    })
}

fn any_tenant() -> impl Strategy<Value = Option<NamedTenant>> {
    let row = ("[a-f]", any::<bool>(), prop::option::of((0_u32..6).prop_map(GroupId)));
    prop::option::of(row.prop_map(|(name, listed, group)| NamedTenant {
        name: Arc::from(name),
        listed,
        group: group.filter(|_| listed),
    }))
}

proptest! {
    /// Whatever is configured: a dedicated group is for those alone that were given it, everybody
    /// with a group gets it, and equal tenants go to one place.
    #[test]
    fn a_choice_is_deterministic_and_keeps_to_its_group(options in any_options(), tenant in any_tenant(), count in 1_u32..6) {
        let groups: Vec<GroupId> = (0..count).map(GroupId).collect();
        let choice = choose(&options, tenant.as_ref(), &groups);
        prop_assert_eq!(choice, choose(&options, tenant.as_ref(), &groups));
        let mut reversed = groups.clone();
        reversed.reverse();
        prop_assert_eq!(choice, choose(&options, tenant.as_ref(), &reversed));
        let given = tenant.as_ref().and_then(|tenant| {
            tenant.group.or_else(|| options.static_map.get(&*tenant.name).copied())
        });
        match choice.place {
            Place::Group(group) => {
                prop_assert!(groups.contains(&group));
                prop_assert_eq!(choice.given, given == Some(group) && choice.fallback.is_none());
                prop_assert!(choice.given || !options.dedicated_groups.contains(&group));
            }
            Place::Anywhere => prop_assert!(!choice.given),
            Place::Nowhere => {
                prop_assert_eq!(options.fallback, Fallback::Reject);
                prop_assert!(given.is_none_or(|group| !groups.contains(&group)));
            }
        }
        if let Some(group) = given.filter(|group| groups.contains(group)) {
            prop_assert_eq!(choice.place, Place::Group(group));
        }
    }
}
