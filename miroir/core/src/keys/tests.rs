//! What keys open, and what a caller sees.

use std::sync::Arc;

use miroir_api::meili::{IndexPattern, KeyAction};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::*;

fn now() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_790_000_000).unwrap()
}

fn key(actions: &[KeyAction], indexes: &[&str]) -> ApiKey {
    ApiKey {
        uid: Uuid::from_u128(7),
        name: None,
        description: None,
        actions: actions.to_vec(),
        indexes: indexes.iter().map(|text| IndexPattern::new(text).unwrap()).collect(),
        expires_at: None,
        created_at: now(),
        updated_at: now(),
    }
}

fn rules(value: Value) -> SearchRules {
    serde_json::from_value(value).unwrap()
}

fn tenant(indexes: &[&str], value: Value) -> Scope {
    let key = Arc::new(key(&[KeyAction::Search], indexes));
    Scope::of_tenant(&Tenant { key, rules: rules(value) })
}

#[test]
fn the_default_keys_are_a_nodes() {
    let keys = ApiKey::defaults(now(), [1, 2, 3, 4].map(Uuid::from_u128));
    let names: Vec<_> = keys.iter().rev().map(|key| key.name.as_deref().unwrap()).collect();
    assert_eq!(
        names,
        [
            "Default Search API Key",
            "Default Admin API Key",
            "Default Read-Only Admin API Key",
            "Default Chat API Key"
        ]
    );
    assert!(keys.is_sorted_by(|a, b| a.created_at < b.created_at));
    assert!(keys.iter().all(|key| key.indexes == [IndexPattern::all()]));
    assert!(keys[2].allows(KeyAction::DocumentsAll, Some("a"), now()));
    assert!(!keys[1].allows(KeyAction::DocumentsAdd, Some("a"), now()));
    assert!(keys[1].allows(KeyAction::KeysGet, None, now()));
}

#[test]
fn a_view_has_the_derived_key_and_meilisearchs_order() {
    let master = MasterKey::new("masterkey1234567890").unwrap();
    let view = serde_json::to_value(key(&[KeyAction::Search], &["a*"]).view(&master)).unwrap();
    let fields: Vec<_> = view.as_object().unwrap().keys().collect();
    assert_eq!(
        fields,
        [
            "name",
            "description",
            "key",
            "uid",
            "actions",
            "indexes",
            "expiresAt",
            "createdAt",
            "updatedAt"
        ]
    );
    assert_eq!(view["key"], json!(master.derive(Uuid::from_u128(7))));
    assert_eq!((&view["actions"], &view["indexes"]), (&json!(["search"]), &json!(["a*"])));
    assert_eq!(view["createdAt"], "2026-09-21T14:13:20Z");
}

#[test]
fn a_key_opens_its_actions_on_its_indexes_until_it_expires() {
    use KeyAction as A;
    let one = key(&[A::Search, A::DocumentsAll, A::Version], &["a", "b*"]);
    for (action, index, opens) in [
        (A::Search, Some("a"), true),
        (A::Search, Some("bcd"), true),
        (A::Search, Some("ab"), false),
        (A::DocumentsAdd, Some("b"), true),
        (A::IndexesGet, Some("a"), false),
        // A multi-search names its indexes in the body.
        (A::Search, None, true),
        // These are about no index, and a limited key is about nothing else.
        (A::Version, None, false),
        (A::DocumentsAdd, None, false),
        // A route that needs the wildcard itself.
        (A::DocumentsAll, Some("a"), false),
    ] {
        assert_eq!(one.allows(action, index, now()), opens, "{action} {index:?}");
    }
    let none = key(&[A::All], &[]);
    assert!(!none.allows(A::Search, None, now()) && !none.allows(A::Version, None, now()));
    let all = key(&[A::All], &["x", "*"]);
    assert!(all.allows(A::Version, None, now()) && all.allows(A::DocumentsAll, Some("y"), now()));

    let brief = ApiKey { expires_at: Some(now()), ..key(&[A::Search], &["*"]) };
    assert!(brief.allows(A::Search, None, now() - Duration::NANOSECOND));
    assert!(!brief.allows(A::Search, None, now()));
}

