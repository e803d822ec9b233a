//! Values that leaves spell differently.
//!
//! Values that are equal by their normal forms may be spelt in several ways. One node shows the spelling
//! of the document that came first; each leaf does among its own. Where leaves differ, the documents that
//! came first on each of them tell by their stamps.

use super::distinct::spelt_values_of;
use super::facet_value::FacetValue;
use super::facets::MergedFacets;
use super::page::Page;

/// A value that leaves spell differently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disputed {
    /// Name of the facet, dotted when nested.
    pub facet: String,
    /// The value.
    pub value: FacetValue,
    /// How many documents have it, as far as is known.
    pub count: u64,
    /// The leaves (indices of pages) that list it, ascending.
    pub leaves: Vec<usize>,
}

impl MergedFacets {
    /// The values of the lists that leaves spell differently.
    #[must_use]
    pub fn disputed(&self) -> Vec<Disputed> {
        let mut found = Vec::new();
        for facet in &self.state {
            for (value, known) in facet.shown(self.max).0 {
                if known.spellings.disputed() {
                    found.push(Disputed {
                        facet: facet.name.clone(),
                        value: value.clone(),
                        count: known.sum,
                        leaves: known.known.iter().map(|leaf| *leaf as usize).collect(),
                    });
                }
            }
        }
        found
    }

    /// Shows these values as the document spells them that came first.
    #[must_use]
    pub fn spell(mut self, spelt: &[(Disputed, String)]) -> Self {
        for (disputed, spelling) in spelt {
            let facet = self.state.iter_mut().find(|facet| facet.name == disputed.facet);
            if let Some(value) = facet.and_then(|facet| facet.values.get_mut(&disputed.value)) {
                value.spellings.decide(spelling);
            }
        }
        if self.distribution.is_some() {
            self.arrange();
        }
        self
    }
}

/// How the document spells the value that came first of those on the pages; of the first page among
/// documents without a stamp. `None` if it does not have the value.
#[must_use]
pub fn first_spelling(pages: &[Page], facet: &str, value: &FacetValue) -> Option<String> {
    let hits = pages.iter().flat_map(|page| page.hits.iter().map(move |hit| (page, hit)));
    let (page, first) = hits.min_by_key(|(page, hit)| page.stamp(hit))?;
    let mut values = spelt_values_of(page, first, facet).into_iter();
    values.rfind(|(of, _)| of == value).map(|(_, spelling)| spelling)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use miroir_api::TaskUid;

    use super::*;
    use crate::documents::{ORDER, Stamp};
    use crate::merge::{FacetOptions, merge_facets};

    fn page(body: &str) -> Page {
        Page::decode(&Bytes::copy_from_slice(body.as_bytes())).unwrap()
    }

    #[test]
    fn what_leaves_spell_differently_is_spelt_as_the_first_document_does() {
        let pages = [
            page(
                r#"{"estimatedTotalHits":5,"facetDistribution":{"n":{"Écru":3,"gris":2}},"facetStats":{}}"#,
            ),
            page(
                r#"{"estimatedTotalHits":3,"facetDistribution":{"n":{"gris":2,"écru":1}},"facetStats":{}}"#,
            ),
        ];
        let options = FacetOptions { max_values_per_facet: 9, node_limit: 9, ..<_>::default() };
        let merged = merge_facets(&pages, &options);
        let disputed = merged.disputed();
        let value = FacetValue::text("écru");
        let wanted = Disputed { facet: "n".into(), value, count: 4, leaves: vec![0, 1] };
        assert_eq!(disputed, std::slice::from_ref(&wanted));
        let merged = merged.spell(&[(wanted, "écru".into())]);
        assert!(merged.disputed().is_empty());
        let list = [("gris".to_owned(), 4), ("écru".to_owned(), 4)];
        let mut shown = merged.distribution.unwrap().remove(0).1;
        shown.sort();
        assert_eq!(shown, list);
    }

    #[test]
    fn the_lowest_stamp_tells_the_spelling() {
        let hit = |task: u32, place: usize, value: &str| {
            let stamp = Stamp::new(TaskUid(task), place).text();
            let stamp = str::from_utf8(&stamp).unwrap();
            format!(r#"{{"n":{value},"{ORDER}":"{stamp}"}}"#)
        };
        let pages = |bodies: &[&[String]]| {
            let pages =
                bodies.iter().map(|hits| page(&format!("{{\"hits\":[{}]}}", hits.join(","))));
            pages.collect::<Vec<_>>()
        };
        let value = FacetValue::text("ecru");
        let two = pages(&[
            &[hit(7, 0, r#""Ecru""#), hit(3, 9, r#"["gris","eCRU"]"#)],
            &[hit(3, 10, r#""ECRU""#), hit(4, 0, r#""ecru""#)],
        ]);
        assert_eq!(first_spelling(&two, "n", &value).as_deref(), Some("eCRU"));
        assert_eq!(first_spelling(&two[1..], "n", &value).as_deref(), Some("ECRU"));
        assert_eq!(first_spelling(&two, "other", &value), None);
        // Documents without a stamp are older than those that have one.
        let old = pages(&[&[hit(1, 0, r#""ECRU""#)], &[r#"{"n":"ecrU"}"#.to_owned()]]);
        assert_eq!(first_spelling(&old, "n", &value).as_deref(), Some("ecrU"));
    }
}
