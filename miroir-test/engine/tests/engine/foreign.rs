//! Foreign keys over engine nodes. One node's answers are those of Meilisearch 1.50; the engine of
//! these nodes knows no foreign keys, so what is expected is written out.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use miroir::http::EdgeService;
use miroir::layers::edge::catch_panic::AnswerBody;
use miroir_control::Miroir;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::support::{Api, KEY, nodes, token};

/// Between two looks at a task.
const PAUSE: Duration = Duration::from_millis(3);

const BOOKS: &str = "/indexes/books/search";

struct Library {
    _nodes: Vec<miroir_engine::EngineNode>,
    miroir: Miroir,
    api: Api,
}

impl Library {
    async fn start() -> Self {
        let nodes = nodes(3).await;
        let mut builder = Miroir::builder().node_key(KEY).shards(8).replication_factor(1);
        for (at, node) in nodes.iter().enumerate() {
            builder = builder.node(&format!("node-{at}"), &node.url(), 0);
        }
        let miroir = builder.build().await.unwrap();
        miroir.spawn_workers();
        let library = Self { api: Api::miroir(&miroir), _nodes: nodes, miroir };
        library.switch(true).await;
        let authors: Vec<Value> = (0..120)
            .map(|n| json!({"id": format!("a{n}"), "born": 1900 + n, "name": format!("Name {n}")}))
            .collect();
        let settings = json!({"filterableAttributes": ["born"]});
        library.api.succeed("PATCH", "/indexes/authors/settings", &settings).await;
        library.api.succeed("POST", "/indexes/authors/documents", &json!(authors)).await;
        let settings = json!({
            "filterableAttributes": ["author", "others", "year"],
            "sortableAttributes": ["year"],
            "foreignKeys": [
                {"foreignIndexUid": "authors", "fieldName": "author"},
                {"foreignIndexUid": "authors", "fieldName": "others"},
            ],
        });
        library.api.succeed("PATCH", "/indexes/books/settings", &settings).await;
        let books: Vec<Value> = (0..30)
            .map(|n| {
                json!({"id": n, "title": format!("Book {n}"), "year": 2000 + n,
                       "author": format!("a{n}"), "others": [format!("a{}", n + 1), "nobody", 7.5]})
            })
            .collect();
        library.api.succeed("POST", "/indexes/books/documents", &json!(books)).await;
        library
    }

    async fn switch(&self, on: bool) {
        let body = json!({"foreignKeys": on});
        self.api.json("PATCH", "/experimental-features", &body).await.expect(200);
    }

