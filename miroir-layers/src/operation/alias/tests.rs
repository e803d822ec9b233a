//! Tests, with mocks.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use miroir_api::IndexUid;
use miroir_core::keys::{Scope, Tenant};
use miroir_pipeline::cluster::aliases::AliasTable;
use miroir_pipeline::context::Context;
use miroir_pipeline::operation::{
    IndexOp, MultiSearch, Operation, Request, Response, SettingsOp, TaskOp, Write,
};
use miroir_pipeline::query::{ClientRequest, FetchOne, List, RawObject, Search, SearchKind};
use miroir_pipeline::{Effect, Error};
use miroir_store::records::{Alias, AliasTarget};
use miroir_store::{TaskQuery, clock};
use miroir_test::contract::contract;
use miroir_test::layered;
use miroir_test::mock::{Exchange, MockHandle, Spawned};
use serde_json::{Value, json};

use miroir_pipeline::explain::{Audience, Facts};

use super::*;

fn uid(name: &str) -> IndexUid {
    IndexUid::new(name).unwrap()
}

fn alias(name: &str, target: AliasTarget) -> Alias {
    let (owner, history) = (None, Vec::new());
    Alias { name: uid(name), target, version: 1, owner, created_at: clock::now(), history }
}

fn single(index: &str) -> Alias {
    alias("shop", AliasTarget::One(uid(index)))
}

/// `shop` is `shop_v1`, `logs` is `logs2` and `logs1`.
fn table() -> Arc<AliasTable> {
    let logs = alias("logs", AliasTarget::Many(vec![uid("logs2"), uid("logs1")]));
    Arc::new(AliasTable::of([single("shop_v1"), logs]))
}

fn begin() -> (Spawned<Request>, MockHandle<Request>) {
    layered(AliasLayer::new(table()))
}

fn request(op: Operation) -> Request {
    let original = ClientRequest {
        method: http::Method::POST,
        path: "/search".into(),
        query: None,
        body: Bytes::new(),
        content_type: Some("application/json".into()),
        metadata: false,
    };
    let cx = Context::client("1", Duration::from_secs(5));
    Request::new(op, &[], original, cx)
}

fn object(value: &Value) -> RawObject {
    RawObject::parse(value.to_string().as_bytes()).unwrap()
}

fn search(index: &str, body: &Value) -> Operation {
    let search = Search { body: Some(object(body)), ..Search::default() };
    Operation::Search { index: index.into(), search: Arc::new(search) }
}

fn answer(body: &Value) -> Response {
    Response::ok(body)
}

fn body(answer: &Response) -> Value {
    serde_json::from_slice(&answer.body).unwrap()
}

fn code(error: &Error) -> String {
    let (status, body) = error.render();
    let body: Value = serde_json::from_slice(&body.unwrap()).unwrap();
    format!("{} {}", status.as_u16(), body["code"].as_str().unwrap())
}

#[tokio::test(start_paused = true)]
async fn keeps_the_contract() {
    contract(AliasLayer::new(Arc::default()), || request(search("shop", &json!({})))).await;
    contract(AliasLayer::new(table()), || request(search("other", &json!({})))).await;
    contract(AliasLayer::new(table()), || request(Operation::Index(IndexOp::List))).await;
}

