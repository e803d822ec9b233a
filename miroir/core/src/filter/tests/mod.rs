//! What is read, and what it is narrowed to.

mod model;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::documents::IdCase;
use crate::routing::{ShardSet, shard_of};

const MOST: usize = 128;

fn ids(literal: &str) -> Option<Vec<String>> {
    let mut ids = Text(literal.to_owned()).ids(IdCase::ANY, MOST)?;
    ids.sort();
    ids.dedup();
    Some(ids)
}

/// Ids that a real node finds by `id = literal`, out of documents with strings and integers.
#[test]
fn literals_stand_for_every_id_a_node_finds() {
    for (literal, found) in [
        ("7", &["7"][..]),
        ("\"7\"", &["7"]),
        ("07", &["07", "7"]),
        ("\" 7 \"", &["7"]),
        ("\"+7\"", &["7"]),
        ("7.", &["7"]),
        ("7.0", &["7"]),
        (".7e1", &["7"]),
        ("7e0", &["7", "7E0", "7e0"]),
        ("-0", &["-0", "0"]),
        ("-05", &["-05", "-5"]),
        ("0.5", &[]),
        ("1_000", &["1_000"]),
        ("0x1", &["0X1", "0x1"]),
        ("1e400", &["1E400", "1e400"]),
        ("Ab", &["AB", "Ab", "aB", "ab"]),
        ("inf", &["INF", "INf", "InF", "Inf", "iNF", "iNf", "inF", "inf"]),
        ("'a-1_'", &["A-1_", "a-1_"]),
        ("\"\"", &[]),
        ("\"a b\"", &[]),
        ("9007199254740993", &["9007199254740991", "9007199254740992", "9007199254740993"][1..]),
        ("-9007199254740993", &["-9007199254740992", "-9007199254740993"]),
        (
            "36028797018963968.0",
            &[
                "36028797018963966",
                "36028797018963967",
                "36028797018963968",
                "36028797018963969",
                "36028797018963970",
                "36028797018963971",
                "36028797018963972",
            ],
        ),
        ("1e30", &["1E30", "1e30"]),
    ] {
        let found: Vec<String> = found.iter().map(|id| (*id).to_owned()).collect();
        assert_eq!(ids(literal), Some(found), "{literal}");
    }
}

#[test]
fn what_may_stand_for_too_many_ids_is_left_alone() {
    // More than 7 letters are more than 128 spellings.
    assert_eq!(ids("abcdefg").map(|ids| ids.len()), Some(128));
    assert_eq!(ids("abcdefgh"), None);
    assert_eq!(ids(&"a".repeat(400)), None);
    // Escapes, and what is not ASCII, have other normal forms: `ﬁ` finds `fi`, `①` finds `1`.
    for literal in ["\"a\\\"\"", "\"\\7\"", "ﬁ", "①", "\u{212a}", "\"1\\u0032\""] {
        assert_eq!(ids(literal), None, "{literal}");
    }
    // Longer ids with the same beginning are found too.
    assert_eq!(ids(&"1".repeat(467)).map(|ids| ids.len()), Some(1));
    assert_eq!(ids(&"1".repeat(468)), None);
    // Integers that are one number as `f64`.
    assert_eq!(ids("18446744073709551615"), None);
    assert_eq!(ids("-9223372036854775808"), None);
}

#[test]
fn spellings_that_no_id_has_are_left_out() {
    let (lower, upper) =
        (IdCase { lower: true, upper: false }, IdCase { lower: false, upper: true });
    let uuid = "7C9e6679-7425-40de-944b-e07fc1f90ae7";
    for (literal, id_case, found) in [
        (uuid, lower, Some(vec!["7c9e6679-7425-40de-944b-e07fc1f90ae7"])),
        (uuid, upper, Some(vec!["7C9E6679-7425-40DE-944B-E07FC1F90AE7"])),
        (uuid, IdCase::NONE, Some(vec![])),
        (uuid, IdCase::ANY, None),
        ("12-3", IdCase::NONE, Some(vec!["12-3"])),
        ("12-3", IdCase::ANY, Some(vec!["12-3"])),
        ("5e0", lower, Some(vec!["5e0", "5"])),
    ] {
        let found = found.map(|ids| ids.into_iter().map(str::to_owned).collect());
        assert_eq!(Text(literal.to_owned()).ids(id_case, MOST), found, "{literal} {id_case:?}");
    }
}

fn keys(primary_key: &str, shards: u32) -> Keys<'_> {
    Keys { primary_key: Some(primary_key), id_case: IdCase::ANY, shards }
}

fn shards(filter: &str) -> Result<ShardSet, NotNarrowed> {
    narrow(Some(filter), &keys("id", 64), MOST).map(|narrowed| narrowed.shards)
}

#[allow(clippy::unnecessary_wraps, reason = "compared with what may fail")]
fn of(ids: &[&str]) -> Result<ShardSet, NotNarrowed> {
    Ok(ShardSet::from_iter(ids.iter().map(|id| shard_of(id.as_bytes(), 64)), 64))
}

