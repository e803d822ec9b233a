//! What a store is called.

use futures_util::future::join_all;
use miroir_store::Stores;

/// Of all that ask at once one makes the name, and all know it by that one.
pub async fn a_store_is_named_once(stores: &Stores) {
    let callers = (0..8).map(|_| {
        let identity = stores.identity.clone();
        tokio::spawn(async move { identity.store_id().await.unwrap() })
    });
    let named: Vec<_> = join_all(callers).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(named, vec![named[0]; 8]);
    // A process that may change nothing knows it as well.
    stores.fence.close();
    assert_eq!(stores.identity.store_id().await.unwrap(), named[0]);
    assert_eq!(named[0].0.get_version_num(), 4);
}
