//! What a request is about, and its path and query in the names of the other side.

use http::Method;

use super::pairs::{Kind, Pairs};
use super::side::Side;

/// How a request is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// Changes something: no other request is on the way meanwhile, and it is sent once.
    Write,
    /// May be sent again.
    Read,
    /// As [`Treatment::Read`], and again until both sides have ended what it shows.
    Task,
    /// Goes to the side that the client sees and is not compared: it never ends.
    Stream,
}

/// The path without names: `/indexes/{uid}/documents/{id}`.
pub fn template(target: &str) -> String {
    let path = target.split('?').next().unwrap_or(target);
    let mut parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let named: &[(usize, &str)] = match parts.first() {
        Some(&"indexes") if parts.get(2) == Some(&"documents") => {
            let verbs = ["fetch", "delete", "delete-batch", "edit"];
            let verb = parts.get(3).is_some_and(|part| verbs.contains(part));
            if verb { &[(1, "{uid}")] } else { &[(1, "{uid}"), (3, "{id}")] }
        }
        Some(&"indexes") => &[(1, "{uid}")],
        Some(&"tasks") if matches!(parts.get(1), Some(&("cancel" | "compact"))) => &[],
        Some(&("tasks" | "batches" | "keys" | "webhooks" | "dynamic-search-rules" | "chats")) => {
            &[(1, "{uid}")]
        }
        _ => &[],
    };
    for (at, name) in named {
        if let Some(part) = parts.get_mut(*at) {
            *part = name;
        }
    }
    format!("/{}", parts.join("/"))
}

/// How a request of this method to this [`template`] is treated.
pub fn treatment(method: &Method, template: &str) -> Treatment {
    if template == "/logs/stream" {
        return Treatment::Stream;
    }
    if template == "/tasks/{uid}" && *method == Method::GET {
        return Treatment::Task;
    }
    let asks = ["/search", "/facet-search", "/similar", "/fetch", "/multi-search"];
    let reads = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
        || *method == Method::POST && asks.iter().any(|end| template.ends_with(end));
    if reads { Treatment::Read } else { Treatment::Write }
}

/// The path and query that `side` knows as `target`, in the names of the other side.
pub fn renamed(target: &str, side: Side, pairs: &Pairs) -> String {
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let mut parts: Vec<&str> = path.split('/').collect();
    let first = parts.get(1).copied().unwrap_or_default();
    let kinds: &[Kind] = match first {
        "tasks" => &[Kind::Task],
        "batches" => &[Kind::Batch],
        "keys" => &[Kind::KeyUid, Kind::Key],
        "webhooks" => &[Kind::Webhook],
        _ => &[],
    };
    if let Some(name) = parts.get_mut(2) {
        let known = kinds.iter().find_map(|kind| pairs.other(side, *kind, name));
        if let Some(known) = known {
            *name = known;
        }
    }
    let path = parts.join("/");
    match query {
        Some(query) if matches!(first, "tasks" | "batches") => {
            let own = if first == "tasks" { Kind::Task } else { Kind::Batch };
            format!("{path}?{}", renamed_query(query, own, side, pairs))
        }
        Some(query) => format!("{path}?{query}"),
        None => path,
    }
}

/// A query of tasks or batches in the names of the other side; `own`: what `from` counts.
pub fn renamed_query(query: &str, own: Kind, side: Side, pairs: &Pairs) -> String {
    let mut out = Vec::new();
    for pair in query.split('&') {
        let Some((name, value)) = pair.split_once('=') else {
            out.push(pair.to_owned());
            continue;
        };
        let kind = match name {
            "from" => Some(own),
            "uids" | "canceledBy" => Some(Kind::Task),
            "batchUids" => Some(Kind::Batch),
            _ => None,
        };
        let Some(kind) = kind else {
            out.push(pair.to_owned());
            continue;
        };
        let comma = if value.contains("%2C") { "%2C" } else { "," };
        let each = value.split(comma).map(|one| pairs.other(side, kind, one).unwrap_or(one));
        out.push(format!("{name}={}", each.collect::<Vec<_>>().join(comma)));
    }
    out.join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_have_no_names() {
        for (target, expected) in [
            ("/indexes/movies/documents/7?fields=a", "/indexes/{uid}/documents/{id}"),
            ("/indexes/movies/documents/fetch", "/indexes/{uid}/documents/fetch"),
            ("/indexes/movies/settings/stop-words", "/indexes/{uid}/settings/stop-words"),
            ("/indexes", "/indexes"),
            ("/tasks/7", "/tasks/{uid}"),
            ("/tasks/cancel?uids=1", "/tasks/cancel"),
            ("/keys/abc", "/keys/{uid}"),
            ("/multi-search", "/multi-search"),
            ("/", "/"),
        ] {
            assert_eq!(template(target), expected);
        }
    }

    #[test]
    fn only_what_changes_nothing_is_sent_again() {
        let treat = |method, target| treatment(&method, &template(target));
        assert_eq!(treat(Method::GET, "/tasks/3"), Treatment::Task);
        assert_eq!(treat(Method::GET, "/tasks"), Treatment::Read);
        assert_eq!(treat(Method::DELETE, "/tasks?uids=3"), Treatment::Write);
        assert_eq!(treat(Method::POST, "/indexes/a/search"), Treatment::Read);
        assert_eq!(treat(Method::POST, "/indexes/a/documents/fetch"), Treatment::Read);
        assert_eq!(treat(Method::POST, "/indexes/a/documents"), Treatment::Write);
        assert_eq!(treat(Method::POST, "/logs/stream"), Treatment::Stream);
    }

    #[test]
    fn uids_are_the_other_sides_in_paths_and_queries() {
        let mut pairs = Pairs::default();
        pairs.learn(Kind::Task, "3", "40");
        pairs.learn(Kind::Task, "4", "41");
        pairs.learn(Kind::Batch, "3", "70");
        pairs.learn(Kind::Key, "abc", "def");
        for (target, expected) in [
            ("/tasks/3", "/tasks/40"),
            ("/tasks/5", "/tasks/5"),
            ("/tasks?uids=3,4,5&limit=3&from=4", "/tasks?uids=40,41,5&limit=3&from=41"),
            ("/tasks/cancel?uids=3%2C4", "/tasks/cancel?uids=40%2C41"),
            ("/batches/3", "/batches/70"),
            ("/batches?from=3&uids=3", "/batches?from=70&uids=40"),
            ("/keys/abc", "/keys/def"),
            ("/indexes/3/documents/3?from=3", "/indexes/3/documents/3?from=3"),
        ] {
            assert_eq!(renamed(target, Side::Reference, &pairs), expected);
        }
        assert_eq!(renamed("/tasks/40", Side::Candidate, &pairs), "/tasks/3");
    }
}
