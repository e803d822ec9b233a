//! Scripts: what there is before, and the changes that are sent without waiting.

use std::fmt;

use serde_json::{Value, json};

/// How many indexes a script is about.
pub(super) const INDEXES: usize = 3;
/// Most changes of one script, and fewest.
const CHANGES: (u64, u64) = (2, 9);
/// Ids of documents, by either primary key.
const IDS: u64 = 5;

/// What an index is before the changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// There is none.
    Absent,
    /// Made without a primary key.
    Empty,
    /// Made with the primary key `id`, without documents.
    Keyed,
    /// With two documents, and a filterable attribute.
    Filled,
}

/// One request. Indexes are numbers below [`INDEXES`], so that a script can be played under any names.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Change {
    /// `POST /indexes`.
    Create(usize, Option<&'static str>),
    /// `POST` (or `PUT`: the flag) `/indexes/…/documents`, with `?primaryKey=` if there is one.
    Documents(usize, bool, Option<&'static str>, Value),
    /// `DELETE /indexes/…/documents/…`.
    DeleteOne(usize, u64),
    /// `POST /indexes/…/documents/delete` with a filter.
    DeleteBy(usize, u64),
    /// `DELETE /indexes/…/documents`.
    DeleteAll(usize),
    /// `PATCH /indexes/…/settings`.
    Settings(usize, Value),
    /// `DELETE /indexes/…/settings`.
    Reset(usize),
    /// `PATCH /indexes/…` with a primary key.
    Key(usize, &'static str),
    /// `PATCH /indexes/…` with another name.
    Rename(usize, usize),
    /// `POST /swap-indexes`; the flag: `"rename": true`.
    Swap(usize, usize, bool),
    /// `DELETE /indexes/…`.
    Delete(usize),
}

/// A script.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Script {
    /// What there is before.
    pub(super) starts: [Start; INDEXES],
    /// What is sent.
    pub(super) changes: Vec<Change>,
}

/// A request as it is sent: method, path, body.
pub(super) type Request = (&'static str, String, Option<Value>);

/// Random numbers that follow from a seed (SplitMix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }

    fn of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize].clone()
    }
}

impl Script {
    /// The script of a seed.
    pub(super) fn of(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let kinds = [Start::Absent, Start::Empty, Start::Keyed, Start::Filled];
        let starts = std::array::from_fn(|_| dice.of(&kinds));
        let count = CHANGES.0 + dice.below(CHANGES.1 - CHANGES.0 + 1);
        let changes = (0..count).map(|_| change(&mut dice)).collect();
        Self { starts, changes }
    }

    /// The requests that make what there is before; each is waited for.
    pub(super) fn first(&self, names: &[String; INDEXES]) -> Vec<Request> {
        let mut out = Vec::new();
        for (name, start) in names.iter().zip(self.starts) {
            let mut make = |body: Value| out.push(("POST", "/indexes".to_owned(), Some(body)));
            match start {
                Start::Absent => {}
                Start::Empty => make(json!({"uid": name})),
                Start::Keyed => make(json!({"uid": name, "primaryKey": "id"})),
                Start::Filled => {
                    let settings = json!({"filterableAttributes": ["v"]});
                    out.push(("PATCH", format!("/indexes/{name}/settings"), Some(settings)));
                    let documents = json!([document(7, 0), document(8, 1)]);
                    out.push(("POST", format!("/indexes/{name}/documents"), Some(documents)));
                }
            }
        }
        out
    }

    /// The script without one of its changes.
    pub(super) fn without(&self, at: usize) -> Self {
        let mut out = self.clone();
        out.changes.remove(at);
        out
    }

    /// The script with an index that is absent in the beginning.
    pub(super) fn absent(&self, index: usize) -> Self {
        let mut out = self.clone();
        out.starts[index] = Start::Absent;
        out
    }
}

/// A document that has both primary keys.
fn document(id: u64, v: u64) -> Value {
    json!({"id": id, "k": format!("k{id}"), "v": v})
}

/// One change. The first index is in more of them than the others, so that they meet.
fn change(dice: &mut Dice) -> Change {
    let x = dice.of(&[0, 0, 0, 1, 1, 2]);
    let y = (x + 1 + dice.below(INDEXES as u64 - 1) as usize) % INDEXES;
    let id = 1 + dice.below(IDS);
    match dice.below(18) {
        0..=1 => Change::Create(x, dice.of(&[None, Some("id"), Some("k")])),
        2..=6 => Change::Documents(x, dice.one_in(3), key(dice), documents(dice)),
        7 => match dice.below(3) {
            0 => Change::DeleteOne(x, dice.of(&[id, 7])),
            1 => Change::DeleteBy(x, dice.below(2)),
            _ => Change::DeleteAll(x),
        },
        8..=10 => Change::Settings(x, settings(dice)),
        11 => Change::Reset(x),
        12..=13 => Change::Key(x, dice.of(&["id", "k"])),
        14 => Change::Rename(x, y),
        15..=16 => Change::Swap(x, y, dice.one_in(4)),
        _ => Change::Delete(x),
    }
}

/// A primary key that documents name; mostly none.
fn key(dice: &mut Dice) -> Option<&'static str> {
    dice.of(&[None, None, None, None, Some("id"), Some("k")])
}

