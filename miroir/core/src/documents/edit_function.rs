//! Functions that edit documents on nodes, wrapped so that they neither see nor lose what is Miroir's.
//!
//! A node runs the function (in the language Rhai) with the stored document as `doc`. The wrapper
//! takes the reserved fields out before and puts them back after, whatever the function made of
//! `doc`. A function that ends early (`return`, `exit`) would skip the second half; it runs inside of
//! `eval`, which such an end does not leave. `eval` in turn takes no definitions of functions.

/// Takes the reserved fields out of `doc`.
const BEFORE: &str = "let miroir_kept = #{}; for miroir_key in doc.keys() { \
     if miroir_key.starts_with(\"_miroir_\") { miroir_kept[miroir_key] = doc.remove(miroir_key); } }";

/// Puts them back, unless the document was deleted or is no longer an object.
const AFTER: &str = "if type_of(doc) == \"map\" { for miroir_key in doc.keys() { \
     if miroir_key.starts_with(\"_miroir_\") { doc.remove(miroir_key); } } doc.mixin(miroir_kept); }";

/// A function as nodes get it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrapped {
    /// Source of the function, with Miroir's own lines around the client's.
    pub text: String,
    /// Lines before the client's own first line, for the positions in error texts.
    pub lines_before: usize,
}

/// What matters of a function's text.
#[derive(Debug, Default, PartialEq, Eq)]
struct Shape {
    /// It may end before its last statement.
    ends_early: bool,
    /// It may define functions or closures.
    defines: bool,
}

/// Skips a string or a character that begins at `at`; answers the position after it.
fn skip_quoted(text: &[u8], at: usize) -> usize {
    let quote = text[at];
    let mut next = at + 1;
    while next < text.len() {
        match text[next] {
            b'\\' => next += 2,
            byte if byte == quote => return next + 1,
            _ => next += 1,
        }
    }
    text.len()
}

/// Skips a comment that begins at `at`, if one does. Comments nest.
fn skip_comment(text: &[u8], at: usize) -> Option<usize> {
    if text[at..].starts_with(b"//") {
        let end = text[at..].iter().position(|byte| *byte == b'\n');
        return Some(end.map_or(text.len(), |end| at + end));
    }
    if !text[at..].starts_with(b"/*") {
        return None;
    }
    let mut depth = 0_usize;
    let mut next = at;
    while next < text.len() {
        if text[next..].starts_with(b"/*") {
            depth += 1;
            next += 2;
        } else if text[next..].starts_with(b"*/") {
            depth -= 1;
            next += 2;
            if depth == 0 {
                return Some(next);
            }
        } else {
            next += 1;
        }
    }
    Some(text.len())
}

