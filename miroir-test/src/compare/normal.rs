//! Answers without what may differ between two servers that are the same.
//!
//! Uids are those of the reference ([`Pairs::common`]); times, durations, sizes and what a server says of
//! its own work become a word if they are what they should be, and stay otherwise, so that a wrong one is
//! seen. Documents, hits and settings
//! are the clients' and stay as they are. What is in a batch depends on how many tasks a server found
//! waiting: of batches the fields and their types are left.

use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use super::pairs::{Kind, Pairs};
use super::route;
use super::side::Side;

/// Fields that hold a time.
const TIMES: [&str; 8] = [
    "enqueuedAt",
    "startedAt",
    "finishedAt",
    "createdAt",
    "updatedAt",
    "lastUpdate",
    "lastUpdatedAt",
    "commitDate",
];
/// Fields that hold a size on disk.
const SIZES: [&str; 6] = [
    "databaseSize",
    "usedDatabaseSize",
    "rawDocumentDbSize",
    "avgDocumentSize",
    "preCompactionSize",
    "postCompactionSize",
];

/// What the body of an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Area {
    /// An error: only its message has something of one side.
    Error,
    /// Searches, and lists of them.
    Searches,
    /// Batches.
    Batches,
    /// Documents, settings: the clients' own.
    Clients,
    /// What a server says about itself: tasks, indexes, keys, statistics.
    Server,
}

fn area(template: &str, status: u16, body: &Value) -> Area {
    let searches = ["/search", "/facet-search", "/similar", "/multi-search"];
    if status >= 400 && body["code"].is_string() {
        Area::Error
    } else if body["taskUid"].is_u64() && status < 300 {
        Area::Server
    } else if searches.iter().any(|end| template.ends_with(end)) {
        Area::Searches
    } else if template.starts_with("/batches") {
        Area::Batches
    } else if template.contains("/documents") || template.contains("/settings") {
        Area::Clients
    } else {
        Area::Server
    }
}

/// The body of an answer of `side` to a request to `template`.
pub fn normal(template: &str, status: u16, body: &Value, side: Side, pairs: &Pairs) -> Value {
    let view = View { template, side, pairs };
    match area(template, status, body) {
        Area::Error => view.error(body),
        Area::Searches => searches(body),
        Area::Batches => batches(body),
        Area::Clients => body.clone(),
        Area::Server if template == "/webhooks" => by_name(view.fields(body)),
        Area::Server => view.fields(body),
    }
}

/// Webhooks come in the order of their uuids, which each side makes up.
fn by_name(mut list: Value) -> Value {
    if let Some(all) = list["results"].as_array_mut() {
        all.sort_by_key(|one| one["uuid"].to_string());
    }
    list
}

struct View<'a> {
    template: &'a str,
    side: Side,
    pairs: &'a Pairs,
}

