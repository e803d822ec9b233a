//! Marks from hand-made hits, and marks that come and go.

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::merge::Page;

fn rules() -> WordRules {
    WordRules::read(&json!({}))
}

fn typed(query: &str) -> Typed {
    Typed::parse(query, &rules()).unwrap()
}

fn formatting() -> Formatting {
    Formatting {
        highlight: vec!["*".to_owned()],
        crop: Vec::new(),
        pre_tag: "<em>".to_owned(),
        post_tag: "</em>".to_owned(),
        marker: "…".to_owned(),
    }
}

fn everything() -> Shown {
    Shown { positions: true, ..Shown::default() }
}

/// The only hit of an answer, marked anew.
fn marked(query: &str, formatting: &Formatting, mark: Mark, shown: &Shown, hit: &Value) -> Value {
    let (typed, rules) = (typed(query), rules());
    let marks = vec![mark; typed.beginnings.len()];
    let marking = Marking { typed: &typed, rules: &rules, formatting };
    let body = Bytes::from(json!({"hits": [hit], "query": query}).to_string());
    let out = rewrite(&body, &marking, &marks, shown);
    let out: Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(out["query"], query);
    out["hits"][0].clone()
}

fn tabled(query: &str, rules: &WordRules, hit: &Value) -> Vec<bool> {
    let (typed, formatting) = (typed(query), formatting());
    let marking = Marking { typed: &typed, rules, formatting: &formatting };
    let body = Bytes::from(json!({"hits": [hit], "estimatedTotalHits": 1}).to_string());
    let page = Page::decode(&body).unwrap();
    marking.tabled(std::iter::once(&page))
}

#[test]
fn a_query_has_the_beginnings_nodes_may_keep_tables_for() {
    for (query, beginnings) in [
        ("b", vec!["b"]),
        ("about Bé", vec!["be"]),
        ("a b", vec!["ab", "b"]),
        ("a b cd", vec!["abcd", "bcd", "cd"]),
        ("a. b", vec!["b"]),
        ("\"a b\" c", vec!["c"]),
        ("the-house", vec![]),
        ("b ", vec![]),
        ("b.", vec![]),
        ("letter", vec![]),
        ("\"a b", vec![]),
        ("a -b", vec![]),
        ("", vec![]),
        ("東", vec![]),
        ("1 2 3 4 5 6 7 8 9 10 b", vec![]),
    ] {
        let typed = Typed::parse(query, &rules());
        let found: Vec<_> = typed.iter().flat_map(|t| &t.beginnings).map(|b| &b.text).collect();
        assert_eq!(found, beginnings, "{query}");
    }
}

#[test]
fn settings_say_whether_nodes_may_have_tables() {
    for settings in [
        json!({"prefixSearch": "disabled"}),
        json!({"localizedAttributes": [{"attributePatterns": ["*"], "locales": ["deu"]}]}),
        json!({"typoTolerance": {"enabled": true, "minWordSizeForTypos": {"oneTypo": 1}}}),
    ] {
        assert_eq!(Typed::parse("b", &WordRules::read(&settings)), None, "{settings}");
    }
    for settings in [
        json!({"prefixSearch": "indexingTime", "localizedAttributes": null}),
        json!({"typoTolerance": {"enabled": false, "minWordSizeForTypos": {"oneTypo": 1}}}),
        json!({"stopWords": ["b"]}),
    ] {
        assert!(Typed::parse("b", &WordRules::read(&settings)).is_some(), "{settings}");
    }
}

#[test]
fn separators_and_words_of_an_index_cut_its_texts() {
    let settings = json!({"separatorTokens": ["x"], "nonSeparatorTokens": ["-"]});
    let parsed = Typed::parse("axb", &WordRules::read(&settings)).unwrap();
    assert_eq!(parsed.beginnings[1].text, "b");
    let parsed = Typed::parse("a-b", &WordRules::read(&settings)).unwrap();
    assert_eq!(parsed.beginnings[0].text, "a-b");
}

