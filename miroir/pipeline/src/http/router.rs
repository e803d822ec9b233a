//! Which rows of the route table a path belongs to.

use std::borrow::Cow;
use std::fmt;

use http::Method;
use indexmap::IndexMap;

use super::routes::Route;
use super::table::table;

/// A matched path.
#[derive(Clone, Debug)]
pub struct Matched<'a> {
    /// Its parameters, in order, still encoded but for letters, digits and `-_.~`.
    pub parameters: Vec<String>,
    /// The routes of this path, one per method; never empty.
    pub routes: &'a [Route],
}

/// The routes by path.
#[derive(Clone)]
pub struct Router(matchit::Router<Vec<Route>>);

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router").finish_non_exhaustive()
    }
}

/// The path with letters, digits and `-_.~` as they are: nobody has to escape them, but one may.
/// Other escapes stay, so that an escaped slash ends no segment; what only looks like the beginning of
/// one is escaped, so that it makes none with what comes after it.
fn normal(path: &str) -> Cow<'_, str> {
    if !path.contains('%') {
        return Cow::Borrowed(path);
    }
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        let byte = after.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match byte {
            Some(byte) if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) => {
                out.push(char::from(byte));
                rest = &after[2..];
            }
            Some(_) => {
                out.push('%');
                rest = after;
            }
            None => {
                out.push_str("%25");
                rest = after;
            }
        }
    }
    out.push_str(rest);
    Cow::Owned(out)
}

impl Router {
    /// Of these routes, in any order: literal segments win over parameters.
    ///
    /// # Panics
    /// If two paths differ in the names of their parameters only.
    pub fn new(table: Vec<Route>) -> Self {
        let mut paths: IndexMap<&'static str, Vec<Route>> = IndexMap::new();
        for route in table {
            paths.entry(route.path).or_default().push(route);
        }
        let mut router = matchit::Router::new();
        for (path, routes) in paths {
            router.insert(path, routes).expect("the paths of the table do not conflict");
        }
        Self(router)
    }

    /// The routes of a path, and its parameters; `None` if no route has it. Slashes at the end count.
    pub fn find(&self, path: &str) -> Option<Matched<'_>> {
        let path = normal(path);
        let found = self.0.at(&path).ok()?;
        // matchit takes an empty segment for a parameter.
        if found.params.iter().any(|(_, value)| value.is_empty()) {
            return None;
        }
        let parameters = found.params.iter().map(|(_, value)| value.to_owned()).collect();
        Some(Matched { parameters, routes: found.value })
    }

    /// The route of a request, if there is one. Slashes at the end of the path are ignored.
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
        assert_eq!(found.parameters, ["a"]);
        let found = router.find("/indexes/%2F%25%c3%a9%zz%/documents/%66etch").unwrap();
        assert_eq!(found.parameters, ["%2F%25%c3%a9%25zz%25"]);
        // What is unescaped makes no other escape.
        let twice = router.find("/indexes/%%3201/search").unwrap();
        assert_eq!(twice.parameters, ["%25201"]);
        assert_eq!(found.routes[0].path, "/indexes/{uid}/documents/fetch");
        for path in
            ["/nope", "", "/indexes//search", "/indexes/", "/indexes/a/documents/", "//indexes"]
        {
            assert!(router.find(path).is_none(), "{path}");
        }
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

    /// matchit decides segment by segment; the rule is that the fewest parameters win.
    #[test]
    fn a_path_finds_what_a_look_at_every_row_finds() {
        fn parameters(template: &str, path: &str) -> Option<usize> {
            let (template, path): (Vec<_>, Vec<_>) =
                (template.split('/').collect(), path.split('/').collect());
            let fits = |(wanted, given): (&&str, &&str)| wanted.starts_with('{') || wanted == given;
            (template.len() == path.len() && template.iter().zip(&path).all(fits))
                .then(|| template.iter().filter(|segment| segment.starts_with('{')).count())
        }
        let router = Router::default();
        let segments: std::collections::BTreeSet<&str> = table()
            .iter()
            .flat_map(|route| route.path.split('/'))
            .filter(|segment| !segment.is_empty() && !segment.starts_with('{'))
            .collect();
        for route in table() {
            for literal in &segments {
                let given = |segment: &'static str| {
                    if segment.starts_with('{') { *literal } else { segment }
                };
                let path: Vec<&str> = route.path.split('/').map(given).collect();
                let path = path.join("/");
                let fewest = table().iter().filter_map(|row| parameters(row.path, &path)).min();
                let found = router.find(&path).unwrap();
                assert_eq!(Some(found.parameters.len()), fewest, "{path}");
                assert_eq!(parameters(found.routes[0].path, &path), fewest, "{path}");
            }
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
