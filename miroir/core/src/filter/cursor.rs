//! Quotes, words and blanks of a filter.

use std::ops::Range;

/// Reads a filter from left to right. Places are in bytes.
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    /// The whole text, of which a part is read already.
    pub text: &'a str,
    /// Where the next character begins, in bytes.
    pub at: usize,
}

/// Whether a character may be part of an unquoted attribute or literal.
pub fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.')
}

impl<'a> Cursor<'a> {
    /// A cursor at the beginning of a text.
    pub fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// What is not read yet.
    pub fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// The next character, if there is one.
    pub fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    /// Skips white space.
    pub fn blanks(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    /// Takes a text if it comes next.
    pub fn take(&mut self, text: &str) -> bool {
        let found = self.rest().starts_with(text);
        if found {
            self.at += text.len();
        }
        found
    }

    /// The word that comes next; empty if none does.
    pub fn word(&self) -> &'a str {
        let rest = self.rest();
        &rest[..rest.find(|c| !is_word(c)).unwrap_or(rest.len())]
    }

    /// Takes a quoted text or a word. `None` where there is neither, or no closing quote.
    pub fn value(&mut self) -> Option<Range<usize>> {
        let from = self.at;
        match self.peek()? {
            quote @ ('"' | '\'') => {
                self.at += 1;
                loop {
                    let c = self.peek()?;
                    self.at += c.len_utf8();
                    match c {
                        '\\' => self.at += self.peek()?.len_utf8(),
                        c if c == quote => break,
                        _ => {}
                    }
                }
            }
            c if is_word(c) => self.at += self.word().len(),
            _ => return None,
        }
        Some(from..self.at)
    }
}
