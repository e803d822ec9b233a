//! Merging the hits of several leaves into the order one node holding everything would give.

use std::cell::Cell;

use super::details::{Exact, Kind, Rule};
use super::distinct::Seen;
use super::order::{Side, Tournament, compare, compare_rule};
use super::page::{Field, FieldKind, Hit, Page};
use super::scan::{copy_object_without, is_reserved, write_int, write_json};
use super::score::{self, Ranked, RankingInfo, Ranks};

/// What the client asked for, as far as hits are concerned.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HitOptions {
    /// Hits to leave out at the beginning of the merged list.
    pub offset: usize,
    /// Hits to return at most. The leaves must have been asked for `offset + limit`.
    pub limit: usize,
    /// Whether hits carry `_rankingScore`.
    pub show_score: bool,
    /// Whether hits carry `_rankingScoreDetails`.
    pub show_details: bool,
    /// `rankingScoreThreshold`: hits that score less are dropped.
    pub score_threshold: Option<f64>,
    /// The distinct attribute in force (dotted when nested).
    pub distinct: Option<String>,
    /// Top-level fields the client did not ask for and Miroir added for itself.
    pub drop_fields: Vec<String>,
    /// The same for `_formatted` and `_matchesPosition`.
    pub drop_formatted: Vec<String>,
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
    ranks: Option<(u32, u32)>,
}

/// The merged page: which hits, in which order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MergedHits {
    /// The hits of the page.
    pub placed: Vec<Placed>,
    /// How many hits were dropped because their distinct value was already there.
    pub duplicates: u64,
    /// How many hits were dropped because they score less than the threshold.
    pub below_threshold: u64,
    /// How many hits of the page were found by vector similarity.
    pub semantic: u64,
    /// Whether a leaf ran out of time, so that the order is not the exact one.
    pub degraded: bool,
    ranks: Vec<Ranks>,
}

/// Merges the pages of one query's leaves.
///
/// Order: the comparator of the ranking rules; equal hits by leaf, then by position within the
/// leaf. A leaf's own order is never changed. `O(K log leaves)` for `K` hits, unless scores are
/// shown or a threshold is set: then every hit received is looked at, because whole-corpus scores
/// depend on them.
#[must_use]
pub fn merge_hits(pages: &[Page], options: &HitOptions) -> MergedHits {
    let mut merged = MergedHits::default();
    let wanted = options.offset.saturating_add(options.limit);
    let mut pins: Vec<(u64, u32, u32)> = Vec::new();
    for (leaf, page) in pages.iter().enumerate() {
        let pinned = page.hits.iter().enumerate();
        pins.extend(pinned.filter_map(|(at, hit)| Some((hit.pinned?, leaf as u32, at as u32))));
    }
    pins.sort_unstable();
    let mut page = Walk {
        pages,
        options,
        wanted,
        out: &mut merged,
        filled: 0,
        seen: options.distinct.as_deref().map(Seen::new),
        pins: pins.into_iter().peekable(),
    };

    let rewrite = options.show_score || options.show_details || options.score_threshold.is_some();
    if rewrite && pages.len() > 1 {
        let mut hits = Vec::new();
        let mut ranks = Vec::new();
        Heads::new(pages, &options.ranking).run(|head| {
            let start = ranks.len() as u32;
            ranks.extend_from_slice(head.ranks);
            hits.push(Ranked {
                leaf: head.leaf,
                hit: head.hit,
                ranks: (start, head.ranks.len() as u32),
                confirmed: head.confirmed,
            });
            true
        });
        let rules = |hit: &Ranked| {
            let page = &pages[hit.leaf as usize];
            page.rules(&page.hits[hit.hit as usize])
        };
        score::raise(&hits, &mut ranks, |a, b, level| {
            match (rules(a).get(level), rules(b).get(level)) {
                (Some(a), Some(b)) => {
                    let none = Ranks::default();
                    is_rank(&a.kind) && is_rank(&b.kind)
                        || compare_rule(&a.kind, &none, &b.kind, &none)
                            .is_some_and(std::cmp::Ordering::is_eq)
                }
                (a, b) => a.is_none() && b.is_none(),
            }
        });
        for hit in &hits {
            let range = hit.ranks.0 as usize..(hit.ranks.0 + hit.ranks.1) as usize;
            let semantic = pages[hit.leaf as usize].hits[hit.hit as usize].semantic;
            let rewritten = hit.confirmed && !semantic;
            let placed = Placed {
                leaf: hit.leaf as usize,
                hit: hit.hit as usize,
                score: rewritten.then(|| score::total(&ranks[range])),
                ranks: rewritten.then_some(hit.ranks),
            };
            if !page.push(placed) {
                break;
            }
        }
        page.finish();
        merged.ranks = ranks;
    } else {
        Heads::new(pages, &options.ranking).run(|head| {
            page.push(Placed {
                leaf: head.leaf as usize,
                hit: head.hit as usize,
                score: None,
                ranks: None,
            })
        });
        page.finish();
    }
    merged
}

