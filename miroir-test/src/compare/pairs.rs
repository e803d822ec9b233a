//! What one server calls one thing and the other another: uids that each of them hands out.

use std::collections::BTreeMap;

use serde_json::Value;

use super::side::Side;

/// What has a name of its own on each side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The uid of a task.
    Task,
    /// The uid of a batch. A batch of one side may be several of the other: the last one seen counts.
    Batch,
    /// The uid of an API key.
    KeyUid,
    /// An API key.
    Key,
    /// The uuid of a webhook.
    Webhook,
}

/// The names that belong together.
#[derive(Debug, Default)]
pub struct Pairs {
    reference: BTreeMap<(Kind, String), String>,
    candidate: BTreeMap<(Kind, String), String>,
    /// The key of each uid.
    secrets: BTreeMap<(Side, String), String>,
}

impl Pairs {
    /// Takes note that the reference's `reference` is the candidate's `candidate`.
    pub fn learn(&mut self, kind: Kind, reference: &str, candidate: &str) {
        self.reference.insert((kind, reference.to_owned()), candidate.to_owned());
        self.candidate.insert((kind, candidate.to_owned()), reference.to_owned());
    }

    /// What the other side calls `name` of `side`; `None` if that was never seen.
    pub fn other(&self, side: Side, kind: Kind, name: &str) -> Option<&str> {
        let known = match side {
            Side::Reference => &self.reference,
            Side::Candidate => &self.candidate,
        };
        known.get(&(kind, name.to_owned())).map(String::as_str)
    }

    /// The reference's name of what `side` calls `name`; `None` if that was never seen.
    pub fn common<'a>(&'a self, side: Side, kind: Kind, name: &'a str) -> Option<&'a str> {
        match side {
            Side::Reference => self.other(side, kind, name).map(|_| name),
            Side::Candidate => self.other(side, kind, name),
        }
    }

    /// Learns from two answers to one request.
    pub fn learn_answers(&mut self, reference: &Value, candidate: &Value) {
        self.learn_uids(Kind::Task, "taskUid", reference, candidate);
        if reference["actions"].is_array() && candidate["actions"].is_array() {
            self.learn_key(reference, candidate);
        }
        if reference["isEditable"].is_boolean() && candidate["isEditable"].is_boolean() {
            self.learn_texts(Kind::Webhook, "uuid", reference, candidate);
        }
        self.learn_batch(reference, candidate);
        if let (Some(left), Some(right)) = (rows(reference), rows(candidate)) {
            for one in left {
                let common = |other: &&Value| {
                    self.other(Side::Candidate, Kind::Task, &other["uid"].to_string())
                        == Some(one["uid"].to_string().as_str())
                };
                if let Some(other) = right.iter().find(common) {
                    self.learn_batch(one, other);
                }
            }
        }
    }

    /// Learns the keys that two lists have under the same name with the same actions.
    pub fn learn_keys(&mut self, reference: &Value, candidate: &Value) {
        let (Some(left), Some(right)) = (rows(reference), rows(candidate)) else { return };
        for one in left {
            let same =
                |other: &&Value| other["name"] == one["name"] && other["actions"] == one["actions"];
            if let Some(other) = right.iter().find(same) {
                self.learn_key(one, other);
            }
        }
    }

    /// The key of a uid, as a side showed it.
    pub fn secret(&self, side: Side, uid: &str) -> Option<&str> {
        self.secrets.get(&(side, uid.to_owned())).map(String::as_str)
    }

    fn learn_key(&mut self, reference: &Value, candidate: &Value) {
        for (side, shown) in [(Side::Reference, reference), (Side::Candidate, candidate)] {
            if let (Some(uid), Some(key)) = (shown["uid"].as_str(), shown["key"].as_str()) {
                self.secrets.insert((side, uid.to_owned()), key.to_owned());
            }
        }
        self.learn_texts(Kind::KeyUid, "uid", reference, candidate);
        self.learn_texts(Kind::Key, "key", reference, candidate);
    }

    /// The batches of a task that both sides show.
    fn learn_batch(&mut self, reference: &Value, candidate: &Value) {
        if reference["batchUid"].is_u64() && candidate["batchUid"].is_u64() {
            self.learn_uids(Kind::Batch, "batchUid", reference, candidate);
        }
    }

    fn learn_uids(&mut self, kind: Kind, field: &str, reference: &Value, candidate: &Value) {
        if let (Some(left), Some(right)) = (reference[field].as_u64(), candidate[field].as_u64()) {
            self.learn(kind, &left.to_string(), &right.to_string());
        }
    }

    fn learn_texts(&mut self, kind: Kind, field: &str, reference: &Value, candidate: &Value) {
        if let (Some(left), Some(right)) = (reference[field].as_str(), candidate[field].as_str()) {
            self.learn(kind, left, right);
        }
    }
}

/// The elements of a list.
fn rows(list: &Value) -> Option<&Vec<Value>> {
    list["results"].as_array()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tasks_and_their_batches_are_learnt_from_answers() {
        let mut pairs = Pairs::default();
        pairs.learn_answers(&json!({"taskUid": 3}), &json!({"taskUid": 40}));
        assert_eq!(pairs.other(Side::Reference, Kind::Task, "3"), Some("40"));
        assert_eq!(pairs.other(Side::Candidate, Kind::Task, "40"), Some("3"));
        assert_eq!(pairs.other(Side::Reference, Kind::Task, "40"), None);
        assert_eq!(pairs.common(Side::Candidate, Kind::Task, "40"), Some("3"));
        assert_eq!(pairs.common(Side::Reference, Kind::Task, "3"), Some("3"));
        let list = |uid: u64, batch: u64| json!({"results": [{"uid": uid, "batchUid": batch}]});
        pairs.learn_answers(&list(3, 1), &list(40, 9));
        assert_eq!(pairs.other(Side::Reference, Kind::Batch, "1"), Some("9"));
        pairs.learn_answers(&list(5, 2), &list(40, 8));
        assert_eq!(pairs.other(Side::Reference, Kind::Batch, "2"), None);
    }

    #[test]
    fn keys_are_paired_when_they_are_made_and_by_name() {
        let mut pairs = Pairs::default();
        let key = |name: &str, uid: &str| json!({"name": name, "uid": uid, "key": format!("k-{uid}"), "actions": ["search"]});
        pairs.learn_answers(&key("a", "u1"), &key("a", "v1"));
        assert_eq!(pairs.other(Side::Reference, Kind::Key, "k-u1"), Some("k-v1"));
        let list = |keys: [Value; 2]| json!({"results": keys});
        let (left, right) = ([key("x", "u2"), key("y", "u3")], [key("y", "v3"), key("x", "v2")]);
        pairs.learn_keys(&list(left), &list(right));
        assert_eq!(pairs.other(Side::Reference, Kind::KeyUid, "u2"), Some("v2"));
        assert_eq!(pairs.other(Side::Reference, Kind::KeyUid, "u3"), Some("v3"));
    }
}