#[test]
fn a_beginning_that_is_a_word_is_marked_in_every_hit() {
    let hit = json!({
        "id": 12,
        "title": "Bébé, the house of beads",
        "_formatted": {"id": "12", "title": "Bébé, the house of beads"},
        "_matchesPosition": {},
    });
    let out = marked("house be", &formatting(), Mark::All, &everything(), &hit);
    assert_eq!(out["_formatted"]["title"], "<em>Bé</em>bé, the house of <em>be</em>ads");
    let positions = json!({"title": [{"start": 0, "length": 3}, {"start": 21, "length": 2}]});
    assert_eq!(out["_matchesPosition"], positions);
    assert_eq!(out["_formatted"]["id"], "12");
    assert_eq!(out["id"], 12);
}

#[test]
fn a_beginning_with_a_table_and_no_word_is_marked_nowhere() {
    let hit = json!({
        "title": "the house of beads",
        "_formatted": {"title": "the <em>house</em> of <em>b</em>eads"},
        "_matchesPosition": {"title": [{"start": 4, "length": 5}, {"start": 13, "length": 1}]},
    });
    let out = marked("house b", &formatting(), Mark::None, &everything(), &hit);
    assert_eq!(out["_formatted"]["title"], "the <em>house</em> of beads");
    assert_eq!(out["_matchesPosition"], json!({"title": [{"start": 4, "length": 5}]}));
    let out = marked("house b", &formatting(), Mark::AsTheyAre, &everything(), &hit);
    assert_eq!(out, hit);
}

