//! `rankingScoreThreshold`: how many hits one node would count.
//!
//! A node goes through its hits, best first, until the page is full, and takes those that score less
//! than the threshold out of its candidates. What comes behind the page stays counted, whatever it
//! scores. Leaves cannot tell: each looks further than one node would, and its own scores are lower
//! than the whole corpus's where it knows fewer hits. So leaves are asked without the threshold, and
//! the merged list is gone through here.

use super::hits::{HitOptions, is_rank, merge_hits};
use super::page::Page;

/// What came of going through the merged hits of a search with a threshold.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Judged {
    /// How many hits score enough, up to the number wanted.
    pub kept: u64,
    /// How many hits in front of the last of them do not.
    pub below: u64,
    /// Whether there are as many as wanted.
    pub full: bool,
    /// Whether a leaf's list was too short to tell: it has to be asked for more.
    pub open: bool,
    /// Whether scores fall along the lists: then the page is right, however short they are.
    pub falls: bool,
    /// For each leaf, the lowest score it printed for a hit that was kept; none if none was.
    pub floors: Vec<Option<f64>>,
}

impl Judged {
    /// The total of one node that has this many candidates.
    #[must_use]
    pub fn total(&self, candidates: u64) -> u64 {
        if self.full { candidates.saturating_sub(self.below) } else { self.kept }
    }
}

/// Goes through the merged hits until `wanted` of them score enough. Leaves were asked for `asked`.
#[must_use]
pub fn judge(pages: &[Page], options: &HitOptions, wanted: usize, asked: usize) -> Judged {
    let options = HitOptions { offset: 0, limit: wanted, ..options.clone() };
    let merged = merge_hits(pages, &options);
    let mut floors: Vec<Option<f64>> = vec![None; pages.len()];
    for placed in &merged.placed {
        let page = &pages[placed.leaf];
        if let Some(score) = page.score(&page.hits[placed.hit]) {
            let floor = &mut floors[placed.leaf];
            *floor = Some(floor.map_or(score, |least| least.min(score)));
        }
    }
    let falls = pages.iter().all(scores_fall);
    let open = pages.iter().zip(&merged.looked).any(|(page, looked)| {
        let organic = page.hits.len() - page.pins().count();
        let to_the_end = looked.at >= organic && page.hits.len() >= asked;
        // Where scores fall, nothing that counts comes behind.
        to_the_end && !(falls && (looked.below || merged.full))
    });
    Judged {
        kept: merged.placed.len() as u64,
        below: merged.below_threshold,
        full: merged.full,
        open,
        falls,
        floors,
    }
}

/// Whether scores fall along the list: not where a rule that does not count comes before one that
/// does.
fn scores_fall(page: &Page) -> bool {
    page.hits.iter().filter(|hit| page.marks(hit).pinned.is_none()).all(|hit| {
        let counting = page.rules(hit).iter().map(|rule| is_rank(&rule.kind));
        counting.is_sorted_by(|before, after| before >= after)
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    /// A leaf's list of hits that match so many of ten words, behind a sort by `sort` if any.
    fn page(words: &[(u32, Option<u32>)]) -> Page {
        let hits: Vec<String> = words
            .iter()
            .map(|(words, sort)| {
                let score = f64::from(*words) / 10.0;
                let sort = sort.map_or(String::new(), |value| {
                    format!(r#""a:asc":{{"order":0,"value":{value}.0}},"#)
                });
                format!(
                    r#"{{"_rankingScore":{score},"_rankingScoreDetails":{{{sort}"words":{{"order":1,"matchingWords":{words},"maxMatchingWords":10,"score":{score}}}}}}}"#
                )
            })
            .collect();
        let body = format!(r#"{{"hits":[{}],"estimatedTotalHits":90}}"#, hits.join(","));
        Page::decode(&Bytes::from(body)).unwrap()
    }

    fn falling(words: &[u32]) -> Page {
        page(&words.iter().map(|words| (*words, None)).collect::<Vec<_>>())
    }

    fn judged(pages: &[Page], wanted: usize, asked: usize) -> Judged {
        let options = HitOptions { score_threshold: Some(0.5), ..HitOptions::default() };
        judge(pages, &options, wanted, asked)
    }

    #[test]
    fn a_full_page_says_nothing_of_what_comes_behind() {
        let pages = [falling(&[9, 8, 2]), falling(&[7, 1, 1])];
        let judged = judged(&pages, 3, 3);
        assert!(judged.full && !judged.open, "{judged:?}");
        assert_eq!((judged.kept, judged.below, judged.total(180)), (3, 0, 180));
        assert_eq!(judged.floors, [Some(0.8), Some(0.7)]);
    }

    #[test]
    fn a_page_that_is_not_full_counts_what_is_on_it() {
        let pages = [falling(&[9, 8, 2, 2]), falling(&[1, 1, 1, 1])];
        let judged = judged(&pages, 4, 4);
        assert!(!judged.full && !judged.open, "{judged:?}");
        assert_eq!(judged.total(180), 2);
        assert_eq!(judged.floors, [Some(0.8), None]);
    }

    #[test]
    fn a_list_whose_end_scores_enough_has_to_go_on() {
        let pages = [falling(&[9, 8, 7, 7]), falling(&[6, 1])];
        assert!(judged(&pages, 100, 4).open);
        assert!(!judged(&pages, 100, 5).open, "all of it was seen");
        assert!(!judged(&pages, 4, 4).open, "the page is full");
    }

    #[test]
    fn behind_a_sort_those_in_front_of_the_end_of_the_page_are_left_out() {
        let sorted = |words: &[(u32, u32)]| {
            page(&words.iter().map(|(words, sort)| (*words, Some(*sort))).collect::<Vec<_>>())
        };
        let pages =
            [sorted(&[(9, 1), (2, 3), (8, 6), (1, 8)]), sorted(&[(1, 2), (7, 4), (9, 7), (9, 9)])];
        let found = judged(&pages, 3, 4);
        assert!(found.full && !found.open, "{found:?}");
        assert_eq!((found.kept, found.below, found.total(180)), (3, 2, 178));
        // One list ends before the page does: what comes next in it may belong before the others'.
        assert!(judged(&pages, 5, 4).open);
        let all = judged(&pages, 9, 5);
        assert_eq!((all.total(8), all.falls), (5, false));
    }
}
