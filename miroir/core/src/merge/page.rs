//! Decode of one leaf's search answer.

use std::sync::OnceLock;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::details::{Marks, Rule, Rules};
use super::entry;
use super::layout::{FieldKind, Layout};
use super::lex::value_end;
use super::scan::{RESERVED, Result, Scanner, Span, is_reserved, number, text};
use super::score::TermCounts;
use crate::documents::Stamp;

/// Hits that room is made for in advance.
const MOST_RESERVED: usize = 100;

/// One leaf's answer to a search, decoded as far as a merge needs.
///
/// The body is kept: everything a hit says goes out as the bytes it came in as. Of its hits no more is
/// known than where their fields are. Scores and details are decoded when somebody asks for them, once,
/// and a merge asks for those of the hits it compares: of 20 hits of each of three leaves it shows 20 and
/// decodes 23.
#[derive(Debug, Clone, Default)]
pub struct Page {
    pub(crate) body: Bytes,
    /// The leaf's hits, best first.
    pub hits: Vec<Hit>,
    /// `estimatedTotalHits` or `totalHits`: how many documents match on this leaf.
    pub total: u64,
    /// Whether the total is `totalHits`, which the engine counts exhaustively.
    pub exhaustive: bool,
    /// `facetDistribution` in the leaf's order, without reserved facets.
    pub facet_distribution: Option<Vec<LeafFacet>>,
    /// `facetStats` as (facet, min, max), without reserved facets.
    pub facet_stats: Option<Vec<(String, f64, f64)>>,
    /// `queryVector` as JSON; `None` unless the leaf showed it.
    pub query_vector: Option<Box<RawValue>>,
    /// `semanticHitCount`: present when the search was hybrid or semantic.
    pub semantic_hit_count: Option<u64>,
    /// `processingTimeMs`: what the leaf says it took, in milliseconds.
    pub processing_time_ms: u64,
    /// The terms its hits' costs count, where the words rule says another number.
    pub(crate) terms: Option<TermCounts>,
    pub(crate) fields: Vec<Field>,
}

/// One facet of a leaf: its name, and value → count in the leaf's order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeafFacet {
    /// The facet's name (dotted when nested).
    pub name: String,
    /// Displayed values and how many candidates have them.
    pub values: Vec<(String, u64)>,
}

/// One hit of a [`Page`]; its bytes stay in the page's body, from which [`Page::score`] reads.
#[derive(Debug, Clone, Default)]
pub struct Hit {
    fields: (u32, u32),
    ranking: OnceLock<Ranking>,
    /// The slot a dynamic search rule pinned this hit to.
    pub pinned: Option<u64>,
    /// Whether its details contain a vector similarity.
    pub semantic: bool,
    /// Whether the leaf ran out of time before it had ranked this hit.
    pub skipped: bool,
    /// Where the document came first: decides between hits that are equal otherwise.
    pub stamp: Stamp,
}

#[cfg(test)]
impl Hit {
    /// Whether its score and details were decoded.
    pub(super) fn is_decoded(&self) -> bool {
        self.ranking.get().is_some()
    }
}

/// How a leaf ranked a hit.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Ranking {
    /// `_rankingScore`, when the leaf was asked for it.
    pub(crate) score: Option<f64>,
    /// `_rankingScoreDetails`, in rule order.
    pub(crate) rules: Rules,
}

/// One top-level field of a hit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field {
    pub(crate) key: Span,
    pub(crate) value: Span,
    pub(crate) kind: FieldKind,
}

