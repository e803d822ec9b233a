//! What became of requests, and the file in which a real node's verdicts are kept.
//!
//! Requests with the same verdicts stand together, with one line a verdict and the callers who got it.
//! Where everybody asked, the most frequent one stands first and names nobody.

use std::collections::BTreeMap;
use std::fmt;
use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::Value;

/// Verdicts of callers on one request.
pub(super) type Row = BTreeMap<String, Verdict>;
/// Rows by request.
pub(super) type Verdicts = BTreeMap<String, Row>;

/// Words of documents: of those that the rules of `filtered` leave, of the rest of that index, and of
/// another index.
pub(super) const WORDS: [&str; 3] = ["crimson", "azure", "umbra"];

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Verdict {
    pub(super) status: u16,
    /// The code of the error; for an answer which of [`WORDS`] it shows.
    pub(super) code: String,
}

impl Verdict {
    pub(super) fn of(status: u16, body: &Value) -> Self {
        let code = if status < 400 {
            let text = body.to_string();
            let shown: Vec<&str> = WORDS.into_iter().filter(|word| text.contains(word)).collect();
            shown.join("+")
        } else {
            body["code"].as_str().unwrap_or("no code").to_owned()
        };
        Self { status, code }
    }

    /// Whether somebody is turned away for who they are.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self.status, 401 | 403)
    }

    /// Whether both are the same to a client: of one class, with one code or the same words.
    pub(super) fn is(&self, other: &Self) -> bool {
        (self.status / 100, &self.code) == (other.status / 100, &other.code)
    }

    fn parse(text: &str) -> Self {
        let (status, code) = text.split_once(' ').unwrap_or((text, ""));
        Self { status: status.parse().expect("a status"), code: code.to_owned() }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status)?;
        if self.code.is_empty() { Ok(()) } else { write!(f, " {}", self.code) }
    }
}

const HEAD: &str = "\
# Verdicts of a plain Meilisearch 1.50, written by `cargo xtask matrix --record`.
# `@` is everybody; a verdict without names is that of all whom the lines below it do not name.
";

fn file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/engine/matrix/verdicts.txt")
}

fn list(text: &str) -> impl Iterator<Item = String> {
    text.split(", ").map(str::to_owned)
}

/// The recorded verdicts.
pub(super) fn recorded() -> Verdicts {
    let text = std::fs::read_to_string(file()).unwrap_or_default();
    let mut out = Verdicts::new();
    let mut everybody: Vec<String> = Vec::new();
    let (mut requests, mut row) = (Vec::new(), Row::new());
    for line in text.lines().filter(|line| !line.starts_with('#')).chain([""]) {
        if let Some(names) = line.strip_prefix("@ ") {
            everybody = list(names).collect();
        } else if let Some(rest) = line.strip_prefix("  ") {
            match rest.split_once(": ") {
                None => row.extend(everybody.iter().map(|it| (it.clone(), Verdict::parse(rest)))),
                Some((verdict, names)) => {
                    row.extend(list(names).map(|it| (it, Verdict::parse(verdict))));
                }
            }
        } else {
            if !row.is_empty() {
                let row = std::mem::take(&mut row);
                out.extend(std::mem::take(&mut requests).into_iter().map(|it| (it, row.clone())));
            }
            requests.push(line.to_owned());
        }
    }
    out
}

/// Writes the file.
pub(super) fn record(verdicts: &Verdicts) {
    let mut rows: BTreeMap<&Row, Vec<&String>> = BTreeMap::new();
    for (request, row) in verdicts {
        rows.entry(row).or_default().push(request);
    }
    let mut rows: Vec<(&Row, Vec<&String>)> = rows.into_iter().collect();
    rows.sort_by(|a, b| a.1.cmp(&b.1));
    let most = rows.iter().max_by_key(|(row, requests)| row.len() * requests.len());
    let everybody: Vec<&String> = most.map(|(row, _)| row.keys().collect()).unwrap_or_default();
    let join =
        |names: &[&String]| names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
    let mut text = format!("{HEAD}@ {}\n", join(&everybody));
    for (row, requests) in rows {
        for request in requests {
            writeln!(text, "{request}").unwrap();
        }
        let mut by: BTreeMap<&Verdict, Vec<&String>> = BTreeMap::new();
        for (caller, verdict) in row {
            by.entry(verdict).or_default().push(caller);
        }
        let most = by.iter().max_by_key(|(_, names)| names.len()).map(|(verdict, _)| *verdict);
        let most = most.filter(|_| row.keys().eq(everybody.iter().copied()));
        if let Some(most) = most {
            writeln!(text, "  {most}").unwrap();
        }
        for (verdict, names) in by.iter().filter(|(verdict, _)| Some(**verdict) != most) {
            writeln!(text, "  {verdict}: {}", join(names)).unwrap();
        }
    }
    std::fs::write(file(), text).unwrap();
}
