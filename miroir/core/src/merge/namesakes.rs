//! Numbers and the strings that are written like them.
//!
//! A node's list of a facet's values has room for one of both: the string's count stands at the number's
//! place. So a count that is shown for a number may be that of a string, and the number's is not shown.

use std::collections::HashMap;

use indexmap::IndexMap;

use super::facet_options::{FacetOptions, FacetOrder};
use super::facet_value::{FacetValue, shown_number};
use super::page::{LeafFacet, Page};

/// What a leaf shows as one value: a number, and strings that are written like it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namesakes {
    /// The leaf, as an index of pages.
    pub leaf: usize,
    /// Name of the facet.
    pub facet: String,
    /// Both, as they are shown.
    pub display: String,
    /// How many candidates have the number.
    pub number: u64,
    /// How many candidates have the string.
    pub text: u64,
}

/// Counts of values in a list of a leaf, which ends at `limit` values. A value that is not in it has
/// none, unless the list may have had no room for it: `None`.
#[must_use]
pub fn counts_of<'a>(
    list: &[(&str, u64)],
    wanted: impl IntoIterator<Item = &'a FacetValue>,
    limit: usize,
) -> Vec<Option<u64>> {
    let absent = (list.len() < limit).then_some(0);
    let mut counts: HashMap<FacetValue, u64> = HashMap::new();
    for (display, count) in list {
        let number = shown_number(display).map(FacetValue::number);
        for value in number.into_iter().chain([FacetValue::text(display)]) {
            counts.insert(value, *count);
        }
    }
    wanted.into_iter().map(|value| counts.get(value).copied().or(absent)).collect()
}

/// The values at the beginning of a leaf's list that are numbers.
///
/// Only a facet with statistics has numbers, and they come before the strings. A string that is written
/// like a number is taken for one when it directly follows the numbers, and in their order if that is
/// by value.
pub(crate) fn leading_numbers<'a>(
    facet: &'a LeafFacet,
    page: &Page,
    order: FacetOrder,
) -> impl Iterator<Item = (&'a str, f64)> + use<'a> {
    let mut stats = page.facet_stats.iter().flatten();
    let stats = stats.find_map(|(name, min, max)| (*name == facet.name).then_some((*min, *max)));
    numbers_of(&facet.values, stats, order)
}

fn numbers_of(
    values: &[(String, u64)],
    stats: Option<(f64, f64)>,
    order: FacetOrder,
) -> impl Iterator<Item = (&str, f64)> {
    let mut before: Option<(&str, f64)> = None;
    // Of few candidates numbers come as texts do, of many by their size.
    let (mut as_texts, mut by_size) = (true, true);
    values.iter().map_while(move |(display, _)| {
        let (number, (min, max)) = (shown_number(display)?, stats?);
        if let Some((text, last)) = before.replace((display, number)) {
            as_texts &= text < display.as_str();
            by_size &= last < number;
        }
        let ordered = order == FacetOrder::Count || as_texts || by_size;
        (ordered && (min..=max).contains(&number)).then_some((display.as_str(), number))
    })
}

/// Lists in which strings may hide numbers: facets that have both, by name, with the leaves that show
/// numbers. A facet of which every leaf shows nothing but numbers is taken to have nothing else. Facets
/// that Miroir asked for on its own behalf are left out.
#[must_use]
pub fn doubtful_numbers(pages: &[Page], options: &FacetOptions) -> Vec<(String, Vec<usize>)> {
    let mut facets: IndexMap<&str, (bool, Vec<usize>)> = IndexMap::new();
    for (leaf, page) in pages.iter().enumerate() {
        for facet in page.facet_distribution.iter().flatten() {
            let (strings, numeric) = facets.entry(&facet.name).or_default();
            let numbers = leading_numbers(facet, page, options.order(&facet.name)).count();
            *strings |= numbers < facet.values.len();
            if numbers > 0 {
                numeric.push(leaf);
            }
        }
    }
    let dropped = |name: &str| options.drop_facets.iter().any(|drop| drop == name);
    let doubtful = facets
        .into_iter()
        .filter(|(name, (strings, numeric))| *strings && !numeric.is_empty() && !dropped(name));
    doubtful.map(|(name, (_, leaves))| (name.to_owned(), leaves)).collect()
}

/// A leaf's list of a facet's values, as a whole or of a part of its candidates.
#[derive(Debug, Clone, Default)]
pub struct FacetList {
    /// Values as they are shown, with counts.
    pub values: Vec<(String, u64)>,
    /// The least and the greatest number.
    pub numbers: Option<(f64, f64)>,
}

impl FacetList {
    /// The list of one facet in a page.
    #[must_use]
    pub fn of(page: &Page, facet: &str) -> Self {
        let mut lists = page.facet_distribution.iter().flatten();
        let values = lists.find(|list| list.name == facet);
        let mut stats = page.facet_stats.iter().flatten();
        Self {
            values: values.map(|list| list.values.clone()).unwrap_or_default(),
            numbers: stats.find(|(name, ..)| name == facet).map(|(_, min, max)| (*min, *max)),
        }
    }

    fn count(&self, wanted: &str) -> u64 {
        let listed = self.values.iter().find(|(display, _)| display == wanted);
        listed.map_or(0, |(_, count)| *count)
    }
}

/// What a leaf's list hides, and values of which the lists do not tell for sure.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ToldApart {
    /// What is known.
    pub known: Vec<Namesakes>,
    /// Numbers that are to be asked for, and their strings, with what is to be taken for known where
    /// they are not.
    pub unclear: Vec<(f64, Namesakes)>,
}

