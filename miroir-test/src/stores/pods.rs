//! Pods.

use std::time::Duration;

use miroir_store::{Part, PodReport, Roster, Stores};
use serde_json::json;

use super::tasks::at;

/// Longer than any test.
const LONG: Duration = Duration::from_hours(1);

fn pod(name: &str, seen: Option<u64>) -> PodReport {
    let address = format!("http://{name}");
    PodReport { name: name.to_owned(), address, seen, ..PodReport::default() }
}

/// Only who has seen the newest epoch has a word that counts from now.
pub async fn a_word_needs_the_newest_epoch(stores: &Stores) {
    let pods = &stores.pods;
    let first = pods.roster(at(0)).await.unwrap();
    assert_eq!((first.epoch, first.pods.len()), (0, 0));
    let names = |roster: miroir_store::Roster| {
        roster.pods.into_iter().map(|pod| (pod.name, pod.seen)).collect::<Vec<_>>()
    };
    let seen = |name: &str, seen| (name.to_owned(), seen);

    // Nothing read yet: no word.
    let roster = pods.report(pod("a", None), at(0), LONG).await.unwrap();
    assert_eq!(names(roster), []);
    pods.report(pod("b", Some(0)), at(0), LONG).await.unwrap();
    let roster = pods.report(pod("a", Some(0)), at(0), LONG).await.unwrap();
    assert_eq!(roster.epoch, 0);
    assert_eq!(names(roster), [seen("a", Some(0)), seen("b", Some(0))]);

    assert_eq!(pods.bump_epoch(&[Part::Keys]).await.unwrap(), 1);
    // What is left of its word counts on, with what it says now.
    let roster = pods.report(pod("a", Some(0)), at(0), LONG).await.unwrap();
    assert_eq!(roster.epoch, 1);
    assert_eq!(names(roster), [seen("a", Some(0)), seen("b", Some(0))]);
    let leader = PodReport { leads: Some(7), ..pod("a", Some(1)) };
    let roster = pods.report(leader.clone(), at(0), LONG).await.unwrap();
    assert_eq!(roster.pods[0], leader);

    pods.leave("b").await.unwrap();
    pods.leave("nobody").await.unwrap();
    assert_eq!(names(pods.roster(at(0)).await.unwrap()), [seen("a", Some(1))]);
    // A word for no time is none.
    pods.leave("a").await.unwrap();
    let roster = pods.report(pod("a", Some(1)), at(0), Duration::ZERO).await.unwrap();
    assert_eq!(names(roster), []);
}

/// A pod whose word counts keeps it while it has seen what its last report was answered; one whose
/// word ran out has to have seen everything.
pub async fn a_word_is_kept_by_who_follows(stores: &Stores) {
    let pods = &stores.pods;
    let report = async |seen, ttl| pods.report(pod("a", seen), at(0), ttl).await.unwrap();
    let raise = async || pods.bump_epoch(&[Part::Indexes]).await.unwrap();
    let first = report(Some(0), LONG).await;
    assert!(first.accepted);
    for _ in 0..5 {
        let told = report(Some(raise().await - 1), LONG).await;
        assert!(told.accepted, "it has seen what it was told: {told:?}");
    }
    let told = report(Some(4), LONG).await;
    assert!(!told.accepted, "it was told of 5 before: {told:?}");
    assert!(report(Some(5), LONG).await.accepted);
    // Without a word nobody waited for it.
    pods.leave("a").await.unwrap();
    raise().await;
    assert!(!report(Some(5), LONG).await.accepted);
    assert!(report(Some(6), Duration::ZERO).await.accepted);
    raise().await;
    assert!(!report(Some(6), LONG).await.accepted, "its word was for no time");
    assert!(!report(None, LONG).await.accepted);
    assert!(report(Some(7), LONG).await.accepted);
}

/// Which parts changed since an epoch.
pub async fn parts_have_epochs_of_their_own(stores: &Stores) {
    let pods = &stores.pods;
    let roster = async || pods.roster(at(0)).await.unwrap();
    assert_eq!(roster().await.changed_since(None), Part::ALL);
    assert_eq!(pods.bump_epoch(&[Part::Indexes, Part::Keys]).await.unwrap(), 1);
    assert_eq!(pods.bump_epoch(&[Part::Replicas]).await.unwrap(), 2);
    let now = roster().await;
    assert_eq!(now.changed_since(Some(0)), [Part::Indexes, Part::Replicas, Part::Keys]);
    assert_eq!(now.changed_since(Some(1)), [Part::Replicas]);
    assert_eq!(now.changed_since(Some(2)), []);
    assert_eq!(now.changed_since(None), Part::ALL);
    // As a version does that does not know parts.
    pods.bump_epoch(&[]).await.unwrap();
    assert_eq!(roster().await.changed_since(Some(2)), Part::ALL);
    assert_eq!(Roster::default().changed_since(Some(0)), Part::ALL);
}

/// Notes are taken once, in their order.
pub async fn notes_are_taken_once(stores: &Stores) {
    let pods = &stores.pods;
    for number in 0..20 {
        pods.note(json!({"number": number})).await.unwrap();
    }
    let takers = (0..4).map(|_| {
        let pods = pods.clone();
        tokio::spawn(async move { pods.take_notes().await.unwrap() })
    });
    let mut taken = Vec::new();
    for taker in takers {
        taken.extend(taker.await.unwrap());
    }
    let expected: Vec<_> = (0..20).map(|number| json!({"number": number})).collect();
    assert_eq!(taken, expected);
    assert!(pods.take_notes().await.unwrap().is_empty());
}
