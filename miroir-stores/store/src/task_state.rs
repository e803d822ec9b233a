//! What a task keeps of its way through several steps, so that a process that starts after a crash
//! goes on where the one before stopped.
//!
//! In stores it is the JSON object `protocol` of a task's record, and the task's kind says which
//! state the object is: the kind is the tag, and cannot contradict it. The form is the one that
//! version 0.1 wrote. Pods of two versions write into one store while an update rolls over them, and
//! an update may be taken back; so a migration that rewrites rows would not do, and a new form would
//! be lost on whoever knows the old one only. A field that a version does not know is an error.

use std::collections::{BTreeMap, BTreeSet};

use miroir_api::meili::TaskKind;
use miroir_api::{IndexUid, NodeId, TaskUid};
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};
use uuid::Uuid;

/// The key under which JSON has the task's kind while it is read or written.
const KIND: &str = "kind";
/// The key of [`TaskProtocol::cancelation`].
const CANCELED_BY: &str = "canceledBy";
/// What version 0.1 wrote into proposals, and nobody reads.
const UNREAD: [&str; 2] = ["step", "attempt"];

/// Uids in ascending ranges, both ends included.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UidRanges(Vec<[u32; 2]>);

impl UidRanges {
    /// The ranges of ascending uids.
    #[must_use]
    pub fn of(uids: &[u32]) -> Self {
        let mut out: Vec<[u32; 2]> = Vec::new();
        for &uid in uids {
            match out.last_mut() {
                Some([_, last]) if last.checked_add(1) == Some(uid) => *last = uid,
                _ => out.push([uid, uid]),
            }
        }
        Self(out)
    }

    /// The uids, ascending.
    pub fn uids(&self) -> impl Iterator<Item = u32> {
        self.0.iter().flat_map(|[first, last]| *first..=*last)
    }
}

/// Settings on their way to the nodes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proposal {
    /// What nodes have in another form than the client set, as the client set it.
    pub overlay: Map<String, Value>,
    /// What the client set, as the task shows it.
    pub submitted: Map<String, Value>,
    /// The body of the nodes' `PATCH`.
    pub patch: Map<String, Value>,
}

/// The name that one index is to have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Move {
    /// The index.
    pub incarnation: Uuid,
    /// Its name on the nodes.
    pub physical: String,
    /// The name it had when this was decided.
    pub from: IndexUid,
    /// The name it is to have; may be the same.
    pub to: IndexUid,
}

/// What a change of names is to do: all of it, in one step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Renaming {
    /// The names that indexes are to have.
    pub moves: Vec<Move>,
    /// The primary key that they are to have, if another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary_key: Option<String>,
}

impl Renaming {
    /// The names, and the names on the nodes, of the indexes in question: nobody else changes or makes
    /// one of them while this is carried out.
    pub fn gates(&self) -> BTreeSet<String> {
        let of = |of: &Move| [of.physical.clone(), of.from.to_string(), of.to.to_string()];
        self.moves.iter().flat_map(of).collect()
    }
}

/// How far a broadcast of settings is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Broadcast {
    /// Nodes were told, or are being told.
    #[serde(rename = "settings")]
    Proposed(Box<Proposal>),
    /// All agreed; the settings version it became.
    #[serde(rename = "done")]
    Committed(u64),
}

/// What was stored is no state of such a task.
#[derive(Clone, Debug, PartialEq)]
pub struct Unreadable {
    /// What was stored. It stays stored.
    json: Value,
    /// What is wrong with it.
    why: String,
}

impl Unreadable {
    /// What is wrong with what was stored.
    #[must_use]
    pub fn why(&self) -> &str {
        &self.why
    }
}

/// Where the operation of a task stands, by kind of operation. Kinds that are not here keep nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum TaskState {
    /// Documents are added.
    #[serde(rename = "documentAdditionOrUpdate")]
    Addition {
        /// Documents of different ids: what the task shows once it is done.
        indexed: u64,
    },
    /// Documents are edited by function.
    #[serde(rename = "documentEdition")]
    Edition {
        /// Lines that Miroir put before the client's function: errors count them.
        lines_before: usize,
    },
    /// An index is deleted while a node is missing.
    #[serde(rename = "indexDeletion")]
    IndexDeletion {
        /// How many documents it had.
        documents: u64,
    },
    /// Settings are changed.
    #[serde(rename = "settingsUpdate")]
    Settings(Broadcast),
    /// Indexes get other names; the task ends after what was enqueued about them before.
    #[serde(rename = "indexUpdate", alias = "indexSwap")]
    Rename {
        /// The indexes, as nodes call them, whose tasks before this one it ends after. While there is
        /// an intent: it is deferred until these have ended, or a later task needs the names.
        awaits: Vec<String>,
        /// What is to be done, until it is done.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        intent: Option<Renaming>,
    },
    /// Nodes write dumps.
    #[serde(rename = "dumpCreation")]
    Dump {
        /// What nodes called theirs.
        dumps: BTreeMap<NodeId, String>,
    },
    /// Tasks are canceled.
    #[serde(rename = "taskCancelation")]
    Cancelation {
        /// The tasks.
        chosen: UidRanges,
        /// Those that it was passed on to nodes for, once it was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        passed: Option<UidRanges>,
    },
    /// Tasks are forgotten.
    #[serde(rename = "taskDeletion")]
    Deletion {
        /// The tasks.
        chosen: UidRanges,
        /// Those that were under way when it was first looked at: it waits for them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        awaited: Option<UidRanges>,
        /// How many are forgotten already, once it has begun.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        forgotten: Option<u64>,
    },
    /// Nobody knows. The task must not go on, nor succeed.
    #[serde(skip)]
    Unreadable(Unreadable),
}

