//! One leaf's search answer: where its hits are, and what is behind them.

use std::sync::{LazyLock, OnceLock};

use bytes::Bytes;
use memchr::memmem::Finder;
use serde_json::value::RawValue;

use super::details::{Marks, Rule};
use super::hit::{Content, Field, FieldKind, Hit};
use super::lex::is_utf8;
use super::scan::{Result, Scanner, Span, is_reserved, text};
use super::score::TermCounts;
use crate::documents::Stamp;

/// Behind this name the node says how it ranked a hit, and behind that the hit ends.
static DETAILS: LazyLock<Finder<'static>> =
    LazyLock::new(|| Finder::new(b"\"_rankingScoreDetails\":{"));
/// The ends of details and hit, and the beginning of the next hit: in details, objects of objects are not
/// followed by objects.
static NEXT: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"}},{\""));
/// The ends of details, hit and list, and the beginning of what is behind it.
static LAST: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"}}],\""));
/// How the details of a pinned hit begin.
const PIN: &[u8] = b"\"pin\"";

/// One leaf's answer to a search, decoded as far as a merge needs.
///
/// The body is kept: everything a hit says goes out as the bytes it came in as. [`Page::decode`] reads all
/// hits; [`Page::open`] finds where they are and has each read when somebody asks for it: of 20 hits of
/// each of three leaves a merge shows 20 and reads 23.
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
    /// Whether one of the hits may be pinned.
    pins: bool,
    /// Set once a hit was not what it was taken for.
    unsound: OnceLock<()>,
}

/// One facet of a leaf: its name, and value → count in the leaf's order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeafFacet {
    /// The facet's name (dotted when nested).
    pub name: String,
    /// Displayed values and how many candidates have them.
    pub values: Vec<(String, u64)>,
}

impl Page {
    /// Decodes the body of a successful search answer, all of its hits included.
    ///
    /// # Errors
    /// When the body is not UTF-8, not a JSON object or cut short, and when a hit, its details or an
    /// entry of them is not an object of members. The inside of documents is not checked beyond
    /// strings and balanced brackets.
    pub fn decode(body: &Bytes) -> Result<Self> {
        let mut scanner = Scanner::new(body)?;
        let mut page = Self { body: body.clone(), pins: true, ..Self::default() };
        scanner.enter(b'{')?;
        page.members(&mut scanner)?;
        Ok(page)
    }

    /// Decodes the body of a successful search answer, and of its hits no more than where they are.
    ///
    /// Nodes write hits one after the other without white space, and how they ranked a hit at its end. So
    /// its end is found by its text, at the speed of a search for a word. A document that has such a text
    /// in it misleads the search; a hit that is read has to be one from its first byte to its last, so
    /// this is noticed: see [`Page::is_sound`]. An answer that is written otherwise is decoded as a whole.
    ///
    /// # Errors
    /// As those of [`Page::decode`], but for damage inside of hits that nobody reads.
    pub fn open(body: &Bytes) -> Result<Self> {
        Self::glance(body).map_or_else(|| Self::decode(body), Ok)
    }

    /// Whether every hit that was read was one. If not, nothing that was said of any hit counts: the
    /// answer has to be decoded as a whole.
    pub fn is_sound(&self) -> bool {
        self.unsound.get().is_none()
    }

    fn glance(body: &Bytes) -> Option<Self> {
        u32::try_from(body.len()).ok()?;
        let mut start = body.strip_prefix(b"{\"hits\":[").map(|rest| body.len() - rest.len())?;
        let mut page = Self { body: body.clone(), ..Self::default() };
        let tail = loop {
            let details = start + DETAILS.find(&body[start..])? + DETAILS.needle().len();
            page.pins |= body[details..].starts_with(PIN);
            let next = NEXT.find(&body[details..]);
            let end = details + next.or_else(|| LAST.find(&body[details..]))? + 2;
            page.hits.push(Hit::unread(Span { start: start as u32, end: end as u32 }));
            start = end + 1;
            if next.is_none() {
                break start;
            }
        };
        if !is_utf8(&body[tail..]) {
            return None;
        }
        page.members(&mut Scanner::within(body, tail)).ok()?;
        page.content(page.hits.first()?);
        page.is_sound().then_some(page)
    }

