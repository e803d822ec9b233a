//! What is passed on, to whom, and how often.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tower::ServiceExt;

use super::*;

type Seen = Arc<Mutex<Vec<String>>>;

/// What a leader answers, connection by connection; the last one stays. `None`: it breaks off.
async fn leader(answers: Vec<Option<(u16, &'static str)>>) -> (String, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let seen = Seen::default();
    let (log, next) = (Arc::clone(&seen), AtomicUsize::new(0));
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut text = Vec::new();
            let mut buffer = [0; 4096];
            while !text.ends_with(b"}") {
                let read = stream.read(&mut buffer).await.unwrap();
                text.extend_from_slice(&buffer[..read]);
                if read == 0 {
                    break;
                }
            }
            log.lock().unwrap().push(String::from_utf8(text).unwrap());
            let at = next.fetch_add(1, Ordering::Relaxed).min(answers.len() - 1);
            let Some((status, body)) = answers[at] else { continue };
            let answer = format!(
                "HTTP/1.1 {status} X\r\nconnection: close\r\nx-miroir-degraded: shards=1\r\n\
                 content-length: {}\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (url, seen)
}

fn pod(leads: bool, url: Option<String>, timeout: Duration) -> (ForwardLayer, Arc<AtomicBool>) {
    let there = Arc::new(AtomicBool::new(true));
    let open = Arc::clone(&there);
    let options = ForwardOptions {
        leads: Arc::new(move || leads),
        leader: Arc::new(move || url.clone().filter(|_| open.load(Ordering::Relaxed))),
        timeout,
        max_body: 100,
    };
    (ForwardLayer::new(options), there)
}

async fn ask(layer: &ForwardLayer, request: Request<Full<Bytes>>) -> (u16, String, bool) {
    let inner = tower::service_fn(|_: Request<Full<Bytes>>| async {
        Ok::<_, Infallible>(Response::new(Full::from("own")))
    });
    let response = layer.layer(inner).oneshot(request).await.unwrap();
    let (head, body) = response.into_parts();
    let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    (head.status.as_u16(), text, head.headers.contains_key("x-miroir-degraded"))
}

fn post(path: &str) -> Request<Full<Bytes>> {
    Request::post(path)
        .header("authorization", "Bearer key")
        .header("accept-encoding", "gzip")
        .body(Full::from("{\"a\":1}"))
        .unwrap()
}

const LONG: Duration = Duration::from_secs(20);

#[tokio::test]
async fn only_what_changes_something_is_passed_on_and_once() {
    let (url, seen) = leader(vec![Some((202, "{\"taskUid\":1}"))]).await;
    let (layer, _) = pod(false, Some(url.clone()), LONG);
    let own = (200, "own".to_owned(), false);
    assert_eq!(ask(&layer, post("/indexes/a/search")).await, own);
    assert_eq!(ask(&layer, post("/nowhere")).await, own);
    assert_eq!(ask(&layer, post("/_miroirs/x")).await, own);
    let get = |path: &str| Request::get(path).body(Full::default()).unwrap();
    assert_eq!(ask(&layer, get("/_miroir/tenants")).await, own);
    let mut passed = post("/indexes");
    passed.headers_mut().insert(FORWARDED, HeaderValue::from_static("1"));
    assert_eq!(ask(&layer, passed).await, own);
    assert_eq!(ask(&pod(true, Some(url), LONG).0, post("/indexes")).await, own);
    assert!(seen.lock().unwrap().is_empty());

    let answer = ask(&layer, post("/indexes/a/documents/?primaryKey=id")).await;
    assert_eq!(answer, (202, "{\"taskUid\":1}".to_owned(), true));
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 1);
    let text = seen[0].to_ascii_lowercase();
    assert!(text.starts_with("post /indexes/a/documents/?primarykey=id http/1.1"), "{text}");
    for (part, there) in [
        ("authorization: bearer key", true),
        ("x-miroir-forwarded: 1", true),
        ("accept-encoding", false),
        ("{\"a\":1}", true),
    ] {
        assert_eq!(text.contains(part), there, "{part} in {text}");
    }
}

#[tokio::test]
async fn a_leader_is_waited_for_and_what_it_began_is_not_sent_again() {
    let no_leader = "{\"code\":\"miroir_no_leader\"}";
    let (url, seen) = leader(vec![Some((503, no_leader)), Some((202, "{}"))]).await;
    let (layer, there) = pod(false, Some(url), LONG);
    there.store(false, Ordering::Relaxed);
    let asked = tokio::spawn(async move { ask(&layer, post("/indexes")).await });
    tokio::time::sleep(PAUSE * 3).await;
    assert!(!asked.is_finished());
    there.store(true, Ordering::Relaxed);
    assert_eq!(asked.await.unwrap().0, 202);
    assert_eq!(seen.lock().unwrap().len(), 2);

    let (url, seen) = leader(vec![None, Some((202, "{}"))]).await;
    let (status, text, _) = ask(&pod(false, Some(url), LONG).0, post("/indexes")).await;
    assert_eq!(status, 503);
    assert!(text.contains("miroir_leader_lost"), "{text}");
    assert_eq!(seen.lock().unwrap().len(), 1);

    let (layer, _) = pod(false, None, PAUSE * 3);
    let (status, text, _) = ask(&layer, post("/indexes")).await;
    assert!(status == 503 && text.contains("miroir_no_leader"), "{text}");
    let large = Request::post("/indexes").body(Full::from("x".repeat(101))).unwrap();
    assert_eq!(ask(&layer, large).await.0, 413);
}

#[tokio::test]
async fn a_leader_that_was_followed_is_not_waited_for() {
    // Takes the request and never answers.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let held_up = format!("http://{}", listener.local_addr().unwrap());
    let leads = Arc::new(Mutex::new(held_up));
    let now = Arc::clone(&leads);
    let layer = ForwardLayer::new(ForwardOptions {
        leads: Arc::new(|| false),
        leader: Arc::new(move || Some(now.lock().unwrap().clone())),
        timeout: LONG,
        max_body: 100,
    });
    let asked = tokio::spawn(async move { ask(&layer, post("/indexes")).await });
    let (_open, _) = listener.accept().await.unwrap();
    assert!(!asked.is_finished());
    "http://127.0.0.1:9".clone_into(&mut leads.lock().unwrap());
    let (status, text, _) = asked.await.unwrap();
    assert!(status == 503 && text.contains("miroir_leader_lost"), "{text}");
}