#[tokio::test(start_paused = true)]
async fn whatever_names_an_index_may_name_an_alias() {
    let settings = |effect| SettingsOp { index: "shop".into(), setting: None, effect };
    let fetch = FetchOne { id: "1".into(), query: None };
    for op in [
        search("shop", &json!({})),
        Operation::FetchOne { index: "shop".into(), fetch: Arc::new(fetch) },
        Operation::List { index: "shop".into(), list: Arc::new(List { body: None }) },
        Operation::Write { index: "shop".into(), write: Write::Clear },
        Operation::Index(IndexOp::Get("shop".into())),
        Operation::Index(IndexOp::Stats("shop".into())),
        Operation::Settings(settings(Effect::Read)),
        Operation::Settings(settings(Effect::Change)),
    ] {
        let (mut service, mut inner) = begin();
        let call = service.spawn_call(request(op));
        let exchange = inner.next_request().await;
        assert_eq!(exchange.request().op.index(), Some("shop_v1"));
        exchange.respond(answer(&json!({})));
        call.await.unwrap();
    }
    // What is about indexes as such is not about what an alias stands for.
    for op in [IndexOp::Delete("shop".into()), IndexOp::Update("shop".into())] {
        let (mut service, mut inner) = begin();
        let call = service.spawn_call(request(Operation::Index(op)));
        let exchange = inner.next_request().await;
        assert_eq!(exchange.request().op.index(), Some("shop"));
        exchange.respond(answer(&json!({})));
        call.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn explanations_are_of_what_an_alias_stands_for() {
    let (mut service, mut inner) = begin();
    let explained = |index| Operation::Explain(Box::new(search(index, &json!({"q": "x"}))));
    let call = service.spawn_call(request(explained("shop")));
    let exchange = inner.next_request().await;
    assert_eq!(exchange.request().op.index(), Some("shop_v1"));
    let Facts(facts) = exchange.request().cx.get().unwrap();
    assert_eq!(facts["alias_resolution"], (json!("shop"), Audience::Everybody));
    exchange.respond(answer(&json!({"plan": 1})));
    assert_eq!(body(&call.await.unwrap()), json!({"plan": 1}));

    let call = service.spawn_call(request(explained("logs")));
    let exchange = inner.next_request().await;
    let Operation::Explain(op) = &exchange.request().op else { panic!() };
    assert_eq!(op.searched(), ["logs2", "logs1"]);
    exchange.respond(answer(&json!({"plans": []})));
    assert_eq!(body(&call.await.unwrap()), json!({"plans": []}));
}

#[tokio::test(start_paused = true)]
async fn a_request_goes_where_the_alias_led_when_it_came() {
    let table = table();
    let (mut service, mut inner) = layered(AliasLayer::new(Arc::clone(&table)));
    let before = service.spawn_call(request(search("shop", &json!({}))));
    let old = inner.next_request().await;
    table.replace([single("shop_v2")]);
    let after = service.spawn_call(request(search("shop", &json!({}))));
    let new = inner.next_request().await;
    assert_eq!(old.request().op.index(), Some("shop_v1"));
    assert_eq!(new.request().op.index(), Some("shop_v2"));
    old.respond(answer(&json!(1)));
    new.respond(answer(&json!(2)));
    assert_eq!(body(&before.await.unwrap()), 1);
    assert_eq!(body(&after.await.unwrap()), 2);
}

/// What the client calls the index of each query, and which index is asked.
fn queries(exchange: &Exchange<Request>) -> Vec<(String, String)> {
    let Operation::MultiSearch(multi) = &exchange.request().op else { panic!() };
    multi.queries().map(|query| (query.name().to_owned(), query.index.clone())).collect()
}

#[tokio::test(start_paused = true)]
async fn queries_of_a_multi_search_ask_what_their_names_stand_for() {
    let (mut service, mut inner) = begin();
    let asked = json!({"queries": [
        {"indexUid": "shop", "q": "a"}, {"indexUid": "other"}, {"indexUid": "logs"},
    ]});
    let federated = json!({"federation": {}, "queries": asked["queries"]});
    let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(name, index)| ((*name).to_owned(), (*index).to_owned())).collect()
    };
    for (asked, expected) in [
        // Resolve asks the other indexes of `logs`, too.
        (asked, pairs(&[("shop", "shop_v1"), ("other", "other"), ("logs", "logs2")])),
        (
            federated,
            pairs(&[("shop", "shop_v1"), ("other", "other"), ("logs", "logs2"), ("logs", "logs1")]),
        ),
    ] {
        let multi = MultiSearch::parse(asked.to_string().as_bytes());
        let call = service.spawn_call(request(Operation::MultiSearch(Arc::new(multi))));
        let exchange = inner.next_request().await;
        assert_eq!(queries(&exchange), expected);
        exchange.respond(answer(&json!({"results": []})));
        assert_eq!(body(&call.await.unwrap()), json!({"results": []}));
    }
}

#[tokio::test(start_paused = true)]
async fn several_indexes_are_searched_as_one() {
    let (mut service, mut inner) = begin();
    let asked = json!({"q": "x", "limit": 3, "facets": ["a"], "filter": "b = 1"});
    let call = service.spawn_call(request(search("logs", &asked)));
    let exchange = inner.next_request().await;
    assert_eq!(
        queries(&exchange),
        [("logs".to_owned(), "logs2".to_owned()), ("logs".to_owned(), "logs1".to_owned())]
    );
    let sent: Value = serde_json::from_slice(&exchange.request().original.body).unwrap();
    let query = |index: &str| json!({"indexUid": index, "q": "x", "filter": "b = 1"});
    assert_eq!(
        sent,
        json!({
            "federation": {
                "limit": 3,
                "facetsByIndex": {"logs2": ["a"], "logs1": ["a"]},
                "mergeFacets": {},
            },
            "queries": [query("logs2"), query("logs1")],
        })
    );
    exchange.respond(answer(&json!({"hits": []})));
    assert_eq!(body(&call.await.unwrap()), json!({"hits": []}));
}

