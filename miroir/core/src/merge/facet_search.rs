//! Merging facet-search answers.

use bytes::Bytes;
use indexmap::IndexMap;

use super::disputed::Disputed;
use super::facet_options::FacetOrder;
use super::facet_value::FacetValue;
use super::normalize;
use super::scan::{Result, Scanner, text, write_int, write_json};
use super::spellings::Spellings;

/// What the merge of a facet search needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FacetSearchOptions {
    /// The client's `maxValuesPerFacet`: values to return at most.
    pub max_values_per_facet: usize,
    /// The facet's `sortFacetValuesBy`: the order of the values.
    pub order: FacetOrder,
    /// Whether `facetQuery` was given and not null: with a query the engine walks values without
    /// their accents first.
    pub query: bool,
    /// What the answer says that it took, in milliseconds.
    pub processing_time_ms: u64,
}

/// The leaves' answers to a facet search: counts add up by normalised value.
#[derive(Debug, Clone, Default)]
pub struct FacetHits {
    values: IndexMap<String, Hit>,
    /// `facetQuery` as JSON, as the first leaf echoed it.
    query: Vec<u8>,
    /// The most milliseconds that a leaf says it took.
    pub slowest_ms: u64,
}

#[derive(Debug, Clone, Default)]
struct Hit {
    spellings: Spellings,
    count: u64,
    /// Leaves that list it, ascending.
    leaves: Vec<usize>,
}

/// A value's normal form with its count.
type Shown<'a> = (&'a String, &'a Hit);

impl FacetHits {
    /// Reads and adds up the bodies of the leaves' answers.
    ///
    /// # Errors
    /// When a body is not a JSON object.
    pub fn read(bodies: &[Bytes]) -> Result<Self> {
        let mut all = Self { query: b"null".to_vec(), ..Self::default() };
        for (leaf, body) in bodies.iter().enumerate() {
            let mut scanner = Scanner::new(body)?;
            scanner.enter(b'{')?;
            while let Some(key) = scanner.member()? {
                match key.inner(body) {
                    b"facetHits" => {
                        scanner.enter(b'[')?;
                        while scanner.element()? {
                            let (value, count) = facet_hit(&mut scanner)?;
                            let entry = all.values.entry(normalize::facet(&value)).or_default();
                            entry.spellings.add(&value, count);
                            entry.count = entry.count.saturating_add(count);
                            if entry.leaves.last() != Some(&leaf) {
                                entry.leaves.push(leaf);
                            }
                        }
                    }
                    b"facetQuery" => {
                        let value = scanner.value()?;
                        if leaf == 0 {
                            all.query = value.of(body).to_vec();
                        }
                    }
                    b"processingTimeMs" => all.slowest_ms = all.slowest_ms.max(scanner.integer()?),
                    _ => {
                        scanner.value()?;
                    }
                }
            }
            scanner.finish()?;
        }
        Ok(all)
    }

    /// The values of the answer, in its order.
    fn shown(&self, options: &FacetSearchOptions) -> Vec<Shown<'_>> {
        let mut values: Vec<Shown<'_>> = self.values.iter().collect();
        match options.order {
            // The engine breaks ties by the displayed spelling here, the other way round.
            FacetOrder::Count => values.sort_by(|(_, a), (_, b)| {
                let spellings = || b.spellings.shown().cmp(a.spellings.shown());
                b.count.cmp(&a.count).then_with(spellings)
            }),
            FacetOrder::Alpha if options.query => values.sort_by_cached_key(|(normal, hit)| {
                (normalize::loose(hit.spellings.shown()), (*normal).clone())
            }),
            FacetOrder::Alpha => values.sort_by(|a, b| a.0.cmp(b.0)),
        }
        values.truncate(options.max_values_per_facet);
        values
    }

    /// The values of the answer that leaves spell differently.
    #[must_use]
    pub fn disputed(&self, facet: &str, options: &FacetSearchOptions) -> Vec<Disputed> {
        let shown = self.shown(options).into_iter();
        let disputed = shown.filter(|(_, hit)| hit.spellings.disputed());
        let disputed = disputed.map(|(normal, hit)| Disputed {
            facet: facet.to_owned(),
            value: FacetValue::normal(normal),
            count: hit.count,
            leaves: hit.leaves.clone(),
        });
        disputed.collect()
    }

    /// Shows these values as the document spells them that came first.
    pub fn spell(&mut self, spelt: &[(Disputed, String)]) {
        for (_, spelling) in spelt {
            if let Some(hit) = self.values.get_mut(&normalize::facet(spelling)) {
                hit.spellings.decide(spelling);
            }
        }
    }

    /// The body of the answer: the spelling is that of the document that came first, where it is known,
    /// and of most documents otherwise.
    #[must_use]
    pub fn write(&self, options: &FacetSearchOptions) -> Bytes {
        let values = self.shown(options);
        let mut out = Vec::with_capacity(values.len() * 48 + 64);
        out.extend_from_slice(b"{\"facetHits\":[");
        for (at, (_, hit)) in values.iter().enumerate() {
            out.extend_from_slice(if at > 0 { b",{\"value\":" } else { b"{\"value\":" });
            write_json(&mut out, hit.spellings.shown());
            out.extend_from_slice(b",\"count\":");
            write_int(&mut out, hit.count);
            out.push(b'}');
        }
        out.extend_from_slice(b"],\"facetQuery\":");
        out.extend_from_slice(&self.query);
        out.extend_from_slice(b",\"processingTimeMs\":");
        write_int(&mut out, options.processing_time_ms);
        out.push(b'}');
        Bytes::from(out)
    }
}

fn facet_hit(scanner: &mut Scanner<'_>) -> Result<(String, u64)> {
    let (mut value, mut count) = (String::new(), 0);
    scanner.enter(b'{')?;
    while let Some(key) = scanner.member()? {
        match key.inner(scanner.body()) {
            b"value" => {
                let span = scanner.value()?;
                value = text(span.of(scanner.body())).unwrap_or_default().into_owned();
            }
            b"count" => count = scanner.integer()?,
            _ => {
                scanner.value()?;
            }
        }
    }
    Ok((value, count))
}
