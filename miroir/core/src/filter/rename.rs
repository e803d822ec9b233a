//! Attributes under other names.

use serde_json::Value;

use super::{Unread, parse};

/// A filter with other names for some attributes; literals stay as they are, whatever they say. `other`
/// gives the name that stands for one, without quotes, or none where it stays.
///
/// # Errors
/// [`Unread`]
pub fn renamed(text: &str, other: impl Fn(&str) -> Option<String>) -> Result<String, Unread> {
    let named = parse::Parser::new(text).attributes().ok_or(Unread)?;
    let mut out = text.to_owned();
    for place in named.into_iter().rev() {
        let quotes = usize::from(text[place.clone()].starts_with(['"', '\'']));
        let inner = place.start + quotes..place.end - quotes;
        if let Some(name) = other(&text[inner.clone()]) {
            out.replace_range(inner, &name);
        }
    }
    Ok(out)
}

/// Whether the value of a request's `filter` names an attribute of these.
///
/// # Errors
/// [`Unread`], also for what no `filter` may be.
pub fn names(json: &str, of_these: impl Fn(&str) -> bool) -> Result<bool, Unread> {
    fn any(value: &Value, of_these: &impl Fn(&str) -> bool) -> Result<bool, Unread> {
        match value {
            Value::String(text) if text.trim().is_empty() => Ok(false),
            Value::String(text) => {
                let named = parse::Parser::new(text).attributes().ok_or(Unread)?;
                let bare = |text: &str| of_these(text.trim_matches(['"', '\'']));
                Ok(named.into_iter().any(|place| bare(&text[place])))
            }
            Value::Array(members) => {
                members.iter().try_fold(false, |found, member| Ok(found | any(member, of_these)?))
            }
            Value::Null => Ok(false),
            _ => Err(Unread),
        }
    }
    any(&serde_json::from_str(json).map_err(|_| Unread)?, &of_these)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_get_other_names_and_literals_keep_theirs() {
        let other = |text: &str| renamed(text, |name| (name == "a").then(|| "long".to_owned()));
        for (text, wanted) in [
            ("a = a", "long = a"),
            ("\"a\" = 'a' AND NOT 'a'EXISTS", "\"long\" = 'a' AND NOT 'long'EXISTS"),
            ("b = 1 OR (a IN [a, b, \"a\"])", "b = 1 OR (long IN [a, b, \"a\"])"),
            ("a 1 TO 2 AND a IS NOT NULL", "long 1 TO 2 AND long IS NOT NULL"),
            ("_foreign(x, a = 1) AND a NOT EXISTS", "_foreign(x, long = 1) AND long NOT EXISTS"),
            ("a.b = 1 AND b = a AND aa = 1", "a.b = 1 AND b = a AND aa = 1"),
            ("é = 1 AND a = é", "é = 1 AND long = é"),
            ("_geoRadius(1,2,3) AND a = 1", "_geoRadius(1,2,3) AND long = 1"),
        ] {
            assert_eq!(other(text).as_deref(), Ok(wanted));
        }
        assert_eq!(other("a ="), Err(Unread));
    }

    #[test]
    fn what_is_named_is_found_wherever_it_is_an_attribute() {
        let found = |json: &str| names(json, |name| name == "a");
        for (json, wanted) in [
            (r#""a = 1""#, Ok(true)),
            (r#"["b = a", ["b = 1", "'a' EXISTS"]]"#, Ok(true)),
            (r#"["b = a", ["b = 1", "b IN [a]"]]"#, Ok(false)),
            (r#""_foreign(x, a = 1)""#, Ok(true)),
            ("null", Ok(false)),
            (r#"" ""#, Ok(false)),
            (r#""a =""#, Err(Unread)),
            ("5", Err(Unread)),
        ] {
            assert_eq!(found(json), wanted, "{json}");
        }
    }
}
