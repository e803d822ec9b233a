//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::prelude::*;

use crate::bench::{self, BenchCommand};
use crate::compare::{CompareOptions, Running};
use crate::fuzz::{ApiOptions, DiffOptions, FuzzOptions, HurryOptions, TargetOptions};
use crate::matrix::MatrixOptions;
use crate::options::{ChaosOptions, ChaosPart, DemoOptions, real_nodes};
use crate::{Failure, Outcome, catalogue};

/// What `cargo xtask help` prints.
pub(crate) const HELP: &str = "\
Usage: cargo xtask <COMMAND>

  demo       start a cluster with the sample catalogue on 127.0.0.1 and serve until Ctrl-C
      --check                  compare the sample queries with one plain node instead of serving
      --nodes N                nodes (3, or as many as the groups need)
      --replica-groups N       independent groups that each hold everything (1)
      --replication-factor N   copies of a shard inside a group (1)
      --shards N               shards of the index (16)
      --port PORT              where to serve (7700)
      --data FILE.ndjson       load these documents instead of the sample catalogue
      --meilisearch PATH       run this binary as nodes (or MIROIR_TEST_MEILISEARCH; or the
                               `meilisearch` in PATH; else the engine node is built)
      --engine                 build the engine node, even with a Meilisearch in PATH
      --release                build with optimisation (slower to build)
      --keep                   leave the temporary directory behind

  catalogue  write the sample catalogue
      --out FILE               NDJSON; `-` is standard output
      --documents N            how many (6000)

  test       run every test of the workspace and say what did not run
      --no-install             fail instead of installing what is missing

  sdk        run Meilisearch's own clients (examples/sdk-tests) against Miroir; part of `test`
      --no-install             as above

  ci         what CI runs: fmt, tidy, clippy, docs, test, sdk, demo --check, conformance
      --no-install             as above

  docs       write docs/api-compatibility.md, errors.md and openapi.json from the tables in the code
  chaos      kill -9 a node, then the server, of a cluster under load, and check every document
      --seconds N              time under load (12)
      --meilisearch PATH       run this binary as nodes (or MIROIR_TEST_MEILISEARCH)
    chaos slow                 searches while one node, then all nodes, answer late
      --rate N                 searches a second (40)
    chaos flood                one tenant searches without a pause, another feels nothing of it
    chaos strangers            2,000 callers without a key never end their requests
    chaos poison               a query takes more memory than a node has (real nodes; needs prlimit)
    chaos repair               a node dies with a long queue and comes back, under eight writers
      --documents N            documents in the queue (300000)
    chaos full-disk            a node's disk fills, and has room again (needs root, to mount it)
    chaos hang                 a node is stopped under writers
      --seconds N              how long (60)
    chaos away                 a node is away for a minute in which one document of a thousand changes
      --documents N            documents (100000)
    chaos disks                nodes come back with each other's disks, an older copy, an empty one
    chaos big                  a node with documents of 150 kB and long vectors loses its disk
      --documents N            how many (2000)
    chaos tasks                single-document writes from 64 connections
      --documents N            how many (100000)
    chaos elastic              nodes come and go, shards get more copies and fewer
      --documents N            documents (20000)
    chaos entropy              a disk lost and changed documents, and no task says so (needs --meilisearch)
      --documents N            documents (200000)
    chaos pods                 the same to three servers over one Redis, with 2000 indexes and stub nodes
      --documents N            how many (100000)
      --server PATH            (all parts) this server, not the checkout's

  fuzz       inputs nobody thought of
    fuzz api                   requests made up from docs/openapi.json (needs Python)
      --examples N             requests per operation, at most (50)
      --seed N                 what they follow from (1)
      --description FILE       another OpenAPI description, such as Meilisearch's
      --meilisearch PATH       run this binary as nodes (or MIROIR_TEST_MEILISEARCH)
    fuzz targets [NAME...]     libFuzzer targets of fuzz/ (default: all of them)
      --runs N                 executions of each; 0: the committed seeds only (1000000)
      --length N               longest input in bytes (512)
    fuzz diff                  random queries, Miroir against one node that holds everything
      --seeds N                corpora (100)
      --queries N              queries for each (40)
      --first N                seed of the first (1)
      --meilisearch PATH       run this binary as nodes (or MIROIR_TEST_MEILISEARCH)
    fuzz hurry                 changes of indexes without waiting, Miroir against two plain nodes
      --seeds N                scripts (100)
      --first N                seed of the first (1)
      --examples N             failing scripts that are made short and printed (20)
      --meilisearch PATH       run this binary as nodes (or MIROIR_TEST_MEILISEARCH)
      --server PATH            this server, not the checkout's

  matrix     every route, caller and form of a request: who is let in, as one node lets them in
      --meilisearch PATH       compare with this binary (or MIROIR_TEST_MEILISEARCH), else with what
                               is recorded of it
      --record                 write its verdicts down

  compare    run a client against a proxy that asks Miroir and one plain node, and say what differs
    compare [OPTIONS] [COMMAND...]   the command gets MEILISEARCH_URL and MEILISEARCH_API_KEY; without
                               one the proxy serves until Ctrl-C
      --port PORT              where the proxy listens (any free port)
      --reference URL          a plain node that runs already, and its master key
      --reference-key KEY
      --candidate URL          a server that runs already, and its master key
      --candidate-key KEY
      --client-key KEY         what the client uses as master key (demo-master-key-for-clients)
      --answer-candidate       the client gets Miroir's answers
      --key-order              the order of fields counts
      --examples N             differences that are shown in full, at most (20)
      --report FILE            write the report as JSON too
      --nodes N, --shards N, --replication-factor N, --replica-groups N   as for the demo
      --meilisearch PATH       run this binary as nodes (or MIROIR_TEST_MEILISEARCH)
      --server PATH            this server, not the checkout's
      --proxy PATH             this proxy, not the checkout's

  tidy       check the rules of the repository that the compiler does not know

  bench      measure, and write the tables of benches/README.md
      micro                    cargo bench -p miroir-benches
      e2e                      processes on loopback (default: both)
      --nodes N                nodes (3)
      --shards N               shards of the index (16)
      --connections N          connections of the load generator (8)
      --seconds N              time of one measurement (5)
      --documents N            documents of the ingest and search corpus (30000)
      --meilisearch PATH       real nodes (or MIROIR_TEST_MEILISEARCH)
      --server PATH            measure this server end to end, not the checkout's
      --no-write               print the table, leave benches/README.md alone
    bench writes               single documents through Miroir and to its nodes directly
    bench instructions         instructions a request of the release server, under callgrind
      --case NAME              only this one (default: all)
      --requests N             requests that are counted together (100)
      --rounds N               counts of each server (3)
      --runs N                 servers, one after the other (2)
      --server PATH            count this binary instead of building one
      --keep                   leave callgrind's files behind
      --no-write               as above
