//! `alias`: show, make, point elsewhere, delete.

use http::Method;
use serde_json::{Value, json};

use crate::cli::Alias;
use crate::client::{Client, encode};
use crate::error::{Code, CtlError};
use crate::output::{Cell, Output, Table};

const PATH: &str = "/_miroir/aliases";

pub(crate) async fn run(
    alias: Alias,
    client: &Client,
    output: &mut Output,
) -> Result<Code, CtlError> {
    let named = |name: &str| format!("{PATH}/{}", encode(name));
    let (answer, said) = match &alias {
        Alias::List => (client.get(PATH).await?, None),
        Alias::Get { name } => (client.get(&named(name)).await?, None),
        Alias::Create { name, targets } => {
            let mut body = pointing(targets);
            body["name"] = name.as_str().into();
            let answer = client.ask(Method::POST, PATH, Some(&body)).await?;
            (answer, Some(format!("{name} is an alias of {}", targets.join(", "))))
        }
        Alias::Set { name, targets } => {
            let answer = client.ask(Method::PUT, &named(name), Some(&pointing(targets))).await?;
            (answer, Some(format!("{name} points to {} now", targets.join(", "))))
        }
        Alias::Delete { name } => {
            let answer = client.ask(Method::DELETE, &named(name), None).await?;
            (answer, Some(format!("{name} is no alias any more; its index is untouched")))
        }
    };
    if output.json() {
        output.raw(&answer);
        return Ok(Code::Done);
    }
    match (said, alias) {
        (Some(said), _) => output.line(&said),
        (None, Alias::Get { .. }) => one(&answer.read()?, output),
        (None, _) => list(&answer.read()?, output),
    }
    Ok(Code::Done)
}

/// One index is a target, several are targets: an alias of another kind.
fn pointing(targets: &[String]) -> Value {
    match targets {
        [one] => json!({ "target": one }),
        several => json!({ "targets": several }),
    }
}

/// The rows of a list, however the answer wraps them.
pub(super) fn rows<'a>(answer: &'a Value, name: &str) -> &'a [Value] {
    let list = [&answer[name], &answer["results"], answer];
    list.into_iter().find_map(Value::as_array).map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(list) => list.iter().map(text).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

fn targets(alias: &Value) -> String {
    let several = &alias["target_uids"];
    let one = &alias["current_uid"];
    if several.as_array().is_some_and(|list| !list.is_empty()) { text(several) } else { text(one) }
}

/// Who may change it: operators, or the rollover policy it belongs to.
fn manager(alias: &Value) -> String {
    match &alias["managed_by"] {
        Value::Null => "operator".to_owned(),
        by => text(by),
    }
}

fn list(answer: &Value, output: &mut Output) {
    let rows = rows(answer, "aliases");
    if rows.is_empty() {
        output.line("no aliases");
        return;
    }
    let mut table = Table::new(&["ALIAS", "KIND", "POINTS TO", "VERSION", "MANAGER"]);
    for alias in rows {
        table.row([
            text(&alias["name"]).into(),
            text(&alias["kind"]).into(),
            targets(alias).into(),
            Cell::number(text(&alias["version"])),
            manager(alias).into(),
        ]);
    }
    output.table(&table);
}

fn one(alias: &Value, output: &mut Output) {
    let mut table = Table::plain();
    for (name, value) in [
        ("alias", text(&alias["name"])),
        ("kind", text(&alias["kind"])),
        ("points to", targets(alias)),
        ("version", text(&alias["version"])),
        ("manager", manager(alias)),
        ("created", text(&alias["created_at"])),
    ] {
        table.row([name.into(), value.into()]);
    }
    output.table(&table);
    let history = alias["history"].as_array().map_or(&[][..], Vec::as_slice);
    if history.is_empty() {
        return;
    }
    output.line("\nbefore:");
    for flip in history {
        match flip.as_object() {
            Some(fields) => {
                let fields = fields.iter().map(|(name, value)| format!("{name} {}", text(value)));
                output.line(&format!("  {}", fields.collect::<Vec<_>>().join(", ")));
            }
            None => output.line(&format!("  {}", text(flip))),
        }
    }
}
