//! The program: reads the configuration, then serves until SIGTERM or SIGINT.

use std::process::ExitCode;

use clap::Parser;

use crate::config::{Capabilities, Config, Flags, NOT_IN_EFFECT};
use crate::{Server, serve, stack, telemetry};

/// Sharding and replication for Meilisearch behind one Meilisearch-compatible endpoint.
#[derive(Debug, Parser)]
#[command(name = "miroir-server", version)]
struct Cli {
    #[command(flatten)]
    flags: Flags,
}

/// Exit code for a configuration that cannot be used.
const BAD_CONFIG: u8 = 2;

/// Runs the server as its command line says, with these capabilities beside Miroir's own. The body of
/// a program that has more of them is one line:
///
/// ```no_run
/// # use miroir_server::config::Capabilities;
/// # async fn main_with() -> std::process::ExitCode {
/// miroir_server::run(Capabilities::default()).await // .with::<MyOptions>()
/// # }
/// ```
pub async fn run(capabilities: Capabilities) -> ExitCode {
    let Cli { flags } = Cli::parse();
    let config = match Config::load_with(&flags, &capabilities) {
        Ok(config) => config,
        Err(errors) => {
            eprintln!("{errors}");
            return ExitCode::from(BAD_CONFIG);
        }
    };
    if flags.check_config {
        print!("{}", config.to_yaml());
        println!("# Read, but not in effect in this version: {}.", NOT_IN_EFFECT.join(", "));
        for warning in config.warnings() {
            eprintln!("warning: {warning}");
        }
        return ExitCode::SUCCESS;
    }
    if flags.describe_stack {
        for stage in stack::describe(&config) {
            print!("{stage}");
        }
        return ExitCode::SUCCESS;
    }
    telemetry::init();
    let failure = match Box::pin(Server::build(config)).await {
        Ok(server) => Box::pin(server.run(serve::terminated())).await.err(),
        Err(error) => Some(error),
    };
    let Some(error) = failure else { return ExitCode::SUCCESS };
    tracing::error!(error = &error as &dyn std::error::Error, "miroir-server cannot run");
    eprintln!("miroir-server cannot run: {error}");
    ExitCode::FAILURE
}
