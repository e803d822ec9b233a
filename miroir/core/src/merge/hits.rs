//! Merging the hits of several leaves into the order one node holding everything would give.

use std::cmp::Ordering;
use std::collections::HashSet;

use super::details::{Kind, Rule};
use super::distinct::Seen;
use super::hit::Content;
use super::order::{Digest, Side, Tournament, compare, compare_rule, scores};
use super::page::Page;
use super::query_shape::QueryShape;
use super::score::{self, Ranked, RankingInfo, Ranks, TermCounts};
use crate::documents::Stamp;

/// What the client asked for, as far as hits are concerned.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HitOptions {
    /// Hits to leave out at the beginning of the merged list.
    pub offset: usize,
    /// Hits to return at most. The leaves must have been asked for `offset + limit`.
    pub limit: usize,
    /// How many hits of `offset` the only leaf left out itself.
    pub begins: usize,
    /// Whether the client asked for `_rankingScore`.
    pub show_score: bool,
    /// Whether the client asked for `_rankingScoreDetails`.
    pub show_details: bool,
    /// `rankingScoreThreshold`: hits that score less are dropped.
    pub score_threshold: Option<f64>,
    /// The field that tells documents apart, where leaves may show one more than once.
    pub unique: Option<String>,
    /// The distinct attribute in force (dotted when nested).
    pub distinct: Option<String>,
    /// Whether it is the query's own: the engine then goes through the hits it kept once more, by
    /// what they show, and does not fill the places of those it drops.
    pub distinct_shown: bool,
    /// Top-level fields the client did not ask for and Miroir added for itself.
    pub drop_fields: Vec<String>,
    /// The same for `_formatted` and `_matchesPosition`.
    pub drop_formatted: Vec<String>,
    /// How the words of the query hang together.
    pub shape: QueryShape,
    /// What recovering absolute costs needs.
    pub ranking: RankingInfo,
}

/// A hit of the merged page.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Placed {
    /// Index of the leaf's page.
    pub leaf: usize,
    /// Index of the hit within it.
    pub hit: usize,
    /// `_rankingScore` for the whole corpus, where it differs from the leaf's or was recomputed.
    pub score: Option<f64>,
    /// Rewritten ranks: where they begin and how many.
    pub(super) ranks: Option<(u32, u32)>,
}

/// The merged page: which hits, in which order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MergedHits {
    /// Where the hits of the page are, best first.
    pub placed: Vec<Placed>,
    /// How many hits were dropped because their distinct value was already there.
    pub duplicates: u64,
    /// How many hits were dropped because they score less than the threshold.
    pub below_threshold: u64,
    /// How many hits of the page were found by vector similarity.
    pub semantic: u64,
    /// Whether a leaf ran out of time, so that the order is not the exact one.
    pub degraded: bool,
    /// How many leaves had equal hits in another order than that in which the documents came first.
    pub descending: u64,
    /// Whether the page was filled up to its end.
    pub(super) full: bool,
    /// For each leaf, how far its list was gone through.
    pub(super) looked: Vec<Looked>,
    pub(super) ranks: Vec<Ranks>,
}

/// How far the list of a leaf was gone through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Looked {
    /// How many of its hits were taken or dropped; pinned ones do not count.
    pub(super) at: usize,
    /// Whether the last one scored less than the threshold.
    pub(super) below: bool,
}

