//! What is passed on, to whom, and how often.

use std::sync::atomic::AtomicUsize;

use miroir_pipeline::context::Principal;
use miroir_pipeline::tls::ClientTlsOptions;
use miroir_test::certificates::Authority;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tower::ServiceExt;

use super::*;
use crate::edge::pod_auth::Statement;

type Seen = Arc<Mutex<Vec<String>>>;

/// Of one cluster.
fn proof() -> Arc<PodProof> {
    Arc::new(PodProof::new(b"the master key of this test"))
}

/// Reads a request: its head, and its body if it has one.
async fn read(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    while !(text.ends_with(b"}") || text.starts_with(b"GET ") && text.ends_with(b"\r\n\r\n")) {
        let read = stream.read(&mut buffer).await.unwrap_or_default();
        text.extend_from_slice(&buffer[..read]);
        if read == 0 {
            break;
        }
    }
    String::from_utf8(text).unwrap()
}

/// The value of a header.
fn value<'a>(request: &'a str, name: &HeaderName) -> Option<&'a str> {
    let line = request.lines().find_map(|line| line.strip_prefix(name.as_str()));
    line.map(|rest| rest.trim_start_matches(": "))
}

/// Answers a hello as who has this proof and says that it is reached at `url`.
fn hello(proof: &PodProof, url: &str, request: &str) -> Option<String> {
    request.starts_with(&format!("GET {HELLO} ")).then_some(())?;
    let challenge = value(request, &CHALLENGE).unwrap();
    let challenge = u128::from_str_radix(challenge, 16).unwrap().to_be_bytes();
    let text = proof.hello(url, &challenge).to_str().unwrap().to_owned();
    Some(format!(
        "HTTP/1.1 200 X\r\nconnection: close\r\n{PROOF}: {text}\r\ncontent-length: 0\r\n\r\n"
    ))
}

