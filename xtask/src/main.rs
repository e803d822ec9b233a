//! `cargo xtask`: the one command surface of the repository. Links neither the server nor the
//! engine: it builds them with Cargo and runs them as processes.

mod arguments;
mod bench;
mod build;
mod catalogue;
mod chaos;
mod ci;
mod cluster;
mod compare;
mod demo;
mod docs;
mod fuzz;
mod guard;
mod http;
mod http_server;
mod matrix;
mod options;
mod progress;
mod sdk;
mod test;
mod tidy;

use std::fmt;
use std::process::ExitCode;

use arguments::Command;

/// Why a command did not succeed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Something to tell the user.
    Message(String),
    /// The user stopped it.
    Stopped,
}

/// What a command gives.
pub(crate) type Outcome<T> = Result<T, Failure>;

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message(message) => f.write_str(message),
            Self::Stopped => f.write_str("stopped"),
        }
    }
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self::Message(message)
    }
}

impl From<&str> for Failure {
    fn from(message: &str) -> Self {
        Self::Message(message.to_owned())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Message(error.to_string())
    }
}

fn main() -> ExitCode {
    let outcome = arguments::parse(std::env::args_os().skip(1)).and_then(|command| match command {
        Command::Help => {
            print!("{}", arguments::HELP);
            Ok(())
        }
        Command::Demo(options) => demo::run(&options),
        Command::Catalogue { out, documents } => catalogue::write(&out, documents),
        Command::Test { install } => test::run(install),
        Command::Sdk { install } => sdk::run(install),
        Command::Ci { install } => ci::run(install),
        Command::Docs => docs::run(),
        Command::Tidy => tidy::run(),
        Command::Chaos(options) => chaos::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Fuzz(options) => fuzz::run(&options),
        Command::Matrix(options) => matrix::run(&options),
        Command::Compare(options) => compare::run(&options),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Stopped) => {
            eprintln!("stopped");
            // What a shell reports of a program that Ctrl-C ended.
            ExitCode::from(130)
        }
        Err(Failure::Message(message)) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}
