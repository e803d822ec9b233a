//! Recorded from Meilisearch 1.50.0.

use serde_json::json;

use super::*;

fn now() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_790_000_000).unwrap()
}

fn good() -> Value {
    json!({"actions": ["search"], "indexes": ["*"], "expiresAt": null})
}

fn with(field: &str, value: Value) -> Value {
    let mut body = good();
    body[field] = value;
    body
}

fn without(field: &str) -> Value {
    let mut body = good();
    body.as_object_mut().unwrap().shift_remove(field);
    body
}

#[track_caller]
fn refused<T: std::fmt::Debug>(answer: Checked<T>, code: &str, message: &str) {
    let error = answer.unwrap_err();
    assert_eq!((error.code.as_ref(), error.message.as_str()), (code, message));
}

#[test]
fn wrong_keys_are_refused_in_a_nodes_words() {
    let date = "is not a valid date. It should follow the RFC 3339 format to represents a date or \
                datetime in the future or specified as a null value. e.g. 'YYYY-MM-DD' or \
                'YYYY-MM-DD HH:MM:SS'.\n";
    let pattern = "is not a valid index uid pattern. Index uid patterns can be an integer or a \
                   string containing only alphanumeric characters, hyphens (-), underscores (_), and \
                   optionally end with a star (*).";
    let fields = "expected one of `description`, `name`, `uid`, `actions`, `indexes`, `expiresAt`";
    for (body, code, message) in [
        (json!({}), "missing_api_key_actions", "Missing field `actions`".to_owned()),
        (without("expiresAt"), "missing_api_key_expires_at", "Missing field `expiresAt`".into()),
        (without("indexes"), "missing_api_key_indexes", "Missing field `indexes`".into()),
        (
            with("actions", json!("search")),
            "invalid_api_key_actions",
            "Invalid value type at `.actions`: expected an array, but found a string: `\"search\"`"
                .into(),
        ),
        (
            with("actions", json!([1])),
            "invalid_api_key_actions",
            "Invalid value type at `.actions[0]`: expected a string, but found a positive integer: \
             `1`"
                .into(),
        ),
        (
            with("actions", Value::Null),
            "invalid_api_key_actions",
            "Invalid value type at `.actions`: expected an array, but found null".into(),
        ),
        (
            with("indexes", json!(["bad uid"])),
            "invalid_api_key_indexes",
            format!("Invalid value at `.indexes[0]`: `bad uid` {pattern}"),
        ),
        (
            with("indexes", json!(["a", "a*b"])),
            "invalid_api_key_indexes",
            format!("Invalid value at `.indexes[1]`: `a*b` {pattern}"),
        ),
        (
            with("expiresAt", json!("2000-01-01")),
            "invalid_api_key_expires_at",
            format!("Invalid value at `.expiresAt`: `2000-01-01` {date}"),
        ),
        (
            with("expiresAt", json!("soon")),
            "invalid_api_key_expires_at",
            format!("Invalid value at `.expiresAt`: `soon` {date}"),
        ),
        (
            with("expiresAt", json!(5)),
            "invalid_api_key_expires_at",
            "Invalid value type at `.expiresAt`: expected a string, but found a positive integer: \
             `5`"
                .into(),
        ),
        (
            with("name", json!(-5)),
            "invalid_api_key_name",
            "Invalid value type at `.name`: expected a string, but found a negative integer: `-5`"
                .into(),
        ),
        (
            with("description", json!(0.5)),
            "invalid_api_key_description",
            "Invalid value type at `.description`: expected a string, but found a number: `0.5`"
                .into(),
        ),
        (
            with("uid", json!("x")),
            "invalid_api_key_uid",
            "Invalid value at `.uid`: invalid character: found `x` at 0".into(),
        ),
        (
            with("uid", json!(true)),
            "invalid_api_key_uid",
            "Invalid value type at `.uid`: expected a string, but found a boolean: `true`".into(),
        ),
        (with("unknown", json!(1)), "bad_request", format!("Unknown field `unknown`: {fields}")),
        (
            with("indexs", json!(1)),
            "bad_request",
            format!("Unknown field `indexs`: did you mean `indexes`? {fields}"),
        ),
        (
            json!([]),
            "bad_request",
            "Invalid value type: expected an object, but found an array: `[]`".into(),
        ),
        (
            json!("a"),
            "bad_request",
            "Invalid value type: expected an object, but found a string: `\"a\"`".into(),
        ),
        (
            json!({"actions": ["search", "keys.create"], "indexes": ["a"], "expiresAt": null}),
            "index_scoped_api_key_with_global_action",
            "cannot create index-scoped API key with global action `\"keys.create\"`\n  - Hint: \
             remove action `\"keys.create\"` from the action list, or remove `indexes` to make the \
             key global"
                .into(),
        ),
    ] {
        refused(create(&body, now()), code, &message);
    }
}

