//! Keeping Miroir's own names out of what nodes say, and clients' hands off them.

use std::sync::LazyLock;

use bytes::Bytes;

use crate::error::{Error, ErrorKind};
use crate::node::Call;
use crate::query::{encode, query_pairs};
use miroir_api::IndexUid;
pub use miroir_core::documents::names_reserved;
use miroir_core::{documents, filter};
use miroir_store::IndexEntry;
use serde_json::Value;
use uuid::Uuid;

/// In an index's overlay: how many filterable rules of Miroir's stand before the client's on nodes.
pub const OWN_RULES: &str = "ownRules";

/// What stands for `_miroir_` where a request names a reserved attribute: as long, and unknown to
/// every index, so that a node answers as if the attribute did not exist.
const STAND_IN: &str = "_mir0ir_";

/// Whether a node refused a filter on shards: it has made the index, but not prepared it yet. What
/// a client names reaches nodes under another name.
pub fn is_unprepared(error: &Error) -> bool {
    let ErrorKind::Verbatim { body, .. } = error.kind() else { return false };
    memchr::memmem::find(body, b"`_miroir_shard` is not filterable").is_some()
}

/// The name that stands for a reserved attribute, or for one that looks into it, perhaps with what follows
/// a name in a `sort`. `None` for others, a client's own `a._miroir_shard` among them.
pub fn stand_in(name: &str) -> Option<String> {
    is_within_reserved(name).then(|| name.replacen(documents::PREFIX, STAND_IN, 1))
}

/// Whether an attribute is reserved, or looks into one that is.
pub(crate) fn is_within_reserved(name: &str) -> bool {
    documents::is_reserved(name.split(['.', ':']).next().unwrap_or_default())
}

/// Whether the value of `filter` names a reserved attribute; where it cannot be read, whether it might.
pub fn filters_by_reserved(json: &str) -> bool {
    filter::names(json, is_within_reserved).unwrap_or_else(|_| names_reserved(json))
}

/// Whether a text, or one of a list of them, is the name of a reserved attribute.
pub fn lists_reserved(json: &str) -> bool {
    match serde_json::from_str(json) {
        Ok(Value::String(name)) => is_within_reserved(&name),
        Ok(Value::Array(names)) => names.iter().filter_map(Value::as_str).any(is_within_reserved),
        _ => false,
    }
}

/// What is said to clients, with reserved names in place of what stands for them.
pub fn shown(text: &Bytes) -> Bytes {
    let places: Vec<usize> = memchr::memmem::find_iter(text, STAND_IN).collect();
    if places.is_empty() {
        return text.clone();
    }
    let mut out = text.to_vec();
    for at in places {
        out[at..at + STAND_IN.len()].copy_from_slice(documents::PREFIX.as_bytes());
    }
    out.into()
}

/// As [`shown`], of a text.
#[must_use]
pub fn shown_text(text: String) -> String {
    if text.contains(STAND_IN) { text.replace(STAND_IN, documents::PREFIX) } else { text }
}

/// As [`shown`], of JSON that was read.
#[must_use]
pub fn shown_value(value: Value) -> Value {
    let text = value.to_string();
    if !text.contains(STAND_IN) {
        return value;
    }
    serde_json::from_str(&text.replace(STAND_IN, documents::PREFIX)).unwrap_or(value)
}

/// A text with its reserved names replaced.
pub fn hidden(text: &str) -> String {
    let mut out = text.to_owned();
    let places: Vec<usize> = documents::named(text).collect();
    for at in places {
        out.replace_range(at..at + STAND_IN.len(), STAND_IN);
    }
    out
}

