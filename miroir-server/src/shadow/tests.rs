//! The client, against sockets of the test's own.

use std::time::Duration;

use miroir::Context;
use miroir::operation::Operation;
use miroir::query::{ClientRequest, Search};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

fn request() -> operation::Request {
    let original = ClientRequest {
        method: http::Method::POST,
        path: "/search".to_owned(),
        query: None,
        body: Bytes::from_static(b"{\"q\":\"a\"}"),
        content_type: Some("application/json".to_owned()),
        metadata: false,
    };
    let search = Arc::new(Search::default());
    operation::Request::new(
        Operation::Search { index: "m".to_owned(), search },
        &["search"],
        original,
        Context::client("1", Duration::from_secs(5)),
    )
}

fn target(url: String, key: Option<&str>) -> Target {
    let target = ShadowTargetOptions {
        name: "staging".to_owned(),
        url,
        api_key_env: String::new(),
        sample_rate: 1.0,
        operations: Vec::new(),
    };
    let key = key.map(|key| HeaderValue::try_from(format!("Bearer {key}")).unwrap());
    Target::new(&target, key, &ShadowOptions { max_body: 20, ..ShadowOptions::default() })
}

/// A server that answers one request with this text; returns what it was sent.
async fn one(answer: &'static str) -> (String, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/base", listener.local_addr().unwrap());
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"}") {
            assert_ne!(stream.read_buf(&mut seen).await.unwrap(), 0);
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8(seen).unwrap().to_lowercase()
    });
    (url, served)
}

#[tokio::test]
async fn the_request_is_sent_as_it_came_with_the_targets_key() {
    let (url, served) = one("HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}").await;
    let answer = target(url, Some("secret")).run(request()).await.unwrap();
    assert_eq!((answer.status.as_u16(), &answer.body[..]), (404, b"{}".as_slice()));
    let seen = served.await.unwrap();
    assert!(seen.starts_with("post /base/indexes/m/search http/1.1\r\n"), "{seen}");
    assert!(seen.contains("authorization: bearer secret\r\n"), "{seen}");
    assert!(seen.contains("content-type: application/json\r\n"), "{seen}");
    assert!(seen.ends_with("{\"q\":\"a\"}"), "{seen}");
}

#[tokio::test]
async fn failures_have_names() {
    let what = async |url: String| {
        let error = target(url, None).run(request()).await.unwrap_err();
        let Some(failure) = error.node_failure() else { panic!("{error}") };
        failure.label()
    };
    let (url, _served) =
        one("HTTP/1.1 200 OK\r\ncontent-length: 21\r\n\r\n{\"hits\":[1,2,3,4,5] }").await;
    assert_eq!(what(url).await, "too_large");
    let (url, _served) = one("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{").await;
    assert_eq!(what(url).await, "connection");
    let (url, _served) = one("nonsense\r\n\r\n").await;
    assert_eq!(what(url).await, "connection");
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    assert_eq!(what(format!("http://{closed}")).await, "connect");
}

#[test]
fn a_key_that_is_not_there_is_named() {
    let mut config = Config::from_yaml(
        "miroir: {shadow: {enabled: true, targets: [{name: a, url: 'http://a', api_key_env: K}]}}",
    )
    .unwrap();
    let lookup = Lookup::default();
    let refused = |value: Option<&str>| {
        build(&config, &lookup, |_| value.map(str::to_owned)).unwrap_err().to_string()
    };
    for (value, problem) in
        [(None, "is not set"), (Some(""), "is not set"), (Some("a\n"), "header")]
    {
        let text = refused(value);
        assert!(text.contains("`shadow.targets[0].api_key_env`: the variable K"), "{text}");
        assert!(text.contains(problem), "{text}");
    }
    let layer = build(&config, &lookup, |name| (name == "K").then(|| "key".to_owned())).unwrap();
    let (layer, log) = layer.unwrap();
    assert!(!format!("{layer:?}").contains("key\""), "{layer:?}");
    assert_eq!(log.names().collect::<Vec<_>>(), ["a"]);
    config.shadow.enabled = false;
    assert!(build(&config, &lookup, |_| None).unwrap().is_none());
}