/// One to three documents; sometimes without one of the keys.
fn documents(dice: &mut Dice) -> Value {
    let lacks = match dice.below(8) {
        0 => Some("id"),
        1 => Some("k"),
        _ => None,
    };
    let count = 1 + dice.below(3);
    let mut all = Vec::new();
    for _ in 0..count {
        let (id, v) = (1 + dice.below(IDS), dice.below(2));
        let mut document = document(id, v);
        if let (Some(name), Some(fields)) = (lacks, document.as_object_mut()) {
            fields.shift_remove(name);
        }
        all.push(document);
    }
    Value::Array(all)
}

fn settings(dice: &mut Dice) -> Value {
    match dice.below(4) {
        0 => json!({"displayedAttributes": ["id", "k"]}),
        1 => json!({"stopWords": (["the"]), "searchableAttributes": ["k"]}),
        2 => json!({"filterableAttributes": ["v"]}),
        _ => json!({"stopWords": ["a", "an"], "synonyms": {"x": ["y"]}}),
    }
}

impl Change {
    /// The request under these names.
    pub(super) fn request(&self, names: &[String; INDEXES]) -> Request {
        let path = |index: usize, rest: &str| format!("/indexes/{}{rest}", names[index]);
        match self {
            Self::Create(x, key) => {
                let mut body = json!({"uid": names[*x]});
                if let Some(key) = key {
                    body["primaryKey"] = json!(key);
                }
                ("POST", "/indexes".to_owned(), Some(body))
            }
            Self::Documents(x, partial, key, documents) => {
                let query = key.map_or(String::new(), |key| format!("?primaryKey={key}"));
                let method = if *partial { "PUT" } else { "POST" };
                (method, path(*x, &format!("/documents{query}")), Some(documents.clone()))
            }
            Self::DeleteOne(x, id) => ("DELETE", path(*x, &format!("/documents/{id}")), None),
            Self::DeleteBy(x, v) => {
                let body = json!({"filter": format!("v = {v}")});
                ("POST", path(*x, "/documents/delete"), Some(body))
            }
            Self::DeleteAll(x) => ("DELETE", path(*x, "/documents"), None),
            Self::Settings(x, settings) => ("PATCH", path(*x, "/settings"), Some(settings.clone())),
            Self::Reset(x) => ("DELETE", path(*x, "/settings"), None),
            Self::Key(x, key) => ("PATCH", path(*x, ""), Some(json!({"primaryKey": key}))),
            Self::Rename(x, y) => ("PATCH", path(*x, ""), Some(json!({"uid": names[*y]}))),
            Self::Swap(x, y, rename) => {
                let mut swap = json!({"indexes": [names[*x], names[*y]]});
                if *rename {
                    swap["rename"] = json!(true);
                }
                ("POST", "/swap-indexes".to_owned(), Some(json!([swap])))
            }
            Self::Delete(x) => ("DELETE", path(*x, ""), None),
        }
    }
}

/// The names that scripts are printed with.
pub(super) fn letters() -> [String; INDEXES] {
    ["x", "y", "z"].map(str::to_owned)
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = letters();
        for (name, start) in names.iter().zip(self.starts) {
            if start != Start::Absent {
                writeln!(f, "    {name} is {start:?}")?;
            }
        }
        for (number, change) in self.changes.iter().enumerate() {
            let (method, path, body) = change.request(&names);
            let body = body.map_or(String::new(), |body| body.to_string());
            writeln!(f, "    {number}: {method} {path} {body}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::mem::discriminant;

    use super::*;

    #[test]
    fn a_seed_gives_the_same_script_again_and_all_kinds_of_changes_come() {
        assert_eq!(Script::of(5), Script::of(5));
        let all: Vec<Change> = (0..200).flat_map(|seed| Script::of(seed).changes).collect();
        let mut kinds: Vec<_> = Vec::new();
        for change in &all {
            if !kinds.contains(&discriminant(change)) {
                kinds.push(discriminant(change));
            }
        }
        assert_eq!(kinds.len(), 11);
        let lengths: BTreeSet<usize> =
            (0..200).map(|seed| Script::of(seed).changes.len()).collect();
        assert_eq!(lengths.first(), Some(&2));
        assert_eq!(lengths.last(), Some(&9));
    }

    #[test]
    fn no_change_moves_an_index_to_its_own_name() {
        for change in (0..500).flat_map(|seed| Script::of(seed).changes) {
            if let Change::Swap(x, y, _) | Change::Rename(x, y) = change {
                assert!(x != y && x < INDEXES && y < INDEXES);
            }
        }
    }

    #[test]
    fn requests_name_what_they_are_told_to() {
        let names = ["one", "two", "three"].map(str::to_owned);
        let (method, path, body) = Change::Swap(0, 2, true).request(&names);
        assert_eq!((method, path.as_str()), ("POST", "/swap-indexes"));
        assert_eq!(body, Some(json!([{"indexes": ["one", "three"], "rename": true}])));
        let change = Change::Documents(1, true, Some("k"), json!([]));
        assert_eq!(change.request(&names).1, "/indexes/two/documents?primaryKey=k");
    }
}
