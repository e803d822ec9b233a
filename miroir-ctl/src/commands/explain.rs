//! `explain`: how a search would be carried out.

use std::io::Read;
use std::path::Path;

use http::Method;
use serde_json::{Map, Value};

use crate::cli::Explain;
use crate::client::{Client, encode};
use crate::error::{Code, CtlError};
use crate::output::{Cell, Output, Table, Tone};

pub(crate) async fn run(
    explain: Explain,
    client: &Client,
    output: &mut Output,
) -> Result<Code, CtlError> {
    let mut body = explain.body.as_deref().map(read).transpose()?.unwrap_or_default();
    if let Some(query) = &explain.query {
        body.insert("q".to_owned(), query.as_str().into());
    }
    if let Some(filter) = &explain.filter {
        body.insert("filter".to_owned(), filter.as_str().into());
    }
    let execute = if explain.execute { "?execute=true" } else { "" };
    let path = format!("/indexes/{}/explain{execute}", encode(&explain.index));
    let answer = client.ask(Method::POST, &path, Some(&Value::Object(body))).await?;
    if output.json() {
        output.raw(&answer);
        return Ok(Code::Done);
    }
    show(&answer.read()?, output);
    Ok(Code::Done)
}

fn read(path: &Path) -> Result<Map<String, Value>, CtlError> {
    let text = if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(path)
    };
    let remedy = "give --body a file with the JSON of a search, or - for standard input";
    let text = text.map_err(|error| {
        CtlError::usage(format!("{} cannot be read: {error}", path.display()), remedy)
    })?;
    serde_json::from_str(&text).map_err(|error| {
        CtlError::usage(format!("{} is no JSON object: {error}", path.display()), remedy)
    })
}

/// The plan has more fields with every version: those without words of their own are shown as they
/// are called.
fn show(explained: &Value, output: &mut Output) {
    let mut table = Table::plain();
    let mut row = |name: &str, text: String| table.row([name.into(), text.into()]);
    if let Some(uid) = explained["resolved_uid"].as_str() {
        row("index", uid.to_owned());
    }
    let empty = Map::new();
    let plan = explained["plan"].as_object().unwrap_or(&empty);
    for (name, value) in plan {
        match (name.as_str(), value) {
            ("target_nodes", _) | (_, Value::Null) => {}
            ("alias_resolution", alias) if alias.is_object() => row(
                "alias",
                format!(
                    "{} -> {} (version {})",
                    word(&alias["from"]),
                    word(&alias["to"]),
                    alias["version"]
                ),
            ),
            ("chosen_group", group) if group.is_object() => {
                row("group", format!("{}: {}", group["id"], word(&group["reason"])));
            }
            ("target_shards", Value::Array(shards)) => row("shards", ranges(shards)),
            (name, Value::Bool(yes)) => {
                row(&name.replace('_', " "), if *yes { "yes" } else { "no" }.to_owned());
            }
            (name, value) if name.ends_with("_ms") => {
                row(&name[..name.len() - 3].replace('_', " "), format!("{value} ms"));
            }
            (name, value) => row(&name.replace('_', " "), word(value)),
        }
    }
    output.table(&table);
    nodes(&plan.get("target_nodes").cloned().unwrap_or_default(), output);
    for warning in explained["warnings"].as_array().into_iter().flatten() {
        let text = warning["message"].as_str().map_or_else(|| word(warning), str::to_owned);
        output.marked("warning", Tone::Doubtful, &format!(": {text}"));
    }
    if let Some(why) = explained["withheld"].as_str() {
        output.line(why);
    }
    if let Some(result) = explained.get("result").filter(|result| !result.is_null()) {
        let hits = result["hits"].as_array().map_or(0, Vec::len);
        output.line(&format!("carried out: {hits} hits in {} ms", result["processingTimeMs"]));
    }
}

fn word(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Which node answers for which shards.
fn nodes(nodes: &Value, output: &mut Output) {
    let mut by_node: Vec<(String, Vec<Value>)> = Vec::new();
    for (shard, node) in nodes.as_object().into_iter().flatten() {
        let shard: Value = shard.parse::<u64>().map_or_else(|_| shard.as_str().into(), Into::into);
        let node = word(node);
        match by_node.iter_mut().find(|(name, _)| *name == node) {
            Some((_, shards)) => shards.push(shard),
            None => by_node.push((node, vec![shard])),
        }
    }
    if by_node.is_empty() {
        return;
    }
    by_node.sort_by(|a, b| a.0.cmp(&b.0));
    let mut table = Table::new(&["NODE", "SHARDS"]);
    for (node, shards) in &by_node {
        table.row([Cell::from(node.as_str()), ranges(shards).into()]);
    }
    output.line("");
    output.table(&table);
}

/// `0-3, 7`.
fn ranges(shards: &[Value]) -> String {
    let mut numbers: Vec<u64> = shards.iter().filter_map(Value::as_u64).collect();
    numbers.sort_unstable();
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 >= number => *last = number,
            _ => runs.push((number, number)),
        }
    }
    let run = |(first, last): &(u64, u64)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    runs.iter().map(run).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn shards_in_a_row_are_shown_as_a_range() {
        let list = json!([3, 1, 2, 7, 9, 10]);
        assert_eq!(ranges(list.as_array().unwrap()), "1-3, 7, 9-10");
        assert_eq!(ranges(&[]), "");
    }
}
