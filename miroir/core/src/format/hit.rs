//! A hit's marks: corrected, or read for what its node decided.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use charabia::Tokenizer;
use serde_json::value::RawValue;

use super::matches::Bound;
use super::render::Formatting;
use super::shown::{Shown, is_attribute};
use super::tree::{Members, Tree, object, separate};
use super::typed::{Mark, Typed};
use super::words::{Cut, WordRules, is_familiar};
use crate::documents::is_reserved;
use crate::merge::Page;

/// How many hits of a node are read for what it decided.
const READ: usize = 20;

/// What marks depend on, for one search.
#[derive(Clone, Debug)]
pub struct Marking<'a> {
    /// The query.
    pub typed: &'a Typed,
    /// How the index's texts are cut into words.
    pub rules: &'a WordRules,
    /// How the client wants hits formatted.
    pub formatting: &'a Formatting,
}

/// Corrects the marks in the hits of a search's answer, and leaves what `shown` says of them.
/// `marks` are those of the query's beginnings. What cannot be read stays as it is.
#[must_use]
pub fn rewrite(body: &Bytes, marking: &Marking<'_>, marks: &[Mark], shown: &Shown) -> Bytes {
    let Ok(answer) = serde_json::from_slice::<Members<'_>>(body) else { return body.clone() };
    let Some(hits) = answer.get("hits").and_then(|hits| read_hits(hits)) else {
        return body.clone();
    };
    let hits = marking.rules.tokenizer(|tokenizer| {
        let reading = Reading { marking, tokenizer };
        let mut out = String::from("[");
        for (index, hit) in hits.iter().enumerate() {
            separate(&mut out, index);
            let corrected = reading.correct(hit, marks).unwrap_or_default();
            out.push_str(&object(hit.iter().filter_map(|(name, raw)| {
                let raw = corrected.get(name.as_str()).map_or(raw.get(), String::as_str);
                Some((name, shown.member(name, raw)?))
            })));
        }
        out.push(']');
        out
    });
    let members = answer.iter().map(|(name, raw)| match name.as_str() {
        "hits" => (name, hits.as_str()),
        _ => (name, raw.get()),
    });
    Bytes::from(object(members))
}

fn read_hits(raw: &RawValue) -> Option<Vec<Members<'_>>> {
    serde_json::from_str(raw.get()).ok()
}

impl Marking<'_> {
    /// Which of the query's beginnings some node has a table of and does not mark, as far as the hits
    /// of these pages show. Without `showMatchesPosition` they show nothing.
    pub fn tabled<'p>(&self, pages: impl Iterator<Item = &'p Page>) -> Vec<bool> {
        let mut found = vec![false; self.typed.beginnings.len()];
        self.rules.tokenizer(|tokenizer| {
            let reading = Reading { marking: self, tokenizer };
            for page in pages {
                let Ok(answer) = serde_json::from_slice::<Members<'_>>(&page.body) else {
                    continue;
                };
                let hits = answer.get("hits").and_then(|hits| read_hits(hits));
                for hit in hits.unwrap_or_default().iter().take(READ) {
                    if found.iter().all(|tabled| *tabled) {
                        return;
                    }
                    // What cannot be read shows nothing.
                    let _ = reading.show(hit, &mut found);
                }
            }
        });
        found
    }
}

/// A marking with the tokenizer of its index.
struct Reading<'m, 't> {
    marking: &'m Marking<'m>,
    tokenizer: &'m Tokenizer<'t>,
}

/// One text of a document.
struct Leaf<'v> {
    attribute: &'v str,
    indices: &'v [usize],
    text: &'v str,
    bounds: &'v [Bound],
    /// Whether those are all of its matches: nodes only tell those of an array's last item that has
    /// any.
    certain: bool,
}

type Bounds = BTreeMap<String, Vec<Bound>>;

