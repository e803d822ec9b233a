//! The client API's route table, as data: every route of Meilisearch 1.50.
//!
//! `docs/api-compatibility.md` is written from it (`cargo xtask docs`).

use http::Method;

use super::routes::{Action as A, Actions, Route, Treatment as T};

const GET: Method = Method::GET;
const POST: Method = Method::POST;
const PUT: Method = Method::PUT;
const PATCH: Method = Method::PATCH;
const DELETE: Method = Method::DELETE;

/// Settings: name in the path, name in the whole object, verb that changes it.
const SETTINGS: &[(&str, &str, Method)] = &[
    ("/indexes/{uid}/settings/displayed-attributes", "displayedAttributes", PUT),
    ("/indexes/{uid}/settings/searchable-attributes", "searchableAttributes", PUT),
    ("/indexes/{uid}/settings/filterable-attributes", "filterableAttributes", PUT),
    ("/indexes/{uid}/settings/sortable-attributes", "sortableAttributes", PUT),
    ("/indexes/{uid}/settings/ranking-rules", "rankingRules", PUT),
    ("/indexes/{uid}/settings/stop-words", "stopWords", PUT),
    ("/indexes/{uid}/settings/non-separator-tokens", "nonSeparatorTokens", PUT),
    ("/indexes/{uid}/settings/separator-tokens", "separatorTokens", PUT),
    ("/indexes/{uid}/settings/dictionary", "dictionary", PUT),
    ("/indexes/{uid}/settings/synonyms", "synonyms", PUT),
    ("/indexes/{uid}/settings/distinct-attribute", "distinctAttribute", PUT),
    ("/indexes/{uid}/settings/proximity-precision", "proximityPrecision", PUT),
    ("/indexes/{uid}/settings/typo-tolerance", "typoTolerance", PATCH),
    ("/indexes/{uid}/settings/faceting", "faceting", PATCH),
    ("/indexes/{uid}/settings/pagination", "pagination", PATCH),
    ("/indexes/{uid}/settings/embedders", "embedders", PATCH),
    ("/indexes/{uid}/settings/search-cutoff-ms", "searchCutoffMs", PUT),
    ("/indexes/{uid}/settings/localized-attributes", "localizedAttributes", PUT),
    ("/indexes/{uid}/settings/facet-search", "facetSearch", PUT),
    ("/indexes/{uid}/settings/prefix-search", "prefixSearch", PUT),
    ("/indexes/{uid}/settings/chat", "chat", PATCH),
    ("/indexes/{uid}/settings/foreign-keys", "foreignKeys", PUT),
];

/// What every route answers until it is served.
const NOT_YET: &str = "not served by this version";

/// Rows but those of single settings. Method, path, what it does, key actions, treatment, note.
type Row = (Method, &'static str, A, Actions, T, &'static str);

