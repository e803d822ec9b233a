//! The sample queries, as data.

use serde_json::{Value, json};

use super::INDEX;
use crate::catalogue::Random;

/// How the answers of a query are compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A search: hits by rank, ties may change places.
    Search,
    /// A list of documents, ordered by these fields; those with equal values may change places.
    List(&'static [&'static str]),
    /// Everything has to be equal.
    Exact,
    /// Pages of this size: together they show every document once.
    Walk(usize),
}

/// A sample query.
#[derive(Clone, Debug)]
pub(super) struct Query {
    /// Row of the table it counts in.
    pub(super) area: &'static str,
    /// Method.
    pub(super) method: &'static str,
    /// Path with query string.
    pub(super) path: String,
    /// JSON body.
    pub(super) body: Option<Value>,
    /// How it is compared.
    pub(super) kind: Kind,
}

fn search(area: &'static str, body: Value) -> Query {
    let path = format!("/indexes/{INDEX}/search");
    Query { area, method: "POST", path, body: Some(body), kind: Kind::Search }
}

fn get(area: &'static str, path: &str, kind: Kind) -> Query {
    Query { area, method: "GET", path: format!("/indexes/{INDEX}{path}"), body: None, kind }
}

fn fetch(body: Value, order: &'static [&'static str]) -> Query {
    let path = format!("/indexes/{INDEX}/documents/fetch");
    Query {
        area: "list documents",
        method: "POST",
        path,
        body: Some(body),
        kind: Kind::List(order),
    }
}