#[test]
fn what_pins_the_key_narrows() {
    for (filter, ids) in [
        ("\"id = 7\"", &["7"][..]),
        ("\"'id'='7'\"", &["7"]),
        ("\"id IN [7, '8' , 9,]\"", &["7", "8", "9"]),
        ("\"id IN[7]\"", &["7"]),
        ("\"color = red AND (id = 7 OR id IN [8]) AND NOT id = 7\"", &["7", "8"]),
        ("\"id IN [1,2,3] AND id IN [2,3,4] AND id != 9\"", &["2", "3"]),
        ("\"id = 1 OR id = 2 AND color = red\"", &["1", "2"]),
        ("[\"id = 7\", [\"color = red\", \"id = 8\"]]", &["7"]),
        ("[[\"id = 7\", \"id = 8\"], \"color = red\"]", &["7", "8"]),
        ("[[\"id = 7\", \"\"], \" \"]", &["7"]),
        ("[\"id = 7 OR id = 8\", \"id = 8\"]", &["8"]),
        ("\"id = 7 AND _geoRadius(1, 2.5, -3e4)\"", &["7"]),
        ("\"_geoBoundingBox([1,2],[3,4]) AND id=7\"", &["7"]),
        ("\"_geoPolygon([1,2],[3,4],[5,6],) AND id=7\"", &["7"]),
        ("\"_foreign('a b', x = ')' OR (y = 1)) AND id=7\"", &["7"]),
        ("\"_vectors.'a b'.fragments.c EXISTS AND id=7\"", &["7"]),
        ("\"_vectors NOT EXISTS AND id=7\"", &["7"]),
        ("\"a 1 TO 2 AND b IS NOT NULL AND c IS EMPTY AND d NOT STARTS WITH x AND id=7\"", &["7"]),
        ("\"a \\\"IN\\\" TO 2 AND e NOT CONTAINS \\\"AND id = 9\\\" AND id=7\"", &["7"]),
    ] {
        assert_eq!(shards(filter), of(ids), "{filter}");
    }
}

#[test]
fn what_cannot_match_asks_one_shard() {
    for filter in [
        "\"id IN []\"",
        "\"id = 1 AND id = 2\"",
        "\"id = 'no id'\"",
        "[\"id = 1\", \"id IN [2, 3]\"]",
    ] {
        let narrowed = narrow(Some(filter), &keys("id", 64), MOST).unwrap();
        assert_eq!((narrowed.ids, narrowed.shards.len()), (0, 1), "{filter}");
    }
}

#[test]
fn filters_that_do_not_pin_the_key_say_why() {
    let many: Vec<String> = (0..=MOST).map(|id| id.to_string()).collect();
    let many = format!("\"id IN [{}]\"", many.join(","));
    for (filter, why) in [
        ("null", NotNarrowed::NoFilter),
        ("[]", NotNarrowed::NoFilter),
        ("\" \"", NotNarrowed::NoFilter),
        ("[[\"\"]]", NotNarrowed::NoFilter),
        ("5", NotNarrowed::Unread),
        ("[5]", NotNarrowed::Unread),
        ("[[[\"id = 7\"]]]", NotNarrowed::Unread),
        ("\"id = 7 and id = 8\"", NotNarrowed::Unread),
        ("\"id = 7 id = 8\"", NotNarrowed::Unread),
        ("\"id = OR\"", NotNarrowed::Unread),
        ("\"id in [7]\"", NotNarrowed::Unread),
        ("\"id == 7\"", NotNarrowed::Unread),
        ("\"(id = 7\"", NotNarrowed::Unread),
        ("\"id = '7\"", NotNarrowed::Unread),
        ("\"id IN [7 8]\"", NotNarrowed::Unread),
        ("\"_geoRadius(id = 7)\"", NotNarrowed::Unread),
        ("\"ID = 7\"", NotNarrowed::NotPinned),
        ("\"id2 = 7\"", NotNarrowed::NotPinned),
        ("\"'id ' = 7\"", NotNarrowed::NotPinned),
        ("\"id != 7\"", NotNarrowed::NotPinned),
        ("\"NOT id = 7\"", NotNarrowed::NotPinned),
        ("\"NOT NOT id = 7\"", NotNarrowed::NotPinned),
        ("\"NOT (id = 7 AND a = 1)\"", NotNarrowed::NotPinned),
        ("\"id NOT IN [7]\"", NotNarrowed::NotPinned),
        ("\"id 7 TO 7\"", NotNarrowed::NotPinned),
        ("\"id >= 7 AND id <= 7\"", NotNarrowed::NotPinned),
        ("\"id = 7 OR color = red\"", NotNarrowed::NotPinned),
        ("[[\"id = 7\", \"color = red\"]]", NotNarrowed::NotPinned),
        ("\"_foreign(id, id = 7)\"", NotNarrowed::NotPinned),
        ("\"id = abcdefgh\"", NotNarrowed::TooMany),
        ("\"id = 'a' OR id = 'abcdefgh'\"", NotNarrowed::TooMany),
        (many.as_str(), NotNarrowed::TooMany),
    ] {
        assert_eq!(shards(filter), Err(why), "{filter}");
    }
    assert_eq!(narrow(Some("\"a.b = 7\""), &keys("a.b", 4), MOST), Err(NotNarrowed::NestedKey));
    assert_eq!(
        narrow(Some("\"id = 7\""), &Keys { primary_key: None, ..keys("", 4) }, MOST),
        Err(NotNarrowed::NoKey)
    );
    assert_eq!(narrow(None, &keys("id", 4), MOST), Err(NotNarrowed::NoFilter));
    // As deep as a node reads, and deeper.
    let nested = |depth| format!("\"{}id = 7{}\"", "(".repeat(depth), ")".repeat(depth));
    assert_eq!(shards(&nested(37)), of(&["7"]));
    assert_eq!(shards(&nested(100_000)), Err(NotNarrowed::Unread));
    assert_eq!(shards(&format!("\"{}id = 7\"", "NOT ".repeat(100_000))), Err(NotNarrowed::Unread));
}