impl Page {
    /// Decodes the body of a successful search answer.
    ///
    /// # Errors
    /// When the body is not UTF-8, not a JSON object or cut short, and when a hit, its details or an
    /// entry of them is not an object of members. The inside of documents is not checked beyond
    /// strings and balanced brackets. Details that are never asked for are checked like all others.
    pub fn decode(body: &Bytes) -> Result<Self> {
        let mut scanner = Scanner::new(body)?;
        let mut page = Self { body: body.clone(), ..Self::default() };
        scanner.enter(b'{')?;
        while let Some(key) = scanner.member()? {
            match key.inner(body) {
                b"hits" => {
                    let mut layout = Layout::default();
                    scanner.enter(b'[')?;
                    while scanner.element()? {
                        let start = scanner.at();
                        page.hit(&mut scanner, &mut layout)?;
                        if page.hits.len() == 1 {
                            page.reserve(scanner.at() - start);
                        }
                    }
                }
                b"estimatedTotalHits" => page.total = scanner.integer()?,
                b"totalHits" => {
                    page.total = scanner.integer()?;
                    page.exhaustive = true;
                }
                b"facetDistribution" => page.facet_distribution = distribution(&mut scanner)?,
                b"facetStats" => page.facet_stats = stats(&mut scanner)?,
                b"queryVector" => {
                    let span = scanner.value()?;
                    page.query_vector = Some(serde_json::from_slice(span.of(body))?);
                }
                b"semanticHitCount" => page.semantic_hit_count = Some(scanner.integer()?),
                b"processingTimeMs" => page.processing_time_ms = scanner.integer()?,
                _ => {
                    scanner.value()?;
                }
            }
        }
        scanner.finish()?;
        Ok(page)
    }

    /// Finds the fields of the hit `scanner` stands before.
    #[inline(never)] // Inside of `decode` its registers would be spilled.
    fn hit<'a>(&mut self, scanner: &mut Scanner<'a>, layout: &mut Layout<'a>) -> Result<()> {
        let begin = self.fields.len() as u32;
        let mut hit = Hit::default();
        let mut marks = Marks::default();
        let body = scanner.body();
        scanner.enter(b'{')?;
        let mut at = scanner.at();
        for number in 0.. {
            let (key, mut kind) = match layout.name(body, at, number) {
                Some(known) => known,
                None => {
                    scanner.skip_to(at);
                    let key = scanner.member()?;
                    at = scanner.at();
                    let Some(key) = key else { break };
                    let field = (key, FieldKind::of(key.inner(body)));
                    layout.set_name(body, number, field, at);
                    field
                }
            };
            at = at.max(key.end as usize + 1);
            let end = match kind {
                FieldKind::Details => layout.details_end(body, at, &mut marks),
                _ => value_end(body, at),
            };
            let value = if let Some(end) = end {
                Span { start: at as u32, end: end as u32 }
            } else {
                scanner.skip_to(at);
                match kind {
                    FieldKind::Details => details(scanner, layout, &mut marks)?,
                    _ => scanner.value()?,
                }
            };
            at = value.end as usize;
            match &mut kind {
                FieldKind::Mirror { reserved } => {
                    *reserved = memchr::memmem::find(value.of(body), RESERVED).is_some();
                }
                FieldKind::Order => hit.stamp = Stamp::read(value.of(body)),
                _ => {}
            }
            self.fields.push(Field { key, value, kind });
        }
        hit.fields = (begin, self.fields.len() as u32);
        (hit.pinned, hit.semantic, hit.skipped) = (marks.pinned, marks.semantic, marks.skipped);
        self.hits.push(hit);
        Ok(())
    }

    /// Makes room for as many hits as may follow the first one, which has `bytes`.
    fn reserve(&mut self, bytes: usize) {
        let more = (self.body.len() / bytes.max(1)).min(MOST_RESERVED);
        self.hits.reserve(more);
        self.fields.reserve(more * self.fields.len());
    }

    /// `_rankingScore` of `hit`, when the leaf was asked for it.
    pub fn score(&self, hit: &Hit) -> Option<f64> {
        self.ranking(hit).score
    }

    /// The score details of `hit`, in rule order.
    pub(crate) fn rules<'a>(&'a self, hit: &'a Hit) -> &'a [Rule] {
        &self.ranking(hit).rules
    }

    /// How the leaf ranked `hit`: decoded the first time it is asked for.
    pub(crate) fn ranking<'a>(&'a self, hit: &'a Hit) -> &'a Ranking {
        hit.ranking.get_or_init(|| {
            let mut ranking = Ranking::default();
            for field in self.fields(hit) {
                match field.kind {
                    FieldKind::Score => ranking.score = number(field.value.of(&self.body)),
                    FieldKind::Details => {
                        let mut scanner = Scanner::within(&self.body, field.value.start as usize);
                        // It was skipped once, and what can be skipped can be decoded.
                        let _ = entry::decode(&mut scanner, &mut ranking.rules);
                    }
                    _ => {}
                }
            }
            ranking
        })
    }

    /// The same, to be changed.
    pub(crate) fn ranking_mut(&mut self, at: usize) -> Option<&mut Ranking> {
        self.ranking(self.hits.get(at)?);
        self.hits.get_mut(at)?.ranking.get_mut()
    }

    /// The fields of `hit`, in order of arrival.
    pub(crate) fn fields(&self, hit: &Hit) -> &[Field] {
        self.fields.get(hit.fields.0 as usize..hit.fields.1 as usize).unwrap_or_default()
    }

    /// The raw value of a top-level field of the `index`-th hit.
    pub fn field(&self, index: usize, name: &str) -> Option<&[u8]> {
        let hit = self.hits.get(index)?;
        let field =
            self.fields(hit).iter().find(|field| field.key.inner(&self.body) == name.as_bytes())?;
        Some(field.value.of(&self.body))
    }
}

