//! What one module declares, imports and names, read from its tokens. Tests are left out.

use std::collections::BTreeSet;

use super::lexer::{Kind, Token};

/// A module's own part: what stands in its file or its braces, without files of child modules.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Scanned {
    /// Names of the items declared at its top, child modules apart.
    pub(super) items: BTreeSet<String>,
    /// Macros that `#[macro_export]` puts at the crate's root.
    pub(super) exported: Vec<String>,
    /// `use` declarations, one a leaf, those inside functions included.
    pub(super) imports: Vec<Import>,
    /// Paths of two segments or more outside of `use`.
    pub(super) paths: Vec<Named>,
    /// Words that are no part of such a path: types, calls, variables.
    pub(super) words: Vec<(String, usize)>,
    pub(super) children: Vec<Child>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Import {
    pub(super) path: Vec<String>,
    /// The name it has here; none for `as _` and for globs.
    pub(super) name: Option<String>,
    pub(super) glob: bool,
    pub(super) line: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) path: Vec<String>,
    pub(super) line: usize,
    /// Followed by `(`, `!` or `::<`: not a module.
    pub(super) called: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Child {
    pub(super) name: String,
    pub(super) line: usize,
    pub(super) body: Body,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// In a file of its own, at the `#[path]` if there is one.
    File(Option<String>),
    /// In braces, with the number of lines they take.
    Inline(Scanned, usize),
}

/// Reads a file. `None` if all of it is for tests.
pub(super) fn scan(tokens: &[Token<'_>]) -> Option<Scanned> {
    Scanner { tokens, at: 0 }.module()
}

/// Words that open an item whose name comes next.
const ITEMS: [&str; 8] = ["struct", "enum", "union", "trait", "fn", "type", "const", "static"];
/// Words, beside those, that an item can begin with.
const OPENINGS: [&str; 7] = ["use", "mod", "impl", "unsafe", "async", "extern", "macro_rules"];

struct Scanner<'a> {
    tokens: &'a [Token<'a>],
    at: usize,
}

