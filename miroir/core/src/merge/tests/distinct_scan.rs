//! Which distinct values one node looks at.

use proptest::prelude::*;

use super::*;
use crate::merge::{HitOptions, ScannedHits, hidden_behind, scan_hits, total_at_the_end};

fn leaf(hits: &[String]) -> Page {
    page(&format!(r#"{{"hits":[{}],"estimatedTotalHits":9}}"#, hits.join(",")))
}

fn hit(id: usize, group: &str, sort: u32) -> String {
    format!(
        r#"{{"id":{id},"g":{group},"_rankingScore":1.0,"_rankingScoreDetails":{{
        "n:asc":{{"order":0,"value":{sort}.0}}}}}}"#
    )
}

fn plain(id: usize, group: &str) -> String {
    format!(r#"{{"id":{id},"g":{group},"_rankingScore":1.0,"_rankingScoreDetails":{{}}}}"#)
}

fn options() -> HitOptions {
    HitOptions { distinct: Some("g".to_owned()), ..HitOptions::default() }
}

fn sorted(scanned: &ScannedHits) -> Vec<FacetValue> {
    let mut values: Vec<FacetValue> = scanned.all().cloned().collect();
    values.sort_unstable();
    values
}

fn texts<const N: usize>(texts: [&str; N]) -> Vec<FacetValue> {
    texts.iter().map(|text| FacetValue::text(text)).collect()
}

#[test]
fn hits_tied_with_the_last_are_looked_at() {
    let pages = [
        leaf(&[hit(1, r#""a""#, 1), hit(2, r#""b""#, 2), hit(5, "7", 3)]),
        leaf(&[hit(3, r#""A""#, 2), hit(4, r#""c\"d""#, 2), hit(6, "[]", 4)]),
    ];
    let look = |wanted| scan_hits(&pages, &options(), wanted, 4);
    // One hit, alone at its place.
    let one = look(1);
    assert_eq!((sorted(&one), one.shown), (texts(["a"]), 1));
    // The second is tied with one of a value already there and with one of another.
    let two = look(2);
    assert_eq!((sorted(&two), two.shown), (texts(["a", "b", "c\"d"]), 3));
    assert_eq!(two.valued, [2, 1]);
    assert!(!two.exhausted && !two.unfinished);
    // The last has no value; both lists are shorter than what was asked for.
    let all = look(5);
    assert_eq!((all.shown, all.valued.clone(), all.exhausted), (5, vec![3, 1], true));
    let mut elsewhere = texts(["a", "b"]);
    elsewhere.push(FacetValue::number(7.0));
    assert_eq!(all.of_others(1).cloned().collect::<Vec<_>>(), elsewhere);
}

#[test]
fn a_full_list_that_ends_in_the_ties_is_unfinished() {
    let pages = [leaf(&[hit(1, r#""a""#, 1), hit(2, r#""b""#, 1)]), leaf(&[hit(3, r#""c""#, 2)])];
    let full = scan_hits(&pages, &options(), 1, 2);
    assert!(full.unfinished && !full.exhausted, "{full:?}");
    // A list of two out of three is a whole one.
    let whole = scan_hits(&pages, &options(), 1, 3);
    assert!(!whole.unfinished && !whole.exhausted, "{whole:?}");
    assert_eq!(whole.shown, 2);
}

#[test]
fn without_rules_one_hit_is_looked_at_after_the_other() {
    let pages = [leaf(&[plain(1, r#""a""#), plain(2, r#""b""#)]), leaf(&[plain(3, r#""c""#)])];
    let scanned = scan_hits(&pages, &options(), 1, 2);
    assert_eq!((sorted(&scanned), scanned.exhausted), (texts(["a"]), false));
}

#[test]
fn empty_strings_are_values_of_shown_hits_only() {
    let pages = [
        leaf(&[hit(1, r#""""#, 1), hit(3, r#""""#, 3)]),
        leaf(&[hit(2, r#""x""#, 2), hit(4, r#"" ""#, 4)]),
    ];
    let setting = scan_hits(&pages, &options(), 9, 10);
    assert_eq!((setting.shown, setting.dropped, setting.empty), (4, 0, None));
    let shown = HitOptions { distinct_shown: true, ..options() };
    let query = scan_hits(&pages, &shown, 9, 10);
    assert_eq!((query.shown, query.dropped, query.empty), (2, 1, Some(0)));
    assert_eq!(query.hidden, texts([""]));
    // The places of what is dropped stay empty.
    let merged = merge_hits(&pages, &HitOptions { offset: 1, limit: 2, ..shown });
    assert_eq!((merged.placed.len(), merged.duplicates), (1, 1));
}

#[test]
fn one_hit_of_several_values_shortens_the_list_of_another_leaf() {
    let list = |ids: &[(usize, &str)]| {
        let hits: Vec<String> =
            ids.iter().map(|(id, values)| hit(*id, values, *id as u32)).collect();
        leaf(&hits)
    };
    let pages = [
        list(&[(0, r#"["v8","v6"]"#), (7, "[]")]),
        list(&[(1, r#"["v6"]"#), (2, "[]"), (3, "[]"), (4, r#"["v8"]"#)]),
    ];
    // Whatever comes after the fourth of the other leaf comes before the seventh.
    let mut without = hidden_behind(&pages, &options(), 4).unwrap();
    without[1].sort();
    assert_eq!(without, [Vec::new(), texts(["v6", "v8"])]);
    // Three are there.
    assert_eq!(hidden_behind(&pages, &options(), 3), None);
}

#[test]
fn lists_to_their_ends_tell_the_total_unless_the_page_ends_before() {
    // The third document comes in two lists of its leaf.
    let pages = [
        leaf(&[hit(1, r#""a""#, 1), hit(3, "null", 3)]),
        leaf(&[hit(2, r#""A""#, 2), hit(4, r#""b""#, 4)]),
        leaf(&[hit(3, "null", 3), hit(5, r#""c""#, 5)]),
    ];
    let options = HitOptions { unique: Some("id".to_owned()), ..options() };
    let total = |wanted| total_at_the_end(&pages, &options, wanted);
    assert_eq!([total(9), total(4), total(3), total(0)], [Some(4), Some(4), None, None]);
    let judged = HitOptions { score_threshold: Some(0.1), ..options.clone() };
    assert_eq!(total_at_the_end(&pages, &judged, 9), None);
    // The second makes way for the first, and may hide a third on its leaf.
    let several = [leaf(&[hit(1, r#""a""#, 1)]), leaf(&[hit(2, r#"["a","b"]"#, 2)])];
    assert_eq!(total_at_the_end(&several, &options, 9), None);
    // What shows an empty string already shown keeps its place, and is none.
    let empty = [leaf(&[hit(1, r#""""#, 1)]), leaf(&[hit(2, r#""""#, 2)])];
    let shown = HitOptions { distinct_shown: true, ..options };
    assert_eq!(total_at_the_end(&empty, &shown, 2), Some(1));
    assert_eq!(total_at_the_end(&empty, &shown, 1), None);
}

/// One node: documents in rank order, equal ones in one bucket, as its bucket sort goes through them.
fn node(documents: &[(u32, Option<u8>)], wanted: usize) -> usize {
    let (mut kept, mut at) = (0, 0);
    let mut seen = std::collections::BTreeSet::new();
    while kept < wanted && at < documents.len() {
        let rank = documents[at].0;
        while let Some((_, value)) = documents.get(at).filter(|(next, _)| *next == rank) {
            kept += usize::from(value.is_none_or(|value| seen.insert(value)));
            at += 1;
        }
    }
    let excluded: usize = seen
        .iter()
        .map(|value| documents.iter().filter(|(_, v)| *v == Some(*value)).count() - 1)
        .sum();
    documents.len() - excluded
}

proptest! {
    /// Whatever leaf documents are on: what is left of all when the duplicates of the values looked
    /// at are taken out is what one node says.
    #[test]
    fn distinct_totals_are_those_of_one_node(
        documents in prop::collection::vec((0_u32..12, prop::option::of(0_u8..9), 0_usize..3), 0..60),
        wanted in 1_usize..12,
    ) {
        let mut documents = documents;
        documents.sort_by_key(|(rank, ..)| *rank);
        let all: Vec<(u32, Option<u8>)> = documents.iter().map(|(r, v, _)| (*r, *v)).collect();
        let mut asked = wanted + 1;
        loop {
            // Each leaf lists its distinct hits, at most as many as it was asked for.
            let pages: Vec<Page> = (0..3)
                .map(|leaf_number| {
                    let mut seen = std::collections::BTreeSet::new();
                    let own = documents.iter().enumerate().filter(|(_, d)| d.2 == leaf_number);
                    let kept = own.filter(|(_, d)| d.1.is_none_or(|value| seen.insert(value)));
                    let hits: Vec<String> = kept
                        .take(asked)
                        .map(|(id, (rank, value, _))| {
                            let value = value.map_or("null".to_owned(), |v| format!("\"v{v}\""));
                            hit(id, &value, *rank)
                        })
                        .collect();
                    leaf(&hits)
                })
                .collect();
            let scanned = scan_hits(&pages, &options(), wanted, asked);
            if scanned.unfinished {
                asked *= 2;
                continue;
            }
            let named = |value: &u8| {
                let value = FacetValue::text(&format!("v{value}"));
                scanned.all().any(|named| *named == value)
            };
            let rest = all.iter().filter(|(_, value)| !value.as_ref().is_some_and(named)).count();
            let valued: usize = scanned.valued.iter().sum();
            prop_assert_eq!(rest + valued, node(&all, wanted));
            if scanned.exhausted {
                prop_assert_eq!(scanned.shown, node(&all, wanted));
            }
            break;
        }
    }
}

/// The distinct documents of a list in rank order, by position.
fn distinct(documents: &[(usize, &Vec<u8>)]) -> Vec<usize> {
    let mut seen = std::collections::BTreeSet::new();
    let mut kept = Vec::new();
    for (at, values) in documents {
        if !values.iter().any(|value| seen.contains(value)) {
            seen.extend(values.iter().copied());
            kept.push(*at);
        }
    }
    kept
}

proptest! {
    /// Leaves that leave out what they are told to until nothing is hidden show together what one
    /// node shows, however many values documents share.
    #[test]
    fn asking_again_shows_every_hidden_document(
        documents in prop::collection::vec(
            (prop::collection::vec(0_u8..9, 0..4), 0_usize..3), 0..50),
        wanted in 1_usize..14,
    ) {
        let all: Vec<_> = documents.iter().enumerate().map(|(at, (values, _))| (at, values)).collect();
        let mut told: Vec<Vec<FacetValue>> = vec![Vec::new(); 3];
        let mut rounds = 0;
        let merged = loop {
            let pages: Vec<Page> = told.iter().enumerate().map(|(number, without)| {
                let allowed = |values: &Vec<u8>| {
                    !values.iter().any(|value| without.contains(&FacetValue::text(&format!("v{value}"))))
                };
                let own: Vec<_> = all
                    .iter()
                    .filter(|(at, values)| documents[*at].1 == number && allowed(values))
                    .copied()
                    .collect();
                let hits: Vec<String> = distinct(&own).into_iter().take(wanted).map(|at| {
                    let values: Vec<String> =
                        documents[at].0.iter().map(|value| format!("\"v{value}\"")).collect();
                    hit(at, &format!("[{}]", values.join(",")), at as u32)
                }).collect();
                leaf(&hits)
            }).collect();
            let Some(without) = hidden_behind(&pages, &options(), wanted) else { break pages };
            prop_assert!(without != told, "no progress");
            told = without;
            rounds += 1;
            prop_assert!(rounds <= documents.len());
        };
        let placed = merge_hits(&merged, &HitOptions { limit: wanted, ..options() }).placed;
        let shown: Vec<usize> = placed
            .iter()
            .map(|placed| {
                let id = merged[placed.leaf].field(placed.hit, "id").unwrap();
                String::from_utf8(id.to_vec()).unwrap().parse().unwrap()
            })
            .collect();
        let mut wanted_hits = distinct(&all);
        wanted_hits.truncate(wanted);
        prop_assert_eq!(shown, wanted_hits);
    }
}
