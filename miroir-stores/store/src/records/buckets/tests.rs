//! The sums of buckets.

use proptest::prelude::*;

use super::*;

fn limit(count: u32, seconds: u64) -> Limit {
    Limit { count, per: Duration::from_secs(seconds) }
}

#[test]
fn a_full_bucket_gives_all_at_once_and_then_one_at_a_time() {
    let limit = limit(3, 60);
    let now = 1_000_000_000;
    let mut full_at = 0;
    for left in [2, 1, 0] {
        let (next, verdict) = step(full_at, limit, now);
        assert!(verdict.allowed);
        assert_eq!(verdict.remaining, left);
        full_at = next;
    }
    let (same, refused) = step(full_at, limit, now);
    assert_eq!((same, refused.allowed, refused.remaining), (full_at, false, 0));
    assert_eq!(refused.retry_after, Duration::from_secs(20));
    assert_eq!(refused.reset_after, Duration::from_mins(1));
    let (_, later) = step(full_at, limit, now + 20_000_000);
    assert!(later.allowed);
    assert_eq!(later.remaining, 0);
}

proptest! {
    /// Whatever the times between calls, no window as long as the limit's sees more than twice as many
    /// (a full bucket and what flows in meanwhile), and whoever waits as long as they are told to is let in.
    #[test]
    fn a_bucket_allows_no_more_than_its_limit(
        count in 1_u32..20,
        gaps in prop::collection::vec(0_u64..400_000, 1..200),
    ) {
        let limit = limit(count, 1);
        let (mut now, mut full_at) = (5_000_000_u64, 0);
        let mut taken = Vec::new();
        for gap in gaps {
            now += gap;
            let (next, verdict) = step(full_at, limit, now);
            full_at = next;
            if verdict.allowed {
                taken.push(now);
            } else {
                let wait = u64::try_from(verdict.retry_after.as_micros()).unwrap();
                prop_assert!(wait > 0);
                prop_assert!(!step(full_at, limit, now + wait - 1).1.allowed);
                prop_assert!(step(full_at, limit, now + wait).1.allowed);
            }
            let window = taken.iter().filter(|at| **at + 1_000_000 > now).count();
            prop_assert!(window <= 2 * count as usize, "{window} in a second");
        }
    }
}
