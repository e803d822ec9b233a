//! What two plain nodes agree on, and where a third differs from it.

use std::collections::BTreeMap;

use serde_json::Value;

/// What became of a script on one server, thing by thing: how each change was answered and how its
/// task ended, and what each index is in the end.
pub(super) type Played = BTreeMap<String, Value>;

/// A verdict on one script.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Verdict {
    /// Where the plain nodes agree and Miroir differs: the thing, theirs, its own.
    pub(super) wrong: Vec<(String, Value, Value)>,
    /// Where Miroir gives what a plain node gives for the same changes if each is waited for.
    pub(super) waited: Vec<String>,
    /// Where the plain nodes differ from each other.
    pub(super) open: Vec<String>,
}

impl Verdict {
    /// Takes out what is right because a node gives it for changes that are waited for.
    pub(super) fn allow(&mut self, waited: &Played) {
        let wrong = std::mem::take(&mut self.wrong);
        for (name, plain, given) in wrong {
            if waited.get(&name) == Some(&given) {
                self.waited.push(name);
            } else {
                self.wrong.push((name, plain, given));
            }
        }
    }
}

/// Compares what became of a script on two plain nodes and on Miroir.
pub(super) fn judge(plain: [&Played; 2], miroir: &Played) -> Verdict {
    let mut out = Verdict::default();
    let nothing = Value::Null;
    let names = plain[0].keys().chain(plain[1].keys()).chain(miroir.keys());
    let names: std::collections::BTreeSet<&String> = names.collect();
    for name in names {
        let [one, other] = plain.map(|played| played.get(name).unwrap_or(&nothing));
        let given = miroir.get(name).unwrap_or(&nothing);
        if one != other {
            out.open.push(name.clone());
        } else if one != given {
            out.wrong.push((name.clone(), one.clone(), given.clone()));
        }
    }
    out
}

/// What kind of difference it is, for a table: the things without their numbers and names, and what
/// of each differs.
pub(super) fn kind(name: &str, plain: &Value, miroir: &Value) -> String {
    let thing = name.split(' ').next().unwrap_or(name);
    let part = |value: &Value, field: &str| match &value[field] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match thing {
        "task" => {
            let shown = |value: &Value| {
                let code = part(value, "code");
                let status = part(value, "status");
                if code == "null" { status } else { format!("{status} {code}") }
            };
            let (left, right) = (shown(plain), shown(miroir));
            if left == right {
                format!("task {}: details", part(plain, "type"))
            } else {
                format!("task {}: {left} / {right}", part(plain, "type"))
            }
        }
        "index" if plain.is_null() || miroir.is_null() => {
            let shown = |value: &Value| if value.is_null() { "no index" } else { "an index" };
            format!("index: {} / {}", shown(plain), shown(miroir))
        }
        "index" => {
            let fields = ["primaryKey", "documents", "settings"];
            let differ = fields.iter().filter(|field| plain[**field] != miroir[**field]);
            format!("index: {}", differ.copied().collect::<Vec<_>>().join(", "))
        }
        _ => format!("{thing}: {} / {}", part(plain, "status"), part(miroir, "status")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn played(things: &[(&str, Value)]) -> Played {
        things.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
    }

    #[test]
    fn only_what_two_nodes_agree_on_binds() {
        let one = played(&[("task 0", json!(1)), ("task 1", json!(1)), ("index x", json!(1))]);
        let other = played(&[("task 0", json!(1)), ("task 1", json!(2)), ("index x", json!(1))]);
        let miroir = played(&[("task 0", json!(1)), ("task 1", json!(3)), ("index y", json!(1))]);
        let verdict = judge([&one, &other], &miroir);
        assert_eq!(verdict.open, ["task 1"]);
        let wrong = [
            ("index x".to_owned(), json!(1), Value::Null),
            ("index y".to_owned(), Value::Null, json!(1)),
        ];
        assert_eq!(verdict.wrong, wrong);
    }

    #[test]
    fn what_one_who_waits_is_given_is_right_too() {
        let plain = played(&[("task 0", json!(1)), ("task 1", json!(1))]);
        let miroir = played(&[("task 0", json!(2)), ("task 1", json!(2))]);
        let mut verdict = judge([&plain, &plain], &miroir);
        verdict.allow(&played(&[("task 0", json!(2)), ("task 1", json!(3))]));
        assert_eq!(verdict.waited, ["task 0"]);
        assert_eq!(verdict.wrong, [("task 1".to_owned(), json!(1), json!(2))]);
    }

    #[test]
    fn kinds_say_what_differs() {
        let task = |status: &str, code: Value| json!({"type": "indexSwap", "status": status, "code": code, "details": null});
        assert_eq!(
            kind(
                "task 3",
                &task("succeeded", json!(null)),
                &task("failed", json!("index_not_found"))
            ),
            "task indexSwap: succeeded / failed index_not_found"
        );
        let index = |key: &str| json!({"primaryKey": key, "documents": [], "settings": {}});
        assert_eq!(kind("index x", &index("id"), &index("k")), "index: primaryKey");
        assert_eq!(kind("index x", &index("id"), &Value::Null), "index: an index / no index");
        assert_eq!(
            kind("answer 0", &json!({"status": 202}), &json!({"status": 404})),
            "answer: 202 / 404"
        );
    }
}
