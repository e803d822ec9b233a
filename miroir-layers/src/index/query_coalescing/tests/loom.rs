//! The flights under loom: joining, landing, failing and going away, in every order that interrupts
//! threads up to [`PREEMPTIONS`] times.

mod sync {
    pub(super) use loom::sync::{Arc, Mutex};
}
use super::super::QueryCoalescingOptions;
#[allow(clippy::duplicate_mod, reason = "the same code over loom's types")]
#[path = "../flight.rs"]
mod flight;

use std::time::Duration;

use loom::sync::atomic::{AtomicUsize, Ordering};
use tokio::time::Instant;

use flight::{Flights, Lead, Seat, Turn};
use sync::Arc;

/// More of them take minutes and find nothing.
const PREEMPTIONS: usize = 2;

type Shared = Arc<Flights<u8, u8>>;

/// Leaders at the same moment.
#[derive(Default)]
struct Leaders(AtomicUsize);

impl Leaders {
    fn ask(&self, lead: Lead<u8, u8>, end: impl FnOnce(Lead<u8, u8>)) {
        assert_eq!(self.0.fetch_add(1, Ordering::SeqCst), 0, "two leaders of one flight");
        loom::thread::yield_now();
        self.0.fetch_sub(1, Ordering::SeqCst);
        end(lead);
    }
}

fn model(run: impl Fn(Shared, Arc<Leaders>) + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    builder.check(move || {
        let window = Duration::from_secs(1);
        let options = QueryCoalescingOptions { window, ..QueryCoalescingOptions::default() };
        let flights: Shared = Arc::new(Flights::new(options));
        run(Arc::clone(&flights), Arc::new(Leaders(AtomicUsize::new(0))));
        assert_eq!(flights.len(), 0, "a flight without anybody is listed");
    });
}

/// Asks or waits until there is an answer.
fn answered(seat: Seat<u8, u8>, leaders: &Leaders) -> u8 {
    let lead = match seat {
        Seat::Leader(lead) => lead,
        Seat::Follower(turn) => match loom::future::block_on(turn).expect("somebody sees to it") {
            Turn::Landed(answer) => return answer,
            Turn::Lead(lead) => {
                lead.begin(Instant::now());
                lead
            }
        },
        Seat::Alone => unreachable!("there is room"),
    };
    leaders.ask(lead, |lead| lead.land(&7));
    7
}

fn spawn_answered(
    flights: &Shared,
    leaders: &Arc<Leaders>,
    now: Instant,
) -> loom::thread::JoinHandle<()> {
    let (flights, leaders) = (Arc::clone(flights), Arc::clone(leaders));
    loom::thread::spawn(move || assert_eq!(answered(Flights::join(&flights, 1, now), &leaders), 7))
}

#[test]
fn everybody_is_answered_when_the_leader_lands() {
    let now = Instant::now();
    model(move |flights, leaders| {
        let others = [0, 1].map(|_| spawn_answered(&flights, &leaders, now));
        assert_eq!(answered(Flights::join(&flights, 1, now), &leaders), 7);
        for other in others {
            other.join().unwrap();
        }
    });
}

#[test]
fn a_leader_that_vanishes_hands_over() {
    let now = Instant::now();
    model(move |flights, leaders| {
        let Seat::Leader(lead) = Flights::join(&flights, 1, now) else {
            panic!("nobody was there")
        };
        let others = [0, 1].map(|_| spawn_answered(&flights, &leaders, now));
        leaders.ask(lead, drop);
        for other in others {
            other.join().unwrap();
        }
    });
}

/// The one who is chosen may go in the same moment.
#[test]
fn a_follower_that_goes_passes_it_on() {
    let now = Instant::now();
    model(move |flights, leaders| {
        let Seat::Leader(lead) = Flights::join(&flights, 1, now) else {
            panic!("nobody was there")
        };
        let first = Flights::join(&flights, 1, now);
        let second = Flights::join(&flights, 1, now);
        let gone = loom::thread::spawn(move || drop(first));
        let stays = {
            let leaders = Arc::clone(&leaders);
            loom::thread::spawn(move || assert_eq!(answered(second, &leaders), 7))
        };
        leaders.ask(lead, drop);
        gone.join().unwrap();
        stays.join().unwrap();
    });
}

/// Who joins a flight that fails twice gets the error, asks, or begins another one.
#[test]
fn a_second_failure_is_everybodys() {
    let now = Instant::now();
    model(move |flights, leaders| {
        let Seat::Leader(lead) = Flights::join(&flights, 1, now) else {
            panic!("nobody was there")
        };
        let others = [0, 1].map(|_| {
            let (flights, leaders) = (Arc::clone(&flights), Arc::clone(&leaders));
            loom::thread::spawn(move || {
                let lead = match Flights::join(&flights, 1, now) {
                    Seat::Leader(lead) => lead,
                    Seat::Follower(turn) => match loom::future::block_on(turn).unwrap() {
                        Turn::Landed(error) => return assert_eq!(error, 9),
                        Turn::Lead(lead) => lead,
                    },
                    Seat::Alone => unreachable!("there is room"),
                };
                leaders.ask(lead, |lead| lead.fail(&9));
            })
        });
        leaders.ask(lead, |lead| lead.fail(&9));
        for other in others {
            other.join().unwrap();
        }
    });
}