/// A path whose query names a reserved attribute, with the stand-in for it: however the name is spelt,
/// in the encoding of the query or, in a value that is JSON, in that of JSON. `None`: it names none.
fn hidden_query(path: &str) -> Option<String> {
    let (path, query) = path.split_once('?')?;
    let read = |value: String| match serde_json::from_str::<Value>(&value) {
        Ok(json) if json.is_array() || json.is_string() => json.to_string(),
        _ => value,
    };
    let mut any = false;
    let pairs: Vec<String> = query_pairs(query)
        .into_iter()
        .map(|(name, value)| {
            let value = read(value);
            any |= names_reserved(&value);
            format!("{}={}", encode(&name), encode(&hidden(&value)))
        })
        .collect();
    any.then(|| format!("{path}?{}", pairs.join("&")))
}

/// Replaces reserved names in a request. Returns whether there were any.
pub fn hide(call: &mut Call) -> bool {
    let mut path_hit = false;
    if let Some(hidden) = hidden_query(&call.path) {
        (call.path, path_hit) = (hidden, true);
    }
    if names_reserved(&call.path) {
        (call.path, path_hit) = (hidden(&call.path), true);
    }
    let mut body_hit = false;
    if memchr::memmem::find(&call.body, documents::PREFIX.as_bytes()).is_some() {
        let text = String::from_utf8_lossy(&call.body);
        if names_reserved(&text) {
            (call.body, body_hit) = (Bytes::from(hidden(&text)), true);
        }
    }
    path_hit || body_hit
}

/// Where a sentence "Available …: `_miroir_shard`." begins and ends.
fn lonely(text: &str) -> Option<(usize, usize)> {
    let name = text.find("`_miroir_shard`.").map(|at| (at, at + "`_miroir_shard`.".len()));
    let bare = || text.find(" _miroir_shard.").map(|at| (at, at + " _miroir_shard.".len()));
    let (at, end) = name.or_else(bare)?;
    Some((text[..at].rfind("Available ")?, end))
}

/// Rewrites a node's error text: reserved attributes vanish from lists, physical names become the
/// client's, and stand-ins become what the client wrote.
pub fn message(text: &str, index: &IndexEntry) -> String {
    let mut out = text.to_owned();
    if out.contains("_miroir_shard") {
        for (from, to) in [
            ("`_miroir_shard`, ", ""),
            (", `_miroir_shard`", ""),
            ("_miroir_shard, ", ""),
            (", _miroir_shard", ""),
        ] {
            out = out.replace(from, to);
        }
        // It was the only one: say what a node without any would say.
        while let Some((from, to)) = lonely(&out) {
            let what = if out[from..to].contains("facet-searchable") {
                "facet-searchable"
            } else {
                "filterable"
            };
            let none = format!("This index does not have configured {what} attributes.");
            out.replace_range(from..to, &none);
        }
    }
    if let Some(own) = index.overlay.get(OWN_RULES).and_then(Value::as_u64) {
        out = renumbered(&out, own);
    }
    if index.physical != index.name.as_str() {
        out = out.replace(&format!("`{}`", index.physical), &format!("`{}`", index.name));
    }
    shown_text(out)
}

/// A text whose numbers of filterable rules are the client's: without those of Miroir before them.
fn renumbered(text: &str, own: u64) -> String {
    let mut parts = text.split("rule #");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.bytes().take_while(u8::is_ascii_digit).count();
        out.push_str("rule #");
        match part[..digits].parse::<u64>() {
            Ok(number) => out.push_str(&number.saturating_sub(own).to_string()),
            Err(_) => out.push_str(&part[..digits]),
        }
        out.push_str(&part[digits..]);
    }
    out
}

/// Whether an error of this code lists attributes, and of these only such as are displayed. Nodes display
/// all of them to Miroir.
fn lists_displayed_only(code: &Value) -> bool {
    let codes = [
        "invalid_search_sort",
        "invalid_search_distinct",
        "invalid_search_attributes_to_search_on",
        "invalid_facet_search_facet_name",
    ];
    codes.iter().any(|known| code == known)
}