/// Merges the pages of one query's leaves.
///
/// Order: the comparator of the ranking rules; equal hits by their stamps, then by leaf. A leaf's own
/// order is never changed, not even where its stamps descend: so pages of one query neither overlap nor
/// leave anything out. `O(K log leaves)` for `K` hits, unless a threshold is
/// set: then every hit received is looked at, because whole-corpus scores depend on them.
#[must_use]
pub fn merge_hits(pages: &[Page], options: &HitOptions) -> MergedHits {
    let mut merged =
        MergedHits { looked: vec![Looked::default(); pages.len()], ..MergedHits::default() };
    let wanted = options.offset.saturating_add(options.limit);
    let mut pins: Vec<(u64, u32, u32)> = Vec::new();
    for (leaf, page) in pages.iter().enumerate() {
        pins.extend(page.pins().map(|(slot, at)| (slot, leaf as u32, at as u32)));
    }
    pins.sort_unstable();
    let mut page = Walk {
        pages,
        options,
        wanted,
        out: &mut merged,
        filled: options.begins,
        dropped: 0,
        documents: HashSet::new(),
        seen: options.distinct.as_deref().map(Seen::new),
        shown: options.distinct.as_deref().filter(|_| options.distinct_shown).map(Seen::shown),
        pins: pins.into_iter().peekable(),
    };

    let rewrite = options.show_score || options.show_details || options.score_threshold.is_some();
    if !rewrite || pages.len() < 2 {
        let descending = Heads::new(pages, options)
            .run(|head| if page.push(head.placed()) { Step::Next } else { Step::Stop });
        page.finish();
        merged.descending = descending;
        return merged;
    }

    let mut hits: Vec<Ranked> = Vec::new();
    let mut ranks = Vec::new();
    let descending = Heads::new(pages, options).run(|head| {
        let placed = Placed { ranks: head.rewritable(ranks.len()), ..head.placed() };
        hits.push(Ranked {
            leaf: head.leaf,
            hit: head.hit,
            ranks: (ranks.len() as u32, head.ranks.len() as u32),
            confirmed: head.confirmed,
        });
        ranks.extend_from_slice(head.ranks);
        // A threshold must see whole-corpus scores, so all hits come first. Otherwise the page and
        // one more hit of each leaf will do: within a leaf, hits of one group share their maxima,
        // and if any later hit of a leaf belongs to a group of the page, its next one does.
        if options.score_threshold.is_some() || page.push(placed) {
            Step::Next
        } else {
            Step::Retire
        }
    });
    let kind = |hit: &Ranked, level: usize| {
        let page = &pages[hit.leaf as usize];
        let rule = page.rules(&page.hits[hit.hit as usize]).get(level)?;
        Some((&rule.kind, &page.body[..]))
    };
    score::raise(&hits, &mut ranks, |a, b, level| match (kind(a, level), kind(b, level)) {
        (Some(a), Some(b)) => {
            let none = Ranks::default();
            is_rank(a.0) && is_rank(b.0)
                || compare_rule(a, &none, b, &none).is_some_and(Ordering::is_eq)
        }
        (a, b) => a.is_none() && b.is_none(),
    });
    let score = |(start, len): (u32, u32)| {
        score::total(ranks.get(start as usize..(start + len) as usize).unwrap_or_default())
    };
    if options.score_threshold.is_some() {
        for hit in &hits {
            let of = &pages[hit.leaf as usize];
            let semantic = of.marks(&of.hits[hit.hit as usize]).semantic;
            let rewritten = (hit.confirmed && !semantic).then_some(hit.ranks);
            let placed = Placed {
                leaf: hit.leaf as usize,
                hit: hit.hit as usize,
                score: rewritten.map(score),
                ranks: rewritten,
            };
            if !page.push(placed) {
                break;
            }
        }
    }
    page.finish();
    for placed in &mut merged.placed {
        placed.score = placed.ranks.map(score);
    }
    merged.ranks = ranks;
    merged.descending = descending;
    merged
}

pub(super) fn is_rank(kind: &Kind) -> bool {
    !matches!(kind, Kind::Sort { .. } | Kind::Geo { .. } | Kind::Vector(_) | Kind::Unknown)
}

/// Fills the page from hits in merged order.
struct Walk<'a> {
    pages: &'a [Page],
    options: &'a HitOptions,
    wanted: usize,
    out: &'a mut MergedHits,
    filled: usize,
    /// How many of the places were emptied again.
    dropped: usize,
    documents: HashSet<&'a [u8]>,
    seen: Option<Seen<'a>>,
    shown: Option<Seen<'a>>,
    pins: std::iter::Peekable<std::vec::IntoIter<(u64, u32, u32)>>,
}