/// Queries of the sample catalogue.
pub(super) fn of_the_catalogue() -> Vec<Query> {
    let mut all = Vec::new();
    for text in [
        "tent",
        "waterproof tent",
        "ultralight backpack",
        "sleeping bag for winter",
        "merino wool socks",
        "mountain rescue",
        "rain jacket moss green",
        "titanium water filter in Bergen",
        "\"head torch\"",
        "tent -family",
        "Zürich",
        "saeter",
        "Gritstone & Sons",
        "rucksack",
        "headlamp",
        "2-person",
        "nothing matches xyzzyplugh",
    ] {
        all.push(search("text", json!({ "q": text })));
    }
    for text in ["ultralight tent glacier blue", "carbon trekking poles repair"] {
        all.push(search("text", json!({ "q": text, "matchingStrategy": "all" })));
    }
    for text in
        ["waterprof tent", "sleping bag", "compas", "innsbrck", "hikng bots", "ptarmigen suply"]
    {
        all.push(search("typos", json!({ "q": text, "limit": 40 })));
    }
    for text in ["t", "wat", "sle ba", "ultra", "hiking bo", "avalan"] {
        all.push(search("prefix", json!({ "q": text, "limit": 30 })));
    }
    for filter in [
        json!("brand = Kestrelworks"),
        json!("price < 50 AND in_stock = true"),
        json!("price 100 TO 120"),
        json!("categories = Tents OR categories = Tarps"),
        json!("NOT country IN [Austria, Germany, Switzerland]"),
        json!("rating IS NULL"),
        json!("colour IS NOT NULL AND colour != teal"),
        json!("vegan NOT EXISTS AND rating >= 4.5"),
        json!("tags IS EMPTY AND stock > 200"),
        json!("dimensions.length_cm > 200"),
        json!("sizes = 42 OR sizes = 'one size'"),
        json!("released_at > 1704067200"),
        json!([["brand = Isbre", "brand = Lavvo"], "price < 200"]),
    ] {
        all.push(search("filters", json!({ "filter": filter, "limit": 25 })));
        if all.len() % 3 == 0 {
            all.push(search("filters", json!({ "q": "light", "filter": filter, "limit": 25 })));
        }
    }
    all.push(search("facets", json!({ "q": "", "facets": ["*"], "limit": 0 })));
    all.push(search("facets", json!({ "q": "tent", "facets": ["brand", "categories", "price"] })));
    all.push(search("facets", json!({ "facets": ["tags"], "filter": "price < 80", "limit": 1 })));
    all.push(search("facets", json!({ "q": "winter", "facets": ["tags", "country", "vegan"] })));
    all.push(search("facets", json!({ "q": "xyzzyplugh", "facets": ["brand"] })));
    all.push(search("facets", json!({ "facets": ["sizes", "rating"], "page": 2 })));
    for sort in [
        json!(["price:asc"]),
        json!(["rating:desc", "price:asc"]),
        json!(["title:asc"]),
        json!(["released_at:desc", "weight_g:asc"]),
    ] {
        all.push(search("sort", json!({ "sort": sort, "limit": 50 })));
        all.push(search("sort", json!({ "q": "jacket", "sort": sort, "limit": 50 })));
    }
    let near = "_geoPoint(47.2692, 11.4041)";
    for body in [
        json!({ "sort": [format!("{near}:asc")], "limit": 60 }),
        json!({ "sort": [format!("{near}:desc")], "limit": 20 }),
        json!({ "q": "boots", "sort": [format!("{near}:asc"), "price:desc"] }),
        json!({ "filter": "_geoRadius(47.2692, 11.4041, 20000)", "limit": 100 }),
        json!({ "filter": "_geoRadius(60.3913, 5.3221, 8000) AND price < 300",
                "sort": ["_geoPoint(60.3913, 5.3221):asc"] }),
        json!({ "filter": "_geoBoundingBox([48.5, 15.0], [46.0, 7.0])", "limit": 40 }),
        json!({ "q": "tent", "filter": "_geoRadius(48.1351, 11.5820, 300000)",
                "sort": ["_geoPoint(48.1351, 11.5820):asc"], "facets": ["country"] }),
    ] {
        all.push(search("geo", body));
    }
    for body in [
        json!({ "q": "backpack", "offset": 20, "limit": 20 }),
        json!({ "q": "backpack", "offset": 95, "limit": 7, "sort": ["price:asc"] }),
        json!({ "q": "shoes", "offset": 5_000, "limit": 10 }),
        json!({ "q": "backpack", "limit": 0 }),
        json!({ "q": "backpack", "page": 1 }),
        json!({ "q": "backpack", "page": 3, "hitsPerPage": 15 }),
        json!({ "q": "backpack", "page": 999, "hitsPerPage": 15 }),
        json!({ "q": "rope", "hitsPerPage": 0 }),
        json!({ "sort": ["price:desc"], "page": 100, "hitsPerPage": 50 }),
    ] {
        all.push(search("paging", body));
    }
    all.push(get("paging", "/search?q=&limit=", Kind::Walk(400)));
    all.push(get("paging", "/search?q=&hitsPerPage=", Kind::Walk(500)));
    all.push(search("placeholder", json!({})));
    all.push(search("placeholder", json!({ "q": null, "limit": 100 })));
    all.push(search("placeholder", json!({ "q": "   ", "filter": "brand = Yarrow" })));
    for body in [
        json!({ "q": "glacier tent", "attributesToHighlight": ["*"], "showMatchesPosition": true }),
        json!({ "q": "repair", "attributesToCrop": ["description"], "cropLength": 8,
                "attributesToHighlight": ["title"], "highlightPreTag": "<b>",
                "highlightPostTag": "</b>" }),
        json!({ "q": "down jacket", "attributesToRetrieve": ["id", "title"],
                "showRankingScore": true }),
        json!({ "q": "down jacket", "rankingScoreThreshold": 0.8, "showRankingScore": true }),
        json!({ "q": "bergen", "attributesToSearchOn": ["title", "city"] }),
    ] {
        all.push(search("presentation", body));
    }
    all.push(get("get form", "/search?q=tent&limit=5&filter=price%20%3C%20200", Kind::Search));
    all.push(get("get form", "/search?q=tent&facets=brand&sort=price:asc", Kind::Search));
    all.push(get("get document", "/documents/og-00000", Kind::Exact));
    all.push(get("get document", "/documents/og-05999?fields=title,price,_geo", Kind::Exact));
    all.push(get("get document", "/documents/og-99999", Kind::Exact));
    let fields = json!(["id", "price", "title", "rating"]);
    all.push(fetch(json!({ "sort": ["price:asc"], "limit": 50, "fields": fields }), &["price"]));
    all.push(fetch(
        json!({ "sort": ["rating:desc", "price:asc"], "offset": 30, "limit": 40, "fields": fields }),
        &["rating", "price"],
    ));
    all.push(fetch(
        json!({ "filter": "brand = Tarnside AND price > 300", "sort": ["title:asc"],
                "limit": 200, "fields": fields }),
        &["title"],
    ));
    all.push(fetch(json!({ "filter": "stock = 0", "limit": 30, "fields": ["id", "stock"] }), &[]));
    all.push(fetch(json!({ "ids": ["og-00003", "og-04242", "og-77777"] }), &[]));
    all.push(get("list documents", "/documents?limit=10&offset=100&fields=id", Kind::List(&[])));
    all.push(get("list documents", "/documents?limit=", Kind::Walk(750)));
    all.push(search("errors", json!({ "filter": "price <" })));
    all.push(search("errors", json!({ "filter": "city = Bergen" })));
    all.push(search("errors", json!({ "sort": ["city:asc"] })));
    all.push(search("errors", json!({ "q": 5 })));
    all.push(search("errors", json!({ "facets": ["city"] })));
    all.push(search("errors", json!({ "lmit": 5 })));
    all
}