#[test]
fn unknown_actions_are_told_the_known_ones() {
    let error = create(&with("actions", json!(["nope"])), now()).unwrap_err();
    assert_eq!(error.code, "invalid_api_key_actions");
    let start = "Unknown value `nope` at `.actions[0]`: expected one of `*`, `search`, \
                 `documents.*`, `documents.add`, ";
    assert!(error.message.starts_with(start), "{}", error.message);
    assert!(error.message.ends_with("`dynamicSearchRules.delete`, `dynamicSearchRules.*`"));
    let error = create(&with("actions", json!(["searh"])), now()).unwrap_err();
    let hint = "Unknown value `searh` at `.actions[0]`: did you mean `search`? expected one of";
    assert!(error.message.starts_with(hint), "{}", error.message);
}

/// As on a node, the first fault of the body wins, and what is missing comes last.
#[test]
fn the_first_fault_wins() {
    let body: Value = serde_json::from_str(r#"{"name": 1, "nope": 1, "actions": 1}"#).unwrap();
    assert_eq!(create(&body, now()).unwrap_err().code, "invalid_api_key_name");
    let body: Value = serde_json::from_str(r#"{"nope": 1, "name": 1}"#).unwrap();
    assert_eq!(create(&body, now()).unwrap_err().code, "bad_request");
}

#[test]
fn good_keys_are_read() {
    let body = json!({
        "uid": "6062ABDA-a5aa-4414-ac91-ecd7944c0f81", "name": "n", "description": null,
        "actions": ["search", "search", "*"], "indexes": ["z", "a*"],
        "expiresAt": "2099-05-06T07:08:09.123456+02:00",
    });
    let key = create(&with("indexes", json!([])), now()).unwrap();
    assert_eq!((key.uid, key.indexes.len(), key.expires_at), (None, 0, None));
    let key = create(&body, now()).unwrap().into_key(Uuid::nil(), now());
    assert_eq!(key.uid.to_string(), "6062abda-a5aa-4414-ac91-ecd7944c0f81");
    assert_eq!((key.name.as_deref(), key.description), (Some("n"), None));
    assert_eq!(key.actions, [KeyAction::Search, KeyAction::Search, KeyAction::All]);
    assert_eq!(
        key.expires_at.unwrap().format(&Rfc3339).unwrap(),
        "2099-05-06T07:08:09.123456+02:00"
    );
    for (text, expected) in [
        ("2099-01-01", "2099-01-01T00:00:00Z"),
        ("2099-05-06 07:08:09", "2099-05-06T07:08:09Z"),
        ("2099-05-06T07:08:09", "2099-05-06T07:08:09Z"),
        ("2099-05-06T07:08:09Z", "2099-05-06T07:08:09Z"),
    ] {
        let key = create(&with("expiresAt", json!(text)), now()).unwrap();
        assert_eq!(key.expires_at.unwrap().format(&Rfc3339).unwrap(), expected);
    }
}

#[test]
fn only_what_a_key_is_called_changes() {
    for (field, code) in [
        ("uid", "immutable_api_key_uid"),
        ("actions", "immutable_api_key_actions"),
        ("indexes", "immutable_api_key_indexes"),
        ("expiresAt", "immutable_api_key_expires_at"),
        ("createdAt", "immutable_api_key_created_at"),
        ("updatedAt", "immutable_api_key_updated_at"),
    ] {
        let message = format!("Immutable field `{field}`: expected one of `description`, `name`");
        refused(change(&json!({ field: null })), code, &message);
    }
    let message = "Unknown field `key`: expected one of `description`, `name`";
    refused(change(&json!({"key": "x"})), "bad_request", message);
    let message =
        "Invalid value type at `.description`: expected a string, but found an array: `[]`";
    refused(change(&json!({"description": []})), "invalid_api_key_description", message);
    assert_eq!(change(&json!({})).unwrap(), Change::default());
    let both = change(&json!({"name": null, "description": "d"})).unwrap();
    assert_eq!(both, Change { name: Some(None), description: Some(Some("d".into())) });
}