fn is_rank(kind: &Kind) -> bool {
    !matches!(kind, Kind::Sort { .. } | Kind::Geo { .. } | Kind::Vector(_) | Kind::Unknown)
}

/// Fills the page from hits in merged order.
struct Walk<'a> {
    pages: &'a [Page],
    options: &'a HitOptions,
    wanted: usize,
    out: &'a mut MergedHits,
    filled: usize,
    seen: Option<Seen<'a>>,
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
        if let (Some(threshold), Some(score)) =
            (self.options.score_threshold, placed.score.or(hit.score))
            && score < threshold
        {
            self.out.below_threshold += 1;
            return true;
        }
        if let Some(seen) = &mut self.seen
            && !seen.admit(page, hit)
        {
            self.out.duplicates += 1;
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
    }

    fn emit(&mut self, placed: Placed) {
        let hit = &self.pages[placed.leaf].hits[placed.hit];
        if self.filled >= self.options.offset {
            self.out.semantic += u64::from(hit.semantic);
            self.out.placed.push(placed);
        }
        self.out.degraded |= hit.skipped;
        self.filled += 1;
    }
}

/// How many hits of each leaf are looked at to find out how many words the query has.
const SAMPLE: usize = 16;

/// The head of one leaf.
struct Head<'a> {
    leaf: u32,
    hit: u32,
    ranks: &'a [Ranks],
    confirmed: bool,
}

/// The heads of all leaves, with the ranks of each.
struct Heads<'a> {
    pages: &'a [Page],
    info: &'a RankingInfo,
    required: Option<u32>,
    heads: Vec<LeafHead<'a>>,
}

struct LeafHead<'a> {
    next: usize,
    rules: &'a [Rule],
    score: Option<f64>,
    ranks: Vec<Ranks>,
    confirmed: bool,
}

impl LeafHead<'_> {
    fn side(&self) -> Side<'_> {
        Side { rules: self.rules, ranks: &self.ranks, score: self.score }
    }
}

impl<'a> Heads<'a> {
    fn new(pages: &'a [Page], info: &'a RankingInfo) -> Self {
        let heads = pages
            .iter()
            .map(|_| LeafHead {
                next: 0,
                rules: &[],
                score: None,
                ranks: Vec::new(),
                confirmed: false,
            })
            .collect();
        let mut required = None;
        if pages.len() > 1 {
            let sample = pages
                .iter()
                .flat_map(|page| page.hits.iter().take(SAMPLE).map(move |hit| (page, hit)))
                .map(|(page, hit)| (page.rules(hit), hit.score));
            required = score::required_words(sample, info);
        }
        let mut heads = Self { pages, info, required, heads };
        for leaf in 0..pages.len() {
            heads.load(leaf);
        }
        heads
    }

