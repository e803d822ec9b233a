//! The client API's routes: what a row of the table is, and which row a path belongs to.

use http::Method;

use super::query::decode;
use crate::effect::Effect;

pub use super::table::table;

/// What a route does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// `POST …/search`.
    Search,
    /// `GET …/search`.
    SearchGet,
    /// `POST …/facet-search`.
    FacetSearch,
    /// `POST …/similar`.
    Similar,
    /// `GET …/similar`.
    SimilarGet,
    /// `POST /multi-search`.
    MultiSearch,
    /// `POST …/explain`.
    Explain,
    /// `POST /multi-search/explain`.
    ExplainMulti,
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
    /// `POST …/documents/edit`.
    Edit,
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
    /// List an index's fields.
    IndexFields,
    /// Compact an index.
    IndexCompact,
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
    /// List API keys.
    KeyList,
    /// Make an API key.
    KeyCreate,
    /// Show an API key.
    KeyGet,
    /// Change what an API key is called.
    KeyUpdate,
    /// Delete an API key.
    KeyDelete,
    /// The payload of a task.
    TaskDocuments,
    /// Cancel tasks.
    TaskCancel,
    /// Delete tasks.
    TaskDelete,
    /// List batches.
    BatchList,
    /// Show a batch.
    BatchGet,
    /// List search rules.
    RuleList,
    /// Show a search rule.
    RuleGet,
    /// Make or change a search rule.
    RuleUpdate,
    /// Delete a search rule.
    RuleDelete,
    /// Delete all search rules.
    RuleClear,
    /// List webhooks.
    WebhookList,
    /// Make a webhook.
    WebhookCreate,
    /// Show a webhook.
    WebhookGet,
    /// Change a webhook.
    WebhookUpdate,
    /// Delete a webhook.
    WebhookDelete,
    /// Dump every node.
    Dump,
    /// Make a snapshot of every node.
    Snapshot,
    /// Export to another instance.
    Export,
    /// A template rendered without an index.
    Render(&'static Gate),
    /// Served by no cluster: while the feature is off, answered as by one node; refused after.
    Gated(&'static Gate),
    /// What is this?
    Root,
    /// Alive?
    Health,
    /// Which version?
    Version,
    /// Count everything.
    Stats,
    /// Show or change experimental features.
    Features(Effect),
    /// Known, but not served by this version.
    Unsupported(&'static str),
}

/// Why a route behind an experimental feature is refused once the feature is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gate {
    /// The feature, as in `GET /experimental-features`.
    pub feature: &'static str,
    /// What is refused, why, and what to do instead.
    pub why: &'static str,
}

/// How a cluster serves a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// Asked of a set of nodes that covers every shard; the answers become one.
    Merged,
    /// Sent to the nodes that hold the documents it names.
    Routed,
    /// Sent to every node.
    Broadcast,
    /// Answered from what Miroir itself knows, or what any one node knows.
    Own,
    /// Refused; the note says why.
    Refused,
}

impl Treatment {
    /// The name in `docs/api-compatibility.md`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Merged => "merged",
            Self::Routed => "routed",
            Self::Broadcast => "broadcast",
            Self::Own => "Miroir's own",
            Self::Refused => "refused",
        }
    }
}

/// Meilisearch's names of the actions a key must hold, all of them; none: no key is needed.
pub type Actions = &'static [&'static str];

/// One route.
#[derive(Clone, Debug)]
pub struct Route {
    /// Method.
    pub method: Method,
    /// Path with `{…}` for parameters.
    pub path: &'static str,
    /// What it does.
    pub action: Action,
    /// Which key actions it needs.
    pub actions: Actions,
    /// How it is served.
    pub treatment: Treatment,
    /// What differs from one node; empty for nothing.
    pub note: &'static str,
    /// What its operation does to the stores and nodes.
    pub(super) effect: Effect,
}

impl Route {
    /// Whether it changes anything, in the stores or on nodes: whether its operation does.
    pub fn changes(&self) -> bool {
        self.effect == Effect::Change
    }
}

/// A matched path.
#[derive(Clone, Debug)]
pub struct Matched<'a> {
    /// Its parameters, still encoded.
    pub parameters: Vec<String>,
    /// The routes of this path, one per method; never empty.
    pub routes: &'a [Route],
}

/// The routes by path.
#[derive(Clone, Debug)]
pub struct Router {
    /// By number of segments.
    templates: Vec<Vec<Template>>,
}

/// The routes of one path, and its segments.
#[derive(Clone, Debug)]
struct Template {
    segments: Vec<&'static str>,
    routes: Vec<Route>,
}

impl Template {
    fn parameters(&self) -> usize {
        self.segments.iter().filter(|segment| segment.starts_with('{')).count()
    }

    fn fits(&self, path: &[&str]) -> bool {
        // Templates differ most at their ends.
        self.segments.iter().zip(path).rev().all(|(segment, given)| {
            if segment.starts_with('{') {
                !given.is_empty()
            } else {
                // Nobody has to escape letters, but one may.
                segment == given || (given.contains('%') && *segment == decode(given, false))
            }
        })
    }
}