";

/// A parsed command line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Print [`HELP`].
    Help,
    /// `demo`.
    Demo(DemoOptions),
    /// `catalogue`.
    Catalogue {
        /// Target; `-` is standard output.
        out: PathBuf,
        /// How many documents.
        documents: usize,
    },
    /// `test`.
    Test {
        /// Whether missing tools are installed.
        install: bool,
    },
    /// `sdk`.
    Sdk {
        /// Whether missing packages are installed.
        install: bool,
    },
    /// `ci`.
    Ci {
        /// Whether missing tools are installed.
        install: bool,
    },
    /// `docs`.
    Docs,
    /// `tidy`.
    Tidy,
    /// `chaos`.
    Chaos(ChaosOptions),
    /// `bench`.
    Bench(BenchCommand),
    /// `fuzz`.
    Fuzz(FuzzOptions),
    /// `matrix`.
    Matrix(MatrixOptions),
    /// `compare`.
    Compare(CompareOptions),
}

impl From<lexopt::Error> for Failure {
    fn from(error: lexopt::Error) -> Self {
        format!("{error}; see `cargo xtask help`").into()
    }
}

/// Reads the command line, without the program's name.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Outcome<Command> {
    let mut parser = lexopt::Parser::from_args(arguments);
    let command = match parser.next()? {
        None | Some(Long("help") | Short('h')) => return Ok(Command::Help),
        Some(Value(word)) => word.string()?,
        Some(other) => return Err(other.unexpected().into()),
    };
    match command.as_str() {
        "help" => Ok(Command::Help),
        "demo" => demo(&mut parser),
        "catalogue" => catalogue_options(&mut parser),
        "test" => Ok(Command::Test { install: install(&mut parser)? }),
        "sdk" => Ok(Command::Sdk { install: install(&mut parser)? }),
        "ci" => Ok(Command::Ci { install: install(&mut parser)? }),
        "docs" => match parser.next()? {
            None => Ok(Command::Docs),
            Some(other) => Err(other.unexpected().into()),
        },
        "tidy" => match parser.next()? {
            None => Ok(Command::Tidy),
            Some(other) => Err(other.unexpected().into()),
        },
        "chaos" => chaos(&mut parser),
        "bench" => Ok(bench::parse(&mut parser)?.map_or(Command::Help, Command::Bench)),
        "fuzz" => fuzz(&mut parser),
        "matrix" => matrix(&mut parser),
        "compare" => compare(&mut parser),
        other => Err(format!("there is no command `{other}`; see `cargo xtask help`").into()),
    }
}

