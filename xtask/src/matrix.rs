//! `cargo xtask matrix`: who may do what, compared with one node.

use std::path::PathBuf;

use crate::Outcome;
use crate::build::{self, cargo};

/// Options of `matrix`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct MatrixOptions {
    /// Whether the node's verdicts are written down for runs without one.
    pub(crate) record: bool,
    /// A real Meilisearch.
    pub(crate) meilisearch: Option<PathBuf>,
}

/// Runs the test.
pub(crate) fn run(options: &MatrixOptions) -> Outcome<()> {
    // Built as the tests are: another set of features would compile the engine again.
    let mut command = cargo(&["test", "--workspace", "--all-features", "--test", "engine"]);
    command.args(["--", "matrix::", "--nocapture"]);
    match &options.meilisearch {
        Some(path) => command.env("MIROIR_TEST_MEILISEARCH", std::env::current_dir()?.join(path)),
        None if options.record => {
            return Err("what is recorded is a real 1.50: name it with --meilisearch".into());
        }
        None => command.env_remove("MIROIR_TEST_MEILISEARCH"),
    };
    command.env("MIROIR_MATRIX_ALL", "1");
    if options.record {
        command.env("MIROIR_MATRIX_RECORD", "1");
    }
    build::run(&mut command)
}
