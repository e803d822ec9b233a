//! Random filters over random documents, judged by an evaluator that does not know the parser.

use std::cell::Cell;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use super::MOST;
use crate::documents::IdCase;
use crate::filter::{Keys, narrow};
use crate::merge::facet_normal_form;
use crate::routing::shard_of;

/// A filter, as it is meant.
#[derive(Clone, Debug)]
enum Meant {
    And(Vec<Meant>),
    Or(Vec<Meant>),
    Not(Box<Meant>),
    /// Something about `id` or `n`, with whether the opposite is said.
    Is(&'static str, Vec<String>, bool),
    AtLeast(&'static str, i64),
    Exists(&'static str),
}

/// A document: its id as JSON, and another field.
#[derive(Clone, Debug)]
struct Document {
    id: Value,
    n: i64,
}

impl Document {
    fn value(&self, attribute: &str) -> Value {
        if attribute == "id" { self.id.clone() } else { json!(self.n) }
    }

    fn key(&self) -> String {
        self.id.as_str().map_or_else(|| self.id.to_string(), str::to_owned)
    }
}

/// Meilisearch's equality, as found out with a real node.
fn equal(value: &Value, literal: &str) -> bool {
    match value {
        Value::String(text) => facet_normal_form(text) == facet_normal_form(literal),
        other => literal.parse::<f64>().is_ok_and(|number| other.as_f64() == Some(number)),
    }
}

impl Meant {
    fn holds(&self, document: &Document) -> bool {
        match self {
            Self::And(members) => members.iter().all(|member| member.holds(document)),
            Self::Or(members) => members.iter().any(|member| member.holds(document)),
            Self::Not(inner) => !inner.holds(document),
            Self::Is(attribute, literals, negated) => {
                let value = document.value(attribute);
                literals.iter().any(|literal| equal(&value, literal)) != *negated
            }
            Self::AtLeast(attribute, least) => {
                document.value(attribute).as_f64().is_some_and(|value| value >= *least as f64)
            }
            Self::Exists(_) => true,
        }
    }

    /// As a client might write it; `salt` decides what may be written either way.
    fn write(&self, salt: u64) -> String {
        let quoted = |text: &str, salt: u64| {
            let word = |c: char| c.is_alphanumeric() || "_-.".contains(c);
            match salt % 3 {
                0 if !text.is_empty() && text.chars().all(word) => text.to_owned(),
                1 => format!("'{text}'"),
                _ => format!("\"{text}\""),
            }
        };
        let list = |members: &[Self], word: &str| {
            let each = members.iter().enumerate().map(|(nth, member)| {
                let text = member.write(salt / 3 + nth as u64);
                // `AND` binds closer than `OR`.
                let bare = matches!(member, Self::Is(..) | Self::AtLeast(..) | Self::Exists(_))
                    || (word == "OR" && matches!(member, Self::And(_)));
                if bare && !salt.is_multiple_of(5) { text } else { format!("({text})") }
            });
            each.collect::<Vec<_>>().join(&format!(" {word} "))
        };
        match self {
            Self::And(members) => list(members, "AND"),
            Self::Or(members) => list(members, "OR"),
            Self::Not(inner) => format!("NOT ({})", inner.write(salt / 2)),
            Self::Is(attribute, literals, negated) => {
                let attribute = quoted(attribute, salt / 7);
                match literals.as_slice() {
                    [one] if !salt.is_multiple_of(4) => {
                        let how = if *negated { "!=" } else { "=" };
                        let blank = if !salt.is_multiple_of(2) { " " } else { "" };
                        format!("{attribute}{blank}{how}{blank}{}", quoted(one, salt))
                    }
                    several => {
                        let each = several.iter().zip(salt..).map(|(l, salt)| quoted(l, salt));
                        let not = if *negated { " NOT" } else { "" };
                        format!("{attribute}{not} IN[{}]", each.collect::<Vec<_>>().join(" , "))
                    }
                }
            }
            Self::AtLeast(attribute, least) => format!("{attribute} >= {least}"),
            Self::Exists(attribute) => format!("{attribute} EXISTS"),
        }
    }

    /// The request's `filter`.
    fn json(&self, salt: u64) -> Value {
        match self {
            Self::And(members) if salt.is_multiple_of(2) => {
                let each = members.iter().zip(salt..).map(|(member, salt)| match member {
                    Self::Or(any) if !salt.is_multiple_of(3) => {
                        any.iter().map(|m| m.write(salt)).collect()
                    }
                    other => Value::from(other.write(salt)),
                });
                each.collect()
            }
            _ => Value::from(self.write(salt)),
        }
    }
}

/// Few letters and digits in many forms, so that ids and literals meet.
fn id() -> impl Strategy<Value = Value> {
    prop_oneof![
        3 => "[abAB]{1,2}",
        2 => "-?0{0,1}[0-3]{1,2}",
        1 => "[1-3][eE][0-2]",
        1 => "(?i)inf|nan",
    ]
    .prop_flat_map(|text| {
        let number = text.parse::<i64>().ok().map(Value::from);
        prop_oneof![Just(Value::from(text)), Just(number.unwrap_or(json!(2)))]
    })
}

fn literal() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => id().prop_map(|id| id.as_str().map_or_else(|| id.to_string(), str::to_owned)),
        1 => "[+-]?[0-3]{1,2}(\\.0?)?",
        1 => " ?[abAB]{1,2} ?",
        1 => "[0-3]e[0-2]",
        1 => "[ａ①1]",
    ]
}

fn meant() -> impl Strategy<Value = Meant> {
    let attribute = || prop_oneof![4 => Just("id"), 1 => Just("n")];
    let several = prop::collection::vec(literal(), 0..4);
    let leaf = prop_oneof![
        8 => (attribute(), literal(), prop::bool::weighted(0.15))
            .prop_map(|(attribute, literal, negated)| Meant::Is(attribute, vec![literal], negated)),
        4 => (attribute(), several, prop::bool::weighted(0.15))
            .prop_map(|(attribute, literals, negated)| Meant::Is(attribute, literals, negated)),
        1 => (attribute(), -3_i64..30).prop_map(|(attribute, least)| Meant::AtLeast(attribute, least)),
        1 => attribute().prop_map(Meant::Exists),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        let several = prop::collection::vec(inner.clone(), 2..4);
        prop_oneof![
            3 => several.clone().prop_map(Meant::And),
            3 => several.prop_map(Meant::Or),
            1 => inner.prop_map(|inner| Meant::Not(Box::new(inner))),
        ]
    })
}