#[tokio::test(start_paused = true)]
async fn a_document_is_looked_for_in_one_index_after_the_other() {
    let fetch = || {
        let fetch = Arc::new(FetchOne { id: "1".into(), query: None });
        request(Operation::FetchOne { index: "logs".into(), fetch })
    };
    let (mut service, mut inner) = begin();
    let call = service.spawn_call(fetch());
    let first = inner.next_request().await;
    assert_eq!(first.request().op.index(), Some("logs2"));
    first.fail(Error::api("document_not_found", "Document `1` not found."));
    let second = inner.next_request().await;
    assert_eq!(second.request().op.index(), Some("logs1"));
    second.respond(answer(&json!({"id": 1})));
    assert_eq!(body(&call.await.unwrap()), json!({"id": 1}));
    // Another failure is not "nowhere".
    let call = service.spawn_call(fetch());
    inner.next_request().await.fail(Error::overloaded());
    assert!(call.await.is_err());
    inner.assert_idle().await;
}

#[tokio::test(start_paused = true)]
async fn a_list_goes_through_the_indexes_in_order() {
    let (mut service, mut inner) = begin();
    let list = List { body: Some(object(&json!({"offset": 3, "limit": 4, "fields": ["id"]}))) };
    let op = Operation::List { index: "logs".into(), list: Arc::new(list) };
    let call = service.spawn_call(request(op));
    for (index, page, results) in [
        ("logs2", json!({"offset": 3, "limit": 4, "fields": ["id"]}), json!([4, 5])),
        ("logs1", json!({"offset": 0, "limit": 2, "fields": ["id"]}), json!([1, 2])),
    ] {
        let exchange = inner.next_request().await;
        let Operation::List { index: asked, list } = &exchange.request().op else { panic!() };
        assert_eq!(asked, index);
        let sent = list.body.as_ref().unwrap().to_bytes();
        assert_eq!(serde_json::from_slice::<Value>(&sent).unwrap(), page);
        exchange.respond(answer(&json!({"results": results, "total": 5})));
    }
    let expected = json!({"results": [4, 5, 1, 2], "offset": 3, "limit": 4, "total": 10});
    assert_eq!(body(&call.await.unwrap()), expected);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_about_several_indexes_is_refused() {
    let settings = |effect| SettingsOp { index: "logs".into(), setting: None, effect };
    let (mut service, mut inner) = begin();
    for (op, expected) in [
        (
            Operation::Write { index: "logs".into(), write: Write::Clear },
            "409 miroir_multi_alias_not_writable",
        ),
        (Operation::Settings(settings(Effect::Change)), "409 miroir_multi_alias_not_writable"),
        (Operation::Settings(settings(Effect::Read)), "400 miroir_multi_alias_unsupported"),
        (Operation::Index(IndexOp::Stats("logs".into())), "400 miroir_multi_alias_unsupported"),
    ] {
        assert_eq!(code(&service.call(request(op)).await.unwrap_err()), expected);
    }
    inner.assert_idle().await;
}

/// A tenant with these rules, over a key for every index.
fn tenant(rules: Value) -> Scope {
    let rules = serde_json::from_value(rules).unwrap();
    Scope::of_tenant(&Tenant { key: crate::fixtures::api_key(&["*"]), rules })
}

/// The filters of the queries that the inner service is asked, as the `authorize` layer outside has
/// them joined by the names that clients use.
async fn filters(op: Operation, rules: &Value) -> Vec<Option<String>> {
    let (mut service, mut inner) = begin();
    let mut asked = request(op);
    asked.cx.scope = tenant(rules.clone());
    asked.apply_search_rules().unwrap();
    let call = service.spawn_call(asked);
    let exchange = inner.next_request().await;
    let of = |body: &RawObject| body.raw("filter").map(str::to_owned);
    let inner = match &exchange.request().op {
        Operation::Explain(op) => &**op,
        op => op,
    };
    let found = match inner {
        Operation::Search { search, .. } => vec![of(search.body.as_ref().unwrap())],
        Operation::MultiSearch(multi) => multi.queries().map(|query| of(&query.body)).collect(),
        other => panic!("{other:?}"),
    };
    if let Operation::Search { search, .. } = &exchange.request().op {
        // Nodes are shown what is answered, and what nobody joined anything to as it came.
        let seen = &exchange.request().original.body;
        let joined = found[0].as_deref() != Some("\"own = 0\"");
        let body = search.body.as_ref().unwrap().to_bytes();
        assert_eq!(*seen, if joined { body } else { Bytes::new() });
    }
    exchange.respond(answer(&json!({"hits": [], "results": []})));
    call.await.unwrap();
    found
}

/// What the rules say of an index holds by whatever name it is searched.
#[tokio::test(start_paused = true)]
async fn the_rule_of_the_index_behind_holds_beside_that_of_the_alias() {
    let search = |name: &str| search(name, &json!({"filter": "own = 0"}));
    let multi = |body: &Value| {
        Operation::MultiSearch(Arc::new(MultiSearch::parse(body.to_string().as_bytes())))
    };
    let some = |text: &str| Some(text.to_owned());
    let own = some("\"own = 0\"");
    for (rules, expected) in [
        (json!({"shop_v1": {"filter": "a = 1"}, "*": null}), some("[\"own = 0\",\"a = 1\"]")),
        (
            json!({"shop_v1": {"filter": "a = 1"}, "shop": {"filter": "b = 2"}}),
            some("[\"own = 0\",\"b = 2\",\"a = 1\"]"),
        ),
        (json!({"shop": null, "*": {"filter": "c = 3"}}), some("[\"own = 0\",\"c = 3\"]")),
        // One rule that means both counts once, and what no rule means has none of its own.
        (json!({"sh*": {"filter": "d = 4"}}), some("[\"own = 0\",\"d = 4\"]")),
        (json!({"shop": {"filter": "b = 2"}}), some("[\"own = 0\",\"b = 2\"]")),
        (json!(["*"]), own.clone()),
        (json!({"*": {}}), own.clone()),
    ] {
        let expected = [expected];
        assert_eq!(filters(search("shop"), &rules).await, expected, "{rules}");
        let explained = Operation::Explain(Box::new(search("shop")));
        assert_eq!(filters(explained, &rules).await, expected, "{rules}");
        for federation in [None, Some(json!({}))] {
            let mut body = json!({"queries": [{"indexUid": "shop", "filter": "own = 0"}]});
            body["federation"] = federation.into();
            assert_eq!(filters(multi(&body), &rules).await, expected, "{rules}");
        }
    }
    // Each of several indexes has its own.
    let rules = json!({"logs1": {"filter": "e = 5"}, "*": null});
    let both = [own.clone(), some("[\"own = 0\",\"e = 5\"]")];
    assert_eq!(filters(search("logs"), &rules).await, both);
    let federated =
        json!({"federation": {}, "queries": [{"indexUid": "logs", "filter": "own = 0"}]});
    assert_eq!(filters(multi(&federated), &rules).await, both);
    let facets = Search { kind: SearchKind::FacetValues, ..Search::default() };
    let facets = Search { body: Some(object(&json!({"facetName": "x"}))), ..facets };
    let op = Operation::Search { index: "shop".into(), search: Arc::new(facets) };
    let rules = json!({"shop_v1": {"filter": "a = 1"}, "*": null});
    assert_eq!(filters(op, &rules).await, [some("\"a = 1\"")]);
}

#[tokio::test(start_paused = true)]
async fn tasks_are_chosen_by_alias_and_seen_by_who_sees_the_alias() {
    let (mut service, mut inner) = begin();
    let query = TaskQuery { indexes: Some(["shop".into()].into()), ..TaskQuery::default() };
    let list = Operation::Task(TaskOp::List(Some(Box::new(query))));
    let mut asked = request(list);
    let key = crate::fixtures::api_key(&["shop"]);
    asked.cx.scope = Scope::of_key(&key, false);
    assert!(!asked.cx.scope.allows("shop_v1"));
    let call = service.spawn_call(asked);
    let exchange = inner.next_request().await;
    let Operation::Task(TaskOp::List(Some(query))) = &exchange.request().op else { panic!() };
    let expected = ["shop", "shop_v1"].map(str::to_owned);
    assert_eq!(query.indexes, Some(expected.into()));
    let scope = &exchange.request().cx.scope;
    assert!(scope.sees("shop_v1") && scope.sees("shop") && scope.allows("shop"));
    assert!(!scope.allows("shop_v1"), "what may be seen may not be swapped for that");
    assert!(!scope.sees("logs1"), "that alias is not the key's");
    exchange.respond(Response { status: StatusCode::OK, ..answer(&json!({})) });
    call.await.unwrap();
}
