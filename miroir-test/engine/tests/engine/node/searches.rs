//! Searches of every kind.

use serde_json::{Value, json};

use super::{ids, movies, node};

#[tokio::test(flavor = "multi_thread")]
async fn searches_rank_filter_sort_and_page() {
    let (node, http) = node().await;
    let settings =
        json!({ "filterableAttributes": ["genre", "year"], "sortableAttributes": ["year"] });
    http.succeed("PATCH", "/indexes/m/settings", settings).await;
    http.succeed("POST", "/indexes/m/documents", movies()).await;

    let found = http.search("m", json!({ "q": "wondr womn" })).await;
    assert_eq!((ids(&found), &found["estimatedTotalHits"]), (vec![2], &json!(1)));
    let keys: Vec<&String> = found.as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        [
            "hits",
            "query",
            "processingTimeMs",
            "limit",
            "offset",
            "estimatedTotalHits",
            "requestUid"
        ]
    );

    let query = json!({
        "q": "mad road", "sort": ["year:asc"], "showRankingScore": true, "showRankingScoreDetails": true,
        "attributesToHighlight": ["title"], "showMatchesPosition": true, "attributesToRetrieve": ["id"],
    });
    let found = http.search("m", query).await;
    let hit = &found["hits"][0];
    assert_eq!(
        hit["_formatted"],
        json!({ "id": "4", "title": "<em>Mad</em> Max: Fury <em>Road</em>" })
    );
    assert_eq!(hit["_matchesPosition"]["title"][1], json!({ "start": 14, "length": 4 }));
    let details = &hit["_rankingScoreDetails"];
    assert_eq!(
        details["words"],
        json!({ "order": 0, "matchingWords": 2, "maxMatchingWords": 2, "score": 1.0 })
    );
    assert_eq!(details["year:asc"], json!({ "order": 4, "value": 2015.0 }));
    assert_eq!(details["exactness"]["matchType"], "noExactMatch");

    let found = http.search("m", json!({ "sort": ["year:desc"], "limit": 2, "offset": 1 })).await;
    assert_eq!((ids(&found), &found["estimatedTotalHits"]), (vec![1, 4], &json!(5)));
    let found =
        http.search("m", json!({ "sort": ["year:desc"], "page": 3, "hitsPerPage": 2 })).await;
    assert_eq!(ids(&found), [5]);
    assert_eq!(
        (&found["totalHits"], &found["totalPages"], &found["page"]),
        (&json!(5), &json!(3), &json!(3))
    );
    assert_eq!(found.get("limit"), None);

    let query = json!({ "filter": ["year >= 2015", ["genre = action", "genre = romance"]], "facets": ["*"] });
    let found = http.search("m", query).await;
    assert_eq!(ids(&found), [1, 2, 4]);
    let expected = json!({
        "genre": { "Action": 2, "Adventure": 1, "Romance": 1 }, "year": { "2015": 2, "2017": 1 },
    });
    assert_eq!(found["facetDistribution"], expected);
    assert_eq!(found["facetStats"], json!({ "year": { "min": 2015.0, "max": 2017.0 } }));
    let found = http.search("m", json!({ "distinct": "genre", "page": 1 })).await;
    assert_eq!((ids(&found), &found["totalHits"]), (vec![1, 2], &json!(2)));
    let (_, found) = http
        .get("/indexes/m/search?q=carol&limit=1&attributesToRetrieve=id&showRankingScore=true")
        .await;
    assert_eq!(found["hits"], json!([{ "id": 1, "_rankingScore": 1.0 }]));

    for (query, code) in [
        (json!({ "filter": "nope = 1" }), "invalid_search_filter"),
        (json!({ "filter": "year >" }), "invalid_search_filter"),
        (json!({ "sort": ["title:asc"] }), "invalid_search_sort"),
        (json!({ "sort": ["title"] }), "invalid_search_sort"),
        (json!({ "facets": ["title"] }), "invalid_search_facets"),
        (json!({ "distinct": "title" }), "invalid_search_distinct"),
        (json!({ "limit": "x" }), "invalid_search_limit"),
        (json!({ "vector": [1.0] }), "missing_search_hybrid"),
        (json!({ "hybrid": { "embedder": "e" }, "q": "x" }), "invalid_search_embedder"),
        (json!({ "nope": 1 }), "bad_request"),
    ] {
        let (status, error) = http.json("POST", "/indexes/m/search", query).await;
        assert_eq!((status, error["code"].as_str().unwrap()), (400, code), "{error}");
    }

    let queries =
        json!({ "queries": [{ "indexUid": "m", "q": "moana" }, { "indexUid": "m", "q": "pi" }] });
    let (_, several) = http.json("POST", "/multi-search", queries).await;
    assert_eq!(several["results"][0]["indexUid"], "m");
    assert_eq!((ids(&several["results"][0]), ids(&several["results"][1])), (vec![5], vec![3]));
    let queries = json!({ "queries": [{ "indexUid": "none" }] });
    let (status, error) = http.json("POST", "/multi-search", queries).await;
    assert_eq!(
        (status, error["message"].as_str().unwrap()),
        (400, "Inside `.queries[0]`: Index `none` not found.")
    );
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn vectors_are_searched_and_shown() {
    let (node, http) = node().await;
    let settings = json!({ "embedders": { "e": { "source": "userProvided", "dimensions": 2 } } });
    http.succeed("PATCH", "/indexes/v/settings", settings).await;
    let documents = json!([
        { "id": 1, "t": "red apple", "_vectors": { "e": [1.0, 0.0] } },
        { "id": 2, "t": "green pear", "_vectors": { "e": [0.0, 1.0] } },
        { "id": 3, "t": "red cherry", "_vectors": { "e": null } },
    ]);
    http.succeed("POST", "/indexes/v/documents", documents).await;
    let semantic = json!({
        "vector": [0.0, 1.0], "hybrid": { "embedder": "e", "semanticRatio": 1.0 },
        "retrieveVectors": true, "showRankingScore": true,
    });
    let found = http.search("v", semantic).await;
    assert_eq!(ids(&found), [2, 1, 3]);
    assert_eq!((&found["semanticHitCount"], &found["estimatedTotalHits"]), (&json!(3), &json!(3)));
    assert_eq!(found["hits"][0]["_rankingScore"], 1.0);
    assert_eq!(
        found["hits"][0]["_vectors"],
        json!({ "e": { "embeddings": [[0.0, 1.0]], "regenerate": false } })
    );
    let hybrid = json!({ "q": "apple", "vector": [0.0, 1.0], "hybrid": { "embedder": "e", "semanticRatio": 0.5 } });
    let found = http.search("v", hybrid).await;
    assert_eq!(ids(&found).len(), 3);
    assert_eq!(http.get("/indexes/v/stats").await.1["numberOfEmbeddings"], 2);
    let (status, error) = http
        .json(
            "POST",
            "/indexes/v/search",
            json!({ "vector": [1.0], "hybrid": { "embedder": "e" } }),
        )
        .await;
    assert_eq!((status, &error["code"]), (400, &json!("invalid_vector_dimensions")));
    let wrong = json!([{ "id": 4, "_vectors": { "e": [1.0, 2.0, 3.0] } }]);
    let task = http.write("POST", "/indexes/v/documents", wrong).await;
    assert_eq!(task["error"]["code"], "invalid_vector_dimensions", "{task}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn facet_values_are_searched() {
    let (node, http) = node().await;
    http.succeed("PUT", "/indexes/m/settings/filterable-attributes", json!(["genre"])).await;
    http.succeed("POST", "/indexes/m/documents", movies()).await;
    let path = "/indexes/m/facet-search";
    let (status, found) =
        http.json("POST", path, json!({ "facetName": "genre", "facetQuery": "adv" })).await;
    assert_eq!(
        (status, &found["facetHits"]),
        (200, &json!([{ "value": "Adventure", "count": 3 }]))
    );
    assert_eq!(found["facetQuery"], "adv");
    let (_, found) = http.json("POST", path, json!({ "facetName": "genre", "q": "mad" })).await;
    assert_eq!(found["facetHits"], json!([{ "value": "Action", "count": 1 }]));
    let (status, error) = http.json("POST", path, json!({ "facetName": "title" })).await;
    assert_eq!((status, &error["code"]), (400, &json!("invalid_facet_search_facet_name")));
    node.stop().await;
}

/// Filters on a field whose name and values are private-use characters.
#[tokio::test(flavor = "multi_thread")]
async fn filters_on_private_use_characters() {
    let (node, http) = node().await;
    let field = "\u{e000}slot";
    let value = |n: u32| format!("\u{e001}{n:04x}");
    http.succeed("PUT", "/indexes/p/settings/filterable-attributes", json!([field])).await;
    let documents: Vec<Value> = (0..100).map(|n| json!({ "id": n, field: value(n) })).collect();
    http.succeed("POST", "/indexes/p/documents", json!(documents)).await;
    for (filter, expected) in [
        (format!("\"{field}\" IN [\"{}\", \"{}\"]", value(3), value(70)), vec![3, 70]),
        (
            format!("\"{field}\" >= \"{}\" AND \"{field}\" < \"{}\"", value(10), value(13)),
            vec![10, 11, 12],
        ),
        (format!("\"{field}\" \"{}\" TO \"{}\"", value(98), value(500)), vec![98, 99]),
        (format!("\"{field}\" = \"{}\"", value(16)), vec![16]),
    ] {
        let found = http.search("p", json!({ "filter": filter })).await;
        assert_eq!(ids(&found), expected, "{filter}");
        let body = json!({ "filter": filter, "fields": ["id"] });
        let (_, found) = http.json("POST", "/indexes/p/documents/fetch", body).await;
        assert_eq!(ids(&found), expected, "{filter}");
        assert_eq!(found["total"], expected.len());
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ingest_and_parallel_searches() {
    let (node, http) = node().await;
    let settings = json!({
        "filterableAttributes": ["group"], "sortableAttributes": ["rank"], "searchableAttributes": ["title", "body"],
    });
    http.succeed("PATCH", "/indexes/big/settings", settings).await;
    let words = [
        "river", "stone", "cloud", "forest", "harbor", "lantern", "meadow", "copper", "violet",
        "winter",
    ];
    let word = |n: usize| words[n % words.len()];
    let mut last = 0;
    for chunk in 0..6 {
        let documents: Vec<Value> = (chunk * 500..(chunk + 1) * 500)
            .map(|n| {
                json!({
                    "id": n, "group": n % 7, "rank": (n * 7919) % 3000,
                    "title": format!("{} {}", word(n), word(n / 10)),
                    "body": format!("{} {} {} number {n}", word(n / 3), word(n / 7), word(n * 3)),
                })
            })
            .collect();
        let (_, summary) = http.json("POST", "/indexes/big/documents", json!(documents)).await;
        last = summary["taskUid"].as_u64().unwrap();
    }
    assert_eq!(http.wait(last).await["status"], "succeeded");
    assert_eq!(http.get("/indexes/big/stats").await.1["numberOfDocuments"], 3000);

    let searches = (0..8).map(|worker| {
        let http = http.clone();
        tokio::spawn(async move {
            let mut answers = Vec::new();
            for n in 0..10 {
                let q = words[n % words.len()];
                let query =
                    json!({ "q": q, "filter": format!("group = {}", n % 7), "sort": ["rank:asc"] });
                let mut found = http.search("big", query).await;
                assert!(
                    found["estimatedTotalHits"].as_u64().unwrap() > 0,
                    "worker {worker}: {found}"
                );
                found["requestUid"] = Value::Null;
                found["processingTimeMs"] = Value::Null;
                answers.push(found);
            }
            answers
        })
    });
    let mut reference = None;
    for search in searches.collect::<Vec<_>>() {
        let answers = search.await.unwrap();
        assert_eq!(reference.get_or_insert_with(|| answers.clone()), &answers);
    }
    node.stop().await;
}
