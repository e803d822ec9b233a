//! Queues.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use miroir_store::{Claim, Job, NewJob, Stores};
use serde_json::{Value, json};

use super::tasks::at;

/// Longer than any test.
const LONG: Duration = Duration::from_hours(1);

fn new(id: &str, kind: &str) -> NewJob {
    NewJob {
        id: id.to_owned(),
        kind: kind.to_owned(),
        payload: json!({"of": id, "n": [1.5, null]}),
    }
}

fn job(id: &str, kind: &str, attempt: u64, cursor: Value) -> Job {
    let NewJob { id, kind, payload } = new(id, kind);
    Job { id, kind, payload, cursor, attempt, error: None }
}

async fn claim(stores: &Stores, kind: &str) -> Option<Job> {
    stores.jobs.claim(kind, at(0), LONG).await.unwrap()
}

/// Jobs are claimed in their order, queue by queue, and resumed where they were.
pub async fn they_come_in_order_and_resume(stores: &Stores) {
    let jobs = &stores.jobs;
    assert_eq!(claim(stores, "copy").await, None);
    let all = ["b", "a", "c"].map(|id| new(id, "copy"));
    assert_eq!(jobs.put(all.to_vec()).await.unwrap(), 3);
    assert_eq!(jobs.put(vec![new("a", "other"), new("z", "other")]).await.unwrap(), 1);
    assert_eq!(claim(stores, "other").await, Some(job("z", "other", 1, Value::Null)));
    assert_eq!(claim(stores, "other").await, None, "it is claimed");

    let first = claim(stores, "copy").await.unwrap();
    assert_eq!(first, job("b", "copy", 1, Value::Null));
    let cursor = json!({"at": "x", "list": []});
    assert!(jobs.advance(&first.claim(), cursor.clone(), at(0), LONG).await.unwrap());
    assert!(jobs.fail(&first.claim(), "no".to_owned(), false, at(0)).await.unwrap());
    assert!(!jobs.advance(&first.claim(), json!(1), at(0), LONG).await.unwrap(), "given back");
    // It has kept its place, and how far it had come.
    assert_eq!(claim(stores, "copy").await, Some(job("b", "copy", 2, cursor)));
    assert!(!jobs.finish(&first.claim(), vec![new("d", "copy")], at(0)).await.unwrap());

    let second = claim(stores, "copy").await.unwrap();
    assert_eq!(second.id, "a");
    let follow = vec![new("a1", "copy"), new("c", "copy")];
    assert!(jobs.finish(&second.claim(), follow, at(0)).await.unwrap());
    assert!(!jobs.finish(&second.claim(), vec![new("d", "copy")], at(0)).await.unwrap());
    let third = claim(stores, "copy").await.unwrap();
    assert!(jobs.fail(&third.claim(), "\"broken\"".to_owned(), true, at(0)).await.unwrap());
    let listed = jobs.list("copy").await.unwrap();
    let ids: Vec<(&str, Option<&str>)> =
        listed.iter().map(|job| (job.id.as_str(), job.error.as_deref())).collect();
    assert_eq!(ids, [("b", None), ("c", Some("\"broken\"")), ("a1", None)]);
    assert_eq!(claim(stores, "copy").await.unwrap().id, "a1");
    assert_eq!(claim(stores, "copy").await, None, "what failed for good is not tried again");
    assert!(jobs.remove("c").await.unwrap());
    assert!(!jobs.remove("c").await.unwrap());
    assert_eq!(jobs.list("copy").await.unwrap().len(), 2);
}

/// A claim that ran out is somebody else's, and says nothing any more.
pub async fn a_claim_that_ran_out_is_anothers(stores: &Stores) {
    let jobs = &stores.jobs;
    jobs.put(vec![new("a", "copy")]).await.unwrap();
    let short = Duration::from_millis(20);
    let first = jobs.claim("copy", at(0), short).await.unwrap().unwrap();
    assert_eq!(jobs.claim("copy", at(0), LONG).await.unwrap(), None);
    // By the caller's clock it has ended; a backend that goes by its own takes its time.
    let later = at(20);
    let second = tokio::time::timeout(Duration::from_secs(30), async {
        loop {
            if let Some(job) = jobs.claim("copy", later, LONG).await.unwrap() {
                return job;
            }
            tokio::task::yield_now().await;
        }
    });
    let second = second.await.expect("the claim ends");
    assert_eq!((second.id.as_str(), second.attempt), ("a", 2));
    let old = first.claim();
    assert!(!jobs.advance(&old, json!(1), later, LONG).await.unwrap());
    assert!(!jobs.fail(&old, "late".to_owned(), true, later).await.unwrap());
    assert!(!jobs.finish(&old, Vec::new(), later).await.unwrap());
    let nobody = Claim { id: "none".to_owned(), attempt: 1 };
    assert!(!jobs.finish(&nobody, Vec::new(), later).await.unwrap());
    assert!(jobs.finish(&second.claim(), Vec::new(), later).await.unwrap());
    assert_eq!(jobs.list("copy").await.unwrap(), []);
}

/// Of many claimants each gets another job.
pub async fn no_job_is_claimed_twice(stores: &Stores) {
    let all = (0..30).map(|number| new(&number.to_string(), "copy")).collect();
    stores.jobs.put(all).await.unwrap();
    let claimants = (0..40).map(|_| {
        let jobs = stores.jobs.clone();
        tokio::spawn(async move { jobs.claim("copy", at(0), LONG).await.unwrap() })
    });
    let claimed: Vec<Job> =
        join_all(claimants).await.into_iter().filter_map(Result::unwrap).collect();
    let ids: BTreeSet<&str> = claimed.iter().map(|job| job.id.as_str()).collect();
    assert_eq!((claimed.len(), ids.len()), (30, 30));
}
