//! Facets: order, cutting, and exactness of the second round.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// A leaf's answer for one facet `f`, cut to `limit` values.
fn leaf(counts: &BTreeMap<String, u64>, by_count: bool, limit: usize) -> Page {
    let mut values: Vec<(&String, &u64)> = counts.iter().collect();
    if by_count {
        values.sort_by(|a, b| b.1.cmp(a.1).then_with(|| b.0.cmp(a.0)));
    }
    values.truncate(limit);
    let values: Vec<String> =
        values.into_iter().map(|(value, count)| format!("\"{value}\":{count}")).collect();
    page(&format!(
        r#"{{"hits":[],"estimatedTotalHits":50,"facetDistribution":{{"f":{{{}}},"_miroir_shard":{{"x":1}}}},"facetStats":{{}}}}"#,
        values.join(",")
    ))
}

fn options(by_count: bool, max: usize, node_limit: usize) -> FacetOptions {
    let order = if by_count { FacetOrder::Count } else { FacetOrder::Alpha };
    FacetOptions {
        max_values_per_facet: max,
        sort_by: [("*".to_owned(), order)].into_iter().collect(),
        node_limit,
        ..<_>::default()
    }
}

fn distribution(facets: &MergedFacets) -> String {
    let mut out = Vec::new();
    facets.write_distribution(&mut out);
    String::from_utf8(out).expect("UTF-8")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Where the bound holds, one round of answers makes the distribution that of one node.
    #[test]
    fn one_round_of_questions_makes_facets_exact(
        leaves in proptest::collection::vec(
            proptest::collection::btree_map("[a-h]", 1..20_u64, 0..9), 1..5),
        by_count in any::<bool>(),
        max in 1..5_usize,
        spare in 0..5_usize,
    ) {
        let limit = max + spare;
        let mut whole: BTreeMap<String, u64> = BTreeMap::new();
        for (value, count) in leaves.iter().flatten() {
            *whole.entry(value.clone()).or_default() += count;
        }
        let want = distribution(&merge_facets(
            &[leaf(&whole, by_count, usize::MAX)],
            &options(by_count, max, usize::MAX),
        ));
        let pages: Vec<Page> = leaves.iter().map(|counts| leaf(counts, by_count, limit)).collect();
        let merged = merge_facets(&pages, &options(by_count, max, limit));
        let answers: Vec<ClosedCount> = merged
            .open
            .iter()
            .flat_map(|open| open.leaves_to_ask.iter().map(|leaf| {
                let of = |value: &String| FacetValue::text(value) == open.value;
                let listed = leaves[*leaf].iter().find(|(value, _)| of(value));
                let count = listed.map(|(_, count)| *count).unwrap_or_default();
                (*leaf, open.facet.clone(), open.value.clone(), count)
            }))
            .collect();
        let complete = merged.clone().complete(&answers);
        prop_assert!(complete.open.is_empty());
        if complete.bound_holds {
            prop_assert_eq!(distribution(&complete), want);
        }
        prop_assert!(by_count || merged.bound_holds && merged.open.is_empty());
    }
}

