//! `demo --check`: the sample queries against the cluster and against one plain node.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::compare::{self, Ranking};
use super::queries::{self, Kind, Query};
use super::{Corpus, INDEX};
use crate::cluster::NodeProgram;
use crate::http::{Client, Reply};
use crate::progress::Progress;
use crate::{Outcome, guard};

/// Differences printed in full.
const SHOWN: usize = 20;
/// Characters of one printed difference.
const WIDTH: usize = 400;

/// One row of the table.
#[derive(Debug, Default)]
struct Row {
    area: &'static str,
    queries: usize,
    equal: usize,
    reference: Duration,
    candidate: Duration,
}

/// Compares and prints; an error when anything differs.
pub(super) fn run(
    reference: &mut Client,
    candidate: &mut Client,
    corpus: &Corpus,
    program: &NodeProgram,
) -> Outcome<()> {
    let index = reference.get(&format!("/indexes/{INDEX}"))?.json();
    let key = index["primaryKey"].as_str().ok_or("the plain node found no primary key")?.to_owned();
    let all = match corpus.settings {
        Some(_) => queries::of_the_catalogue(),
        None => queries::of(&corpus.documents, &key),
    };
    let mut rows: Vec<Row> = Vec::new();
    let mut differences: Vec<(Query, Vec<String>)> = Vec::new();
    let mut bar = Progress::new("comparing", all.len());
    for (number, query) in all.into_iter().enumerate() {
        guard::check_stop()?;
        let mut times = [Duration::ZERO; 2];
        let found = compare_one(reference, candidate, &query, &key, corpus, &mut times)?;
        let at = rows.iter().position(|row| row.area == query.area).unwrap_or_else(|| {
            rows.push(Row { area: query.area, ..Row::default() });
            rows.len() - 1
        });
        let row = &mut rows[at];
        row.queries += 1;
        row.equal += usize::from(found.is_empty());
        row.reference += times[0];
        row.candidate += times[1];
        if !found.is_empty() {
            differences.push((query, found));
        }
        bar.set(number + 1);
    }
    drop(bar);
    print_table(&rows);
    println!("nodes: {}", program.describe());
    for (query, found) in differences.iter().take(SHOWN) {
        let body = query.body.as_ref().map_or(String::new(), Value::to_string);
        println!("\n{} {} {body}", query.method, query.path);
        for difference in found {
            println!("  {}", cut(difference));
        }
    }
    let total: usize = rows.iter().map(|row| row.queries).sum();
    if differences.is_empty() {
        println!("all {total} answers are those of one plain node");
        Ok(())
    } else {
        Err(format!("{} of {total} answers differ from one plain node", differences.len()).into())
    }
}

fn compare_one(
    reference: &mut Client,
    candidate: &mut Client,
    query: &Query,
    key: &str,
    corpus: &Corpus,
    times: &mut [Duration; 2],
) -> Outcome<Vec<String>> {
    if let Kind::Walk(size) = query.kind {
        return walk(candidate, query, key, size, corpus.documents.len());
    }
    let left = timed(reference, query, &mut times[0])?;
    let right = timed(candidate, query, &mut times[1])?;
    match &query.kind {
        Kind::Search => {
            compare::searches(&left, &right, key, || complete_ranking(reference, query, key))
        }
        Kind::List(fields) => Ok(compare::lists(&left, &right, key, fields)),
        Kind::Exact | Kind::Walk(_) => Ok(compare::exact(&left, &right)),
    }
}

fn timed(client: &mut Client, query: &Query, time: &mut Duration) -> Outcome<Reply> {
    let start = Instant::now();
    let reply = match &query.body {
        Some(body) => client.json(query.method, &query.path, body)?,
        None => client.send(query.method, &query.path, None)?,
    };
    *time = start.elapsed();
    Ok(reply)
}

/// The query again, for all hits and with the reasons of their order.
fn complete_ranking(reference: &mut Client, query: &Query, key: &str) -> Outcome<Ranking> {
    let reply = if let Some(body) = &query.body {
        let mut body = body.clone();
        if let Some(fields) = body.as_object_mut() {
            let apart = ["page", "hitsPerPage", "facets", "attributesToHighlight"];
            fields.retain(|name, _| !apart.contains(&name.as_str()));
        }
        body["offset"] = json!(0);
        body["limit"] = json!(10_000);
        body["attributesToRetrieve"] = json!([key]);
        body["showRankingScoreDetails"] = json!(true);
        reference.json(query.method, &query.path, &body)?
    } else {
        let kept: Vec<&str> =
            query.path.split('&').filter(|part| !part.starts_with("limit=")).collect();
        let more = "&limit=10000&showRankingScoreDetails=true";
        reference.get(&format!("{}{more}", kept.join("&")))?
    };
    Ok(compare::ranking(&reply, key))
}

/// Reads all pages; the query's path ends where the size of a page belongs.
fn walk(
    client: &mut Client,
    query: &Query,
    key: &str,
    size: usize,
    total: usize,
) -> Outcome<Vec<String>> {
    let mut seen = BTreeSet::new();
    let mut shown = 0;
    for page in 0..=total / size + 1 {
        guard::check_stop()?;
        let place = if query.path.ends_with("hitsPerPage=") {
            format!("&page={}", page + 1)
        } else {
            format!("&offset={}", page * size)
        };
        let reply = client.get(&format!("{}{size}{place}", query.path))?;
        let answer = reply.json();
        let Some(list) = answer["hits"].as_array().or(answer["results"].as_array()) else {
            return Ok(vec![format!("page {page}: {} {}", reply.status, reply.text())]);
        };
        shown += list.len();
        seen.extend(compare::ids(list, key));
        if list.is_empty() {
            break;
        }
    }
    if shown == total && seen.len() == total {
        return Ok(Vec::new());
    }
    Ok(vec![format!("the pages show {shown} hits, {} of {total} documents", seen.len())])
}

fn print_table(rows: &[Row]) {
    let average = |time: Duration, count: usize| time.as_secs_f64() * 1_000.0 / count.max(1) as f64;
    println!(
        "{:<16} {:>7} {:>6} {:>9} {:>14} {:>14}",
        "area", "queries", "equal", "different", "one node, ms", "Miroir, ms"
    );
    for row in rows {
        println!(
            "{:<16} {:>7} {:>6} {:>9} {:>14.1} {:>14.1}",
            row.area,
            row.queries,
            row.equal,
            row.queries - row.equal,
            average(row.reference, row.queries),
            average(row.candidate, row.queries),
        );
    }
}

fn cut(text: &str) -> String {
    if text.chars().count() <= WIDTH {
        text.to_owned()
    } else {
        text.chars().take(WIDTH).chain(" …".chars()).collect()
    }
}