    async fn titles(&self, filter: Value) -> Vec<String> {
        let body = json!({"filter": filter, "sort": ["year:asc"]});
        let found = self.api.json("POST", BOOKS, &body).await.expect(200);
        let hits = found["hits"].as_array().unwrap();
        hits.iter().map(|hit| hit["title"].as_str().unwrap().to_owned()).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hits_hold_the_documents_their_keys_name() {
    let library = Library::start().await;
    let author =
        |n: u64| json!({"id": format!("a{n}"), "born": 1900 + n, "name": format!("Name {n}")});
    let body = json!({
        "q": "book", "filter": "year = 2004", "attributesToHighlight": ["title"],
        "attributesToRetrieve": ["title", "author", "others"],
    });
    let found = library.api.json("POST", BOOKS, &body).await.expect(200);
    // A key without a document shows as an empty one, what cannot be a key as it is.
    let others = json!([author(5), {}, 7.5]);
    let formatted = json!([author(5), {}, "7.5"]);
    assert_eq!(
        found["hits"],
        json!([{
            "title": "Book 4", "author": author(4), "others": others,
            "_formatted": {"title": "<em>Book</em> 4", "author": author(4), "others": formatted},
        }])
    );

    // So do those of several searches, each on its own or together.
    let mut query = body.clone();
    query["indexUid"] = "books".into();
    let several = json!({"queries": [query, {"indexUid": "authors", "limit": 1}]});
    let answer = library.api.json("POST", "/multi-search", &several).await.expect(200);
    assert_eq!(answer["results"][0]["hits"], found["hits"]);
    let together = json!({"queries": [query], "federation": {}});
    let answer = library.api.json("POST", "/multi-search", &together).await.expect(200);
    assert_eq!(answer["hits"][0]["author"], author(4));
    assert_eq!(answer["hits"][0]["others"], others);

    // Only displayed attributes are shown, the primary key among them or not.
    let settings = json!({"displayedAttributes": ["name"]});
    library.api.succeed("PATCH", "/indexes/authors/settings", &settings).await;
    let found = library.api.json("POST", BOOKS, &body).await.expect(200);
    assert_eq!(found["hits"][0]["author"], json!({"name": "Name 4"}));

    library.switch(false).await;
    let found = library.api.json("POST", BOOKS, &body).await.expect(200);
    assert_eq!(found["hits"][0]["author"], "a4");
    library.miroir.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_ask_the_other_index() {
    let library = Library::start().await;
    for (filter, titles) in [
        (json!("_foreign(author, born >= 1928)"), vec!["Book 28", "Book 29"]),
        (json!("_foreign(others, born = 1929) OR year = 2001"), vec!["Book 1", "Book 28"]),
        (
            json!([
                "year > 2004",
                ["_foreign(author, born = 1905)", "_foreign(author, born = 1903)"]
            ]),
            vec!["Book 5"],
        ),
        (json!("NOT _foreign(author, born >= 1929) AND year > 2027"), vec!["Book 28"]),
        (json!("_foreign(author, born = 1800)"), vec![]),
    ] {
        assert_eq!(library.titles(filter.clone()).await, titles, "{filter}");
    }
    let list = json!({"filter": "_foreign(author, born = 1907)", "fields": ["title", "author"]});
    let found = library.api.json("POST", "/indexes/books/documents/fetch", &list).await.expect(200);
    assert_eq!(found["results"], json!([{"title": "Book 7", "author": "a7"}]));

    let refused = async |filter: &str| {
        let answer = library.api.json("POST", BOOKS, &json!({"filter": filter})).await;
        assert_eq!((answer.status, &answer.body["code"]), (400, &json!("invalid_search_filter")));
        answer.body["message"].as_str().unwrap().to_owned()
    };
    let many = refused("_foreign(author, born > 1900)").await;
    assert!(many.starts_with("Index `authors`: Foreign filter is retrieving too many"), "{many}");
    let nested = refused("_foreign(author, _foreign(author, born = 1))").await;
    assert_eq!(nested, "Index `books`: Nested foreign filters are not supported");
    library.miroir.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_index_must_exist_and_is_found_by_its_name() {
    let library = Library::start().await;
    library.api.succeed("DELETE", "/indexes/authors", &json!({})).await;
    let answer = library.api.json("POST", BOOKS, &json!({})).await;
    assert_eq!((answer.status, &answer.body["code"]), (404, &json!("index_not_found")));
    assert_eq!(answer.body["message"], "Index `authors` not found.");

    library.api.succeed("POST", "/indexes/others/documents", &json!([{"id": "a3", "x": 1}])).await;
    library.api.succeed("PATCH", "/indexes/others", &json!({"uid": "authors"})).await;
    let found =
        library.api.json("POST", BOOKS, &json!({"filter": "year = 2003"})).await.expect(200);
    assert_eq!(found["hits"][0]["author"], json!({"id": "a3", "x": 1}));

    library.api.succeed("DELETE", "/indexes/books/settings", &json!({})).await;
    let found = library.api.json("POST", BOOKS, &json!({"q": "\"Book 3\""})).await.expect(200);
    assert_eq!(found["hits"][0]["author"], "a3");
    library.miroir.shutdown().await;
}

/// A pipeline with keys, over nodes with two indexes that a foreign key joins.
struct Guarded<S> {
    _nodes: Vec<miroir_engine::EngineNode>,
    service: S,
}

impl<S: EdgeService<Full<Bytes>, Body = AnswerBody>> Guarded<S> {
    async fn ask(&self, key: &str, method: Method, path: &str, body: &Value) -> (u16, Value) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {key}"))
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body.to_string())))
            .unwrap();
        let Ok(answer) = self.service.clone().oneshot(request).await;
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    async fn post(&self, key: &str, path: &str, body: &Value) -> (u16, Value) {
        self.ask(key, Method::POST, path, body).await
    }

    /// Requires a refusal that names the index, and how to be let in.
    async fn refused(&self, key: &str, path: &str, body: &Value, remedies: &[&str]) {
        let (status, answer) = self.post(key, path, body).await;
        let message = answer["message"].as_str().unwrap_or_default();
        assert_eq!((status, &answer["code"]), (403, &json!("invalid_api_key")), "{body}: {answer}");
        assert!(message.contains("index `authors`"), "{message}");
        for remedy in remedies {
            assert!(message.contains(remedy), "{remedy}: {message}");
        }
    }

    /// The key of these actions and indexes.
    async fn key(&self, actions: &[&str], indexes: &[&str]) -> (String, Value) {
        let body = json!({"actions": actions, "indexes": indexes, "expiresAt": null});
        let (status, made) = self.post(KEY, "/keys", &body).await;
        assert_eq!(status, 201, "{made}");
        (made["key"].as_str().unwrap().to_owned(), made["uid"].clone())
    }

    /// A change by this key that is to succeed.
    async fn change(&self, key: &str, method: Method, path: &str, body: &Value) {
        let (status, task) = self.ask(key, method, path, body).await;
        assert_eq!(status, 202, "{path}: {task}");
        let path = format!("/tasks/{}", task["taskUid"]);
        loop {
            let (_, task) = self.ask(KEY, Method::GET, &path, &Value::Null).await;
            match task["status"].as_str() {
                Some("succeeded") => return,
                Some("enqueued" | "processing") => tokio::time::sleep(PAUSE).await,
                _ => panic!("{task}"),
            }
        }
    }
}

/// A key opens no index by way of another one's foreign keys, neither where they are set nor where
/// they are followed, and a token's rules for the other index hold for its documents.
#[tokio::test(flavor = "multi_thread")]
async fn foreign_keys_open_what_the_callers_key_opens() {
    let nodes = nodes(2).await;
    let mut builder = miroir::Miroir::builder().node_key(KEY).master_key(KEY).shards(4);
    for (at, node) in nodes.iter().enumerate() {
        builder = builder.node(&format!("node-{at}"), &node.url(), 0);
    }
    let miroir = builder.build().await.unwrap();
    miroir.spawn_workers();
    let library = Guarded { _nodes: nodes, service: miroir.client_api::<Full<Bytes>>() };
    let features = json!({"foreignKeys": true});
    let path = "/experimental-features";
    assert_eq!(library.ask(KEY, Method::PATCH, path, &features).await.0, 200);
    let (settings, documents) = ("/indexes/books/settings", "/indexes/books/documents");
    let filterable = json!({"filterableAttributes": ["born", "id"]});
    library.change(KEY, Method::PATCH, "/indexes/authors/settings", &filterable).await;
    let authors: Vec<Value> = (0..9).map(|n| json!({"id": n, "born": 1900 + n})).collect();
    library.change(KEY, Method::POST, "/indexes/authors/documents", &json!(authors)).await;
    let books: Vec<Value> = (0..9).map(|n| json!({"id": n, "author": n})).collect();
    library.change(KEY, Method::POST, documents, &json!(books)).await;
    let filterable = json!({"filterableAttributes": ["author"], "sortableAttributes": ["id"]});
    library.change(KEY, Method::PATCH, settings, &filterable).await;

    let actions = ["search", "documents.get", "settings.get", "settings.update"];
    let (limited, _) = library.key(&actions, &["books"]).await;
    let (whole, uid) = library.key(&actions, &["books", "auth*"]).await;
    let foreign = json!({"foreignKeys": [{"foreignIndexUid": "authors", "fieldName": "author"}]});
    let (status, answer) = library.ask(&limited, Method::PATCH, settings, &foreign).await;
    assert_eq!((status, &answer["code"]), (403, &json!("invalid_api_key")), "{answer}");
    let message = answer["message"].as_str().unwrap();
    assert!(message.contains("index `authors`") && message.contains("`indexes`"), "{message}");
    library.change(&whole, Method::PATCH, settings, &foreign).await;
    // Sent along as they are, they are nobody's news.
    library.change(&limited, Method::PATCH, settings, &foreign).await;

    let books = "/indexes/books/search";
    let sorted = |more: Value| {
        let mut body = json!({"sort": ["id:asc"], "limit": 9});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let (status, found) = library.post(&whole, books, &sorted(json!({}))).await;
    assert_eq!((status, &found["hits"][4]["author"]["born"]), (200, &json!(1904)), "{found}");
    let (key, rules) = ("its `indexes`", "`searchRules`");
    let remedies = [key, "attributesToRetrieve"];
    library.refused(&limited, books, &sorted(json!({})), &remedies).await;
    let query = json!({"indexUid": "books"});
    library.refused(&limited, "/multi-search", &json!({"queries": [query]}), &remedies).await;
    let together = json!({"federation": {}, "queries": [query]});
    library.refused(&limited, "/multi-search", &together, &remedies).await;
    let condition =
        json!({"filter": "_foreign(author, born > 1905)", "attributesToRetrieve": ["id"]});
    library.refused(&limited, books, &sorted(condition.clone()), &[key]).await;
    let fetch = json!({"filter": condition["filter"]});
    library.refused(&limited, "/indexes/books/documents/fetch", &fetch, &[key]).await;
    let facets = json!({"facetName": "author", "filter": condition["filter"]});
    library.refused(&limited, "/indexes/books/facet-search", &facets, &[key]).await;
    let (status, found) =
        library.post(&limited, books, &json!({"attributesToRetrieve": ["id"]})).await;
    assert_eq!((status, found["hits"].as_array().unwrap().len()), (200, 9), "{found}");

    let sign = |rules: Value| token(&json!({"apiKeyUid": uid, "searchRules": rules}), &whole);
    let outside = sign(json!({"books": null}));
    library.refused(&outside, books, &sorted(json!({})), &[rules]).await;
    library.refused(&outside, books, &sorted(condition.clone()), &[rules]).await;
    let inside = sign(json!({"books": null, "authors": {"filter": "born >= 1905"}}));
    let (status, found) = library.post(&inside, books, &sorted(json!({}))).await;
    assert_eq!(status, 200, "{found}");
    // As one that does not exist.
    assert_eq!(found["hits"][4]["author"], json!({}));
    assert_eq!(found["hits"][5]["author"]["born"], 1905);
    for (filter, hits) in [
        ("_foreign(author, born < 1905)", json!([])),
        ("_foreign(author, born <= 1906)", json!([{"id": 5}, {"id": 6}])),
        ("_foreign(author, born = 1 OR born > 1907)", json!([{"id": 8}])),
    ] {
        let body = sorted(json!({"filter": filter, "attributesToRetrieve": ["id"]}));
        let (status, found) = library.post(&inside, books, &body).await;
        assert_eq!((status, &found["hits"]), (200, &hits), "{filter}: {found}");
    }
    miroir.shutdown().await;
}
