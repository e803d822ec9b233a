//! Functions that edit documents on nodes, wrapped so that they neither see nor lose what is Miroir's.
//!
//! A node runs the function (in the language Rhai) with the stored document as `doc`. The wrapper
//! takes the reserved fields out before and puts them back after, whatever the function made of
//! `doc`. They are kept in a variable whose name nobody can guess. A function that ends early
//! (`return`, `exit`) would skip the second half; it runs inside of `eval`, which such an end does not
//! leave. `eval` in turn takes no definitions of functions. A comment that is left open is closed, and
//! a function that defines what the wrapper itself calls is not wrapped.

use super::reserved::RESERVED;

/// Functions that the wrapper calls: the script's own would be called in their place.
const CALLED: [&str; 5] = ["eval", "keys", "mixin", "remove", "type_of"];

/// Whether the key in a variable is reserved.
fn is_reserved(key: &str) -> String {
    RESERVED.map(|name| format!("{key} == \"{name}\"")).join(" || ")
}

/// Takes the reserved fields out of `doc`.
fn before(kept: &str) -> String {
    let reserved = is_reserved(&format!("{kept}_key"));
    format!(
        "let {kept} = #{{}}; for {kept}_key in doc.keys() {{ if {reserved} \
         {{ {kept}[{kept}_key] = doc.remove({kept}_key); }} }}"
    )
}

/// Puts them back, unless the document was deleted or is no longer an object.
fn after(kept: &str) -> String {
    let reserved = is_reserved(&format!("{kept}_key"));
    format!(
        "if type_of(doc) == \"map\" {{ for {kept}_key in doc.keys() {{ \
         if {reserved} {{ doc.remove({kept}_key); }} }} doc.mixin({kept}); }}"
    )
}

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
    /// It defines a function that the wrapper calls.
    shadows: bool,
    /// Comments that are open at its end.
    open_comments: usize,
}

/// Why a function cannot be wrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unwrappable {
    /// It defines functions and may end early, which cannot be told apart safely.
    DefinesAndEnds,
    /// It defines a function by the name of one that the wrapper needs.
    Shadows,
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

/// Skips the text of a back-quoted string that goes on at `at`: the position after it, and whether it
/// stopped at code (`${`).
fn skip_text(text: &[u8], at: usize) -> (usize, bool) {
    let mut next = at;
    while next < text.len() {
        match text[next] {
            b'`' => return (next + 1, false),
            b'$' if text.get(next + 1) == Some(&b'{') => return (next + 2, true),
            _ => next += 1,
        }
    }
    (text.len(), false)
}

/// Skips a raw string (`#"…"#`) that begins at `at`, if one does.
fn skip_raw(text: &[u8], at: usize) -> Option<usize> {
    let marks = text[at..].iter().take_while(|byte| **byte == b'#').count();
    if text.get(at + marks) != Some(&b'"') {
        return None;
    }
    let end: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', marks)).collect();
    let begin = at + marks + 1;
    let found = memchr::memmem::find(&text[begin..], &end);
    Some(found.map_or(text.len(), |found| begin + found + end.len()))
}

/// Skips a comment that begins at `at`, if one does: the position after it, and how many are open
/// there. Comments nest.
fn skip_comment(text: &[u8], at: usize) -> Option<(usize, usize)> {
    if text[at..].starts_with(b"//") {
        let end = text[at..].iter().position(|byte| *byte == b'\n');
        return Some((end.map_or(text.len(), |end| at + end), 0));
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
                break;
            }
        } else {
            next += 1;
        }
    }
    Some((next, depth))
}

