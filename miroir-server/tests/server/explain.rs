//! Who may have a search explained, over real sockets.

use http::Method;

use crate::support::{ADMIN, Answer, MASTER, Running};

async fn explain(server: &Running, path: &str, key: Option<(&str, String)>) -> Answer {
    let mut headers = vec![("content-type", "application/json")];
    headers.extend(key.as_ref().map(|(name, value)| (*name, value.as_str())));
    server.send(Method::POST, path, &headers, "{}").await
}

/// The index does not exist, which is said to those only who may ask.
#[tokio::test]
async fn clients_and_operators_may_explain_and_nobody_else() {
    let server = Running::start(1, |_| {}).await;
    let bearer = |key: &str| Some(("authorization", format!("Bearer {key}")));
    for path in ["/indexes/a/explain", "/multi-search/explain"] {
        let nobody = explain(&server, path, None).await;
        assert_eq!(nobody.status, 401, "{path}");
        let stranger = explain(&server, path, bearer("some-other-key-0123456789")).await;
        assert_eq!(stranger.status, 403, "{path}");
        for key in [bearer(MASTER), bearer(ADMIN), Some(("x-admin-key", ADMIN.to_owned()))] {
            let known = explain(&server, path, key.clone()).await;
            assert!(![401, 403].contains(&known.status), "{path} {key:?}: {}", known.status);
        }
    }
    // The admin key opens nothing else of the clients' API.
    let search = explain(&server, "/indexes/a/search", bearer(ADMIN)).await;
    assert_eq!(search.status, 403);
}

#[tokio::test]
async fn what_is_switched_off_says_which_key_does_it() {
    let server = Running::start(1, |config| config.explain.enabled = false).await;
    let key = Some(("authorization", format!("Bearer {MASTER}")));
    let answer = explain(&server, "/indexes/a/explain", key).await;
    assert_eq!(answer.status, 501);
    let body = String::from_utf8_lossy(&answer.body);
    assert!(body.contains("explain.enabled"), "{body}");
}
