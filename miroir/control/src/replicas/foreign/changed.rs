//! What a node's task may have changed.

use serde_json::Value;

use crate::node_tasks::NodeTaskView;

/// What a task may have changed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Changed {
    /// Nothing that Miroir keeps.
    Nothing,
    /// Documents of an index. `adds`: some may be there now that the node is not to have.
    Documents { index: String, adds: bool },
    /// Settings of an index.
    Settings(String),
    /// Indexes as a whole.
    Indexes(Vec<String>),
}

impl Changed {
    pub(super) fn by(task: &NodeTaskView) -> Self {
        let index = task.index_uid.clone();
        match (task.kind.as_str(), index) {
            ("documentAdditionOrUpdate" | "documentEdition", Some(index)) => {
                Self::Documents { index, adds: true }
            }
            ("documentDeletion", Some(index)) => Self::Documents { index, adds: false },
            ("settingsUpdate", Some(index)) => Self::Settings(index),
            ("indexCreation" | "indexUpdate" | "indexDeletion", index) => {
                let new = task.details.as_ref().and_then(|details| details.get("newIndexUid"));
                let new = new.and_then(Value::as_str).map(str::to_owned);
                Self::Indexes(index.into_iter().chain(new).collect())
            }
            ("indexSwap", _) => {
                let swaps = task.details.as_ref().and_then(|details| details.get("swaps"));
                let swaps = swaps.and_then(Value::as_array).into_iter().flatten();
                let names = swaps.filter_map(|swap| swap["indexes"].as_array()).flatten();
                Self::Indexes(names.filter_map(Value::as_str).map(str::to_owned).collect())
            }
            _ => Self::Nothing,
        }
    }

    pub(super) fn indexes(&self) -> Vec<&str> {
        match self {
            Self::Nothing => Vec::new(),
            Self::Documents { index, .. } | Self::Settings(index) => vec![index],
            Self::Indexes(all) => all.iter().map(String::as_str).collect(),
        }
    }
}

/// The index that a task makes where there is none.
pub(super) fn makes(task: &NodeTaskView) -> Option<&str> {
    let makes =
        matches!(&*task.kind, "documentAdditionOrUpdate" | "settingsUpdate" | "indexCreation");
    task.index_uid.as_deref().filter(|_| makes)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn task(value: Value) -> NodeTaskView {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_task_says_what_it_may_have_changed() {
        let by = |kind: &str, index: Value, details: Value| {
            let task = json!({
                "uid": 1, "status": "succeeded", "type": kind, "indexUid": index,
                "details": details,
            });
            Changed::by(&self::task(task))
        };
        let indexes = |names: &[&str]| {
            Changed::Indexes(names.iter().map(|name| (*name).to_owned()).collect())
        };
        let x = || "x".to_owned();
        assert_eq!(
            by("documentEdition", json!("x"), Value::Null),
            Changed::Documents { index: x(), adds: true }
        );
        assert_eq!(
            by("documentDeletion", json!("x"), Value::Null),
            Changed::Documents { index: x(), adds: false }
        );
        let makes = |kind: &str| {
            let task = json!({"uid": 1, "status": "succeeded", "type": kind, "indexUid": "x"});
            super::makes(&self::task(task)).map(str::to_owned)
        };
        for kind in ["documentAdditionOrUpdate", "settingsUpdate", "indexCreation"] {
            assert_eq!(makes(kind), Some(x()), "{kind}");
        }
        for kind in ["documentDeletion", "documentEdition", "indexDeletion", "indexUpdate"] {
            assert_eq!(makes(kind), None, "{kind}");
        }
        assert_eq!(by("settingsUpdate", json!("x"), Value::Null), Changed::Settings(x()));
        assert_eq!(by("indexDeletion", json!("x"), Value::Null), indexes(&["x"]));
        assert_eq!(
            by("indexUpdate", json!("x"), json!({"newIndexUid": "y"})),
            indexes(&["x", "y"])
        );
        let swaps = json!({"swaps": [{"indexes": ["x", "y"]}, {"indexes": ["z", "x"]}]});
        assert_eq!(by("indexSwap", Value::Null, swaps), indexes(&["x", "y", "z", "x"]));
        for kind in ["snapshotCreation", "dumpCreation", "taskDeletion", "upgradeDatabase"] {
            assert_eq!(by(kind, Value::Null, Value::Null), Changed::Nothing);
        }
    }
}