/// What a task keeps. Most keep nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TaskProtocol {
    /// Where its operation stands.
    pub state: Option<TaskState>,
    /// The cancelation that was passed on to its nodes. They may have been faster.
    pub cancelation: Option<TaskUid>,
}

impl TaskProtocol {
    /// The change of names that the task is to make and has not made yet.
    pub fn intent(&self) -> Option<&Renaming> {
        match &self.state {
            Some(TaskState::Rename { intent, .. }) => intent.as_ref(),
            _ => None,
        }
    }
}

impl From<TaskState> for TaskProtocol {
    fn from(state: TaskState) -> Self {
        Self { state: Some(state), cancelation: None }
    }
}

impl TaskProtocol {
    /// What is stored of a task of this kind. What cannot be read is [`TaskState::Unreadable`].
    fn read(kind: TaskKind, json: Value) -> Self {
        match Self::parse(kind, json.clone()) {
            Ok(protocol) => protocol,
            Err(why) => TaskState::Unreadable(Unreadable { json, why }).into(),
        }
    }

    fn parse(kind: TaskKind, json: Value) -> Result<Self, String> {
        let mut fields = match json {
            Value::Null => return Ok(Self::default()),
            Value::Object(fields) => fields,
            _ => return Err("it is no object".to_owned()),
        };
        let by = fields.shift_remove(CANCELED_BY).map(serde_json::from_value::<u32>).transpose();
        let cancelation = by.map_err(|error| format!("`{CANCELED_BY}`: {error}"))?.map(TaskUid);
        if fields.is_empty() {
            return Ok(Self { state: None, cancelation });
        }
        if let Some(Value::Object(proposal)) = fields.get_mut("settings") {
            for name in UNREAD {
                proposal.shift_remove(name);
            }
        }
        if fields.insert(KIND.to_owned(), kind.as_str().into()).is_some() {
            return Err(format!("unknown field `{KIND}`"));
        }
        let state = serde_json::from_value(Value::Object(fields));
        Ok(Self { state: Some(state.map_err(|error| error.to_string())?), cancelation })
    }

    /// As it is stored.
    fn write(&self) -> serde_json::Result<Value> {
        let mut fields = match &self.state {
            Some(TaskState::Unreadable(unreadable)) => return Ok(unreadable.json.clone()),
            Some(state) => serde_json::to_value(state)?,
            None if self.cancelation.is_none() => return Ok(Value::Null),
            None => Value::Object(Map::new()),
        };
        if let Value::Object(fields) = &mut fields {
            fields.shift_remove(KIND);
            if let Some(uid) = self.cancelation {
                fields.insert(CANCELED_BY.to_owned(), uid.0.into());
            }
        }
        Ok(fields)
    }
}

impl Serialize for TaskProtocol {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.write().map_err(S::Error::custom)?.serialize(serializer)
    }
}

/// Takes what is stored as it is. Whoever knows the task's kind reads it.
pub(super) fn unread<'de, D: Deserializer<'de>>(from: D) -> Result<TaskProtocol, D::Error> {
    let json = Value::deserialize(from)?;
    Ok(match json {
        Value::Null => TaskProtocol::default(),
        json => TaskState::Unreadable(Unreadable { json, why: String::new() }).into(),
    })
}

