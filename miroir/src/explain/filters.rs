//! Which attributes a filter names.

use serde_json::Value;

/// The attributes a `filter` parameter names, in order, each once. What cannot be read has none: a
/// node says what is wrong with it.
pub fn attributes(filter: &Value) -> Vec<String> {
    let mut out = Vec::new();
    collect(filter, &mut out);
    out
}

fn collect(filter: &Value, out: &mut Vec<String>) {
    match filter {
        Value::String(text) => scan(text, out),
        Value::Array(list) => list.iter().for_each(|one| collect(one, out)),
        _ => {}
    }
}

/// One word of an expression.
enum Token<'a> {
    Word(&'a str),
    Quoted(String),
    Open,
    Close,
    Other,
}

/// The next token and what follows it.
fn next(text: &str) -> Option<(Token<'_>, &str)> {
    let text = text.trim_start();
    let first = text.chars().next()?;
    let rest = &text[first.len_utf8()..];
    Some(match first {
        '(' | '[' => (Token::Open, rest),
        ')' | ']' => (Token::Close, rest),
        '\'' | '"' => {
            let mut word = String::new();
            let mut chars = rest.char_indices();
            while let Some((at, c)) = chars.next() {
                if c == first {
                    return Some((Token::Quoted(word), &rest[at + c.len_utf8()..]));
                }
                match c {
                    '\\' => word.extend(chars.next().map(|(_, c)| c)),
                    _ => word.push(c),
                }
            }
            (Token::Quoted(word), "")
        }
        '=' | '!' | '<' | '>' | ',' => (Token::Other, rest),
        _ => {
            let end = |c: char| c.is_whitespace() || "()[]'\"=!<>,".contains(c);
            let at = text.find(end).unwrap_or(text.len());
            (Token::Word(&text[..at]), &text[at..])
        }
    })
}

/// An attribute begins a condition: at the start, after `(`, `AND`, `OR` and `NOT`.
fn scan(mut text: &str, out: &mut Vec<String>) {
    let mut begins = true;
    // Open lists and arguments, which hold values.
    let mut inside = 0_usize;
    while let Some((token, rest)) = next(text) {
        text = rest;
        match token {
            Token::Open if !begins || inside > 0 => inside += 1,
            Token::Close => inside = inside.saturating_sub(1),
            _ if inside > 0 => {}
            Token::Word("AND" | "OR") => begins = true,
            Token::Word("NOT") | Token::Open | Token::Other => {}
            Token::Word(word) if begins => {
                begins = false;
                // A function, not an attribute; the geo ones need `_geo`.
                let name = match word {
                    "_geoRadius" | "_geoBoundingBox" => "_geo",
                    "_geoPolygon" | "_foreign" => continue,
                    name => name,
                };
                add(name, out);
            }
            Token::Quoted(name) if begins => {
                begins = false;
                add(&name, out);
            }
            Token::Word(_) | Token::Quoted(_) => {}
        }
    }
}

fn add(name: &str, out: &mut Vec<String>) {
    if !out.iter().any(|known| known == name) {
        out.push(name.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn conditions_begin_with_attributes() {
        for (filter, expected) in [
            (json!("a = 1"), vec!["a"]),
            (json!("a = b AND c != 'd AND e'"), vec!["a", "c"]),
            (json!("(a>1 OR NOT b EXISTS) AND c IN [x, y, 'AND'] AND a < 5"), vec!["a", "b", "c"]),
            (json!("a 1 TO 5 AND b IS NOT NULL OR c NOT IN [1]"), vec!["a", "b", "c"]),
            (json!("\"odd name\" = \"it\\\"s\" AND d.e CONTAINS x"), vec!["odd name", "d.e"]),
            (json!("_geoRadius(1, 2, 3) AND a = 1"), vec!["_geo", "a"]),
            (json!("_foreign(maker, name = 'x') AND a = 1"), vec!["a"]),
            (json!(["a = 1", ["b = 2", "c STARTS WITH y"]]), vec!["a", "b", "c"]),
            (json!(null), vec![]),
            (json!("  "), vec![]),
        ] {
            assert_eq!(attributes(&filter), expected, "{filter}");
        }
    }

    proptest! {
        #[test]
        fn anything_can_be_scanned(text in "\\PC*", words in "[a-cAND OR()'\"\\[\\]=,\\\\]{0,40}") {
            attributes(&json!([text, words]));
        }
    }
}