impl View<'_> {
    fn fields(&self, value: &Value) -> Value {
        match value {
            Value::Array(all) => all.iter().map(|one| self.fields(one)).collect(),
            Value::Object(fields) => {
                let each = fields.iter().map(|(name, one)| (name.clone(), self.field(name, one)));
                Value::Object(each.collect::<Map<_, _>>())
            }
            other => other.clone(),
        }
    }

    fn field(&self, name: &str, value: &Value) -> Value {
        let tasks = self.template.starts_with("/tasks");
        let text = value.as_str();
        match name {
            "taskUid" | "canceledBy" => self.uid(value),
            "uid" | "from" | "next" if tasks => self.uid(value),
            "batchUid" if value.is_u64() => json!("<batch>"),
            "uid" if self.template.starts_with("/keys") => self.name(Kind::KeyUid, value),
            "key" if self.template.starts_with("/keys") => self.name(Kind::Key, value),
            "uuid" => self.name(Kind::Webhook, value),
            "internalDatabaseSizes" if value.is_object() => json!("<object>"),
            "duration" if text.is_some_and(is_duration) => json!("<duration>"),
            "dumpUid" if text.is_some() => json!("<dump>"),
            "commitSha" if text.is_some() => json!("<sha>"),
            "originalFilter" if tasks => text.map_or(value.clone(), |text| self.filter(text)),
            "message" => text.map_or(value.clone(), |text| json!(self.message(text))),
            "error" => value.as_object().map_or(value.clone(), |_| self.error(value)),
            _ if TIMES.contains(&name) && text.is_some_and(is_time) => json!("<time>"),
            _ if SIZES.contains(&name) && is_size(value) => json!("<size>"),
            _ => self.fields(value),
        }
    }

    fn error(&self, body: &Value) -> Value {
        let mut out = body.clone();
        if let Some(message) = body["message"].as_str() {
            out["message"] = json!(self.message(message));
        }
        out
    }

    /// The uid of a task.
    fn uid(&self, value: &Value) -> Value {
        if !value.is_u64() {
            return value.clone();
        }
        match self.pairs.common(self.side, Kind::Task, &value.to_string()) {
            Some(uid) => json!(format!("<task {uid}>")),
            None => json!("<a task>"),
        }
    }

    fn name(&self, kind: Kind, value: &Value) -> Value {
        let common = value.as_str().and_then(|text| self.pairs.common(self.side, kind, text));
        common.map_or_else(|| value.clone(), |name| json!(name))
    }

    /// The filter of a deletion or cancelation of tasks: a query.
    fn filter(&self, text: &str) -> Value {
        let query = text.strip_prefix('?');
        match (self.side, query) {
            (Side::Candidate, Some(query)) => {
                let own = route::renamed_query(query, Kind::Task, self.side, self.pairs);
                json!(format!("?{own}"))
            }
            _ => json!(text),
        }
    }

    /// A message with what stands between backticks in the reference's names.
    fn message(&self, text: &str) -> String {
        let kinds = [Kind::Key, Kind::KeyUid, Kind::Webhook];
        let parts = text.split('`').enumerate().map(|(at, part)| {
            if at % 2 == 0 {
                return part.to_owned();
            }
            if part.len() >= 10 && part.bytes().all(|byte| byte.is_ascii_digit()) {
                return "<seconds>".to_owned();
            }
            // Of a webhook that was refused.
            if self.template == "/webhooks" && Uuid::parse_str(part).is_ok() {
                return "<uuid>".to_owned();
            }
            let tasks = self.template.starts_with("/tasks").then_some(Kind::Task);
            let mut kinds = kinds.into_iter().chain(tasks);
            let common = kinds.find_map(|kind| self.pairs.common(self.side, kind, part));
            common.unwrap_or(part).to_owned()
        });
        parts.collect::<Vec<_>>().join("`")
    }
}

/// A search, or a list of them.
fn searches(body: &Value) -> Value {
    let Value::Object(fields) = body else { return body.clone() };
    let uuid = |value: &Value| {
        if value.as_str().is_some_and(|text| Uuid::parse_str(text).is_ok()) {
            json!("<uuid>")
        } else {
            value.clone()
        }
    };
    let metadata = |one: &Value| {
        let mut one = one.clone();
        for name in ["queryUid", "requestUid"] {
            if !one[name].is_null() {
                one[name] = uuid(&one[name]);
            }
        }
        one
    };
    let each = fields.iter().map(|(name, value)| {
        let value = match (name.as_str(), value) {
            ("processingTimeMs", Value::Number(time)) if time.is_u64() => json!("<ms>"),
            ("requestUid", value) => uuid(value),
            ("performanceDetails", Value::Object(_)) => json!("<object>"),
            ("metadata", Value::Array(all)) => all.iter().map(metadata).collect(),
            ("metadata", one) if one.is_object() => metadata(one),
            ("results", Value::Array(all)) => all.iter().map(searches).collect(),
            (_, value) => value.clone(),
        };
        (name.clone(), value)
    });
    Value::Object(each.collect())
}

/// The fields of batches, and their types.
fn batches(body: &Value) -> Value {
    let Value::Object(fields) = body else { return body.clone() };
    let shape = |value: &Value| match value {
        Value::Null | Value::Number(_) => json!("<number or null>"),
        Value::String(_) => json!("<text>"),
        Value::Bool(_) => json!("<bool>"),
        Value::Array(_) => json!("<list>"),
        Value::Object(_) => json!("<object>"),
    };
    let each = fields.iter().map(|(name, value)| {
        // None while a batch has not ended; which of two sides has is of no interest.
        let ends = matches!(name.as_str(), "finishedAt" | "duration" | "progress");
        (name.clone(), if ends { json!("<text or null>") } else { shape(value) })
    });
    Value::Object(each.collect())
}

fn is_time(text: &str) -> bool {
    OffsetDateTime::parse(text, &Rfc3339).is_ok()
}

