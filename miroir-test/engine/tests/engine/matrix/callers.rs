//! Who asks: a key for every action and set of indexes, tokens with every kind of rules, nobody.

use std::collections::BTreeSet;

use miroir_api::meili::KeyAction;
use miroir_core::keys::MasterKey;
use serde_json::{Value, json};
use uuid::Uuid;

use super::samples::Sample;
use crate::support::token;

/// Indexes of keys, by what they are to those of the samples.
const INDEXES: &[(&str, &[&str])] = &[
    ("all", &["*"]),
    ("exact", &["seen", "gone", "made"]),
    ("prefix", &["se*", "go*", "ma*"]),
    ("other", &["other"]),
    ("none", &[]),
];

/// Search rules of tokens.
fn rules() -> [(&'static str, Value); 7] {
    [
        ("any", json!(["*"])),
        ("listed", json!(["seen"])),
        ("open", json!({"*": null})),
        ("filtered", json!({"seen": {"filter": "kind = crimson"}, "*": null})),
        ("a filter for all", json!({"*": {"filter": "kind = crimson"}})),
        ("missing", json!({"other": {}})),
        ("no rule", json!({})),
    ]
}

/// Somebody, with what they send.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub(super) name: String,
    /// The value of `Authorization`.
    pub(super) authorization: Option<String>,
}

impl Caller {
    fn bearer(name: impl Into<String>, key: &str) -> Self {
        Self { name: name.into(), authorization: Some(format!("Bearer {key}")) }
    }
}

/// A key as it is asked for.
#[derive(Clone, Debug)]
pub(super) struct NewKey {
    pub(super) name: String,
    pub(super) body: Value,
    uid: Uuid,
}

fn name(actions: &[&str], indexes: &str) -> String {
    format!("{}@{indexes}", actions.join("+"))
}

/// The keys that are made: one for each action and set of indexes, and for each set of actions that a
/// route demands together.
pub(super) fn keys(samples: &[Sample]) -> Vec<NewKey> {
    let mut sets: Vec<Vec<&str>> = KeyAction::NAMES.iter().map(|action| vec![*action]).collect();
    let together: BTreeSet<&[&str]> = samples.iter().map(|it| it.actions).collect();
    sets.extend(together.into_iter().filter(|set| set.len() > 1).map(<[&str]>::to_vec));
    let mut out = Vec::new();
    for actions in sets {
        for (indexes, patterns) in INDEXES {
            let name = name(&actions, indexes);
            let uid = Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes());
            let body =
                json!({"uid": uid, "actions": actions, "indexes": patterns, "expiresAt": null});
            out.push(NewKey { name, body, uid });
        }
    }
    out
}

/// Everybody who asks, given the keys that could be made.
pub(super) fn callers(made: &[NewKey], master: &str) -> Vec<Caller> {
    let secret = MasterKey::new(master).unwrap();
    let mut out = vec![
        Caller { name: "nobody".to_owned(), authorization: None },
        Caller { name: "basic".to_owned(), authorization: Some("Basic eDp5".to_owned()) },
        Caller::bearer("stranger", "some-other-key-0123456789"),
        Caller::bearer("master", master),
    ];
    for key in made {
        out.push(Caller::bearer(key.name.clone(), &secret.derive(key.uid)));
    }
    for (indexes, _) in INDEXES {
        for action in ["search", "*", "documents.get"] {
            let name = name(&[action], indexes);
            let Some(key) = made.iter().find(|key| key.name == name) else { continue };
            let own = secret.derive(key.uid);
            for (rule, rules) in rules() {
                let claims = json!({"apiKeyUid": key.uid, "searchRules": rules});
                out.push(Caller::bearer(format!("{name} {rule}"), &token(&claims, &own)));
            }
            let claims = json!({"apiKeyUid": key.uid, "searchRules": ["*"], "exp": 1_000_000_000});
            out.push(Caller::bearer(format!("{name} expired"), &token(&claims, &own)));
            let claims = json!({"apiKeyUid": key.uid, "searchRules": ["*"]});
            out.push(Caller::bearer(format!("{name} forged"), &token(&claims, master)));
        }
    }
    out
}

/// Those of the callers who send a sample in every form: who may, who may not for one reason each.
pub(super) fn few<'a>(all: &'a [Caller], sample: &Sample) -> Vec<&'a Caller> {
    let mut names = vec!["nobody".to_owned(), "master".to_owned(), name(&["version"], "all")];
    if !sample.actions.is_empty() {
        names.extend(["all", "exact", "other"].map(|indexes| name(sample.actions, indexes)));
    }
    names.extend(["filtered", "missing"].map(|rule| format!("search@all {rule}")));
    all.iter().filter(|caller| names.contains(&caller.name)).collect()
}

/// Those who are asked about one request where not all are: whom its actions concern, and of all others
/// every fourth, others each time.
pub(super) fn thinned<'a>(all: &'a [Caller], sample: &Sample, turn: usize) -> Vec<&'a Caller> {
    let group = |action: &str| action.split_once('.').map(|(group, _)| format!("{group}.*"));
    let concerned = |caller: &Caller| {
        let Some((actions, _)) = caller.name.split_once('@') else { return true };
        matches!(actions, "*" | "*.get")
            || actions == sample.actions.join("+")
            || sample
                .actions
                .iter()
                .any(|own| actions == *own || group(own).is_some_and(|group| actions == group))
    };
    let all = all.iter().enumerate();
    all.filter(|(at, caller)| concerned(caller) || (at + turn).is_multiple_of(4))
        .map(|(_, caller)| caller)
        .collect()
}
