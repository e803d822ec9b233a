//! Who owns what, and that it is worked on once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use tokio_util::sync::CancellationToken;

use super::*;
use miroir_store::{Job, NewJob, memory};

fn pods(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn listed(names: &[&str], me: &str) -> Peers {
    let peers = Peers::unknown();
    let me = names.contains(&me).then(|| me.to_owned());
    peers.set(Discovered { pods: pods(names), me });
    peers
}

/// From an independent implementation of XXH64, as the vectors of placement are.
#[test]
fn owners_are_the_golden_ones() {
    let all = pods(&["miroir-0", "miroir-1", "miroir-2"]);
    for (item, pod) in GOLDEN {
        assert_eq!(owner(&all, item), Some(*pod), "{item}");
    }
    assert_eq!(owner(&[], "movies"), None);
}

const GOLDEN: &[(&str, &str)] = &[
    ("movies", "miroir-0"),
    ("books", "miroir-1"),
    ("", "miroir-0"),
    ("tasks", "miroir-2"),
    ("índex", "miroir-2"),
    ("a-longer-index-name-than-thirty-two-bytes", "miroir-0"),
    ("7", "miroir-0"),
];

proptest! {
    #[test]
    fn an_item_has_one_owner_and_stays_with_it(
        names in prop::collection::btree_set("[a-z]{1,6}", 2..6),
        item in ".{0,12}",
    ) {
        let all: Vec<&str> = names.iter().map(String::as_str).collect();
        let owners: Vec<&str> =
            all.iter().copied().filter(|me| listed(&all, me).owns(&item)).collect();
        prop_assert_eq!(owners.len(), 1);
        // Without some other pod the owner is the same; without the owner it is somebody else.
        for gone in &all {
            let rest: Vec<&str> = all.iter().copied().filter(|pod| pod != gone).collect();
            let now: Vec<&str> =
                rest.iter().copied().filter(|me| listed(&rest, me).owns(&item)).collect();
            prop_assert_eq!(now.len(), 1);
            prop_assert!(now[0] == owners[0] || *gone == owners[0]);
        }
        // Who is not listed has nothing.
        prop_assert!(!listed(&all, "Nobody").owns(&item));
    }
}

#[test]
fn one_pod_owns_everything_and_an_unknown_list_nothing() {
    assert!(Peers::alone().owns("x") && Peers::alone().count() == 1);
    assert!(!Peers::unknown().owns("x"));
}

/// Counts who worked on what.
#[derive(Default)]
struct Counting {
    done: Mutex<BTreeMap<String, u32>>,
    lists: AtomicU32,
}

struct Named(&'static str);

impl Item for Named {
    fn key(&self) -> Cow<'_, str> {
        self.0.into()
    }
}

const ITEMS: [&str; 6] = ["a", "b", "c", "fails", "panics", "z"];

impl PartitionedTask for Counting {
    const NAME: &'static str = "counting";
    type Item = Named;

    async fn items(&self) -> Result<Vec<Named>, Error> {
        let first = self.lists.fetch_add(1, Ordering::Relaxed) == 0;
        if first { Err(Error::internal("not yet")) } else { Ok(ITEMS.map(Named).into()) }
    }

    async fn run(&self, item: Named) -> Result<(), Error> {
        *self.done.lock().unwrap().entry(item.0.to_owned()).or_default() += 1;
        assert!(item.0 != "panics", "as a test wants it");
        if item.0 == "fails" { Err(Error::internal("as a test wants it")) } else { Ok(()) }
    }
}

const SCHEDULE: Schedule =
    Schedule { first: Duration::from_secs(1), interval: Duration::from_secs(10) };

#[tokio::test(start_paused = true)]
async fn each_item_is_worked_on_once_per_interval_over_all_pods() {
    let stop = CancellationToken::new();
    let names = ["p0", "p1", "p2"];
    let runs = names.map(|me| {
        let worker = Arc::new(Counting::default());
        let peers = Arc::new(listed(&names, me));
        tokio::spawn(partitioned(Arc::clone(&worker), Arc::clone(&peers), SCHEDULE, stop.clone()));
        (worker, peers)
    });
    let total = |key: &str| -> u32 {
        runs.iter()
            .map(|(worker, _)| worker.done.lock().unwrap().get(key).copied().unwrap_or(0))
            .sum()
    };
    // The first listing of each fails; the second comes nine to ten seconds later.
    tokio::time::sleep(Duration::from_millis(11_500)).await;
    for key in ITEMS {
        assert_eq!(total(key), 1, "{key}");
    }
    // One pod ends and is taken off the others' lists: its share moves.
    let gone = names.iter().position(|me| listed(&names, me).owns("z")).unwrap();
    runs[gone].1.set(Discovered { pods: pods(&names), me: None });
    for (at, (_, peers)) in runs.iter().enumerate().filter(|(at, _)| *at != gone) {
        let rest: Vec<&str> =
            names.iter().enumerate().filter(|(at, _)| *at != gone).map(|(_, n)| *n).collect();
        peers.set(Discovered { pods: pods(&rest), me: Some(names[at].to_owned()) });
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    for key in ITEMS {
        assert_eq!(total(key), 2, "{key}");
    }
    stop.cancel();
}

struct Script(Mutex<Vec<Option<Result<Discovered, String>>>>);

impl Discover for Script {
    fn discover(&self) -> futures_util::future::BoxFuture<'_, Result<Discovered, String>> {
        let next = self.0.lock().unwrap().pop().expect("asked once more than expected");
        Box::pin(async move {
            match next {
                Some(answer) => answer,
                None => std::future::pending().await,
            }
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_is_followed_and_kept_while_nobody_knows_better() {
    let found = |names: &[&str]| Discovered { pods: pods(names), me: Some("b".to_owned()) };
    // Last first, twice what comes last: a list, a failure, no answer, another list with a repetition.
    let script = vec![
        Some(Ok(found(&["b", "a", "b", "c"]))),
        Some(Ok(found(&["b", "a", "b", "c"]))),
        None,
        Some(Err("no such name".to_owned())),
        Some(Ok(found(&["b"]))),
    ];
    let peers = Arc::new(Peers::unknown());
    let stop = CancellationToken::new();
    let every = Duration::from_secs(15);
    let discover = Arc::new(Script(Mutex::new(script)));
    let task = tokio::spawn(follow(Arc::clone(&peers), discover, every, stop.clone()));
    let mut counts = Vec::new();
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_secs(14)).await;
        counts.push(peers.count());
    }
    stop.cancel();
    task.await.unwrap();
    // After 14, 28, 42, 56 and 70 seconds; the look-up that hangs ends after 45.
    assert_eq!(counts, [1, 1, 1, 3, 3]);
}

/// Adds up numbers, one at a time, and cuts what is large in two.
#[derive(Default)]
struct Adding {
    seen: Mutex<Vec<u64>>,
}

impl JobHandler for Adding {
    const KIND: &'static str = "adding";

    async fn run(&self, job: Job, progress: &JobProgress) -> Result<Vec<NewJob>, Error> {
        let (from, to) =
            (job.payload["from"].as_u64().unwrap(), job.payload["to"].as_u64().unwrap());
        if to - from > 10 {
            let middle = u64::midpoint(from, to);
            return Ok(vec![range(from, middle), range(middle, to)]);
        }
        let begin = job.cursor.as_u64().unwrap_or(from);
        for number in begin..to {
            tokio::time::sleep(Duration::from_secs(2)).await;
            self.seen.lock().unwrap().push(number);
            progress.at((number + 1).into());
            assert!(number != 13 || job.attempt > 1, "as a test wants it");
            if number == 16 && job.attempt < 4 {
                return Err(Error::internal("as a test wants it"));
            }
        }
        Ok(Vec::new())
    }
}

fn range(from: u64, to: u64) -> NewJob {
    let payload = serde_json::json!({"from": from, "to": to});
    NewJob { id: format!("{from}-{to}"), kind: Adding::KIND.to_owned(), payload }
}

const CLAIMS: Claims = Claims {
    ttl: Duration::from_secs(30),
    heartbeat: Duration::from_secs(10),
    idle: Duration::from_secs(1),
    attempts: 5,
};

#[tokio::test(start_paused = true)]
async fn jobs_are_cut_shared_and_resumed_where_they_were() {
    let jobs = memory::open().jobs;
    jobs.put(vec![range(0, 20), range(100, 101)]).await.unwrap();
    let stop = CancellationToken::new();
    let pods: Vec<Arc<Adding>> = (0..2).map(|_| Arc::default()).collect();
    for pod in &pods {
        tokio::spawn(queued(Arc::clone(pod), Arc::clone(&jobs), CLAIMS, stop.clone()));
    }
    tokio::time::sleep(Duration::from_mins(3)).await;
    stop.cancel();
    assert_eq!(jobs.list(Adding::KIND).await.unwrap(), []);
    let mut seen: Vec<u64> = Vec::new();
    for pod in &pods {
        let own = pod.seen.lock().unwrap();
        assert!(!own.is_empty(), "one pod did everything");
        seen.extend(own.iter());
    }
    seen.sort_unstable();
    // What failed or panicked went on after the last number that was done.
    let expected: Vec<u64> = (0..20).chain([100]).collect();
    assert_eq!(seen, expected);
}

#[tokio::test(start_paused = true)]
async fn what_never_works_is_not_tried_for_ever() {
    struct Failing;
    impl JobHandler for Failing {
        const KIND: &'static str = "adding";
        async fn run(&self, _: Job, _: &JobProgress) -> Result<Vec<NewJob>, Error> {
            Err(Error::internal("never"))
        }
    }
    let jobs = memory::open().jobs;
    jobs.put(vec![range(0, 1)]).await.unwrap();
    let stop = CancellationToken::new();
    let claims = Claims { attempts: 3, ..CLAIMS };
    let runner = tokio::spawn(queued(Arc::new(Failing), Arc::clone(&jobs), claims, stop.clone()));
    tokio::time::sleep(Duration::from_secs(10)).await;
    stop.cancel();
    runner.await.unwrap();
    let left = jobs.list(Adding::KIND).await.unwrap();
    assert_eq!((left.len(), left[0].attempt), (1, 3));
    assert!(left[0].error.is_some());
}

/// A job whose claim is gone is left alone at the next heartbeat; one that is under way when the
/// pod ends is given back.
#[tokio::test(start_paused = true)]
async fn work_without_a_claim_ends() {
    let jobs = memory::open().jobs;
    jobs.put(vec![range(200, 210)]).await.unwrap();
    let stop = CancellationToken::new();
    let pod = Arc::<Adding>::default();
    let runner = tokio::spawn(queued(Arc::clone(&pod), Arc::clone(&jobs), CLAIMS, stop.clone()));
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(*pod.seen.lock().unwrap(), [200, 201]);
    // The job is deleted and added again: a claim from before is no longer valid.
    assert!(jobs.remove("200-210").await.unwrap());
    tokio::time::sleep(Duration::from_secs(6)).await;
    let so_far = pod.seen.lock().unwrap().len();
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(pod.seen.lock().unwrap().len(), so_far);

    jobs.put(vec![range(300, 310)]).await.unwrap();
    tokio::time::sleep(Duration::from_secs(4)).await;
    stop.cancel();
    runner.await.unwrap();
    let left = jobs.list(Adding::KIND).await.unwrap();
    assert_eq!((left[0].id.as_str(), left[0].error.as_deref()), ("300-310", None));
    assert!(left[0].cursor.as_u64().is_some_and(|at| at > 300), "{left:?}");
    let again = jobs.claim(Adding::KIND, miroir_store::clock::now(), CLAIMS.ttl).await.unwrap();
    assert_eq!(again.unwrap().attempt, 2);
}
