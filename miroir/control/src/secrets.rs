//! Secrets of clients, as answers show them.

use miroir_store::task_state::Broadcast;
use miroir_store::{TaskRecord, TaskState};
use serde_json::{Map, Value};

/// A text whose secret part, from `from` on, is cut short, as a node shows it.
pub(crate) fn masked(secret: &str, from: usize) -> String {
    let (shown, mark) = match secret.len().saturating_sub(from) {
        0..10 => (0, "XXX..."),
        10..20 => (2, "XXXX..."),
        20..30 => (3, "XXXXX..."),
        _ => (5, "XXXXXX..."),
    };
    let cut = secret.ceil_char_boundary(from + shown);
    format!("{}{mark}", &secret[..cut])
}

/// How every text ends that was cut short.
const MARK: &str = "XXX...";

/// Cuts short the keys of embedders, those inside of composite ones included, in settings that a task
/// shows. What a node cut short stays as it is.
pub(crate) fn hide_embedders(settings: &mut Map<String, Value>) {
    let Some(Value::Object(embedders)) = settings.get_mut("embedders") else { return };
    for embedder in embedders.values_mut() {
        hide(embedder);
        for nested in ["searchEmbedder", "indexingEmbedder"] {
            if let Some(nested) = embedder.get_mut(nested) {
                hide(nested);
            }
        }
    }
}

/// Cuts short what a task of settings that has ended still holds of them in the clear. No node is told
/// any more.
pub(crate) fn forget(record: &mut TaskRecord) {
    if let Some(TaskState::Settings(Broadcast::Proposed(proposal))) = &mut record.protocol.state {
        hide_embedders(&mut proposal.patch);
    }
}

fn hide(embedder: &mut Value) {
    if let Some(Value::String(key)) = embedder.get_mut("apiKey")
        && !key.ends_with(MARK)
    {
        *key = masked(key, 0);
    }
}

#[cfg(test)]
mod tests {
    use miroir_api::meili::TaskKind;
    use miroir_store::task_state::Proposal;
    use miroir_store::{NewTask, clock, memory};
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_are_cut_short() {
        assert_eq!(masked("short", 0), "XXX...");
        assert_eq!(masked("0123456789abc", 0), "01XXXX...");
        assert_eq!(masked("Bearer 0123456789012345678901234567890", 7), "Bearer 01234XXXXXX...");
        assert_eq!(masked("Bearer ", 7), "Bearer XXX...");
    }

    #[test]
    fn embedders_show_no_key() {
        let secret = "sk-secret-0123456789-0123456789";
        let mut settings = json!({
            "embedders": {
                "one": {"source": "openAi", "apiKey": secret},
                "two": {
                    "source": "composite",
                    "searchEmbedder": {"apiKey": secret},
                    "indexingEmbedder": {"apiKey": "short"},
                },
                "reset": null,
                "open": {"source": "rest", "apiKey": null},
                "node": {"apiKey": "sk-seXXXXXX..."},
            },
            "stopWords": ["apiKey"],
        });
        hide_embedders(settings.as_object_mut().unwrap());
        assert_eq!(
            settings,
            json!({
                "embedders": {
                    "one": {"source": "openAi", "apiKey": "sk-seXXXXXX..."},
                    "two": {
                        "source": "composite",
                        "searchEmbedder": {"apiKey": "sk-seXXXXXX..."},
                        "indexingEmbedder": {"apiKey": "XXX..."},
                    },
                    "reset": null,
                    "open": {"source": "rest", "apiKey": null},
                    "node": {"apiKey": "sk-seXXXXXX..."},
                },
                "stopWords": ["apiKey"],
            })
        );
        let mut reset = json!({"embedders": null}).as_object().cloned().unwrap();
        hide_embedders(&mut reset);
        assert!(reset["embedders"].is_null());
    }

    #[tokio::test]
    async fn a_task_that_has_ended_holds_no_key() {
        let object = |value: Value| value.as_object().cloned().unwrap();
        let patch = object(json!({"embedders": {"one": {"apiKey": "sk-secret"}}, "stopWords": []}));
        let proposal = Proposal { overlay: Map::new(), submitted: Map::new(), patch };
        let task = NewTask {
            protocol: TaskState::Settings(Broadcast::Proposed(Box::new(proposal))).into(),
            ..NewTask::new(TaskKind::SettingsUpdate, clock::now())
        };
        let mut record = memory::open().tasks.insert(task).await.unwrap();
        forget(&mut record);
        let Some(TaskState::Settings(Broadcast::Proposed(left))) = &record.protocol.state else {
            panic!("{record:?}");
        };
        let hidden = json!({"embedders": {"one": {"apiKey": "XXX..."}}, "stopWords": []});
        assert_eq!(left.patch, object(hidden));
    }
}
