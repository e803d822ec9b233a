//! How one node would spell values that leaves spell differently: as the document that came first does.
//!
//! Leaves are asked for the documents that have such a value, with their stamps. That is one multi-search
//! per leaf, only where spellings differ. What cannot be found out keeps the spelling of most documents.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::explained::{Round, round};
use super::super::{Scatter, read};
use super::plan::{bare, joined};
use crate::cluster::settings::IndexSettings;
use crate::gather;
use crate::index::Request;
use crate::leaf::{Page, Question, Scoped, ScopedMany};
use crate::query::RawObject;
use miroir_core::documents::ORDER;
use miroir_core::merge::{self, Disputed, MergedFacets};
use miroir_core::view::Route;

/// At most this many values are asked for.
const MAX_VALUES: usize = 100;

/// At most this many documents of a leaf are looked at, for one value and for all of them.
const MAX_DOCUMENTS: u64 = 1000;
const MAX_DOCUMENTS_OF_ALL: u64 = 5000;

/// Who asks, and which documents are candidates.
pub(in crate::index::scatter) struct Spelling<'a> {
    pub(in crate::index::scatter) scatter: &'a Scatter,
    pub(in crate::index::scatter) request: &'a Request,
    pub(in crate::index::scatter) settings: &'a IndexSettings,
    pub(in crate::index::scatter) route: &'a Route,
    /// The leaves that were answered for.
    pub(in crate::index::scatter) answered: &'a [Page],
    /// The searches that find the candidates, together.
    pub(in crate::index::scatter) searches: &'a [Scoped],
}

impl Spelling<'_> {
    /// The same facets, spelt as one node spells them.
    pub(in crate::index::scatter) async fn settle(&self, merged: MergedFacets) -> MergedFacets {
        let disputed = merged.disputed();
        if disputed.is_empty() { merged } else { merged.spell(&self.of(disputed).await) }
    }

    /// Finds out how the documents that came first spell these values. Those of which that cannot be
    /// told are left out.
    pub(in crate::index::scatter) async fn of(
        &self,
        mut disputed: Vec<Disputed>,
    ) -> Vec<(Disputed, String)> {
        let sorted = self.settings.sorts_by_rule;
        let searches = self.searches.iter().map(|scoped| Candidates::new(scoped, sorted));
        let Some(searches) = searches.collect::<Option<Vec<_>>>() else { return Vec::new() };
        if self.settings.distinct.is_some() {
            // Which documents are left of equal ones depends on how many are looked at.
            return Vec::new();
        }
        let mut left = MAX_DOCUMENTS_OF_ALL;
        disputed.truncate(MAX_VALUES);
        disputed.retain(|value| {
            let looks = searches.iter().map(|search| search.documents(value));
            let (most, all) = looks.fold((0, 0_u64), |(most, all), looks| {
                (looks.max(most), all.saturating_add(looks))
            });
            let affordable = most <= MAX_DOCUMENTS && all <= left;
            left -= if affordable { all } else { 0 };
            affordable
        });
        if disputed.is_empty() {
            return Vec::new();
        }
        round(self.request, Round::FacetSpellings);
        let mut calls = Vec::new();
        for (at, page) in self.answered.iter().enumerate() {
            let values = disputed.iter().filter(|value| value.leaves.contains(&at)).collect();
            let searches = &searches[..];
            calls.push(async move { (at, self.ask(page, searches, values).await) });
        }
        let mut answers = gather::all(calls).await;
        answers.sort_unstable_by_key(|(at, _)| *at);
        let mut pages: Vec<Option<Vec<merge::Page>>> = vec![Some(Vec::new()); disputed.len()];
        for (at, mut answer) in answers {
            let of =
                disputed.iter().zip(&mut pages).filter(|(value, _)| value.leaves.contains(&at));
            for (_, pages) in of {
                let found = answer.as_mut().and_then(Iterator::next).flatten();
                match (pages.as_mut(), found) {
                    (Some(pages), Some(found)) => pages.extend(found),
                    _ => *pages = None,
                }
            }
        }
        let told = disputed.into_iter().zip(pages).filter_map(|(value, pages)| {
            let spelling = merge::first_spelling(&pages?, &value.facet, &value.value)?;
            Some((value, spelling))
        });
        let told: Vec<_> = told.collect();
        metrics::counter!("miroir_facet_refinements_total", "outcome" => "spelled").increment(1);
        told
    }

    /// The documents of a leaf that have each of these values; `None` for a value with more of them than
    /// were looked at.
    async fn ask(
        &self,
        page: &Page,
        searches: &[Candidates<'_>],
        values: Vec<&Disputed>,
    ) -> Option<std::vec::IntoIter<Option<Vec<merge::Page>>>> {
        let mut queries = Vec::with_capacity(values.len() * searches.len());
        for value in &values {
            let compares = self.settings.compares(&value.facet);
            let condition = merge::any_of(&value.facet, [&value.value], compares)?;
            queries.extend(searches.iter().map(|s| s.having(value, &condition)));
        }
        if queries.is_empty() {
            return Some(Vec::new().into_iter());
        }
        let many = ScopedMany { queries, federation: None, operation: "multi_search" };
        let question = Question::Many(Arc::new(many));
        let parts = read::try_of(self.scatter, self.request, page, question, self.route).await?;
        let mut found: Vec<Option<Vec<merge::Page>>> = vec![Some(Vec::new()); values.len()];
        for part in parts {
            let results = serde_json::from_slice::<Results<'_>>(&part.body).ok()?.results;
            if results.len() != values.len() * searches.len() {
                return None;
            }
            for (at, result) in results.into_iter().enumerate() {
                let page = merge::Page::decode(&part.body.slice_ref(result.get().as_bytes()));
                let page = page.ok()?;
                let (pages, search) = (at / searches.len(), &searches[at % searches.len()]);
                let complete = page.hits.len() as u64 >= page.total;
                if !(search.in_order || complete) {
                    found[pages] = None;
                } else if let Some(pages) = &mut found[pages] {
                    pages.push(page);
                }
            }
        }
        Some(found.into_iter())
    }
}

