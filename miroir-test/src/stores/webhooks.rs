//! Webhooks.

use futures_util::future::join_all;
use miroir_store::{Stores, Webhook};
use uuid::Uuid;

fn hook(number: u128, url: &str) -> Webhook {
    let headers = [("x-\u{e9}".to_owned(), "'v'".to_owned())].into();
    Webhook { uuid: Uuid::from_u128(number), url: url.to_owned(), headers }
}

/// What is put is listed by uuid, replaced and deleted.
pub async fn round_trip(stores: &Stores) {
    let hooks = &stores.webhooks;
    assert_eq!(hooks.list().await.unwrap(), []);
    let (one, two) = (hook(1, "http://a/"), hook(2, "http://b/"));
    assert!(hooks.put(two.clone(), 20).await.unwrap());
    assert!(hooks.put(one.clone(), 20).await.unwrap());
    assert_eq!(hooks.list().await.unwrap(), [one.clone(), two.clone()]);
    let changed = Webhook { url: "http://c/".to_owned(), ..one };
    assert!(hooks.put(changed.clone(), 2).await.unwrap(), "a known one is not one more");
    assert!(hooks.delete(two.uuid).await.unwrap());
    assert!(!hooks.delete(two.uuid).await.unwrap());
    assert_eq!(hooks.list().await.unwrap(), [changed]);
}

/// Of many that come at once no more than the most get in.
pub async fn the_most_is_the_most(stores: &Stores) {
    let callers = (0..30).map(|number| {
        let hooks = stores.webhooks.clone();
        tokio::spawn(async move { hooks.put(hook(number, "http://a/"), 20).await.unwrap() })
    });
    let written = join_all(callers).await.into_iter().filter(|done| *done.as_ref().unwrap());
    assert_eq!(written.count(), 20);
    assert_eq!(stores.webhooks.list().await.unwrap().len(), 20);
}
