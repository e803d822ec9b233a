//! What is asked: every route of the product's table, with bodies that a node takes and bodies that
//! it refuses, in every form a client might send them.
//!
//! What changes something is about indexes that nothing reads, or is refused for its body once the
//! key was good: so the order of the requests does not matter.

use http::Method;
use miroir_pipeline::http::routes::Route;
use miroir_pipeline::http::table;
use serde_json::{Value, json};

/// An index with documents, that is only read.
pub(super) const SEEN: &str = "seen";
/// Another one, that the keys of `exact` and `prefix` do not name.
pub(super) const OTHER: &str = "other";
/// One that does not exist.
const GONE: &str = "gone";
/// One that is made and written to by whoever may.
const MADE: &str = "made";
/// A key and a webhook that do not exist.
const NOBODY: &str = "5f0e4a8e-0d8b-4f5c-9c53-3f8a0d3c8b11";

/// One request, but for who sends it and in which form.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    /// `METHOD /route`, as in the table.
    pub(super) route: String,
    /// Which of its requests.
    pub(super) what: String,
    pub(super) method: Method,
    /// Path and query string.
    pub(super) path: String,
    /// What a node is asked in its place: it has no such route.
    pub(super) at_node: Option<String>,
    pub(super) body: Option<Value>,
    /// The actions that the table demands.
    pub(super) actions: &'static [&'static str],
}

fn read_route(route: &Route) -> bool {
    !route.changes()
}

/// The index a route is asked about.
fn index(route: &Route) -> &'static str {
    let path = route.path.strip_prefix("/indexes/{uid}").unwrap_or_default();
    match path {
        _ if read_route(route) => SEEN,
        "/documents" | "/documents/{id}" | "/documents/delete" | "/documents/delete-batch" => MADE,
        _ => GONE,
    }
}

/// The path of a request to a route.
fn path(route: &Route) -> String {
    let uid = if route.path.starts_with("/indexes/") {
        index(route)
    } else if route.path.starts_with("/dynamic") {
        "rule"
    } else {
        "0"
    };
    let path = route.path.replace("{uid}", uid).replace("{id}", "1").replace("{workspace}", "w");
    path.replace("{key}", NOBODY).replace("{uuid}", NOBODY)
}

/// Bodies, each with a name and what stands behind the path.
type Bodies = Vec<(&'static str, &'static str, Option<Value>)>;

fn one(body: Value) -> Bodies {
    vec![("one", "", Some(body))]
}

fn searches() -> Bodies {
    vec![
        ("all", "", Some(json!({}))),
        ("facets", "", Some(json!({"facets": ["kind"], "limit": 1}))),
        ("filter", "", Some(json!({"filter": "kind = crimson"}))),
        ("unknown", "", Some(json!({"q": "a", "nothing": 1}))),
    ]
}

fn multi_searches() -> Bodies {
    let (seen, other) = (json!({"indexUid": SEEN}), json!({"indexUid": OTHER}));
    let federated = |queries: Value, by_index: Value| {
        Some(json!({"federation": {"facetsByIndex": by_index}, "queries": queries}))
    };
    vec![
        ("one", "", Some(json!({"queries": [seen]}))),
        ("two", "", Some(json!({"queries": [seen, other]}))),
        ("none", "", Some(json!({"queries": []}))),
        ("federated", "", Some(json!({"federation": {}, "queries": [seen, other]}))),
        ("facets", "", federated(json!([seen]), json!({SEEN: ["kind"]}))),
        ("facets of both", "", federated(json!([seen, other]), json!({OTHER: ["kind"]}))),
        ("facets of another", "", federated(json!([seen]), json!({OTHER: ["kind"]}))),
    ]
}

fn templates() -> Bodies {
    let inline = json!({"kind": "inlineDocumentTemplate", "inline": "{{doc.kind}}"});
    let input = |uid: &str| json!({"kind": "indexDocument", "indexUid": uid, "id": "1"});
    let given = json!({"kind": "inlineDocument", "inline": {"kind": "crimson"}});
    let body = |input: Value| Some(json!({"template": inline, "input": input}));
    vec![
        ("inline", "", body(given)),
        ("a document", "", body(input(SEEN))),
        ("a document of another", "", body(input(OTHER))),
    ]
}