impl Walk<'_> {
    /// Takes the next organic hit; `false` when the page is full.
    fn push(&mut self, placed: Placed) -> bool {
        self.pinned(self.filled as u64);
        if self.filled >= self.wanted {
            return false;
        }
        let page = &self.pages[placed.leaf];
        let hit = &page.hits[placed.hit];
        let looked = &mut self.out.looked[placed.leaf];
        *looked = Looked { at: looked.at + 1, below: false };
        if let Some(document) =
            self.options.unique.as_deref().and_then(|name| page.field(placed.hit, name))
            && !self.documents.insert(document)
        {
            return true;
        }
        if let Some(threshold) = self.options.score_threshold
            && let Some(score) = placed.score.or_else(|| page.score(hit))
            && score < threshold
        {
            self.out.below_threshold += 1;
            self.out.looked[placed.leaf].below = true;
            return true;
        }
        if let Some(seen) = &mut self.seen
            && !seen.admit(page, hit)
        {
            self.out.duplicates += 1;
            return true;
        }
        if let Some(shown) = &mut self.shown
            && !shown.admit(page, hit)
        {
            self.out.duplicates += 1;
            self.filled += 1;
            self.dropped += 1;
            return true;
        }
        self.emit(placed);
        true
    }

    /// Emits the pinned hits whose turn has come at `slot`.
    fn pinned(&mut self, slot: u64) {
        let mut slot = slot;
        while self.filled < self.wanted
            && let Some((_, leaf, hit)) = self.pins.next_if(|pin| pin.0 <= slot)
        {
            self.emit(Placed { leaf: leaf as usize, hit: hit as usize, score: None, ranks: None });
            slot = slot.max(self.filled as u64);
        }
    }

    /// Emits what is still pinned once there are no organic hits left.
    fn finish(&mut self) {
        self.pinned(u64::MAX);
        self.out.full = self.filled >= self.wanted;
    }

    fn emit(&mut self, placed: Placed) {
        let page = &self.pages[placed.leaf];
        let marks = page.marks(&page.hits[placed.hit]);
        if self.filled - self.dropped >= self.options.offset {
            self.out.semantic += u64::from(marks.semantic);
            self.out.placed.push(placed);
        }
        self.out.degraded |= marks.skipped;
        self.filled += 1;
    }
}

/// How many hits of each leaf are looked at to find out how many words the query has.
const SAMPLE: usize = 16;

/// The head of one leaf.
pub(super) struct Head<'a> {
    pub(super) leaf: u32,
    pub(super) hit: u32,
    pub(super) ranks: &'a [Ranks],
    confirmed: bool,
    semantic: bool,
}

impl Head<'_> {
    fn placed(&self) -> Placed {
        Placed { leaf: self.leaf as usize, hit: self.hit as usize, score: None, ranks: None }
    }

    /// Where its ranks will be, if its score is one that is computed from them.
    fn rewritable(&self, at: usize) -> Option<(u32, u32)> {
        (self.confirmed && !self.semantic).then_some((at as u32, self.ranks.len() as u32))
    }
}

/// What to do after a head was taken.
pub(super) enum Step {
    /// Go on with the leaf's next hit.
    Next,
    /// Go on without this leaf.
    Retire,
    /// Enough.
    Stop,
}

/// The heads of all leaves, with the ranks of each.
pub(super) struct Heads<'a> {
    pages: &'a [Page],
    info: &'a RankingInfo,
    shape: &'a QueryShape,
    required: Option<u32>,
    heads: Vec<LeafHead<'a>>,
}

#[derive(Default)]
struct LeafHead<'a> {
    digest: Digest,
    next: usize,
    exhausted: bool,
    content: Option<&'a Content>,
    body: &'a [u8],
    ranks: Vec<Ranks>,
    confirmed: bool,
    /// Whether a hit came before an equal one whose document came earlier.
    descends: bool,
}

impl LeafHead<'_> {
    fn stamp(&self) -> Stamp {
        self.content.map_or(Stamp::NONE, |content| content.stamp)
    }

    fn side(&self) -> Side<'_> {
        let content = self.content.unwrap_or_else(|| Content::none());
        Side { body: self.body, rules: &content.rules, ranks: &self.ranks, score: content.score }
    }
}