fn demo(parser: &mut lexopt::Parser) -> Outcome<Command> {
    let mut options = DemoOptions::default();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("check") => options.check = true,
            Long("nodes") => options.shape.nodes = Some(parser.value()?.parse()?),
            Long("replica-groups") => options.shape.groups = parser.value()?.parse()?,
            Long("replication-factor") => options.shape.factor = parser.value()?.parse()?,
            Long("shards") => options.shape.shards = parser.value()?.parse()?,
            Long("port") => options.port = Some(parser.value()?.parse()?),
            Long("data") => options.data = Some(parser.value()?.into()),
            Long("meilisearch") => options.meilisearch = Some(parser.value()?.into()),
            Long("engine") => options.engine = true,
            Long("release") => options.release = true,
            Long("keep") => options.keep = true,
            Long("help") | Short('h') => return Ok(Command::Help),
            other => return Err(other.unexpected().into()),
        }
    }
    if options.engine && options.meilisearch.is_some() {
        return Err("--engine and --meilisearch exclude each other".into());
    }
    options.meilisearch = options.meilisearch.or_else(real_nodes);
    options.shape.check()?;
    Ok(Command::Demo(options))
}

fn chaos(parser: &mut lexopt::Parser) -> Outcome<Command> {
    let mut options = ChaosOptions { meilisearch: real_nodes(), ..ChaosOptions::default() };
    while let Some(argument) = parser.next()? {
        match argument {
            Value(part) if part == "slow" => options.part = ChaosPart::Slow,
            Value(part) if part == "flood" => options.part = ChaosPart::Flood,
            Value(part) if part == "strangers" => options.part = ChaosPart::Strangers,
            Value(part) if part == "poison" => options.part = ChaosPart::Poison,
            Value(part) if part == "repair" => options.part = ChaosPart::Repair,
            Value(part) if part == "full-disk" => options.part = ChaosPart::FullDisk,
            Value(part) if part == "hang" => {
                (options.part, options.seconds) = (ChaosPart::Hang, 60);
            }
            Value(part) if part == "away" => options.part = ChaosPart::Away,
            Value(part) if part == "disks" => options.part = ChaosPart::Disks,
            Value(part) if part == "big" => options.part = ChaosPart::Big,
            Value(part) if part == "tasks" => options.part = ChaosPart::Tasks,
            Value(part) if part == "elastic" => options.part = ChaosPart::Elastic,
            Value(part) if part == "entropy" => options.part = ChaosPart::Entropy,
            Value(part) if part == "pods" => options.part = ChaosPart::Pods,
            Long("documents") => options.documents = Some(parser.value()?.parse()?),
            Long("server") => options.server = Some(parser.value()?.into()),
            Long("rate") => options.rate = parser.value()?.parse()?,
            Long("seconds") => options.seconds = parser.value()?.parse()?,
            Long("meilisearch") => options.meilisearch = Some(parser.value()?.into()),
            Long("help") | Short('h') => return Ok(Command::Help),
            other => return Err(other.unexpected().into()),
        }
    }
    if options.rate == 0 {
        return Err("--rate is at least 1".into());
    }
    if options.seconds < 6 {
        return Err("--seconds is at least 6: two for each third".into());
    }
    Ok(Command::Chaos(options))
}

fn catalogue_options(parser: &mut lexopt::Parser) -> Outcome<Command> {
    let (mut out, mut documents) = (None, catalogue::DOCUMENTS);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("out") => out = Some(parser.value()?.into()),
            Long("documents") => documents = parser.value()?.parse()?,
            Long("help") | Short('h') => return Ok(Command::Help),
            other => return Err(other.unexpected().into()),
        }
    }
    let out = out.ok_or("say where to: --out FILE, or --out - for standard output")?;
    Ok(Command::Catalogue { out, documents })
}