fn shape(function: &str) -> Shape {
    let text = function.as_bytes();
    let mut out = Shape::default();
    // Back-quoted strings hold text and code: then everything counts as code, to be safe.
    let mixed = text.contains(&b'`');
    // Depth of braces, and from which depth on a body of a definition is open.
    let mut depth = 0_usize;
    let mut body: Option<usize> = None;
    let mut definition = false;
    let mut at = 0;
    while at < text.len() {
        if let Some(next) = skip_comment(text, at).filter(|_| !mixed) {
            at = next;
            continue;
        }
        match text[at] {
            b'"' | b'\'' if !mixed => {
                at = skip_quoted(text, at);
                continue;
            }
            b'{' => {
                depth += 1;
                if std::mem::take(&mut definition) && body.is_none() {
                    body = Some(depth);
                }
            }
            b'}' => {
                if body == Some(depth) {
                    body = None;
                }
                depth = depth.saturating_sub(1);
            }
            b'|' => out.defines = true,
            byte if byte.is_ascii_alphabetic() || byte == b'_' => {
                let word = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
                let end = text[at..].iter().position(|b| !word(b)).map_or(text.len(), |n| at + n);
                match &text[at..end] {
                    b"fn" => {
                        out.defines = true;
                        definition = true;
                    }
                    // An end of a defined function is none of the whole.
                    b"return" => out.ends_early |= mixed || body.is_none(),
                    b"exit" => out.ends_early = true,
                    _ => {}
                }
                at = end;
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    out
}

/// Wraps a client's function. `None`: it defines functions and may end early, which cannot be told
/// apart safely.
pub fn wrap(function: &str) -> Option<Wrapped> {
    match shape(function) {
        Shape { ends_early: false, .. } => {
            Some(Wrapped { text: format!("{BEFORE}\n{function}\n;{AFTER}"), lines_before: 1 })
        }
        Shape { ends_early: true, defines: false } => {
            let text = format!("{BEFORE} eval({}); {AFTER}", quoted(function));
            Some(Wrapped { text, lines_before: 0 })
        }
        Shape { ends_early: true, defines: true } => None,
    }
}

/// A text as a literal of Rhai.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if u32::from(c) < 0x20 => out.extend(format!("\\x{:02x}", u32::from(c)).chars()),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Shifts the positions `(line N, …)` of an error text to the client's own lines.
pub fn own_lines(message: &str, lines_before: usize) -> String {
    let mut out = String::with_capacity(message.len());
    let mut rest = message;
    while let Some(at) = rest.find("line ") {
        let (head, tail) = rest.split_at(at + "line ".len());
        out.push_str(head);
        let digits = tail.bytes().take_while(u8::is_ascii_digit).count();
        match tail[..digits].parse::<usize>() {
            Ok(line) => out.push_str(&line.saturating_sub(lines_before).max(1).to_string()),
            Err(_) => out.push_str(&tail[..digits]),
        }
        rest = &tail[digits..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn early_ends_and_definitions_are_seen() {
        let seen = |text| {
            let Shape { ends_early, defines } = shape(text);
            (ends_early, defines)
        };
        for (text, wanted) in [
            ("doc.x = 1", (false, false)),
            ("if doc.x == 1 { return; } doc.y = 2", (true, false)),
            (
                "doc.text = \"return\"; // return\n/* a /* return */ exit */ doc.y = 'r'",
                (false, false),
            ),
            ("fn f(x) { if x { return 1; } 2 } doc.x = f(doc.y)", (false, true)),
            ("fn f(x) { exit() } f(1)", (true, true)),
            ("fn f() { 1 } if true { return } f()", (true, true)),
            ("doc.returned = 1; doc.exits = 2", (false, false)),
            ("let f = |x| x + 1; doc.x = f.call(1)", (false, true)),
            ("doc.s = `it's ${if doc.x { return; } else { 1 }}`", (true, false)),
            ("doc.s = `http://a`; return", (true, false)),
            ("", (false, false)),
            ("\"unclosed \\", (false, false)),
            ("/* open", (false, false)),
        ] {
            assert_eq!(seen(text), wanted, "{text}");
        }
    }

    #[test]
    fn wrapping_depends_on_the_shape() {
        let plain = wrap("doc.x = 1").unwrap();
        assert_eq!(plain.text, format!("{BEFORE}\ndoc.x = 1\n;{AFTER}"));
        assert_eq!(plain.lines_before, 1);
        let early = wrap("if doc.x == \"a\" { return; }").unwrap();
        assert_eq!(quoted("a\u{8}\n"), "\"a\\x08\\n\"");
        let inner = "eval(\"if doc.x == \\\"a\\\" { return; }\");";
        assert!(early.text.contains(inner), "{}", early.text);
        assert_eq!(early.lines_before, 0);
        assert_eq!(wrap("fn f() { 1 } return f()"), None);
    }

    #[test]
    fn positions_are_those_of_the_client() {
        let said = "Function not found: f (line 2, position 3)";
        assert_eq!(own_lines(said, 1), "Function not found: f (line 1, position 3)");
        assert_eq!(own_lines("a line of text, line ", 1), "a line of text, line ");
    }
}