    /// Skips to the leaf's next organic hit and recovers its ranks.
    fn load(&mut self, leaf: usize) {
        let page = &self.pages[leaf];
        let head = &mut self.heads[leaf];
        while page.hits.get(head.next).is_some_and(|hit| hit.pinned.is_some()) {
            head.next += 1;
        }
        let Some(hit) = page.hits.get(head.next) else { return };
        head.rules = page.rules(hit);
        head.score = hit.score;
        // One leaf needs no comparing, and its scores are right as they are.
        if self.pages.len() > 1 {
            head.confirmed =
                score::recover(head.rules, hit.score, self.info, self.required, &mut head.ranks);
        }
    }

    fn beats(&self, a: u32, b: u32) -> bool {
        let (leaf_a, leaf_b) = (&self.heads[a as usize], &self.heads[b as usize]);
        if leaf_a.next >= self.pages[a as usize].hits.len() {
            return false;
        }
        if leaf_b.next >= self.pages[b as usize].hits.len() {
            return true;
        }
        compare(leaf_a.side(), leaf_b.side()).then(a.cmp(&b)).is_lt()
    }

    /// Hands out hits in merged order until `take` says it has enough.
    fn run(mut self, mut take: impl FnMut(Head<'_>) -> bool) {
        if self.pages.is_empty() {
            return;
        }
        let mut tournament = Tournament::new(self.pages.len(), |a, b| self.beats(a, b));
        loop {
            let leaf = tournament.winner();
            let head = &self.heads[leaf as usize];
            if head.next >= self.pages[leaf as usize].hits.len() {
                return;
            }
            let hit = head.next as u32;
            if !take(Head { leaf, hit, ranks: &head.ranks, confirmed: head.confirmed }) {
                return;
            }
            self.heads[leaf as usize].next += 1;
            self.load(leaf as usize);
            tournament.replay(|a, b| self.beats(a, b));
        }
    }
}

impl MergedHits {
    /// Appends the page as a JSON array.
    pub fn write(&self, pages: &[Page], options: &HitOptions, out: &mut Vec<u8>) {
        out.push(b'[');
        for (at, placed) in self.placed.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            self.write_hit(pages, placed, options, out);
        }
        out.push(b']');
    }

    /// Appends one hit as a JSON object.
    pub fn write_hit(
        &self,
        pages: &[Page],
        placed: &Placed,
        options: &HitOptions,
        out: &mut Vec<u8>,
    ) {
        let Some(page) = pages.get(placed.leaf) else { return };
        let Some(hit) = page.hits.get(placed.hit) else { return };
        let body = &page.body[..];
        out.push(b'{');
        let first = Cell::new(true);
        let comma = |out: &mut Vec<u8>| {
            if !first.replace(false) {
                out.push(b',');
            }
        };
        // Fields that stay and follow each other leave as one copy.
        let mut run: Option<(u32, u32)> = None;
        let flush = |run: &mut Option<(u32, u32)>, out: &mut Vec<u8>| {
            if let Some((start, end)) = run.take() {
                comma(out);
                out.extend_from_slice(&body[start as usize..end as usize]);
            }
        };
        for field in page.fields(hit) {
            match decide(field, body, options, placed) {
                Fate::Keep => {
                    run = Some((run.map_or(field.key.start, |run| run.0), field.value.end));
                }
                Fate::Drop => flush(&mut run, out),
                Fate::Rewrite => {
                    flush(&mut run, out);
                    comma(out);
                    out.extend_from_slice(field.key.of(body));
                    out.push(b':');
                    self.rewrite(page, hit, field, placed, options, out);
                }
            }
        }
        flush(&mut run, out);
        out.push(b'}');
    }

    fn rewrite(
        &self,
        page: &Page,
        hit: &Hit,
        field: &Field,
        placed: &Placed,
        options: &HitOptions,
        out: &mut Vec<u8>,
    ) {
        let body = &page.body[..];
        let raw = field.value.of(body);
        match field.kind {
            FieldKind::Score => match placed.score {
                Some(score) => write_json(out, &score),
                None => out.extend_from_slice(raw),
            },
            FieldKind::Details => {
                let ranks = placed.ranks.map_or(&[][..], |(start, len)| {
                    self.ranks.get(start as usize..(start + len) as usize).unwrap_or_default()
                });
                write_details(body, page.rules(hit), ranks, out);
            }
            _ => {
                let start = out.len();
                let copied = copy_object_without(out, raw, |name| {
                    is_reserved(name)
                        || options.drop_formatted.iter().any(|drop| drop.as_bytes() == name)
                });
                if copied.is_none() {
                    out.truncate(start);
                    out.extend_from_slice(raw);
                }
            }
        }
    }
}

