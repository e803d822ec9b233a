//! What is believed of whom, and how often.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request};
use http_body_util::Full;
use tower::{Layer, ServiceExt};
use uuid::Uuid;

use super::proof::WINDOW;
use super::*;

const SECRET: &[u8] = b"the master key of this test";
const ADDRESS: &str = "http://10.0.0.7:7700";

fn proof() -> Arc<PodProof> {
    Arc::new(PodProof::new(SECRET))
}

/// What one process knows of another one that it asked at its address.
fn heard(me: &PodProof, other: &PodProof) -> Proven {
    let challenge = nonce();
    me.proven(ADDRESS, &challenge, &other.hello(ADDRESS, &challenge)).unwrap()
}

fn change(body: &'static str) -> Request<Bytes> {
    Request::post("/indexes/a/documents?primaryKey=id")
        .header("content-type", "application/json")
        .header("idempotency-key", "k")
        .body(Bytes::from_static(body.as_bytes()))
        .unwrap()
}

/// A statement of `me` to `to` about a change.
fn stated(me: &PodProof, to: &Proven, claim: Claim) -> (HeaderValue, Request<Bytes>) {
    let (parts, body) = change("[1]").into_parts();
    (me.statement(to, &claim, &parts, &body), Request::from_parts(parts, body))
}

fn judged(
    leader: &PodProof,
    text: &HeaderValue,
    request: &Request<Bytes>,
) -> Option<Result<Statement, proof::Unproven>> {
    leader.judge(text, request.method(), request.uri(), request.headers())
}

const NO: Option<Result<Statement, proof::Unproven>> = Some(Err(proof::Unproven));

#[tokio::test(start_paused = true)]
async fn a_pod_proves_itself_to_who_asks_at_its_address() {
    let (me, leader, stranger) = (proof(), proof(), PodProof::new(b"another key"));
    let (challenge, other) = (nonce(), nonce());
    let answer = leader.hello(ADDRESS, &challenge);
    assert!(me.proven(ADDRESS, &challenge, &answer).is_some());
    // Fetched from the leader by somebody who sits elsewhere, or for another question.
    assert!(me.proven("http://evil.example:1", &challenge, &answer).is_none());
    assert!(me.proven(ADDRESS, &other, &answer).is_none());
    assert!(me.proven(ADDRESS, &challenge, &stranger.hello(ADDRESS, &challenge)).is_none());
    let text = answer.to_str().unwrap();
    let older = text.replacen(";0;", ";7;", 1);
    assert_ne!(text, older);
    for wrong in [older.as_str(), "", "v1", "v1;;;", &format!("{text};"), &text[..text.len() - 1]] {
        let wrong = HeaderValue::from_str(wrong).unwrap();
        assert!(me.proven(ADDRESS, &challenge, &wrong).is_none(), "{wrong:?}");
    }
    assert!(answer.is_sensitive());
}