/// A text with a list of attributes, less those that are not displayed, as a node tells that there are
/// more.
fn without_undisplayed(text: &str, displayed: &[Value]) -> String {
    const BEGINS: &str = "are: `";
    let Some(at) = text.find("Available ") else { return text.to_owned() };
    let Some(from) = text[at..].find(BEGINS).map(|found| at + found + BEGINS.len()) else {
        return text.to_owned();
    };
    let Some(end) = text[from..].find("`.").map(|found| from + found) else {
        return text.to_owned();
    };
    let listed: Vec<&str> = text[from..end].split(", ").collect();
    let displayed: Vec<String> = displayed
        .iter()
        .filter_map(Value::as_str)
        .map(|name| shown_text(name.to_owned()))
        .collect();
    let is_displayed = |name: &&&str| displayed.iter().any(|known| known == **name);
    let shown: Vec<&str> = listed.iter().filter(is_displayed).copied().collect();
    if shown.len() == listed.len() {
        return text.to_owned();
    }
    let kind = text[at + "Available ".len()..].split(" attributes").next().unwrap_or_default();
    let (before, after) = (&text[..at], &text[end + "`.".len()..]);
    if shown.is_empty() && kind != "searchable" {
        return format!("{before}This index does not have configured {kind} attributes.{after}");
    }
    let list = shown.join(", ");
    format!("{}{list}, <..hidden-attributes>`.{after}", &text[..from])
}

/// Rewrites the text of an error body. Other JSON passes.
pub fn body(raw: &Bytes, index: &IndexEntry) -> Bytes {
    let Ok(mut value) = serde_json::from_slice::<Value>(raw) else {
        return raw.clone();
    };
    let Some(text) = value.get("message").and_then(|m| m.as_str()) else { return raw.clone() };
    let mut new = message(text, index);
    let displayed = index.overlay.get("displayedAttributes").and_then(Value::as_array);
    if let Some(displayed) = displayed.filter(|list| !list.iter().any(|name| name == "*"))
        && value.get("code").is_some_and(lists_displayed_only)
    {
        new = without_undisplayed(&new, displayed);
    }
    if new == text {
        return raw.clone();
    }
    value["message"] = new.into();
    serde_json::to_vec(&value).map_or_else(|_| raw.clone(), Bytes::from)
}

/// Rewrites an error that is a node's own answer. Others pass.
pub fn scrub(error: Error, index: &IndexEntry) -> Error {
    match error.kind() {
        ErrorKind::Verbatim { status, body: raw } => Error::verbatim(*status, body(raw, index)),
        _ => error,
    }
}

/// What nodes are asked about where a request is to have no effect.
static NOWHERE: LazyLock<String> =
    LazyLock::new(|| format!("/indexes/miroir-{}", Uuid::new_v4().simple()));

/// The path of an index that never exists, on which nodes judge requests without effect. Nobody can
/// guess its name, which every process has another of: no client has an index there.
pub fn nowhere() -> &'static str {
    &NOWHERE
}

