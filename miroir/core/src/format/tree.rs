//! JSON whose scalars stay as they were written: a number that is read and written again may not.

use indexmap::IndexMap;
use serde_json::value::RawValue;

/// A JSON value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Tree<'a> {
    Object(Vec<(String, Tree<'a>)>),
    Array(Vec<Tree<'a>>),
    Text(String),
    Number(&'a str),
    /// `null`, `true` or `false`.
    Other(&'a str),
}

/// An object whose members stay raw.
pub(super) type Members<'a> = IndexMap<String, &'a RawValue>;

impl<'a> Tree<'a> {
    /// Reads a value. `None` if it is no JSON.
    pub(super) fn read(raw: &'a RawValue) -> Option<Self> {
        let text = raw.get();
        Some(match text.as_bytes().first()? {
            b'{' => {
                let members: Members<'a> = serde_json::from_str(text).ok()?;
                let read = |(name, raw)| Some((name, Self::read(raw)?));
                Self::Object(members.into_iter().map(read).collect::<Option<_>>()?)
            }
            b'[' => {
                let items: Vec<&'a RawValue> = serde_json::from_str(text).ok()?;
                Self::Array(items.into_iter().map(Self::read).collect::<Option<_>>()?)
            }
            b'"' => Self::Text(serde_json::from_str(text).ok()?),
            b'-' | b'0'..=b'9' => Self::Number(text),
            _ => Self::Other(text),
        })
    }

    /// Writes the value.
    pub(super) fn write(&self, out: &mut String) {
        match self {
            Self::Object(members) => {
                out.push('{');
                for (index, (name, value)) in members.iter().enumerate() {
                    separate(out, index);
                    string(out, name);
                    out.push(':');
                    value.write(out);
                }
                out.push('}');
            }
            Self::Array(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    separate(out, index);
                    item.write(out);
                }
                out.push(']');
            }
            Self::Text(text) => string(out, text),
            Self::Number(text) | Self::Other(text) => out.push_str(text),
        }
    }

    pub(super) fn member(&mut self, name: &str) -> Option<&mut Self> {
        let Self::Object(members) = self else { return None };
        members.iter_mut().find(|(own, _)| own == name).map(|(_, value)| value)
    }

    /// Keeps what `names` select, as nodes do: names of members, with those of members below them
    /// after dots.
    pub(super) fn select(self, names: &[&str]) -> Self {
        let Self::Object(members) = self else { return self };
        let keep = |(name, value): (String, Self)| {
            if names.contains(&name.as_str()) && !name.contains('.') {
                return Some((name, value));
            }
            let below: Vec<&str> = names
                .iter()
                .filter_map(|n| n.strip_prefix(name.as_str())?.strip_prefix('.'))
                .collect();
            if below.is_empty() {
                return names.contains(&name.as_str()).then_some((name, value));
            }
            match value {
                Self::Object(_) => Some((name, value.select(&below))),
                Self::Array(items) => Some((name, Self::Array(select_items(items, &below)))),
                _ => None,
            }
        };
        Self::Object(members.into_iter().filter_map(keep).collect())
    }
}

fn select_items<'a>(items: Vec<Tree<'a>>, names: &[&str]) -> Vec<Tree<'a>> {
    let keep = |item| match item {
        Tree::Array(items) => Some(Tree::Array(select_items(items, names))),
        Tree::Object(_) => {
            let kept = item.select(names);
            (kept != Tree::Object(Vec::new())).then_some(kept)
        }
        _ => None,
    };
    items.into_iter().filter_map(keep).collect()
}

/// Puts a comma before all but the first.
pub(super) fn separate(out: &mut String, index: usize) {
    if index > 0 {
        out.push(',');
    }
}

/// Writes a JSON string.
fn string(out: &mut String, text: &str) {
    out.push_str(&serde_json::Value::from(text).to_string());
}

/// Writes an object of raw values.
pub(super) fn object<'n, V: AsRef<str>>(members: impl Iterator<Item = (&'n String, V)>) -> String {
    let mut out = String::from("{");
    for (index, (name, raw)) in members.enumerate() {
        separate(&mut out, index);
        string(&mut out, name);
        out.push(':');
        out.push_str(raw.as_ref());
    }
    out.push('}');
    out
}
