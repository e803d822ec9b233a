//! Foreign keys over engine nodes. One node's answers are those of Meilisearch 1.50; the engine of
//! these nodes knows no foreign keys, so what is expected is written out.

use miroir_control::Miroir;
use serde_json::{Value, json};

use crate::support::{Api, KEY, nodes};

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
