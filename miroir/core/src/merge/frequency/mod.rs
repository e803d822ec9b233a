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
const MOST: usize = 32;
/// The engine's limit of words in a query.
const WORDS: usize = 10;

/// A query as far as the engine can drop words from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryTerms {
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
    /// The query to ask for, with the dropped words taken out.
    pub text: String,
    /// What the words rule says of hits that match all of it.
    pub matching: u32,
    /// The most the words rule says of any hit.
    pub max: u32,
    /// Number of terms that are left.
    pub terms: u32,
    /// How many of them do not directly follow the one before.
    pub gaps: u32,
    /// Whether a word before one that stays is dropped: then no hit can begin with the query.
    pub hole: bool,
}

/// A query whose total is asked for to count a word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// The text to ask for.
    pub text: String,
    /// The word it counts for, by its number.
    pub word: usize,
    /// Whether words at the end may be missing; otherwise all are required.
    pub last: bool,
    /// Whether its total counts against the words.
    pub minus: bool,
}

/// Separators that only part words.
const SOFT: &str = ".,'/:&#%*@()[]{}\\";

/// Letters the tokenizer keeps together as one word.
fn is_letter(c: char) -> bool {
    c.is_ascii_alphanumeric() || (matches!(c, '\u{c0}'..='\u{24f}') && !matches!(c, '×' | '÷'))
}

/// A capital inside a word begins another one.
fn is_camel(word: &str) -> bool {
    word.chars().zip(word.chars().skip(1)).any(|(a, b)| a.is_lowercase() && b.is_uppercase())
}

