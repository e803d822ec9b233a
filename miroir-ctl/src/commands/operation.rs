//! `operation`: changes of the topology that are under way, and those that have ended.

use std::time::Duration;

use http::Method;
use miroir_api::admin::{OperationView, OperationsView, ReasonView};
use tokio::time::{Instant, sleep};

use super::clean;
use crate::cli::Operation;
use crate::client::{Answer, Client, encode};
use crate::error::{Code, CtlError};
use crate::output::{Cell, Output, Table, Tone};

const PATH: &str = "/_miroir/operations";
/// Between two looks at an operation.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a server may answer nothing while an operation is followed: another pod may have to lead.
const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) async fn run(
    operation: Operation,
    client: &Client,
    output: &mut Output,
) -> Result<Code, CtlError> {
    match operation {
        Operation::List => list(client, output).await,
        Operation::Show { id } => show(&id, client, output).await,
        Operation::Pause { id } => {
            tell(&id, "pause", "is paused: `operation resume` has it go on", client, output).await
        }
        Operation::Resume { id } => tell(&id, "resume", "goes on", client, output).await,
        Operation::Rollback { id } => {
            tell(&id, "rollback", "is taken back: `operation watch` follows it", client, output)
                .await
        }
        Operation::Watch { id } => watch(&id, client, output).await,
    }
}

fn tone(state: &str) -> Tone {
    match state {
        "committed" => Tone::Good,
        "rolled_back" => Tone::Bad,
        _ => Tone::Doubtful,
    }
}

fn has_ended(state: &str) -> bool {
    matches!(state, "committed" | "rolled_back")
}

fn names(operation: &OperationView) -> String {
    operation.nodes.iter().map(|node| node.as_str()).collect::<Vec<_>>().join(", ")
}

fn waits_for(reason: Option<&ReasonView>) -> String {
    reason.map_or_else(String::new, |own| clean(&format!("{}: {}", own.kind, own.detail)))
}

async fn look(id: &str, client: &Client) -> Result<(OperationView, Answer), CtlError> {
    let answer = client.get(&format!("{PATH}/{}", encode(id))).await?;
    Ok((answer.read()?, answer))
}

async fn list(client: &Client, output: &mut Output) -> Result<Code, CtlError> {
    let answer = client.get(PATH).await?;
    if output.json() {
        output.raw(&answer);
        return Ok(Code::Done);
    }
    let OperationsView { operations } = answer.read()?;
    if operations.is_empty() {
        output.line("no operations");
        return Ok(Code::Done);
    }
    let mut table =
        Table::new(&["OPERATION", "FOR", "STATE", "PHASE", "NODES", "BEGAN", "WAITS FOR"]);
    for own in &operations {
        table.row([
            own.id.as_str().into(),
            own.operation.as_str().into(),
            Cell::new(&own.state, tone(&own.state)),
            own.phase.as_deref().unwrap_or("-").into(),
            names(own).into(),
            own.began_at.get(..19).unwrap_or(&own.began_at).into(),
            waits_for(own.reason.as_ref()).into(),
        ]);
    }
    output.table(&table);
    Ok(Code::Done)
}

async fn show(id: &str, client: &Client, output: &mut Output) -> Result<Code, CtlError> {
    let (own, answer) = look(id, client).await?;
    if output.json() {
        output.raw(&answer);
        return Ok(Code::Done);
    }
    let mut table = Table::plain();
    table.row(["operation".into(), own.id.as_str().into()]);
    table.row(["for".into(), own.operation.as_str().into()]);
    table.row(["state".into(), Cell::new(&own.state, tone(&own.state))]);
    let waits = own.reason.as_ref().map(|reason| waits_for(Some(reason)));
    for (name, value) in [
        ("phase", own.phase.clone()),
        ("nodes", Some(names(&own)).filter(|names| !names.is_empty())),
        ("began", Some(own.began_at.clone())),
        ("ended", own.ended_at.clone()),
        ("waits for", waits),
    ] {
        if let Some(value) = value {
            table.row([name.into(), value.into()]);
        }
    }
    output.table(&table);
    Ok(Code::Done)
}

async fn tell(
    id: &str,
    verb: &str,
    said: &str,
    client: &Client,
    output: &mut Output,
) -> Result<Code, CtlError> {
    let answer = client.ask(Method::POST, &format!("{PATH}/{}/{verb}", encode(id)), None).await?;
    if output.json() {
        output.raw(&answer);
    } else {
        output.line(&format!("operation {id} {said}"));
    }
    Ok(Code::Done)
}

/// Prints how an operation goes on, until it has ended.
pub(super) async fn watch(
    id: &str,
    client: &Client,
    output: &mut Output,
) -> Result<Code, CtlError> {
    let mut shown: Option<OperationView> = None;
    let mut silent: Option<Instant> = None;
    loop {
        match look(id, client).await {
            Ok((own, answer)) => {
                silent = None;
                if is_news(shown.as_ref(), &own) {
                    step(&own, &answer, output);
                }
                match own.state.as_str() {
                    "rolled_back" => return Ok(Code::Findings),
                    state if has_ended(state) || output.is_broken() => return Ok(Code::Done),
                    _ => shown = Some(own),
                }
            }
            Err(error) => {
                let passes = matches!(error.code(), Code::Connection | Code::Refused);
                let since = *silent.get_or_insert_with(Instant::now);
                if shown.is_none() || !passes || since.elapsed() > PATIENCE {
                    return Err(error);
                }
            }
        }
        sleep(PAUSE).await;
    }
}

fn is_news(shown: Option<&OperationView>, now: &OperationView) -> bool {
    shown.is_none_or(|shown| {
        (&shown.state, &shown.phase, &shown.reason) != (&now.state, &now.phase, &now.reason)
    })
}

/// One line on how far an operation has come.
fn step(own: &OperationView, answer: &Answer, output: &mut Output) {
    if output.json() {
        output.raw(answer);
        return;
    }
    let phase = own.phase.as_ref().map_or_else(String::new, |phase| format!(", {phase}"));
    let waits = match &own.reason {
        Some(reason) => format!("; waits for {}", waits_for(Some(reason))),
        None => String::new(),
    };
    output.marked(&own.state, tone(&own.state), &format!("{phase}{waits}"));
}
