//! The words of a query, and the beginnings of words among them.

use std::ops::RangeInclusive;

use charabia::{SeparatorKind, TokenKind};

use super::words::{WordRules, is_familiar};

/// Up to how many bytes nodes keep tables of the words that begin so.
const TABLED: usize = 4;
/// How many words of a query nodes look at.
const WORDS: usize = 10;
/// How many tokens of a query nodes look at.
const TOKENS: usize = 1000;
/// How many words of a query are tried as one.
const JOINED: usize = 3;
/// What a hard separator counts for, in words.
const HARD: u16 = 7;

/// A query whose last word is unfinished and short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Typed {
    /// What a word of a document may be to match in full; words that were joined come first.
    pub(super) words: Vec<Beginning>,
    /// The words of its phrases, each with the places of the whole phrase.
    quoted: Vec<Beginning>,
    /// What nodes keep tables for: the last word, and it with those before it. Longest first.
    pub beginnings: Vec<Beginning>,
}

/// Words of a query as one string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beginning {
    /// The string, normalized.
    pub text: String,
    /// The places in the query of the words it is made of.
    pub(super) ids: RangeInclusive<u16>,
}

/// What one node with all documents does with the words that begin so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mark {
    /// It marks them.
    All,
    /// It marks none.
    None,
    /// Nobody can tell: they stay as each node marked them.
    #[default]
    AsTheyAre,
}

/// A word that others can be joined to. `None` for a phrase.
struct Term {
    word: Option<String>,
    at: u16,
}

impl Typed {
    /// Reads a query. `None` where no node could have a table, so that all of them mark alike, and
    /// for queries whose words Miroir cannot tell.
    #[must_use]
    pub fn parse(query: &str, rules: &WordRules) -> Option<Self> {
        if !rules.prefix_search || rules.localized || !is_familiar(query) {
            return None;
        }
        rules.tokenizer(|tokenizer| {
            let (mut terms, mut at, mut quoted) = (Vec::new(), None::<u16>, false);
            let (mut phrase, mut quoted_words) = (Vec::<(String, u16)>::new(), Vec::new());
            let mut space = true;
            let mut unfinished = false;
            let mut tokens = tokenizer.tokenize(query).take(TOKENS).peekable();
            while let Some(token) = tokens.next() {
                let lemma = token.lemma();
                if lemma.is_empty() {
                    continue;
                }
                if terms.len() >= WORDS {
                    return None;
                }
                match token.kind {
                    TokenKind::Separator(kind) => {
                        if kind == SeparatorKind::Hard {
                            at = Some(at.map_or(HARD - 1, |at| at.wrapping_add(HARD)));
                        }
                        // What must not be in a hit is nothing to mark.
                        if lemma == "-" && space && !quoted {
                            return None;
                        }
                        let quotes = lemma.chars().filter(|c| *c == '"').count();
                        let split = quoted && (quotes > 0 || kind == SeparatorKind::Hard);
                        if split
                            && let (Some((_, first)), Some((_, last))) =
                                (phrase.first(), phrase.last())
                        {
                            terms.push(Term { word: None, at: *last });
                            let ids = *first..=*last;
                            quoted_words.extend(
                                phrase
                                    .drain(..)
                                    .map(|(text, _)| Beginning { text, ids: ids.clone() }),
                            );
                        }
                        quoted ^= quotes % 2 == 1;
                    }
                    TokenKind::Unknown => {}
                    TokenKind::Word | TokenKind::StopWord => {
                        let place = at.map_or(0, |at| at.wrapping_add(1));
                        at = Some(place);
                        let last = tokens.peek().is_none();
                        if quoted {
                            phrase.push((lemma.to_owned(), place));
                        } else if last || !rules.stop_words.iter().any(|word| word == lemma) {
                            terms.push(Term { word: Some(lemma.to_owned()), at: place });
                            unfinished = last;
                        }
                    }
                }
                space = lemma.chars().last().is_some_and(char::is_whitespace);
            }
            if !unfinished {
                return None;
            }
            Self::of(&terms, quoted_words, rules)
        })
    }

    fn of(terms: &[Term], quoted: Vec<Beginning>, rules: &WordRules) -> Option<Self> {
        let (mut words, mut beginnings) = (Vec::new(), Vec::new());
        for count in (1..=JOINED).rev() {
            for (index, joined) in terms.windows(count).enumerate() {
                let follow =
                    joined.windows(2).all(|two| two[0].at.checked_add(1) == Some(two[1].at));
                let text: Option<String> = joined.iter().map(|term| term.word.as_deref()).collect();
                let (Some(text), Some(first), Some(last)) = (text, joined.first(), joined.last())
                else {
                    continue;
                };
                if !follow {
                    continue;
                }
                let word = Beginning { text, ids: first.at..=last.at };
                let typos =
                    rules.typos_from.is_some_and(|from| word.text.chars().count() as u64 >= from);
                let tabled = index + count == terms.len() && word.text.len() <= TABLED;
                if tabled && typos {
                    return None;
                }
                if tabled {
                    beginnings.push(word.clone());
                }
                words.push(word);
            }
        }
        (!beginnings.is_empty()).then_some(Self { words, quoted, beginnings })
    }

    /// Whether the query is one word, so that each of its hits has a word that begins so.
    #[must_use]
    pub fn is_one_word(&self) -> bool {
        self.words.len() == 1 && self.quoted.is_empty()
    }

    /// The places in the query that a word of a document stands for, as well as can be told.
    pub(super) fn ids(&self, lemma: &str) -> RangeInclusive<u16> {
        if let Some(same) = self.words.iter().chain(&self.quoted).find(|word| word.text == lemma) {
            return same.ids.clone();
        }
        let near = self
            .words
            .iter()
            .filter(|word| word.ids.start() == word.ids.end())
            .map(|word| (strsim::levenshtein(&word.text, lemma), word))
            .min_by_key(|(errors, _)| *errors);
        near.map_or(0..=0, |(_, word)| word.ids.clone())
    }
}
