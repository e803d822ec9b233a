//! `cargo xtask bench instructions`: how many instructions the release server spends on a request.
//!
//! Times of a busy machine differ by tens of percent, counts of instructions hardly do: callgrind
//! counts what the server executes in user mode, whatever else the machine is doing. The nodes are
//! stubs that answer recorded pages, so that they always answer the same.
//!
//! | file | |
//! | --- | --- |
//! | `cases` | the requests that are counted, and what nodes answer to them |
//! | `pages` | the recorded pages |
//! | `callgrind` | the server under callgrind, and the switches of the count |
//! | `profile` | reads what callgrind writes |
//! | `parts` | which function works for which part of a request |

mod callgrind;
mod cases;
mod pages;
mod parts;
mod profile;

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use self::callgrind::Counted;
use self::cases::{CASES, Case};
use self::parts::{Part, Shares};
use super::options::InstructionOptions;
use super::stub::Stub;
use super::{process, table};
use crate::build::{self, Build, root};
use crate::cluster::{MASTER_KEY, apply};
use crate::guard::{self, Scratch};
use crate::http::{Client, render};
use crate::options::Shape;
use crate::{Failure, Outcome, catalogue};

/// The index that is asked.
const INDEX: &str = "products";
/// How long the server is watched while nobody asks: a few times as long as the time between two
/// turns of its most frequent work, the upkeep of metrics.
const IDLE: Duration = Duration::from_secs(15);
/// Pauses between the last answer and the dump, for what a server does behind an answer.
const SETTLE: u32 = 4;

/// Counts and prints; writes the table unless told otherwise.
pub(crate) fn run(options: &InstructionOptions) -> Outcome<()> {
    callgrind::check()?;
    let questions = options.requests * (options.rounds + 1);
    if questions > pages::QUESTIONS {
        return Err(format!(
            "{questions} different questions are needed, there are {}: take fewer --requests or \
             --rounds",
            pages::QUESTIONS
        )
        .into());
    }
    let cases = chosen(&options.cases)?;
    let server = match &options.server {
        Some(path) => path.canonicalize().map_err(|e| format!("{}: {e}", path.display()))?,
        None => build::programs(Build { engine: false, release: true })?.server,
    };
    let mut counts: Vec<Count> = cases.iter().map(|case| Count::new(case)).collect();
    for run in 1..=options.runs {
        for count in &mut counts {
            eprintln!("run {run} of {}: {}", options.runs, count.case.what);
            count.runs.push(one_run(count.case, options, &server)?);
        }
    }
    let text = format!("{}\n\n{}", heading(options), render_table(&counts));
    println!("{text}");
    if options.write {
        table::write(&root().join("benches/README.md"), "instructions", &text)?;
        eprintln!("wrote benches/README.md");
    }
    Ok(())
}

fn chosen(names: &[String]) -> Outcome<Vec<&'static Case>> {
    let known = || CASES.iter().map(|case| case.name).collect::<Vec<_>>().join(", ");
    if names.is_empty() {
        return Ok(CASES.iter().collect());
    }
    names
        .iter()
        .map(|name| {
            let case = CASES.iter().find(|case| case.name == name);
            case.ok_or_else(|| format!("there is no case `{name}`, but {}", known()).into())
        })
        .collect()
}

/// What one server spent on each request, in the order of [`Part::ALL`].
type Round = Shares;

/// All counts of one case.
#[derive(Debug)]
struct Count {
    case: &'static Case,
    /// Rounds of each server process.
    runs: Vec<Vec<Round>>,
}

impl Count {
    fn new(case: &'static Case) -> Self {
        Self { case, runs: Vec::new() }
    }

    /// The mean of all rounds, by part.
    fn mean(&self) -> Shares {
        let rounds: Vec<&Round> = self.runs.iter().flatten().collect();
        let mut out = Shares::default();
        for round in &rounds {
            for (sum, part) in out.iter_mut().zip(round.iter()) {
                *sum += part / rounds.len() as f64;
            }
        }
        out
    }

    /// Half of the way between the smallest and the largest of all rounds, as a share of their mean.
    fn spread_of_rounds(&self) -> f64 {
        spread(self.runs.iter().flatten().map(total))
    }

    /// The same of the runs' means.
    fn spread_of_runs(&self) -> f64 {
        spread(self.runs.iter().map(|run| run.iter().map(total).sum::<f64>() / run.len() as f64))
    }
}

fn total(shares: &Shares) -> f64 {
    shares.iter().sum()
}

fn spread(values: impl Iterator<Item = f64>) -> f64 {
    let values: Vec<f64> = values.collect();
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(0.0, f64::max);
    if high > 0.0 { (high - low) / (high + low) } else { 0.0 }
}

