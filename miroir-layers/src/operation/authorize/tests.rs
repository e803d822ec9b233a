//! Who may do what, in whose words.

use std::sync::Arc;
use std::time::Duration;

use miroir_api::meili::{IndexPattern, KeyAction};
use miroir_core::keys::{ApiKey, Tenant};
use miroir_pipeline::context::{Context, Principal};
use miroir_pipeline::operation::{IndexOp, MultiSearch, Operation, Request, Response, SystemOp};
use miroir_pipeline::query::{ClientRequest, List, RawObject, Search, SearchKind};
use miroir_store::clock;
use miroir_test::contract::contract;
use miroir_test::layered;
use serde_json::{Value, json};

use super::*;

fn ask(op: Operation, actions: &'static [&'static str], principal: Principal) -> Request {
    let mut cx = Context::client("1", Duration::from_secs(1));
    cx.principal = principal;
    let original = ClientRequest {
        method: http::Method::GET,
        path: "/search".into(),
        query: Some("q=x".into()),
        body: bytes::Bytes::new(),
        content_type: None,
        metadata: false,
    };
    Request::new(op, actions, original, cx)
}

/// Notes why a credential was not taken, as the edge does.
fn failed(request: &mut Request, failure: AuthFailure) {
    let mut extensions = ::http::Extensions::new();
    extensions.insert(failure);
    request.cx = request.cx.clone().with_http(extensions);
}

fn list(principal: Principal, failure: Option<AuthFailure>) -> Request {
    let mut request = ask(Operation::Index(IndexOp::List), &["indexes.get"], principal);
    if let Some(failure) = failure {
        failed(&mut request, failure);
    }
    request
}

fn search(index: &str, body: &Value, principal: Principal) -> Request {
    let body = RawObject::parse(body.to_string().as_bytes());
    let search = Arc::new(Search { body, ..Search::default() });
    ask(Operation::Search { index: index.into(), search }, &["search"], principal)
}

fn key(actions: &[&str], indexes: &[&str]) -> ApiKey {
    let now = clock::now();
    ApiKey {
        uid: "6062abda-a5aa-4414-ac91-ecd7944c0f81".parse().unwrap(),
        name: None,
        description: None,
        actions: actions.iter().map(|name| KeyAction::parse(name).unwrap()).collect(),
        indexes: indexes.iter().map(|text| IndexPattern::new(text).unwrap()).collect(),
        expires_at: None,
        created_at: now,
        updated_at: now,
    }
}

fn holder(actions: &[&str], indexes: &[&str]) -> Principal {
    Principal::ApiKey(Arc::new(key(actions, indexes)))
}

fn tenant(indexes: &[&str], rules: Value) -> Principal {
    let key = Arc::new(key(&["search"], indexes));
    Principal::Tenant(Arc::new(Tenant { key, rules: serde_json::from_value(rules).unwrap() }))
}

async fn refused(request: Request) -> (u16, String) {
    let (mut service, mut inner) = layered(AuthorizeLayer::default());
    let (status, body) = service.call(request).await.unwrap_err().render();
    inner.assert_idle().await;
    let body: Value = serde_json::from_slice(&body.unwrap()).unwrap();
    (status.as_u16(), body["message"].as_str().unwrap().to_owned())
}

/// The request as the layer hands it on.
async fn passed(request: Request) -> Request {
    let (mut service, mut inner) = layered(AuthorizeLayer::default());
    let call = service.spawn_call(request);
    let seen = inner.next_request().await;
    let request = seen.request().clone();
    seen.respond(Response::ok(&"fine"));
    assert_eq!(call.await.unwrap().body, "\"fine\"");
    request
}

const INVALID: &str = "The provided API key is invalid.";

#[tokio::test(start_paused = true)]
async fn keeps_the_contract() {
    contract(AuthorizeLayer::default(), || list(Principal::MasterKey, None)).await;
}

#[tokio::test(start_paused = true)]
async fn the_anonymous_are_refused_in_meilisearchs_words() {
    let (mut service, mut inner) = layered(AuthorizeLayer::default());
    for (failure, status, expected) in [
        (
            Some(AuthFailure::Missing),
            401,
            "{\"message\":\"The Authorization header is missing. It must use the bearer \
             authorization method.\",\"code\":\"missing_authorization_header\",\
             \"type\":\"auth\",\"link\":\
             \"https://docs.meilisearch.com/errors#missing_authorization_header\"}",
        ),
        (
            Some(AuthFailure::Invalid),
            403,
            "{\"message\":\"The provided API key is invalid.\",\"code\":\"invalid_api_key\",\
             \"type\":\"auth\",\"link\":\"https://docs.meilisearch.com/errors#invalid_api_key\"}",
        ),
    ] {
        let error = service.call(list(Principal::Anonymous, failure)).await.unwrap_err();
        let (code, body) = error.render();
        assert_eq!((code.as_u16(), body.unwrap().as_ref()), (status, expected.as_bytes()));
    }
    inner.assert_idle().await;
    assert_eq!(refused(list(Principal::Anonymous, None)).await.0, 401);
}

