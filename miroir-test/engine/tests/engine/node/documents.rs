//! Documents: writing, reading, listing.

use serde_json::{Value, json};

use super::{KEY, ids, movies, node};

#[tokio::test(flavor = "multi_thread")]
async fn documents_are_added_changed_and_deleted() {
    let (node, http) = node().await;
    let task =
        http.succeed("POST", "/indexes", json!({ "uid": "movies", "primaryKey": "id" })).await;
    assert_eq!(task["details"], json!({ "primaryKey": "id" }));
    let task =
        http.succeed("POST", "/indexes/movies/documents?customMetadata=hello", movies()).await;
    assert_eq!(task["details"], json!({ "receivedDocuments": 5, "indexedDocuments": 5 }));
    assert_eq!(task["customMetadata"], "hello");
    assert_eq!(task["error"], Value::Null);
    assert!(task["duration"].as_str().unwrap().starts_with("PT"));

    let (_, document) = http.get("/indexes/movies/documents/1?fields=title,note").await;
    assert_eq!(document, json!({ "title": "Carol", "note": { "press": 8.5 } }));
    let (status, error) = http.get("/indexes/movies/documents/99").await;
    assert_eq!((status, &error["code"]), (404, &json!("document_not_found")));

    // A partial update keeps the other fields, a replacement does not.
    http.succeed("PUT", "/indexes/movies/documents", json!([{ "id": 1, "year": 2016 }])).await;
    let (_, document) = http.get("/indexes/movies/documents/1").await;
    assert_eq!((&document["title"], &document["year"]), (&json!("Carol"), &json!(2016)));
    http.succeed("POST", "/indexes/movies/documents", json!({ "id": 1, "title": "Carol" })).await;
    assert_eq!(
        http.get("/indexes/movies/documents/1").await.1,
        json!({ "id": 1, "title": "Carol" })
    );

    // Unknown documents are ignored on request.
    let update = json!([{ "id": 1, "year": 2015 }, { "id": 77, "title": "New" }]);
    let task = http.succeed("PUT", "/indexes/movies/documents?skipCreation=true", update).await;
    assert_eq!(task["details"], json!({ "receivedDocuments": 2, "indexedDocuments": 2 }));
    assert_eq!(http.get("/indexes/movies/documents/77").await.0, 404);
    assert_eq!(http.get("/indexes/movies/documents/1").await.1["year"], 2015);

    let task = http
        .succeed("POST", "/indexes/movies/documents/delete-batch", json!([2, "3", "nope"]))
        .await;
    assert_eq!(
        task["details"],
        json!({ "providedIds": 3, "deletedDocuments": 2, "originalFilter": null })
    );
    http.succeed("DELETE", "/indexes/movies/documents/5", Value::Null).await;
    let (_, list) = http.get("/indexes/movies/documents?limit=10").await;
    assert_eq!((ids(&list), &list["total"]), (vec![1, 4], &json!(2)));

    http.succeed("PUT", "/indexes/movies/settings/filterable-attributes", json!(["year"])).await;
    let task = http
        .succeed("POST", "/indexes/movies/documents/delete", json!({ "filter": "year = 2015" }))
        .await;
    assert_eq!(
        task["details"],
        json!({ "providedIds": 0, "deletedDocuments": 2, "originalFilter": "\"year = 2015\"" })
    );
    http.succeed("POST", "/indexes/movies/documents", movies()).await;
    let (_, stats) = http.get("/indexes/movies/stats").await;
    assert_eq!(
        (&stats["numberOfDocuments"], &stats["fieldDistribution"]["title"]),
        (&json!(5), &json!(5))
    );
    let task = http.succeed("DELETE", "/indexes/movies/documents", Value::Null).await;
    assert_eq!(task["details"], json!({ "deletedDocuments": 5 }));
    assert_eq!(http.get("/indexes/movies/stats").await.1["numberOfDocuments"], 0);

    let task = http.succeed("PATCH", "/indexes/movies", json!({ "uid": "films" })).await;
    assert_eq!(
        task["details"],
        json!({ "primaryKey": null, "oldIndexUid": "movies", "newIndexUid": "films" })
    );
    assert_eq!(http.get("/indexes").await.1["results"][0]["uid"], "films");
    http.succeed("DELETE", "/indexes/films", Value::Null).await;
    assert_eq!(http.get("/indexes").await.1["total"], 0);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ndjson_and_csv_are_read() {
    let (node, http) = node().await;
    let csv = b"id:number;title;seen:boolean\n1;Carol;true\n2;;false\n".to_vec();
    let (status, summary) =
        http.send("POST", "/indexes/t/documents?csvDelimiter=%3B", "text/csv", csv).await;
    assert_eq!(status, 202, "{summary}");
    http.wait(summary["taskUid"].as_u64().unwrap()).await;
    let lines = b"{\"id\":3,\"title\":\"Pi\"}\n{\"id\":4}\n".to_vec();
    let (_, summary) =
        http.send("POST", "/indexes/t/documents", "application/x-ndjson", lines).await;
    let task = http.wait(summary["taskUid"].as_u64().unwrap()).await;
    assert_eq!(task["details"]["indexedDocuments"], 2, "{task}");
    let (_, list) = http.get("/indexes/t/documents").await;
    assert_eq!(
        list["results"],
        json!([
            { "id": 1, "title": "Carol", "seen": true },
            { "id": 2, "title": null, "seen": false },
            { "id": 3, "title": "Pi" },
            { "id": 4 },
        ])
    );
    for (content_type, body, status, code) in [
        ("text/plain", "{}", 415, "invalid_content_type"),
        ("application/json", "", 400, "missing_payload"),
        ("application/json", "[{\"id\":1}", 400, "malformed_payload"),
        ("application/json", "3", 400, "malformed_payload"),
        ("text/csv", "id:number\nx", 400, "malformed_payload"),
    ] {
        let (got, error) =
            http.send("POST", "/indexes/t/documents", content_type, body.into()).await;
        assert_eq!((got, error["code"].as_str().unwrap()), (status, code), "{error}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_are_fetched_in_the_asked_order() {
    let (node, http) = node().await;
    http.succeed("PUT", "/indexes/f/settings/sortable-attributes", json!(["n", "_geo"])).await;
    let documents = json!([
        { "id": 1, "n": "b", "_geo": { "lat": 0.0, "lng": 2.0 } },
        { "id": 2, "n": [7, 3], "_geo": { "lat": 0.0, "lng": 1.0 } },
        { "id": 3, "_geo": { "lat": 0.0, "lng": 3.0 } },
        { "id": 4, "n": 5 },
        { "id": 5, "n": "A" },
    ]);
    http.succeed("POST", "/indexes/f/documents", documents).await;
    let token = format!("Bearer {KEY}");
    let headers = [("authorization", token.as_str()), ("meili-proxy-search", "true")];
    let fetch = async |sort: &str, fields: &str| {
        let body = json!({ "sort": [sort], "fields": [fields] }).to_string().into_bytes();
        let (status, found) = http.raw("POST", "/indexes/f/documents/fetch", &headers, body).await;
        assert_eq!(status, 200, "{found}");
        found
    };
    let found = fetch("n:asc", "id").await;
    assert_eq!(ids(&found), [2, 4, 5, 1, 3]);
    let values: Vec<&Value> = found["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|document| &document["_federation"]["weightedScoreValues"][0]["sort"]["value"])
        .collect();
    assert_eq!(values, [&json!(3), &json!(5), &json!("a"), &json!("b"), &Value::Null]);
    assert_eq!(ids(&fetch("n:desc", "id").await), [2, 4, 1, 5, 3]);
    let found = fetch("_geoPoint(0, 0):asc", "id").await;
    assert_eq!(ids(&found), [2, 1, 3, 4, 5]);
    let geo = &found["results"][0]["_federation"]["weightedScoreValues"][0]["geoSort"];
    assert_eq!(geo["asc"], true);
    assert!((geo["distance"].as_f64().unwrap() - 111_195.0).abs() < 1.0, "{geo}");
    let found =
        http.json("POST", "/indexes/f/documents/fetch", json!({ "ids": [5, "2", 9] })).await.1;
    assert_eq!((ids(&found), &found["total"]), (vec![2, 5], &json!(2)));
    assert_eq!(found["results"][0].get("_federation"), None);
    let (status, error) =
        http.json("POST", "/indexes/f/documents/fetch", json!({ "ids": ["a b"] })).await;
    assert_eq!((status, &error["code"]), (400, &json!("invalid_document_ids")));
    let (status, error) =
        http.json("POST", "/indexes/f/documents/fetch", json!({ "sort": ["id:asc"] })).await;
    assert_eq!((status, &error["code"]), (400, &json!("invalid_document_sort")));
    node.stop().await;
}
