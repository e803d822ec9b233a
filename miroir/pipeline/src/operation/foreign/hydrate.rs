//! Documents in place of the ids that name them.
//!
//! Values stay as they were written; only what holds an id of a foreign key is written anew.

use std::collections::{BTreeSet, HashMap};

use indexmap::IndexMap;
use serde_json::value::{RawValue, to_raw_value};

use miroir_core::documents::parse_id_value;

/// Longest id, in bytes.
const LONGEST: usize = 511;

/// The document id a value stands for, if it can be one.
pub(super) fn id_of(value: &RawValue) -> Option<String> {
    let text = value.get();
    if !text.starts_with(['"', '-']) && !text.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let id = parse_id_value(value).ok()?;
    let id = id.as_str().trim();
    let number = !text.starts_with('"');
    let fine = if number {
        id.parse::<u64>().is_ok() || id.parse::<i64>().is_ok()
    } else {
        !id.is_empty()
            && id.len() <= LONGEST
            && id.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
    };
    fine.then(|| id.to_owned())
}

/// Whether a path leads to what a selector names, or the other way round.
fn leads(longer: &str, shorter: &str) -> bool {
    longer.strip_prefix(shorter).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

type Change<'a> = &'a mut dyn FnMut(&RawValue) -> Option<Box<RawValue>>;

/// Visits the values of a document at a field and below. `change` is told whether a value is the
/// field's own, or an element of its list, and returns what to put in its place. `None`: nothing
/// was changed.
fn object(
    raw: &RawValue,
    base: &str,
    field: &str,
    own: bool,
    change: Change<'_>,
) -> Option<Box<RawValue>> {
    let mut members: IndexMap<String, Box<RawValue>> = serde_json::from_str(raw.get()).ok()?;
    let mut changed = false;
    for (key, member) in &mut members {
        let path = if base.is_empty() { key.clone() } else { format!("{base}.{key}") };
        let leads = leads(field, &path) || (!own && leads(&path, field));
        if leads && let Some(new) = value(member, &path, field, own, change) {
            (*member, changed) = (new, true);
        }
    }
    changed.then(|| to_raw_value(&members).ok()).flatten()
}

/// As [`object`], for any value. With `own`, values below the field are left out.
fn value(
    raw: &RawValue,
    path: &str,
    field: &str,
    own: bool,
    change: Change<'_>,
) -> Option<Box<RawValue>> {
    let end = own && path == field;
    match raw.get().as_bytes().first()? {
        b'{' if end => None,
        b'{' => object(raw, path, field, own, change),
        b'[' => {
            let mut items: Vec<Box<RawValue>> = serde_json::from_str(raw.get()).ok()?;
            let mut changed = false;
            for item in &mut items {
                if end && item.get().starts_with(['[', '{']) {
                    continue;
                }
                if let Some(new) = value(item, path, field, own, change) {
                    (*item, changed) = (new, true);
                }
            }
            changed.then(|| to_raw_value(&items).ok()).flatten()
        }
        // A value on the way to the field is not the field's.
        _ if own && path != field => None,
        _ => change(raw),
    }
}

/// The ids a document holds as a field's value, or as elements of its list.
pub(super) fn collect(document: &RawValue, field: &str, ids: &mut BTreeSet<String>) {
    object(document, "", field, true, &mut |value| {
        ids.extend(id_of(value));
        None
    });
}

/// A document with others in place of their ids, wherever they stand at the field or below. Ids
/// that are not `known` stay. As one node: it looks documents up by the ids that [`collect`] finds,
/// over all hits, and puts them in wherever one of these ids is.
pub(super) fn hydrate(
    document: &RawValue,
    field: &str,
    known: &HashMap<String, Box<RawValue>>,
) -> Option<Box<RawValue>> {
    object(document, "", field, false, &mut |value| known.get(&id_of(value)?).cloned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    fn ids(document: &str, field: &str) -> Vec<String> {
        let mut out = BTreeSet::new();
        collect(&raw(document), field, &mut out);
        out.into_iter().collect()
    }

    #[test]
    fn ids_are_the_fields_own_values() {
        let document =
            r#"{"a":"x","b":{"c":["y",3,4.5,null,{"d":"z"},["q"]]},"b.c":"w","ab":"no"}"#;
        for (field, expected) in [
            ("a", vec!["x"]),
            ("b.c", vec!["3", "w", "y"]),
            ("b", vec![]),
            ("b.c.d", vec!["z"]),
            ("q", vec![]),
        ] {
            assert_eq!(ids(document, field), expected, "{field}");
        }
    }

    #[test]
    fn what_cannot_be_an_id_is_none() {
        for (text, id) in [
            ("\"a-1_B\"", Some("a-1_B")),
            ("\" a \"", Some("a")),
            ("18446744073709551615", Some("18446744073709551615")),
            ("-3", Some("-3")),
            ("1.0", None),
            ("18446744073709551616", None),
            ("\"<em>a</em>\"", None),
            ("\"\"", None),
            ("true", None),
            ("null", None),
        ] {
            assert_eq!(id_of(&raw(text)).as_deref(), id, "{text}");
        }
        assert_eq!(id_of(&raw(&format!("\"{}\"", "a".repeat(512)))), None);
    }

    #[test]
    fn everything_else_stays_as_it_was_written() {
        let known = HashMap::from([("1".to_owned(), raw("{\"n\": 1.00}"))]);
        let document = raw(r#"{"z": 1e3, "a": [1, "1", 2, {"k":1}], "b": {"x":  null}}"#);
        assert_eq!(
            hydrate(&document, "a", &known).unwrap().get(),
            r#"{"z":1e3,"a":[{"n": 1.00},{"n": 1.00},2,{"k":{"n": 1.00}}],"b":{"x":  null}}"#
        );
        assert!(hydrate(&document, "b", &known).is_none());
    }
}
