//! Where two answers differ.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::side::Answer;

/// Headers whose values are compared.
const HEADERS: [&str; 12] = [
    "content-type",
    "allow",
    "retry-after",
    "location",
    "www-authenticate",
    "cache-control",
    "access-control-allow-origin",
    "access-control-allow-methods",
    "access-control-allow-headers",
    "access-control-expose-headers",
    "access-control-max-age",
    "access-control-allow-credentials",
];
/// Headers that a server may send or not.
const HARMLESS: [&str; 9] = [
    "date",
    "server",
    "via",
    "connection",
    "content-length",
    "vary",
    "transfer-encoding",
    "keep-alive",
    "content-encoding",
];
/// Scores are sums of the same numbers in another order.
const SCORES: [&str; 3] = ["_rankingScore", "score", "weightedRankingScore"];
const TOLERANCE: f64 = 1e-9;
/// Parts of a place that a kind keeps.
const DEPTH: usize = 3;

/// One difference.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// What kind it is, without names and numbers of clients: `value /error/message`.
    pub kind: String,
    /// Where, as a JSON pointer; empty for the whole answer.
    pub at: String,
    /// What the reference has there; `null` if nothing.
    pub reference: Value,
    /// What the candidate has there; `null` if nothing.
    pub candidate: Value,
}

/// The differences of two answers, whose bodies were made [`normal`](super::normal::normal) if they are
/// JSON. `key_order`: the order of fields counts.
pub fn answers(
    (reference, left): (&Answer, Option<&Value>),
    (candidate, right): (&Answer, Option<&Value>),
    key_order: bool,
) -> Vec<Difference> {
    let mut out = Vec::new();
    if reference.status != candidate.status {
        let (one, other) = (reference.status, candidate.status);
        let code = |body: Option<&Value>| {
            body.and_then(|body| body["code"].as_str()).unwrap_or("-").to_owned()
        };
        out.push(Difference {
            kind: format!("status {one} {} / {other} {}", code(left), code(right)),
            at: String::new(),
            reference: json!(one),
            candidate: json!(other),
        });
        // Other headers and another body follow from it.
        return out;
    }
    headers(reference, candidate, &mut out);
    match (left, right) {
        (Some(left), Some(right)) => {
            let mut walk = Walk { out, key_order };
            walk.values("", left, right);
            return walk.out;
        }
        _ if reference.body != candidate.body => {
            let text = |answer: &Answer| json!(String::from_utf8_lossy(&answer.body));
            out.push(Difference {
                kind: "body".into(),
                at: String::new(),
                reference: text(reference),
                candidate: text(candidate),
            });
        }
        _ => {}
    }
    out
}

fn headers(reference: &Answer, candidate: &Answer, out: &mut Vec<Difference>) {
    // Lists of names, in any order.
    let listed = |name: &str, value: Option<&str>| {
        value.map(|value| {
            if matches!(name, "allow" | "access-control-allow-methods") {
                let names: BTreeSet<String> =
                    value.split(',').map(|one| one.trim().to_ascii_uppercase()).collect();
                return names.into_iter().collect::<Vec<_>>().join(", ");
            }
            value.to_owned()
        })
    };
    for name in HEADERS {
        let (one, other) = (reference.header(name), candidate.header(name));
        let (one, other) = (listed(name, one), listed(name, other));
        if one != other {
            out.push(Difference {
                kind: format!("header {name}"),
                at: String::new(),
                reference: json!(one),
                candidate: json!(other),
            });
        }
    }
    for name in candidate.headers.keys().map(http::HeaderName::as_str) {
        let known = HEADERS.contains(&name) || HARMLESS.contains(&name);
        if !known && !name.starts_with("x-miroir-") && !reference.headers.contains_key(name) {
            out.push(Difference {
                kind: format!("header {name} more"),
                at: String::new(),
                reference: Value::Null,
                candidate: json!(candidate.header(name)),
            });
        }
    }
}

struct Walk {
    out: Vec<Difference>,
    key_order: bool,
}

impl Walk {
    fn add(&mut self, what: &str, at: &str, reference: &Value, candidate: &Value) {
        self.out.push(Difference {
            kind: format!("{what} {}", general(at)),
            at: at.to_owned(),
            reference: reference.clone(),
            candidate: candidate.clone(),
        });
    }

    fn values(&mut self, at: &str, left: &Value, right: &Value) {
        match (left, right) {
            (Value::Object(one), Value::Object(other)) => {
                for (name, value) in one {
                    let at = format!("{at}/{}", escaped(name));
                    match other.get(name) {
                        Some(given) => self.values(&at, value, given),
                        None => self.add("missing", &at, value, &Value::Null),
                    }
                }
                for (name, value) in other.iter().filter(|(name, _)| !one.contains_key(*name)) {
                    self.add("more", &format!("{at}/{}", escaped(name)), &Value::Null, value);
                }
                let order = |fields: &serde_json::Map<String, Value>| -> Vec<String> {
                    fields.keys().cloned().collect()
                };
                if self.key_order && one.len() == other.len() && order(one) != order(other) {
                    self.add("order of fields", at, &json!(order(one)), &json!(order(other)));
                }
            }
            (Value::Array(one), Value::Array(other)) => self.lists(at, one, other),
            (left, right) if left == right || scores(at, left, right) => {}
            (Value::Number(_), Value::Number(_)) if left.as_f64() == right.as_f64() => {
                self.add("form of number", at, left, right);
            }
            _ => self.add("value", at, left, right),
        }
    }