/// The requests that are made to a route.
fn bodies(route: &Route) -> Bodies {
    let wrong = || one(json!(1.5));
    match (route.method.as_str(), route.path) {
        ("GET", "/indexes/{uid}/search") => vec![("one", "?facets=kind&limit=1", None)],
        ("GET", "/indexes/{uid}/similar") => vec![("one", "?id=1&embedder=e", None)],
        ("GET", "/tasks" | "/batches") => {
            vec![("all", "", None), ("of one", "?indexUids=seen", None)]
        }
        ("DELETE", "/tasks") => vec![("none", "", None), ("one", "?uids=4000000000", None)],
        ("POST", "/tasks/cancel") => vec![("none", "", None), ("one", "?uids=4000000000", None)],
        ("GET", _) => vec![("one", "", None)],
        ("POST", "/indexes/{uid}/search" | "/indexes/{uid}/explain") => searches(),
        ("POST", "/multi-search" | "/multi-search/explain") => multi_searches(),
        ("POST", "/render-template") => templates(),
        ("POST", "/indexes/{uid}/facet-search") => one(json!({"facetName": "kind"})),
        ("POST", "/indexes/{uid}/similar") => one(json!({"id": 1, "embedder": "e"})),
        ("POST", "/indexes/{uid}/documents/fetch") => {
            vec![
                ("all", "", Some(json!({}))),
                ("filter", "", Some(json!({"filter": "kind = crimson", "limit": 1}))),
            ]
        }
        ("POST", "/indexes/{uid}/fields") => one(json!({})),
        ("POST" | "PUT", "/indexes/{uid}/documents") => one(json!([{"id": 1, "kind": "crimson"}])),
        ("POST", "/indexes/{uid}/documents/delete") => one(json!({"filter": "kind = azure"})),
        ("POST", "/indexes/{uid}/documents/delete-batch") => one(json!([7, "x"])),
        ("POST", "/indexes/{uid}/documents/edit") => one(json!({"function": "doc.a = 1"})),
        ("POST", "/indexes") => {
            vec![("one", "", Some(json!({"uid": MADE}))), ("wrong", "", Some(json!({"uid": 5})))]
        }
        ("POST", "/swap-indexes") => vec![
            ("within", "", Some(json!([{"indexes": [GONE, MADE]}]))),
            ("with another", "", Some(json!([{"indexes": [GONE, OTHER]}]))),
            ("nothing", "", Some(json!([]))),
        ],
        ("PATCH", "/indexes/{uid}") => one(json!({"primaryKey": "id"})),
        // Settings: what is not the type of any.
        ("PUT" | "PATCH", path) if path.contains("/settings/") => wrong(),
        ("PATCH", "/indexes/{uid}/settings") => one(json!({"stopWords": 1.5})),
        ("POST", "/keys") => {
            one(json!({"actions": ["nothing"], "indexes": ["*"], "expiresAt": null}))
        }
        ("PATCH", "/keys/{key}") => one(json!({"name": "n"})),
        ("POST", "/webhooks") => one(json!({"url": 5})),
        ("PATCH", "/webhooks/{uuid}") => one(json!({"url": null})),
        ("POST", "/export") => one(json!({"url": 5})),
        ("PATCH", "/experimental-features") => one(json!({})),
        ("PATCH" | "POST", path)
            if path.starts_with("/network")
                || path.starts_with("/logs")
                || path.starts_with("/chats")
                || path.starts_with("/dynamic-search-rules") =>
        {
            one(json!({}))
        }
        ("POST", "/indexes/{uid}/compact" | "/tasks/compact" | "/dumps" | "/snapshots")
        | ("DELETE", _) => vec![("one", "", None)],
        (method, path) => panic!("{method} {path} is new: give it a request in `bodies`"),
    }
}

/// The requests of all routes, in the order of the table.
pub(super) fn samples() -> Vec<Sample> {
    let mut out = Vec::new();
    for route in table() {
        for (what, query, body) in bodies(&route) {
            let path = format!("{}{query}", path(&route));
            let explains = route.path.ends_with("/explain");
            let search = |end| {
                path.replace("/multi-search/explain", "/multi-search").replace(end, "/search")
            };
            let at_node = explains.then(|| search("/explain"));
            let mut add = |what, path: String, at_node| {
                out.push(Sample {
                    route: format!("{} {}", route.method, route.path),
                    what,
                    method: route.method.clone(),
                    path,
                    at_node,
                    body: body.clone(),
                    actions: route.actions,
                });
            };
            if explains && matches!(what, "all" | "two" | "facets") {
                let executed = format!("{path}?execute=true");
                add(format!("{what} executed"), executed, at_node.clone());
            }
            add(what.to_owned(), path, at_node);
        }
    }
    out
}

/// How a request is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    pub(super) name: &'static str,
    pub(super) content_type: Option<&'static str>,
    /// Stands behind the path.
    pub(super) query: &'static str,
    write: fn(&Value) -> Option<String>,
}

#[expect(clippy::unnecessary_wraps, reason = "others have none")]
fn plain(body: &Value) -> Option<String> {
    Some(body.to_string())
}

/// The first member twice, in every object at the top.
fn repeated(body: &Value) -> Option<String> {
    let object = |value: &Value| {
        let (name, member) = value.as_object()?.iter().next()?;
        let text = value.to_string();
        Some(format!("{{\"{name}\":{member},{}", text.strip_prefix('{')?))
    };
    match body {
        Value::Array(items) => {
            let items: Option<Vec<String>> = items.iter().map(object).collect();
            items.filter(|items| !items.is_empty()).map(|items| format!("[{}]", items.join(",")))
        }
        value => object(value),
    }
}

/// One form of those that clients have.
pub(super) const JSON: Form =
    Form { name: "json", content_type: Some("application/json"), query: "", write: plain };

/// All others.
pub(super) const FORMS: &[Form] = &[
    Form { name: "text/json", content_type: Some("text/json"), ..JSON },
    Form { name: "ld+json", content_type: Some("application/ld+json"), ..JSON },
    Form { name: "charset", content_type: Some("application/json; charset=utf-8"), ..JSON },
    Form { name: "text/plain", content_type: Some("text/plain"), ..JSON },
    Form { name: "no content type", content_type: None, ..JSON },
    Form { name: "query beside", query: "limit=1&q=b", ..JSON },
    Form { name: "repeated", write: repeated, ..JSON },
    Form {
        name: "cut off",
        write: |body| plain(body).filter(|it| it.len() > 1).map(|it| it[..it.len() - 1].to_owned()),
        ..JSON
    },
    Form { name: "empty", write: |_| Some(String::new()), ..JSON },
];

impl Form {
    /// The body of a sample in this form; `None`: the sample has no such form.
    pub(super) fn body(&self, sample: &Sample) -> Option<String> {
        match &sample.body {
            Some(body) => (self.write)(body),
            None => (self.name == JSON.name).then(String::new),
        }
    }
}