impl TaskProtocol {
    /// Reads what [`unread`] took.
    pub(super) fn of(self, kind: TaskKind) -> Self {
        match self.state {
            Some(TaskState::Unreadable(unreadable)) => Self::read(kind, unreadable.json),
            _ => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(kind: TaskKind, json: Value) -> TaskProtocol {
        TaskProtocol::read(kind, json)
    }

    fn why(kind: TaskKind, json: &Value) -> String {
        let protocol = read(kind, json.clone());
        assert_eq!(protocol.write().unwrap(), *json, "what cannot be read stays");
        match protocol.state {
            Some(TaskState::Unreadable(unreadable)) => unreadable.why().to_owned(),
            state => panic!("{json} was read as {state:?}"),
        }
    }

    /// Every form that version 0.1 wrote.
    #[test]
    fn what_was_written_is_read_and_written_again() {
        let settings = json!({"settings": {
            "overlay": {"displayedAttributes": ["a"]}, "submitted": {"displayedAttributes": ["a"]},
            "patch": {"pagination": {"maxTotalHits": null}, "ratio": 0.1},
        }});
        let intent = json!({"awaits": [], "intent": {"primary_key": "id", "moves": [{
            "incarnation": "4d766332-7e73-5695-8b34-bc3ff7213fd2", "physical": "a", "from": "a",
            "to": "b",
        }]}});
        for (kind, json) in [
            (TaskKind::DocumentAdditionOrUpdate, json!({"indexed": 3})),
            (TaskKind::DocumentAdditionOrUpdate, json!({"indexed": 0, "canceledBy": 7})),
            (TaskKind::DocumentDeletion, json!({"canceledBy": 7})),
            (TaskKind::DocumentDeletion, Value::Null),
            (TaskKind::DocumentEdition, json!({"linesBefore": 2})),
            (TaskKind::IndexDeletion, json!({"documents": 9})),
            (TaskKind::SettingsUpdate, settings),
            (TaskKind::SettingsUpdate, json!({"done": 4})),
            (TaskKind::IndexUpdate, json!({"awaits": ["a"]})),
            (TaskKind::IndexSwap, json!({"awaits": ["a", "b--2"]})),
            (TaskKind::IndexUpdate, intent),
            (TaskKind::DumpCreation, json!({"dumps": {"n0": "20240101-000000001"}})),
            (TaskKind::TaskCancelation, json!({"chosen": [[0, 3], [5, 5]]})),
            (TaskKind::TaskCancelation, json!({"chosen": [[0, 3]], "passed": []})),
            (TaskKind::TaskDeletion, json!({"chosen": []})),
            (
                TaskKind::TaskDeletion,
                json!({"chosen": [[1, 9]], "awaited": [[9, 9]], "forgotten": 8}),
            ),
        ] {
            let protocol = read(kind, json.clone());
            let fine = !matches!(protocol.state, Some(TaskState::Unreadable(_)));
            assert!(fine, "{json}: {protocol:?}");
            let written = protocol.write().unwrap();
            // A swap is stored with its own kind, and the tag of both is not.
            assert_eq!(written, json);
            assert_eq!(read(kind, written), protocol);
        }
    }

    #[test]
    fn what_nobody_reads_is_not_written_again() {
        let old = json!({"settings": {
            "step": "propose", "attempt": 0, "overlay": {}, "submitted": {}, "patch": {},
        }});
        let new = json!({"settings": {"overlay": {}, "submitted": {}, "patch": {}}});
        assert_eq!(read(TaskKind::SettingsUpdate, old).write().unwrap(), new);
    }

    #[test]
    fn what_is_no_state_of_its_kind_is_kept_and_explained() {
        for (kind, json, expected) in [
            (TaskKind::DocumentAdditionOrUpdate, json!({"linesBefore": 3}), "unknown field"),
            (TaskKind::DocumentAdditionOrUpdate, json!({"indexed": -3}), "invalid value"),
            (TaskKind::DocumentAdditionOrUpdate, json!({"indexed": 3, "more": 1}), "unknown field"),
            (TaskKind::DocumentAdditionOrUpdate, json!(["indexed"]), "no object"),
            (TaskKind::DocumentAdditionOrUpdate, json!({"kind": "export"}), "unknown field"),
            (TaskKind::DocumentAdditionOrUpdate, json!({"canceledBy": "x"}), "`canceledBy`"),
            (TaskKind::SnapshotCreation, json!({"dumps": {}}), "unknown variant"),
            (TaskKind::SettingsUpdate, json!({"settings": {"patch": {}}}), "missing field"),
            (TaskKind::SettingsUpdate, json!({"reverted": 1}), "unknown variant"),
            (TaskKind::TaskDeletion, json!({"awaited": [[1, 2]]}), "missing field `chosen`"),
            (TaskKind::TaskDeletion, json!({"chosen": [[1]]}), "invalid length"),
            (TaskKind::DumpCreation, json!({"dumps": {"": "x"}}), "node id"),
        ] {
            let why = why(kind, &json);
            assert!(why.contains(expected), "{json}: {why}");
        }
    }

    #[test]
    fn ranges_hold_the_uids_they_were_made_of() {
        for uids in [&[][..], &[0, 1, 5, u32::MAX], &[7], &[1, 2, 3, 7, 9, 10]] {
            assert_eq!(UidRanges::of(uids).uids().collect::<Vec<_>>(), uids);
        }
        assert_eq!(UidRanges::of(&[0, 1, 2, 9]).0, [[0, 2], [9, 9]]);
    }
}