enum Fate {
    Keep,
    Drop,
    Rewrite,
}

fn decide(field: &Field, body: &[u8], options: &HitOptions, placed: &Placed) -> Fate {
    match field.kind {
        FieldKind::Reserved => Fate::Drop,
        FieldKind::Score if !options.show_score => Fate::Drop,
        FieldKind::Score if placed.score.is_some() => Fate::Rewrite,
        FieldKind::Details if !options.show_details => Fate::Drop,
        FieldKind::Details => Fate::Rewrite,
        FieldKind::Mirror { reserved } if reserved || !options.drop_formatted.is_empty() => {
            Fate::Rewrite
        }
        FieldKind::Plain
            if options.drop_fields.iter().any(|drop| drop.as_bytes() == field.key.inner(body)) =>
        {
            Fate::Drop
        }
        _ => Fate::Keep,
    }
}

/// Writes score details with the given ranks; entries that did not change go out as they came.
fn write_details(body: &[u8], rules: &[Rule], ranks: &[Ranks], out: &mut Vec<u8>) {
    out.push(b'{');
    let mut first = true;
    for (at, rule) in rules.iter().enumerate() {
        // A rule over one of Miroir's own fields (none is ever sent) would show its name.
        if is_reserved(rule.key.inner(body)) {
            continue;
        }
        if !std::mem::replace(&mut first, false) {
            out.push(b',');
        }
        out.extend_from_slice(rule.key.of(body));
        out.push(b':');
        let rewritten = ranks.get(at).is_some_and(|ranks| write_rule(rule, ranks, out));
        if !rewritten {
            out.extend_from_slice(rule.value.of(body));
        }
    }
    out.push(b'}');
}

/// Writes an entry whose maxima may have changed; `false` (and nothing written) when it is printed
/// the same whatever its maxima.
fn write_rule(rule: &Rule, ranks: &Ranks, out: &mut Vec<u8>) -> bool {
    let (score, kind) = match rule.kind {
        Kind::Typo { .. } | Kind::Proximity(_) | Kind::AttributeRank(_) | Kind::WordPosition(_) => {
            (ranks.first.score(), &rule.kind)
        }
        Kind::Attribute { .. } | Kind::Exactness { level: Exact::No, counts: Some(_) } => {
            (score::local(ranks), &rule.kind)
        }
        _ => return false,
    };
    if !ranks.first.known() {
        return false;
    }
    out.extend_from_slice(b"{\"order\":");
    write_int(out, u64::from(rule.order));
    match kind {
        Kind::Typo { count, .. } => {
            out.extend_from_slice(b",\"typoCount\":");
            write_int(out, u64::from(*count));
            out.extend_from_slice(b",\"maxTypoCount\":");
            write_int(out, u64::from(ranks.first.max.saturating_sub(1)));
        }
        Kind::Attribute { .. } => {
            out.extend_from_slice(b",\"attributeRankingOrderScore\":");
            write_json(out, &ranks.first.score());
            out.extend_from_slice(b",\"queryWordDistanceScore\":");
            write_json(out, &ranks.second.score());
        }
        Kind::Exactness { .. } => {
            out.extend_from_slice(b",\"matchType\":\"noExactMatch\",\"matchingWords\":");
            write_int(out, u64::from(ranks.second.rank.saturating_sub(1)));
            out.extend_from_slice(b",\"maxMatchingWords\":");
            write_int(out, u64::from(ranks.second.max.saturating_sub(1)));
        }
        _ => {}
    }
    out.extend_from_slice(b",\"score\":");
    write_json(out, &score);
    out.push(b'}');
    true
}
