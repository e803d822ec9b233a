//! Experimental features.

use miroir_store::Stores;

fn rows(list: &[(&str, bool)]) -> Vec<(String, bool)> {
    list.iter().map(|(name, on)| ((*name).to_owned(), *on)).collect()
}

/// What is set stays until it is set again; the list is ordered by name.
pub async fn what_is_set_stays(stores: &Stores) {
    let features = &stores.features;
    assert_eq!(features.list().await.unwrap(), []);
    features.set(rows(&[("metrics", true), ("containsFilter", true)])).await.unwrap();
    features.set(rows(&[("metrics", false)])).await.unwrap();
    features.set(Vec::new()).await.unwrap();
    let expected = rows(&[("containsFilter", true), ("metrics", false)]);
    assert_eq!(features.list().await.unwrap(), expected);
}