/// Whether the details of two hits of one page say the same.
fn say_the_same(a: &[Rule], b: &[Rule], body: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.kind.is_same(&b.kind, body))
}

impl<'a> Heads<'a> {
    pub(super) fn new(pages: &'a [Page], options: &'a HitOptions) -> Self {
        let info = &options.ranking;
        let heads = pages.iter().map(|_| LeafHead::default()).collect();
        let mut required = None;
        if pages.len() > 1 {
            let sample = pages
                .iter()
                .flat_map(|page| page.hits.iter().take(SAMPLE).map(move |hit| (page, hit)))
                .map(|(page, hit)| (page.rules(hit), page.score(hit)));
            required = score::required_words(sample, info);
        }
        let mut heads = Self { pages, info, shape: &options.shape, required, heads };
        for leaf in 0..pages.len() {
            heads.load(leaf);
        }
        heads
    }

    /// Skips to the leaf's next organic hit and recovers its ranks.
    fn load(&mut self, leaf: usize) {
        let page = &self.pages[leaf];
        let head = &mut self.heads[leaf];
        let mut organic = page.hits.iter().skip(head.next).map(|hit| page.content(hit));
        let Some(content) = organic.find(|content| {
            let is_pinned = content.marks.pinned.is_some();
            head.next += usize::from(is_pinned);
            !is_pinned
        }) else {
            head.exhausted = true;
            return;
        };
        // Hits that a leaf finds equal have equal details.
        head.descends |= head.content.replace(content).is_some_and(|before| {
            content.stamp < before.stamp
                && scores(before.score, content.score).is_eq()
                && say_the_same(&before.rules, &content.rules, &page.body)
        });
        // One leaf needs no comparing, and its scores are right as they are.
        if self.pages.len() > 1 {
            head.body = &page.body;
            let rules = &content.rules;
            let terms = page.terms.unwrap_or_else(|| {
                let words = score::counted_words(rules, self.info);
                let terms = words.map(|words| self.shape.terms(words)).or(self.required);
                TermCounts { gaps: self.shape.gaps(terms.unwrap_or_default()), terms }
            });
            head.confirmed =
                score::recover(rules, content.score, self.info, terms, &mut head.ranks);
            head.digest = Digest::of(rules, &head.ranks);
        }
    }

    fn beats(&self, a: u32, b: u32) -> bool {
        let (leaf_a, leaf_b) = (&self.heads[a as usize], &self.heads[b as usize]);
        if leaf_a.exhausted || leaf_b.exhausted {
            return !leaf_a.exhausted;
        }
        let order = leaf_a.digest.compare(&leaf_b.digest);
        let order = order.unwrap_or_else(|| compare(leaf_a.side(), leaf_b.side()));
        order.then_with(|| leaf_a.stamp().cmp(&leaf_b.stamp())).then(a.cmp(&b)).is_lt()
    }

    /// Hands out hits in merged order as long as `take` wants more. Returns how many leaves had equal
    /// hits in another order than their stamps'.
    pub(super) fn run(mut self, mut take: impl FnMut(Head<'_>) -> Step) -> u64 {
        if !self.pages.is_empty() {
            self.walk(&mut take);
        }
        self.heads.iter().filter(|head| head.descends).count() as u64
    }

    fn walk(&mut self, take: &mut impl FnMut(Head<'_>) -> Step) {
        let mut tournament = Tournament::new(self.pages.len(), |a, b| self.beats(a, b));
        loop {
            let leaf = tournament.winner();
            let head = &self.heads[leaf as usize];
            if head.exhausted {
                return;
            }
            let step = take(Head {
                leaf,
                hit: head.next as u32,
                ranks: &head.ranks,
                confirmed: head.confirmed,
                semantic: head.content.is_some_and(|content| content.marks.semantic),
            });
            match step {
                Step::Next => {
                    self.heads[leaf as usize].next += 1;
                    self.load(leaf as usize);
                }
                Step::Retire => self.heads[leaf as usize].exhausted = true,
                Step::Stop => return,
            }
            tournament.replay(|a, b| self.beats(a, b));
        }
    }
}
