//! `shadow diff`: what shadows answered differently.

use std::time::Duration;

use miroir_api::admin::{ShadowDiff, ShadowDiffs, ShadowHits, ShadowSide};
use tokio::time::sleep;

use super::clean;
use crate::cli::{Shadow, ShadowDiff as Arguments};
use crate::client::{Client, with_query};
use crate::error::{Code, CtlError};
use crate::output::{Cell, Output, Table, Tone, millis};

/// Between two looks with `--follow`.
const PAUSE: Duration = Duration::from_secs(1);

pub(crate) async fn run(
    shadow: Shadow,
    client: &Client,
    output: &mut Output,
) -> Result<Code, CtlError> {
    let Shadow::Diff(arguments) = shadow;
    let mut since = arguments.since;
    loop {
        let answer = client.get(&path(&arguments, since)).await?;
        let found: ShadowDiffs = answer.read()?;
        if output.json() {
            output.raw(&answer);
        } else {
            show(&found, output, !arguments.follow);
        }
        if !arguments.follow || output.is_broken() {
            return Ok(Code::Done);
        }
        since = Some(found.next_since_id);
        sleep(PAUSE).await;
    }
}

fn path(arguments: &Arguments, since: Option<u64>) -> String {
    with_query(
        "/_miroir/shadow/diff",
        &[
            ("target", arguments.target.clone()),
            ("kind", arguments.kind.map(|kind| kind.name().to_owned())),
            ("limit", Some(arguments.limit.to_string())),
            ("since_id", since.map(|id| id.to_string())),
        ],
    )
}

fn show(found: &ShadowDiffs, output: &mut Output, counts: bool) {
    if found.targets.is_empty() {
        output.line("no reads are repeated: `shadow.enabled` is false");
        return;
    }
    for diff in &found.diffs {
        one(diff, output);
    }
    if !counts {
        return;
    }
    if !found.diffs.is_empty() {
        output.line("");
    }
    let mut table = Table::new(&[
        "TARGET",
        "CHOSEN",
        "DROPPED",
        "COMPARED",
        "DIFFERENT",
        "HITS",
        "RANKING",
        "LATENCY",
        "ERROR",
    ]);
    for target in &found.targets {
        let kinds = target.kinds;
        let numbers = [
            target.sampled,
            target.dropped,
            target.compared,
            target.different,
            kinds.hits,
            kinds.ranking,
            kinds.latency,
            kinds.error,
        ];
        let name = Cell::from(target.target.as_str());
        table.row(std::iter::once(name).chain(numbers.map(Cell::number)));
    }
    output.table(&table);
}

fn one(diff: &ShadowDiff, output: &mut Output) {
    let kinds: Vec<&str> = diff.kinds.iter().map(|kind| kind.as_str()).collect();
    let body = match diff.request.body.as_str() {
        "" => String::new(),
        body => format!(" {}", clean(body)),
    };
    let more = if diff.request.truncated { " …" } else { "" };
    output.marked(
        &format!("#{}", diff.id),
        Tone::Heading,
        &format!(
            " {} {} {}: {} {}{}{more}",
            diff.at.get(..19).unwrap_or(&diff.at),
            diff.target,
            kinds.join(", "),
            diff.request.method,
            clean(&diff.request.path),
            body,
        ),
    );
    if let Some(hits) = &diff.hits {
        output.line(&format!("    {}", lists(hits)));
    }
    if let Some(tau) = diff.kendall_tau.filter(|tau| *tau < 1.0) {
        output.line(&format!("    order: tau {tau:.3}"));
    }
    output.line(&format!("    primary {}, shadow {}", side(&diff.primary), side(&diff.shadow)));
}

fn lists(hits: &ShadowHits) -> String {
    let part = |name: &str, count: usize, ids: &[String]| {
        let more = if count > ids.len() { ", …" } else { "" };
        (count > 0).then(|| format!("{name} {count} ({}{more})", clean(&ids.join(", "))))
    };
    [
        part("missing", hits.missing_count, &hits.missing),
        part("extra", hits.extra_count, &hits.extra),
        part("changed", hits.changed_count, &hits.changed),
    ]
    .into_iter()
    .flatten()
    .collect::<Vec<_>>()
    .join("; ")
}

fn side(side: &ShadowSide) -> String {
    let status = side.status.map_or_else(|| "no answer".to_owned(), |status| status.to_string());
    let error = side.error.as_ref().map_or_else(String::new, |error| format!(" {error}"));
    format!("{status}{error} in {}", millis(side.took_ms))
}