/// The name of the function whose definition goes on after `fn` at `at`: what stands before the
/// parenthesis, without a type (`fn map.keys()`).
fn defined(text: &[u8], at: usize) -> &[u8] {
    let rest = &text[at..];
    let head = &rest[..rest.iter().position(|byte| *byte == b'(').unwrap_or(rest.len())];
    let head = head.trim_ascii_end();
    let begin = head.iter().rposition(|byte| !is_word(*byte)).map_or(0, |at| at + 1);
    &head[begin..]
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn shape(function: &str) -> Shape {
    let text = function.as_bytes();
    let mut out = Shape::default();
    // Depth of braces, and from which depth on a body of a definition is open.
    let mut depth = 0_usize;
    let mut body: Option<usize> = None;
    let mut definition = false;
    // Depths of the braces that end code inside of back-quoted strings.
    let mut codes: Vec<usize> = Vec::new();
    let mut at = 0;
    while at < text.len() {
        if let Some((next, open)) = skip_comment(text, at) {
            (at, out.open_comments) = (next, open);
            continue;
        }
        let ends_code = text[at] == b'}' && codes.last() == Some(&depth);
        if ends_code {
            codes.pop();
            depth -= 1;
        }
        match text[at] {
            b'"' | b'\'' => {
                at = skip_quoted(text, at);
                continue;
            }
            b'#' => {
                at = skip_raw(text, at).unwrap_or(at + 1);
                continue;
            }
            byte if byte == b'`' || ends_code => {
                let (next, code) = skip_text(text, at + 1);
                if code {
                    depth += 1;
                    codes.push(depth);
                }
                at = next;
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
                let end = text[at..].iter().position(|b| !is_word(*b));
                let end = end.map_or(text.len(), |n| at + n);
                match &text[at..end] {
                    b"fn" => {
                        out.defines = true;
                        definition = true;
                        let name = defined(text, end);
                        out.shadows |= CALLED.iter().any(|called| called.as_bytes() == name);
                    }
                    // An end of a defined function is none of the whole.
                    b"return" => out.ends_early |= body.is_none(),
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

/// Wraps a client's function. `secret` makes the name of the variable that keeps reserved fields:
/// letters and digits that the client cannot know.
///
/// # Errors
/// When the function may not leave what it finds: see [`Unwrappable`].
pub fn wrap(function: &str, secret: &str) -> Result<Wrapped, Unwrappable> {
    let kept = format!("miroir_{secret}");
    let (before, after) = (before(&kept), after(&kept));
    let shape = shape(function);
    if shape.shadows {
        return Err(Unwrappable::Shadows);
    }
    match (shape.ends_early, shape.defines) {
        (false, _) => {
            let closed = "*/".repeat(shape.open_comments);
            let text = format!("{before}\n{function}{closed}\n;{after}");
            Ok(Wrapped { text, lines_before: 1 })
        }
        (true, false) => {
            let text = format!("{before} eval({}); {after}", quoted(function));
            Ok(Wrapped { text, lines_before: 0 })
        }
        (true, true) => Err(Unwrappable::DefinesAndEnds),
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
            let Shape { ends_early, defines, .. } = shape(text);
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
            ("doc.s = `it's ${if doc.x { return; } else { 1 }} return`", (true, false)),
            ("doc.s = `it's ${if doc.x { `{ ${1} return` } else { 1 }} return`", (false, false)),
            ("doc.s = `http://a`; return", (true, false)),
            ("doc.s = `a``b`; /* ` */ return", (true, false)),
            ("doc.s = ##\"a \"# return \\\"##; doc.t = #{a: 1}", (false, false)),
            ("", (false, false)),
            ("\"unclosed \\", (false, false)),
            ("/* open", (false, false)),
        ] {
            assert_eq!(seen(text), wanted, "{text}");
        }
    }

    #[test]
    fn wrapping_depends_on_the_shape() {
        let (before, after) = (before("miroir_s"), after("miroir_s"));
        let plain = wrap("doc.x = 1", "s").unwrap();
        assert_eq!(plain.text, format!("{before}\ndoc.x = 1\n;{after}"));
        assert_eq!(plain.lines_before, 1);
        let early = wrap("if doc.x == \"a\" { return; }", "s").unwrap();
        assert_eq!(quoted("a\u{8}\n"), "\"a\\x08\\n\"");
        let inner = "eval(\"if doc.x == \\\"a\\\" { return; }\");";
        assert!(early.text.contains(inner), "{}", early.text);
        assert_eq!(early.lines_before, 0);
        assert_eq!(wrap("fn f() { 1 } return f()", "s"), Err(Unwrappable::DefinesAndEnds));
    }

    #[test]
    fn what_is_left_open_does_not_swallow_the_wrapper() {
        for (text, closed) in [
            ("doc.x = 1 /*", "doc.x = 1 /**/\n;"),
            ("doc.x = `/*` /* /* ", "doc.x = `/*` /* /* */*/\n;"),
            ("doc.x = `${ 1 /* ", "doc.x = `${ 1 /* */\n;"),
            ("fn f() { 1 } doc.x = f() // /*", "fn f() { 1 } doc.x = f() // /*\n;"),
        ] {
            let wrapped = wrap(text, "s").unwrap().text;
            assert!(wrapped.contains(closed), "{wrapped}");
        }
    }

    #[test]
    fn what_the_wrapper_calls_is_not_defined_anew() {
        for text in [
            "fn keys() { [] } doc.x = 1",
            "private fn type_of (a) { false }",
            "fn map.remove(a) { this }",
            "fn \"a type\".mixin(a) { }",
        ] {
            assert_eq!(wrap(text, "s"), Err(Unwrappable::Shadows), "{text}");
        }
        assert!(wrap("fn my_keys() { [] } doc.x = my_keys()", "s").is_ok());
    }

    #[test]
    fn positions_are_those_of_the_client() {
        let said = "Function not found: f (line 2, position 3)";
        assert_eq!(own_lines(said, 1), "Function not found: f (line 1, position 3)");
        assert_eq!(own_lines("a line of text, line ", 1), "a line of text, line ");
    }
}
