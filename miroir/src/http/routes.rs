//! The client API's route table, as data.

use http::Method;

/// What a route does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// `POST …/search`.
    Search,
    /// `GET …/search`.
    SearchGet,
    /// `POST …/documents/fetch`.
    Fetch,
    /// `GET …/documents`.
    FetchGet,
    /// `GET …/documents/{id}`.
    FetchOne,
    /// `POST …/documents`.
    Replace,
    /// `PUT …/documents`.
    Update,
    /// `DELETE …/documents/{id}`.
    DeleteOne,
    /// `POST …/documents/delete-batch`.
    DeleteBatch,
    /// `POST …/documents/delete`.
    DeleteFilter,
    /// `DELETE …/documents`.
    Clear,
    /// Indexes as such.
    IndexCreate,
    /// List indexes.
    IndexList,
    /// Show an index.
    IndexGet,
    /// Change an index.
    IndexUpdate,
    /// Delete an index.
    IndexDelete,
    /// Count an index's documents.
    IndexStats,
    /// Swap indexes.
    Swap,
    /// Read settings; the setting's name in the whole object, or `None` for all.
    SettingsGet(Option<&'static str>),
    /// Change settings.
    SettingsChange(Option<&'static str>),
    /// List tasks.
    TaskList,
    /// Show a task.
    TaskGet,
    /// What is this?
    Root,
    /// Alive?
    Health,
    /// Which version?
    Version,
    /// Count everything.
    Stats,
    /// Known, but not served by this version.
    Unsupported(&'static str),
}

/// One route.
#[derive(Clone, Debug)]
pub struct Route {
    /// Method.
    pub method: Method,
    /// Path with `{…}` for parameters.
    pub path: &'static str,
    /// What it does.
    pub action: Action,
}

/// Settings: name in the path, name in the whole object, verb that changes it.
const SETTINGS: &[(&str, &str, Method)] = &[
    ("/indexes/{uid}/settings/displayed-attributes", "displayedAttributes", Method::PUT),
    ("/indexes/{uid}/settings/searchable-attributes", "searchableAttributes", Method::PUT),
    ("/indexes/{uid}/settings/filterable-attributes", "filterableAttributes", Method::PUT),
    ("/indexes/{uid}/settings/sortable-attributes", "sortableAttributes", Method::PUT),
    ("/indexes/{uid}/settings/ranking-rules", "rankingRules", Method::PUT),
    ("/indexes/{uid}/settings/stop-words", "stopWords", Method::PUT),
    ("/indexes/{uid}/settings/non-separator-tokens", "nonSeparatorTokens", Method::PUT),
    ("/indexes/{uid}/settings/separator-tokens", "separatorTokens", Method::PUT),
    ("/indexes/{uid}/settings/dictionary", "dictionary", Method::PUT),
    ("/indexes/{uid}/settings/synonyms", "synonyms", Method::PUT),
    ("/indexes/{uid}/settings/distinct-attribute", "distinctAttribute", Method::PUT),
    ("/indexes/{uid}/settings/proximity-precision", "proximityPrecision", Method::PUT),
    ("/indexes/{uid}/settings/typo-tolerance", "typoTolerance", Method::PATCH),
    ("/indexes/{uid}/settings/faceting", "faceting", Method::PATCH),
    ("/indexes/{uid}/settings/pagination", "pagination", Method::PATCH),
    ("/indexes/{uid}/settings/embedders", "embedders", Method::PATCH),
    ("/indexes/{uid}/settings/search-cutoff-ms", "searchCutoffMs", Method::PUT),
    ("/indexes/{uid}/settings/localized-attributes", "localizedAttributes", Method::PUT),
    ("/indexes/{uid}/settings/facet-search", "facetSearch", Method::PUT),
    ("/indexes/{uid}/settings/prefix-search", "prefixSearch", Method::PUT),
];

/// All routes, most specific first.
pub fn table() -> Vec<Route> {
    use Action as A;
    const GET: Method = Method::GET;
    const POST: Method = Method::POST;
    const PUT: Method = Method::PUT;
    const PATCH: Method = Method::PATCH;
    const DELETE: Method = Method::DELETE;
    let mut out = Vec::new();
    let mut add = |method: Method, path, action| out.push(Route { method, path, action });
    add(GET, "/", A::Root);
    add(GET, "/health", A::Health);
    add(GET, "/version", A::Version);
    add(GET, "/stats", A::Stats);
    add(GET, "/indexes", A::IndexList);
    add(POST, "/indexes", A::IndexCreate);
    add(POST, "/swap-indexes", A::Swap);
    add(GET, "/indexes/{uid}", A::IndexGet);
    add(PATCH, "/indexes/{uid}", A::IndexUpdate);
    add(DELETE, "/indexes/{uid}", A::IndexDelete);
    add(GET, "/indexes/{uid}/stats", A::IndexStats);
    add(POST, "/indexes/{uid}/search", A::Search);
    add(GET, "/indexes/{uid}/search", A::SearchGet);
    add(GET, "/indexes/{uid}/documents", A::FetchGet);
    add(POST, "/indexes/{uid}/documents", A::Replace);
    add(PUT, "/indexes/{uid}/documents", A::Update);
    add(DELETE, "/indexes/{uid}/documents", A::Clear);
    add(POST, "/indexes/{uid}/documents/fetch", A::Fetch);
    add(POST, "/indexes/{uid}/documents/delete-batch", A::DeleteBatch);
    add(POST, "/indexes/{uid}/documents/delete", A::DeleteFilter);
    add(POST, "/indexes/{uid}/documents/edit", A::Unsupported("edition of documents by function"));
    add(GET, "/indexes/{uid}/documents/{id}", A::FetchOne);
    add(DELETE, "/indexes/{uid}/documents/{id}", A::DeleteOne);
    add(GET, "/indexes/{uid}/settings", A::SettingsGet(None));
    add(PATCH, "/indexes/{uid}/settings", A::SettingsChange(None));
    add(DELETE, "/indexes/{uid}/settings", A::SettingsChange(None));
    for (path, name, verb) in SETTINGS {
        add(GET, path, A::SettingsGet(Some(name)));
        add(verb.clone(), path, A::SettingsChange(Some(name)));
        add(DELETE, path, A::SettingsChange(Some(name)));
    }
    add(GET, "/tasks", A::TaskList);
    add(GET, "/tasks/{uid}", A::TaskGet);
    for (method, path, what) in [
        (DELETE, "/tasks", "deletion of tasks"),
        (POST, "/tasks/cancel", "cancelation of tasks"),
        (GET, "/batches", "batches"),
        (GET, "/batches/{uid}", "batches"),
        (POST, "/multi-search", "multi-search"),
        (POST, "/indexes/{uid}/facet-search", "facet search"),
        (GET, "/indexes/{uid}/similar", "similar documents"),
        (POST, "/indexes/{uid}/similar", "similar documents"),
        (POST, "/indexes/{uid}/fields", "the fields of an index"),
        (POST, "/indexes/{uid}/compact", "compaction"),
        (GET, "/keys", "API keys"),
        (POST, "/keys", "API keys"),
        (GET, "/keys/{key}", "API keys"),
        (PATCH, "/keys/{key}", "API keys"),
        (DELETE, "/keys/{key}", "API keys"),
        (POST, "/dumps", "dumps"),
        (POST, "/snapshots", "snapshots"),
        (POST, "/export", "export"),
        (GET, "/experimental-features", "experimental features"),
        (PATCH, "/experimental-features", "experimental features"),
        (GET, "/network", "the network of Meilisearch's own sharding"),
        (PATCH, "/network", "the network of Meilisearch's own sharding"),
        (GET, "/webhooks", "webhooks"),
        (POST, "/webhooks", "webhooks"),
        (GET, "/webhooks/{uuid}", "webhooks"),
        (PATCH, "/webhooks/{uuid}", "webhooks"),
        (DELETE, "/webhooks/{uuid}", "webhooks"),
        (GET, "/metrics", "metrics on the client port (see server.metrics_port)"),
    ] {
        add(method, path, A::Unsupported(what));
    }
    out
}

/// A matched path.
#[derive(Clone, Debug)]
pub struct Matched {
    /// Its parameters, still encoded.
    pub parameters: Vec<String>,
    /// The routes of this path, one per method.
    pub routes: Vec<Route>,
}

/// Finds the routes of a path. Literal segments win over parameters.
pub fn find(table: &[Route], path: &str) -> Option<Matched> {
    let segments: Vec<&str> = path.split('/').collect();
    let mut best: Option<(usize, &'static str, Vec<String>)> = None;
    for route in table {
        let pattern: Vec<&str> = route.path.split('/').collect();
        if pattern.len() != segments.len() {
            continue;
        }
        let mut parameters = Vec::new();
        let fits = pattern.iter().zip(&segments).all(|(p, s)| {
            if p.starts_with('{') {
                parameters.push((*s).to_owned());
                !s.is_empty()
            } else {
                p == s
            }
        });
        let better = best.as_ref().is_none_or(|(fewest, ..)| parameters.len() < *fewest);
        if fits && better {
            best = Some((parameters.len(), route.path, parameters));
        }
    }
    let (_, template, parameters) = best?;
    let routes = table.iter().filter(|route| route.path == template).cloned().collect();
    Some(Matched { parameters, routes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literal_segments_win() {
        let table = table();
        let found = find(&table, "/indexes/a/documents/fetch").unwrap();
        assert_eq!(found.routes[0].path, "/indexes/{uid}/documents/fetch");
        let found = find(&table, "/indexes/a/documents/7").unwrap();
        assert_eq!(found.parameters, ["a", "7"]);
        assert!(find(&table, "/nope").is_none());
        assert!(find(&table, "/indexes//search").is_none());
    }

    #[test]
    fn no_route_is_there_twice() {
        let mut seen = std::collections::BTreeSet::new();
        for route in table() {
            assert!(seen.insert((route.method.to_string(), route.path)), "{route:?}");
        }
    }
}