impl Reading<'_, '_> {
    /// The members of a hit that one node with everything would have written in another way. `None`
    /// if there are none, or the hit cannot be read.
    fn correct(&self, hit: &Members<'_>, marks: &[Mark]) -> Option<BTreeMap<&'static str, String>> {
        if marks.iter().all(|mark| *mark == Mark::AsTheyAre) {
            return None;
        }
        let mut formatted = match hit.get("_formatted") {
            Some(raw) => Some(Tree::read(raw)?),
            None => None,
        };
        let mut positions = bounds(hit)?;
        let mut changed = false;
        let mut settled = Bounds::new();
        leaves(hit, &positions, formatted.as_mut(), &mut |leaf, formatted| {
            let list = settled.entry(leaf.attribute.to_owned()).or_default();
            let Some(cut) = self.cut(&leaf) else {
                if !leaf.bounds.is_empty() {
                    *list = leaf.bounds.to_vec();
                }
                return Some(());
            };
            let (typed, formatting) = (self.marking.typed, self.marking.formatting);
            let how = formatting.how(leaf.attribute);
            let mut written = match (formatted, how) {
                (Some(Tree::Text(text)), Some(how)) => Some((text, how)),
                _ => None,
            };
            let node = if leaf.certain {
                cut.read(leaf.bounds, typed)?
            } else {
                let written = written.as_ref().map(|(text, how)| (text.as_str(), *how));
                formatting.guess(&cut, typed, written)
            };
            let whole = cut.settle(&node, typed, marks);
            let now = whole.as_deref().unwrap_or(&node);
            if !now.is_empty() {
                *list = now.iter().map(|m| cut.bound(m, leaf.indices)).collect();
            }
            changed |= whole.is_some();
            if let (Some(whole), Some((text, how))) = (whole, &mut written)
                // Only what Miroir would have written as the node did.
                && formatting.write(&cut, &node, *how).as_ref() == Some(*text)
                && let Some(new) = formatting.write(&cut, &whole, *how)
            {
                **text = new;
            }
            Some(())
        })?;
        if !changed {
            return None;
        }
        positions.extend(settled);
        positions.retain(|_, list| !list.is_empty());
        let mut out = BTreeMap::new();
        out.insert("_matchesPosition", serde_json::to_string(&positions).ok()?);
        if let Some(formatted) = formatted {
            let mut text = String::new();
            formatted.write(&mut text);
            out.insert("_formatted", text);
        }
        Some(out)
    }

    /// Notes what a hit shows of its node's tables.
    fn show(&self, hit: &Members<'_>, found: &mut [bool]) -> Option<()> {
        let positions = bounds(hit)?;
        let typed = self.marking.typed;
        leaves(hit, &positions, None, &mut |leaf, _| {
            let searched = self.marking.rules.searches(leaf.attribute);
            if let Some(cut) = self.cut(&leaf).filter(|_| searched && leaf.certain) {
                let node = cut.read(leaf.bounds, typed)?;
                cut.tabled(&node, typed, &self.marking.rules.stop_words, found);
            }
            Some(())
        })
    }

    /// The tokens of a text, if a word in it may begin as the query's last one, and Miroir cuts it as
    /// nodes do.
    fn cut<'v>(&self, leaf: &Leaf<'v>) -> Option<Cut<'v>> {
        let beginnings = &self.marking.typed.beginnings;
        if leaf.text.is_ascii() && leaf.certain {
            let lower = leaf.text.to_ascii_lowercase();
            if !beginnings.iter().any(|b| lower.contains(&b.text)) {
                return None;
            }
        }
        is_familiar(leaf.text).then(|| Cut::new(leaf.text, self.tokenizer))
    }
}

/// Calls `with` for all texts and numbers of a document, each with what `formatted` has in its
/// place. `None` where `with` says so, and where places in the document are not told apart.
fn leaves(
    hit: &Members<'_>,
    positions: &Bounds,
    mut formatted: Option<&mut Tree<'_>>,
    with: &mut dyn FnMut(Leaf<'_>, Option<&mut Tree<'_>>) -> Option<()>,
) -> Option<()> {
    let mut walk = Walk { positions, used: BTreeMap::new(), with };
    for (name, raw) in hit.iter().filter(|(name, _)| is_attribute(name) && !is_reserved(name)) {
        let value = Tree::read(raw)?;
        let formatted = formatted.as_deref_mut().and_then(|tree| tree.member(name));
        walk.value(name, name, &value, &[], formatted)?;
    }
    // Positions that belong to no text would be lost.
    let all = |(attribute, used): (&String, &usize)| {
        positions.get(attribute).map_or(0, Vec::len) == *used
    };
    walk.used.iter().all(all).then_some(())
}

/// A walk through the texts of a document.
struct Walk<'w> {
    positions: &'w Bounds,
    /// How many positions of an attribute belong to texts that were seen.
    used: BTreeMap<String, usize>,
    with: &'w mut dyn FnMut(Leaf<'_>, Option<&mut Tree<'_>>) -> Option<()>,
}

impl Walk<'_> {
    fn value(
        &mut self,
        name: &str,
        attribute: &str,
        value: &Tree<'_>,
        indices: &[usize],
        mut formatted: Option<&mut Tree<'_>>,
    ) -> Option<()> {
        // A name with a dot reads like a path.
        if name.contains('.') {
            return None;
        }
        let text = match value {
            Tree::Object(members) => {
                for (name, value) in members {
                    let below = format!("{attribute}.{name}");
                    let formatted = formatted.as_deref_mut().and_then(|tree| tree.member(name));
                    self.value(name, &below, value, indices, formatted)?;
                }
                return Some(());
            }
            Tree::Array(items) => {
                let mut same = match formatted {
                    Some(Tree::Array(own)) if own.len() == items.len() => Some(own),
                    _ => None,
                };
                for (index, item) in items.iter().enumerate() {
                    let indices: Vec<usize> = indices.iter().copied().chain([index]).collect();
                    let formatted = same.as_deref_mut().and_then(|own| own.get_mut(index));
                    self.value("", attribute, item, &indices, formatted)?;
                }
                return Some(());
            }
            Tree::Text(text) => text.as_str(),
            Tree::Number(text) => text,
            Tree::Other(_) => return Some(()),
        };
        let own = |bound: &&Bound| bound.indices.as_deref().unwrap_or_default() == indices;
        let known = self.positions.get(attribute).map(Vec::as_slice).unwrap_or_default();
        let bounds: Vec<Bound> = known.iter().filter(own).cloned().collect();
        let before = |bound: &Bound| bound.indices.as_deref().unwrap_or_default() <= indices;
        let certain = known.first().is_none_or(before);
        *self.used.entry(attribute.to_owned()).or_default() += bounds.len();
        (self.with)(Leaf { attribute, indices, text, bounds: &bounds, certain }, formatted)
    }
}

/// A hit's `_matchesPosition`; `None` if it has none.
fn bounds(hit: &Members<'_>) -> Option<Bounds> {
    let raw = hit.get("_matchesPosition")?;
    let bounds: Bounds = serde_json::from_str(raw.get()).ok()?;
    let distinct = |list: &Vec<Bound>| {
        let places: BTreeSet<_> = list.iter().map(|b| (&b.indices, b.start)).collect();
        places.len() == list.len()
    };
    bounds.values().all(distinct).then_some(bounds)
}
