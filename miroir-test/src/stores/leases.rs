//! Leases.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use miroir_store::{Lease, Stores};

use super::tasks::at;

/// Longer than any test.
const LONG: Duration = Duration::from_hours(1);

async fn acquire(stores: &Stores, scope: &str, holder: &str, ttl: Duration) -> Option<Lease> {
    stores.leases.acquire(scope, holder, at(0), ttl).await.unwrap()
}

fn lease(scope: &str, holder: &str, fence: u64) -> Lease {
    Lease { scope: scope.to_owned(), holder: holder.to_owned(), fence }
}

/// A lease is held by one until it is released; scopes are apart.
pub async fn one_holds_it(stores: &Stores) {
    let leases = &stores.leases;
    let first = lease("a", "one", 1);
    assert_eq!(acquire(stores, "a", "one", LONG).await.as_ref(), Some(&first));
    assert_eq!(acquire(stores, "a", "two", LONG).await, None);
    assert_eq!(acquire(stores, "a", "one", LONG).await.as_ref(), Some(&first), "prolonged");
    assert!(leases.renew(&first, at(0), LONG).await.unwrap());
    assert_eq!(acquire(stores, "b", "two", LONG).await, Some(lease("b", "two", 1)));

    for other in [lease("a", "two", 1), lease("a", "one", 2), lease("c", "one", 1)] {
        assert!(!leases.renew(&other, at(0), LONG).await.unwrap(), "{other:?}");
        assert!(!leases.release(&other, at(0)).await.unwrap(), "{other:?}");
    }
    assert!(leases.release(&first, at(0)).await.unwrap());
    assert!(!leases.release(&first, at(0)).await.unwrap());
    assert!(!leases.renew(&first, at(0), LONG).await.unwrap(), "what ended is not revived");

    let second = lease("a", "two", 2);
    assert_eq!(acquire(stores, "a", "two", LONG).await.as_ref(), Some(&second));
    assert!(!leases.release(&first, at(0)).await.unwrap(), "it is another's now");
    assert!(leases.renew(&second, at(0), LONG).await.unwrap());
    assert!(leases.release(&second, at(0)).await.unwrap());
    assert_eq!(acquire(stores, "a", "two", LONG).await, Some(lease("a", "two", 3)));
}

/// Of many claimants one gets it.
pub async fn one_of_many_claimants_wins(stores: &Stores) {
    let claimants = (0..20).map(|claimant| {
        let leases = stores.leases.clone();
        tokio::spawn(async move {
            leases.acquire("a", &format!("{claimant}"), at(0), LONG).await.unwrap()
        })
    });
    let won: Vec<_> = join_all(claimants).await.into_iter().filter_map(Result::unwrap).collect();
    assert_eq!(won.len(), 1, "{won:?}");
    assert_eq!(won[0].fence, 1);
}

/// While claimants come and go, every lease that begins has the next fence.
pub async fn fences_never_go_back(stores: &Stores) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let claimants = (0..8).map(|claimant| {
        let (leases, seen) = (stores.leases.clone(), Arc::clone(&seen));
        tokio::spawn(async move {
            let holder = format!("claimant {claimant}");
            let mut turns = 0;
            while turns < 10 {
                let lease = leases.acquire("a", &holder, at(0), LONG).await.unwrap();
                let Some(lease) = lease else {
                    tokio::task::yield_now().await;
                    continue;
                };
                seen.lock().unwrap().push(lease.fence);
                assert!(leases.release(&lease, at(0)).await.unwrap());
                turns += 1;
            }
        })
    });
    for claimant in join_all(claimants).await {
        claimant.unwrap();
    }
    let seen = seen.lock().unwrap();
    assert!(seen.iter().copied().eq(1..=80), "{seen:?}");
}

/// A lease that is not renewed ends, whichever clock the backend goes by.
pub async fn what_is_not_renewed_ends(stores: &Stores) {
    const SHORT: Duration = Duration::from_millis(20);
    let first = acquire(stores, "a", "one", SHORT).await.unwrap();
    let later = at(20);
    let second = tokio::time::timeout(Duration::from_secs(30), async {
        loop {
            if let Some(lease) = stores.leases.acquire("a", "two", later, LONG).await.unwrap() {
                return lease;
            }
            tokio::task::yield_now().await;
        }
    });
    let second = second.await.expect("the lease ends");
    assert_eq!(second.fence, 2);
    assert!(!stores.leases.renew(&first, later, LONG).await.unwrap());
    assert!(!stores.leases.release(&first, later).await.unwrap());
    assert!(stores.leases.renew(&second, later, LONG).await.unwrap());
}

/// For backends that go by the caller's clock: to the millisecond.
pub async fn ends_follow_the_callers_clock(stores: &Stores) {
    let leases = &stores.leases;
    let ttl = Duration::from_millis(10);
    let first = leases.acquire("a", "one", at(0), ttl).await.unwrap().unwrap();
    assert_eq!(leases.acquire("a", "two", at(9), ttl).await.unwrap(), None);
    assert!(leases.renew(&first, at(9), ttl).await.unwrap());
    assert_eq!(leases.acquire("a", "two", at(18), ttl).await.unwrap(), None);
    assert!(!leases.renew(&first, at(19), ttl).await.unwrap());
    assert!(!leases.release(&first, at(19)).await.unwrap());
    // The same holder begins anew, too.
    let again = leases.acquire("a", "one", at(19), ttl).await.unwrap();
    assert_eq!(again, Some(lease("a", "one", 2)));
    let taken = leases.acquire("a", "two", at(29), ttl).await.unwrap();
    assert_eq!(taken, Some(lease("a", "two", 3)));
}
