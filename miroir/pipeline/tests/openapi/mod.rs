//! The OpenAPI description of the client API: paths, methods, key actions and what differs from
//! the route table; parameters and bodies from `parts.json`, which is written by hand.

use miroir_pipeline::http::{
    routes::{Action, Route, Treatment},
    table,
};
use serde_json::{Map, Value, json};

fn parts() -> Value {
    serde_json::from_str(include_str!("parts.json")).unwrap()
}

/// What a route is described as.
fn operation(route: &Route, parts: &Value) -> Value {
    let known = &parts["operations"][format!("{} {}", route.method, route.path)];
    let mut parameters = Vec::new();
    for name in route.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')) {
        let schema = match (route.path.starts_with("/indexes/"), name) {
            (true, "uid") => json!({"$ref": "#/components/schemas/IndexUid"}),
            _ => json!({"type": "string", "minLength": 1, "examples": ["1"]}),
        };
        parameters.push(json!({"name": name, "in": "path", "required": true, "schema": schema}));
    }
    for (name, schema) in known["parameters"].as_object().into_iter().flatten() {
        parameters.push(json!({"name": name, "in": "query", "schema": schema}));
    }
    let mut description = format!("Served: {}.", route.treatment.as_str());
    if !route.note.is_empty() {
        description = format!("{description} What differs from one node: {}.", route.note);
    }
    let done = if route.treatment == Treatment::Refused { "501" } else { "2XX" };
    let mut out = json!({
        "operationId": id(route),
        "description": description,
        "parameters": parameters,
        "responses": {
            done: {"description": "As one Meilisearch answers, but for what the description says."},
            "4XX": {
                "description": "A refusal.",
                "content": {
                    "application/json": {"schema": {"$ref": "#/components/schemas/Error"}}
                },
            },
        },
    });
    if route.actions.is_empty() {
        out["security"] = json!([]);
    } else {
        out["x-key-actions"] = json!(route.actions);
    }
    let body = match &route.action {
        Action::SettingsChange(Some(name)) if route.method != http::Method::DELETE => {
            json!({"application/json": {"schema": parts["settings"][name]}})
        }
        _ => known["body"].clone(),
    };
    if !body.is_null() {
        out["requestBody"] = json!({"required": true, "content": body});
    }
    out
}

/// `get_indexes_uid_documents`: a name for generated clients.
fn id(route: &Route) -> String {
    let words = route.path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty());
    let mut out = route.method.as_str().to_lowercase();
    for word in words {
        out.push('_');
        out.push_str(word);
    }
    out
}

/// The whole description.
pub(crate) fn document() -> Value {
    let parts = parts();
    let mut paths = Map::new();
    for route in table() {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.as_str().to_lowercase()] = operation(&route, &parts);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Miroir",
            "description": "The API of Meilisearch 1.50 as a cluster serves it. Written by `cargo \
                            xtask docs` from the route table.",
            "license": {"name": "MIT"},
            "version": env!("CARGO_PKG_VERSION"),
        },
        "servers": [{"url": "http://localhost:7700"}],
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "schemas": parts["schemas"],
        },
    })
}

#[test]
fn parts_are_of_routes_that_exist() {
    let rows: Vec<String> = table().iter().map(|r| format!("{} {}", r.method, r.path)).collect();
    let parts = parts();
    for name in parts["operations"].as_object().unwrap().keys() {
        assert!(rows.contains(name), "{name}");
    }
    for route in table() {
        if let Action::SettingsChange(Some(name)) = &route.action {
            assert!(parts["settings"].get(name).is_some(), "{name}");
        }
    }
}

#[test]
fn operations_have_names_of_their_own() {
    let mut seen = std::collections::BTreeSet::new();
    for route in table() {
        assert!(seen.insert(id(&route)), "{}", id(&route));
    }
}