/// One code of Meilisearch's stands for both: a wrong key, and one that does not open this.
#[tokio::test(start_paused = true)]
async fn what_is_refused_says_whether_the_caller_is_known() {
    let (mut service, mut inner) = layered(AuthorizeLayer::default());
    let known = holder(&["search"], &["*"]);
    let tenant = tenant(&["*"], json!({"*": null}));
    for (principal, reason) in [
        (Principal::Anonymous, Refused::Authentication),
        (known, Refused::Authorization),
        (tenant, Refused::Authorization),
    ] {
        let refused = list(principal, Some(AuthFailure::Invalid));
        let error = service.call(refused).await.unwrap_err();
        assert_eq!(Refused::of(&error), Some(reason));
        assert_eq!(error.render().0, 403);
    }
    inner.assert_idle().await;
}

/// Only searches take tenant tokens, so only they say what is wrong with one.
#[tokio::test(start_paused = true)]
async fn a_faulty_token_is_explained_to_searches_only() {
    let fault = AuthFailure::Token("Could not decode tenant token, InvalidSignature.".into());
    let mut request = search("a", &json!({}), Principal::Anonymous);
    failed(&mut request, fault.clone());
    let expected = (403, "Could not decode tenant token, InvalidSignature.".to_owned());
    assert_eq!(refused(request).await, expected);
    assert_eq!(refused(list(Principal::Anonymous, Some(fault))).await, (403, INVALID.to_owned()));
}