fn text() -> impl Strategy<Value = Text> {
    prop_oneof![
        "[a-zA-Z0-9_.é-]{1,6}".prop_filter("a keyword", |word| {
            Filter::parse(&format!("{word} = 1")).is_ok() && !word.starts_with("_geo")
        }),
        "\"([a-zA-Z '()é]|\\\\\"|\\\\n){0,6}\"",
        "'[a-zA-Z \"()=,]{0,6}'",
    ]
    .prop_map(Text)
}

fn any_filter() -> impl Strategy<Value = Filter> {
    let comparison = prop::sample::select(Comparison::ALL.map(|(_, it)| it).to_vec());
    let test = prop_oneof![
        (comparison, text()).prop_map(|(how, text)| Test::Compare(how, text)),
        (text(), text()).prop_map(|(from, to)| Test::Between(from, to)),
        prop::collection::vec(text(), 0..3).prop_map(Test::In),
        Just(Test::Exists),
        Just(Test::Null),
        Just(Test::Empty),
        text().prop_map(Test::Contains),
        text().prop_map(Test::StartsWith),
    ];
    let condition = (text(), any::<bool>(), test).prop_map(|(attribute, negated, test)| {
        let negated = negated && !matches!(test, Test::Compare(..) | Test::Between(..));
        Filter::Condition { attribute, negated, test }
    });
    let function = prop::sample::select(vec![
        "_geoRadius(1, 2, 3)",
        "_geoBoundingBox([1, 2], [3, 4])",
        "_geoPolygon([1, 2], [3, 4], [5, 6])",
        "_foreign(a, b = ')')",
        "_vectors.a.fragments.\"b c\" EXISTS",
    ]);
    let leaf = prop_oneof![8 => condition, 1 => function.prop_map(|t| Filter::Function(t.into()))];
    leaf.prop_recursive(4, 24, 3, |inner| {
        let several = prop::collection::vec(inner.clone(), 2..4);
        prop_oneof![
            several.clone().prop_map(Filter::And),
            several.prop_map(Filter::Or),
            inner.prop_map(|inner| Filter::Not(Box::new(inner))),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(filter in any_filter()) {
        let written = filter.to_string();
        prop_assert_eq!(Filter::parse(&written), Ok(filter), "{}", written);
    }

    #[test]
    fn any_text_is_read_without_harm(
        text in "([a-z_.=!<>()\\[\\],'\"\\\\ é]| AND | OR | NOT | IN | TO |_geoRadius\\(|_foreign\\(|EXISTS){0,24}",
        any in any::<String>(),
    ) {
        for text in [&text, &any] {
            if let Ok(filter) = Filter::parse(text) {
                prop_assert_eq!(Filter::parse(&filter.to_string()), Ok(filter));
            }
            let json = serde_json::to_string(text).unwrap();
            let _ = narrow(Some(&json), &keys("a", 3), 8);
            let _ = narrow(Some(text), &keys("a", 3), 8);
        }
    }
}

#[test]
fn a_filter_knows_which_attributes_it_names() {
    for (filter, expected) in [
        (json!("a = 1"), vec!["a"]),
        (json!("a = b AND c != 'd AND e'"), vec!["a", "c"]),
        (json!("(a>1 OR NOT b EXISTS) AND c IN [x, y, 'AND'] AND a < 5"), vec!["a", "b", "c"]),
        (json!("a 1 TO 5 AND b IS NOT NULL OR c NOT IN [1]"), vec!["a", "b", "c"]),
        (json!(r#""odd \"name" = "it\"s" AND d.e CONTAINS x"#), vec!["odd \"name", "d.e"]),
        (json!("_geoRadius(1, 2, 3) AND a = 1"), vec!["_geo", "a"]),
        (json!("_foreign(maker, name = 'x') AND a = 1"), vec!["a"]),
        (json!(["a = 1", ["b = 2", "c STARTS WITH y"]]), vec!["a", "b", "c"]),
    ] {
        let read = Filter::from_json(&filter.to_string()).unwrap().unwrap();
        assert_eq!(read.attributes(), expected, "{filter}");
    }
}
