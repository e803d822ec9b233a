//! The client API's route table, as data: every route of Meilisearch 1.50, and those that explain searches.
//!
//! `docs/api-compatibility.md` is written from it (`cargo xtask docs`).

use http::Method;

use super::operations::effect;
use super::routes::{Action as A, Actions, Gate, Route, Treatment as T};
use crate::effect::Effect;

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

const EXPLAINS: &str =
    "not in Meilisearch: what a search with this body would do ([explain](explain.md))";
const BATCHES: &str = "each task is a batch of its own";

const QUEUE: Gate = Gate {
    feature: "taskQueueCompactionRoute",
    why: "the task queue is not compacted: a node takes no writes from its compaction until it is \
          restarted; compact node by node, and restart each before the next",
};
const METRICS: Gate = Gate {
    feature: "metrics",
    why: "metrics are not on the client port: scrape `server.metrics_port` for the cluster's, and \
          each node for its own",
};
const LOGS: Gate = Gate {
    feature: "logsRoute",
    why: "logs are not streamed: each node has its own, ask it; Miroir's go to its standard error",
};
const NETWORK: Gate = Gate {
    feature: "network",
    why: "there is no network of Meilisearch's own sharding: Miroir spreads documents over the nodes of \
          its configuration",
};
const CHATS: Gate = Gate {
    feature: "chatCompletions",
    why: "chats are not served: a node would answer from its own part of the documents",
};
const TEMPLATES: Gate = Gate {
    feature: "renderRoute",
    why: "templates and documents of an index are not looked up: give both `inline`, which any node \
          renders",
};

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
    (GET, "/indexes/{uid}/search", A::SearchGet, &["search"], T::Merged, ""),
    (POST, "/indexes/{uid}/search", A::Search, &["search"], T::Merged, ""),
    (POST, "/indexes/{uid}/explain", A::Explain, &["search"], T::Own, EXPLAINS),
    (POST, "/multi-search/explain", A::ExplainMulti, &["search"], T::Own, EXPLAINS),
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
    (DELETE, "/tasks", A::TaskDelete, &["tasks.delete"], T::Own, ""),
    (
        POST,
        "/tasks/cancel",
        A::TaskCancel,
        &["tasks.cancel"],
        T::Broadcast,
        "creations and deletions of indexes, and what a later task was decided by, cannot be canceled",
    ),
    (POST, "/tasks/compact", A::Gated(&QUEUE), &["tasks.compact"], T::Refused, QUEUE.why),
    (GET, "/tasks/{uid}", A::TaskGet, &["tasks.get"], T::Own, "`mtask-<n>` is accepted for `<n>`"),
    (
        GET,
        "/tasks/{uid}/documents",
        A::TaskDocuments,
        &["tasks.get"],
        T::Merged,
        "documents are in the order of their shards",
    ),
    (GET, "/batches", A::BatchList, &["tasks.get"], T::Own, BATCHES),
    (GET, "/batches/{uid}", A::BatchGet, &["tasks.get"], T::Own, BATCHES),
    (GET, "/keys", A::KeyList, &["keys.get"], T::Own, ""),
    (POST, "/keys", A::KeyCreate, &["keys.create"], T::Own, ""),
    (GET, "/keys/{key}", A::KeyGet, &["keys.get"], T::Own, ""),
    (PATCH, "/keys/{key}", A::KeyUpdate, &["keys.update"], T::Own, ""),
    (DELETE, "/keys/{key}", A::KeyDelete, &["keys.delete"], T::Own, ""),
    (
        POST,
        "/dumps",
        A::Dump,
        &["dumps.create"],
        T::Broadcast,
        "every node writes a dump of its own part; `dumpUid` is that of the first node",
    ),
    (
        POST,
        "/snapshots",
        A::Snapshot,
        &["snapshots.create"],
        T::Broadcast,
        "every node writes a snapshot of its own part",
    ),
    (
        POST,
        "/export",
        A::Export,
        &["export"],
        T::Refused,
        "nodes would export every replica, with Miroir's own fields",
    ),
    (GET, "/experimental-features", A::Features(Effect::Read), &["experimental.get"], T::Own, ""),
    (
        PATCH,
        "/experimental-features",
        A::Features(Effect::Change),
        &["experimental.update"],
        T::Broadcast,
        "",
    ),
    (GET, "/metrics", A::Gated(&METRICS), &["metrics.get"], T::Refused, METRICS.why),
    (POST, "/logs/stream", A::Gated(&LOGS), &["metrics.get"], T::Refused, LOGS.why),
    (DELETE, "/logs/stream", A::Gated(&LOGS), &["metrics.get"], T::Refused, LOGS.why),
    (POST, "/logs/stderr", A::Gated(&LOGS), &["metrics.get"], T::Refused, LOGS.why),
    (GET, "/network", A::Gated(&NETWORK), &["network.get"], T::Refused, NETWORK.why),
    (PATCH, "/network", A::Gated(&NETWORK), &["network.update"], T::Refused, NETWORK.why),
    (POST, "/network/control", A::Gated(&NETWORK), &["network.update"], T::Refused, NETWORK.why),
    (GET, "/webhooks", A::WebhookList, &["webhooks.get"], T::Own, ""),
    (POST, "/webhooks", A::WebhookCreate, &["webhooks.create"], T::Own, "Miroir is the sender"),
    (GET, "/webhooks/{uuid}", A::WebhookGet, &["webhooks.get"], T::Own, ""),
    (PATCH, "/webhooks/{uuid}", A::WebhookUpdate, &["webhooks.update"], T::Own, ""),
    (DELETE, "/webhooks/{uuid}", A::WebhookDelete, &["webhooks.delete"], T::Own, ""),
    (POST, "/dynamic-search-rules", A::RuleList, &["dynamicSearchRules.get"], T::Own, ""),
    (
        DELETE,
        "/dynamic-search-rules",
        A::RuleClear,
        &["dynamicSearchRules.delete"],
        T::Broadcast,
        "",
    ),
    (GET, "/dynamic-search-rules/{uid}", A::RuleGet, &["dynamicSearchRules.get"], T::Own, ""),
    (
        PATCH,
        "/dynamic-search-rules/{uid}",
        A::RuleUpdate,
        &["dynamicSearchRules.update"],
        T::Broadcast,
        "",
    ),
    (
        DELETE,
        "/dynamic-search-rules/{uid}",
        A::RuleDelete,
        &["dynamicSearchRules.delete"],
        T::Broadcast,
        "",
    ),
    (GET, "/chats", A::Gated(&CHATS), &["chats.get"], T::Refused, CHATS.why),
    (GET, "/chats/{workspace}", A::Gated(&CHATS), &["chats.get"], T::Refused, CHATS.why),
    (DELETE, "/chats/{workspace}", A::Gated(&CHATS), &["chats.delete"], T::Refused, CHATS.why),
    (
        GET,
        "/chats/{workspace}/settings",
        A::Gated(&CHATS),
        &["chatsSettings.get"],
        T::Refused,
        CHATS.why,
    ),
    (
        PATCH,
        "/chats/{workspace}/settings",
        A::Gated(&CHATS),
        &["chatsSettings.update"],
        T::Refused,
        CHATS.why,
    ),
    (
        DELETE,
        "/chats/{workspace}/settings",
        A::Gated(&CHATS),
        &["chatsSettings.update"],
        T::Refused,
        CHATS.why,
    ),
    (
        POST,
        "/chats/{workspace}/chat/completions",
        A::Gated(&CHATS),
        &["chatCompletions"],
        T::Refused,
        CHATS.why,
    ),
    (
        POST,
        "/render-template",
        A::Render(&TEMPLATES),
        &["settings.get", "documents.get"],
        T::Own,
        TEMPLATES.why,
    ),
];

/// All routes. The order does not matter: literal segments win over parameters.
pub fn table() -> Vec<Route> {
    let mut out = Vec::with_capacity(ROWS.len() + 3 * SETTINGS.len());
    for (method, path, action, actions, treatment, note) in ROWS.iter().cloned() {
        let effect = effect(action, &method);
        out.push(Route { method, path, action, actions, treatment, note, effect });
    }
    for (path, name, verb) in SETTINGS {
        let mut add = |method: Method, action, actions, treatment| {
            let effect = effect(action, &method);
            out.push(Route { method, path, action, actions, treatment, note: "", effect });
        };
        add(GET, A::SettingsGet(Some(name)), &["settings.get"], T::Own);
        add(verb.clone(), A::SettingsChange(Some(name)), &["settings.update"], T::Broadcast);
        add(DELETE, A::SettingsChange(Some(name)), &["settings.update"], T::Broadcast);
    }
    out
}
