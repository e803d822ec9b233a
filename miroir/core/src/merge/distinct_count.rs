//! Which candidates are left under a distinct attribute, told from lists of all of them.
//!
//! Where nodes cannot be asked for documents with a value, because the attribute is not filterable, or
//! where their counts do not tell groups apart, because documents have several values, all candidates
//! are listed and looked through here.

use std::collections::HashSet;

use super::distinct::values_of;
use super::distinct_scan::ScannedHits;
use super::facet_value::FacetValue;
use super::page::Page;

/// The candidates of each leaf that one node holding everything would count, as indices of hits.
///
/// `pages` list all candidates, with what they have at `attribute`, best first; `scanned` is what the
/// node looks at for its page. Where it counts exhaustively, as it does for numbered pages, one of the
/// other candidates is left of each value too, the first here.
#[must_use]
pub fn candidates_left(
    pages: &[Page],
    attribute: &str,
    scanned: &ScannedHits,
    exhaustive: bool,
) -> Vec<Vec<usize>> {
    let looked_at: HashSet<&FacetValue> = scanned.all().collect();
    let mut left = vec![Vec::new(); pages.len()];
    let mut rest: Vec<(usize, usize, Vec<FacetValue>)> = Vec::new();
    for (leaf, page) in pages.iter().enumerate() {
        let elsewhere: HashSet<&FacetValue> = scanned.of_others(leaf).collect();
        let mut taken: HashSet<FacetValue> = HashSet::new();
        for (at, hit) in page.hits.iter().enumerate() {
            let mut values = Vec::new();
            values_of(page, hit, attribute, false, &mut values);
            if !values.iter().any(|value| looked_at.contains(value)) {
                rest.push((at, leaf, values));
            } else if !values.iter().any(|value| elsewhere.contains(value) || taken.contains(value))
            {
                left[leaf].push(at);
                taken.extend(values);
            }
        }
    }
    rest.sort_by_key(|(at, leaf, _)| (*at, *leaf));
    let mut taken: HashSet<FacetValue> = HashSet::new();
    for (at, leaf, values) in rest {
        if exhaustive {
            if values.iter().any(|value| taken.contains(value)) {
                continue;
            }
            taken.extend(values);
        }
        left[leaf].push(at);
    }
    left
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::{HitOptions, scan_hits};
    use super::*;

    fn page(hits: &[(u32, &str)]) -> Page {
        let hits: Vec<String> = hits
            .iter()
            .map(|(rank, value)| {
                format!(
                    r#"{{"g":{value},"_rankingScore":1.0,"_rankingScoreDetails":{{
                    "n:asc":{{"order":0,"value":{rank}.0}}}}}}"#
                )
            })
            .collect();
        Page::decode(&Bytes::from(format!(r#"{{"hits":[{}]}}"#, hits.join(",")))).unwrap()
    }

    #[test]
    fn duplicates_of_what_was_looked_at_are_not_left() {
        let pages = [
            page(&[(1, r#""a""#), (3, r#""B""#), (5, r#""a ""#), (7, "null"), (9, r#""d""#)]),
            page(&[(2, r#""b""#), (4, r#""A""#), (6, r#""d""#), (8, "null"), (9, r#"["e","d"]"#)]),
        ];
        let options = HitOptions { distinct: Some("g".to_owned()), ..HitOptions::default() };
        let scanned = scan_hits(&pages, &options, 2, 9);
        let left = candidates_left(&pages, "g", &scanned, false);
        assert_eq!(left, [vec![0, 3, 4], vec![0, 2, 3, 4]]);
        // Counted exhaustively, each value is left once.
        let left = candidates_left(&pages, "g", &scanned, true);
        assert_eq!(left, [vec![0, 3], vec![0, 2, 3]]);
    }
}
