//! Details of tasks and batches.

use miroir_pipeline::node_errors;
use serde_json::{Map, Value};

use super::{in_order, settings};

/// What comes before settings.
const FIRST: &[&str] = &[
    "receivedDocuments",
    "indexedDocuments",
    "editedDocuments",
    "primaryKey",
    "providedIds",
    "deletedDocuments",
    "matchedTasks",
    "canceledTasks",
    "deletedTasks",
    "originalFilter",
    "dumpUid",
    "context",
    "function",
];

/// What comes after them.
const LAST: &[&str] = &[
    "swaps",
    "upgradeFrom",
    "upgradeTo",
    "url",
    "apiKey",
    "payloadSize",
    "indexes",
    "oldIndexUid",
    "newIndexUid",
    "preCompactionSize",
    "postCompactionSize",
    "movedDocuments",
    "message",
    "rule",
    "updatedRules",
];

/// Details as a node orders them, with the names that the client wrote.
pub(crate) fn ordered(mut details: Map<String, Value>) -> Map<String, Value> {
    if details.len() > 1 {
        in_order(&mut details, &[FIRST, settings::NAMES, LAST].concat());
    }
    match node_errors::shown_value(Value::Object(details)) {
        Value::Object(details) => details,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn names(details: Value) -> Vec<String> {
        let Value::Object(details) = details else { panic!("an object") };
        ordered(details).keys().cloned().collect()
    }

    #[test]
    fn members_come_as_on_one_node() {
        let edited = json!({
            "function": "", "context": {}, "deletedDocuments": 0, "nodes": [], "editedDocuments": 1,
            "originalFilter": null,
        });
        assert_eq!(
            names(edited),
            [
                "editedDocuments",
                "deletedDocuments",
                "originalFilter",
                "context",
                "function",
                "nodes"
            ]
        );
        let joined = json!({"swaps": [], "stopWords": [], "displayedAttributes": [], "dumpUid": 1});
        assert_eq!(names(joined), ["dumpUid", "displayedAttributes", "stopWords", "swaps"]);
    }
}
