//! `matchingStrategy: frequency` over leaves: which words one node holding everything would drop.
//!
//! A node drops the words that most of *its* documents have first, so every leaf drops others.
//! Here the counts of all leaves are added up, and the query is taken apart into the queries whose
//! hits make up the engine's buckets: one per set of words it would drop, each asked with the
//! remaining words required. A dropped word leaves a gap behind, so that the others keep their
//! places in the query.

mod page;

pub use page::relevel;

/// A negated word no document has: it takes a word's place in a query and excludes nothing.
const GAP: &str = "-qzxvjwkqhzpx";
/// A query that falls into more sets of words is left to the nodes.
const MOST: usize = 24;
/// The engine's limit of words in a query.
const WORDS: usize = 10;

/// A query as far as the engine can drop words from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    text: String,
    terms: Vec<Term>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Term {
    start: usize,
    end: usize,
    /// Words of a phrase; none for a plain word. Phrases are never dropped.
    phrase: Option<usize>,
    /// Its place among the words of the query.
    place: usize,
    /// The place after it.
    next: usize,
}

/// One of the queries a query is taken apart into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Level {
    /// The text to ask for.
    pub text: String,
    /// What the words rule says of hits that match all of it.
    pub matching: u32,
    /// The most the words rule says of any hit.
    pub max: u32,
    /// How many terms are left.
    pub terms: u32,
    /// How many of them do not directly follow the one before.
    pub gaps: u32,
    /// Whether a word before one that stays is dropped: then no hit can begin with the query.
    pub hole: bool,
}

/// A query whose total is asked for to count a word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// The text to ask for, with all words required.
    pub text: String,
    /// The words it counts for, by their number.
    pub words: Vec<usize>,
    /// Whether its total counts against the words.
    pub minus: bool,
}

/// Letters the tokenizer keeps together as one word.
fn is_word(text: &str) -> bool {
    let latin = |c: char| c.is_ascii_alphanumeric() || matches!(c, '\u{c0}'..='\u{24f}');
    // A capital inside a word begins another one.
    let camel =
        text.chars().zip(text.chars().skip(1)).any(|(a, b)| a.is_lowercase() && b.is_uppercase());
    !text.is_empty() && text.chars().all(|c| latin(c) && !matches!(c, '×' | '÷')) && !camel
}

impl Terms {
    /// Reads a query of words, phrases and their negations. `None` for anything else, for a query
    /// of which nothing can be dropped, and for one that is longer than the engine reads.
    #[must_use]
    pub fn parse(text: &str, stop_words: &[String]) -> Option<Self> {
        let is_stop = |word: &str| {
            let word = super::normal::facet(word);
            stop_words.iter().any(|stop| super::normal::facet(stop) == word)
        };
        let mut terms = Vec::new();
        let (mut at, mut place) = (0, 0);
        while let Some(skipped) = text[at..].find(|c: char| !c.is_ascii_whitespace()) {
            let start = at + skipped;
            let rest = &text[start..];
            let (sign, inner) = match rest.strip_prefix('-') {
                Some(inner) => (1, inner),
                None => (0, rest),
            };
            let (inside, closing) = match inner.strip_prefix('"') {
                Some(inside) => (inside.split_once('"')?.0, 2),
                None => (inner.split(|c: char| c.is_ascii_whitespace()).next()?, 0),
            };
            let end = start + sign + inside.len() + closing;
            if text[end..].starts_with(|c: char| !c.is_ascii_whitespace()) {
                return None;
            }
            let words: Vec<&str> =
                if closing == 0 { vec![inside] } else { inside.split(' ').collect() };
            if !words.iter().all(|word| is_word(word)) {
                return None;
            }
            let counted = words.iter().filter(|word| !is_stop(word)).count();
            // The last word of a query is looked for even if it is a stop word.
            let last = end == text.len() && closing == 0;
            if sign == 0 && (counted > 0 || last) {
                let phrase = (closing > 0).then_some(counted);
                terms.push(Term { start, end, phrase, place, next: place + words.len() });
            }
            place += words.len();
            at = end;
        }
        let droppable = terms.iter().filter(|term| term.phrase.is_none()).count();
        (droppable > 0 && terms.len() > 1 && terms.len() <= WORDS)
            .then(|| Self { text: text.to_owned(), terms })
    }

    fn words(&self) -> impl Iterator<Item = &Term> {
        self.terms.iter().filter(|term| term.phrase.is_none())
    }

    /// What to ask the leaves so as to count every word.
    #[must_use]
    pub fn counts(&self) -> Vec<Count> {
        let mut out = Vec::new();
        let text = |term: &Term| &self.text[term.start..term.end];
        // Only the end of the query is the beginning of a word.
        let open = |term: &Term| if term.end == self.text.len() { "" } else { " " };
        let words: Vec<&Term> = self.words().collect();
        for (at, term) in words.iter().enumerate() {
            let text = format!("{}{}", text(term), open(term));
            out.push(Count { text, words: vec![at], minus: false });
        }
        // Two words written as one count for both.
        for (at, pair) in words.windows(2).enumerate() {
            let (a, b) = (pair[0], pair[1]);
            if a.place + 1 != b.place {
                continue;
            }
            for (between, minus) in [(" ".to_owned(), false), (format!(" {GAP} "), true)] {
                let text = format!("{}{between}{}{}", text(a), text(b), open(b));
                out.push(Count { text, words: vec![at, at + 1], minus });
            }
        }
        out
    }

    /// The query without some of its words.
    fn without(&self, dropped: &[&Term]) -> String {
        let mut out = self.text.clone();
        for term in self.terms.iter().rev().filter(|term| dropped.contains(term)) {
            out.replace_range(term.start..term.end, GAP);
        }
        out
    }

