//! `cargo xtask fuzz diff`: the differential test over a range of seeds.

use std::path::PathBuf;

use crate::Outcome;
use crate::build::{self, cargo};

/// Options of `fuzz diff`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct DiffOptions {
    /// How many corpora.
    pub(crate) seeds: u64,
    /// Queries for each.
    pub(crate) queries: u64,
    /// Seed of the first.
    pub(crate) first: u64,
    /// A real Meilisearch.
    pub(crate) meilisearch: Option<PathBuf>,
}

impl Default for DiffOptions {
    fn default() -> Self {
        Self { seeds: 100, queries: 40, first: 1, meilisearch: None }
    }
}

/// Runs the test.
pub(super) fn run(options: &DiffOptions) -> Outcome<()> {
    let DiffOptions { seeds, queries, first, meilisearch } = options;
    println!("{seeds} corpora of {queries} queries, from seed {first}");
    // Built as the tests are: another set of features would compile the engine again.
    let mut command = cargo(&["test", "--workspace", "--all-features", "--test", "engine"]);
    command.args(["--", "differential::", "--nocapture"]);
    command.env("MIROIR_DIFF_CASES", (seeds * queries).to_string());
    command.env("MIROIR_DIFF_QUERIES", queries.to_string());
    command.env("MIROIR_DIFF_SEED", first.to_string());
    match meilisearch {
        Some(path) => command.env("MIROIR_TEST_MEILISEARCH", std::env::current_dir()?.join(path)),
        None => command.env_remove("MIROIR_TEST_MEILISEARCH"),
    };
    build::run(&mut command)
}
