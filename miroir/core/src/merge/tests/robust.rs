//! Arbitrary input neither panics nor gives different answers twice.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z_\"\\\\é\u{e000}]{0,6}".prop_map(Value::from),
    ];
    let name = prop_oneof![
        Just("hits".to_owned()),
        Just("_rankingScoreDetails".to_owned()),
        Just("_rankingScore".to_owned()),
        Just("_formatted".to_owned()),
        Just("facetDistribution".to_owned()),
        Just("facetStats".to_owned()),
        Just("_miroir_shard".to_owned()),
        Just("results".to_owned()),
        Just("_federation".to_owned()),
        Just("proximity".to_owned()),
        Just("score".to_owned()),
        Just("typo".to_owned()),
        Just("pin".to_owned()),
        Just("position".to_owned()),
        Just("price:asc".to_owned()),
        Just("value".to_owned()),
        "[a-z_\"\\\\é]{0,6}",
    ];
    leaf.prop_recursive(5, 64, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::vec((name.clone(), inner), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn check(bodies: &[Bytes]) -> Result<(), TestCaseError> {
    let pages: Vec<Page> = bodies.iter().filter_map(|body| Page::decode(body).ok()).collect();
    let facets = FacetOptions { max_values_per_facet: 3, node_limit: 2, ..<_>::default() };
    let mut request = request();
    request.facets = Facets::Merge(&facets);
    for show in [false, true] {
        request.hits = HitOptions {
            show_score: show,
            show_details: show,
            distinct: Some("a".to_owned()),
            drop_formatted: vec!["a".to_owned()],
            ..<_>::default()
        };
        let once = merge_search(&pages, &request);
        prop_assert_eq!(&once, &merge_search(&pages, &request));
        prop_assert!(std::str::from_utf8(&once).is_ok());
    }
    for sorted in [false, true] {
        let options = DocumentOptions { limit: 5, sorted, ..<_>::default() };
        let _ = merge_documents(bodies, &options);
    }
    for body in bodies {
        let _ = strip_reserved(body);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn arbitrary_answers_cause_no_panic_and_no_broken_json(hits in proptest::collection::vec(any_json(), 0..6), rest in any_json()) {
        let hits: Vec<Value> = hits.into_iter().filter(Value::is_object).collect();
        let mut answer = json!({"hits": hits, "results": hits, "estimatedTotalHits": 3});
        if let (Value::Object(answer), Value::Object(rest)) = (&mut answer, rest) {
            answer.extend(rest);
        }
        let body = Bytes::from(answer.to_string());
        check(&[body.clone(), body.clone()])?;
        // What is not JSON in the answer was not JSON in a leaf's.
        if let Ok(page) = Page::decode(&body) {
            let _: Value = serde_json::from_slice(&merge_search(&[page], &request()))
                .map_err(|error| TestCaseError::fail(error.to_string()))?;
        }
    }

    #[test]
    fn arbitrary_bytes_cause_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        check(&[Bytes::from(bytes)])?;
    }

    #[test]
    fn damaged_answers_cause_no_panic(cut in 0..400_usize, byte in any::<u8>(), at in 0..400_usize) {
        let mut body = br#"{"hits":[{"id":1,"a":["x\"y",{}],"_formatted":{"_miroir_x":"1"},"_rankingScore":0.5,"_rankingScoreDetails":{"words":{"order":0,"matchingWords":2,"maxMatchingWords":3,"score":0.6},"proximity":{"order":1,"score":0.5}}}],"facetDistribution":{"a":{"1":2,"x":1}},"facetStats":{"a":{"min":1.0,"max":1.0}},"estimatedTotalHits":1}"#.to_vec();
        body.truncate(cut);
        if let Some(slot) = body.get_mut(at) {
            *slot = byte;
        }
        let body = Bytes::from(body);
        check(&[body.clone(), body])?;
    }
}

#[test]
fn deep_nesting_is_not_recursion() {
    let deep =
        format!(r#"{{"hits":[{{"id":1,"a":{}{}}}]}}"#, "[".repeat(100_000), "]".repeat(100_000));
    let mut request = request();
    request.hits.distinct = Some("a".to_owned());
    assert_eq!(merged(&[page(&deep)], &request).matches('[').count(), 100_001);
}

#[test]
fn no_leaves_make_an_empty_answer() {
    assert_eq!(ids(&value(&[], &request())), [] as [u64; 0]);
    let merged = merge_documents(&[], &DocumentOptions { sorted: true, ..<_>::default() });
    assert_eq!(&merged.expect("merges")[..], br#"{"results":[],"offset":0,"limit":0,"total":0}"#);
}
