//! What a comparison has found.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::differ::Difference;
use super::side::{Answer, Request};

/// Examples of one kind on one route, at most.
const OF_A_KIND: u64 = 3;
/// Bytes of a body or value that are shown.
const SHOWN: usize = 4000;

/// Counts and examples.
#[derive(Debug, Default)]
pub struct Report {
    /// Requests that were compared.
    requests: u64,
    /// Those with a difference.
    different: u64,
    /// How often each kind was seen, by route (`GET /tasks/{uid}`).
    kinds: BTreeMap<(String, String), u64>,
    /// What else happened, such as tokens that could not be signed anew.
    notes: BTreeMap<String, u64>,
    examples: Vec<String>,
    /// Most examples.
    limit: usize,
}

impl Report {
    /// An empty report that keeps `limit` examples.
    pub fn new(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }

    /// Counts a comparison.
    pub fn add(
        &mut self,
        request: &Request,
        template: &str,
        [reference, candidate]: [&Answer; 2],
        differences: &[Difference],
    ) {
        self.requests += 1;
        if differences.is_empty() {
            return;
        }
        self.different += 1;
        let route = format!("{} {template}", request.method);
        let mut new = false;
        for difference in differences {
            let count = self.kinds.entry((route.clone(), difference.kind.clone())).or_default();
            *count += 1;
            new |= *count <= OF_A_KIND;
        }
        if new && self.examples.len() < self.limit {
            self.examples.push(example(request, [reference, candidate], differences));
        }
    }

    /// Counts something that is no difference and worth knowing.
    pub fn note(&mut self, what: &str) {
        *self.notes.entry(what.to_owned()).or_default() += 1;
    }

    /// Whether nothing differed.
    pub fn is_clean(&self) -> bool {
        self.different == 0
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for (number, example) in self.examples.iter().enumerate() {
            let _ = writeln!(out, "{}. {example}", number + 1);
        }
        let _ = writeln!(out, "{} requests compared, {} differ", self.requests, self.different);
        let mut kinds: Vec<_> = self.kinds.iter().collect();
        kinds.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        for ((route, kind), count) in kinds {
            let _ = writeln!(out, "{count:6}  {route}  {kind}");
        }
        for (what, count) in &self.notes {
            let _ = writeln!(out, "  note: {count} {what}");
        }
        out
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let kinds = self
            .kinds
            .iter()
            .map(|((route, kind), count)| json!({"route": route, "kind": kind, "count": count}));
        json!({
            "requests": self.requests, "different": self.different,
            "kinds": kinds.collect::<Vec<_>>(), "notes": self.notes, "examples": self.examples,
        })
    }
}

/// A request and its answers in full. Keys of clients are not shown.
fn example(request: &Request, answers: [&Answer; 2], differences: &[Difference]) -> String {
    let mut out = format!("{} {}\n", request.method, request.target);
    if !request.body.is_empty() {
        let _ = writeln!(out, "   sent       {}", bytes(&request.body));
    }
    for (name, answer) in ["reference", "candidate"].iter().zip(answers) {
        let _ = writeln!(out, "   {name:9}  {} {}", answer.status, bytes(&answer.body));
    }
    for difference in differences {
        let (one, other) = (&difference.reference, &difference.candidate);
        let _ = writeln!(out, "   {} at `{}`", difference.kind, difference.at);
        let _ = writeln!(out, "     {}\n     {}", cut(&one.to_string()), cut(&other.to_string()));
    }
    out
}

fn bytes(body: &[u8]) -> String {
    cut(&String::from_utf8_lossy(body))
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}… ({} bytes)", &text[..at], text.len()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, Method};

    use super::*;

    #[test]
    fn kinds_are_counted_by_route_and_examples_are_few() {
        let mut report = Report::new(2);
        let request = |target: &str| Request {
            method: Method::GET,
            target: target.to_owned(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
        };
        let answer = Answer { status: 200, body: Bytes::from("{}"), ..Answer::default() };
        let difference = Difference {
            kind: "value /a".into(),
            at: "/a".into(),
            reference: json!(1),
            candidate: json!(2),
        };
        for number in 0..5 {
            let request = request(&format!("/indexes/{number}"));
            report.add(&request, "/indexes/{uid}", [&answer; 2], std::slice::from_ref(&difference));
        }
        report.add(&request("/indexes/6"), "/indexes/{uid}", [&answer; 2], &[]);
        report.note("tokens");
        assert!(!report.is_clean());
        let told = report.json();
        assert_eq!((&told["requests"], &told["different"]), (&json!(6), &json!(5)));
        assert_eq!(told["examples"].as_array().unwrap().len(), 2);
        let text = report.text();
        assert!(text.contains("GET /indexes/{uid}  value /a") && text.contains("note: 1 tokens"));
    }

    #[test]
    fn long_values_are_cut_between_letters() {
        let text = "é".repeat(SHOWN + 1);
        assert!(cut(&text).contains('…') && cut("short") == "short");
    }
}