impl<'a> Scanner<'a> {
    fn kind(&self, at: usize) -> Option<Kind<'a>> {
        self.tokens.get(at).map(|token| token.kind)
    }

    fn word(&self, at: usize) -> Option<&'a str> {
        match self.kind(at)? {
            Kind::Word(word) => Some(word),
            _ => None,
        }
    }

    fn is(&self, at: usize, sign: char) -> bool {
        self.kind(at) == Some(Kind::Sign(sign))
    }

    /// Reads up to the brace that closes the module, or the end.
    fn module(&mut self) -> Option<Scanned> {
        let mut out = Scanned::default();
        let mut depth = 0_usize;
        let mut only_tests = false;
        let (mut file, mut exported) = (None, false);
        while let Some(token) = self.tokens.get(self.at) {
            match token.kind {
                Kind::Sign('{') => depth += 1,
                Kind::Sign('}') if depth == 0 => break,
                Kind::Sign('}') => depth -= 1,
                Kind::Sign('#') => {
                    if let Some((inner, attribute)) = self.attribute() {
                        if for_tests(attribute) {
                            if inner {
                                only_tests = true;
                            } else {
                                self.skip_item();
                            }
                            continue;
                        }
                        file = path_of(attribute).or(file);
                        exported |= is_word(attribute, "macro_export");
                        attribute_paths(attribute, &mut out);
                        continue;
                    }
                }
                // `use<'a>` lists what a type captures.
                Kind::Word("use") if !self.is(self.at + 1, '<') => {
                    self.at += 1;
                    self.import(&[], &mut out.imports);
                    continue;
                }
                Kind::Word("mod") if self.child(file.take(), &mut out) => continue,
                Kind::Word("macro_rules") if self.is(self.at + 1, '!') => {
                    if let Some(name) = self.word(self.at + 2) {
                        out.items.insert(name.to_owned());
                        if std::mem::take(&mut exported) {
                            out.exported.push(name.to_owned());
                        }
                    }
                }
                Kind::Word(word) => {
                    if depth == 0
                        && ITEMS.contains(&word)
                        && let Some(name) = self.word(self.at + 1)
                    {
                        out.items.insert(name.to_owned());
                    }
                    self.path(word, token.line, &mut out);
                    continue;
                }
                _ => {}
            }
            self.at += 1;
        }
        (!only_tests).then_some(out)
    }

    /// Steps over `#[…]` or `#![…]`; whether it is an inner one, and what is between the brackets.
    fn attribute(&mut self) -> Option<(bool, &'a [Token<'a>])> {
        let inner = self.is(self.at + 1, '!');
        let open = self.at + 1 + usize::from(inner);
        if !self.is(open, '[') {
            return None;
        }
        let close = self.closing(open);
        self.at = close + 1;
        Some((inner, &self.tokens[open + 1..close.min(self.tokens.len())]))
    }

    /// Where the bracket that opens at `open` is closed, or the end.
    fn closing(&self, open: usize) -> usize {
        let mut depth = 0_usize;
        for at in open..self.tokens.len() {
            match self.tokens[at].kind {
                Kind::Sign('(' | '[' | '{') => depth += 1,
                Kind::Sign(')' | ']' | '}') => {
                    depth -= 1;
                    if depth == 0 {
                        return at;
                    }
                }
                _ => {}
            }
        }
        self.tokens.len()
    }

    /// Steps over the item, field, arm or statement that a test-only attribute stands before.
    fn skip_item(&mut self) {
        while self.is(self.at, '#') && self.attribute().is_some() {}
        let mut first = self.at;
        if self.word(first) == Some("pub") {
            first += 1;
            if self.is(first, '(') {
                first = self.closing(first) + 1;
            }
        }
        let item =
            self.word(first).is_some_and(|word| ITEMS.contains(&word) || OPENINGS.contains(&word));
        while let Some(kind) = self.kind(self.at) {
            match kind {
                Kind::Sign('(' | '[') => self.at = self.closing(self.at) + 1,
                Kind::Sign('{') => {
                    self.at = self.closing(self.at) + 1;
                    return;
                }
                Kind::Sign(')' | ']' | '}') => return,
                Kind::Sign(end @ (';' | ',')) if end == ';' || !item => {
                    self.at += 1;
                    return;
                }
                _ => self.at += 1,
            }
        }
    }

    /// Reads `mod name;` or `mod name { … }`; false if it is neither.
    fn child(&mut self, file: Option<String>, out: &mut Scanned) -> bool {
        let line = self.tokens[self.at].line;
        let Some(name) = self.word(self.at + 1) else { return false };
        let name = name.trim_start_matches("r#").to_owned();
        let body = if self.is(self.at + 2, ';') {
            self.at += 3;
            Some(Body::File(file))
        } else if self.is(self.at + 2, '{') {
            self.at += 3;
            let inside = self.module();
            let last = self.tokens.get(self.at).or(self.tokens.last()).map_or(line, |t| t.line);
            self.at += 1;
            inside.map(|inside| Body::Inline(inside, last + 1 - line))
        } else {
            return false;
        };
        if let Some(body) = body.filter(|_| name != "tests") {
            out.children.push(Child { name, line, body });
        }
        true
    }

    /// Reads one tree of a `use`, up to and without what ends it.
    fn import(&mut self, prefix: &[String], out: &mut Vec<Import>) {
        let mut path = prefix.to_vec();
        if path.is_empty() && self.kind(self.at) == Some(Kind::Separator) {
            // `::name` is a crate whatever modules there are.
            path.push(String::new());
            self.at += 1;
        }
        let line = self.tokens.get(self.at).map_or(0, |token| token.line);
        while let Some(kind) = self.kind(self.at) {
            match kind {
                Kind::Sign('*') => {
                    self.at += 1;
                    out.push(Import { path, name: None, glob: true, line });
                    return;
                }
                Kind::Sign('{') => {
                    self.at += 1;
                    while self.at < self.tokens.len() && !self.is(self.at, '}') {
                        let before = self.at;
                        self.import(&path, out);
                        if self.is(self.at, ',') || self.at == before {
                            self.at += 1;
                        }
                    }
                    self.at += 1;
                    return;
                }
                // `$crate`.
                Kind::Sign('$') => self.at += 1,
                Kind::Word(word) => {
                    self.at += 1;
                    path.push(word.to_owned());
                    if self.kind(self.at) == Some(Kind::Separator) {
                        self.at += 1;
                        continue;
                    }
                    if path.len() > 1 && word == "self" {
                        path.pop();
                    }
                    let mut name = path.last().cloned();
                    if self.word(self.at) == Some("as") {
                        name =
                            self.word(self.at + 1).filter(|name| *name != "_").map(str::to_owned);
                        self.at += 2;
                    }
                    out.push(Import { path, name, glob: false, line });
                    return;
                }
                _ => return,
            }
        }
    }

    /// Reads a path, or a word that is none.
    fn path(&mut self, first: &str, line: usize, out: &mut Scanned) {
        let before = self.at.checked_sub(1).and_then(|at| self.kind(at));
        let mut path = vec![first.to_owned()];
        self.at += 1;
        while self.kind(self.at) == Some(Kind::Separator)
            && let Some(word) = self.word(self.at + 1)
        {
            path.push(word.to_owned());
            self.at += 2;
        }
        match before {
            // The rest of `<T as Trait>::Name::…`, or of `::name`.
            Some(Kind::Separator) => {}
            _ if path.len() > 1 => {
                let called = self.is(self.at, '(')
                    || self.is(self.at, '!')
                    || self.kind(self.at) == Some(Kind::Separator);
                out.paths.push(Named { path, line, called });
            }
            // A field or a method.
            Some(Kind::Sign('.')) => {}
            _ => out.words.extend(path.pop().map(|word| (word, line))),
        }
    }
}