impl Router {
    /// Of these routes, in any order: literal segments win over parameters.
    pub fn new(table: Vec<Route>) -> Self {
        let mut templates: Vec<Vec<Template>> = Vec::new();
        for route in table {
            let segments: Vec<&str> = route.path.split('/').collect();
            templates.resize_with(templates.len().max(segments.len() + 1), Vec::new);
            let equal = &mut templates[segments.len()];
            match equal.iter_mut().find(|template| template.segments == segments) {
                Some(template) => template.routes.push(route),
                None => equal.push(Template { segments, routes: vec![route] }),
            }
        }
        for equal in &mut templates {
            equal.sort_by_key(Template::parameters);
        }
        Self { templates }
    }

    /// The routes of a path.
    pub fn find(&self, path: &str) -> Option<Matched<'_>> {
        let segments: Vec<&str> = path.split('/').collect();
        let template = self.templates.get(segments.len())?.iter().find(|it| it.fits(&segments))?;
        let parameters = template.segments.iter().zip(segments);
        let parameters = parameters.filter(|(segment, _)| segment.starts_with('{'));
        let parameters = parameters.map(|(_, given)| given.to_owned()).collect();
        Some(Matched { parameters, routes: &template.routes })
    }

    /// The route of a request. A slash at the end of its path does not matter.
    pub fn route(&self, method: &Method, path: &str) -> Option<&Route> {
        let path = if path.len() > 1 { path.trim_end_matches('/') } else { path };
        self.find(path)?.routes.iter().find(|route| route.method == *method)
    }
}

impl Default for Router {
    /// Of the whole [`table`].
    fn default() -> Self {
        Self::new(table())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literal_segments_win() {
        let router = Router::default();
        let found = router.find("/indexes/a/documents/fetch").unwrap();
        assert_eq!(found.routes[0].path, "/indexes/{uid}/documents/fetch");
        let found = router.find("/indexes/a/documents/7").unwrap();
        assert_eq!(found.parameters, ["a", "7"]);
        let found = router.find("/%69ndexes/%61/search").unwrap();
        assert_eq!(found.parameters, ["%61"]);
        assert!(router.find("/nope").is_none());
        assert!(router.find("/indexes//search").is_none());
    }

    /// Every template finds itself, with all of its methods.
    #[test]
    fn every_route_is_found() {
        let router = Router::default();
        for route in table() {
            let path = route.path.replace(['{', '}'], "");
            let found = router.route(&route.method, &path).unwrap();
            assert_eq!((found.path, &found.method), (route.path, &route.method));
        }
    }

    #[test]
    fn no_route_is_there_twice() {
        let mut seen = std::collections::BTreeSet::new();
        for route in table() {
            assert!(seen.insert((route.method.to_string(), route.path)), "{route:?}");
        }
    }

    /// What routes change, but those of single settings. A pod that does not lead passes these on.
    const CHANGES: &[&str] = &[
        "POST /indexes",
        "POST /swap-indexes",
        "PATCH /indexes/{uid}",
        "DELETE /indexes/{uid}",
        "POST /indexes/{uid}/compact",
        "POST /indexes/{uid}/documents",
        "PUT /indexes/{uid}/documents",
        "DELETE /indexes/{uid}/documents",
        "POST /indexes/{uid}/documents/delete-batch",
        "POST /indexes/{uid}/documents/delete",
        "POST /indexes/{uid}/documents/edit",
        "DELETE /indexes/{uid}/documents/{id}",
        "PATCH /indexes/{uid}/settings",
        "DELETE /indexes/{uid}/settings",
        "DELETE /tasks",
        "POST /tasks/cancel",
        "POST /keys",
        "PATCH /keys/{key}",
        "DELETE /keys/{key}",
        "POST /dumps",
        "POST /snapshots",
        "POST /export",
        "PATCH /experimental-features",
        "POST /webhooks",
        "PATCH /webhooks/{uuid}",
        "DELETE /webhooks/{uuid}",
        "DELETE /dynamic-search-rules",
        "PATCH /dynamic-search-rules/{uid}",
        "DELETE /dynamic-search-rules/{uid}",
    ];

    #[test]
    fn these_routes_and_no_others_change_something() {
        let setting = |path: &str| path.starts_with("/indexes/{uid}/settings/");
        for route in table() {
            let name = format!("{} {}", route.method, route.path);
            let changes = if setting(route.path) {
                route.method != Method::GET
            } else {
                CHANGES.contains(&name.as_str())
            };
            assert_eq!(route.changes(), changes, "{name}");
        }
        let router = Router::default();
        for name in CHANGES {
            let (method, path) = name.split_once(' ').unwrap();
            let route = router.route(&method.parse().unwrap(), path);
            assert!(route.is_some_and(|route| route.path == path), "{name} is a route");
        }
    }
}
