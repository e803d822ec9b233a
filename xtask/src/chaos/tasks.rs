//! Single-document writes from many connections, far more than nodes can work off: what following
//! their tasks costs, and whether it keeps up.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use super::judge::Judge;
use super::{INDEX, Setting, metric};
use crate::Outcome;
use crate::bench::process;
use crate::cluster::{self, Cluster, MASTER_KEY};
use crate::guard;
use crate::http::Client;

/// Connections that write.
const CONNECTIONS: usize = 64;
/// Seconds that the last task may end after the nodes' last.
const LATE: f64 = 10.0;
/// Percent of the writes that may leave a mark for a copy on a replica whose node is merely busy.
const MARKED: f64 = 0.1;
/// How long the nodes may take to work all of it off.
const PATIENCE: Duration = Duration::from_hours(1);

/// What the server used while so many tasks were unfinished.
#[derive(Clone, Copy, Debug)]
struct Cost {
    /// Tasks that had not ended, about.
    unfinished: f64,
    /// Resident memory in bytes.
    memory: u64,
    /// Processor time in a second, while nobody wrote.
    processor: f64,
}

/// Writes so many documents one by one, and judges.
pub(super) fn run(setting: &Setting<'_>, documents: usize) -> Outcome<()> {
    let mut cluster = setting.start()?;
    let mut client = cluster.server.client();
    cluster::apply(&mut client, "POST", "/indexes", &json!({"uid": INDEX, "primaryKey": "id"}))?;
    let idle = process::resident(cluster.server.id())?;
    let refused = Mutex::new(Vec::new());
    let begun = Instant::now();
    // Few at first: what following a thousand tasks costs.
    write(&cluster, 0..documents.min(2_000), &refused);
    let few = cost(&cluster)?;
    write(&cluster, documents.min(2_000)..documents, &refused);
    println!("  {documents} writes in {:.1} s", begun.elapsed().as_secs_f64());
    let many = cost(&cluster)?;
    for (name, cost) in [("few", few), ("many", many)] {
        println!(
            "  {name}: {} unfinished tasks, {} MiB above idle, {:.3} s of processor time a second",
            cost.unfinished,
            cost.memory.saturating_sub(idle) >> 20,
            cost.processor
        );
    }
    let (mut nodes_done, mut done) = (None, None);
    guard::wait_until(PATIENCE, || {
        cluster.server.check()?;
        if nodes_done.is_none() && nodes_idle(&cluster)? {
            nodes_done = Some(Instant::now());
        }
        if crate::cluster::is_idle(&mut client)? {
            done = Some(Instant::now());
        }
        Ok(done.is_some() && nodes_done.is_some())
    })?;
    let mut judge = Judge::default();
    match (nodes_done, done) {
        (Some(nodes), Some(all)) => {
            println!("  all ended {:.1} s after the first write", (all - begun).as_secs_f64());
            let late = all.saturating_duration_since(nodes).as_secs_f64();
            judge.at_most("last task after the nodes' last, s", late, LATE);
        }
        _ => judge.must(false, "not all tasks ended"),
    }
    if many.unfinished > few.unfinished * 5.0 {
        let ratio = many.processor / few.processor.max(0.01);
        judge.at_most("processor time of following many tasks to that of few", ratio, 2.0);
    } else {
        println!("  the nodes kept up: too few tasks were ever unfinished to compare");
    }
    let counted = |name: &str| metric(&cluster.server.metrics_url, name);
    let marked = counted("miroir_writes_degraded_total")?;
    println!("  {marked} writes were acknowledged before a node that was late had them");
    #[expect(clippy::cast_precision_loss, reason = "a count of writes for a share of them")]
    let share = 100.0 * counted("miroir_repairs_total")? / documents as f64;
    judge.at_most("marks that took a copy, % of the writes", share, MARKED);
    let refused = refused.into_inner().unwrap_or_else(PoisonError::into_inner);
    judge.must(
        refused.is_empty(),
        format!("{} writes were refused, the first: {:?}", refused.len(), refused.first()),
    );
    let failed = client.get("/tasks?statuses=failed&limit=1")?.json();
    judge.must(failed["total"] == 0, format!("tasks failed: {failed}"));
    let count = client.get(&format!("/indexes/{INDEX}/stats"))?.json();
    let found = &count["numberOfDocuments"];
    judge.must(*found == documents, format!("{found} documents of {documents}"));
    judge.end()
}

fn write(cluster: &Cluster, numbers: std::ops::Range<usize>, refused: &Mutex<Vec<String>>) {
    let next = AtomicUsize::new(numbers.start);
    let path = format!("/indexes/{INDEX}/documents");
    std::thread::scope(|scope| {
        for _ in 0..CONNECTIONS {
            scope.spawn(|| {
                let mut client = Client::new(&cluster.server.url, MASTER_KEY);
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= numbers.end || guard::stopping() {
                        return;
                    }
                    let body = json!([{"id": number, "text": "a word or two"}]);
                    let outcome = client.json("POST", &path, &body);
                    if !outcome.as_ref().is_ok_and(|reply| reply.status == 202) {
                        let text = format!("{:?}", outcome.map(|reply| reply.text()));
                        refused.lock().unwrap_or_else(PoisonError::into_inner).push(text);
                    }
                }
            });
        }
    });
}

fn cost(cluster: &Cluster) -> Outcome<Cost> {
    let unfinished = metric(&cluster.server.metrics_url, "miroir_task_registry_size")?;
    let (before, from) = (process::processor_time(cluster.server.id())?, Instant::now());
    super::pass(Duration::from_secs(3))?;
    let used = process::processor_time(cluster.server.id())?.saturating_sub(before);
    Ok(Cost {
        unfinished,
        memory: process::resident(cluster.server.id())?,
        processor: used.as_secs_f64() / from.elapsed().as_secs_f64(),
    })
}

/// Whether every node has worked off its queue.
fn nodes_idle(cluster: &Cluster) -> Outcome<bool> {
    for node in &cluster.nodes {
        let page = node.client().get("/tasks?statuses=enqueued,processing&limit=1")?.json();
        if page["total"] != 0 {
            return Ok(false);
        }
    }
    Ok(true)
}
