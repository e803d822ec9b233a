//! The hits of one of the queries a query was taken apart into, as hits of the whole query.

use super::Level;
use crate::merge::details::{Exact, Kind};
use crate::merge::order::{Side, compare};
use crate::merge::page::Page;
use crate::merge::score::{self, Rank, RankingInfo, Ranks, TermCounts};

/// Keeps the hits that match all words of a level, and makes their details say what they would say
/// under the whole query.
#[must_use]
pub fn relevel(mut page: Page, level: &Level, info: &RankingInfo) -> Page {
    let whole = |page: &Page, at: usize| {
        page.hits.get(at).is_some_and(|hit| {
            page.rules(hit).iter().all(|rule| match rule.kind {
                Kind::Words { matching, max } => matching == max,
                _ => true,
            })
        })
    };
    page.hits = (0..page.hits.len())
        .filter(|at| whole(&page, *at))
        .map(|at| page.hits[at].clone())
        .collect();
    let terms = TermCounts { terms: Some(level.terms), gaps: level.gaps };
    page.terms = Some(terms);
    let mut demoted = false;
    let mut ranks = Vec::new();
    for at in 0..page.hits.len() {
        let Some(content) = page.content_mut(at) else { continue };
        let confirmed = score::recover(&content.rules, content.score, info, terms, &mut ranks);
        for (rule, ranks) in content.rules.iter_mut().zip(&mut ranks) {
            match &mut rule.kind {
                Kind::Words { matching, max } => {
                    (*matching, *max) = (level.matching, level.max);
                    ranks.first = Rank { rank: level.matching, max: level.max };
                }
                Kind::Exactness { level: exact, counts } if level.hole && *exact != Exact::No => {
                    *exact = Exact::No;
                    *counts = Some((
                        ranks.second.rank.saturating_sub(1),
                        ranks.second.max.saturating_sub(1),
                    ));
                    ranks.first = Rank { rank: 1, max: 3 };
                    demoted = true;
                }
                _ => {}
            }
        }
        if confirmed {
            content.score = Some(score::total(&ranks));
        }
    }
    if demoted {
        sort(&mut page, info, terms);
    }
    page
}

/// Sorts hits again, keeping the order of equal ones.
fn sort(page: &mut Page, info: &RankingInfo, terms: TermCounts) {
    let recovered: Vec<Vec<Ranks>> = page
        .hits
        .iter()
        .map(|hit| {
            let mut ranks = Vec::new();
            score::recover(page.rules(hit), page.score(hit), info, terms, &mut ranks);
            ranks
        })
        .collect();
    let side = |at: usize| Side {
        body: &page.body,
        rules: page.rules(&page.hits[at]),
        ranks: &recovered[at],
        score: page.score(&page.hits[at]),
    };
    let mut order: Vec<usize> = (0..page.hits.len()).collect();
    order.sort_by(|a, b| compare(side(*a), side(*b)));
    page.hits = order.iter().map(|at| page.hits[*at].clone()).collect();
}