/// Paths in an attribute: as they are (`derive`), and in strings (`with = "super::millis"`).
fn attribute_paths<'a>(attribute: &'a [Token<'a>], out: &mut Scanned) {
    let mut inside = Scanner { tokens: attribute, at: 0 };
    while let Some(token) = attribute.get(inside.at) {
        match token.kind {
            Kind::Word(word) => inside.path(word, token.line, out),
            Kind::Text(text) => {
                inside.at += 1;
                let path: Vec<String> = text.split("::").map(str::to_owned).collect();
                let letters =
                    |part: &String| part.chars().all(|c| c == '_' || c.is_ascii_alphanumeric());
                if path.len() > 1 && path.iter().all(letters) {
                    out.paths.push(Named { path, line: token.line, called: true });
                }
            }
            _ => inside.at += 1,
        }
    }
}

fn is_word(attribute: &[Token<'_>], word: &str) -> bool {
    attribute.first().is_some_and(|token| token.kind == Kind::Word(word))
}

/// The file that `path = "…"` names.
fn path_of(attribute: &[Token<'_>]) -> Option<String> {
    match attribute {
        [name, equals, Token { kind: Kind::Text(path), .. }]
            if name.kind == Kind::Word("path") && equals.kind == Kind::Sign('=') =>
        {
            Some((*path).to_owned())
        }
        _ => None,
    }
}

/// Whether what the attribute stands before exists in tests alone: `test`, `tokio::test`, or a
/// `cfg` that cannot hold without `test`.
fn for_tests(attribute: &[Token<'_>]) -> bool {
    if is_word(attribute, "cfg") {
        return holds(attribute, &mut 2) == Some(false);
    }
    let path = attribute.iter().take_while(|t| matches!(t.kind, Kind::Word(_) | Kind::Separator));
    path.last().is_some_and(|token| token.kind == Kind::Word("test"))
}

/// Whether a predicate of `cfg` holds outside of tests; `None` if it depends on something else.
fn holds(tokens: &[Token<'_>], at: &mut usize) -> Option<bool> {
    let Some(Kind::Word(word)) = tokens.get(*at).map(|token| token.kind) else {
        *at += 1;
        return None;
    };
    *at += 1;
    let sign = |at: usize, sign| tokens.get(at).is_some_and(|t| t.kind == Kind::Sign(sign));
    if sign(*at, '=') {
        *at += 2;
        return None;
    }
    if !sign(*at, '(') {
        return (word == "test").then_some(false);
    }
    *at += 1;
    let mut parts = Vec::new();
    while *at < tokens.len() && !sign(*at, ')') {
        parts.push(holds(tokens, at));
        if sign(*at, ',') {
            *at += 1;
        }
    }
    *at += 1;
    match word {
        "not" => parts.first().copied().flatten().map(|held| !held),
        "all" if parts.contains(&Some(false)) => Some(false),
        "any" if parts.contains(&Some(true)) => Some(true),
        "all" | "any" if parts.contains(&None) => None,
        "all" => Some(true),
        "any" => Some(false),
        _ => None,
    }
}