/// Queries made of the words of somebody's own documents.
pub(super) fn of(documents: &[Value], primary_key: &str) -> Vec<Query> {
    let mut all = vec![
        search("placeholder", json!({})),
        search("placeholder", json!({ "limit": 100 })),
        search("paging", json!({ "page": 2, "hitsPerPage": 10 })),
        get("paging", "/search?q=&hitsPerPage=", Kind::Walk(500)),
        get("list documents", "/documents?limit=", Kind::Walk(500)),
        get("list documents", "/documents?limit=10&offset=5", Kind::List(&[])),
    ];
    let mut random = Random::new(documents.len() as u64);
    let mut text = || {
        let document = random.pick(documents);
        let words: Vec<String> = document
            .as_object()
            .into_iter()
            .flat_map(|fields| fields.values())
            .filter_map(Value::as_str)
            .flat_map(str::split_whitespace)
            .map(|word| word.chars().filter(|c| c.is_alphanumeric()).collect::<String>())
            .filter(|word| word.chars().count() > 4)
            .collect();
        if words.is_empty() { String::new() } else { random.pick(&words).clone() }
    };
    for number in 0..15 {
        all.push(search("text", json!({ "q": text() })));
        all.push(search("text", json!({ "q": format!("{} {}", text(), text()), "limit": 40 })));
        all.push(search("prefix", json!({ "q": text().chars().take(3).collect::<String>() })));
        let mut typo: Vec<char> = text().chars().collect();
        if typo.len() > 4 {
            typo.swap(2, 3);
        }
        all.push(search("typos", json!({ "q": typo.iter().collect::<String>() })));
        all.push(search("paging", json!({ "q": text(), "offset": number, "limit": 5 })));
    }
    for number in 0..10 {
        let id = &documents[number * documents.len() / 10][primary_key];
        let id = id.as_str().map_or_else(|| id.to_string(), str::to_owned);
        all.push(get("get document", &format!("/documents/{id}"), Kind::Exact));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue;

    #[test]
    fn there_are_enough_of_every_kind() {
        let all = of_the_catalogue();
        assert!(all.len() >= 100, "{}", all.len());
        for area in ["text", "typos", "prefix", "filters", "facets", "sort", "geo", "paging"] {
            let count = all.iter().filter(|query| query.area == area).count();
            assert!(count >= 5, "{area}: {count}");
        }
        let documents: Vec<Value> = catalogue::documents(50).collect();
        let own = of(&documents, "id");
        assert!(own.len() >= 60);
        assert!(own.iter().filter(|q| q.area == "text").all(|q| q.body != Some(json!({"q": ""}))));
    }
}
