//! The command line of `cargo xtask bench`.

use std::path::PathBuf;

use lexopt::prelude::*;

use crate::Outcome;
use crate::options::real_nodes;

/// What to measure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BenchCommand {
    /// `micro` and `e2e`: times and ratios.
    Times(BenchOptions),
    /// `writes`: writes of single documents.
    Writes(BenchOptions),
    /// `instructions`: counts.
    Instructions(InstructionOptions),
}

/// Options of `bench micro` and `bench e2e`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BenchOptions {
    /// Run the microbenchmarks.
    pub(crate) micro: bool,
    /// Run the end-to-end benchmarks.
    pub(crate) e2e: bool,
    /// Nodes.
    pub(crate) nodes: u32,
    /// Shards.
    pub(crate) shards: u32,
    /// Connections of the load generator.
    pub(crate) connections: usize,
    /// Seconds of one measurement.
    pub(crate) seconds: u64,
    /// Documents of the corpus.
    pub(crate) documents: usize,
    /// A real Meilisearch.
    pub(crate) meilisearch: Option<PathBuf>,
    /// The server to measure end to end; `None` builds the checkout's with the release profile.
    pub(crate) server: Option<PathBuf>,
    /// Whether the README is rewritten.
    pub(crate) write: bool,
}

impl Default for BenchOptions {
    fn default() -> Self {
        Self {
            micro: true,
            e2e: true,
            nodes: 3,
            shards: 16,
            connections: 8,
            seconds: 5,
            documents: 30_000,
            meilisearch: None,
            server: None,
            write: true,
        }
    }
}

/// Options of `bench instructions`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InstructionOptions {
    /// The names of the cases to count; empty for all.
    pub(crate) cases: Vec<String>,
    /// Requests that are counted together, and as many before them that are not.
    pub(crate) requests: usize,
    /// Counts of one server process, each with requests of its own.
    pub(crate) rounds: usize,
    /// Server processes, one after the other.
    pub(crate) runs: usize,
    /// The binary to count; `None` builds the checkout's with the release profile.
    pub(crate) server: Option<PathBuf>,
    /// Leave callgrind's files behind, for `callgrind_annotate` and the like.
    pub(crate) keep: bool,
    /// Whether the README is rewritten.
    pub(crate) write: bool,
}

impl Default for InstructionOptions {
    fn default() -> Self {
        Self {
            cases: Vec::new(),
            requests: 100,
            rounds: 3,
            runs: 2,
            server: None,
            keep: false,
            write: true,
        }
    }
}

/// Reads what follows `bench`. `None` where help is asked for.
pub(crate) fn parse(parser: &mut lexopt::Parser) -> Outcome<Option<BenchCommand>> {
    let mut options = BenchOptions { meilisearch: real_nodes(), ..BenchOptions::default() };
    let mut writes = false;
    while let Some(argument) = parser.next()? {
        match argument {
            Value(word) if word == "writes" => writes = true,
            Value(word) if word == "instructions" => return instructions(parser),
            Value(word) if word == "micro" => options.e2e = false,
            Value(word) if word == "e2e" => options.micro = false,
            Long("nodes") => options.nodes = parser.value()?.parse()?,
            Long("shards") => options.shards = parser.value()?.parse()?,
            Long("connections") => options.connections = parser.value()?.parse()?,
            Long("seconds") => options.seconds = parser.value()?.parse()?,
            Long("documents") => options.documents = parser.value()?.parse()?,
            Long("meilisearch") => options.meilisearch = Some(parser.value()?.into()),
            Long("server") => options.server = Some(parser.value()?.into()),
            Long("no-write") => options.write = false,
            Long("help") | Short('h') => return Ok(None),
            other => return Err(other.unexpected().into()),
        }
    }
    if !options.micro && !options.e2e {
        (options.micro, options.e2e) = (true, true);
    }
    if options.nodes == 0 || options.shards == 0 || options.connections == 0 || options.seconds == 0
    {
        return Err("numbers are at least 1".into());
    }
    let command = if writes { BenchCommand::Writes } else { BenchCommand::Times };
    Ok(Some(command(options)))
}

fn instructions(parser: &mut lexopt::Parser) -> Outcome<Option<BenchCommand>> {
    let mut options = InstructionOptions::default();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("case") => options.cases.push(parser.value()?.string()?),
            Long("requests") => options.requests = parser.value()?.parse()?,
            Long("rounds") => options.rounds = parser.value()?.parse()?,
            Long("runs") => options.runs = parser.value()?.parse()?,
            Long("server") => options.server = Some(parser.value()?.into()),
            Long("keep") => options.keep = true,
            Long("no-write") => options.write = false,
            Long("help") | Short('h') => return Ok(None),
            other => return Err(other.unexpected().into()),
        }
    }
    if options.requests == 0 || options.rounds == 0 || options.runs == 0 {
        return Err("numbers are at least 1".into());
    }
    Ok(Some(BenchCommand::Instructions(options)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Outcome<Option<BenchCommand>> {
        parse(&mut lexopt::Parser::from_args(line.split_whitespace()))
    }

    #[test]
    fn micro_and_e2e_are_both_run_unless_one_is_named() {
        for (line, expected) in
            [("", (true, true)), ("micro", (true, false)), ("e2e --nodes 5", (false, true))]
        {
            let Some(BenchCommand::Times(options)) = read(line).unwrap() else {
                panic!("`{line}` does not measure times");
            };
            assert_eq!((options.micro, options.e2e), expected, "`{line}`");
            assert_eq!(options.server, None);
        }
        let Some(BenchCommand::Times(options)) = read("e2e --server /s").unwrap() else {
            panic!("it does not measure times");
        };
        assert_eq!(options.server, Some("/s".into()));
    }

    #[test]
    fn writes_take_the_options_of_times() {
        let Some(BenchCommand::Writes(options)) = read("writes --nodes 5 --no-write").unwrap()
        else {
            panic!("it measures no writes");
        };
        assert_eq!((options.nodes, options.write), (5, false));
    }

    #[test]
    fn instructions_have_options_of_their_own() {
        let line = "instructions --case search --case document --requests 7 --rounds 1 --runs 4 \
                    --server /s --keep --no-write";
        let expected = InstructionOptions {
            cases: vec!["search".to_owned(), "document".to_owned()],
            requests: 7,
            rounds: 1,
            runs: 4,
            server: Some("/s".into()),
            keep: true,
            write: false,
        };
        assert_eq!(read(line).unwrap(), Some(BenchCommand::Instructions(expected)));
        for (line, part) in
            [("instructions --nodes 3", "--nodes"), ("instructions --runs 0", "at least 1")]
        {
            let message = read(line).unwrap_err().to_string();
            assert!(message.contains(part), "{line}: {message}");
        }
    }
}