#[test]
fn a_scope_hides_what_key_and_token_do_not_both_show() {
    let everything = Scope::default();
    assert!(everything.is_everything() && everything.may_create("a"));
    assert!(everything.check_index("not even a uid").is_ok());

    let limited = Arc::new(key(&[KeyAction::All], &["b", "a*", "b"]));
    let scope = Scope::of_key(&limited, true);
    assert!(!scope.is_everything() && scope.allows("ab") && !scope.allows("c"));
    assert!(scope.may_create("ab") && !scope.may_create("c"));
    assert!(!Scope::of_key(&limited, false).may_create("ab"));
    assert_eq!(
        scope.check_index("c").unwrap_err().message,
        "The API key cannot acces the index `c`, authorized indexes are [\"a*\", \"b\"]."
    );

    let scope = tenant(&["m*"], json!({"m1": {}, "x": null, "*": {"filter": "a = 1"}}));
    assert!(scope.allows("m9") && !scope.allows("x") && !scope.may_create("m1"));
    assert_eq!(
        scope.check_index("x").unwrap_err().message,
        "The API key used to generate this tenant token cannot acces the index `x`."
    );
    let scope = tenant(&["*"], json!(["z", "m*"]));
    assert!(!scope.is_everything());
    assert_eq!(
        scope.check_index("x").unwrap_err().message,
        "The provided tenant token cannot acces the index `x`, allowed indexes are [\"m*\", \"z\"]."
    );
    assert!(tenant(&["*"], json!({"*": null})).is_everything());
}

#[test]
fn the_most_specific_rule_filters() {
    let scope = tenant(
        &["*"],
        json!({"*": {"filter": "f = 0"}, "a*": {"filter": "f = 1"}, "ab*": {"filter": null},
               "ac": {"filter": ["f = 2"]}, "ad": {"unknown": 1}, "ae": null}),
    );
    for (index, filter) in [
        ("b", Some(json!("f = 0"))),
        ("a", Some(json!("f = 1"))),
        // The most specific rule decides, also where it demands nothing.
        ("abc", None),
        ("ac", Some(json!(["f = 2"]))),
        ("acx", Some(json!("f = 1"))),
        ("ad", None),
        ("ae", None),
    ] {
        assert_eq!(scope.filter(index), filter.as_ref(), "{index}");
    }
    assert_eq!(Scope::default().filter("a"), None);
    assert_eq!(tenant(&["*"], json!(["*"])).filter("a"), None);
}

/// The rule of an index holds by whatever name it is reached; one rule that means both counts once.
#[test]
fn the_rule_of_an_index_holds_under_other_names() {
    let scope = tenant(
        &["*"],
        json!({"*": {"filter": "f = 0"}, "a": {"filter": "f = 1"}, "x*": {"filter": "f = 2"},
               "c": null}),
    );
    for (name, index, filter) in [
        ("alias", "a", Some("f = 1")),
        ("x1", "a", Some("f = 1")),
        ("a", "other", Some("f = 0")),
        ("c", "x1", Some("f = 2")),
        ("alias", "other", None),
        ("x1", "x2", None),
        ("alias", "c", None),
    ] {
        let expected = filter.map(|filter| json!(filter));
        assert_eq!(scope.filter_behind(name, index), expected.as_ref(), "{name} {index}");
    }
    assert_eq!(tenant(&["*"], json!({"alias": null})).filter_behind("alias", "a"), None);
    assert_eq!(tenant(&["*"], json!(["*"])).filter_behind("alias", "a"), None);
    assert_eq!(Scope::default().filter_behind("alias", "a"), None);
}

#[test]
fn what_is_reached_by_way_of_another_index_is_the_keys_own_or_refused() {
    let refused = |scope: &Scope, index| {
        scope.check_reached(index, "It reads", "do not").map_err(|error| error.message)
    };
    let limited = Arc::new(key(&[KeyAction::All], &["a*"]));
    let scope = Scope::of_key(&limited, true);
    assert_eq!(refused(&scope, "a1"), Ok(()));
    // A name that may be seen for an alias of it is no index of the key's.
    assert_eq!(
        refused(&scope.with(["b"]), "b").unwrap_err(),
        "It reads index `b`, which the API key cannot access: use a key that has it in its \
         `indexes`, or do not."
    );
    let scope = tenant(&["*"], json!({"a": null}));
    assert!(refused(&scope, "b").unwrap_err().contains("`searchRules`"));
    assert_eq!(refused(&Scope::default(), "b"), Ok(()));
}