const ROWS: &[Row] = &[
    (GET, "/", A::Root, &[], T::Own, "no dashboard"),
    (GET, "/health", A::Health, &[], T::Own, ""),
    (GET, "/version", A::Version, &["version"], T::Own, "the version of the nodes"),
    (
        GET,
        "/stats",
        A::Stats,
        &["stats.get"],
        T::Merged,
        "sizes are sums over all nodes and copies",
    ),
    (GET, "/indexes", A::IndexList, &["indexes.get"], T::Own, ""),
    (POST, "/indexes", A::IndexCreate, &["indexes.create"], T::Broadcast, ""),
    (POST, "/swap-indexes", A::Swap, &["indexes.swap"], T::Own, "one change in Miroir's catalogue"),
    (GET, "/indexes/{uid}", A::IndexGet, &["indexes.get"], T::Own, ""),
    (PATCH, "/indexes/{uid}", A::IndexUpdate, &["indexes.update"], T::Broadcast, ""),
    (DELETE, "/indexes/{uid}", A::IndexDelete, &["indexes.delete"], T::Broadcast, ""),
    (GET, "/indexes/{uid}/stats", A::IndexStats, &["stats.get"], T::Merged, ""),
    (POST, "/indexes/{uid}/fields", A::IndexFields, &["fields.post"], T::Merged, ""),
    (
        POST,
        "/indexes/{uid}/compact",
        A::IndexCompact,
        &["indexes.compact"],
        T::Broadcast,
        "sizes are sums over all nodes",
    ),
    (POST, "/indexes/{uid}/search", A::Search, &["search"], T::Merged, ""),
    (GET, "/indexes/{uid}/search", A::SearchGet, &["search"], T::Merged, ""),
    (POST, "/indexes/{uid}/facet-search", A::FacetSearch, &["search"], T::Merged, ""),
    (GET, "/indexes/{uid}/similar", A::SimilarGet, &["search"], T::Merged, ""),
    (POST, "/indexes/{uid}/similar", A::Similar, &["search"], T::Merged, ""),
    (
        POST,
        "/multi-search",
        A::MultiSearch,
        &["search"],
        T::Merged,
        "up to `multi_search.max_queries_per_batch` queries; Miroir is the network, so that \
         `federationOptions.remote` and `.queryPosition` are refused",
    ),
    (GET, "/indexes/{uid}/documents", A::FetchGet, &["documents.get"], T::Merged, ""),
    (POST, "/indexes/{uid}/documents", A::Replace, &["documents.add"], T::Routed, ""),
    (PUT, "/indexes/{uid}/documents", A::Update, &["documents.add"], T::Routed, ""),
    (DELETE, "/indexes/{uid}/documents", A::Clear, &["documents.delete"], T::Broadcast, ""),
    (POST, "/indexes/{uid}/documents/fetch", A::Fetch, &["documents.get"], T::Merged, ""),
    (
        POST,
        "/indexes/{uid}/documents/delete-batch",
        A::DeleteBatch,
        &["documents.delete"],
        T::Routed,
        "",
    ),
    (
        POST,
        "/indexes/{uid}/documents/delete",
        A::DeleteFilter,
        &["documents.delete"],
        T::Broadcast,
        "",
    ),
    (
        POST,
        "/indexes/{uid}/documents/edit",
        A::Edit,
        &["documents.*"],
        T::Broadcast,
        "where the function fails on a document, what other nodes edited stays edited; a function with `return` or `exit` may define no functions",
    ),
    (GET, "/indexes/{uid}/documents/{id}", A::FetchOne, &["documents.get"], T::Routed, ""),
    (DELETE, "/indexes/{uid}/documents/{id}", A::DeleteOne, &["documents.delete"], T::Routed, ""),
    (GET, "/indexes/{uid}/settings", A::SettingsGet(None), &["settings.get"], T::Own, ""),
    (
        PATCH,
        "/indexes/{uid}/settings",
        A::SettingsChange(None),
        &["settings.update"],
        T::Broadcast,
        "",
    ),
    (
        DELETE,
        "/indexes/{uid}/settings",
        A::SettingsChange(None),
        &["settings.update"],
        T::Broadcast,
        "",
    ),
    (GET, "/tasks", A::TaskList, &["tasks.get"], T::Own, ""),
    (DELETE, "/tasks", A::Unsupported("deletion of tasks"), &["tasks.delete"], T::Refused, NOT_YET),
    (
        POST,
        "/tasks/cancel",
        A::Unsupported("cancelation of tasks"),
        &["tasks.cancel"],
        T::Refused,
        NOT_YET,
    ),
    (
        POST,
        "/tasks/compact",
        A::Unsupported("compaction of the task queue"),
        &["tasks.compact"],
        T::Refused,
        NOT_YET,
    ),
    (GET, "/tasks/{uid}", A::TaskGet, &["tasks.get"], T::Own, "`mtask-<n>` is accepted for `<n>`"),
    (
        GET,
        "/tasks/{uid}/documents",
        A::Unsupported("the payload of a task"),
        &["tasks.get"],
        T::Refused,
        NOT_YET,
    ),
    (GET, "/batches", A::Unsupported("batches"), &["tasks.get"], T::Refused, NOT_YET),
    (GET, "/batches/{uid}", A::Unsupported("batches"), &["tasks.get"], T::Refused, NOT_YET),
    (GET, "/keys", A::KeyList, &["keys.get"], T::Own, ""),
    (POST, "/keys", A::KeyCreate, &["keys.create"], T::Own, ""),
    (GET, "/keys/{key}", A::KeyGet, &["keys.get"], T::Own, ""),
    (PATCH, "/keys/{key}", A::KeyUpdate, &["keys.update"], T::Own, ""),
    (DELETE, "/keys/{key}", A::KeyDelete, &["keys.delete"], T::Own, ""),
    (POST, "/dumps", A::Unsupported("dumps"), &["dumps.create"], T::Refused, NOT_YET),
    (POST, "/snapshots", A::Unsupported("snapshots"), &["snapshots.create"], T::Refused, NOT_YET),
    (POST, "/export", A::Unsupported("export"), &["export"], T::Refused, NOT_YET),
    (GET, "/experimental-features", A::Features, &["experimental.get"], T::Own, ""),
    (PATCH, "/experimental-features", A::Features, &["experimental.update"], T::Broadcast, ""),
    (
        GET,
        "/metrics",
        A::Unsupported(
            "metrics on the client port: they have a listener of their own (`server.metrics_port`)",
        ),
        &["metrics.get"],
        T::Refused,
        "metrics have a listener of their own, `server.metrics_port`",
    ),
    (
        POST,
        "/logs/stream",
        A::Unsupported(
            "streams of logs: they would be of one node; logs are written to standard output",
        ),
        &["metrics.get"],
        T::Refused,
        "logs go to standard output",
    ),
    (
        DELETE,
        "/logs/stream",
        A::Unsupported(
            "streams of logs: they would be of one node; logs are written to standard output",
        ),
        &["metrics.get"],
        T::Refused,
        "logs go to standard output",
    ),
    (
        POST,
        "/logs/stderr",
        A::Unsupported("changes of the log level at run time: it is set by `RUST_LOG`"),
        &["metrics.get"],
        T::Refused,
        "the log level is set by `RUST_LOG`",
    ),
    (
        GET,
        "/network",
        A::Unsupported("the network of Meilisearch's own sharding"),
        &["network.get"],
        T::Refused,
        NOT_YET,
    ),
    (
        PATCH,
        "/network",
        A::Unsupported("the network of Meilisearch's own sharding"),
        &["network.update"],
        T::Refused,
        NOT_YET,
    ),
    (
        POST,
        "/network/control",
        A::Unsupported("the network of Meilisearch's own sharding"),
        &["network.update"],
        T::Refused,
        NOT_YET,
    ),
    (GET, "/webhooks", A::Unsupported("webhooks"), &["webhooks.get"], T::Refused, NOT_YET),
    (POST, "/webhooks", A::Unsupported("webhooks"), &["webhooks.create"], T::Refused, NOT_YET),
    (GET, "/webhooks/{uuid}", A::Unsupported("webhooks"), &["webhooks.get"], T::Refused, NOT_YET),
    (
        PATCH,
        "/webhooks/{uuid}",
        A::Unsupported("webhooks"),
        &["webhooks.update"],
        T::Refused,
        NOT_YET,
    ),
    (
        DELETE,
        "/webhooks/{uuid}",
        A::Unsupported("webhooks"),
        &["webhooks.delete"],
        T::Refused,
        NOT_YET,
    ),
    (
        POST,
        "/dynamic-search-rules",
        A::Unsupported("search rules"),
        &["dynamicSearchRules.get"],
        T::Refused,
        NOT_YET,
    ),
    (
        DELETE,
        "/dynamic-search-rules",
        A::Unsupported("search rules"),
        &["dynamicSearchRules.delete"],
        T::Refused,
        NOT_YET,
    ),
    (
        GET,
        "/dynamic-search-rules/{uid}",
        A::Unsupported("search rules"),
        &["dynamicSearchRules.get"],
        T::Refused,
        NOT_YET,
    ),
    (
        PATCH,
        "/dynamic-search-rules/{uid}",
        A::Unsupported("search rules"),
        &["dynamicSearchRules.update"],
        T::Refused,
        NOT_YET,
    ),
    (
        DELETE,
        "/dynamic-search-rules/{uid}",
        A::Unsupported("search rules"),
        &["dynamicSearchRules.delete"],
        T::Refused,
        NOT_YET,
    ),
    (GET, "/chats", A::Unsupported("chats"), &["chats.get"], T::Refused, NOT_YET),
    (GET, "/chats/{workspace}", A::Unsupported("chats"), &["chats.get"], T::Refused, NOT_YET),
    (DELETE, "/chats/{workspace}", A::Unsupported("chats"), &["chats.delete"], T::Refused, NOT_YET),
    (
        GET,
        "/chats/{workspace}/settings",
        A::Unsupported("chats"),
        &["chatsSettings.get"],
        T::Refused,
        NOT_YET,
    ),
    (
        PATCH,
        "/chats/{workspace}/settings",
        A::Unsupported("chats"),
        &["chatsSettings.update"],
        T::Refused,
        NOT_YET,
    ),
    (
        DELETE,
        "/chats/{workspace}/settings",
        A::Unsupported("chats"),
        &["chatsSettings.update"],
        T::Refused,
        NOT_YET,
    ),
    (
        POST,
        "/chats/{workspace}/chat/completions",
        A::Unsupported("chats"),
        &["chatCompletions"],
        T::Refused,
        NOT_YET,
    ),
    (
        POST,
        "/render-template",
        A::Unsupported("templates: a document may be on any node"),
        &["settings.get", "documents.get"],
        T::Refused,
        "the document may be on another node than the index's settings",
    ),
];

/// All routes. The order does not matter: literal segments win over parameters.
pub fn table() -> Vec<Route> {
    let mut out = Vec::with_capacity(ROWS.len() + 3 * SETTINGS.len());
    for (method, path, action, actions, treatment, note) in ROWS.iter().cloned() {
        out.push(Route { method, path, action, actions, treatment, note });
    }
    for (path, name, verb) in SETTINGS {
        let mut add = |method: Method, action, actions, treatment| {
            out.push(Route { method, path, action, actions, treatment, note: "" });
        };
        add(GET, A::SettingsGet(Some(name)), &["settings.get"], T::Own);
        add(verb.clone(), A::SettingsChange(Some(name)), &["settings.update"], T::Broadcast);
        add(DELETE, A::SettingsChange(Some(name)), &["settings.update"], T::Broadcast);
    }
    out
}
