//! Document listings, single documents and statistics.

use std::borrow::Cow;

use miroir_api::TaskUid;

use super::*;
use crate::documents::Stamp;

fn listing(bodies: &[&str], options: &DocumentOptions) -> String {
    let bodies: Vec<Bytes> =
        bodies.iter().map(|body| Bytes::copy_from_slice(body.as_bytes())).collect();
    let merged = merge_documents(&bodies, options).expect("merges");
    String::from_utf8(merged.to_vec()).expect("UTF-8")
}

#[test]
fn unsorted_leaves_follow_each_other() {
    let bodies = [
        r#"{"results":[{"id":1,"_miroir_shard":"x"},{"id":2}],"offset":0,"limit":3,"total":2}"#,
        r#"{"results":[{"_miroir_shard":"y","id":3,"n":[1, 2]},{"id":4}],"offset":0,"limit":3,"total":7}"#,
    ];
    let options = DocumentOptions { offset: 1, limit: 2, ..<_>::default() };
    assert_eq!(
        listing(&bodies, &options),
        r#"{"results":[{"id":2},{"id":3,"n":[1, 2]}],"offset":1,"limit":2,"total":9}"#
    );
}

#[test]
fn listings_are_merged_in_each_leafs_own_order_by_stamp() {
    let leaf = |documents: &[(u64, u32)]| {
        let document = |(id, task): &(u64, u32)| {
            let stamp = Stamp::new(TaskUid(*task), 0).text();
            let stamp = std::str::from_utf8(&stamp).unwrap();
            format!(r#"{{"id":{id},"_miroir_shard":"x","_miroir_order":"{stamp}"}}"#)
        };
        let results: Vec<String> = documents.iter().map(document).collect();
        format!(r#"{{"results":[{}],"total":{}}}"#, results.join(","), documents.len())
    };
    let ids = |leaves: &[String], offset, limit| {
        let leaves: Vec<&str> = leaves.iter().map(String::as_str).collect();
        let merged = listing(&leaves, &DocumentOptions { offset, limit, sorted: false });
        let merged: serde_json::Value = serde_json::from_str(&merged).unwrap();
        let ids = merged["results"].as_array().unwrap().iter().map(|document| {
            assert_eq!(document.as_object().unwrap().len(), 1, "{document}");
            document["id"].as_u64().unwrap()
        });
        ids.collect::<Vec<_>>()
    };
    let ordered = [leaf(&[(1, 1), (4, 4), (5, 5)]), leaf(&[(2, 2), (3, 3), (6, 6)])];
    assert_eq!(ids(&ordered, 0, 10), [1, 2, 3, 4, 5, 6]);
    // One that descends keeps its own order, and pages fit together all the same.
    let descending = [leaf(&[(9, 9), (1, 1), (2, 2)]), leaf(&[(3, 3), (10, 10)])];
    assert_eq!(ids(&descending, 0, 10), [3, 9, 1, 2, 10]);
    let paged: Vec<u64> = (0..5).flat_map(|page| ids(&descending, page, 1)).collect();
    assert_eq!(paged, [3, 9, 1, 2, 10]);
}

#[test]
fn sorted_leaves_are_merged_by_value() {
    let leaf = |documents: &[(u64, &str)]| {
        let results: Vec<String> = documents
            .iter()
            .map(|(id, value)| {
                format!(r#"{{"id":{id},"_federation":{{"weightedScoreValues":[{{"sort":{{"asc":false,"value":{value}}}}},{{"geoSort":{{"asc":true,"distance":{id}.5}}}}]}}}}"#)
            })
            .collect();
        format!(r#"{{"results":[{}],"total":{}}}"#, results.join(","), documents.len())
    };
    let first = leaf(&[(1, "9"), (4, "2.5"), (6, "\"b\""), (8, "null")]);
    let second = leaf(&[(2, "9.0"), (3, "3"), (5, "\"c\""), (7, "\"a\"")]);
    let options = DocumentOptions { limit: 20, sorted: true, ..<_>::default() };
    assert_eq!(
        listing(&[&second, &first], &options),
        r#"{"results":[{"id":1},{"id":2},{"id":3},{"id":4},{"id":5},{"id":6},{"id":7},{"id":8}],"offset":0,"limit":20,"total":8}"#
    );
}

#[test]
fn reserved_fields_of_one_document() {
    let strip = |document: &str| String::from_utf8(strip_reserved(document.as_bytes()).to_vec());
    assert!(matches!(strip_reserved(b"{\"id\":1}"), Cow::Borrowed(_)));
    assert_eq!(
        strip(
            r#"{"_miroir_shard":"x","id": 1,"_miroir_b":1,"a":{"_miroir_shard":2},"_miroir_updated_at":"y"}"#
        ),
        Ok(r#"{"id": 1,"_miroir_b":1,"a":{"_miroir_shard":2}}"#.to_owned())
    );
    assert_eq!(strip(r#"{"_miroir_shard":"x"}"#), Ok("{}".to_owned()));
    assert_eq!(strip(r#""_miroir_""#), Ok(r#""_miroir_""#.to_owned()));
}

#[test]
fn statistics_add_up() {
    let leaf: IndexStats = serde_json::from_str(
        r#"{"numberOfDocuments":4,"rawDocumentDbSize":4096,"avgDocumentSize":1000,"isIndexing":false,"numberOfEmbeddings":2,"numberOfEmbeddedDocuments":1,"fieldDistribution":{"b":4,"_miroir_shard":4,"a":2}}"#,
    )
    .expect("stats");
    let busy = IndexStats { is_indexing: true, ..leaf.clone() };
    assert_eq!(
        serde_json::to_string(&merge_stats([&leaf, &busy, &leaf, &leaf], 2)).expect("JSON"),
        r#"{"numberOfDocuments":8,"rawDocumentDbSize":8192,"avgDocumentSize":1024,"isIndexing":true,"numberOfEmbeddings":4,"numberOfEmbeddedDocuments":2,"fieldDistribution":{"a":4,"b":8}}"#
    );
    assert_eq!(merge_stats([], 0), IndexStats::default());
}

#[test]
fn lists_are_sorted_by_normal_forms() {
    let leaf = |documents: &[(u32, &str)]| {
        let list: Vec<String> = documents
            .iter()
            .map(|(id, value)| {
                format!(
                    r#"{{"id":{id},"_federation":{{"weightedScoreValues":[{{"sort":{{"asc":true,"value":{value:?}}}}},{{"sort":{{"asc":true,"value":{id}}}}}]}}}}"#
                )
            })
            .collect();
        Bytes::from(format!(r#"{{"results":[{}],"total":{}}}"#, list.join(","), list.len()))
    };
    let long = "É".repeat(300);
    let bodies = [
        leaf(&[(2, "ACTION"), (3, "écru"), (6, &format!("{long}1"))]),
        leaf(&[(1, " action"), (4, "ÉCRU"), (5, &format!("{long}2"))]),
    ];
    let options = DocumentOptions { limit: 10, sorted: true, ..DocumentOptions::default() };
    let merged = merge_documents(&bodies, &options).expect("merges");
    let answer: serde_json::Value = serde_json::from_slice(&merged).expect("JSON");
    let ids: Vec<_> = answer["results"].as_array().unwrap().iter().map(|d| &d["id"]).collect();
    assert_eq!(ids, [1, 2, 3, 4, 5, 6]);
}