/// Walks over details that are not those of the last hit, and adds what they say to `marks`.
fn details<'a>(
    scanner: &mut Scanner<'a>,
    layout: &mut Layout<'a>,
    marks: &mut Marks,
) -> Result<Span> {
    let body = scanner.body();
    scanner.peek();
    let start = scanner.at();
    let mut these = Marks::default();
    entry::skip(scanner, &mut these)?;
    let span = scanner.since(start);
    layout.set_details(span.of(body), these);
    marks.add(these);
    Ok(span)
}

fn distribution(scanner: &mut Scanner<'_>) -> Result<Option<Vec<LeafFacet>>> {
    if scanner.peek() != Some(b'{') {
        scanner.value()?;
        return Ok(None);
    }
    let body = scanner.body();
    let mut facets = Vec::new();
    scanner.enter(b'{')?;
    while let Some(key) = scanner.member()? {
        if is_reserved(key.inner(body)) || scanner.peek() != Some(b'{') {
            scanner.value()?;
            continue;
        }
        let mut facet = LeafFacet {
            name: text(key.of(body)).unwrap_or_default().into_owned(),
            values: Vec::new(),
        };
        scanner.enter(b'{')?;
        while let Some(value) = scanner.member()? {
            let count = scanner.integer()?;
            facet.values.push((text(value.of(body)).unwrap_or_default().into_owned(), count));
        }
        facets.push(facet);
    }
    Ok(Some(facets))
}

fn stats(scanner: &mut Scanner<'_>) -> Result<Option<Vec<(String, f64, f64)>>> {
    if scanner.peek() != Some(b'{') {
        scanner.value()?;
        return Ok(None);
    }
    let body = scanner.body();
    let mut stats = Vec::new();
    scanner.enter(b'{')?;
    while let Some(key) = scanner.member()? {
        if is_reserved(key.inner(body)) || scanner.peek() != Some(b'{') {
            scanner.value()?;
            continue;
        }
        let (mut min, mut max) = (None, None);
        scanner.enter(b'{')?;
        while let Some(bound) = scanner.member()? {
            match bound.inner(body) {
                b"min" => min = scanner.number()?,
                b"max" => max = scanner.number()?,
                _ => {
                    scanner.value()?;
                }
            }
        }
        if let (Some(min), Some(max)) = (min, max) {
            stats.push((text(key.of(body)).unwrap_or_default().into_owned(), min, max));
        }
    }
    Ok(Some(stats))
}