/// The results of a multi-search.
#[derive(Deserialize)]
struct Results<'a> {
    #[serde(borrow)]
    results: Vec<&'a RawValue>,
}

/// A search that finds candidates.
struct Candidates<'a> {
    scoped: &'a Scoped,
    body: RawObject,
    /// Whether the first document found is the one that came first: neither words nor rules of the
    /// client's order them.
    in_order: bool,
}

impl<'a> Candidates<'a> {
    /// `None` where more than the words and the filter say which documents are candidates.
    fn new(scoped: &'a Scoped, sorted_by_rule: bool) -> Option<Self> {
        let asked = RawObject::parse(&scoped.body)?;
        if ["distinct", "hybrid", "vector", "media", "rankingScoreThreshold"]
            .iter()
            .any(|key| asked.has(key))
        {
            return None;
        }
        let mut body = bare(&asked);
        for key in ["facets", "sort", "page", "hitsPerPage", "offset"] {
            body.remove(key);
        }
        let query = body.read::<String>("q").ok()?.unwrap_or_default();
        Some(Self { scoped, body, in_order: query.trim().is_empty() && !sorted_by_rule })
    }

    /// How many documents are looked at.
    fn documents(&self, value: &Disputed) -> u64 {
        if self.in_order { 1 } else { value.count }
    }

    /// The search for the candidates that have a value.
    fn having(&self, value: &Disputed, condition: &str) -> Scoped {
        let mut body = self.body.clone();
        let name = value.facet.split('.').next().unwrap_or_default();
        body.set("attributesToRetrieve", &[name, &value.facet, ORDER]);
        body.set("limit", &self.documents(value));
        let filter = Some(joined(self.scoped.filter.as_ref(), condition));
        Scoped { body: body.to_bytes(), filter, path: "/search", ..self.scoped.clone() }
    }
}