/// What a leader answers, connection by connection, once it has proven itself; the last one stays.
/// `None`: it breaks off.
async fn leader(answers: Vec<Option<(u16, &'static str)>>) -> (String, Seen) {
    served(proof(), None, answers).await
}

/// The same, of who has this proof and says that it is reached at `claimed`.
async fn served(
    proof: Arc<PodProof>,
    claimed: Option<&'static str>,
    answers: Vec<Option<(u16, &'static str)>>,
) -> (String, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let own = claimed.map_or_else(|| url.clone(), str::to_owned);
    let seen = Seen::default();
    let (log, next) = (Arc::clone(&seen), AtomicUsize::new(0));
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let text = read(&mut stream).await;
            if let Some(answer) = hello(&proof, &own, &text) {
                stream.write_all(answer.as_bytes()).await.unwrap();
                continue;
            }
            log.lock().unwrap().push(text);
            let at = next.fetch_add(1, Ordering::Relaxed).min(answers.len() - 1);
            let Some((status, body)) = answers[at] else { continue };
            let answer = format!(
                "HTTP/1.1 {status} X\r\nconnection: close\r\nx-miroir-degraded: shards=1\r\n\
                 x-request-id: leaders\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (url, seen)
}

fn options(leads: bool, url: Option<String>, timeout: Duration) -> ForwardOptions {
    ForwardOptions {
        leads: Arc::new(move || leads),
        leader: Arc::new(move || url.clone()),
        timeout,
        max_body: 100,
        proof: proof(),
        tls: ClientTls::default(),
    }
}

fn pod(leads: bool, url: Option<String>, timeout: Duration) -> (ForwardLayer, Arc<AtomicBool>) {
    let there = Arc::new(AtomicBool::new(true));
    let open = Arc::clone(&there);
    let leader = Arc::new(move || url.clone().filter(|_| open.load(Ordering::Relaxed)));
    (ForwardLayer::new(ForwardOptions { leader, ..options(leads, None, timeout) }), there)
}

async fn ask(layer: &ForwardLayer, request: Request<Full<Bytes>>) -> (u16, String, bool) {
    let inner = tower::service_fn(|_: Request<Received<Full<Bytes>>>| async {
        Ok::<_, Infallible>(Response::new(Full::from("own")))
    });
    let response = layer.layer(inner).oneshot(request).await.unwrap();
    let (head, body) = response.into_parts();
    assert!(!head.headers.contains_key("x-request-id"));
    let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    (head.status.as_u16(), text, head.headers.contains_key("x-miroir-degraded"))
}

fn post(path: &str) -> Request<Full<Bytes>> {
    let mut request = Request::post(path)
        .header("authorization", "Bearer key")
        .header("x-admin-key", "key")
        .header("accept-encoding", "gzip")
        .body(Full::from("{\"a\":1}"))
        .unwrap();
    request.extensions_mut().insert(Principal::MasterKey);
    request.extensions_mut().insert(RequestId("id-of-the-client".into()));
    request
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
    for principal in [Some(Principal::Anonymous), Some(Principal::Internal), None] {
        let mut refused = post("/indexes");
        refused.extensions_mut().clear();
        if let Some(principal) = principal {
            refused.extensions_mut().insert(principal);
        }
        assert_eq!(ask(&layer, refused).await, own);
    }
    assert_eq!(ask(&pod(true, Some(url), LONG).0, post("/indexes")).await, own);
    assert!(seen.lock().unwrap().is_empty());

    let answer = ask(&layer, post("/indexes/a/documents/?primaryKey=id")).await;
    assert_eq!(answer, (202, "{\"taskUid\":1}".to_owned(), true));
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 1);
    let text = seen[0].to_ascii_lowercase();
    assert!(text.starts_with("post /indexes/a/documents/?primarykey=id http/1.1"), "{text}");
    for (part, there) in [
        ("key\r\n", false),
        ("authorization", false),
        ("x-admin-key", false),
        ("x-miroir-forwarded: v1;", true),
        (";master;", true),
        ("x-request-id: id-of-the-client", true),
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
    let mut large = post("/indexes");
    *large.body_mut() = Full::from("x".repeat(101));
    let json = HeaderValue::from_static("application/json");
    large.headers_mut().insert(header::CONTENT_TYPE, json);
    assert_eq!(ask(&layer, large).await.0, 413);
}

#[tokio::test]
async fn a_leader_that_was_followed_is_not_waited_for() {
    // Takes the request and never answers.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let held_up = format!("http://{}", listener.local_addr().unwrap());
    let leads = Arc::new(Mutex::new(held_up));
    let now = Arc::clone(&leads);
    let own = leads.lock().unwrap().clone();
    let layer = ForwardLayer::new(ForwardOptions {
        leader: Arc::new(move || Some(now.lock().unwrap().clone())),
        ..options(false, None, LONG)
    });
    let asked = tokio::spawn(async move { ask(&layer, post("/indexes")).await });
    let (mut greeted, _) = listener.accept().await.unwrap();
    let answer = hello(&proof(), &own, &read(&mut greeted).await).unwrap();
    greeted.write_all(answer.as_bytes()).await.unwrap();
    let (_open, _) = listener.accept().await.unwrap();
    assert!(!asked.is_finished());
    "http://127.0.0.1:9".clone_into(&mut leads.lock().unwrap());
    let (status, text, _) = asked.await.unwrap();
    assert!(status == 503 && text.contains("miroir_leader_lost"), "{text}");
}

#[tokio::test]
async fn nothing_is_sent_to_who_does_not_prove_to_be_the_leader() {
    let stranger = Arc::new(PodProof::new(b"another master key"));
    let answers = || vec![Some((202, "{}"))];
    // One who knows no key, and one who fetched the answer of the real leader.
    for (proof, claimed) in [(stranger, None), (proof(), Some("http://10.0.0.7:7700"))] {
        let (url, seen) = served(proof, claimed, answers()).await;
        let (status, text, _) = ask(&pod(false, Some(url), PAUSE * 3).0, post("/indexes")).await;
        assert!(status == 503 && text.contains("miroir_no_leader"), "{text}");
        assert!(seen.lock().unwrap().is_empty());
    }
    // One that is held up before it answered was told nothing: another one is.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let held_up = format!("http://{}", listener.local_addr().unwrap());
    let (url, seen) = leader(answers()).await;
    let leads = Arc::new(Mutex::new(held_up));
    let now = Arc::clone(&leads);
    let layer = ForwardLayer::new(ForwardOptions {
        leader: Arc::new(move || Some(now.lock().unwrap().clone())),
        ..options(false, None, LONG)
    });
    let asked = tokio::spawn(async move { ask(&layer, post("/indexes")).await });
    let (_open, _) = listener.accept().await.unwrap();
    url.clone_into(&mut leads.lock().unwrap());
    assert_eq!(asked.await.unwrap().0, 202);
    assert_eq!(seen.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn the_leader_takes_what_was_spoken_of_and_nothing_else() {
    let layer = pod(false, None, LONG).0;
    let inner = tower::service_fn(|request: Request<Received<Full<Bytes>>>| async {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        Ok::<_, Infallible>(Response::new(Full::from(body)))
    });
    for (spoken_of, status) in [("{\"a\":1}", 200), ("{\"a\":2}", 503)] {
        let mut request = post("/indexes");
        let body = digest(spoken_of.as_bytes());
        request.extensions_mut().insert(Vouched(Statement { claim: Claim::Master, body }));
        // Not passed on, though this pod does not lead either.
        let response = layer.layer(inner).oneshot(request).await.unwrap();
        assert_eq!(response.status(), status);
    }
    let mut large = Request::post("/indexes").body(Full::from("x".repeat(101))).unwrap();
    large.extensions_mut().insert(Vouched(Statement { claim: Claim::Master, body: [0; 32] }));
    assert_eq!(layer.layer(inner).oneshot(large).await.unwrap().status(), 413);
}

/// A pod that does not lead, over TLS with one that shows a certificate of `authority` and wants one
/// of it, too.
async fn over_tls(
    authority: &Authority,
    own: ClientTlsOptions,
    timeout: Duration,
) -> (u16, String, usize) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let acceptor = authority.server(&["127.0.0.1"]).acceptor(Some(authority));
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    let address = url.clone();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let text = read(&mut stream).await;
            // Who did not trust it has said nothing.
            if text.is_empty() {
                continue;
            }
            let answer = hello(&proof(), &address, &text).unwrap_or_else(|| {
                counter.fetch_add(1, Ordering::SeqCst);
                "HTTP/1.1 202 X\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}".to_owned()
            });
            stream.write_all(answer.as_bytes()).await.unwrap();
            let _ = stream.shutdown().await;
        }
    });
    let layer = ForwardLayer::new(ForwardOptions {
        tls: ClientTls::load("peer_tls", own).unwrap(),
        ..options(false, Some(url), timeout)
    });
    let (status, text, _) = ask(&layer, post("/indexes")).await;
    (status, text, count.load(Ordering::SeqCst))
}

#[tokio::test]
async fn a_leader_is_reached_over_tls_and_never_without() {
    let directory = tempfile::tempdir().unwrap();
    let (authority, stranger) = (Authority::new("pods"), Authority::new("others"));
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let own = authority.client("miroir-1");
    let trusting = ClientTlsOptions {
        ca_file: file("ca.pem", &authority.pem()),
        cert_file: file("tls.crt", &own.certificate),
        key_file: file("tls.key", &own.key),
        ..ClientTlsOptions::default()
    };
    let short = Duration::from_millis(300);
    let (status, text, taken) = over_tls(&authority, trusting.clone(), LONG).await;
    assert_eq!((status, text.as_str(), taken), (202, "{}", 1));

    // Nobody has read anything: it is not lost, but to be sent again.
    let other = stranger.client("miroir-1");
    for options in [
        ClientTlsOptions { ca_file: file("else.pem", &stranger.pem()), ..trusting.clone() },
        ClientTlsOptions { server_name: "miroir-0".to_owned(), ..trusting.clone() },
        ClientTlsOptions {
            cert_file: file("else.crt", &other.certificate),
            key_file: file("else.key", &other.key),
            ..trusting.clone()
        },
    ] {
        let (status, text, taken) = over_tls(&authority, options.clone(), short).await;
        assert!(status == 503 && text.contains("miroir_no_leader"), "{options:?}: {text}");
        assert_eq!(taken, 0, "{options:?}");
    }
}