/// An ISO 8601 duration, as `PT0.0123S`.
fn is_duration(text: &str) -> bool {
    text.strip_prefix('P').is_some_and(|rest| {
        rest.ends_with(['S', 'M', 'H', 'D'])
            && rest.chars().all(|one| one.is_ascii_digit() || "TDHMS.".contains(one))
    })
}

/// A number of bytes, or the same for people.
fn is_size(value: &Value) -> bool {
    value.is_number()
        || value.as_str().is_some_and(|text| text.starts_with(|one: char| one.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(template: &str, status: u16, reference: &Value, candidate: &Value) -> [Value; 2] {
        let mut pairs = Pairs::default();
        pairs.learn(Kind::Task, "3", "40");
        pairs.learn(Kind::Key, "abc", "def");
        [(Side::Reference, reference), (Side::Candidate, candidate)]
            .map(|(side, body)| normal(template, status, body, side, &pairs))
    }

    #[test]
    fn tasks_are_equal_but_for_their_uids_and_times() {
        let task = |uid: u64, batch: u64, second: u64| {
            json!({
                "uid": uid, "batchUid": batch, "status": "succeeded", "canceledBy": null,
                "duration": format!("PT0.{second}S"), "details": {"originalFilter": null},
                "enqueuedAt": format!("2026-01-01T00:00:0{second}Z"),
            })
        };
        let [one, other] = both("/tasks/{uid}", 200, &task(3, 1, 1), &task(40, 2, 5));
        assert_eq!(one, other);
        assert_eq!(one["uid"], "<task 3>");
        let [one, other] = both("/tasks/{uid}", 200, &task(3, 1, 1), &task(41, 2, 5));
        assert_ne!(one, other);
    }

    #[test]
    fn a_time_that_is_none_stays() {
        let [one, other] = both(
            "/indexes/{uid}",
            200,
            &json!({"createdAt": "2026-01-01T00:00:00Z", "uid": "a"}),
            &json!({"createdAt": "soon", "uid": "a"}),
        );
        assert_eq!(one, json!({"createdAt": "<time>", "uid": "a"}));
        assert_eq!(other["createdAt"], "soon");
    }

    #[test]
    fn documents_hits_and_settings_are_the_clients_own() {
        let document = json!({"createdAt": "2026-01-01T00:00:00Z", "uid": 3, "taskUid": null});
        assert_eq!(both("/indexes/{uid}/documents/{id}", 200, &document, &document)[0], document);
        let search = json!({"hits": [document], "processingTimeMs": 3, "requestUid": "x"});
        let [one, _] = both("/indexes/{uid}/search", 200, &search, &search);
        assert_eq!(one["hits"], search["hits"]);
        assert_eq!(one["processingTimeMs"], "<ms>");
        assert_eq!(one["requestUid"], "x");
    }

    #[test]
    fn messages_and_filters_have_the_references_names() {
        let error = |uid: &str| json!({"message": format!("Task `{uid}` not found."), "code": "c"});
        let [one, other] = both("/tasks/{uid}", 404, &error("3"), &error("40"));
        assert_eq!(one, other);
        let error =
            |key: &str| json!({"message": format!("API key `{key}` not found."), "code": "c"});
        let [one, other] = both("/keys/{uid}", 404, &error("abc"), &error("def"));
        assert_eq!(one, other);
        let task = |uids: &str| json!({"details": {"originalFilter": format!("?uids={uids}")}});
        let [one, other] = both("/tasks", 200, &task("3,7"), &task("40,7"));
        assert_eq!(one, other);
    }

    #[test]
    fn webhooks_come_in_any_order() {
        let hook = |uuid: &str| json!({"uuid": uuid, "url": "u", "isEditable": true});
        let mut pairs = Pairs::default();
        pairs.learn(Kind::Webhook, "a", "y");
        pairs.learn(Kind::Webhook, "b", "x");
        let list = |hooks: [Value; 2]| json!({"results": hooks});
        let one = list([hook("a"), hook("b")]);
        let other = list([hook("x"), hook("y")]);
        let told = |body, side| normal("/webhooks", 200, body, side, &pairs);
        assert_eq!(told(&one, Side::Reference), told(&other, Side::Candidate));
    }

    #[test]
    fn durations_and_sizes_have_their_forms() {
        assert!(is_duration("PT0.012345S") && is_duration("P1DT2H"));
        assert!(!is_duration("1s") && !is_duration("P"));
        assert!(is_size(&json!(3)) && is_size(&json!("3 KiB")) && !is_size(&json!("none")));
    }
}
