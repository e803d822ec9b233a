//! How an index's texts are cut into words.

use charabia::separators::DEFAULT_SEPARATORS;
use charabia::{Token, Tokenizer, TokenizerBuilder};
use serde_json::Value;

/// What of an index's settings decides about words and the marks on them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WordRules {
    /// Whether the last word of a query matches the words that begin with it.
    pub prefix_search: bool,
    /// Characters from which on a word may have typing errors; `None` if none may.
    pub typos_from: Option<u64>,
    /// Whether attributes have languages of their own.
    pub localized: bool,
    /// `searchableAttributes`; `["*"]` for all.
    pub searchable: Vec<String>,
    /// `stopWords`, as the client set them.
    pub stop_words: Vec<String>,
    /// `dictionary`: strings that are words as they are.
    pub dictionary: Vec<String>,
    /// What separates words; `None` for the tokenizer's own separators.
    pub separators: Option<Vec<String>>,
}

impl WordRules {
    /// Reads a node's settings.
    #[must_use]
    pub fn read(settings: &Value) -> Self {
        let strings = |key: &str| -> Vec<String> {
            let list = settings[key].as_array().map(Vec::as_slice).unwrap_or_default();
            list.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect()
        };
        let typos = &settings["typoTolerance"];
        let (more, fewer) = (strings("separatorTokens"), strings("nonSeparatorTokens"));
        let separators = (!more.is_empty() || !fewer.is_empty()).then(|| {
            let mut all = more;
            all.extend(DEFAULT_SEPARATORS.iter().map(|s| (*s).to_owned()));
            all.retain(|separator| !fewer.contains(separator));
            all.sort_unstable();
            all.dedup();
            all
        });
        let searchable =
            settings["searchableAttributes"].as_array().map(|_| strings("searchableAttributes"));
        Self {
            prefix_search: settings["prefixSearch"].as_str() != Some("disabled"),
            typos_from: (typos["enabled"].as_bool() != Some(false))
                .then(|| typos["minWordSizeForTypos"]["oneTypo"].as_u64().unwrap_or(5)),
            localized: settings["localizedAttributes"].as_array().is_some_and(|l| !l.is_empty()),
            searchable: searchable.unwrap_or_else(|| vec!["*".to_owned()]),
            stop_words: strings("stopWords"),
            dictionary: strings("dictionary"),
            separators,
        }
    }

    /// Whether an attribute's words are among those the index knows.
    pub(super) fn searches(&self, attribute: &str) -> bool {
        self.searchable.iter().any(|name| {
            let below = attribute.strip_prefix(name.as_str());
            name == "*" || below.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
    }

    /// Calls `with` with the tokenizer by which nodes find what to mark.
    pub(super) fn tokenizer<R>(&self, with: impl FnOnce(&Tokenizer<'_>) -> R) -> R {
        let separators = self.separators.as_deref().map(strs);
        let dictionary = strs(&self.dictionary);
        let mut builder = TokenizerBuilder::default();
        builder.create_char_map(true);
        if let Some(separators) = &separators {
            builder.separators(separators);
        }
        if !dictionary.is_empty() {
            builder.words_dict(&dictionary);
        }
        with(&builder.into_tokenizer())
    }
}

fn strs(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

/// Whether all builds of the tokenizer cut a text alike: scripts that have segmenters or letters of
/// their own are not among these.
pub(super) fn is_familiar(text: &str) -> bool {
    text.chars().all(|c| match c {
        'Ð' | 'Đ' | 'đ' | 'ð' | 'ı' => false,
        '\u{0}'..='\u{36f}' | '\u{400}'..='\u{52f}' | '\u{1e00}'..='\u{1eff}' => true,
        '\u{2000}'..='\u{2bff}' | '\u{1f000}'..='\u{1faff}' | '\u{fe0f}' => true,
        _ => false,
    })
}

/// A text and its tokens.
pub(super) struct Cut<'t> {
    pub(super) text: &'t str,
    pub(super) tokens: Vec<Token<'t>>,
    /// How many words come before each token.
    pub(super) words: Vec<usize>,
}

impl<'t> Cut<'t> {
    pub(super) fn new(text: &'t str, tokenizer: &Tokenizer<'_>) -> Self {
        let tokens: Vec<_> = tokenizer.tokenize_with_allow_list(text, None).collect();
        let mut before = 0;
        let words = tokens
            .iter()
            .map(|token| {
                let position = before;
                before += usize::from(!token.is_separator());
                position
            })
            .collect();
        Self { text, tokens, words }
    }

    /// How many bytes each character of a token takes, as nodes count them.
    pub(super) fn lengths(token: &Token<'_>) -> Vec<usize> {
        match &token.char_map {
            Some(map) => map.iter().map(|(original, _)| *original as usize).collect(),
            None => token.lemma().chars().map(char::len_utf8).collect(),
        }
    }
}