impl QueryTerms {
    /// Reads a query of words, phrases and their negations. `None` for anything else, for a query
    /// of which nothing can be dropped, and for one that is longer than the engine reads.
    #[must_use]
    pub fn parse(text: &str, stop_words: &[String]) -> Option<Self> {
        let is_stop = |word: &str| {
            let word = super::normalize::facet(word);
            stop_words.iter().any(|stop| super::normalize::facet(stop) == word)
        };
        let mut terms: Vec<Term> = Vec::new();
        let (mut at, mut place) = (0, 0);
        let mut negative = false;
        let mut phrase: Option<(Term, bool)> = None;
        while let Some(c) = text[at..].chars().next() {
            let rest = &text[at..];
            let blank = text[..at].chars().next_back().is_none_or(char::is_whitespace);
            if is_letter(c) {
                let len = rest.find(|c| !is_letter(c)).unwrap_or(rest.len());
                let word = &rest[..len];
                if is_camel(word) {
                    return None;
                }
                let stop = is_stop(word);
                if let Some((term, _)) = &mut phrase {
                    term.phrase = term.phrase.map(|words| words + usize::from(!stop));
                } else if !std::mem::take(&mut negative) && (!stop || at + len == text.len()) {
                    // The last word of a query is looked for even if it is a stop word.
                    terms.push(Term {
                        start: at,
                        end: at + len,
                        phrase: None,
                        place,
                        next: place + 1,
                    });
                }
                place += 1;
                at += len;
                continue;
            }
            let minus = std::mem::take(&mut negative);
            match c {
                '"' => match phrase.take() {
                    Some((term, negated)) => {
                        let term = Term { end: at + 1, next: place, ..term };
                        if !negated && term.phrase.is_some_and(|words| words > 0) {
                            terms.push(term);
                        }
                    }
                    None => {
                        let begun =
                            Term { start: at, end: at, phrase: Some(0), place, next: place };
                        phrase = Some((begun, minus));
                    }
                },
                '-' if rest.starts_with("--") => return None,
                '-' => negative = blank && phrase.is_none(),
                // A pause counts as several words.
                '!' | '?' | ';' => place += 7,
                '.' | ',' if rest[1..].starts_with(' ') => place += 7,
                _ if c.is_ascii_whitespace() || SOFT.contains(c) => {}
                _ => return None,
            }
            if phrase.is_some() && matches!(c, '!' | '?' | ';' | '.' | ',') {
                return None;
            }
            at += c.len_utf8();
        }
        if phrase.is_some() {
            return None;
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
        let pairs = |at: usize| {
            let pair = (*words.get(at)?, *words.get(at + 1)?);
            (pair.0.place + 1 == pair.1.place).then_some(pair)
        };
        for (word, term) in words.iter().enumerate() {
            // A word and the next one written as one are found where the next one may be missing.
            let (text, last) = match pairs(word) {
                Some((a, b)) => (format!("{} {}{}", text(a), text(b), open(b)), true),
                None => (format!("{}{}", text(term), open(term)), false),
            };
            out.push(Count { text, word, last, minus: false });
        }
        // With the one before: what has both is counted already.
        for word in 1..words.len() {
            let Some((a, b)) = pairs(word - 1) else { continue };
            for (between, minus) in [(" ".to_owned(), false), (format!(" {GAP} "), true)] {
                let text = format!("{}{between}{}{}", text(a), text(b), open(b));
                out.push(Count { text, word, last: false, minus });
            }
        }
        out
    }

    /// The query without some of its words.
    fn without(&self, dropped: &[&Term]) -> String {
        let mut out = String::with_capacity(self.text.len());
        let mut at = 0;
        for term in self.terms.iter().filter(|term| dropped.contains(term)) {
            out.push_str(&self.text[at..term.start]);
            // Only after a blank does a minus negate; and a blank would make a point a pause.
            if !out.is_empty() && !out.ends_with(char::is_whitespace) {
                if out.ends_with(['.', ',']) {
                    out.pop();
                }
                out.push(' ');
            }
            out.push_str(GAP);
            at = term.end;
        }
        out.push_str(&self.text[at..]);
        out
    }

    /// The queries this one is taken apart into, given how many documents have each word, by the
    /// number of dropped words; the last one is what every hit matches. `None` when there are too
    /// many.
    ///
    /// Words go by falling frequency; one that no document has goes first. The engine asks only of
    /// words *further on in the query* that they are gone before a word may go, and words that are
    /// equally frequent go in any order: so there may be several sets of as many words. The rarest
    /// stay, unless a phrase does.
    #[must_use]
    pub fn levels(&self, frequencies: &[u64]) -> Option<Vec<Level>> {
        let frequencies: Vec<u64> =
            frequencies.iter().map(|&n| if n == 0 { u64::MAX } else { n }).collect();
        let words: Vec<(&Term, u64)> = self.words().zip(frequencies).collect();
        let phrased: usize = self.terms.iter().filter_map(|term| term.phrase).sum();
        let rarest = words.iter().map(|(_, n)| *n).min().unwrap_or_default();
        let free: Vec<(&Term, u64)> =
            words.iter().copied().filter(|(_, n)| phrased > 0 || *n > rarest).collect();
        let max = 1 + phrased.saturating_sub(1) + free.len();
        let allowed = |set: u32| {
            let gone = |at: usize| set >> at & 1 == 1;
            (0..free.len()).filter(|at| gone(*at)).all(|at| {
                (at + 1..free.len()).all(|later| gone(later) || free[later].1 <= free[at].1)
            })
        };
        let mut sets: Vec<u32> = (0..1_u32 << free.len()).filter(|set| allowed(*set)).collect();
        sets.sort_by_key(|set| set.count_ones());
        let alone =
            |set: u32| sets.iter().filter(|s| s.count_ones() == set.count_ones()).count() == 1;
        (sets.len() <= MOST).then(|| {
            sets.iter()
                .map(|set| {
                    let dropped = free.iter().enumerate().filter(|(at, _)| set >> at & 1 == 1);
                    let dropped: Vec<&Term> = dropped.map(|(_, (term, _))| *term).collect();
                    let stays = || self.terms.iter().filter(|term| !dropped.contains(term));
                    let last = stays().map(|term| term.start).max().unwrap_or_default();
                    let pairs = stays().zip(stays().skip(1));
                    Level {
                        text: self.without(&dropped),
                        matching: (max - dropped.len()) as u32,
                        max: max as u32,
                        terms: stays().count() as u32,
                        gaps: pairs.filter(|(a, b)| a.next != b.place).count() as u32,
                        // Among several sets the engine looks for the words of all of them.
                        hole: !alone(*set) || dropped.iter().any(|term| term.start < last),
                    }
                })
                .collect()
        })
    }
}

/// How many documents have each word, from the totals of [`QueryTerms::counts`].
#[must_use]
pub fn frequencies(counts: &[Count], totals: &[u64]) -> Vec<u64> {
    let words = counts.iter().map(|count| count.word + 1).max().unwrap_or_default();
    let mut out = vec![0_u64; words];
    // What counts against a word comes after what it was counted with.
    for (count, total) in counts.iter().zip(totals) {
        let sum = &mut out[count.word];
        *sum = if count.minus { sum.saturating_sub(*total) } else { sum.saturating_add(*total) };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<QueryTerms> {
        QueryTerms::parse(text, &["the".to_owned()])
    }

    fn texts(levels: &[Level]) -> Vec<String> {
        levels.iter().map(|level| level.text.replace(GAP, "_")).collect()
    }

    #[test]
    fn words_are_dropped_by_falling_frequency_and_leave_gaps() {
        // The last word is the most frequent: it has to go before the one in front of it.
        let levels = parse("dark the rises knight").unwrap().levels(&[3, 5, 7]).unwrap();
        assert_eq!(texts(&levels), ["dark the rises knight", "dark the rises _", "dark the _ _"]);
        assert_eq!(levels.iter().map(|l| l.matching).collect::<Vec<_>>(), [3, 2, 1]);
        assert!(levels.iter().all(|level| level.max == 3 && !level.hole));
        let levels = parse("dark the knight rises").unwrap().levels(&[7, 3, 0]).unwrap();
        let all = ["dark the knight rises", "dark the knight _", "_ the knight _"];
        assert_eq!(texts(&levels), all);
        assert_eq!((levels[2].hole, levels[2].gaps, levels[2].terms), (true, 0, 1));
    }

    #[test]
    fn a_word_may_stay_that_is_in_front_of_a_dropped_one() {
        // `b` may go although `a`, which is more frequent, stays: `a` comes before it.
        let levels = parse("a b c").unwrap().levels(&[9, 5, 1]).unwrap();
        assert_eq!(texts(&levels), ["a b c", "_ b c", "a _ c", "_ _ c"]);
        assert!(levels[1].hole && levels[2].hole);
        // All are equally rare: nothing is dropped.
        let levels = parse("xx yy zz").unwrap().levels(&[0, 0, 0]).unwrap();
        assert_eq!((levels.len(), levels[0].matching, levels[0].max), (1, 1, 1));
    }

    #[test]
    fn words_part_at_punctuation() {
        let levels = parse("F.I.S.T let's").unwrap().levels(&[1, 9, 9, 1, 1, 1]).unwrap();
        assert_eq!(texts(&levels)[3], "F _ _.T let's");
        let levels = parse("VII: IV:").unwrap().levels(&[1, 3]).unwrap();
        assert_eq!(texts(&levels), ["VII: IV:", "VII: _:"]);
        assert_eq!(parse("dark. knight").unwrap().terms[1].place, 8);
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
        let texts: Vec<_> =
            counts.iter().map(|c| (c.text.replace(GAP, "_"), c.word, c.last, c.minus)).collect();
        let expected = [
            ("bat man", 0, true, false),
            ("man", 1, false, false),
            ("bat man", 1, false, false),
            ("bat _ man", 1, false, true),
        ];
        assert!(
            texts.iter().map(|(t, w, l, m)| (t.as_str(), *w, *l, *m)).eq(expected),
            "{texts:?}"
        );
        // `tavopifetc` is `tavopifet` with a mistake: 33 documents have either, and as one they count
        // for the letter, too. So neither word is rarer, and neither goes.
        let terms = parse("tavopifet c -love").unwrap();
        let totals = [33, 0, 33, 0];
        assert_eq!(frequencies(&terms.counts(), &totals), [33, 33]);
        assert_eq!(terms.levels(&[33, 33]).unwrap().len(), 1);
    }

    #[test]
    fn what_is_not_plain_words_is_left_to_the_nodes() {
        for text in ["", "one", "camelCase word", "snake_case word", "a\"b c", "犬 猫", "a --b c"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
        // A stop word is a word only at the very end.
        assert_eq!(parse("dark the "), None);
        assert_eq!(parse("dark the").unwrap().terms.len(), 2);
    }
}
