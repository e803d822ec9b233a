//! The contract of [`miroir_store::Keys`].

use futures_util::future::join_all;
use miroir_api::meili::{IndexPattern, KeyAction};
use miroir_core::keys::ApiKey;
use miroir_core::keys::request::Change;
use miroir_store::Stores;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

/// A key made `age` seconds before some instant.
fn key(number: u128, age: i64) -> ApiKey {
    let at = OffsetDateTime::from_unix_timestamp(1_770_000_000).unwrap() - Duration::seconds(age);
    ApiKey {
        uid: Uuid::from_u128(number),
        name: Some(format!("key {number}")),
        description: None,
        actions: vec![KeyAction::DocumentsAll, KeyAction::Search, KeyAction::Search],
        indexes: vec![IndexPattern::new("b*").unwrap(), IndexPattern::new("a").unwrap()],
        // An offset and fractions, which clients get back as they sent them.
        expires_at: Some(
            (at + Duration::nanoseconds(123_456_789))
                .to_offset(time::UtcOffset::from_hms(2, 0, 0).unwrap()),
        ),
        created_at: at + Duration::nanoseconds(7),
        updated_at: at,
    }
}

async fn uids(stores: &Stores) -> Vec<u128> {
    stores.keys.list().await.unwrap().iter().map(|key| key.uid.as_u128()).collect()
}

/// What goes in comes out, newest first, and of one instant the last first.
pub async fn round_trip(stores: &Stores) {
    assert_eq!(stores.keys.list().await.unwrap(), []);
    for (number, age) in [(1, 20), (2, 10), (3, 30), (4, 10)] {
        assert!(stores.keys.insert(key(number, age)).await.unwrap());
    }
    assert_eq!(uids(stores).await, [4, 2, 1, 3]);
    assert_eq!(stores.keys.list().await.unwrap()[2], key(1, 20));

    assert!(stores.keys.delete(Uuid::from_u128(2)).await.unwrap());
    assert!(!stores.keys.delete(Uuid::from_u128(2)).await.unwrap());
    assert_eq!(uids(stores).await, [4, 1, 3]);
    assert!(stores.keys.insert(key(2, 10)).await.unwrap());
    assert_eq!(uids(stores).await, [2, 4, 1, 3]);
}

/// Of many keys with one uid, one is inserted, and it stays as it was.
pub async fn one_of_a_uid_wins(stores: &Stores) {
    let callers = (0..20).map(|age| {
        let keys = stores.keys.clone();
        tokio::spawn(async move { keys.insert(key(7, age)).await.unwrap() })
    });
    let won: Vec<bool> = join_all(callers).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(won.iter().filter(|won| **won).count(), 1);
    let age = won.iter().position(|won| *won).unwrap();
    assert_eq!(stores.keys.list().await.unwrap(), [key(7, age.try_into().unwrap())]);
}

/// Of many starts at once, one makes the first keys, and none does once there are any.
pub async fn the_first_keys_are_made_once(stores: &Stores) {
    let starts = (0..20_u128).map(|start| {
        let keys = stores.keys.clone();
        tokio::spawn(async move {
            keys.seed(vec![key(start * 2, 1), key(start * 2 + 1, 0)]).await.unwrap()
        })
    });
    let made: Vec<bool> = join_all(starts).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(made.iter().filter(|made| **made).count(), 1);
    let start = made.iter().position(|made| *made).unwrap() as u128;
    assert_eq!(uids(stores).await, [start * 2 + 1, start * 2]);

    assert!(stores.keys.delete(Uuid::from_u128(start * 2)).await.unwrap());
    assert!(!stores.keys.seed(vec![key(99, 0)]).await.unwrap());
    assert_eq!(uids(stores).await, [start * 2 + 1]);
}

/// Changes of one key do not undo each other, and change nothing else.
pub async fn no_change_is_lost(stores: &Stores) {
    let now = OffsetDateTime::from_unix_timestamp(1_780_000_000).unwrap();
    stores.keys.insert(key(1, 5)).await.unwrap();
    stores.keys.insert(key(2, 0)).await.unwrap();
    let name = Change { name: Some(Some("new".to_owned())), description: None };
    let text = Change { name: None, description: Some(Some("text".to_owned())) };
    let uid = Uuid::from_u128(1);
    let (one, two) = tokio::join!(
        stores.keys.update(uid, name, now),
        stores.keys.update(uid, text, now + Duration::SECOND),
    );
    assert!(one.unwrap().is_some() && two.unwrap().is_some());
    let kept = stores.keys.list().await.unwrap().remove(1);
    assert_eq!((kept.name.as_deref(), kept.description.as_deref()), (Some("new"), Some("text")));
    assert!(kept.updated_at >= now);
    let same = ApiKey { name: key(1, 5).name, description: None, ..kept };
    assert_eq!(ApiKey { updated_at: key(1, 5).updated_at, ..same }, key(1, 5));

    let cleared = Change { name: Some(None), description: Some(None) };
    let after = stores.keys.update(uid, cleared, now).await.unwrap().unwrap();
    assert_eq!((after.name, after.description), (None, None));
    assert_eq!(stores.keys.list().await.unwrap()[0], key(2, 0));
    let nobody = stores.keys.update(Uuid::from_u128(9), Change::default(), now).await.unwrap();
    assert_eq!(nobody, None);
}