#[tokio::test(start_paused = true)]
async fn the_powerful_and_public_operations_pass() {
    let health = Operation::System(SystemOp::Health);
    for request in [
        list(Principal::MasterKey, None),
        list(Principal::Admin, None),
        list(Principal::Internal, None),
        ask(health, &[], Principal::Anonymous),
    ] {
        assert!(passed(request).await.cx.scope.is_everything());
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_does_what_it_names() {
    let seen = passed(search("a1", &json!({"q": "x"}), holder(&["*.get"], &["a*"]))).await;
    assert!(seen.cx.scope.allows("a2") && !seen.cx.scope.allows("b"));
    assert!(!seen.cx.scope.may_create("a2"));
    // A key alone changes no query.
    assert_eq!(seen.original.query.as_deref(), Some("q=x"));

    let list = |principal| ask(Operation::Index(IndexOp::List), &["indexes.get"], principal);
    let seen = passed(list(holder(&["indexes.*"], &["a*"]))).await;
    assert!(seen.cx.scope.may_create("a2") && !seen.cx.scope.may_create("b"));
    assert!(passed(list(holder(&["indexes.get"], &["b", "*"]))).await.cx.scope.is_everything());

    let invalid = (403, INVALID.to_owned());
    assert_eq!(refused(list(holder(&["search"], &["*"]))).await, invalid);
    assert_eq!(refused(list(holder(&["indexes.get"], &[]))).await, invalid);
    let expired = ApiKey { expires_at: Some(clock::now()), ..key(&["*"], &["*"]) };
    assert_eq!(refused(list(Principal::ApiKey(Arc::new(expired)))).await, invalid);
    let version = |principal| ask(Operation::System(SystemOp::Version), &["version"], principal);
    assert_eq!(refused(version(holder(&["*"], &["a*"]))).await, invalid);
    passed(version(holder(&["version"], &["*"]))).await;
    // The index comes first.
    let message = "The API key cannot acces the index `b`, authorized indexes are [\"a*\"].";
    let request = search("b", &json!({}), holder(&["version"], &["a*"]));
    assert_eq!(refused(request).await, (403, message.to_owned()));
    // All actions are needed, and a request that names none is nobody's.
    let both = ask(
        Operation::Index(IndexOp::List),
        &["indexes.get", "stats.get"],
        holder(&["indexes.get"], &["*"]),
    );
    assert_eq!(refused(both).await, invalid);
    let none = ask(Operation::Index(IndexOp::List), &[], holder(&["*"], &["*"]));
    assert_eq!(refused(none).await, invalid);
}

#[tokio::test(start_paused = true)]
async fn a_tenant_token_searches_and_does_nothing_else() {
    let invalid = (403, INVALID.to_owned());
    let all = || tenant(&["*"], json!(["*"]));
    assert_eq!(refused(list(all(), None)).await, invalid);
    let documents = Operation::List { index: "a".into(), list: Arc::new(List { body: None }) };
    assert_eq!(refused(ask(documents, &["documents.get"], all())).await, invalid);
    let request = search("a", &json!({}), tenant(&["*"], json!({"b": null})));
    let message =
        "The provided tenant token cannot acces the index `a`, allowed indexes are [\"b\"].";
    assert_eq!(refused(request).await, (403, message.to_owned()));
    let key = Arc::new(key(&["documents.*"], &["*"]));
    let wrong = Tenant { key, rules: serde_json::from_value(json!(["*"])).unwrap() };
    let request = search("a", &json!({}), Principal::Tenant(Arc::new(wrong)));
    assert_eq!(refused(request).await, invalid);
}

#[tokio::test(start_paused = true)]
async fn search_rules_become_filters_of_the_query_and_of_what_nodes_are_asked() {
    let rules = json!({"a*": {"filter": "user = 1"}, "*": {}});
    let body = json!({"q": "x", "filter": ["n > 3"]});
    let seen = passed(search("ab", &body, tenant(&["*"], rules.clone()))).await;
    let expected = json!({"q": "x", "filter": ["n > 3", "user = 1"]});
    let Operation::Search { search: query, .. } = &seen.op else { panic!("{:?}", seen.op) };
    let bytes = query.body.as_ref().unwrap().to_bytes();
    assert_eq!(serde_json::from_slice::<Value>(&bytes).unwrap(), expected);
    assert_eq!(seen.original.body, bytes);
    assert_eq!((seen.original.method.as_str(), &seen.original.query), ("POST", &None));
    assert!(seen.original.is_json());

    // No rule for this index: untouched.
    let seen = passed(search("b", &body, tenant(&["*"], rules))).await;
    assert_eq!(seen.original.query.as_deref(), Some("q=x"));
    let Operation::Search { search: query, .. } = &seen.op else { panic!("{:?}", seen.op) };
    assert_eq!(query.body.as_ref().unwrap().raw("filter"), Some("[\"n > 3\"]"));
}

fn multi(body: &Value, principal: Principal) -> Request {
    let multi = Arc::new(MultiSearch::parse(body.to_string().as_bytes()));
    ask(Operation::MultiSearch(multi), &["search"], principal)
}

#[tokio::test(start_paused = true)]
async fn every_query_of_several_is_judged_and_filtered() {
    let body = json!({"queries": [{"indexUid": "a", "filter": "n > 3"}, {"indexUid": "b"}]});
    let rules = json!({"a": {"filter": ["user = 1"]}, "b*": null});
    let seen = passed(multi(&body, tenant(&["*"], rules))).await;
    let Operation::MultiSearch(queries) = &seen.op else { panic!("{:?}", seen.op) };
    let filters: Vec<_> = queries.queries().map(|query| query.body.raw("filter")).collect();
    assert_eq!(filters, [Some("[\"n > 3\",\"user = 1\"]"), None]);

    let message = "Inside `.queries[1]`: The provided API key is invalid.".to_owned();
    for principal in
        [tenant(&["*"], json!(["a"])), tenant(&["a"], json!(["*"])), holder(&["search"], &["a"])]
    {
        assert_eq!(refused(multi(&body, principal)).await, (403, message.clone()));
    }
    // A key that has nothing to search with is refused before its queries are looked at.
    let other = multi(&body, holder(&["documents.get"], &["*"]));
    assert_eq!(refused(other).await, (403, INVALID.to_owned()));
}

/// Which document one may ask similar ones of is a matter of the rules as well.
#[tokio::test(start_paused = true)]
async fn similar_documents_are_asked_of_visible_ones() {
    let body = RawObject::parse(b"{\"id\":1,\"embedder\":\"e\"}");
    let search = Arc::new(Search { kind: SearchKind::Similar, body, ..Search::default() });
    let op = Operation::Search { index: "a".into(), search };
    let rules = json!({"a": {"filter": "user = 1"}});
    let seen = passed(ask(op, &["search"], tenant(&["*"], rules))).await;
    let Operation::Search { search, .. } = &seen.op else { panic!("{:?}", seen.op) };
    assert_eq!(search.body.as_ref().unwrap().raw("filter"), Some("\"user = 1\""));
    assert_eq!(search.rules.as_ref().unwrap().get(), "\"user = 1\"");
    assert_eq!(seen.original.body, search.body.as_ref().unwrap().to_bytes());
}
