//! Which requests are written down, and what of them.

use std::convert::Infallible;
use std::io::Write;
use std::sync::Mutex;

use http::{Method, Response, StatusCode};
use miroir_core::keys::ApiKey;
use tower::{Layer, ServiceExt};

use super::*;
use crate::edge::pod_auth::{Claim, Statement};

/// What was written.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

const UID: Uuid = Uuid::from_u128(7);

fn api_key() -> Principal {
    let mut key = ApiKey::defaults(miroir_store::clock::now(), [Uuid::nil(); 4]).swap_remove(2);
    key.uid = UID;
    Principal::ApiKey(Arc::new(key))
}

fn from(method: Method, path: &str, who: Result<Principal, AuthFailure>) -> Request<()> {
    let mut request = Request::builder().method(method).uri(path).body(()).unwrap();
    let extensions = request.extensions_mut();
    extensions.insert(Peer("10.0.0.1".parse().unwrap()));
    extensions.insert(RequestId("the-id".into()));
    match who {
        Ok(principal) => drop(extensions.insert(principal)),
        Err(failure) => {
            extensions.insert(Principal::Anonymous);
            extensions.insert(failure);
        }
    }
    request
}

/// The line of a request that is answered with this status.
async fn written(request: Request<()>, status: u16) -> String {
    let trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()];
    let layer = AuditLayer::new(AuditOptions { trusted_proxies });
    let written = Written::default();
    let writer = written.clone();
    let subscriber = tracing_subscriber::fmt().json().with_writer(move || writer.clone()).finish();
    let guard = tracing::subscriber::set_default(subscriber);
    let inner = tower::service_fn(move |_: Request<()>| async move {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        Ok::<_, Infallible>(response)
    });
    assert_eq!(layer.layer(inner).oneshot(request).await.unwrap().status(), status);
    drop(guard);
    let bytes = written.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

fn fields(line: &str) -> serde_json::Value {
    let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
    line.as_object_mut().unwrap().remove("timestamp");
    line
}

#[tokio::test]
async fn who_changes_keys_is_written_down() {
    let path = format!("/keys/{}", Uuid::from_u128(9));
    let mut request = from(Method::DELETE, &path, Ok(api_key()));
    request.headers_mut().insert("x-forwarded-for", "1.2.3.4".parse().unwrap());
    assert_eq!(
        fields(&written(request, 204).await),
        serde_json::json!({
            "level": "INFO",
            "target": "miroir::audit",
            "fields": {
                "message": "changed",
                "who": "api_key",
                "key": UID.to_string(),
                "address": "1.2.3.4",
                "request_id": "the-id",
                "method": "DELETE",
                "path": path,
                "status": 204,
                "forwarded": false,
            },
        })
    );
    // By another pod's word; and not done.
    let mut request = from(Method::POST, "/keys", Ok(Principal::MasterKey));
    request.extensions_mut().insert(Vouched(Statement { claim: Claim::Master, body: [0; 32] }));
    let line = fields(&written(request, 400).await);
    assert_eq!(line["fields"]["message"], "not changed");
    assert_eq!(line["fields"]["forwarded"], true);
    assert_eq!(line["fields"]["who"], "master_key");
}

#[tokio::test]
async fn a_key_is_never_written_down() {
    let secret = "d0a1e2f3d0a1e2f3d0a1e2f3d0a1e2f3";
    for path in [format!("/keys/{secret}extra"), format!("/webhooks/{secret}extra")] {
        let line = written(from(Method::PATCH, &path, Ok(Principal::MasterKey)), 200).await;
        assert!(line.contains("/…") && !line.contains(secret), "{line}");
    }
    let refused = from(Method::GET, &format!("/_miroir/{secret}"), Err(AuthFailure::Invalid));
    let line = written(refused, 401).await;
    assert!(line.contains("\"/_miroir\"") && !line.contains(secret), "{line}");
}

#[tokio::test]
async fn who_wanted_to_be_an_operator_is_written_down() {
    for (method, failure) in
        [(Method::GET, AuthFailure::Invalid), (Method::POST, AuthFailure::Missing)]
    {
        let label = failure.as_str();
        let line = fields(&written(from(method, "/_miroir/aliases", Err(failure)), 401).await);
        assert_eq!(line["level"], "WARN");
        assert_eq!(line["fields"]["message"], "refused");
        assert_eq!(line["fields"]["who"], "nobody");
        assert_eq!(line["fields"]["failure"], label);
        assert_eq!(line["fields"]["address"], "10.0.0.1");
    }
    let flipped = from(Method::PUT, "/_miroir/aliases/products", Ok(Principal::Admin));
    let line = fields(&written(flipped, 200).await);
    assert_eq!(line["fields"]["path"], "/_miroir/aliases/products");
    assert_eq!(line["fields"]["who"], "admin_key");
}

#[tokio::test]
async fn what_changes_nothing_of_these_is_not_written_down() {
    for (method, path, who) in [
        (Method::GET, "/keys", Ok(Principal::MasterKey)),
        (Method::GET, "/_miroir/topology", Ok(Principal::Admin)),
        (Method::GET, "/_miroir/ready", Err(AuthFailure::Missing)),
        (Method::POST, "/indexes", Ok(Principal::MasterKey)),
        (Method::POST, "/indexes/a/search", Err(AuthFailure::Invalid)),
    ] {
        assert_eq!(written(from(method, path, who), 200).await, "", "{path}");
    }
}
