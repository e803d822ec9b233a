//! Search rules.

use miroir_store::Stores;
use serde_json::json;

/// Rules are listed by uid, replaced whole, and deleted one by one or all at once.
pub async fn round_trip(stores: &Stores) {
    let rules = &stores.rules;
    assert_eq!(rules.list().await.unwrap(), []);
    let (first, second) = (json!({"actions": [1], "a": null}), json!({"description": "ü\n"}));
    rules.put("b".into(), json!({"old": true})).await.unwrap();
    rules.put("b".into(), first.clone()).await.unwrap();
    rules.put("a".into(), second.clone()).await.unwrap();
    let both = [("a".to_owned(), second), ("b".to_owned(), first)];
    assert_eq!(rules.list().await.unwrap(), both);
    rules.delete("none".into()).await.unwrap();
    rules.delete("a".into()).await.unwrap();
    assert_eq!(rules.list().await.unwrap(), both[1..]);
    rules.clear().await.unwrap();
    rules.clear().await.unwrap();
    assert_eq!(rules.list().await.unwrap(), []);
}
