//! Hits are read when a merge comes to them, and nobody can tell from its outcome.

use std::cmp::Ordering;

use miroir_api::TaskUid;
use proptest::prelude::*;

use super::eager::{self, EagerHit, EagerPage};
use super::*;
use crate::documents::Stamp;
use crate::merge::order::{Side, compare};
use crate::merge::score::{self, Ranks, TermCounts};

/// Entries of details as nodes write them, and as only others would.
fn entry() -> impl Strategy<Value = String> {
    let number = prop_oneof![
        4 => (0..9_u32).prop_map(|n| n.to_string()),
        3 => (0..=42_u32).prop_map(|n| format!("{:?}", f64::from(n) / 42.0)),
        1 => any::<i64>().prop_map(|n| n.to_string()),
        1 => any::<f64>().prop_map(|n| format!("{n:?}")),
        1 => "[0-9.eE+-]{1,20}",
        1 => Just("null".to_owned()),
        1 => Just("\"4\"".to_owned()),
        1 => Just("[1,{\"a\":\"}\"}]".to_owned()),
    ];
    let text = prop_oneof![
        "[a-zé{}\\[\\],:]{0,30}".prop_map(|text| format!("\"{text}\"")),
        Just(r#""a\"b\\""#.to_owned()),
        Just(r#""\u0061""#.to_owned()),
    ];
    let value = prop_oneof![2 => number.clone(), 1 => text];
    let rule = prop_oneof![
        Just("proximity"),
        Just("attributeRank"),
        Just("wordPosition"),
        Just("attribute"),
        Just("words"),
    ];
    let name = prop_oneof![
        Just("price:asc"),
        Just("words:desc"),
        Just("a\\\"b:desc"),
        Just("_geoPoint(1.0, 2.0):asc"),
        Just("typo:asc"),
        Just("x"),
    ];
    let level =
        prop_oneof![Just("exactMatch"), Just("matchesStart"), Just("noExactMatch"), Just("x")];
    let n = number;
    prop_oneof![
        (n.clone(), n.clone(), n.clone(), n.clone()).prop_map(|(a, b, c, d)| format!(
            r#""words":{{"order":{a},"matchingWords":{b},"maxMatchingWords":{c},"score":{d}}}"#
        )),
        (n.clone(), n.clone(), n.clone(), n.clone()).prop_map(|(a, b, c, d)| format!(
            r#""typo":{{"order":{a},"typoCount":{b},"maxTypoCount":{c},"score":{d}}}"#
        )),
        (rule, n.clone(), n.clone())
            .prop_map(|(rule, a, b)| format!(r#""{rule}":{{"order":{a},"score":{b}}}"#)),
        (n.clone(), n.clone(), n.clone()).prop_map(|(a, b, c)| format!(
            r#""attribute":{{"order":{a},"attributeRankingOrderScore":{b},"queryWordDistanceScore":{c},"score":1.0}}"#
        )),
        (level, n.clone(), n.clone()).prop_map(|(level, a, b)| format!(
            r#""exactness":{{"order":{a},"matchType":"{level}","matchingWords":{b},"maxMatchingWords":4,"score":0.5}}"#
        )),
        Just(r#""exactness":{"order":5,"matchType":"exactMatch","score":1.0}"#.to_owned()),
        (name, n.clone(), value)
            .prop_map(|(name, a, b)| format!(r#""{name}":{{"order":{a},"value":{b}}}"#)),
        n.clone().prop_map(|a| format!(
            r#""_geoPoint(1.0, 2.0):asc":{{"order":0,"value":[1.0,2.0],"distance":{a}}}"#
        )),
        n.clone().prop_map(|a| format!(r#""vectorSort":{{"order":0,"similarity":{a}}}"#)),
        n.clone().prop_map(|a| format!(r#""pin":{{"order":0,"position":{a}}}"#)),
        Just(r#""skipped":{"order":3}"#.to_owned()),
        Just(r#""skipped" : 3"#.to_owned()),
        Just(r#""pin":"words""#.to_owned()),
        n.clone().prop_map(|a| format!(
            r#""words" : {{ "matchingWords":{a} , "matchingWords" : 3, "maxMatchingWords":3 }}"#
        )),
        n.prop_map(|a| format!(r#""proximity":{{"score":{a},"order":1,"new":{{"x":[]}}}}"#)),
    ]
}

fn hit() -> impl Strategy<Value = String> {
    let details = proptest::collection::vec(entry(), 0..5).prop_map(|mut entries| {
        // Nodes say first that a hit is pinned.
        entries.sort_by_key(|entry| !entry.starts_with(r#""pin""#));
        format!("{{{}}}", entries.join(","))
    });
    let details =
        prop_oneof![9 => details, 1 => Just("null".to_owned()), 1 => Just("[{}]".to_owned())];
    let score = prop_oneof![
        4 => (0..=9_u32).prop_map(|n| format!("{:?}", f64::from(n) / 9.0)),
        1 => Just("null".to_owned()),
    ];
    let title = prop_oneof![
        Just(r#""a title of \"some\" length: {[""#.to_owned()),
        "[a-zé]{0,40}".prop_map(|text| format!("\"{text}\"")),
        Just("[1,[\"]\"],{}]".to_owned()),
    ];
    // Hits of one page mostly have the same fields, but need not.
    let shape = prop_oneof![6 => Just(0_u32), 4 => any::<u32>()];
    (any::<u16>(), title, score, details, 0..3_u32, shape).prop_map(
        |(id, title, score, details, task, shape)| {
            let stamp = Stamp::new(TaskUid(task), usize::from(id)).text();
            let stamp = str::from_utf8(&stamp).expect("UTF-8");
            let set = |bit: u32| shape >> bit & 1 == 1;
            let mut fields = vec![
                format!(r#""id":{id}"#),
                format!(r#""title":{title}"#),
                format!(r#""_formatted":{{"id":"{id}","_miroir_shard":""}}"#),
                format!(r#""_miroir_order":"{stamp}""#),
                format!(r#""_rankingScore":{score}"#),
                format!(r#""_rankingScoreDetails":{details}"#),
            ];
            if set(0) {
                fields.remove(shape as usize >> 8 & 3);
            }
            if set(1) {
                fields.swap(1, 2);
            }
            if set(2) {
                fields.insert(1, r#""_miroir_shard":"","title":null"#.to_owned());
            }
            if set(3) {
                fields[0] = format!(r#" "id" : {id} "#);
            }
            if set(4) {
                fields
                    .push(r#""_rankingScoreDetails":{"typo":{"order":1,"score":0.5}}"#.to_owned());
            }
            let comma = if set(5) { " , " } else { "," };
            format!("{{{}}}", fields.join(comma))
        },
    )
}

fn body(hits: &[String]) -> String {
    let total = hits.len();
    format!(r#"{{"hits":[{}],"query":"q","estimatedTotalHits":{total}}}"#, hits.join(","))
}

/// What the decoder says of a page, all of it asked for.
fn all_of(page: &Page) -> EagerPage {
    let hits = page.hits.iter().map(|hit| EagerHit {
        fields: page.fields(hit).iter().map(|f| (f.key, f.value, f.kind)).collect(),
        score: page.score(hit),
        rules: page.rules(hit).to_vec(),
        marks: page.marks(hit),
        stamp: page.stamp(hit),
    });
    EagerPage { body: page.body.to_vec(), hits: hits.collect(), total: page.total }
}

/// Numbers that are none are equal here.
fn shown(page: Option<&EagerPage>) -> String {
    format!("{page:?}")
}

fn check(body: &[u8]) -> Result<(), TestCaseError> {
    let (bytes, eager) = (Bytes::copy_from_slice(body), eager::decode(body));
    let whole = Page::decode(&bytes).ok().as_ref().map(all_of);
    prop_assert_eq!(shown(whole.as_ref()), shown(eager.as_ref()));
    // A page that was only opened says the same, or that it does not know.
    let opened = Page::open(&bytes).ok();
    let read = opened.as_ref().map(all_of);
    prop_assert!(opened.is_some() || eager.is_none());
    if opened.is_none_or(|page| page.is_sound()) {
        prop_assert_eq!(shown(read.as_ref()), shown(eager.as_ref()));
    }
    Ok(())
}

/// Merges pages of which everything is decoded, by looking at all heads at every step. `None` where heads
/// have no order: of details that no query gives together, each of three can be before the next.
fn merge_eagerly(pages: &[EagerPage], limit: usize) -> Option<Vec<(usize, usize)>> {
    let info = RankingInfo::default();
    let sample = pages.iter().flat_map(|page| page.hits.iter().take(16));
    let required = (pages.len() > 1)
        .then(|| score::required_words(sample.map(|hit| (&hit.rules[..], hit.score)), &info))
        .flatten();
    let ranks = |hit: &EagerHit| {
        let mut out: Vec<Ranks> = Vec::new();
        let terms = score::counted_words(&hit.rules, &info).or(required);
        score::recover(&hit.rules, hit.score, &info, TermCounts { terms, gaps: 0 }, &mut out);
        out
    };
    let order = |(page, hit): (&EagerPage, &EagerHit), (other, than): (&EagerPage, &EagerHit)| {
        let (ours, theirs) = (ranks(hit), ranks(than));
        let ours = Side { body: &page.body, rules: &hit.rules, ranks: &ours, score: hit.score };
        let theirs =
            Side { body: &other.body, rules: &than.rules, ranks: &theirs, score: than.score };
        compare(ours, theirs).then(hit.stamp.cmp(&than.stamp))
    };
    let mut at = vec![0; pages.len()];
    let mut out = Vec::new();
    while out.len() < limit {
        let heads = || {
            let heads = pages.iter().zip(&at).enumerate();
            heads.filter_map(|(leaf, (page, at))| Some((leaf, (page, page.hits.get(*at)?))))
        };
        let before = |one, other| order(one, other) == Ordering::Less;
        let first = heads().reduce(|best, next| if before(next.1, best.1) { next } else { best });
        let Some((leaf, _)) = first else { break };
        // Being no later has to be passed on, from one to the next and from there to the third.
        let is_passed_on = heads().all(|(_, a)| {
            let after_a = || heads().filter(move |(_, b)| !before(*b, a));
            after_a().all(|(_, b)| heads().all(|(_, c)| before(c, b) || !before(c, a)))
        });
        let is_mutual =
            heads().all(|(_, a)| heads().all(|(_, b)| order(a, b) == order(b, a).reverse()));
        if !is_passed_on || !is_mutual {
            return None;
        }
        out.push((leaf, at[leaf]));
        at[leaf] += 1;
    }
    Some(out)
}

/// Merges pages of which those are only opened that a node could have written.
fn merge_opened(bodies: &[String], options: &HitOptions) -> (Vec<Page>, MergedHits) {
    let open = |body: &String| {
        let page = page(body);
        let probe = page.clone();
        all_of(&probe);
        let whole = || Page::decode(&Bytes::from(body.clone())).expect("an answer");
        if probe.is_sound() { page } else { whole() }
    };
    let pages: Vec<Page> = bodies.iter().map(open).collect();
    let merged = merge_hits(&pages, options);
    assert!(pages.iter().all(Page::is_sound));
    (pages, merged)
}

/// How many hits of the pages were read.
fn read(pages: &[Page]) -> usize {
    pages.iter().flat_map(|page| &page.hits).filter(|hit| hit.is_read()).count()
}

/// A hit under the rules that nodes have by default.
fn ranked(id: usize, words: u32, position: u32) -> String {
    let ranks = [
        (words, 2),
        (2, 2),
        (1, 1),
        (words + 1, words + 1),
        (10 * words + 1 - position, 10 * words + 1),
    ];
    let score = ranks.iter().fold((1, 1), |o: (u32, u32), i| ((o.0 - 1) * i.1 + i.0, o.1 * i.1));
    let one = |(rank, max): (u32, u32)| f64::from(rank) / f64::from(max);
    format!(
        r#"{{"id":{id},"_rankingScore":{:?},"_rankingScoreDetails":{{"words":{{"order":0,"matchingWords":{words},"maxMatchingWords":2,"score":{:?}}},"typo":{{"order":1,"typoCount":0,"maxTypoCount":1,"score":1.0}},"proximity":{{"order":2,"score":1.0}},"attributeRank":{{"order":3,"score":1.0}},"wordPosition":{{"order":4,"score":{:?}}}}}}}"#,
        one(score),
        one(ranks[0]),
        one(ranks[4]),
    )
}

/// Pages of leaves that answer `hits` each, interleaved.
fn leaves(leaves: usize, hits: usize) -> Vec<Page> {
    let leaf = |leaf: usize| {
        let hit = |at: usize| {
            let rank = at * leaves + leaf;
            let (words, position) =
                if rank < 11 { (2, rank as u32) } else { (1, (rank as u32 - 11) / 18) };
            ranked(rank, words, position.min(10))
        };
        page(&body(&(0..hits).map(hit).collect::<Vec<_>>()))
    };
    (0..leaves).map(leaf).collect()
}

#[test]
fn no_more_is_read_than_the_page_and_the_heads() {
    for (count, limit) in [(3, 20), (8, 20), (2, 1), (3, 0)] {
        let pages = leaves(count, limit.max(5));
        let options = HitOptions { limit, ..<_>::default() };
        let merged = merge_hits(&pages, &options);
        assert_eq!(merged.placed.len(), limit);
        assert!(read(&pages) <= limit + count, "{} of {count} leaves", read(&pages));
        merged.write(&pages, &options, &mut Vec::new());
        assert!(read(&pages) <= limit + count, "{} of {count} leaves", read(&pages));
    }
}

/// Documents that hold what nodes answered are told from what a node answers.
#[test]
fn a_document_that_holds_answers_is_no_end_of_a_hit() {
    let inner = ranked(7, 1, 0);
    let others = format!(r#"{{"id":0,"seen":[{inner},{inner}],{}"#, &ranked(1, 2, 0)[1..]);
    for hits in [vec![others.clone()], vec![ranked(2, 2, 0), others.clone(), ranked(3, 2, 0)]] {
        let body = body(&hits);
        let page = Page::open(&Bytes::from(body.clone())).expect("an answer");
        let seen = all_of(&page);
        let whole = eager::decode(body.as_bytes());
        assert!(!page.is_sound() || shown(Some(&seen)) == shown(whole.as_ref()), "{body}");
        assert_eq!(page.is_sound(), hits.len() == 1, "{body}");
    }
}

#[test]
fn damage_in_a_hit_is_noticed_when_it_is_read() {
    let hits: Vec<String> = (0..4).map(|at| ranked(at, 2, 0)).collect();
    let damaged = body(&hits).replace(r#"{"id":2,"#, r#"{"id":[2,"#);
    let page = Page::open(&Bytes::from(damaged.clone())).expect("what is read is an answer");
    let merge =
        |limit| merge_hits(std::slice::from_ref(&page), &HitOptions { limit, ..<_>::default() });
    merge(1);
    assert!(page.is_sound());
    merge(4);
    assert!(!page.is_sound());
    assert!(Page::decode(&Bytes::from(damaged)).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_is_decoded_late_is_what_is_decoded_at_once(
        hits in proptest::collection::vec(hit(), 0..5), same in any::<bool>(),
    ) {
        check(body(&hits).as_bytes())?;
        // Each hit twice, with other numbers: as alike as hits of one query are.
        let twice: Vec<String> = hits
            .iter()
            .flat_map(|hit| {
                let other = if same { hit.clone() } else { hit.replace('1', "22").replace(":0", ":0.5") };
                [hit.clone(), other]
            })
            .collect();
        check(body(&twice).as_bytes())?;
    }

    /// An answer that is cut, or damaged in one place, is an error where it is one for a decoder that
    /// reads all of it.
    #[test]
    fn damage_is_found_where_it_is_found_at_once(
        hits in proptest::collection::vec(hit(), 1..4), cut in any::<prop::sample::Index>(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), prop_oneof![
            Just(b'"'), Just(b'\\'), Just(b'{'), Just(b'}'), Just(b'['), Just(b']'), Just(b','), Just(b':'),
            Just(b' '), Just(b'0'), Just(b'x'), any::<u8>(),
        ]), 1..4),
    ) {
        let whole = body(&hits).into_bytes();
        check(&whole[..cut.index(whole.len())])?;
        let mut damaged = whole.clone();
        for (at, byte) in &damage {
            let at = at.index(damaged.len());
            damaged[at] = *byte;
            check(&damaged)?;
        }
        let mut without = whole;
        without.remove(cut.index(without.len()));
        check(&without)?;
    }

    #[test]
    fn a_lazy_merge_is_an_eager_one(
        leaves in proptest::collection::vec(proptest::collection::vec(hit(), 0..6), 1..5),
        limit in 0..12_usize,
    ) {
        let mut bodies: Vec<String> = leaves.iter().map(|hits| body(hits)).collect();
        bodies.retain(|body| eager::decode(body.as_bytes()).is_some());
        let options = HitOptions { limit, ..<_>::default() };
        let (pages, merged) = merge_opened(&bodies, &options);
        let pinned = pages.iter().any(|page| page.pins().next().is_some());
        if !pinned {
            let eager: Option<Vec<_>> = bodies.iter().map(|body| eager::decode(body.as_bytes())).collect();
            let placed: Vec<_> = merged.placed.iter().map(|placed| (placed.leaf, placed.hit)).collect();
            if let Some(expected) = merge_eagerly(&eager.expect("pages"), limit) {
                prop_assert_eq!(placed, expected);
            }
            let skipped = merged.placed.iter().any(|at| {
                let page = &pages[at.leaf];
                page.marks(&page.hits[at.hit]).skipped
            });
            prop_assert_eq!(merged.degraded, skipped);
        }
        // Pages that were decoded before are merged and written in the same way, whatever is asked for.
        let decode = |body: &String| Page::decode(&Bytes::from(body.clone())).expect("an answer");
        let known: Vec<Page> = bodies.iter().map(decode).collect();
        for options in [
            options.clone(),
            HitOptions { show_details: true, show_score: true, ..options.clone() },
            HitOptions { score_threshold: Some(0.4), ..options.clone() },
            HitOptions { distinct: Some("title".to_owned()), unique: Some("id".to_owned()), ..options },
        ] {
            let (fresh, merged) = merge_opened(&bodies, &options);
            let [mut one, mut other] = [Vec::new(), Vec::new()];
            merged.write(&fresh, &options, &mut one);
            merge_hits(&known, &options).write(&known, &options, &mut other);
            prop_assert_eq!(one, other);
        }
    }
}