/// Counts one case with a server of its own.
fn one_run(case: &Case, options: &InstructionOptions, server: &Path) -> Outcome<Vec<Round>> {
    let requests = case.requests(options.requests);
    let questions = requests * (options.rounds + 1);
    let stubs =
        case.recorded(questions).into_iter().map(Stub::replay).collect::<Outcome<Vec<_>>>()?;
    let urls: Vec<String> = stubs.iter().map(|stub| stub.url().to_owned()).collect();
    let scratch = Scratch::new("instructions", options.keep)?;
    // Enough shards that every node has some.
    let shape = Shape { shards: 64, groups: 1, factor: 1, nodes: Some(case.nodes as u32) };
    let mut counted = Counted::start(server, &urls, shape, scratch.path())?;
    let mut client = counted.server.client();
    let index = json!({ "uid": INDEX, "primaryKey": catalogue::PRIMARY_KEY });
    apply(&mut client, "POST", "/indexes", &index)?;
    let settings = format!("/indexes/{INDEX}/settings");
    apply(&mut client, "PATCH", &settings, &catalogue::settings())?;

    let asked: Vec<Vec<u8>> = (0..questions)
        .map(|question| {
            let (method, path, body) = case.request(question);
            let path = format!("/indexes/{INDEX}/{path}");
            render(&counted.server.url, MASTER_KEY, method, &path, body.as_ref())
        })
        .collect();
    let mut rounds = asked.chunks(requests);
    counted.switch_on()?;
    // Connections are opened, pools filled, what is made once is made.
    ask(case, &mut client, rounds.next().unwrap_or_default())?;
    let calls = || stubs.iter().map(Stub::asked).sum::<u64>();
    let mut out = Vec::new();
    for round in rounds {
        counted.zero()?;
        let start = Instant::now();
        let before = calls();
        ask(case, &mut client, round)?;
        let (made, expected) = (calls() - before, (round.len() * case.calls()) as u64);
        if made != expected {
            return Err(Failure::Message(format!(
                "`{}`: {} requests made {made} calls to nodes instead of {expected}",
                case.name,
                round.len()
            )));
        }
        settle();
        out.push((start.elapsed(), counted.dump()?));
    }
    counted.zero()?;
    let start = Instant::now();
    while start.elapsed() < IDLE {
        guard::check_stop()?;
        guard::pause();
    }
    let idle = (start.elapsed(), parts::shares(&counted.dump()?));
    Ok(out
        .into_iter()
        .map(|(time, profile)| {
            let mut shares = parts::shares(&profile);
            for (share, idle_share) in shares.iter_mut().zip(idle.1) {
                let background = idle_share * time.as_secs_f64() / idle.0.as_secs_f64();
                *share = (*share - background) / requests as f64;
            }
            shares
        })
        .collect())
}

fn settle() {
    for _ in 0..SETTLE {
        guard::pause();
    }
}

/// Sends the requests one after the other over one connection. An answer that is not all there would
/// count something else, as would calls to nodes that are not as many as they should be.
fn ask(case: &Case, client: &mut Client, requests: &[Vec<u8>]) -> Outcome<()> {
    for request in requests {
        guard::check_stop()?;
        let reply = client.exchange(request)?;
        if reply.status != case.status() || !case.answered(&reply.json()) {
            let text: String = reply.text().chars().take(500).collect();
            return Err(Failure::Message(format!(
                "`{}`: the server answered {}: {text}",
                case.name, reply.status
            )));
        }
    }
    Ok(())
}

/// How the table came about.
fn heading(options: &InstructionOptions) -> String {
    format!(
        "`cargo xtask bench instructions --requests {} --rounds {} --runs {}`: {}.",
        options.requests,
        options.rounds,
        options.runs,
        process::machine(),
    )
}

fn render_table(counts: &[Count]) -> String {
    let mut out = String::from(
        "| case | | instructions a request | rounds | runs |\n| --- | --- | ---: | ---: | ---: |\n",
    );
    for count in counts {
        let _ = writeln!(
            out,
            "| {} | {} | {} | ± {:.2} % | ± {:.2} % |",
            count.case.name,
            count.case.what,
            thousands(total(&count.mean())),
            count.spread_of_rounds() * 100.0,
            count.spread_of_runs() * 100.0,
        );
    }
    out.push_str("\n| part |");
    for count in counts {
        out.extend([" ", count.case.name, " | |"]);
    }
    out.push_str("\n| --- |");
    out.push_str(&" ---: | ---: |".repeat(counts.len()));
    for part in Part::ALL {
        let _ = write!(out, "\n| {} |", part.name());
        for count in counts {
            let mean = count.mean();
            let own = mean[part as usize];
            let _ = write!(out, " {} | {:.1} % |", thousands(own), own / total(&mean) * 100.0);
        }
    }
    out.push('\n');
    out
}

/// A count with a comma between thousands.
fn thousands(count: f64) -> String {
    let digits = format!("{:.0}", count.max(0.0));
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads_are_half_of_what_lies_between_the_ends() {
        assert_eq!(spread([99.0, 101.0, 100.0].into_iter()), 0.01);
        assert_eq!(spread(std::iter::once(5.0)), 0.0);
    }

    #[test]
    fn counts_are_written_with_commas() {
        let all = [0.0, 999.4, 1_000.0, 620_123.0, 1_234_567.0].map(thousands);
        assert_eq!(all, ["0", "999", "1,000", "620,123", "1,234,567"]);
    }

    #[test]
    fn cases_are_chosen_by_name() {
        assert_eq!(chosen(&[]).unwrap().len(), CASES.len());
        assert_eq!(chosen(&["document".to_owned()]).unwrap()[0].name, "document");
        let message = chosen(&["serch".to_owned()]).unwrap_err().to_string();
        assert!(message.contains("`serch`") && message.contains("search"), "{message}");
    }
}
