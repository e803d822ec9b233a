//! `cargo xtask fuzz diff`: the differential test over a range of seeds.

use crate::Outcome;
use crate::build::{self, cargo};

/// Queries of one corpus; as in the test.
const QUERIES: u64 = 40;

/// Options of `fuzz diff`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct DiffOptions {
    /// How many corpora.
    pub(crate) seeds: u64,
    /// Seed of the first.
    pub(crate) first: u64,
}

/// Runs the test.
pub(super) fn run(options: &DiffOptions) -> Outcome<()> {
    let (first, cases) = (options.first, options.seeds * QUERIES);
    println!("{} corpora of {QUERIES} queries, from seed {first}", options.seeds);
    // Built as the tests are: another set of features would compile the engine again.
    let mut command = cargo(&["test", "--workspace", "--all-features", "--test", "differential"]);
    command.args(["--", "--nocapture"]);
    command.env("MIROIR_DIFF_CASES", cases.to_string());
    command.env("MIROIR_DIFF_SEED", first.to_string());
    build::run(&mut command)
}
