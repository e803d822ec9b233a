//! Tokens of Rust source, as far as paths need them: comments are dropped, literals stay shut.

/// One token and the line it begins on, counted from one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind<'a>,
    pub(super) line: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind<'a> {
    /// Identifier or keyword; a raw identifier keeps its `r#`, so that it is never a keyword.
    Word(&'a str),
    /// `::`.
    Separator,
    /// A string of any sort: what stands between its quotes, escapes unread.
    Text(&'a str),
    /// Number, character or lifetime.
    Literal,
    /// Any other character.
    Sign(char),
}

/// Splits a whole file. Source that the compiler refuses gives some tokens and no error.
pub(super) fn tokens(source: &str) -> Vec<Token<'_>> {
    let mut lexer = Lexer { source, at: 0, line: 1 };
    let mut out = Vec::new();
    loop {
        lexer.blanks();
        let line = lexer.line;
        let Some(kind) = lexer.token() else { return out };
        out.push(Token { kind, line });
    }
}

struct Lexer<'a> {
    source: &'a str,
    at: usize,
    line: usize,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.source[self.at..]
    }

    fn step(&mut self, bytes: usize) {
        let end = (self.at + bytes).min(self.source.len());
        self.line += self.source[self.at..end].matches('\n').count();
        self.at = end;
    }

    /// Steps over white space and comments.
    fn blanks(&mut self) {
        loop {
            let rest = self.rest();
            let blank = rest.len() - rest.trim_start().len();
            if blank > 0 {
                self.step(blank);
            } else if rest.starts_with("//") {
                self.step(rest.find('\n').unwrap_or(rest.len()));
            } else if rest.starts_with("/*") {
                self.step(block_comment(rest));
            } else {
                return;
            }
        }
    }

    fn token(&mut self) -> Option<Kind<'a>> {
        let rest = self.rest();
        let first = rest.chars().next()?;
        if first == '"' {
            return Some(self.text(0));
        }
        if first == '\'' {
            self.step(quoted(rest));
            return Some(Kind::Literal);
        }
        if first.is_ascii_digit() {
            self.step(number(rest));
            return Some(Kind::Literal);
        }
        if rest.starts_with("::") {
            self.step(2);
            return Some(Kind::Separator);
        }
        let word = word(rest);
        if word.is_empty() {
            self.step(first.len_utf8());
            return Some(Kind::Sign(first));
        }
        let after = &rest[word.len()..];
        if matches!(word, "r" | "br" | "cr") {
            let hashes = after.len() - after.trim_start_matches('#').len();
            if after[hashes..].starts_with('"') {
                return Some(self.raw_text(word.len(), hashes));
            }
            if word == "r" && hashes == 1 {
                let raw = &rest[..2 + self::word(&after[1..]).len()];
                self.step(raw.len());
                return Some(Kind::Word(raw));
            }
        }
        if matches!(word, "b" | "c") && after.starts_with('"') {
            return Some(self.text(1));
        }
        if word == "b" && after.starts_with('\'') {
            self.step(1 + quoted(after));
            return Some(Kind::Literal);
        }
        self.step(word.len());
        Some(Kind::Word(word))
    }

    /// A string whose quote comes after `prefix` bytes.
    fn text(&mut self, prefix: usize) -> Kind<'a> {
        let inside = &self.rest()[prefix + 1..];
        let mut escaped = false;
        let end = inside.find(|c| {
            let closes = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            closes
        });
        let end = end.unwrap_or(inside.len());
        self.step(prefix + end + 2);
        Kind::Text(&inside[..end])
    }

    fn raw_text(&mut self, prefix: usize, hashes: usize) -> Kind<'a> {
        let inside = &self.rest()[prefix + hashes + 1..];
        let closing = format!("\"{}", "#".repeat(hashes));
        let end = inside.find(&closing).unwrap_or(inside.len());
        self.step(prefix + hashes + 1 + end + closing.len());
        Kind::Text(&inside[..end])
    }
}

fn word(text: &str) -> &str {
    let end = text.find(|c: char| c != '_' && !c.is_alphanumeric());
    &text[..end.unwrap_or(text.len())]
}

/// Length of a comment in `/* */`; such comments nest.
fn block_comment(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        if rest.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

/// Length of a character or of a lifetime.
fn quoted(text: &str) -> usize {
    let inside = &text[1..];
    if let Some(escape) = inside.strip_prefix('\\') {
        // The escaped character may itself be a quote.
        let first = escape.chars().next().map_or(0, char::len_utf8);
        let end = escape[first..].find('\'').map_or(escape.len(), |end| first + end + 1);
        return 2 + end;
    }
    let first = inside.chars().next().map_or(0, char::len_utf8);
    if inside[first..].starts_with('\'') { 2 + first } else { 1 + word(inside).len() }
}

fn number(text: &str) -> usize {
    let whole = word(text).len();
    let fraction = text[whole..].strip_prefix('.').map_or("", word);
    // `1..2` is a range and `1.max(2)` a call.
    if fraction.starts_with(|c: char| c.is_ascii_digit()) {
        whole + 1 + fraction.len()
    } else {
        whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words, separators and signs with a space between; a string in `<>`, other literals as `#`.
    fn read(source: &str) -> String {
        let shown = tokens(source).into_iter().map(|token| match token.kind {
            Kind::Word(word) => word.to_owned(),
            Kind::Separator => "::".to_owned(),
            Kind::Text(text) => format!("<{text}>"),
            Kind::Literal => "#".to_owned(),
            Kind::Sign(sign) => sign.to_string(),
        });
        shown.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn comments_are_dropped() {
        assert_eq!(read("a // b\n/// [`c`]\n//! d\ne /* f /* g */ h */ i"), "a e i");
    }

    #[test]
    fn strings_are_one_token_each() {
        assert_eq!(read(r#"a "b \" c::d" e"#), r#"a <b \" c::d> e"#);
        assert_eq!(
            read(r###"r"a\" r#"b"c"# br##"d"# x"## b"e" c"f" g"###),
            r##"<a\> <b"c> <d"# x> <e> <f> g"##
        );
    }

    #[test]
    fn characters_are_told_from_lifetimes() {
        assert_eq!(read(r"'a' '\'' '\\' b'x' b'\'' 'ß' z"), "# # # # # # z");
        assert_eq!(read("&'a T<'static, '_> 'outer: loop"), "& # T < # , # > # : loop");
    }

    #[test]
    fn numbers_ranges_and_paths_are_told_apart() {
        assert_eq!(read("1.5 0xff_u8 1..2 a::b 3.max(4)"), "# # # . . # a :: b # . max ( # )");
        assert_eq!(read("r#use r#type"), "r#use r#type");
    }

    #[test]
    fn lines_count_inside_literals_and_comments() {
        let lines: Vec<usize> = tokens("a\n\"x\ny\" b /*\n*/ c").iter().map(|t| t.line).collect();
        assert_eq!(lines, [1, 2, 3, 4]);
    }
}
