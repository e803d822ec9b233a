//! Reading requests.

use super::*;

fn queries(text: &str) -> Option<Vec<(String, String)>> {
    let multi = MultiSearch::parse(text.as_bytes());
    let queries = multi.queries?;
    Some(
        queries
            .iter()
            .map(|q| (q.index.clone(), String::from_utf8(q.body.to_bytes().to_vec()).unwrap()))
            .collect(),
    )
}

#[test]
fn what_cannot_be_read_is_left_to_a_node() {
    for text in [
        "[]",
        "{}",
        "{\"queries\":null}",
        "{\"queries\":{}}",
        "{\"queries\":[5]}",
        "{\"queries\":[{\"q\":\"a\"}]}",
        "{\"queries\":[{\"indexUid\":\"bad uid\"}]}",
        "{\"queries\":[],\"unknown\":1}",
        "{\"queries\":[],\"federation\":5}",
    ] {
        assert_eq!(queries(text), None, "{text}");
    }
    assert_eq!(queries("{\"queries\":[],\"federation\":null}"), Some(Vec::new()));
    assert_eq!(
        queries("{\"queries\":[{\"q\":\"a\",\"indexUid\":\"m\",\"limit\":2}]}"),
        Some(vec![("m".to_owned(), "{\"q\":\"a\",\"limit\":2}".to_owned())])
    );
}

#[test]
fn each_query_can_be_restricted() {
    let body = b"{\"queries\":[{\"indexUid\":\"a\"},{\"indexUid\":\"b\",\"filter\":\"x = 1\"}]}";
    let mut op = Operation::MultiSearch(Arc::new(MultiSearch::parse(body)));
    assert_eq!(op.searched(), ["a", "b"]);
    op.restrict(1, &RawValue::from_string("\"y = 2\"".to_owned()).unwrap());
    op.restrict(7, &RawValue::from_string("\"z = 3\"".to_owned()).unwrap());
    let Operation::MultiSearch(multi) = op else { unreachable!("it was one") };
    let bodies: Vec<Bytes> = multi.queries().map(|query| query.body.to_bytes()).collect();
    assert_eq!(bodies, ["{}", "{\"filter\":[\"x = 1\",\"y = 2\"]}"]);
}

#[test]
fn a_restricted_request_can_be_written_again() {
    let text = r#"{"federation":{"limit":3},"queries":[{"q":"a","indexUid":"m","federationOptions":{"weight":2.0}},{"indexUid":"n"}]}"#;
    let mut multi = MultiSearch::parse(text.as_bytes());
    assert_eq!(multi.body().unwrap(), text.as_bytes());
    multi.restrict(1, &RawValue::from_string("\"y = 2\"".to_owned()).unwrap());
    let written = multi.body().unwrap();
    let again = MultiSearch::parse(&written);
    assert!(again.is_federated());
    let bodies: Vec<Bytes> = again.queries().map(|query| query.body.to_bytes()).collect();
    assert_eq!(bodies, ["{\"q\":\"a\"}", "{\"filter\":\"y = 2\"}"]);
    assert_eq!(MultiSearch::parse(b"[]").body(), None);
}

#[test]
fn an_error_of_a_query_says_which() {
    let (status, body) = inside(&Error::index_not_found("a"), 3, "a").render();
    let value: Value = serde_json::from_slice(&body.unwrap()).unwrap();
    assert_eq!(status.as_u16(), 400);
    assert_eq!(value["message"], "Inside `.queries[3]`: Index `a` not found.");
    assert_eq!(value["code"], "index_not_found");
}