/// What a leaf's list `shown` hides, given its lists of the same candidates in two parts: of those with
/// a string that may read as a number ([`numeral_strings`](super::numeral_strings)), and of the others.
///
/// The lists do not tell where documents have several values: a number may stand beside such a string.
#[must_use]
pub fn tell_apart(
    (leaf, facet): (usize, &str),
    shown: &FacetList,
    beside: &FacetList,
    others: &FacetList,
) -> ToldApart {
    let mut told = ToldApart::default();
    // What is no number has no more than a question to lose.
    let among_numbers = numbers_of(&beside.values, beside.numbers, FacetOrder::Count).count();
    for (at, (display, text)) in beside.values.iter().enumerate() {
        let Some(value) = shown_number(display) else { continue };
        let number = others.count(display);
        // Shown is the sum of both parts: the number's, which no string hides.
        if number > 0 && shown.count(display) == number + text {
            continue;
        }
        let number = number.max(u64::from(at < among_numbers));
        let (facet, display) = (facet.to_owned(), display.clone());
        let namesakes = Namesakes { leaf, facet, display, number, text: *text };
        if beside.numbers.is_some() {
            told.unclear.push((value, namesakes));
        } else {
            told.known.push(namesakes);
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_parts_tell_a_number_from_the_string_in_its_place() {
        let list = |pairs: &[(&str, u64)], numbers: Option<(f64, f64)>| {
            let values = pairs.iter().map(|(display, count)| ((*display).to_owned(), *count));
            FacetList { values: values.collect(), numbers }
        };
        // 5 five times and "5" twice, 7 four times, and "8" once.
        let shown = list(&[("5", 2), ("7", 4), ("8", 1), ("x", 9)], Some((5.0, 7.0)));
        let beside = list(&[("5", 2), ("8", 1)], None);
        let others = list(&[("5", 5), ("7", 4), ("x", 9)], Some((5.0, 7.0)));
        let told = tell_apart((1, "f"), &shown, &beside, &others);
        let of = |told: &Namesakes| (told.display.clone(), told.number, told.text);
        let known: Vec<_> = told.known.iter().map(of).collect();
        assert_eq!(known, [("5".to_owned(), 5, 2), ("8".to_owned(), 0, 1)]);
        assert!(told.unclear.is_empty());
        // The same, and a document with 4, 7 and "5".
        let shown = list(&[("4", 1), ("5", 3), ("7", 5), ("8", 1), ("x", 9)], Some((4.0, 7.0)));
        let beside = list(&[("4", 1), ("7", 1), ("5", 3), ("8", 1)], Some((4.0, 7.0)));
        let told = tell_apart((1, "f"), &shown, &beside, &others);
        let unclear: Vec<_> = told.unclear.iter().map(|(_, both)| of(both)).collect();
        let (four, five) = (("4".to_owned(), 1, 1), ("5".to_owned(), 5, 3));
        assert_eq!(unclear, [four, five, ("8".to_owned(), 0, 1)]);
    }
}