#[test]
fn hits_whose_node_agrees_stay_byte_for_byte() {
    let hit = r#"{"n":1.50e3,"t":"a bee \u00e9","_formatted":{"n":"1500","t":"a <em>b</em>ee é"},"_matchesPosition":{"t":[{"start":2,"length":1}]}}"#;
    let body = Bytes::from(format!(r#"{{"hits":[{hit}],"processingTimeMs":1}}"#));
    let (typed, rules, formatting) = (typed("b"), rules(), formatting());
    let marking = Marking { typed: &typed, rules: &rules, formatting: &formatting };
    assert_eq!(rewrite(&body, &marking, &[Mark::All], &everything()), body);
    for broken in ["", "[]", "{\"hits\":1}"] {
        let broken = Bytes::from(broken);
        assert_eq!(rewrite(&broken, &marking, &[Mark::All], &everything()), broken);
    }
}

#[test]
fn numbers_and_texts_in_arrays_and_objects_are_marked() {
    let hit = json!({
        "of": {"list": [{"name": "12 13", "n": 123}, {"name": "no"}], "n": 1.25},
        "_formatted": {"of": {"list": [{"name": "12 13", "n": "123"}, {"name": "no"}], "n": "1.25"}},
        "_matchesPosition": {},
    });
    let out = marked("1", &formatting(), Mark::All, &everything(), &hit);
    let list = json!([{"name": "<em>1</em>2 <em>1</em>3", "n": "<em>1</em>23"}, {"name": "no"}]);
    assert_eq!(out["_formatted"], json!({"of": {"list": list, "n": "<em>1</em>.25"}}));
    let positions = json!({
        "of.list.n": [{"start": 0, "length": 1, "indices": [0]}],
        "of.list.name": [
            {"start": 0, "length": 1, "indices": [0]},
            {"start": 3, "length": 1, "indices": [0]},
        ],
        "of.n": [{"start": 0, "length": 1}],
    });
    assert_eq!(out["_matchesPosition"], positions);
    assert_eq!(out["of"], hit["of"]);
}

#[test]
fn only_the_last_item_of_an_array_with_matches_has_positions() {
    let hit = json!({
        "tags": ["bee <b>", "house", "bay"],
        "_formatted": {"tags": ["bee <b>", "<em>house</em>", "bay"]},
        "_matchesPosition": {"tags": [{"start": 0, "length": 5, "indices": [1]}]},
    });
    let out = marked("house b", &formatting(), Mark::All, &everything(), &hit);
    let tags = json!(["<em>b</em>ee <b>", "<em>house</em>", "<em>b</em>ay"]);
    assert_eq!(out["_formatted"]["tags"], tags);
    let last = json!({"tags": [{"start": 0, "length": 1, "indices": [2]}]});
    assert_eq!(out["_matchesPosition"], last);
    let back = marked("house b", &formatting(), Mark::None, &everything(), &out);
    assert_eq!(back, hit);
}

#[test]
fn crops_are_put_around_the_marks() {
    let text = "one two. three four five, six bees seven";
    for (size, before, after) in [
        (1, "one…", "…<em>b</em>ees…"),
        (2, "one two…", "…six <em>b</em>ees…"),
        (3, "one two. three…", "…six <em>b</em>ees seven"),
        (9, text, "one two. three four five, six <em>b</em>ees seven"),
    ] {
        let crop = vec![("t".to_owned(), size)];
        let formatting = Formatting { crop, ..formatting() };
        let hit = json!({"t": text, "_formatted": {"t": before}, "_matchesPosition": {}});
        let out = marked("b", &formatting, Mark::All, &everything(), &hit);
        assert_eq!(out["_formatted"]["t"], after, "{size}");
        let back = marked("b", &formatting, Mark::None, &everything(), &out);
        assert_eq!(back, hit, "{size}");
    }
}

#[test]
fn a_crop_shows_most_words_of_the_query_and_then_the_closest() {
    let text = "bay a b c house d e f g bee house bar";
    let crop = vec![("t".to_owned(), 3)];
    let formatting = Formatting { crop, highlight: Vec::new(), ..formatting() };
    let positions = json!({"t": [{"start": 10, "length": 5}, {"start": 28, "length": 5}]});
    let hit = json!({"t": text, "_formatted": {"t": "…c house d…"}, "_matchesPosition": positions});
    let out = marked("house b", &formatting, Mark::All, &everything(), &hit);
    // `b c house` is as close, and in no part in the order of the query.
    assert_eq!(out["_formatted"]["t"], "…bee house bar");
    // A phrase is words of the query, too.
    let hit = json!({"t": "a bay of the house", "_formatted": {"t": "…of the house"},
                     "_matchesPosition": {"t": [{"start": 9, "length": 9}]}});
    let out = marked("\"the house\" b", &formatting, Mark::All, &everything(), &hit);
    assert_eq!(out["_formatted"]["t"], "…of the house");
}

#[test]
fn what_a_node_wrote_in_another_way_stays() {
    let hit = json!({"t": "bees", "_formatted": {"t": "Bees!"}, "_matchesPosition": {}});
    let out = marked("b", &formatting(), Mark::All, &everything(), &hit);
    assert_eq!(out["_formatted"]["t"], "Bees!");
    // Positions in the middle of a word are none of Miroir's words.
    let hit = json!({"t": "bees", "_matchesPosition": {"t": [{"start": 1, "length": 1}]}});
    assert_eq!(marked("b", &formatting(), Mark::All, &everything(), &hit), hit);
    // Where a name reads like a path, positions may be of either.
    let hit = json!({"a.b": "bees", "_matchesPosition": {}});
    assert_eq!(marked("b", &formatting(), Mark::All, &everything(), &hit), hit);
    let hit = json!({"t": "b東京", "_formatted": {"t": "b東京"}, "_matchesPosition": {}});
    assert_eq!(marked("b", &formatting(), Mark::All, &everything(), &hit), hit);
}

#[test]
fn a_client_sees_what_it_asked_for_and_no_more() {
    let hit = json!({
        "id": 1,
        "of": {"a": "bay", "hidden": "bee"},
        "list": [{"k": 1, "x": 2}, {"x": 3}, 4],
        "secret": "bar",
        "_geoDistance": 5,
        "_vectors": {},
        "_formatted": {"id": "1", "of": {"a": "bay", "hidden": "bee"}, "secret": "bar"},
        "_matchesPosition": {},
    });
    let names = |list: &[&str]| Some(list.iter().map(|n| (*n).to_owned()).collect());
    let shown = Shown {
        fields: names(&["id", "of.a", "list.k", "none"]),
        formatted: names(&["of.a"]),
        positions: false,
    };
    let out = marked("b", &formatting(), Mark::All, &shown, &hit);
    let wanted = json!({
        "id": 1,
        "of": {"a": "bay"},
        "list": [{"k": 1}],
        "_vectors": {},
        "_formatted": {"of": {"a": "<em>b</em>ay"}},
    });
    assert_eq!(out, wanted);
}

#[test]
fn a_distance_is_shown_with_its_place() {
    let hit = json!({"t": "bay", "_geo": {"lat": 1, "lng": 2}, "_geoDistance": 5});
    let distance = |fields: &[&str]| {
        let fields = Some(fields.iter().map(|name| (*name).to_owned()).collect());
        let shown = Shown { fields, ..everything() };
        marked("b", &formatting(), Mark::All, &shown, &hit).get("_geoDistance").cloned()
    };
    for fields in [&["*"][..], &["_geo"], &["_geo.lng", "t", "_geo.lat"]] {
        assert_eq!(distance(fields), Some(json!(5)), "{fields:?}");
    }
    for fields in [&[][..], &["t"], &["_geo.lat"]] {
        assert_eq!(distance(fields), None, "{fields:?}");
    }
}

#[test]
fn words_that_are_not_marked_tell_of_a_table() {
    let hit = |positions: Value| json!({"t": "bees be", "u": "bay", "_matchesPosition": positions});
    let one = json!({"t": [{"start": 0, "length": 1}, {"start": 5, "length": 1}]});
    let all = json!({"t": one["t"], "u": [{"start": 0, "length": 1}]});
    assert_eq!(tabled("b", &rules(), &hit(json!({}))), [true]);
    assert_eq!(tabled("b", &rules(), &hit(one.clone())), [true]);
    assert_eq!(tabled("b", &rules(), &hit(all)), [false]);
    assert_eq!(tabled("house c", &rules(), &hit(json!({}))), [false]);
    // What is not searched is in no table, and neither are stop words.
    let searched = WordRules::read(&json!({"searchableAttributes": ["t"]}));
    assert_eq!(tabled("b", &searched, &hit(one)), [false]);
    let stopped = WordRules::read(&json!({"stopWords": ["bay", "be", "bees"]}));
    assert_eq!(tabled("b", &stopped, &hit(json!({}))), [false]);
    // Two words as one: what is marked as the shorter is not as the longer.
    let hit = json!({"t": "abc bc", "_matchesPosition": {"t": [{"start": 4, "length": 1}]}});
    assert_eq!(tabled("a b", &rules(), &hit), [true, false]);
}

proptest! {
    #[test]
    fn marks_come_and_go_and_leave_the_text(
        text in "[aAbBé ,.<1-]{0,30}",
        query in "[ab1]{1,2}",
        size in 0usize..5,
    ) {
        let crop = vec![("t".to_owned(), size)];
        let plain = Formatting { crop: Vec::new(), ..formatting() };
        let cropped = Formatting { crop, ..formatting() };
        for formatting in [plain, cropped] {
            let rules = rules();
            let none = rules.tokenizer(|tokenizer| {
                let cut = words::Cut::new(&text, tokenizer);
                formatting.write(&cut, &[], formatting.how("t").unwrap()).unwrap()
            });
            let hit = json!({"t": text, "_formatted": {"t": none}, "_matchesPosition": {}});
            let all = marked(&query, &formatting, Mark::All, &everything(), &hit);
            prop_assert_eq!(&marked(&query, &formatting, Mark::All, &everything(), &all), &all);
            prop_assert_eq!(&marked(&query, &formatting, Mark::None, &everything(), &all), &hit);
            if formatting.crop.is_empty() {
                let written = all["_formatted"]["t"].as_str().unwrap();
                prop_assert_eq!(written.replace("<em>", "").replace("</em>", ""), text.clone());
                let marks = written.matches("<em>").count();
                let positions = all["_matchesPosition"]["t"].as_array().map_or(0, Vec::len);
                prop_assert_eq!(marks, positions);
            }
        }
    }
}
