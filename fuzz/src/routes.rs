//! The route table: what is found is what a look at every row finds, and any request gets an answer
//! that is not a fault of Miroir's.

use std::sync::LazyLock;

use http::{Method, StatusCode};
use miroir_pipeline::http::{routes::Route, Router, table};
use miroir_pipeline::query::{encode, query_pairs};

use crate::http::decode;

static TABLE: LazyLock<Vec<Route>> = LazyLock::new(table);
static ROUTER: LazyLock<Router> = LazyLock::new(Router::default);

const METHODS: [Method; 7] = [
    Method::GET,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::HEAD,
    Method::OPTIONS,
];

/// The first byte chooses the method; then a path with a query string, and the body on other lines.
pub fn check(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    let method = &METHODS[usize::from(*first) % METHODS.len()];
    let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
    let Ok(target) = std::str::from_utf8(&rest[..end]) else { return };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    found(path);
    pairs(query);
    if target.starts_with('/') {
        answered(method, target, rest.get(end + 1..).unwrap_or_default());
    }
}

/// The value of two digits of a percent-encoded byte.
fn unescaped(segment: &str) -> Vec<u8> {
    let (mut out, bytes) = (Vec::new(), segment.as_bytes());
    let digit = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let mut at = 0;
    while at < bytes.len() {
        match (bytes[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 3;
            }
            (byte, ..) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

/// The parameters of a path as a row of the table sees them.
fn fits(template: &str, path: &str) -> Option<Vec<String>> {
    let (mut template, mut path) = (template.split('/'), path.split('/'));
    let mut parameters = Vec::new();
    loop {
        match (template.next(), path.next()) {
            (None, None) => return Some(parameters),
            (Some(wanted), Some(segment)) if wanted.starts_with('{') => {
                if segment.is_empty() {
                    return None;
                }
                parameters.push(segment.to_owned());
            }
            (Some(wanted), Some(segment)) if unescaped(segment) == wanted.as_bytes() => {}
            _ => return None,
        }
    }
}

fn found(path: &str) {
    let all: Vec<_> = TABLE.iter().filter_map(|row| Some((row, fits(row.path, path)?))).collect();
    let fewest = all.iter().map(|(_, parameters)| parameters.len()).min();
    match ROUTER.find(path) {
        None => assert!(all.is_empty(), "{path}: a route was not found"),
        Some(matched) => {
            assert_eq!(Some(matched.parameters.len()), fewest);
            let template = matched.routes[0].path;
            // They are the segments of the path; letters may be unescaped already.
            let decoded = |all: &[String]| all.iter().map(|it| unescaped(it)).collect::<Vec<_>>();
            let given = fits(template, path).as_deref().map(decoded);
            assert_eq!(given, Some(decoded(&matched.parameters)));
            let rows = TABLE.iter().filter(|row| row.path == template).count();
            assert_eq!(rows, matched.routes.len());
        }
    }
}

/// Reading a query string, writing it and reading it again changes nothing.
fn pairs(query: &str) {
    let pairs = query_pairs(query);
    let written: Vec<String> =
        pairs.iter().map(|(key, value)| format!("{}={}", encode(key), encode(value))).collect();
    assert_eq!(query_pairs(&written.join("&")), pairs);
}

fn answered(method: &Method, target: &str, body: &[u8]) {
    let Some((seen, answer)) = decode(method.clone(), target, body) else { return };
    let path = target.split(['?', '#']).next().unwrap_or_default();
    let path = if path.len() > 1 { path.trim_end_matches('/') } else { path };
    let known = ROUTER.find(path);
    let served = known.as_ref().is_some_and(|k| k.routes.iter().any(|r| r.method == *method));
    let status = answer.status();
    assert_eq!(seen.is_some(), served, "{method} {target}");
    match (known, served) {
        (None, _) => assert_eq!(status, StatusCode::NOT_FOUND),
        (Some(_), false) => assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED),
        (Some(_), true) => assert_eq!(status, StatusCode::OK),
    }
}
