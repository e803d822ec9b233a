//! Playing a script on one server.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::judge::Played;
use super::script::{INDEXES, Script, letters};
use crate::guard;
use crate::http::{Client, Reply};
use crate::{Failure, Outcome};

/// How long the tasks of a script may take.
const LIMIT: Duration = Duration::from_mins(3);
/// Settings that scripts change.
const SETTINGS: [&str; 5] = [
    "displayedAttributes",
    "searchableAttributes",
    "filterableAttributes",
    "stopWords",
    "synonyms",
];

/// Plays a script under names of its own, and looks at what became of it. `waits`: every change is sent
/// when the one before has ended.
pub(super) fn play(
    client: &mut Client,
    script: &Script,
    run: &str,
    waits: bool,
) -> Outcome<Played> {
    let names = letters().map(|letter| format!("{run}{letter}"));
    for request in script.first(&names) {
        let reply = send(client, &request)?;
        let uid = reply.json()["taskUid"].as_u64();
        let uid = uid.ok_or_else(|| format!("{request:?} answered {}", reply.text()))?;
        let task = ended(client, uid)?;
        if task["status"] != "succeeded" {
            return Err(format!("{request:?} did not succeed: {task}").into());
        }
    }
    let requests: Vec<_> = script.changes.iter().map(|change| change.request(&names)).collect();
    let mut replies = Vec::new();
    for request in &requests {
        let reply = send(client, request)?;
        if let Some(uid) = reply.json()["taskUid"].as_u64().filter(|_| waits) {
            ended(client, uid)?;
        }
        replies.push(reply);
    }
    let mut out = Played::new();
    let mut tasks = Vec::new();
    for (number, reply) in replies.iter().enumerate() {
        let body = reply.json();
        let answer = json!({"status": reply.status, "code": body["code"], "type": body["type"]});
        out.insert(format!("answer {number}"), answer);
        if let Some(uid) = body["taskUid"].as_u64() {
            ended(client, uid)?;
            tasks.push((number, uid));
        }
    }
    // Only now: a swap changes the index of tasks that had ended before it.
    for (number, uid) in tasks {
        out.insert(format!("task {number}"), seen(&ended(client, uid)?, &names));
    }
    for (name, letter) in names.iter().zip(letters()) {
        out.insert(format!("index {letter}"), index(client, name)?);
    }
    tidy_up(client, &names)?;
    Ok(out)
}

fn send(client: &mut Client, (method, path, body): &super::script::Request) -> Outcome<Reply> {
    guard::check_stop()?;
    Ok(match body {
        Some(body) => client.json(method, path, body)?,
        None => client.send(method, path, None)?,
    })
}

/// A task, once it has ended.
fn ended(client: &mut Client, uid: u64) -> Outcome<Value> {
    let mut task = Value::Null;
    let there = guard::wait_until(LIMIT, || {
        let reply = client.get(&format!("/tasks/{uid}"))?;
        task = reply.json();
        match task["status"].as_str() {
            Some("enqueued" | "processing") => Ok(false),
            Some(_) => Ok(true),
            None => Err(Failure::Message(format!("task {uid}: {}", reply.text()))),
        }
    })?;
    if there { Ok(task) } else { Err(format!("task {uid} does not end: {task}").into()) }
}

/// What of a task has to be the same everywhere: neither numbers of tasks nor times nor names, nor how
/// many documents it wrote or deleted. Those were others' where a node worked several tasks off at once:
/// documents whose index a later task of the batch deletes are never indexed.
fn seen(task: &Value, names: &[String; INDEXES]) -> Value {
    let index = task["indexUid"].as_str().map(|uid| letter(uid, names));
    let mut details = renamed(&task["details"], names);
    if let Some(fields) = details.as_object_mut() {
        fields.retain(|name, _| name != "indexedDocuments" && name != "deletedDocuments");
    }
    json!({
        "type": task["type"], "status": task["status"], "code": task["error"]["code"],
        "index": index, "details": details,
    })
}

fn letter(uid: &str, names: &[String; INDEXES]) -> String {
    let at = names.iter().position(|name| name == uid);
    at.map_or_else(|| uid.to_owned(), |at| letters()[at].clone())
}

/// A value with the names of indexes replaced by their letters.
fn renamed(value: &Value, names: &[String; INDEXES]) -> Value {
    match value {
        Value::String(text) => Value::String(letter(text, names)),
        Value::Array(all) => all.iter().map(|one| renamed(one, names)).collect(),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, one)| (name.clone(), renamed(one, names)));
            Value::Object(fields.collect::<Map<_, _>>())
        }
        other => other.clone(),
    }
}

/// What an index is; `null` if there is none.
fn index(client: &mut Client, name: &str) -> Outcome<Value> {
    let found = client.get(&format!("/indexes/{name}"))?;
    if found.status == 404 {
        return Ok(Value::Null);
    }
    let path = format!("/indexes/{name}/documents?limit=1000");
    let documents = client.get(&path)?;
    let settings = client.get(&format!("/indexes/{name}/settings"))?.json();
    let all = documents.json();
    let all = all["results"].as_array();
    let mut all = all.ok_or_else(|| format!("{path} answered {}", documents.text()))?.clone();
    // A node lists them by the internal number, which is nothing a client can know.
    all.sort_by_key(sorted);
    let settings: Map<String, Value> =
        SETTINGS.iter().map(|name| ((*name).to_owned(), settings[name].clone())).collect();
    let key = &found.json()["primaryKey"];
    Ok(json!({"primaryKey": key, "documents": all, "settings": settings}))
}

/// A document as text that does not depend on the order of its fields.
fn sorted(document: &Value) -> String {
    let mut fields: Vec<String> = document
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    fields.sort();
    fields.join(", ")
}

/// Deletes what the script left. Nobody waits for it: no other script has these names.
fn tidy_up(client: &mut Client, names: &[String; INDEXES]) -> Outcome<()> {
    for name in names {
        client.send("DELETE", &format!("/indexes/{name}"), None)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_are_told_without_numbers_and_names() {
        let names = ["1x", "1y", "1z"].map(str::to_owned);
        let task = json!({
            "uid": 5, "indexUid": "1x", "type": "indexSwap", "status": "failed",
            "details": {"deletedDocuments": 1, "swaps": [{"indexes": ["1x", "1z"]}]}, "error": {"code": "c", "message": "m"},
        });
        let told = seen(&task, &names);
        assert_eq!(told["index"], "x");
        assert_eq!(told["code"], "c");
        assert_eq!(told["details"], json!({"swaps": [{"indexes": ["x", "z"]}]}));
    }

    #[test]
    fn documents_are_ordered_whatever_the_order_of_their_fields() {
        assert_eq!(sorted(&json!({"b": 1, "a": 2})), sorted(&json!({"a": 2, "b": 1})));
    }
}