#[tokio::test(start_paused = true)]
async fn a_statement_is_believed_once_and_soon() {
    let (me, leader) = (proof(), proof());
    // Their clocks begin at different times.
    tokio::time::advance(Duration::from_hours(5)).await;
    let later = proof();
    let to = heard(&later, &leader);
    for claim in [Claim::Master, Claim::Admin, Claim::Key(Uuid::from_u128(7))] {
        let (text, request) = stated(&later, &to, claim);
        let statement = judged(&leader, &text, &request).unwrap().unwrap();
        assert_eq!(statement, Statement { claim, body: digest(b"[1]") });
        assert_eq!(judged(&leader, &text, &request), NO, "taken before");
    }
    let to = heard(&me, &leader);
    let (early, request) = stated(&me, &to, Claim::Master);
    tokio::time::advance(WINDOW + Duration::from_millis(1)).await;
    assert_eq!(judged(&leader, &early, &request), NO, "too old");
    let (text, request) = stated(&me, &to, Claim::Master);
    assert!(judged(&leader, &text, &request).unwrap().is_ok());
    // What cannot be taken again is not remembered.
    assert_eq!(leader.remembered(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_statement_is_about_one_request_to_one_process() {
    let (me, leader, stranger) = (proof(), proof(), PodProof::new(b"another key"));
    let to = heard(&me, &leader);
    let (text, request) = stated(&me, &to, Claim::Key(Uuid::nil()));
    let differing: [fn(&mut Request<Bytes>); 6] = [
        |r| *r.method_mut() = http::Method::PUT,
        |r| *r.uri_mut() = "/indexes/b/documents?primaryKey=id".parse().unwrap(),
        |r| *r.uri_mut() = "/indexes/a/documents?primaryKey=no".parse().unwrap(),
        |r| drop(r.headers_mut().remove("content-type")),
        |r| drop(r.headers_mut().insert("idempotency-key", HeaderValue::from_static("other"))),
        |r| drop(r.headers_mut().insert("x-miroir-session", HeaderValue::from_static("s"))),
    ];
    for differ in differing {
        let mut other = request.clone();
        differ(&mut other);
        assert_eq!(judged(&leader, &text, &other), NO, "{other:?}");
    }
    let valid = text.to_str().unwrap();
    let uid = format!("key:{}", Uuid::nil());
    for wrong in [valid.replace(&uid, "master"), valid.replace(&uid, "admin")] {
        let wrong = HeaderValue::from_str(&wrong).unwrap();
        assert_eq!(judged(&leader, &wrong, &request), NO, "{wrong:?}");
    }
    // The same pod after a restart, another pod, and one who does not know the master key.
    assert_eq!(judged(&proof(), &text, &request), NO);
    let (forged, _) = stated(&stranger, &to, Claim::Master);
    assert_eq!(judged(&leader, &forged, &request), NO);
    // What a client may send is no statement.
    for noise in ["1", "", "v1", "v2;a;b", "true"] {
        assert_eq!(judged(&leader, &HeaderValue::from_str(noise).unwrap(), &request), None);
    }
    assert!(judged(&leader, &text, &request).unwrap().is_ok(), "and none of that used it up");
}

/// The status, and what the inner service saw: whether somebody vouched, and whether the header was
/// there.
async fn through(layer: &PodAuthLayer, request: Request<Bytes>) -> (u16, Option<(bool, bool)>) {
    let inner = tower::service_fn(|request: Request<Bytes>| async move {
        let mut response = http::Response::new(Full::<Bytes>::default());
        let vouched = request.extensions().get::<Vouched>().is_some();
        response.extensions_mut().insert((vouched, request.headers().contains_key(FORWARDED)));
        Ok::<_, Infallible>(response)
    });
    let response = layer.layer(inner).oneshot(request).await.unwrap();
    (response.status().as_u16(), response.extensions().get::<(bool, bool)>().copied())
}

#[tokio::test]
async fn what_is_proven_goes_on_and_what_is_not_is_refused() {
    let (me, leader) = (proof(), proof());
    let to = heard(&me, &leader);
    let layer = PodAuthLayer::new(Arc::clone(&leader), Some(ADDRESS.into()));
    let (text, mut request) = stated(&me, &to, Claim::Master);
    request.headers_mut().insert(FORWARDED, text);
    assert_eq!(through(&layer, request.clone()).await, (200, Some((true, false))));
    assert_eq!(through(&layer, request.clone()).await, (503, None));

    let mut noise = change("[1]");
    noise.headers_mut().insert(FORWARDED, HeaderValue::from_static("1"));
    assert_eq!(through(&layer, noise).await, (200, Some((false, false))));
    assert_eq!(through(&layer, change("[1]")).await, (200, Some((false, false))));
    // A pod that is alone believes nobody.
    let alone = PodAuthLayer::new(Arc::clone(&leader), None);
    assert_eq!(through(&alone, request).await, (200, Some((false, false))));
}

#[tokio::test]
async fn hello_is_answered_only_to_who_asks_rightly() {
    let leader = proof();
    let layer = PodAuthLayer::new(Arc::clone(&leader), Some(ADDRESS.into()));
    let hello = |challenge: &str| {
        Request::get(HELLO).header(CHALLENGE, challenge).body(Bytes::new()).unwrap()
    };
    let challenge = "00112233445566778899aabbccddeeff";
    assert_eq!(through(&layer, hello(challenge)).await, (200, None), "not passed on");
    for wrong in ["", "00", "zz112233445566778899aabbccddeeff", &challenge.repeat(2)] {
        assert_eq!(through(&layer, hello(wrong)).await.1, Some((false, false)), "{wrong}");
    }
    assert!(through(&PodAuthLayer::new(leader, None), hello(challenge)).await.1.is_some());
}

#[test]
fn no_secret_shows_in_debug_output() {
    let text = format!("{:?}", PodAuthLayer::new(proof(), Some(ADDRESS.into())));
    assert!(text.contains("PodProof") && !text.contains("key"), "{text}");
}
