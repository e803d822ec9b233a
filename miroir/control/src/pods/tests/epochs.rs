//! Epochs that are raised faster than anybody reads.

use super::*;

/// A catalogue that takes a while to read.
#[derive(Debug)]
struct Large(Arc<dyn Indexes>);

impl Indexes for Large {
    fn get(&self, name: &IndexUid) -> StoreFuture<'_, Option<IndexEntry>> {
        self.0.get(name)
    }
    fn list(&self) -> StoreFuture<'_, Vec<IndexEntry>> {
        Box::pin(async move {
            sleep(Duration::from_millis(30)).await;
            self.0.list().await
        })
    }
    fn put(&self, entry: IndexEntry, expected: Option<u64>) -> StoreFuture<'_, bool> {
        self.0.put(entry, expected)
    }
    fn delete(&self, name: &IndexUid, expected: u64) -> StoreFuture<'_, bool> {
        self.0.delete(name, expected)
    }
    fn change(&self, changes: Vec<IndexChange>) -> StoreFuture<'_, bool> {
        self.0.change(changes)
    }
}

/// Three pods, the first of which leads, over a catalogue that takes a while to read.
async fn followed(stop: &CancellationToken) -> Vec<Pod> {
    let mut common = memory::open();
    common.indexes = Arc::new(Large(Arc::clone(&common.indexes)));
    let begin = Instant::now();
    let mut all = Vec::new();
    for name in ["a", "b", "c"] {
        all.push(Pod::start(name, &common, begin).await);
    }
    let _runner = all[0].stand(stop);
    sleep(Duration::from_secs(1)).await;
    for pod in &all {
        tokio::spawn(follow(Arc::clone(&pod.state), pod.options.clone(), stop.clone()));
    }
    sleep(Duration::from_secs(2)).await;
    all
}

/// Epochs are raised faster than anybody can read what is new.
#[tokio::test(start_paused = true)]
async fn followers_answer_however_fast_epochs_are_raised() {
    let stop = CancellationToken::new();
    let all = followed(&stop).await;
    let leader = Arc::clone(&all[0].state);
    let raising = tokio::spawn(async move {
        loop {
            leader.leadership.publish(&[Part::Indexes]).await.unwrap();
            sleep(Duration::from_millis(2)).await;
        }
    });
    for _ in 0..TTL.as_secs() * 40 {
        sleep(Duration::from_millis(100)).await;
        for pod in &all[1..] {
            assert!(pod.state.leadership.ensure_fresh().is_ok());
        }
    }
    // And whoever changes something does not wait for long.
    let begun = Instant::now();
    all[0].state.staleness.mark(vec![missed("x")]).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert!(all[1..].iter().all(|pod| pod.state.staleness.load().len() == 1));
    raising.abort();
    stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn updates_of_indexes_raise_one_epoch_together() {
    let stop = CancellationToken::new();
    let all = followed(&stop).await;
    let (leader, follower) = (&all[0].state, &all[1].state);
    let names: Vec<IndexUid> = (0..50).map(|n| IndexUid::new(&format!("i{n}")).unwrap()).collect();
    for name in &names {
        leader.catalog.insert(entry(name.as_str())).await.unwrap();
    }
    let epoch = async || leader.stores.pods.roster(clock::now()).await.unwrap().epoch;
    let before = epoch().await;
    for second in 1..=10 {
        for name in &names {
            let at = OffsetDateTime::UNIX_EPOCH + Duration::from_secs(second);
            leader.catalog.note_update(name.as_str(), at, false);
            let entry = leader.catalog.get(name).unwrap();
            assert_eq!(leader.catalog.updated_at(&entry), at, "shown at once");
        }
    }
    assert_eq!(epoch().await, before);
    leader.catalog.flush_updates().await.unwrap();
    leader.catalog.flush_updates().await.unwrap();
    assert_eq!(epoch().await, before + 1);
    sleep(Duration::from_secs(1)).await;
    for name in &names {
        let at = OffsetDateTime::UNIX_EPOCH + Duration::from_secs(10);
        assert_eq!(follower.catalog.get(name).unwrap().updated_at, at);
    }
    stop.cancel();
}
