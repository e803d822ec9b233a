//! Searches at a steady rate, and what became of them.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::INDEX;
use super::delay::Delay;
use crate::Outcome;
use crate::bench::load::quantile;
use crate::catalogue::{self, Random};
use crate::cluster::{self, MASTER_KEY, Server};
use crate::guard;
use crate::http::Client;

/// Documents.
const DOCUMENTS: usize = 6_000;
/// Clients; enough that none waits for another when nodes are slow.
const CLIENTS: usize = 64;

/// What became of the searches of a phase.
pub(super) struct Phase {
    /// Time from when each was due, ascending.
    took: Vec<Duration>,
    failed: usize,
    first: Option<String>,
    /// Calls to each node.
    calls: Vec<usize>,
}

impl Phase {
    /// Several phases as one.
    pub(super) fn of_all(phases: Vec<Self>) -> Self {
        let mut all = Self { took: Vec::new(), failed: 0, first: None, calls: Vec::new() };
        for phase in phases {
            all.took.extend(phase.took);
            all.failed += phase.failed;
            all.first = all.first.or(phase.first);
            all.calls.resize(phase.calls.len(), 0);
            for (sum, calls) in all.calls.iter_mut().zip(phase.calls) {
                *sum += calls;
            }
        }
        all.took.sort_unstable();
        all
    }

    /// In milliseconds.
    pub(super) fn quantile(&self, share: f64) -> f64 {
        quantile(&self.took, share).as_secs_f64() * 1e3
    }

    /// An error if a search failed.
    pub(super) fn whole(&self) -> Result<(), String> {
        let why = self.first.as_deref().unwrap_or("stopped");
        if self.failed == 0 {
            Ok(())
        } else {
            Err(format!("{} searches failed, the first: {why}", self.failed))
        }
    }

    pub(super) fn calls_per_search(&self) -> f64 {
        self.calls.iter().sum::<usize>() as f64 / self.took.len().max(1) as f64
    }

    /// The first node's share of the calls.
    pub(super) fn share(&self) -> f64 {
        self.calls[0] as f64 / self.calls.iter().sum::<usize>().max(1) as f64
    }

    fn print(&self, name: &str) {
        println!(
            "  {name:<30} {:>6} {:>8.1} {:>8.1} {:>8.2} {:>7.1} %",
            self.took.len(),
            self.quantile(0.50),
            self.quantile(0.99),
            self.calls_per_search(),
            self.share() * 100.0,
        );
    }
}

/// What the rows that follow are.
pub(super) fn heading(rate: u64) {
    println!("  {rate} searches a second; milliseconds; calls a search; share of node-0");
    println!("  {:<30} {:>6} {:>8} {:>8} {:>8} {:>9}", "", "n", "p50", "p99", "calls", "share");
}

/// Somebody who searches.
pub(super) struct Load<'a> {
    url: &'a str,
    relays: &'a [Delay],
    words: &'a [String],
    /// Searches a second.
    rate: u64,
    /// Whose they are.
    tenant: Option<&'a str>,
    /// Phases so far, so that none asks what another did.
    phase: AtomicUsize,
}

impl<'a> Load<'a> {
    pub(super) fn new(url: &'a str, relays: &'a [Delay], words: &'a [String], rate: u64) -> Self {
        Self { url, relays, words, rate, tenant: None, phase: AtomicUsize::new(0) }
    }

    /// The same load as a tenant's.
    pub(super) fn of(mut self, tenant: &'a str) -> Self {
        self.tenant = Some(tenant);
        self
    }

    fn client(&self) -> Client {
        let client = Client::new(self.url, MASTER_KEY);
        match self.tenant {
            Some(tenant) => client.header("X-Miroir-Tenant", tenant),
            None => client,
        }
    }

    /// Searches for so many seconds and prints a row of figures.
    pub(super) fn run(&self, name: &str, seconds: u64) -> Outcome<Phase> {
        for relay in self.relays {
            relay.take_searches();
        }
        let phase = self.phase.fetch_add(1, Ordering::Relaxed) as u64;
        let total = (seconds * self.rate) as usize;
        let next = AtomicUsize::new(0);
        let seen = Mutex::new((Vec::with_capacity(total), None));
        let start = Instant::now();
        thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| {
                    let mut client = self.client();
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= total || guard::stopping() {
                            return;
                        }
                        let due = start + Duration::from_secs(number as u64) / self.rate as u32;
                        thread::sleep(due.saturating_duration_since(Instant::now()));
                        let outcome = self.search(&mut client, phase << 32 | number as u64);
                        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                        match outcome {
                            Ok(()) => seen.0.push(due.elapsed()),
                            Err(why) => _ = seen.1.get_or_insert(why),
                        }
                    }
                });
            }
        });
        guard::check_stop()?;
        let (mut took, first) = seen.into_inner().unwrap_or_else(PoisonError::into_inner);
        took.sort_unstable();
        let calls = self.relays.iter().map(Delay::take_searches).collect();
        let phase = Phase { failed: total - took.len(), took, first, calls };
        phase.print(name);
        Ok(phase)
    }

    /// Searches without a pause, so many at a time, until told to stop. How many were answered.
    pub(super) fn flood(&self, clients: usize, stop: &AtomicBool) -> usize {
        let answered = AtomicUsize::new(0);
        thread::scope(|scope| {
            for number in 0..clients {
                let answered = &answered;
                scope.spawn(move || {
                    let mut client = self.client();
                    let mut seed = 1 << 63 | (number as u64) << 32;
                    while !stop.load(Ordering::Relaxed) && !guard::stopping() {
                        seed += 1;
                        if self.search(&mut client, seed).is_ok() {
                            answered.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        answered.into_inner()
    }

    fn search(&self, client: &mut Client, seed: u64) -> Result<(), String> {
        let mut random = Random::new(seed);
        let q = format!("{} {}", random.pick(self.words), random.pick(self.words));
        let path = format!("/indexes/{INDEX}/search");
        let reply = client.json("POST", &path, &json!({ "q": q })).map_err(|e| e.to_string())?;
        let whole = reply.json()["hits"].is_array();
        if reply.status == 200 && whole { Ok(()) } else { Err(reply.text()) }
    }
}

/// Makes an index with documents. Every word of their texts.
pub(super) fn prepare(server: &Server) -> Outcome<Vec<String>> {
    let mut client = server.client();
    let primary_key = json!({ "uid": INDEX, "primaryKey": catalogue::PRIMARY_KEY });
    cluster::apply(&mut client, "POST", "/indexes", &primary_key)?;
    let settings = format!("/indexes/{INDEX}/settings");
    cluster::apply(&mut client, "PATCH", &settings, &catalogue::settings())?;
    let documents: Vec<Value> = catalogue::documents(DOCUMENTS).collect();
    let words = words(&documents);
    let path = format!("/indexes/{INDEX}/documents");
    cluster::apply(&mut client, "POST", &path, &Value::Array(documents))?;
    Ok(words)
}

fn words(documents: &[Value]) -> Vec<String> {
    let texts = documents.iter().flat_map(|it| it.as_object().into_iter().flatten());
    let words = texts.filter_map(|(_, value)| value.as_str()).flat_map(str::split_whitespace);
    let mut words: Vec<String> = words.filter(|word| word.len() > 3).map(str::to_owned).collect();
    words.sort_unstable();
    words.dedup();
    words
}
