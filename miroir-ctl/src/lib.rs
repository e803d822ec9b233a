//! The command line of Miroir's operators, over the admin API (`/_miroir`).
//!
//! | module | what |
//! | --- | --- |
//! | `cli` | commands and flags |
//! | `credentials` | where the key comes from |
//! | `client` | one request and its answer |
//! | `error` | what can go wrong, what to do about it, and the exit codes |
//! | `output` | tables for people, JSON for programs |
//! | `commands` | a file each |
//!
//! [`run`] is the whole program, so that tests run it in their own process.

mod cli;
mod client;
mod commands;
mod credentials;
mod error;
mod output;

pub use cli::Cli;
pub use error::Code;
pub use output::Output;

use cli::Command;
use client::Client;
use error::CtlError;

/// Runs one command. `environment` finds variables.
pub async fn run(
    cli: Cli,
    output: &mut Output,
    environment: impl Fn(&str) -> Option<String>,
) -> Code {
    output.set_json(cli.connection.json);
    match execute(cli, output, environment).await {
        Ok(code) => output.finish(code),
        Err(error) => {
            output.complain(&error);
            output.finish(error.code())
        }
    }
}

async fn execute(
    cli: Cli,
    output: &mut Output,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<Code, CtlError> {
    // These need no server.
    match &cli.command {
        Command::Completions { shell } => return Ok(commands::shell::completions(*shell, output)),
        Command::Man { directory } => return commands::shell::man(directory.as_deref(), output),
        Command::Config(config) => return commands::config::run(config, output).await,
        _ => {}
    }
    let credentials = credentials::find(&cli.connection, &environment)?;
    for note in &credentials.notes {
        output.note(note);
    }
    let client = Client::new(&cli.connection, credentials)?;
    match cli.command {
        Command::Status => commands::status::run(&client, output).await,
        Command::Topology { verb } => commands::topology::run(verb, &client, output).await,
        Command::Replicas => commands::replicas::run(&client, output).await,
        Command::Node(node) => commands::node::run(node, &client, output).await,
        Command::Entropy(verb) => commands::entropy::run(verb, &client, output).await,
        Command::Group(group) => commands::group::run(group, &client, output).await,
        Command::Operation(operation) => commands::operation::run(operation, &client, output).await,
        Command::Pods => commands::pods::run(&client, output).await,
        Command::Stack => commands::stack::run(&client, output).await,
        Command::Check => commands::check::run(&client, output).await,
        Command::Task(task) => commands::task::run(task, &client, output).await,
        Command::Shadow(shadow) => commands::shadow::run(shadow, &client, output).await,
        Command::Explain(explain) => commands::explain::run(explain, &client, output).await,
        Command::Alias(alias) => commands::alias::run(alias, &client, output).await,
        Command::Tenant(tenant) => commands::tenant::run(tenant, &client, output).await,
        Command::Config(_) | Command::Completions { .. } | Command::Man { .. } => Ok(Code::Done),
    }
}