    /// Reads the members that are left, and what is behind them.
    fn members(&mut self, scanner: &mut Scanner<'_>) -> Result<()> {
        let body = self.body.clone();
        while let Some(key) = scanner.member()? {
            match key.inner(&body) {
                b"hits" => {
                    scanner.enter(b'[')?;
                    while scanner.element()? {
                        self.hits.push(Hit::read(scanner)?);
                    }
                }
                b"estimatedTotalHits" => self.total = scanner.integer()?,
                b"totalHits" => {
                    self.total = scanner.integer()?;
                    self.exhaustive = true;
                }
                b"facetDistribution" => self.facet_distribution = distribution(scanner)?,
                b"facetStats" => self.facet_stats = stats(scanner)?,
                b"queryVector" => {
                    let span = scanner.value()?;
                    self.query_vector = Some(serde_json::from_slice(span.of(&body))?);
                }
                b"semanticHitCount" => self.semantic_hit_count = Some(scanner.integer()?),
                b"processingTimeMs" => self.processing_time_ms = scanner.integer()?,
                _ => {
                    scanner.value()?;
                }
            }
        }
        scanner.finish()
    }

    /// What is behind `hit`: read the first time it is asked for.
    pub(crate) fn content<'a>(&'a self, hit: &'a Hit) -> &'a Content {
        // Who is pinned is looked for before hits are read.
        let content = hit.content(&self.body).filter(|it| self.pins || it.marks.pinned.is_none());
        content.unwrap_or_else(|| {
            let _ = self.unsound.set(());
            Content::none()
        })
    }

    /// The same, to be changed.
    pub(crate) fn content_mut(&mut self, at: usize) -> Option<&mut Content> {
        let Self { hits, body, .. } = self;
        hits.get_mut(at)?.content_mut(body)
    }

    /// `_rankingScore` of `hit`, when the leaf was asked for it.
    pub fn score(&self, hit: &Hit) -> Option<f64> {
        self.content(hit).score
    }

    /// The score details of `hit`, in rule order.
    pub(crate) fn rules<'a>(&'a self, hit: &'a Hit) -> &'a [Rule] {
        &self.content(hit).rules
    }

    /// The fields of `hit`, in order of arrival.
    pub(crate) fn fields<'a>(&'a self, hit: &'a Hit) -> &'a [Field] {
        &self.content(hit).fields
    }

    /// What the details of `hit` say beyond its rank.
    pub(crate) fn marks(&self, hit: &Hit) -> Marks {
        self.content(hit).marks
    }

    /// Where the document of `hit` came first.
    pub(crate) fn stamp(&self, hit: &Hit) -> Stamp {
        self.content(hit).stamp
    }

    /// Drops the hits that no vector similarity found.
    pub fn keep_semantic(&mut self) {
        let hits = std::mem::take(&mut self.hits);
        self.hits = hits.into_iter().filter(|hit| self.marks(hit).semantic).collect();
    }

    /// The slots that dynamic search rules pinned hits to, with the place of each hit.
    pub(crate) fn pins(&self) -> impl Iterator<Item = (u64, usize)> {
        let hits = if self.pins { &self.hits[..] } else { &[] };
        let pinned = |(at, hit)| Some((self.content(hit).marks.pinned?, at));
        hits.iter().enumerate().filter_map(pinned)
    }

    /// Bytes of the hit at `at`, less those that say how it was ranked.
    pub fn bytes_of(&self, at: usize) -> usize {
        let fields = self.hits.get(at).map(|hit| self.fields(hit)).unwrap_or_default();
        let shown = fields.iter().filter(|field| field.kind != FieldKind::Details);
        shown.map(|field| (field.value.end - field.key.start) as usize).sum()
    }

    /// Takes the hits of another answer in place of its own; what it says beside them stays.
    pub fn show(&mut self, other: Self) {
        let Self { body, hits, pins, unsound, .. } = other;
        (self.body, self.hits, self.pins, self.unsound) = (body, hits, pins, unsound);
    }

    /// The raw value of a top-level field of the `index`-th hit.
    pub fn field(&self, index: usize, name: &str) -> Option<&[u8]> {
        let hit = self.hits.get(index)?;
        let field =
            self.fields(hit).iter().find(|field| field.key.inner(&self.body) == name.as_bytes())?;
        Some(field.value.of(&self.body))
    }
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