    /// The queries this one is taken apart into, given how many documents have each word, best
    /// first; the last one is what every hit matches. `None` when there are too many.
    ///
    /// Words go by falling frequency; one that no document has goes first. Words that are equally
    /// frequent go in any order, so every choice among them is a query of its own. The rarest stay,
    /// unless a phrase does.
    #[must_use]
    pub fn levels(&self, frequencies: &[u64]) -> Option<Vec<Level>> {
        let mut order: Vec<(u64, &Term)> = frequencies
            .iter()
            .map(|&n| if n == 0 { u64::MAX } else { n })
            .zip(self.words())
            .collect();
        order.sort_by_key(|(n, _)| std::cmp::Reverse(*n));
        let mut groups: Vec<Vec<&Term>> = order
            .chunk_by(|a, b| a.0 == b.0)
            .map(|g| g.iter().map(|(_, t)| *t).collect())
            .collect();
        let phrased: usize = self.terms.iter().filter_map(|term| term.phrase).sum();
        if phrased == 0 {
            groups.pop();
        }
        let droppable: usize = groups.iter().map(Vec::len).sum();
        let max = 1 + phrased.saturating_sub(1) + droppable;
        let mut sets: Vec<Vec<&Term>> = vec![Vec::new()];
        let mut gone: Vec<&Term> = Vec::new();
        for group in groups {
            if group.len() > 4 {
                return None;
            }
            let mut choices: Vec<u32> = (1..1_u32 << group.len()).collect();
            choices.sort_by_key(|choice| choice.count_ones());
            for choice in choices {
                let chosen = group.iter().enumerate().filter(|(at, _)| choice >> at & 1 == 1);
                sets.push(gone.iter().copied().chain(chosen.map(|(_, term)| *term)).collect());
            }
            gone.extend(group);
        }
        (sets.len() <= MOST).then(|| {
            sets.iter()
                .map(|dropped| {
                    let stays = || self.terms.iter().filter(|term| !dropped.contains(term));
                    let last = stays().map(|term| term.start).max().unwrap_or_default();
                    let pairs = stays().zip(stays().skip(1));
                    Level {
                        text: self.without(dropped),
                        matching: (max - dropped.len()) as u32,
                        max: max as u32,
                        terms: stays().count() as u32,
                        gaps: pairs.filter(|(a, b)| a.next != b.place).count() as u32,
                        hole: dropped.iter().any(|term| term.start < last),
                    }
                })
                .collect()
        })
    }
}

/// How many documents have each word, from the totals of [`Terms::counts`].
#[must_use]
pub fn frequencies(counts: &[Count], totals: &[u64]) -> Vec<u64> {
    let words = counts.iter().flat_map(|count| &count.words).max().map_or(0, |last| last + 1);
    let mut out = vec![0_u64; words];
    // What counts against a word comes after what it was counted with.
    for (count, total) in counts.iter().zip(totals) {
        for word in &count.words {
            let sum = &mut out[*word];
            *sum =
                if count.minus { sum.saturating_sub(*total) } else { sum.saturating_add(*total) };
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<Terms> {
        Terms::parse(text, &["the".to_owned()])
    }

    #[test]
    fn words_are_dropped_by_falling_frequency_and_leave_gaps() {
        let terms = parse("dark the knight rises").unwrap();
        let levels = terms.levels(&[7, 0, 3]).unwrap();
        let texts: Vec<_> = levels.iter().map(|level| level.text.replace(GAP, "_")).collect();
        assert_eq!(texts, ["dark the knight rises", "dark the _ rises", "_ the _ rises"]);
        let matching: Vec<_> = levels.iter().map(|level| (level.matching, level.hole)).collect();
        assert_eq!(matching, [(3, false), (2, true), (1, true)]);
        assert!(levels.iter().all(|level| level.max == 3));
    }

    #[test]
    fn equally_frequent_words_go_in_any_order() {
        let levels = parse("a b c").unwrap().levels(&[5, 5, 1]).unwrap();
        let texts: Vec<_> = levels.iter().map(|level| level.text.replace(GAP, "_")).collect();
        assert_eq!(texts, ["a b c", "_ b c", "a _ c", "_ _ c"]);
        // All are equally rare: nothing is dropped.
        let levels = parse("xx yy zz").unwrap().levels(&[0, 0, 0]).unwrap();
        assert_eq!(levels.len(), 1);
        assert_eq!((levels[0].matching, levels[0].max), (1, 1));
    }

    #[test]
    fn a_phrase_stays_and_every_word_may_go() {
        let levels = parse("\"dark knight\" rises -love").unwrap().levels(&[9]).unwrap();
        let texts: Vec<_> = levels.iter().map(|level| level.text.replace(GAP, "_")).collect();
        assert_eq!(texts, ["\"dark knight\" rises -love", "\"dark knight\" _ -love"]);
        assert_eq!((levels[0].matching, levels[1].matching), (3, 2));
        assert!(!levels[1].hole);
    }

    #[test]
    fn words_are_counted_alone_and_as_pairs_written_as_one() {
        let counts = parse("bat man").unwrap().counts();
        let texts: Vec<_> = counts.iter().map(|c| (c.text.replace(GAP, "_"), c.minus)).collect();
        let expected = [("bat ", false), ("man", false), ("bat man", false), ("bat _ man", true)];
        assert!(texts.iter().map(|(t, m)| (t.as_str(), *m)).eq(expected), "{texts:?}");
    }

    #[test]
    fn what_is_not_plain_words_is_left_to_the_nodes() {
        for text in
            ["", "one", "love-story of", "camelCase word", "snake_case word", "a\"b c", "犬 猫"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
        // A stop word is a word only at the very end.
        assert_eq!(parse("dark the "), None);
        assert_eq!(parse("dark the").unwrap().terms.len(), 2);
    }
}