    fn lists(&mut self, at: &str, one: &[Value], other: &[Value]) {
        if one == other {
            return;
        }
        if one.len() == other.len() {
            if counted(one) == counted(other) {
                return self.add("order", at, &json!(one), &json!(other));
            }
            let mut others = false;
            for (number, (left, right)) in one.iter().zip(other).enumerate() {
                let before = self.out.len();
                self.values(&format!("{at}/{number}"), left, right);
                if is_another(left, right) {
                    // It says nothing in which fields.
                    self.out.truncate(before);
                    others = true;
                }
            }
            if others {
                self.add("other elements", at, &json!(one), &json!(other));
            }
            return;
        }
        self.add("length", at, &json!(one), &json!(other));
    }
}

/// Whether two elements of lists are about different things: more of their fields differ than not.
fn is_another(left: &Value, right: &Value) -> bool {
    let (Value::Object(one), Value::Object(other)) = (left, right) else { return false };
    let same = one.iter().filter(|(name, value)| other.get(*name) == Some(*value)).count();
    2 * same < one.len().max(other.len()) && one.len() > 1
}

/// How often each value is in a list.
fn counted(list: &[Value]) -> BTreeMap<String, usize> {
    let mut out = BTreeMap::new();
    for value in list {
        *out.entry(sorted(value).to_string()).or_default() += 1;
    }
    out
}

/// A value whose fields are in the order of their names.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Array(all) => all.iter().map(sorted).collect(),
        Value::Object(fields) => {
            let fields: BTreeMap<&String, Value> =
                fields.iter().map(|(name, value)| (name, sorted(value))).collect();
            json!(fields)
        }
        other => other.clone(),
    }
}

fn scores(at: &str, left: &Value, right: &Value) -> bool {
    let name = at.rsplit('/').next().unwrap_or_default();
    SCORES.contains(&name)
        && match (left.as_f64(), right.as_f64()) {
            (Some(one), Some(other)) => (one - other).abs() <= TOLERANCE,
            _ => false,
        }
}

fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// A place without numbers, names of clients' fields and what is far inside.
fn general(at: &str) -> String {
    let mut out = Vec::new();
    for part in at.split('/').skip(1).take(DEPTH) {
        let number = part.bytes().all(|byte| byte.is_ascii_digit());
        out.push(if number { "*" } else { part });
        let own = ["hits", "documents", "facetDistribution", "facetStats", "fieldDistribution"];
        if own.contains(&part) {
            out.push("…");
            break;
        }
    }
    format!("/{}", out.join("/"))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::*;

    fn kinds(left: &Value, right: &Value) -> Vec<String> {
        let answer = Answer { status: 200, ..Answer::default() };
        let found = answers((&answer, Some(left)), (&answer, Some(right)), true);
        found.into_iter().map(|difference| difference.kind).collect()
    }

    #[test]
    fn values_differ_by_kind() {
        let same = json!({"a": [1, {"b": null}]});
        assert!(kinds(&same, &same).is_empty());
        for (left, right, expected) in [
            (json!({"a": 1}), json!({"a": 2}), "value /a"),
            (json!({"a": 1}), json!({"a": 1.0}), "form of number /a"),
            (json!({"a": 1}), json!({}), "missing /a"),
            (json!({}), json!({"a": 1}), "more /a"),
            (json!({"a": 1, "b": 2}), json!({"b": 2, "a": 1}), "order of fields /"),
            (json!([1, 2]), json!([2, 1]), "order /"),
            (json!([1]), json!([1, 2]), "length /"),
            (json!({"hits": [{"x": 1}]}), json!({"hits": [{"x": 2}]}), "value /hits/…"),
            (
                json!({"hits": [{"id": 1, "x": 1, "y": 1}]}),
                json!({"hits": [{"id": 2, "x": 2, "y": 1}]}),
                "other elements /hits/…",
            ),
            (
                json!({"results": [{"n": {"m": 1}}]}),
                json!({"results": [{"n": {"m": 2}}]}),
                "value /results/*/n",
            ),
        ] {
            assert_eq!(kinds(&left, &right), [expected]);
        }
    }

    #[test]
    fn scores_may_differ_in_the_last_digits() {
        let score = |score: f64| json!({"hits": [{"_rankingScore": score}]});
        assert!(kinds(&score(0.3), &score(0.1 + 0.2)).is_empty());
        assert_eq!(kinds(&score(0.3), &score(0.31)).len(), 1);
    }

    #[test]
    fn statuses_headers_and_texts_are_compared() {
        let answer = |status: u16, header: Option<(&str, &str)>, body: &str| {
            let mut headers = HeaderMap::new();
            if let Some((name, value)) = header {
                let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
                headers.insert(name, HeaderValue::from_str(value).unwrap());
            }
            Answer { status, headers, body: Bytes::from(body.to_owned()) }
        };
        let found = |one: Answer, other: Answer| -> Vec<String> {
            let all = answers((&one, None), (&other, None), false);
            all.into_iter().map(|difference| difference.kind).collect()
        };
        let plain = || answer(200, None, "");
        assert_eq!(found(plain(), answer(404, None, "")), ["status 200 - / 404 -"]);
        assert_eq!(found(plain(), answer(200, None, "x")), ["body"]);
        assert_eq!(found(plain(), answer(200, Some(("allow", "GET")), "")), ["header allow"]);
        assert_eq!(found(plain(), answer(200, Some(("x-new", "1")), "")), ["header x-new more"]);
        assert!(found(plain(), answer(200, Some(("x-miroir-degraded", "1")), "")).is_empty());
        let one = answer(405, Some(("allow", "GET, PUT")), "");
        assert!(found(one, answer(405, Some(("allow", "put,GET")), "")).is_empty());
    }
}
