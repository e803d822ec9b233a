//! What differs, and only that.

use proptest::prelude::*;
use serde_json::json;

use super::*;

#[allow(clippy::unnecessary_wraps, reason = "not every index has one")]
fn key(_: &str) -> Option<String> {
    Some("id".to_owned())
}

fn compared(shape: Shape, first: &Value, second: &Value) -> Option<Difference> {
    let (first, second) = (first.to_string(), second.to_string());
    difference(shape, Some("m"), &key, first.as_bytes(), second.as_bytes())
}

fn hits(ids: &[u32]) -> Value {
    json!({ "hits": ids.iter().map(|id| json!({ "id": id })).collect::<Vec<_>>() })
}

#[test]
fn hits_are_known_by_their_key() {
    let first =
        json!({ "hits": [{ "id": 1, "a": 1, "_rankingScore": 0.9 }, { "id": 2 }, { "id": 3 }] });
    let second =
        json!({ "hits": [{ "id": 3 }, { "a": 1, "id": 1, "_formatted": {} }, { "id": 4 }] });
    let found = compared(Shape::Hits, &first, &second).unwrap();
    assert_eq!(
        (found.missing, found.extra, found.changed.len()),
        (vec!["2".into()], vec!["4".into()], 0)
    );
    assert_eq!(found.taus, [-1.0]);
    let second = json!({ "hits": [{ "id": 1, "a": 2 }, { "id": 2 }, { "id": 3 }] });
    let found = compared(Shape::Hits, &first, &second).unwrap();
    assert_eq!((found.changed, found.taus), (vec!["1".to_owned()], vec![1.0]));
    // Without the key the contents are the id.
    let (first, second) = (json!({ "hits": [{ "t": "a" }] }), json!({ "hits": [{ "t": "b" }] }));
    let found = compared(Shape::Hits, &first, &second).unwrap();
    assert_eq!(
        (found.missing, found.extra),
        (vec!["{\"t\":\"a\"}".to_owned()], vec!["{\"t\":\"b\"}".to_owned()])
    );
}

#[test]
fn every_shape_has_its_documents() {
    let facets = |count| json!({ "facetHits": [{ "value": "red", "count": count }] });
    assert_eq!(compared(Shape::FacetHits, &facets(1), &facets(1)), Some(Difference::default()));
    assert_eq!(compared(Shape::FacetHits, &facets(1), &facets(2)).unwrap().changed, ["red"]);
    let queries = |a: &[u32], b: &[u32]| {
        let one = |index: &str, ids| {
            let mut one = hits(ids);
            one["indexUid"] = index.into();
            one
        };
        json!({ "results": [one("a", a), one("b", b)] })
    };
    let found = compared(Shape::Queries, &queries(&[1, 2], &[1]), &queries(&[2, 1], &[3])).unwrap();
    assert_eq!(found.missing, ["b/1"]);
    assert_eq!(found.extra, ["b/3"]);
    assert_eq!(found.taus, [-1.0]);
    let one = json!({ "results": [hits(&[1])] });
    let two = json!({ "results": [hits(&[1]), hits(&[2])] });
    assert_eq!(compared(Shape::Queries, &one, &two).unwrap().extra, ["2"]);
    let federated =
        |index: &str| json!({ "hits": [{ "id": 1, "_federation": { "indexUid": index } }] });
    let found = compared(Shape::Hits, &federated("a"), &federated("b")).unwrap();
    assert_eq!((found.missing, found.extra), (vec!["a/1".to_owned()], vec!["b/1".to_owned()]));
    let list = |v| json!({ "results": [{ "id": "x", "v": v }], "total": 1 });
    assert_eq!(compared(Shape::Documents, &list(1), &list(2)).unwrap().changed, ["x"]);
    assert_eq!(
        compared(Shape::Document, &json!({ "id": 5, "v": 1 }), &json!({ "id": 5 }))
            .unwrap()
            .changed,
        ["5"]
    );
    assert_eq!(compared(Shape::Opaque, &json!(1), &json!(2)), Some(Difference::default()));
}

#[test]
fn what_has_not_the_shape_is_said_so() {
    assert_eq!(compared(Shape::Hits, &hits(&[1]), &json!({ "results": [] })), None);
    assert_eq!(compared(Shape::Queries, &json!([]), &json!({ "results": [] })), None);
    assert_eq!(difference(Shape::Hits, None, &key, b"{\"hits\":[]}", b"<html>"), None);
}

#[test]
fn tau_has_its_known_values() {
    assert_eq!(kendall_tau(&[]), None);
    assert_eq!(kendall_tau(&[3]), None);
    assert_eq!(kendall_tau(&[1, 5, 9]), Some(1.0));
    assert_eq!(kendall_tau(&[9, 5, 1]), Some(-1.0));
    // Ten pairs, of which 2 are discordant.
    assert_eq!(kendall_tau(&[1, 0, 2, 4, 3]), Some(0.6));
}

/// By its definition: concordant less discordant pairs.
fn tau_by_pairs(positions: &[usize]) -> f64 {
    let (mut agree, mut all) = (0_i64, 0_i64);
    for (at, first) in positions.iter().enumerate() {
        for second in &positions[at + 1..] {
            agree += if first < second { 1 } else { -1 };
            all += 1;
        }
    }
    agree as f64 / all as f64
}

fn items() -> impl Strategy<Value = Vec<Item>> {
    let item = (0_u8..20, 0_u8..3)
        .prop_map(|(id, content)| Item { id: id.to_string(), content: content.to_string() });
    prop::collection::vec(item, 0..15)
}

proptest! {
    #[test]
    fn tau_is_what_its_definition_says(order in Just((0..40).collect::<Vec<usize>>()).prop_shuffle(), n in 2..40_usize) {
        let tau = kendall_tau(&order[..n]).unwrap();
        prop_assert!((tau - tau_by_pairs(&order[..n])).abs() < 1e-12);
        prop_assert!((-1.0..=1.0).contains(&tau));
        let mut reverse = order[..n].to_vec();
        reverse.reverse();
        prop_assert!((tau + kendall_tau(&reverse).unwrap()).abs() < 1e-12);
    }

    #[test]
    fn a_list_does_not_differ_from_itself(list in items()) {
        let mut found = Difference::default();
        found.compare(&list, &list);
        prop_assert!(!found.in_hits());
        prop_assert!(found.taus.iter().all(|tau| *tau == 1.0));
    }

    #[test]
    fn turning_it_round_swaps_missing_and_extra(first in items(), second in items()) {
        let (mut there, mut back) = (Difference::default(), Difference::default());
        there.compare(&first, &second);
        back.compare(&second, &first);
        let sorted = |mut list: Vec<String>| { list.sort(); list };
        prop_assert_eq!(sorted(there.missing), sorted(back.extra));
        prop_assert_eq!(sorted(there.extra), sorted(back.missing));
        prop_assert_eq!(sorted(there.changed), sorted(back.changed));
        prop_assert_eq!(there.taus.len(), back.taus.len());
        for (one, other) in there.taus.iter().zip(&back.taus) {
            prop_assert!((one - other).abs() < 1e-12);
        }
    }

    #[test]
    fn no_bytes_panic(first in prop::collection::vec(any::<u8>(), 0..60), second in ".{0,60}") {
        for shape in [Shape::Hits, Shape::FacetHits, Shape::Queries, Shape::Documents, Shape::Document] {
            let _ = difference(shape, None, &key, &first, second.as_bytes());
        }
    }
}