/// For 10,000 filters: every document that matches is in a shard that is asked.
#[test]
fn no_match_is_outside_of_what_a_filter_is_narrowed_to() {
    let document = |(id, n)| Document { id, n };
    let mixed = prop::collection::vec((id(), -3_i64..30).prop_map(document), 1..60);
    // Often with ids in one case only.
    let documents = (mixed, 0..3).prop_map(|(mut documents, case)| {
        for document in &mut documents {
            document.id = match (&document.id, case) {
                (Value::String(id), 0) => id.to_lowercase().into(),
                (Value::String(id), 1) => id.to_uppercase().into(),
                (id, _) => id.clone(),
            };
        }
        documents
    });
    let (narrowed, matched) = (Cell::new(0), Cell::new(0));
    let mut runner = TestRunner::new(ProptestConfig::with_cases(10_000));
    let cases = (meant(), documents, any::<u64>(), 1_u32..200);
    let outcome = runner.run(&cases, |(filter, documents, salt, shards)| {
        let json = filter.json(salt).to_string();
        let ids = documents.iter().map(Document::key);
        let id_case = ids.fold(IdCase::NONE, |all, id| all.with(IdCase::of(&id)));
        let keys = Keys { primary_key: Some("id"), id_case, shards };
        let Ok(found) = narrow(Some(&json), &keys, MOST) else { return Ok(()) };
        narrowed.set(narrowed.get() + 1);
        for document in documents.iter().filter(|document| filter.holds(document)) {
            matched.set(matched.get() + 1);
            let shard = shard_of(document.key().as_bytes(), shards);
            prop_assert!(found.shards.contains(shard), "{} finds {:?}", json, document);
        }
        Ok(())
    });
    outcome.unwrap();
    // The property says something: many are narrowed, and many of those find documents.
    assert!(narrowed.get() > 3_000, "{} narrowed", narrowed.get());
    assert!(matched.get() > 3_000, "{} found", matched.get());
}
