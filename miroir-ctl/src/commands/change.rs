//! What begins a change of the topology: its plan first, then the operation.

use http::Method;
use miroir_api::admin::{PlanView, StartedView};
use serde_json::Value;

use super::{clean, count, operation};
use crate::cli::Begin;
use crate::client::{Client, with_query};
use crate::error::{Code, CtlError};
use crate::output::{Cell, Output, Table, Tone, bytes};

/// The request that begins a change.
pub(super) struct Change {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) body: Option<Value>,
    /// What would happen, in words.
    pub(super) would: String,
}

/// Shows the plan of a change, and begins it if that is wanted.
pub(super) async fn begin(
    change: Change,
    begin: Begin,
    client: &Client,
    output: &mut Output,
) -> Result<Code, CtlError> {
    let Change { method, path, body, would } = change;
    let dry_run = with_query(&path, &[("dry_run", Some("true".to_owned()))]);
    let answer = client.ask(method.clone(), &dry_run, body.as_ref()).await?;
    let StartedView { plan, .. } = answer.read()?;
    match (output.json(), begin.dry_run) {
        (true, true) => output.raw(&answer),
        // What is begun is answered with its plan.
        (true, false) => {}
        (false, _) => show(&plan, output),
    }
    let blocker = plan.blockers.first();
    if begin.dry_run {
        return Ok(if blocker.is_some() { Code::Findings } else { Code::Done });
    }
    if let Some(blocker) = blocker {
        return Err(CtlError::finding(
            format!("the change cannot begin: {}", clean(blocker.trim_end_matches('.'))),
            "mend what the plan says, and give the command again",
        ));
    }
    if !begin.yes {
        return Err(CtlError::usage(
            format!("{would}: {}", amount(&plan)),
            "give --yes to begin it; it can be taken back (`miroir-ctl operation rollback`) until \
             its last phase",
        ));
    }
    let answer = match client.ask(method, &path, body.as_ref()).await {
        Err(error) if error.code() == Code::Connection => {
            output.note("the operation may have begun: see `miroir-ctl operation list`");
            return Err(error);
        }
        answer => answer?,
    };
    let StartedView { operation_id, .. } = answer.read()?;
    let id = operation_id.ok_or_else(|| {
        CtlError::new(
            Code::Refused,
            "the server did not say which operation it began",
            "see `miroir-ctl operation list`",
        )
    })?;
    if output.json() {
        output.raw(&answer);
    } else {
        output.line(&format!("operation {id} begins"));
    }
    if begin.wait {
        return operation::watch(&id, client, output).await;
    }
    if !output.json() {
        output.line(&format!("`miroir-ctl operation watch {id}` follows it"));
    }
    Ok(Code::Done)
}

/// What is copied in all.
fn amount(plan: &PlanView) -> String {
    if plan.shards == 0 {
        return "no shard to copy".to_owned();
    }
    format!(
        "{} to copy, about {}, {}",
        count(plan.shards, "replica of a shard", "replicas of shards"),
        count(usize::try_from(plan.documents).unwrap_or(usize::MAX), "document", "documents"),
        bytes(plan.bytes),
    )
}

fn show(plan: &PlanView, output: &mut Output) {
    let title = format!(", from version {} of the topology", plan.version);
    output.marked(&plan.operation, Tone::Heading, &title);
    if !plan.moves.is_empty() {
        let mut table = Table::new(&["INDEX", "TARGET", "SHARDS", "DOCUMENTS", "BYTES"]);
        for row in &plan.moves {
            table.row([
                row.index.as_str().into(),
                row.target.as_str().into(),
                Cell::number(row.shards.len()),
                Cell::number(row.documents),
                Cell::number(bytes(row.bytes)),
            ]);
        }
        output.table(&table);
    }
    output.line(&format!("in all: {}", amount(plan)));
    for blocker in &plan.blockers {
        output.marked("BLOCKED ", Tone::Bad, &clean(blocker));
    }
}