#[test]
fn one_value_can_be_open() {
    let counts = |pairs: &[(&str, u64)]| {
        pairs.iter().map(|(value, count)| ((*value).to_owned(), *count)).collect::<BTreeMap<_, _>>()
    };
    // Both leaves list two values: `b` counts 9 on the first and at most 4 on the second.
    let pages = [
        leaf(&counts(&[("a", 20), ("b", 9), ("c", 1)]), true, 2),
        leaf(&counts(&[("a", 20), ("d", 4), ("b", 3)]), true, 2),
    ];
    let merged = merge_facets(&pages, &options(true, 2, 2));
    assert_eq!(
        merged.open,
        [
            OpenValue { facet: "f".into(), value: FacetValue::text("b"), leaves_to_ask: vec![1] },
            OpenValue { facet: "f".into(), value: FacetValue::text("d"), leaves_to_ask: vec![0] },
        ]
    );
    let merged = merged.complete(&[
        (1, "f".into(), FacetValue::text("b"), 3),
        (0, "f".into(), FacetValue::text("d"), 0),
        (0, "f".into(), FacetValue::text("d"), 7),
        (9, "f".into(), FacetValue::text("d"), 7),
        (0, "g".into(), FacetValue::text("zz"), 7),
    ]);
    assert_eq!(distribution(&merged), r#"{"f":{"a":40,"b":12}}"#);
}

#[test]
fn alphabetical_order_and_spelling() {
    let pages = [
        page(
            r#"{"estimatedTotalHits":9,"facetDistribution":{"_geo":{},"n":{"1":1,"10":2,"Delta Works":1,"Écru":2}},"facetStats":{"n":{"min":1.0,"max":10.0}}}"#,
        ),
        page(
            r#"{"estimatedTotalHits":9,"facetDistribution":{"n":{"-2":1,"3":1,"écru":1,"fjord":1}},"facetStats":{"n":{"min":-2.0,"max":3.0}}}"#,
        ),
    ];
    let merged = merge_facets(&pages, &options(false, 100, 1000));
    assert_eq!(
        distribution(&merged),
        r#"{"_geo":{},"n":{"-2":1,"1":1,"10":2,"3":1,"Delta Works":1,"Écru":3,"fjord":1}}"#
    );
    let mut stats = Vec::new();
    merged.write_stats(&mut stats);
    assert_eq!(stats, br#"{"n":{"min":-2.0,"max":10.0}}"#);
    // Many candidates in total: the value tree's order, which is the numbers' own.
    let many = [
        page(
            r#"{"estimatedTotalHits":2000,"facetDistribution":{"n":{"1":1,"10":2,"3":1}},"facetStats":{"n":{"min":1.0,"max":10.0}}}"#,
        ),
        page(
            r#"{"estimatedTotalHits":2000,"facetDistribution":{"n":{"2":1}},"facetStats":{"n":{"min":2.0,"max":2.0}}}"#,
        ),
    ];
    let merged = merge_facets(&many, &options(false, 100, 1000));
    assert_eq!(distribution(&merged), r#"{"n":{"1":1,"2":1,"3":1,"10":2}}"#);
}

#[test]
fn the_list_of_an_only_leaf_is_one_nodes() {
    let body = r#"{"estimatedTotalHits":9,"facetDistribution":{"n":{"2":1,"5":1,"3":9,"x":1}},"facetStats":{"n":{"min":2.0,"max":5.0}}}"#;
    let list = |max| distribution(&merge_facets(&[page(body)], &options(false, max, 1000)));
    assert_eq!(list(4), r#"{"n":{"2":1,"5":1,"3":9,"x":1}}"#);
    assert_eq!(list(1), r#"{"n":{"2":1}}"#);
}

#[test]
fn count_order_lists_numbers_first_and_ties_backwards() {
    let body = r#"{"estimatedTotalHits":9,"facetDistribution":{"n":{"2":1,"10":1,"c":5,"A":3,"b":3}},"facetStats":{"n":{"min":2.0,"max":10.0}}}"#;
    let merged = merge_facets(&[page(body), page("{}")], &options(true, 100, 1000));
    assert_eq!(distribution(&merged), r#"{"n":{"10":1,"2":1,"c":5,"b":3,"A":3}}"#);
    // Full of numbers, the engine never stops listing strings.
    let merged = merge_facets(&[page(body), page("{}")], &options(true, 2, 1000));
    assert_eq!(distribution(&merged), r#"{"n":{"10":1,"2":1,"c":5,"b":3,"A":3}}"#);
    let merged = merge_facets(&[page(body), page("{}")], &options(true, 3, 1000));
    assert_eq!(distribution(&merged), r#"{"n":{"10":1,"2":1,"c":5}}"#);
}

#[test]
fn facet_hits_of_leaves_are_added_up() {
    let bodies = [
        Bytes::from_static(br#"{"facetHits":[{"value":"Adventure","count":2},{"value":"Action","count":1}],"facetQuery":"a","processingTimeMs":1}"#),
        Bytes::from_static(br#"{"facetHits":[{"value":"action","count":1},{"value":"Animation","count":2}],"facetQuery":"a","processingTimeMs":1}"#),
    ];
    let mut options = FacetSearchOptions {
        max_values_per_facet: 2,
        order: FacetOrder::Count,
        query: true,
        processing_time_ms: 4,
    };
    assert_eq!(FacetHits::read(&bodies).expect("JSON").slowest_ms, 1);
    let merge = |options: &FacetSearchOptions| {
        let merged = FacetHits::read(&bodies).expect("merges").write(options);
        String::from_utf8(merged.to_vec()).expect("UTF-8")
    };
    assert_eq!(
        merge(&options),
        r#"{"facetHits":[{"value":"Animation","count":2},{"value":"Adventure","count":2}],"facetQuery":"a","processingTimeMs":4}"#
    );
    options.order = FacetOrder::Alpha;
    assert_eq!(
        merge(&options),
        r#"{"facetHits":[{"value":"Action","count":2},{"value":"Adventure","count":2}],"facetQuery":"a","processingTimeMs":4}"#
    );
}

#[test]
fn values_of_a_facet_search_are_spelt_as_the_first_document_does() {
    let long = "ab ".repeat(200);
    let body = |value: &str, count: u32| {
        let hit = json!({"value": value, "count": count});
        Bytes::from(json!({"facetHits": [hit], "facetQuery": null}).to_string())
    };
    let bodies = [body(&format!("{long}one"), 3), body(&format!("{long}two"), 2)];
    let options = FacetSearchOptions {
        max_values_per_facet: 2,
        order: FacetOrder::Alpha,
        query: false,
        processing_time_ms: 0,
    };
    let mut hits = FacetHits::read(&bodies).expect("JSON");
    let disputed = hits.disputed("f", &options);
    let [value] = &disputed[..] else { panic!("{disputed:?}") };
    assert_eq!((value.value.clone(), value.count), (FacetValue::text(&long.repeat(2)), 5));
    assert_eq!(value.leaves, [0, 1]);
    hits.spell(&[(value.clone(), format!("{long}two"))]);
    assert!(hits.disputed("f", &options).is_empty());
    let shown: Value = serde_json::from_slice(&hits.write(&options)).expect("JSON");
    assert_eq!(shown["facetHits"], json!([{"value": format!("{long}two"), "count": 5}]));
}

#[test]
fn a_value_nobody_listed_can_matter() {
    let counts = |pairs: &[(&str, u64)]| {
        pairs.iter().map(|(value, count)| ((*value).to_owned(), *count)).collect::<BTreeMap<_, _>>()
    };
    // `z` counts 8 in all, more than any value listed, and no leaf lists it.
    let pages = [
        leaf(&counts(&[("a", 5), ("z", 4)]), true, 1),
        leaf(&counts(&[("b", 5), ("z", 4)]), true, 1),
    ];
    assert!(!merge_facets(&pages, &options(true, 1, 1)).bound_holds);
    // With lists long enough to see that nothing is left, the bound holds.
    let pages =
        [leaf(&counts(&[("a", 5), ("z", 4)]), true, 3), leaf(&counts(&[("b", 5)]), true, 3)];
    assert!(merge_facets(&pages, &options(true, 1, 3)).bound_holds);
}

#[test]
fn a_list_that_ends_before_its_limit_says_all_counts() {
    let list = [("Red", 3), ("10", 2), ("2.5", 1)];
    let text = FacetValue::text;
    let numbers = [10.0, 2.5].map(FacetValue::number);
    let wanted = [text("RED "), numbers[0].clone(), text("10"), numbers[1].clone(), text("blue")];
    let counts = counts_of(&list, &wanted, 4);
    assert_eq!(counts, [Some(3), Some(2), Some(2), Some(1), Some(0)]);
    // A full list may have had no room for it.
    assert_eq!(counts_of(&list, &wanted, 3)[4], None);
    assert_eq!(counts_of(&[], [], 0), []);
}

/// What a node would list of a facet: numbers first, strings in the places of numbers written like them.
fn node(
    numbers: &BTreeMap<u64, u64>,
    strings: &BTreeMap<String, u64>,
) -> (Page, Vec<(String, u64)>) {
    let mut list: Vec<(String, u64)> =
        numbers.iter().map(|(number, count)| (number.to_string(), *count)).collect();
    list.sort();
    for (text, count) in strings {
        match list.iter_mut().find(|(shown, _)| shown == text) {
            Some((_, shown)) => *shown = *count,
            None => list.push((text.clone(), *count)),
        }
    }
    let values: Vec<String> =
        list.iter().map(|(text, count)| format!("{text:?}:{count}")).collect();
    let (min, max) = (numbers.keys().min(), numbers.keys().max());
    let stats = min.zip(max).map(|(min, max)| format!(r#""f":{{"min":{min}.0,"max":{max}.0}}"#));
    let page = page(&format!(
        r#"{{"estimatedTotalHits":50,"facetDistribution":{{"f":{{{}}}}},"facetStats":{{{}}}}}"#,
        values.join(","),
        stats.unwrap_or_default()
    ));
    (page, list)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Numbers and strings that are written like them are counted apart and shown as by one node.
    #[test]
    fn strings_take_the_places_of_numbers_written_like_them(
        leaves in proptest::collection::vec((
            proptest::collection::btree_map(1..6_u64, 1..20_u64, 0..4),
            proptest::collection::btree_map("[1-5x]", 1..20_u64, 0..4)), 1..5),
    ) {
        let (mut numbers, mut strings) = (BTreeMap::new(), BTreeMap::new());
        for (of_leaf, texts) in &leaves {
            for (number, count) in of_leaf {
                *numbers.entry(*number).or_insert(0) += count;
            }
            for (text, count) in texts {
                *strings.entry(text.clone()).or_insert(0) += count;
            }
        }
        // A leaf shows something but numbers, or there is no telling.
        prop_assume!(strings.contains_key("x"));
        let pages: Vec<Page> = leaves.iter().map(|(numbers, strings)| node(numbers, strings).0).collect();
        let asked = doubtful_numbers(&pages, &FacetOptions::default());
        let namesakes: Vec<Namesakes> = asked
            .iter()
            .flat_map(|(_, leaves)| leaves)
            .flat_map(|leaf| (1..6_u64).map(move |number| (*leaf, number)))
            .map(|(leaf, number)| Namesakes {
                leaf,
                facet: "f".to_owned(),
                display: number.to_string(),
                number: leaves[leaf].0.get(&number).copied().unwrap_or_default(),
                text: leaves[leaf].1.get(&number.to_string()).copied().unwrap_or_default(),
            })
            .collect();
        let merged = merge_facets_apart(&pages, &options(false, 100, 1000), Some(&namesakes));
        prop_assert_eq!(&merged.distribution.unwrap()[0].1, &node(&numbers, &strings).1);
        let dropped = FacetOptions { drop_facets: vec!["f".to_owned()], ..FacetOptions::default() };
        prop_assert!(doubtful_numbers(&pages, &dropped).is_empty());
    }
}

#[test]
fn values_are_joined_by_their_normal_form() {
    let long = "x".repeat(468);
    let body = |values: &[(String, u64)]| {
        let list: Vec<String> =
            values.iter().map(|(value, count)| format!("{}:{count}", json!(value))).collect();
        page(&format!(
            r#"{{"estimatedTotalHits":9,"facetDistribution":{{"f":{{{}}}}},"facetStats":{{}}}}"#,
            list.join(",")
        ))
    };
    let of = |values: &[(&str, u64)]| {
        let list: Vec<_> =
            values.iter().map(|(text, count)| ((*text).to_owned(), *count)).collect();
        body(&list)
    };
    let pages = [
        of(&[("Cafe\u{301}", 1), ("Part Ⅱ", 1), (&format!("{long}1"), 1)]),
        of(&[("CAFÉ", 2), (" part ii", 1), (&format!("{long}2"), 2)]),
    ];
    let merged = merge_facets(&pages, &options(false, 2, 10)).distribution.unwrap();
    assert_eq!(merged[0].1, [("CAFÉ".to_owned(), 3), ("Part Ⅱ".to_owned(), 2)]);
    let merged = merge_facets(&pages, &options(false, 9, 10)).distribution.unwrap();
    assert_eq!(merged[0].1[2], (format!("{long}2"), 3));
}

#[test]
fn a_string_that_reads_like_a_number_is_known_by_its_place() {
    let of = |list: &str| {
        page(&format!(
            r#"{{"estimatedTotalHits":3,"facetDistribution":{{"f":{{{list}}}}},"facetStats":{{"f":{{"min":0.0,"max":20.0}}}}}}"#
        ))
    };
    let shown = |list: &str, by_count: bool| {
        let merged = merge_facets(&[of(list), of("")], &options(by_count, 9, 9)).distribution;
        merged.unwrap()[0].1.iter().map(|(value, _)| value.clone()).collect::<Vec<_>>()
    };
    assert_eq!(shown(r#""0":1,"20":1,"0.5":1"#, false), ["0", "20", "0.5"]);
    // As texts, by their size, and by count: these may be numbers.
    assert_eq!(shown(r#""0":1,"10":1,"20":1,"3":1"#, false), ["0", "10", "20", "3"]);
    assert_eq!(shown(r#""0":1,"3":1,"10":1,"20":1"#, false), ["0", "10", "20", "3"]);
    assert_eq!(shown(r#""20":3,"0":2,"3":1"#, true), ["20", "0", "3"]);
    let doubtful = |by_count| {
        doubtful_numbers(&[of(r#""0":1,"20":1,"0.5":1"#)], &options(by_count, 9, 9)).len()
    };
    assert_eq!((doubtful(false), doubtful(true)), (1, 0));
}