fn install(parser: &mut lexopt::Parser) -> Outcome<bool> {
    let mut install = true;
    while let Some(argument) = parser.next()? {
        match argument {
            Long("no-install") => install = false,
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(install)
}

fn matrix(parser: &mut lexopt::Parser) -> Outcome<Command> {
    let mut options = MatrixOptions { meilisearch: real_nodes(), ..MatrixOptions::default() };
    while let Some(argument) = parser.next()? {
        match argument {
            Long("record") => options.record = true,
            Long("meilisearch") => options.meilisearch = Some(parser.value()?.into()),
            Long("help") | Short('h') => return Ok(Command::Help),
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(Command::Matrix(options))
}

fn compare(parser: &mut lexopt::Parser) -> Outcome<Command> {
    let mut options = CompareOptions { meilisearch: real_nodes(), ..CompareOptions::default() };
    let (mut urls, mut keys) = ([None, None], [None, None]);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("port") => options.port = Some(parser.value()?.parse()?),
            Long("reference") => urls[0] = Some(parser.value()?.string()?),
            Long("reference-key") => keys[0] = Some(parser.value()?.string()?),
            Long("candidate") => urls[1] = Some(parser.value()?.string()?),
            Long("candidate-key") => keys[1] = Some(parser.value()?.string()?),
            Long("client-key") => options.client_key = Some(parser.value()?.string()?),
            Long("answer-candidate") => options.answer_candidate = true,
            Long("key-order") => options.key_order = true,
            Long("examples") => options.examples = Some(parser.value()?.parse()?),
            Long("report") => options.report = Some(parser.value()?.into()),
            Long("nodes") => options.shape.nodes = Some(parser.value()?.parse()?),
            Long("replica-groups") => options.shape.groups = parser.value()?.parse()?,
            Long("replication-factor") => options.shape.factor = parser.value()?.parse()?,
            Long("shards") => options.shape.shards = parser.value()?.parse()?,
            Long("meilisearch") => options.meilisearch = Some(parser.value()?.into()),
            Long("server") => options.server = Some(parser.value()?.into()),
            Long("proxy") => options.proxy = Some(parser.value()?.into()),
            Long("help") | Short('h') => return Ok(Command::Help),
            // What comes behind is the command's.
            Value(word) => {
                options.command = std::iter::once(word).chain(parser.raw_args()?).collect();
            }
            other => return Err(other.unexpected().into()),
        }
    }
    let [reference, candidate] = [0, 1].map(|at| match (urls[at].take(), keys[at].take()) {
        (None, None) => Ok(None),
        (Some(url), Some(key)) => Ok(Some(Running { url, key })),
        _ => Err("a server that runs already needs its address and its key"),
    });
    (options.reference, options.candidate) = (reference?, candidate?);
    options.shape.check()?;
    Ok(Command::Compare(options))
}

fn fuzz(parser: &mut lexopt::Parser) -> Outcome<Command> {
    let what = match parser.next()? {
        Some(Value(word)) => word.string()?,
        Some(Long("help") | Short('h')) => return Ok(Command::Help),
        _ => return Err("say what: fuzz api, fuzz targets, fuzz diff or fuzz hurry".into()),
    };
    let mut api = ApiOptions { meilisearch: real_nodes(), ..ApiOptions::default() };
    let mut targets = TargetOptions::default();
    let mut diff = DiffOptions { meilisearch: real_nodes(), ..DiffOptions::default() };
    let mut hurry = HurryOptions { meilisearch: real_nodes(), ..HurryOptions::default() };
    while let Some(argument) = parser.next()? {
        match (what.as_str(), argument) {
            (_, Long("help") | Short('h')) => return Ok(Command::Help),
            ("api", Long("examples")) => api.examples = parser.value()?.parse()?,
            ("api", Long("seed")) => api.seed = parser.value()?.parse()?,
            ("api", Long("description")) => api.description = Some(parser.value()?.into()),
            ("api", Long("meilisearch")) => api.meilisearch = Some(parser.value()?.into()),
            ("targets", Value(name)) => targets.names.push(name.string()?),
            ("targets", Long("runs")) => targets.runs = parser.value()?.parse()?,
            ("targets", Long("length")) => targets.length = parser.value()?.parse()?,
            ("diff", Long("seeds")) => diff.seeds = parser.value()?.parse()?,
            ("diff", Long("queries")) => diff.queries = parser.value()?.parse()?,
            ("diff", Long("first")) => diff.first = parser.value()?.parse()?,
            ("diff", Long("meilisearch")) => diff.meilisearch = Some(parser.value()?.into()),
            ("hurry", Long("seeds")) => hurry.seeds = parser.value()?.parse()?,
            ("hurry", Long("first")) => hurry.first = parser.value()?.parse()?,
            ("hurry", Long("examples")) => hurry.examples = parser.value()?.parse()?,
            ("hurry", Long("meilisearch")) => hurry.meilisearch = Some(parser.value()?.into()),
            ("hurry", Long("server")) => hurry.server = Some(parser.value()?.into()),
            (_, other) => return Err(other.unexpected().into()),
        }
    }
    match what.as_str() {
        "api" if api.examples == 0 => Err("--examples is at least 1".into()),
        "api" => Ok(Command::Fuzz(FuzzOptions::Api(api))),
        "targets" => Ok(Command::Fuzz(FuzzOptions::Targets(targets))),
        "diff" if diff.seeds == 0 => Err("--seeds is at least 1".into()),
        "diff" if diff.queries == 0 => Err("--queries is at least 1".into()),
        "diff" => Ok(Command::Fuzz(FuzzOptions::Diff(diff))),
        "hurry" if hurry.seeds == 0 => Err("--seeds is at least 1".into()),
        "hurry" => Ok(Command::Fuzz(FuzzOptions::Hurry(hurry))),
        other => Err(format!("there is no `fuzz {other}`; see `cargo xtask help`").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Shape;

    fn read(line: &str) -> Outcome<Command> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn options_of_the_demo() {
        let Command::Demo(options) =
            read("demo --check --nodes=4 --replica-groups 2 --replication-factor 2 --port 0")
                .unwrap()
        else {
            panic!("not the demo");
        };
        assert!(options.check && !options.keep);
        assert_eq!((options.shape.node_count(), options.shape.groups), (4, 2));
        assert_eq!(options.port, Some(0));
    }

    #[test]
    fn nodes_default_to_what_the_groups_need() {
        assert_eq!(Shape::default().node_count(), 3);
        assert_eq!(Shape { groups: 2, factor: 2, ..Shape::default() }.node_count(), 4);
    }

    #[test]
    fn options_of_fuzzing() {
        let Command::Fuzz(FuzzOptions::Targets(options)) =
            read("fuzz targets csv --runs 7 merge").unwrap()
        else {
            panic!("not the targets");
        };
        assert_eq!((options.names.join(" "), options.runs), ("csv merge".to_owned(), 7));
        let expected =
            DiffOptions { seeds: 3, queries: 7, first: 9, meilisearch: Some("/m".into()) };
        assert_eq!(
            read("fuzz diff --seeds 3 --queries 7 --first 9 --meilisearch /m").unwrap(),
            Command::Fuzz(FuzzOptions::Diff(expected))
        );
        let expected = MatrixOptions { record: true, meilisearch: Some("/m".into()) };
        assert_eq!(read("matrix --record --meilisearch /m").unwrap(), Command::Matrix(expected));
    }

    #[test]
    fn a_client_to_compare_keeps_its_own_options() {
        let Command::Compare(options) =
            read("compare --key-order --candidate http://c --candidate-key k pytest -q --port 3")
                .unwrap()
        else {
            panic!("not the comparison");
        };
        assert_eq!(options.command, ["pytest", "-q", "--port", "3"]);
        let running = Running { url: "http://c".into(), key: "k".into() };
        assert_eq!((options.candidate, options.reference), (Some(running), None));
        assert!(options.key_order && options.port.is_none());
    }

    #[test]
    fn mistakes_are_named() {
        for (line, part) in [
            ("dmo", "`dmo`"),
            ("demo --nods 3", "--nods"),
            ("demo --nodes many", "many"),
            ("demo --nodes 3 --replica-groups 2 --replication-factor 2", "--nodes 4"),
            ("demo --shards 0", "at least 1"),
            ("demo --engine --meilisearch m", "exclude"),
            ("catalogue", "--out"),
            ("bench --seconds 0", "at least 1"),
            ("chaos --seconds 2", "at least 6"),
            ("matrix --seeds 3", "--seeds"),
            ("compare --reference http://x", "its key"),
            ("compare --seeds 3", "--seeds"),
            ("fuzz", "fuzz targets"),
            ("fuzz nope", "`fuzz nope`"),
            ("fuzz diff --runs 3", "--runs"),
            ("fuzz diff --seeds 0", "at least 1"),
            ("fuzz diff --queries 0", "at least 1"),
            ("fuzz hurry --queries 3", "--queries"),
            ("fuzz hurry --seeds 0", "at least 1"),
        ] {
            let message = read(line).unwrap_err().to_string();
            assert!(message.contains(part), "{line}: {message}");
        }
    }
}