/// Stands for an index where there is none: changes no names but that of [`nowhere`].
pub fn placeholder() -> IndexEntry {
    let name = IndexUid::new("miroir-nowhere").expect("a valid constant");
    let physical = nowhere().trim_start_matches("/indexes/").to_owned();
    IndexEntry::new(name, physical, 1, time::OffsetDateTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_have_the_clients_numbers() {
        let mut index = placeholder();
        let text = "field `a` matched rule #2\n - Hint: enable it in rule #13 by rule # x";
        assert_eq!(message(text, &index), text);
        index.overlay.insert(OWN_RULES.to_owned(), 2.into());
        assert_eq!(message(text, &index), text.replace("#2", "#0").replace("#13", "#11"));
    }

    #[test]
    fn an_unprepared_index_is_told_from_a_clients_mistake() {
        let said = |attribute: &str| {
            let text = format!("{{\"message\":\"Attribute `{attribute}` is not filterable.\"}}");
            Error::verbatim(http::StatusCode::BAD_REQUEST, Bytes::from(text))
        };
        assert!(is_unprepared(&said("_miroir_shard")));
        assert!(!is_unprepared(&said("_mir0ir_shard")) && !is_unprepared(&said("a")));
    }

    #[test]
    fn reserved_names_are_found_in_queries_however_they_are_spelt() {
        for (query, hides) in [
            ("filter=_miroir_shard%20EXISTS", true),
            ("filter=%5fmiroir%5Fshard%20EXISTS&q=a", true),
            ("q=a&filter=%5B%22_miroir%5Cu005fshard%20EXISTS%22%5D", true),
            ("filter=%22%5cu005fmiroir_shard%20=%201%22", true),
            ("q=%5B1,2&filter=a%20=%201", false),
        ] {
            let path = format!("/indexes/a/search?{query}");
            let mut call = Call::get("search", path.clone());
            assert_eq!(hide(&mut call), hides, "{query}");
            assert_eq!(call.path == path, !hides, "{}", call.path);
            assert!(!hides || call.path.contains("_mir0ir_"), "{}", call.path);
        }
    }

    #[test]
    fn reserved_attributes_vanish_from_texts() {
        let index = placeholder();
        for (said, wanted) in [
            (
                "Attribute `a` is not filterable. Available filterable attribute patterns are: \
                 `_miroir_shard`.\n2:3 \"a\" = \"1\"",
                "Attribute `a` is not filterable. This index does not have configured filterable \
                 attributes.\n2:3 \"a\" = \"1\"",
            ),
            (
                "Attribute `a` is not facet-searchable. Available facet-searchable attributes \
                 patterns are: `_miroir_shard`. To make it so, add it.",
                "Attribute `a` is not facet-searchable. This index does not have configured \
                 facet-searchable attributes. To make it so, add it.",
            ),
            ("patterns are: `_miroir_shard, a`.", "patterns are: `a`."),
            ("patterns are: `a, _miroir_shard, b`.", "patterns are: `a, b`."),
            ("patterns are: `a`, `_miroir_shard`.", "patterns are: `a`."),
            ("nothing here", "nothing here"),
        ] {
            assert_eq!(message(said, &index), wanted);
        }
        assert_eq!(message("Attribute `_mir0ir_x`", &index), "Attribute `_miroir_x`");
    }

    #[test]
    fn attributes_that_are_not_displayed_are_not_listed() {
        let mut index = placeholder();
        let error = |code: &str, message: &str| {
            Bytes::from(serde_json::json!({"message": message, "code": code}).to_string())
        };
        let sort =
            error("invalid_search_sort", "`x`. Available sortable attributes are: `a, b, c`.");
        assert_eq!(body(&sort, &index), sort);
        for (displayed, wanted) in [
            (r#"["*"]"#, "`x`. Available sortable attributes are: `a, b, c`."),
            (r#"["c", "a", "b"]"#, "`x`. Available sortable attributes are: `a, b, c`."),
            (
                r#"["b", "d"]"#,
                "`x`. Available sortable attributes are: `b, <..hidden-attributes>`.",
            ),
            ("[]", "`x`. This index does not have configured sortable attributes."),
        ] {
            let displayed = serde_json::from_str(displayed).unwrap();
            index.overlay.insert("displayedAttributes".into(), displayed);
            let wanted = error("invalid_search_sort", wanted);
            assert_eq!(body(&sort, &index), wanted);
        }
        let searchable = "Available searchable attributes are: `a`.";
        let searchable = error("invalid_search_attributes_to_search_on", searchable);
        let wanted = "Available searchable attributes are: `, <..hidden-attributes>`.";
        let wanted = error("invalid_search_attributes_to_search_on", wanted);
        assert_eq!(body(&searchable, &index), wanted);
        // Lists of documents hide nothing.
        let listed = error("invalid_document_sort", "Available sortable attributes are: `a`.");
        assert_eq!(body(&listed, &index), listed);
    }
}
