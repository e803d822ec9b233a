//! Tests, with mocks and buckets in memory.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use miroir_core::keys::{ApiKey, SearchRules, Tenant};
use miroir_pipeline::context::Context;
use miroir_pipeline::meta::Meta;
use miroir_pipeline::operation::{Operation, Response, SystemOp};
use miroir_pipeline::query::ClientRequest;
use miroir_store::memory;
use miroir_test::contract::{cancellation, contract, readiness};
use miroir_test::layered;
use miroir_test::mock::{MockHandle, Spawned};
use uuid::Uuid;

use super::*;

fn request(op: SystemOp, principal: Principal, tenant: Option<&str>) -> Request {
    let mut cx = Context::client("1", Duration::from_secs(1));
    cx.principal = principal;
    if let Some(name) = tenant {
        cx.insert(NamedTenant { name: Arc::from(name), listed: false, group: None });
    }
    let original = ClientRequest::new(http::Method::GET, "/version");
    Request::new(Operation::System(op), &["version"], original, cx)
}

fn key(number: u128) -> Arc<ApiKey> {
    let uid = Uuid::from_u128(number);
    Arc::new(ApiKey::defaults(time::OffsetDateTime::UNIX_EPOCH, [uid; 4])[0].clone())
}

fn version(principal: Principal, tenant: Option<&str>) -> Request {
    request(SystemOp::Version, principal, tenant)
}

fn layer(per_key: Option<&str>, per_tenant: Option<&str>) -> RateLimitLayer {
    let rate = |text: Option<&str>| text.map(|text| text.parse().unwrap());
    let options = RateLimitOptions { per_key: rate(per_key), per_tenant: rate(per_tenant) };
    RateLimitLayer::new(Limiter::new(memory::buckets()), options)
}

/// What is left after a request, or the refusal.
async fn left(
    service: &mut Spawned<Request>,
    inner: &mut MockHandle<Request>,
    request: Request,
) -> Result<Option<u32>, String> {
    let call = service.spawn_call(request);
    while !call.is_finished() {
        tokio::task::yield_now().await;
        if let Some(exchange) = inner.try_next_request() {
            let (status, body, meta) = (http::StatusCode::OK, Bytes::new(), Meta::default());
            exchange.respond(Response { status, body, meta });
        }
    }
    match call.await {
        Ok(response) => Ok(response.meta.get::<Quota>().map(|quota| quota.remaining)),
        Err(error) => {
            let (status, body) = error.render();
            assert_eq!(status.as_u16(), 429);
            Err(String::from_utf8(body.unwrap().to_vec()).unwrap())
        }
    }
}

#[tokio::test(start_paused = true)]
async fn keeps_the_contract() {
    let limits = || layer(Some("100000/second"), Some("100000/second"));
    contract(limits(), || version(Principal::MasterKey, None)).await;
    contract(limits(), || request(SystemOp::Health, Principal::ApiKey(key(1)), Some("a"))).await;
    let limited = || version(Principal::ApiKey(key(1)), Some("a"));
    readiness::<Request, _>(&limits(), limited).await;
    cancellation::<Request, _>(&limits(), limited).await;
}

#[tokio::test(start_paused = true)]
async fn each_key_has_its_own_limit_and_its_tokens_share_it() {
    let (mut service, mut inner) = layered(layer(Some("2/hour"), None));
    let one = Principal::ApiKey(key(1));
    let rules = SearchRules::Set(std::collections::HashSet::default());
    let token = Principal::Tenant(Arc::new(Tenant { key: key(1), rules }));
    assert_eq!(left(&mut service, &mut inner, version(one.clone(), None)).await, Ok(Some(1)));
    assert_eq!(left(&mut service, &mut inner, version(token, None)).await, Ok(Some(0)));
    let refused = left(&mut service, &mut inner, version(one, None)).await.unwrap_err();
    assert!(refused.contains("\"code\":\"miroir_rate_limited\""), "{refused}");
    assert!(refused.contains("`rate_limit.per_key` is 2/hour"), "{refused}");
    let two = version(Principal::ApiKey(key(2)), None);
    assert_eq!(left(&mut service, &mut inner, two).await, Ok(Some(1)));
    for _ in 0..5 {
        let master = version(Principal::MasterKey, None);
        assert_eq!(left(&mut service, &mut inner, master).await, Ok(None));
    }
}

#[tokio::test(start_paused = true)]
async fn a_tenant_has_one_limit_for_all_its_keys() {
    let (mut service, mut inner) = layered(layer(Some("5/hour"), Some("2/hour")));
    let of = |number, tenant| version(Principal::ApiKey(key(number)), tenant);
    assert_eq!(left(&mut service, &mut inner, of(1, Some("acme"))).await, Ok(Some(1)));
    assert_eq!(left(&mut service, &mut inner, of(2, Some("acme"))).await, Ok(Some(0)));
    let refused = left(&mut service, &mut inner, of(1, Some("acme"))).await.unwrap_err();
    assert!(refused.contains("`rate_limit.per_tenant` is 2/hour"), "{refused}");
    assert_eq!(left(&mut service, &mut inner, of(1, Some("other"))).await, Ok(Some(1)));
    // Without a tenant the key's own limit shows: the refusal above had counted for it, too.
    assert_eq!(left(&mut service, &mut inner, of(1, None)).await, Ok(Some(1)));
    let master = version(Principal::MasterKey, Some("acme"));
    assert!(left(&mut service, &mut inner, master).await.is_err());
}
